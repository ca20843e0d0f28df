/**
 * Reads BTF, the type information in a BPF object, as far as the layouts of structs and the values of enums need it.
 * See the kernel's bpf/btf.rst; ELF-64, little endian. Every offset in the file is checked against its bounds.
 */
import { AgentError } from '../errors.js';

export interface StructLayout {
  /** Size in bytes. */
  readonly size: number;
  readonly fields: Readonly<Record<string, { readonly offset: number; readonly size: number }>>;
}

export interface Layouts {
  readonly structs: Readonly<Record<string, StructLayout>>;
  readonly enums: Readonly<Record<string, Readonly<Record<string, number>>>>;
}

const KIND = {
  INT: 1,
  PTR: 2,
  ARRAY: 3,
  STRUCT: 4,
  UNION: 5,
  ENUM: 6,
  FWD: 7,
  TYPEDEF: 8,
  VOLATILE: 9,
  CONST: 10,
  RESTRICT: 11,
  FUNC: 12,
  FUNC_PROTO: 13,
  VAR: 14,
  DATASEC: 15,
  FLOAT: 16,
  DECL_TAG: 17,
  TYPE_TAG: 18,
  ENUM64: 19,
} as const;

interface BtfType {
  readonly kind: number;
  readonly name: string;
  /** Size in bytes or referenced type, depending on the kind. */
  readonly sizeOrType: number;
  readonly vlen: number;
  /** Offset of the data that is specific to the kind. */
  readonly data: number;
}

function bad(what: string): AgentError {
  return new AgentError('LAYOUT', `the object's BTF cannot be read: ${what}`);
}

/** The content of an ELF-64 section; undefined if there is none of that name. */
export function elfSection(elf: Buffer, name: string): Buffer | undefined {
  if (elf.length < 64 || elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1)
    throw bad('not a little-endian ELF-64 file');
  const table = Number(elf.readBigUInt64LE(40));
  const entry = elf.readUInt16LE(58);
  const count = elf.readUInt16LE(60);
  const namesAt = elf.readUInt16LE(62);
  if (entry < 64 || table + entry * count > elf.length || namesAt >= count) throw bad('section table out of bounds');
  const section = (i: number): Buffer => {
    const at = table + i * entry;
    const offset = Number(elf.readBigUInt64LE(at + 24));
    const size = Number(elf.readBigUInt64LE(at + 32));
    const noBits = elf.readUInt32LE(at + 4) === 8;
    if (!noBits && offset + size > elf.length) throw bad(`section ${i} out of bounds`);
    return noBits ? Buffer.alloc(0) : elf.subarray(offset, offset + size);
  };
  const names = section(namesAt);
  for (let i = 0; i < count; i++) if (text(names, elf.readUInt32LE(table + i * entry)) === name) return section(i);
  return undefined;
}

function text(strings: Buffer, at: number): string {
  if (at >= strings.length) throw bad('name out of bounds');
  const end = strings.indexOf(0, at);
  return strings.toString('latin1', at, end < 0 ? strings.length : end);
}

/** Number of data bytes that follow a type's 12-byte head. */
function dataSize(kind: number, vlen: number): number {
  switch (kind) {
    case KIND.INT:
    case KIND.VAR:
    case KIND.DECL_TAG:
      return 4;
    case KIND.ARRAY:
      return 12;
    case KIND.STRUCT:
    case KIND.UNION:
    case KIND.DATASEC:
    case KIND.ENUM64:
      return 12 * vlen;
    case KIND.ENUM:
    case KIND.FUNC_PROTO:
      return 8 * vlen;
    default:
      if (kind < 1 || kind > 19) throw bad(`unknown kind ${kind}`);
      return 0;
  }
}

/**
 * The structs and enums of an object whose names begin with `prefix`.
 * @throws AgentError LAYOUT if the object has no BTF, or an invalid one
 */
export function readLayouts(object: Buffer, prefix: string): Layouts {
  const btf = elfSection(object, '.BTF');
  if (!btf || btf.length < 24 || btf.readUInt16LE(0) !== 0xeb9f) throw bad('no .BTF section; compile with -g');
  const head = btf.readUInt32LE(4);
  const types = slice(btf, head + btf.readUInt32LE(8), btf.readUInt32LE(12));
  const strings = slice(btf, head + btf.readUInt32LE(16), btf.readUInt32LE(20));
  const all: BtfType[] = [{ kind: 0, name: 'void', sizeOrType: 0, vlen: 0, data: 0 }];
  for (let at = 0; at + 12 <= types.length; ) {
    const info = types.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const vlen = info & 0xffff;
    const size = dataSize(kind, vlen);
    if (at + 12 + size > types.length) throw bad('type out of bounds');
    all.push({
      kind,
      name: text(strings, types.readUInt32LE(at)),
      sizeOrType: types.readUInt32LE(at + 8),
      vlen,
      data: at + 12,
    });
    at += 12 + size;
  }
  const structs: Record<string, StructLayout> = {};
  const enums: Record<string, Record<string, number>> = {};
  for (const type of all) {
    if (!type.name.startsWith(prefix)) continue;
    if (type.kind === KIND.STRUCT)
      structs[type.name] = { size: type.sizeOrType, fields: members(type, types, strings, all) };
    if (type.kind === KIND.ENUM) enums[type.name] = values(type, types, strings);
  }
  return { structs, enums };
}

function slice(buf: Buffer, at: number, length: number): Buffer {
  if (at + length > buf.length) throw bad('section out of bounds');
  return buf.subarray(at, at + length);
}

function members(
  type: BtfType,
  types: Buffer,
  strings: Buffer,
  all: readonly BtfType[],
): Record<string, { offset: number; size: number }> {
  const out: Record<string, { offset: number; size: number }> = {};
  for (let i = 0; i < type.vlen; i++) {
    const at = type.data + i * 12;
    const bits = types.readUInt32LE(at + 8) & 0xffffff;
    out[text(strings, types.readUInt32LE(at))] = {
      offset: bits / 8,
      size: sizeOf(types.readUInt32LE(at + 4), types, all, 0),
    };
  }
  return out;
}

function values(type: BtfType, types: Buffer, strings: Buffer): Record<string, number> {
  const out: Record<string, number> = {};
  for (let i = 0; i < type.vlen; i++)
    out[text(strings, types.readUInt32LE(type.data + i * 8))] = types.readInt32LE(type.data + i * 8 + 4);
  return out;
}

function sizeOf(id: number, types: Buffer, all: readonly BtfType[], depth: number): number {
  const type = all[id];
  if (!type || depth > 32) throw bad(`type ${id} cannot be followed`);
  switch (type.kind) {
    case KIND.PTR:
      return 8;
    case KIND.ARRAY:
      return sizeOf(types.readUInt32LE(type.data), types, all, depth + 1) * types.readUInt32LE(type.data + 8);
    case KIND.TYPEDEF:
    case KIND.CONST:
    case KIND.VOLATILE:
    case KIND.RESTRICT:
    case KIND.TYPE_TAG:
      return sizeOf(type.sizeOrType, types, all, depth + 1);
    default:
      return type.sizeOrType;
  }
}
