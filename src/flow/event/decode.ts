/** Decodes struct ea_event to FlowEvent. This runs for every event: no BigInt, and no text that is not needed. */
import { randomInt } from 'node:crypto';
import { ENUMS, STRUCTS } from '../../image/layout.gen.js';
import { formatBytes16 } from '../../net/addr.js';
import { enumNames as names, TYPES, VERDICTS } from './kind.js';
import { Recent } from './recent.js';
import type { FlowEvent, Hook } from './types.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;
const F = ENUMS.ea_flow_flags;
/** For flows younger than this, each address had one owner, as far as names/addresses.ts remembers. */
const YOUNG_NS = 10e9;
/** Random, so that nobody outside knows which addresses share a number. */
const [SEED_A, SEED_B] = [randomInt(2 ** 32) | 0, randomInt(2 ** 32) | 0];

const HOOKS = names(ENUMS.ea_hook, 'EA_HOOK_') as Hook[];

/** Names of enum ea_reason by value; also the names of drop counters. */
export const REASONS: readonly string[] = names(ENUMS.ea_reason, 'EA_REASON_');

const texts4 = new Recent<number, string>(
  (key) => `${key & 255}.${(key >>> 8) & 255}.${(key >>> 16) & 255}.${key >>> 24}`,
);
/** A direct-mapped cache in front of it, which answers most look-ups. Initially it holds the text of address 0. */
const NEAR_SHIFT = 20;
const nearKeys = new Int32Array(1 << (32 - NEAR_SHIFT));
const nearTexts = new Array<string>(nearKeys.length).fill('0.0.0.0');
const texts6 = new Recent<string, string>((_, buf, at) => formatBytes16(buf.subarray(at, at + 16), 6));
const macs = new Recent<number, string>((_, buf, at) => buf.toString('hex', at, at + 6).replace(/..(?!$)/g, '$&:'));

/** The text of an address. @param o offset in the whole memory of the buffer, of which `v` is a view */
export function address(v: DataView, o: number, buf: Buffer): string {
  if (v.getUint32(o, true) === 0 && v.getUint32(o + 4, true) === 0 && v.getUint32(o + 8, true) === 0xffff0000) {
    const key = v.getInt32(o + 12, true);
    const place = Math.imul(key, 0x9e3779b1) >>> NEAR_SHIFT;
    if (nearKeys[place] !== key) {
      nearTexts[place] = texts4.get(key, buf, 0);
      nearKeys[place] = key;
    }
    return nearTexts[place] as string;
  }
  const at = o - buf.byteOffset;
  return texts6.get(buf.toString('latin1', at, at + 16), buf, at);
}

/** Reads a 64-bit number at offset `o`, exact below 2^53. */
export function u64(v: DataView, o: number): number {
  const high = v.getUint32(o + 4, true);
  const low = v.getUint32(o, true);
  return high === 0 ? low : low + high * 0x1_0000_0000;
}

export function isZero(v: DataView, o: number): boolean {
  return (v.getUint32(o, true) | v.getUint32(o + 4, true) | v.getUint32(o + 8, true) | v.getUint32(o + 12, true)) === 0;
}

/** `aa:bb:…`; empty if all six bytes are zero, because the device has no link layer. */
function mac(v: DataView, o: number, buf: Buffer): string {
  const key = v.getUint16(o) * 0x1_0000_0000 + v.getUint32(o + 2);
  return key === 0 ? '' : macs.get(key, buf, o - buf.byteOffset);
}

const views = new WeakMap<ArrayBufferLike, DataView>();
let lastView: DataView = new DataView(new ArrayBuffer(0));

/** A view of the whole memory of a buffer, so that reading a number costs one load. */
export function viewOf({ buffer }: Buffer): DataView {
  if (buffer === lastView.buffer) return lastView;
  let view = views.get(buffer);
  if (!view) views.set(buffer, (view = new DataView(buffer)));
  return (lastView = view);
}

/** Size of struct ea_event in bytes. */
export const EVENT_SIZE = STRUCTS.ea_event.size;

/** Time of an event: CLOCK_MONOTONIC, nanoseconds. */
export function eventTime(buf: Buffer, at: number): number {
  return u64(viewOf(buf), buf.byteOffset + at + E.time_ns.offset);
}

/** The incarnation of the name in an event; 0: it has none. @param buf holds struct ea_event at `at` */
export function nameIncarnation(buf: Buffer, at: number): number {
  return viewOf(buf).getUint32(buf.byteOffset + at + E.name_incarnation.offset, true);
}

/** The slot of the name in an event. */
export function nameSlot(buf: Buffer, at: number): number {
  return viewOf(buf).getUint32(buf.byteOffset + at + E.name.offset, true);
}

/** Port of DNS. */
const DNS_PORT = 53;

/**
 * Of the first event of a flow that an endpoint opened to port 53 and that passed: the endpoint and the address.
 * @param buf holds struct ea_event at `at`
 */
export function askedResolver(buf: Buffer, at: number): { endpoint: number; ip: string } | undefined {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  if (v.getUint16(o + KEY + K.remote_port.offset) !== DNS_PORT) return undefined;
  const protocol = v.getUint8(o + KEY + K.protocol.offset);
  const isFirst = v.getUint8(o + E.type.offset) === ENUMS.ea_event_type.EA_EVENT_VERDICT;
  const passed = v.getUint8(o + E.verdict.offset) === ENUMS.ea_verdict.EA_VERDICT_ALLOW;
  const inbound = (v.getUint8(o + E.flow_flags.offset) & F.EA_FLOW_INBOUND) !== 0;
  if (!isFirst || !passed || inbound || (protocol !== 6 && protocol !== 17)) return undefined;
  const endpoint = v.getUint32(o + KEY + K.endpoint.offset, true);
  return { endpoint, ip: address(v, o + KEY + K.remote.offset, buf) };
}

/**
 * A number that identifies the two parties of an event without finding their names; different pairs share one with a
 * probability of 2^-53. Negative if the addresses are not enough: for a packet without addresses, and for a flow older
 * than a few seconds, whose address may have belonged to another pod.
 * @param buf holds struct ea_event at `at`
 */
export function parties(buf: Buffer, at: number): number {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  if (v.getUint8(o + E.family.offset) === 0) return -1;
  const created = u64(v, o + E.created_ns.offset);
  if (created > 0 && u64(v, o + E.time_ns.offset) - created > YOUNG_NS) return -1;
  const endpoint = v.getInt32(o + KEY + K.endpoint.offset, true);
  let a = Math.imul(SEED_A ^ endpoint, 0xc2b2ae3d);
  a ^= a >>> 16;
  let b = Math.imul(SEED_B ^ endpoint, 0x27d4eb2f);
  b ^= b >>> 14;
  // Both addresses, but no ports, since most flows differ by ports only.
  const end = o + KEY + K.remote.offset + K.remote.size;
  for (let word = o + KEY + K.local.offset; word < end; word += 4) {
    const w = v.getInt32(word, true);
    a = Math.imul(a ^ w, 0x9e3779b1);
    a ^= a >>> 15;
    b = Math.imul(b ^ w, 0x85ebca77);
    b ^= b >>> 13;
  }
  return (a >>> 0) * 0x20_0000 + (b >>> 11);
}

/** The position of an event in bytes that nobody overwrites. */
export interface RawEvent {
  buf: Buffer;
  at: number;
}

/** The fields that are needed to find the names of an event. */
export type EventHead = Pick<
  FlowEvent,
  | 'timeNs'
  | 'createdNs'
  | 'type'
  | 'hook'
  | 'rule'
  | 'auditRule'
  | 'endpoint'
  | 'local'
  | 'remote'
  | 'remotePort'
  | 'protocol'
  | 'inbound'
  | 'postDnat'
  | 'isReply'
  | 'service'
  | 'servicePort'
  | 'name'
  | 'nameIncarnation'
>;

/** Decodes these fields into one shared object, which the caller must not keep. */
export function eventHead(buf: Buffer, at: number): EventHead {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  const key = o + KEY;
  const family = v.getUint8(o + E.family.offset);
  const flags = v.getUint8(o + E.flow_flags.offset);
  head.timeNs = u64(v, o + E.time_ns.offset);
  head.createdNs = u64(v, o + E.created_ns.offset);
  head.type = TYPES[v.getUint8(o + E.type.offset)] ?? 'drop';
  head.hook = HOOKS[v.getUint8(o + E.hook.offset)] ?? 'from-pod';
  head.rule = u64(v, o + E.rule.offset);
  head.auditRule = u64(v, o + E.audit_rule.offset);
  head.endpoint = v.getUint32(key + K.endpoint.offset, true);
  head.local = family === 0 ? '' : address(v, key + K.local.offset, buf);
  head.remote = family === 0 ? '' : address(v, key + K.remote.offset, buf);
  head.remotePort = v.getUint16(key + K.remote_port.offset);
  head.protocol = v.getUint8(key + K.protocol.offset);
  head.inbound = (flags & F.EA_FLOW_INBOUND) !== 0;
  head.postDnat = (flags & F.EA_FLOW_POST_DNAT) !== 0;
  head.isReply = v.getUint8(o + E.is_reply.offset) !== 0;
  head.service = isZero(v, o + E.service.offset) ? '' : address(v, o + E.service.offset, buf);
  head.servicePort = v.getUint16(o + E.service_port.offset);
  head.name = v.getUint32(o + E.name.offset, true);
  head.nameIncarnation = v.getUint32(o + E.name_incarnation.offset, true);
  return head;
}

/**
 * Decodes one event.
 * @param buf holds struct ea_event at `at`; not kept
 */
export function decodeEvent(buf: Buffer, at: number): FlowEvent {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  const family = v.getUint8(o + E.family.offset) as 0 | 4 | 6;
  const flags = v.getUint8(o + E.flow_flags.offset);
  const key = o + KEY;
  const setHigh = v.getUint32(o + E.set.offset + 4, true) & 0x1fffff;
  return {
    timeNs: u64(v, o + E.time_ns.offset),
    type: TYPES[v.getUint8(o + E.type.offset)] ?? 'drop',
    verdict: VERDICTS[v.getUint8(o + E.verdict.offset)] ?? 'none',
    auditVerdict: VERDICTS[v.getUint8(o + E.audit_verdict.offset)] ?? 'none',
    reason: REASONS[v.getUint8(o + E.reason.offset)] ?? 'none',
    hook: HOOKS[v.getUint8(o + E.hook.offset)] ?? 'from-pod',
    rule: u64(v, o + E.rule.offset),
    auditRule: u64(v, o + E.audit_rule.offset),
    set: v.getUint32(o + E.set.offset, true) + setHigh * 0x1_0000_0000,
    endpoint: v.getUint32(key + K.endpoint.offset, true),
    ifindex: v.getUint32(o + E.ifindex.offset, true),
    family,
    local: family === 0 ? '' : address(v, key + K.local.offset, buf),
    remote: family === 0 ? '' : address(v, key + K.remote.offset, buf),
    localPort: v.getUint16(key + K.local_port.offset),
    remotePort: v.getUint16(key + K.remote_port.offset),
    protocol: v.getUint8(key + K.protocol.offset),
    inbound: (flags & F.EA_FLOW_INBOUND) !== 0,
    postDnat: (flags & F.EA_FLOW_POST_DNAT) !== 0,
    isReply: v.getUint8(o + E.is_reply.offset) !== 0,
    service: isZero(v, o + E.service.offset) ? '' : address(v, o + E.service.offset, buf),
    servicePort: v.getUint16(o + E.service_port.offset),
    tcpFlags: v.getUint8(o + E.tcp_flags.offset),
    packetsOut: u64(v, o + E.packets_out.offset),
    bytesOut: u64(v, o + E.bytes_out.offset),
    packetsIn: u64(v, o + E.packets_in.offset),
    bytesIn: u64(v, o + E.bytes_in.offset),
    drops: u64(v, o + E.drops.offset),
    createdNs: u64(v, o + E.created_ns.offset),
    length: v.getUint32(o + E.length.offset, true),
    ethertype: v.getUint16(o + E.ethertype.offset, true),
    macSource: mac(v, o + E.mac_src.offset, buf),
    macDestination: mac(v, o + E.mac_dst.offset, buf),
    name: v.getUint32(o + E.name.offset, true),
    nameIncarnation: v.getUint32(o + E.name_incarnation.offset, true),
  };
}

const head: EventHead = decodeEvent(Buffer.alloc(EVENT_SIZE), 0);
