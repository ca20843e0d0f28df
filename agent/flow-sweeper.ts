/**
 * Ends idle flows. TCP flows that close end in the kernel; those that fall silent,
 * and protocols that never say goodbye, are found here: a slice of the table each
 * tick, so that a full table costs no long pause. When the agent is dead nobody sweeps:
 * then the table's own LRU makes room.
 */
import * as L from '../src/image/layout.gen.js';
import type { BpfMap } from './libbpf/map.js';

const FLOW = L.STRUCTS.ea_flow.fields;
const KEY = L.STRUCTS.ea_flow_key.fields;
const TCP = L.ENUMS.ea_tcp_state;
const VERDICT_DENY = L.ENUMS.ea_verdict.EA_VERDICT_DENY;
const FLAGS = L.ENUMS.ea_flow_flags;
const INBOUND = FLAGS.EA_FLOW_INBOUND;

/** Seconds of silence after which a flow has ended. As in the kernel's conntrack, where it has the state. */
export const IDLE_SECONDS = {
  tcpOpen: 432_000, // nf_conntrack_tcp_timeout_established: long-lived connections outlive everything here
  tcpOpening: 120,
  tcpClosing: 120,
  tcpClosed: 10,
  answered: 180, // nf_conntrack_udp_timeout_stream
  unanswered: 60,
  denied: 60,
} as const;

const SHORTEST = Math.min(...Object.values(IDLE_SECONDS));

export class FlowSweeper {
  private slices: Generator<{ keys: Buffer; values: Buffer; count: number }> | undefined;
  private counted = 0;
  /** Entries in the table at the last full pass. */
  entries = 0;

  /**
   * @param hz the kernel's jiffies a second
   * @param ended receives key and value of each flow whose end is news; valid during the call only
   */
  constructor(
    private readonly flows: BpfMap,
    private readonly accepted: BpfMap,
    private readonly hz: number,
    private readonly ended: (key: Buffer, value: Buffer) => void,
  ) {}

  /** Entries that the table holds at most. */
  get capacity(): number {
    return this.flows.maxEntries;
  }

  /**
   * Looks at one slice.
   * @param jiffies the kernel's clock now
   * @returns how many flows ended
   */
  tick(jiffies: number): number {
    this.slices ??= this.flows.batches(4096);
    const next = this.slices.next();
    if (next.done) {
      this.entries = this.counted;
      this.counted = 0;
      this.slices = undefined;
      return 0;
    }
    const { keys, values, count } = next.value;
    this.counted += count;
    const { keySize, valueSize } = this.flows;
    // At thousands of connections a second thousands end here: nothing is made for one but its key's place in these.
    const gone = Buffer.allocUnsafe(count * keySize);
    const inbound = Buffer.allocUnsafe(count * keySize);
    let goneCount = 0;
    let inboundCount = 0;
    for (let i = 0; i < count; i++) {
      const value = i * valueSize;
      const silent = (jiffies - u64(values, value + FLOW.last_jiffies.offset)) / this.hz;
      if (silent <= SHORTEST || silent <= idleLimit(keys, i * keySize, values, value)) continue;
      keys.copy(gone, goneCount++ * keySize, i * keySize, (i + 1) * keySize);
      if (((values[value + FLOW.flags.offset] as number) & INBOUND) !== 0) {
        keys.copy(inbound, inboundCount++ * keySize, i * keySize, (i + 1) * keySize);
      }
      if (isNews(values, value)) {
        this.ended(keys.subarray(i * keySize, (i + 1) * keySize), values.subarray(value, value + valueSize));
      }
    }
    if (goneCount > 0) this.flows.deleteBatch(gone, goneCount);
    if (inboundCount > 0) this.accepted.deleteBatch(inbound, inboundCount);
    return goneCount;
  }
}

/** A flow whose end is news: not one that ended in the kernel, nor one that nobody was told of. `at`: of its value. */
function isNews(values: Buffer, at: number): boolean {
  const flags = values[at + FLOW.flags.offset] as number;
  if (((values[at + FLOW.tcp_state.offset] as number) & TCP.EA_TCP_CLOSED) !== 0) return false;
  if ((flags & INBOUND) !== 0) return (flags & FLAGS.EA_FLOW_CONFIRMED) !== 0;
  // Of an uplink's second look the client's own flow tells.
  return (flags & FLAGS.EA_FLOW_SECOND_LOOK) === 0;
}

/** Seconds. `key`, `value`: where they begin. */
function idleLimit(keys: Buffer, key: number, values: Buffer, value: number): number {
  if (values[value + FLOW.verdict.offset] === VERDICT_DENY) return IDLE_SECONDS.denied;
  if (keys[key + KEY.protocol.offset] === 6) {
    const state = values[value + FLOW.tcp_state.offset] as number;
    if ((state & TCP.EA_TCP_CLOSED) !== 0) return IDLE_SECONDS.tcpClosed;
    if ((state & (TCP.EA_TCP_FIN_IN | TCP.EA_TCP_FIN_OUT)) !== 0) return IDLE_SECONDS.tcpClosing;
    return state === TCP.EA_TCP_SYN ? IDLE_SECONDS.tcpOpening : IDLE_SECONDS.tcpOpen;
  }
  const both = u64(values, value + FLOW.packets_in.offset) > 0 && u64(values, value + FLOW.packets_out.offset) > 0;
  return both ? IDLE_SECONDS.answered : IDLE_SECONDS.unanswered;
}

function u64(buf: Buffer, at: number): number {
  return buf.readUInt32LE(at) + buf.readUInt32LE(at + 4) * 0x1_0000_0000;
}
