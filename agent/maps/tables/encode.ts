/**
 * Image values ⇄ the bytes of bpf/types.h, at the offsets that layout.gen.ts took
 * from the object's BTF. Addresses and ports in network order, the rest in host
 * order (little endian: the only byte order of the platforms supported).
 */
import { AgentError } from '../../../src/errors.js';
import * as L from '../../../src/image/layout.gen.js';
import type { PortEntry, Row } from '../../../src/image/rows.js';
import type { ImageService, PolicySet, SetRule } from '../../../src/image/types.js';
import { formatBytes16, parseAddr } from '../../../src/net/addr.js';
import type { Tunnel } from '../../../src/net/tunnels.js';
import type { Address } from '../books/address-book.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';

const {
  ea_class_key: CK,
  ea_port_key: PK,
  ea_rule_key: RK,
  ea_rule: R,
  ea_dest4_key: D4,
  ea_dest6_key: D6,
} = L.STRUCTS;
const { ea_address_key: AK, ea_address: A, ea_tunnel_key: TK } = L.STRUCTS;
const { ea_service_key: SK, ea_service: S, ea_backend: B } = L.STRUCTS;

/** Index of the epoch in the state map, in 32-bit words. */
export const EPOCH_WORD = L.STRUCTS.ea_state.fields.epoch.offset / 4;
/** Index of the word that enables the post-DNAT check at uplinks, in 32-bit words. */
export const POST_DNAT_WORD = L.STRUCTS.ea_state.fields.post_dnat.offset / 4;

const ANSWERS = {
  refused: L.ENUMS.ea_rule_dns.EA_REFUSAL_REFUSED,
  nxdomain: L.ENUMS.ea_rule_dns.EA_REFUSAL_NXDOMAIN,
  nodata: L.ENUMS.ea_rule_dns.EA_REFUSAL_NODATA,
};

const ACTIONS = {
  allow: L.ENUMS.ea_action.EA_ACTION_ALLOW,
  deny: L.ENUMS.ea_action.EA_ACTION_DENY,
  pass: L.ENUMS.ea_action.EA_ACTION_PASS,
  log: L.ENUMS.ea_action.EA_ACTION_LOG,
} as const;

/** EA_SET_LARGE and so on: bpf/types.h. */
const SET_LARGE = 1n << 63n;
const SET_STAGED = 1n << 62n;
const SET_LOGS = 1n << 61n;
const SET_NAMES = 1n << 60n;
const SET_QUERIES = 1n << 59n;
const SET_SAYS = 1n << 58n;
const SET_ID = (1n << 53n) - 1n;
/** References of sets. Sets are immutable, so each is computed once. */
const refs = new WeakMap<PolicySet, bigint>();

const OWN_NODE = L.ENUMS.ea_backend_flags.EA_BACKEND_OWN_NODE;

/** A map of the loaded object by name. */
export function map(maps: Record<string, BpfMap>, name: string): BpfMap {
  const found = maps[name];
  if (!found) throw new AgentError('INTERNAL', `the object has no map ${name}`);
  return found;
}

/** The endpoint's `set` field: id and flags. */
export function setRef(set: PolicySet): bigint {
  let ref = refs.get(set);
  if (ref === undefined) {
    const logs = set.rules.some(({ action, log }) => action === 'log' || log);
    ref = BigInt(set.id) | (set.large ? SET_LARGE : 0n) | (set.staged ? SET_STAGED : 0n) | (logs ? SET_LOGS : 0n);
    ref |= (set.names ? SET_NAMES : 0n) | (set.queries ? SET_QUERIES : 0n) | (set.says ? SET_SAYS : 0n);
    refs.set(set, ref);
  }
  return ref;
}

/** The id in an endpoint's `set` field. */
export function setOf(ref: bigint): number {
  return Number(ref & SET_ID);
}

/** A 53-bit id as __u64. */
export function writeId(buf: Buffer, at: number, id: number): void {
  buf.writeUInt32LE(id >>> 0, at);
  buf.writeUInt32LE(Math.floor(id / 0x1_0000_0000), at + 4);
}

/** A 53-bit id from a __u64. */
export function readId(buf: Buffer, at: number): number {
  return buf.readUInt32LE(at) + buf.readUInt32LE(at + 4) * 0x1_0000_0000;
}

export function writeClassKey(buf: Buffer, at: number, set: number, classId: number): void {
  writeId(buf, at + CK.fields.set.offset, set);
  writeId(buf, at + CK.fields.class_id.offset, classId);
}

export function classKeySet(key: Buffer): number {
  return readId(key, CK.fields.set.offset);
}

export function classKeyClass(key: Buffer): number {
  return readId(key, CK.fields.class_id.offset);
}

/** Key of a port row. The set id is big endian here: an LPM key is compared from its first bit on. */
export function writePortKey(
  buf: Buffer,
  at: number,
  set: number,
  entry: Pick<PortEntry, 'prefix' | 'protocol' | 'port'>,
): void {
  buf.writeUInt32LE(entry.prefix, at + PK.fields.prefixlen.offset);
  buf.writeUInt32BE(Math.floor(set / 0x1_0000_0000), at + PK.fields.set.offset);
  buf.writeUInt32BE(set >>> 0, at + PK.fields.set.offset + 4);
  buf.writeUInt8(entry.prefix >= 80 ? entry.protocol : 0, at + PK.fields.protocol.offset);
  buf.writeUInt16BE(entry.prefix > 80 ? entry.port : 0, at + PK.fields.port.offset);
}

export function portKeySet(key: Buffer): number {
  return key.readUInt32BE(PK.fields.set.offset) * 0x1_0000_0000 + key.readUInt32BE(PK.fields.set.offset + 4);
}

/** A bitmap of rules, with a summary by which the kernel skips empty words. */
export function writeRow(buf: Buffer, at: number, row: Row): void {
  const { filled, words } = L.STRUCTS.ea_row_large.fields;
  for (let i = 0; i < row.length; i++) {
    if (row[i] === 0) continue;
    buf.writeUInt32LE(row[i] as number, at + words.offset + i * 4);
    const byte = at + filled.offset + (i >> 4);
    buf.writeUInt8(buf.readUInt8(byte) | (1 << ((i >> 1) & 7)), byte);
  }
}

export function writeRuleKey(buf: Buffer, at: number, set: number, bit: number): void {
  writeId(buf, at + RK.fields.set.offset, set);
  buf.writeUInt32LE(bit, at + RK.fields.bit.offset);
}

export function ruleKeySet(key: Buffer): number {
  return readId(key, RK.fields.set.offset);
}

export function writeRule(buf: Buffer, at: number, rule: SetRule): void {
  writeId(buf, at + R.fields.id.offset, rule.id);
  buf.writeUInt32LE(rule.tierEnd, at + R.fields.tier_end.offset);
  buf.writeUInt8(ACTIONS[rule.action], at + R.fields.action.offset);
  buf.writeUInt8(rule.staged ? 1 : 0, at + R.fields.staged.offset);
  buf.writeUInt8(rule.log ? 1 : 0, at + R.fields.log.offset);
  buf.writeUInt8(dnsOf(rule), at + R.fields.dns.offset);
}

function dnsOf({ teaches, dnsRefusal }: SetRule): number {
  if (teaches) return L.ENUMS.ea_rule_dns.EA_TEACHES;
  return dnsRefusal === undefined ? 0 : ANSWERS[dnsRefusal];
}

/** @param key address × 64 + prefix length */
export function writeDest4(buf: Buffer, at: number, key: number): void {
  buf.writeUInt32LE(key % 64, at + D4.fields.prefixlen.offset);
  buf.writeUInt32BE(Math.floor(key / 64), at + D4.fields.addr.offset);
}

export function readDest4(buf: Buffer, at: number): number {
  return buf.readUInt32BE(at + D4.fields.addr.offset) * 64 + buf.readUInt32LE(at + D4.fields.prefixlen.offset);
}

/** @param key 32 hex digits, `/`, prefix length in three digits */
export function writeDest6(buf: Buffer, at: number, key: string): void {
  buf.writeUInt32LE(Number(key.slice(33)), at + D6.fields.prefixlen.offset);
  buf.write(key.slice(0, 32), at + D6.fields.addr.offset, 'hex');
}

export function readDest6(buf: Buffer, at: number): string {
  const from = at + D6.fields.addr.offset;
  const prefix = buf.readUInt32LE(at + D6.fields.prefixlen.offset);
  return `${buf.toString('hex', from, from + 16)}/${String(prefix).padStart(3, '0')}`;
}

/** An address as the 16 bytes of the kernel's keys, network order (IPv4-mapped for IPv4). */
export function writeAddr(buf: Buffer, at: number, ip: string): void {
  buf.set(parseAddr(ip).bytes, at);
}

function readAddr(buf: Buffer, at: number): string {
  const bytes = buf.subarray(at, at + 16);
  const mapped = bytes.subarray(0, 10).every((b) => b === 0) && bytes[10] === 0xff && bytes[11] === 0xff;
  return formatBytes16(bytes, mapped ? 4 : 6);
}

export function writeServiceKey(
  buf: Buffer,
  at: number,
  service: Pick<ImageService, 'ip' | 'port' | 'protocol'>,
): void {
  writeAddr(buf, at + SK.fields.addr.offset, service.ip);
  buf.writeUInt16BE(service.port, at + SK.fields.port.offset);
  buf.writeUInt8(service.protocol, at + SK.fields.protocol.offset);
}

export function writeService(service: ImageService, key: Buffer, keyAt: number, value: Buffer, valueAt: number): void {
  writeServiceKey(key, keyAt, service);
  value.writeUInt32LE(service.backends.length, valueAt + S.fields.count.offset);
  value.writeUInt32LE(service.many ? 1 : 0, valueAt + S.fields.many.offset);
  service.backends.forEach((b, i) => {
    const at = valueAt + S.fields.backends.offset + i * B.size;
    writeAddr(value, at + B.fields.addr.offset, b.ip);
    value.writeUInt16BE(b.port, at + B.fields.port.offset);
    value.writeUInt16LE(b.own ? OWN_NODE : 0, at + B.fields.flags.offset);
  });
}

export function readService(key: Buffer, keyAt: number, value: Buffer, valueAt: number): ImageService {
  const count = value.readUInt32LE(valueAt + S.fields.count.offset);
  const backends = Array.from({ length: count }, (_, i) => {
    const at = valueAt + S.fields.backends.offset + i * B.size;
    return {
      ip: readAddr(value, at + B.fields.addr.offset),
      port: value.readUInt16BE(at + B.fields.port.offset),
      ...(value.readUInt16LE(at + B.fields.flags.offset) & OWN_NODE ? { own: true as const } : {}),
    };
  });
  return {
    ip: readAddr(key, keyAt + SK.fields.addr.offset),
    port: key.readUInt16BE(keyAt + SK.fields.port.offset),
    protocol: key.readUInt8(keyAt + SK.fields.protocol.offset),
    backends,
    many: value.readUInt32LE(valueAt + S.fields.many.offset) !== 0,
  };
}

export function writeAddress(
  ip: string,
  { ifindex, flags }: Address,
  key: Buffer,
  keyAt: number,
  value: Buffer,
  valueAt: number,
): void {
  writeAddr(key, keyAt + AK.fields.addr.offset, ip);
  value.writeUInt32LE(ifindex, valueAt + A.fields.ifindex.offset);
  value.writeUInt32LE(flags, valueAt + A.fields.flags.offset);
}

export function readAddress(key: Buffer, keyAt: number, value: Buffer, valueAt: number): Address & { ip: string } {
  return {
    ip: readAddr(key, keyAt + AK.fields.addr.offset),
    ifindex: value.readUInt32LE(valueAt + A.fields.ifindex.offset),
    flags: value.readUInt32LE(valueAt + A.fields.flags.offset),
  };
}

export function writeTunnelKey(buf: Buffer, at: number, { protocol, port }: Tunnel): void {
  buf.writeUInt16BE(port, at + TK.fields.port.offset);
  buf.writeUInt8(protocol, at + TK.fields.protocol.offset);
}

export function writeTunnel(tunnel: Tunnel, key: Buffer, keyAt: number, value: Buffer, valueAt: number): void {
  writeTunnelKey(key, keyAt, tunnel);
  value.writeUInt32LE(tunnel.allowed ? 0 : 1, valueAt);
}

export function readTunnel(key: Buffer, keyAt: number, value: Buffer, valueAt: number): Tunnel {
  return {
    protocol: key.readUInt8(keyAt + TK.fields.protocol.offset),
    port: key.readUInt16BE(keyAt + TK.fields.port.offset),
    ...(value.readUInt32LE(valueAt) === 0 ? { allowed: true } : {}),
  };
}

export const ID_SIZE = 8;

/** Sizes of keys and values, bytes. */
export const SIZES = {
  dest4Key: D4.size,
  dest6Key: D6.size,
  classKey: CK.size,
  portKey: PK.size,
  ruleKey: RK.size,
  rule: R.size,
  rowSmall: L.STRUCTS.ea_row_small.size,
  rowLarge: L.STRUCTS.ea_row_large.size,
  serviceKey: SK.size,
  service: S.size,
  addressKey: AK.size,
  address: A.size,
  tunnelKey: TK.size,
  tunnel: 4,
} as const;
