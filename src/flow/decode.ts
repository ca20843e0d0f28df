/** struct ea_event → FlowEvent. In the path of every event: no BigInt, no text that is not needed. */
import { ENUMS, STRUCTS } from '../image/layout.gen.js';
import { formatBytes16 } from '../net/addr.js';
import { Recent } from './recent.js';
import type { EventType, FlowEvent, FlowVerdict, Hook } from './types.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;
const F = ENUMS.ea_flow_flags;

/** Enumerators of bpf/types.h as text: `EA_REASON_NO_POLICY` → `no-policy`, by value. */
function names(values: Readonly<Record<string, number>>, prefix: string): string[] {
  const out: string[] = [];
  for (const [name, value] of Object.entries(values))
    out[value] = name.slice(prefix.length).toLowerCase().replaceAll('_', '-');
  return out;
}

const TYPES = names(ENUMS.ea_event_type, 'EA_EVENT_') as EventType[];
const VERDICTS = names(ENUMS.ea_verdict, 'EA_VERDICT_') as FlowVerdict[];
const HOOKS = names(ENUMS.ea_hook, 'EA_HOOK_') as Hook[];

/** Names of enum ea_reason by value; what drop counters are called too. */
export const REASONS: readonly string[] = names(ENUMS.ea_reason, 'EA_REASON_');

const texts4 = new Recent<number, string>(
  (key) => `${key & 255}.${(key >>> 8) & 255}.${(key >>> 16) & 255}.${key >>> 24}`,
);
const texts6 = new Recent<string, string>((_, buf, at) => formatBytes16(buf.subarray(at, at + 16), 6));
const macs = new Recent<number, string>((_, buf, at) => buf.toString('hex', at, at + 6).replace(/..(?!$)/g, '$&:'));

function address(buf: Buffer, at: number): string {
  if (buf.readUInt32LE(at) === 0 && buf.readUInt32LE(at + 4) === 0 && buf.readUInt32LE(at + 8) === 0xffff0000)
    return texts4.get(buf.readUInt32LE(at + 12), buf, at);
  return texts6.get(buf.toString('latin1', at, at + 16), buf, at);
}

function u64(buf: Buffer, at: number): number {
  return buf.readUInt32LE(at) + buf.readUInt32LE(at + 4) * 0x1_0000_0000;
}

function isZero(buf: Buffer, at: number, words: number): boolean {
  for (let i = 0; i < words; i++) if (buf.readUInt32LE(at + i * 4) !== 0) return false;
  return true;
}

/** `aa:bb:…`; empty where all six bytes are zero: the device has no link layer. */
function mac(buf: Buffer, at: number): string {
  const key = buf.readUIntBE(at, 6);
  return key === 0 ? '' : macs.get(key, buf, at);
}

/** Bytes of struct ea_event. */
export const EVENT_SIZE = STRUCTS.ea_event.size;

/** Of an event's time alone: CLOCK_MONOTONIC, nanoseconds. */
export function eventTime(buf: Buffer, at: number): number {
  return u64(buf, at + E.time_ns.offset);
}

/**
 * Decodes one event.
 * @param buf holds struct ea_event at `at`; not kept
 */
export function decodeEvent(buf: Buffer, at: number): FlowEvent {
  const family = buf[at + E.family.offset] as 0 | 4 | 6;
  const flags = buf[at + E.flow_flags.offset] as number;
  const key = at + KEY;
  const hasService = !isZero(buf, at + E.service.offset, 4);
  return {
    timeNs: u64(buf, at + E.time_ns.offset),
    type: TYPES[buf[at + E.type.offset] as number] ?? 'drop',
    verdict: VERDICTS[buf[at + E.verdict.offset] as number] ?? 'none',
    auditVerdict: VERDICTS[buf[at + E.audit_verdict.offset] as number] ?? 'none',
    reason: REASONS[buf[at + E.reason.offset] as number] ?? 'none',
    hook: HOOKS[buf[at + E.hook.offset] as number] ?? 'from-pod',
    rule: u64(buf, at + E.rule.offset),
    auditRule: u64(buf, at + E.audit_rule.offset),
    set: buf.readUInt32LE(at + E.set.offset) + (buf.readUInt32LE(at + E.set.offset + 4) & 0x1fffff) * 0x1_0000_0000,
    endpoint: buf.readUInt32LE(key + K.endpoint.offset),
    ifindex: buf.readUInt32LE(at + E.ifindex.offset),
    family,
    local: family === 0 ? '' : address(buf, key + K.local.offset),
    remote: family === 0 ? '' : address(buf, key + K.remote.offset),
    localPort: buf.readUInt16BE(key + K.local_port.offset),
    remotePort: buf.readUInt16BE(key + K.remote_port.offset),
    protocol: buf[key + K.protocol.offset] as number,
    inbound: (flags & F.EA_FLOW_INBOUND) !== 0,
    secondLook: (flags & F.EA_FLOW_SECOND_LOOK) !== 0,
    isReply: buf[at + E.is_reply.offset] !== 0,
    service: hasService ? address(buf, at + E.service.offset) : '',
    servicePort: buf.readUInt16BE(at + E.service_port.offset),
    tcpFlags: buf[at + E.tcp_flags.offset] as number,
    packetsOut: u64(buf, at + E.packets_out.offset),
    bytesOut: u64(buf, at + E.bytes_out.offset),
    packetsIn: u64(buf, at + E.packets_in.offset),
    bytesIn: u64(buf, at + E.bytes_in.offset),
    drops: u64(buf, at + E.drops.offset),
    createdNs: u64(buf, at + E.created_ns.offset),
    length: buf.readUInt32LE(at + E.length.offset),
    ethertype: buf.readUInt16LE(at + E.ethertype.offset),
    macSource: mac(buf, at + E.mac_src.offset),
    macDestination: mac(buf, at + E.mac_dst.offset),
  };
}

/** What an idle flow's end looks like: from its table entry, not from the ring. */
export function decodeFlowEnd(key: Buffer, value: Buffer, nowNs: number, ifindex: number): FlowEvent {
  const V = STRUCTS.ea_flow.fields;
  const flags = value[V.flags.offset] as number;
  const v4 = isZero(key, K.local.offset, 2) && key.readUInt32LE(K.local.offset + 8) === 0xffff0000;
  const drops = u64(value, V.drops.offset) - u64(value, V.drops_reported.offset);
  return {
    timeNs: nowNs,
    type: 'end',
    verdict: VERDICTS[value[V.verdict.offset] as number] ?? 'none',
    auditVerdict: VERDICTS[value[V.audit_verdict.offset] as number] ?? 'none',
    reason: REASONS[value[V.reason.offset] as number] ?? 'none',
    hook: 'from-pod',
    rule: u64(value, V.rule.offset),
    auditRule: u64(value, V.audit_rule.offset),
    set: value.readUInt32LE(V.set.offset) + (value.readUInt32LE(V.set.offset + 4) & 0x1fffff) * 0x1_0000_0000,
    endpoint: key.readUInt32LE(K.endpoint.offset),
    ifindex,
    family: v4 ? 4 : 6,
    local: address(key, K.local.offset),
    remote: address(key, K.remote.offset),
    localPort: key.readUInt16BE(K.local_port.offset),
    remotePort: key.readUInt16BE(K.remote_port.offset),
    protocol: key[K.protocol.offset] as number,
    inbound: (flags & F.EA_FLOW_INBOUND) !== 0,
    secondLook: (flags & F.EA_FLOW_SECOND_LOOK) !== 0,
    isReply: false,
    service: '',
    servicePort: 0,
    tcpFlags: value[V.tcp_flags.offset] as number,
    packetsOut: u64(value, V.packets_out.offset),
    bytesOut: u64(value, V.bytes_out.offset),
    packetsIn: u64(value, V.packets_in.offset),
    bytesIn: u64(value, V.bytes_in.offset),
    drops: Math.max(drops, 0),
    createdNs: u64(value, V.created_ns.offset),
    length: 0,
    ethertype: v4 ? 0x0800 : 0x86dd,
    macSource: '',
    macDestination: '',
  };
}
