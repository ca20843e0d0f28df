/** Makes the end event of a silent flow, in the form of the kernel's own end events. */
import { ENUMS, STRUCTS } from '../../image/layout.gen.js';
import { EVENT_SIZE } from './decode.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const V = STRUCTS.ea_flow.fields;
const N = STRUCTS.ea_flow_name.fields;
const { EA_TCP_INSPECT, EA_TCP_SAYS } = ENUMS.ea_tcp_state;
/** Fields that the table's entry and the event share. */
const SAME = ['set', 'rule', 'audit_rule', 'verdict', 'audit_verdict', 'reason', 'tcp_flags', 'created_ns'] as const;
/** Counters. The entry has a second one of each, for packets that other CPUs processed at the same time. */
const COUNTERS = ['packets_out', 'bytes_out', 'packets_in', 'bytes_in'] as const;
/** Byte ranges to copy from the entry to the event. Fields that are adjacent in both are copied together. */
const COPIES = copies();

/**
 * Writes struct ea_event of the flow's table entry.
 * @param out buffer with room for it at offset 0; overwritten
 * @param nowNs CLOCK_MONOTONIC
 */
export function writeFlowEnd(out: Buffer, key: Buffer, value: Buffer, nowNs: number): void {
  out.fill(0, 0, EVENT_SIZE);
  key.copy(out, E.flow.offset, 0, STRUCTS.ea_flow_key.size);
  for (const { from, end, to } of COPIES) value.copy(out, to, from, end);
  for (const name of COUNTERS)
    out.writeBigUInt64LE(sum(value, V[name].offset, V[`shared_${name}`].offset), E[name].offset);
  writeU64(out, E.time_ns.offset, nowNs);
  writeU64(out, E.drops.offset, Math.max(u64(value, V.drops.offset) - u64(value, V.drops_reported.offset), 0));
  const { local } = K;
  const v4 =
    key.readUInt32LE(local.offset) === 0 &&
    key.readUInt32LE(local.offset + 4) === 0 &&
    key.readUInt32LE(local.offset + 8) === 0xffff0000;
  out[E.family.offset] = v4 ? 4 : 6;
  out.writeUInt16LE(v4 ? 0x0800 : 0x86dd, E.ethertype.offset);
  out[E.type.offset] = ENUMS.ea_event_type.EA_EVENT_END;
  out[E.hook.offset] = ENUMS.ea_hook.EA_HOOK_FROM_POD;
  out[E.flow_flags.offset] = value[V.flags.offset] as number;
  // The state of an inspected connection stands in the same place, but for what is said over UDP.
  const state = value[V.tcp_state.offset] as number;
  const besideName = (state & EA_TCP_SAYS) !== 0 && key[K.protocol.offset] === 17;
  if ((state & EA_TCP_INSPECT) !== 0 && !besideName) return;
  out.writeUInt32LE(value.readUInt32LE(V.extra.offset + N.name.offset), E.name.offset);
  out.writeUInt32LE(value.readUInt32LE(V.extra.offset + N.incarnation.offset), E.name_incarnation.offset);
}

function copies(): { from: number; end: number; to: number }[] {
  const out: { from: number; end: number; to: number }[] = [];
  for (const name of SAME) {
    const { offset: from, size } = V[name];
    const { offset: to } = E[name];
    const last = out.at(-1);
    if (last && last.end === from && last.to + last.end - last.from === to) last.end += size;
    else out.push({ from, end: from + size, to });
  }
  return out;
}

function u64(buf: Buffer, at: number): number {
  return buf.readUInt32LE(at) + buf.readUInt32LE(at + 4) * 0x1_0000_0000;
}

/** Adds two 64-bit counters with wrap-around, as the kernel does. */
function sum(buf: Buffer, a: number, b: number): bigint {
  return BigInt.asUintN(64, buf.readBigUInt64LE(a) + buf.readBigUInt64LE(b));
}

function writeU64(buf: Buffer, at: number, value: number): void {
  buf.writeUInt32LE(value % 0x1_0000_0000, at);
  buf.writeUInt32LE(Math.floor(value / 0x1_0000_0000), at + 4);
}
