/**
 * Lists of configurations of Encrypted ClientHello (RFC 9849, 4), as the SvcParam `ech` of HTTPS and SVCB records has
 * them (RFC 9848). bpf/ech.h reads the same: what is malformed teaches nothing, and what stands before it does.
 */
/** The version of RFC 9849; configurations of others are passed over. */
const VERSION = 0xfe0d;

/** What an outer hello says of a configuration. */
export interface EchConfig {
  readonly id: number;
  /** Lower case; undefined if it is too long for a name, or has bytes that none has. */
  readonly publicName: string | undefined;
}

/** The configurations that can be read, in their order. */
export function echConfigs(list: Uint8Array): EchConfig[] {
  const bytes = Buffer.from(list.buffer, list.byteOffset, list.byteLength);
  if (bytes.length < 2 || bytes.readUInt16BE(0) !== bytes.length - 2) return [];
  const out: EchConfig[] = [];
  for (let at = 2; at + 4 <= bytes.length; ) {
    const next = at + 4 + bytes.readUInt16BE(at + 2);
    if (next > bytes.length) break;
    const config = bytes.readUInt16BE(at) === VERSION ? contents(bytes.subarray(at + 4, next)) : undefined;
    if (config) out.push(config);
    at = next;
  }
  return out;
}

/** ECHConfigContents, which fill the bytes. */
function contents(bytes: Buffer): EchConfig | undefined {
  let at = 0;
  /** An unsigned number; NaN where the bytes end. */
  const number = (size: 1 | 2): number => {
    at += size;
    return at <= bytes.length ? bytes.readUIntBE(at - size, size) : Number.NaN;
  };
  const id = number(1);
  number(2); // kem_id
  const key = number(2);
  at += key;
  const suites = number(2);
  at += suites;
  number(1); // maximum_name_length
  const length = number(1);
  const name = bytes.toString('latin1', at, at + length);
  at += length;
  const extensions = number(2);
  const fits = key > 0 && suites >= 4 && suites % 4 === 0 && length > 0 && at + extensions === bytes.length;
  return fits ? { id, publicName: nameOf(name) } : undefined;
}

function nameOf(text: string): string | undefined {
  return text.length <= 253 && /^[-A-Za-z0-9_.]+$/.test(text) ? text.toLowerCase() : undefined;
}
