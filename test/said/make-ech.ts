/** Configurations of Encrypted ClientHello and outer hellos' extensions (RFC 9849), right ones and wrong ones. */
import { randomBytes } from 'node:crypto';
import { svcb, TYPES, type WireMessage } from '../names/wire.js';
import { type Extension, u16 } from './make.js';

export interface ConfigParts {
  version?: number;
  id?: number;
  name?: string;
  key?: Uint8Array;
  suites?: Uint8Array;
  extensions?: Uint8Array;
  /** Bytes behind what its fields take. */
  more?: Uint8Array;
}

/** An ECHConfig: X25519, HKDF-SHA256 and AES-128-GCM, if not said otherwise. */
export function echConfig(parts: ConfigParts = {}): Buffer {
  const name = Buffer.from(parts.name ?? 'front.example', 'latin1');
  const [key, suites] = [parts.key ?? Buffer.alloc(32, 9), parts.suites ?? Buffer.from('00010001', 'hex')];
  const extensions = parts.extensions ?? Buffer.alloc(0);
  const body = Buffer.concat([
    Buffer.from([parts.id ?? 1]),
    u16(0x0020),
    u16(key.length),
    key,
    u16(suites.length),
    suites,
    Buffer.from([64, name.length]),
    name,
    u16(extensions.length),
    extensions,
    parts.more ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([u16(parts.version ?? 0xfe0d), u16(body.length), body]);
}

export function echList(...configs: readonly Buffer[]): Buffer {
  const all = Buffer.concat(configs);
  return Buffer.concat([u16(all.length), all]);
}

/** An answer with an HTTPS record that has this list. */
export function echAnswer(list: Buffer, name = 'hidden.example', ttl = 60): WireMessage {
  const record = { owner: name, type: TYPES.HTTPS, ttl, data: svcb(1, '', [[5, list]]) };
  return { questions: [{ name, type: TYPES.HTTPS }], answers: [record] };
}

/** What an outer hello has for it, or a hello with GREASE: only the config_id can tell. */
export function outer(id: number, { enc = 32, payload = 160 } = {}): Extension {
  const head = Buffer.from([0, 0, 1, 0, 1, id]);
  return [0xfe0d, Buffer.concat([head, u16(enc), randomBytes(enc), u16(payload), randomBytes(payload)])];
}
