/**
 * Ends idle flows. The kernel ends TCP flows that close. The sweeper finds silent ones, and those of protocols without
 * a close: it reads a slice of the table each tick, in shared memory. While no agent runs, nothing is swept, and new
 * flows of an endpoint replace its own entries.
 */
import * as L from '../../src/image/layout.gen.js';
import type { ReleasedAddresses } from './released-addresses.js';
import type { FlowMemory, EntryVersion } from './flow-table.js';

const E = L.STRUCTS.ea_entry;
const FLOW = L.STRUCTS.ea_flow.fields;
const KEY = L.STRUCTS.ea_flow_key.fields;
const SAID = L.STRUCTS.ea_said_stream.fields;
const TCP = L.ENUMS.ea_tcp_state;
const { EA_SAID_PENDING } = L.ENUMS.ea_said_state;
const { EA_SAID_NONE } = L.ENUMS.ea_said;
const NAME = L.STRUCTS.ea_flow_name.fields;
const SAYS = TCP.EA_TCP_INSPECT | TCP.EA_TCP_SAYS;
const { EA_KIND_FLOW, EA_KIND_FRAGMENT, EA_KIND_QUERY } = L.ENUMS.ea_kind;
const { EA_ENTRY_LOCKED, EA_ENTRY_VALID } = L.ENUMS.ea_entry_state;
const VERDICT_DENY = L.ENUMS.ea_verdict.EA_VERDICT_DENY;
const OBSERVED = L.ENUMS.ea_reason.EA_REASON_OBSERVED;
const FLAGS = L.ENUMS.ea_flow_flags;
const INBOUND = FLAGS.EA_FLOW_INBOUND;

/**
 * Seconds without a packet after which a flow has ended: the values of the kernel's conntrack, where it has the state.
 */
export const IDLE_SECONDS = {
  tcpOpen: 432_000, // nf_conntrack_tcp_timeout_established: long-lived connections outlive everything here
  tcpOpening: 120,
  tcpClosing: 120,
  tcpClosed: 10,
  answered: 180, // nf_conntrack_udp_timeout_stream
  unanswered: 60,
  denied: 60,
  fragment: 30, // as long as a receiver waits for the rest of a datagram (RFC 8200, 4.5: 60 at most)
  pending: 60,
  query: 30, // how long an answer counts (bpf/dns_query.h)
} as const;

const SHORTEST = Math.min(...Object.values(IDLE_SECONDS));

/** Entries of a tick: a full pass over a table of the default size takes four seconds, each tick half a millisecond. */
const SLICE = 16_384;
/** Slices of a sweep after a pod's end: all of such a table at once, some ten milliseconds. */
const HURRIED_SLICES = 16;
/** Offset of last_jiffies in an entry, in 32-bit words. */
const LAST = (E.fields.flow.offset + FLOW.last_jiffies.offset) / 4;
const STATE = E.fields.state.offset / 4;
const WORDS = E.size / 4;

export class FlowSweeper {
  readonly #table: FlowMemory;
  readonly #hz: number;
  readonly #onEnded: (key: Buffer, value: Buffer) => void;
  readonly #peers: ReleasedAddresses | undefined;
  #slot = 0;
  #entryCount = 0;
  readonly #words: Uint32Array;
  readonly #entry = Buffer.alloc(E.size);
  /**
   * Entries by payer (an endpoint's slot), counted in this pass; and the error of the programs' count in the last one.
   */
  #countByPayer = new Map<number, number>();
  #errorByPayer = new Map<number, number>();
  /** Smallest and largest count of the programs during this pass, by payer. */
  #holdingsRange = new Map<number, { low: number; high: number }>();
  /** Tags of slots that were free but tagged in the last pass, and in this one. */
  #leakedTags = new Map<number, number>();
  #suspectTags = new Map<number, number>();
  /** Entries in the table at the last full pass. */
  entries = 0;
  /** Flows at the last full pass that had not said yet what decides about them. */
  pending = 0;
  #pendingCount = 0;

  /**
   * @param hz the kernel's jiffies a second
   * @param onEnded receives key and value of each flow whose end is to be reported; valid during the call only
   */
  constructor(table: FlowMemory, hz: number, ended: (key: Buffer, value: Buffer) => void, peers?: ReleasedAddresses) {
    this.#table = table;
    this.#hz = hz;
    this.#onEnded = ended;
    this.#peers = peers;
    const { entries } = table;
    this.#words = new Uint32Array(entries.buffer, entries.byteOffset, entries.length / 4);
  }

  /** Capacity of the table, entries. */
  get capacity(): number {
    return this.#table.capacity;
  }

  /** Sweeps one slice; more after a pod's end, whose flows must end before another pod gets its address. */
  sweep(jiffies: () => number): void {
    let slices = 0;
    do this.tick(jiffies());
    while (this.#peers?.hasReleased === true && ++slices < HURRIED_SLICES);
  }

  /**
   * Sweeps one slice.
   * @param jiffies the current time of the kernel
   * @returns number of removed entries
   */
  tick(jiffies: number): number {
    if (this.#slot >= this.#table.capacity) this.#endPass();
    const end = Math.min(this.#slot + SLICE, this.#table.capacity);
    const shortest = SHORTEST * this.#hz;
    const hurry = this.#peers?.hasReleased === true;
    let removed = 0;
    for (let slot = this.#slot; slot < end; slot++) {
      // Of a free slot, only the tag is read: the entries' memory, most of it never used, is not touched.
      if (this.#table.tag(slot) === 0) continue;
      const state = this.#words[slot * WORDS + STATE] as number;
      if ((state & EA_ENTRY_VALID) === 0) {
        this.#repairTag(slot, state);
        continue;
      }
      this.#entryCount++;
      if (this.#isPending(slot)) this.#pendingCount++;
      const payer = this.#table.payer(slot);
      this.#countByPayer.set(payer, (this.#countByPayer.get(payer) ?? 0) + 1);
      const at = slot * WORDS + LAST;
      const last = (this.#words[at] as number) + (this.#words[at + 1] as number) * 0x1_0000_0000;
      if (jiffies - last <= shortest && !hurry) continue;
      const version = this.#table.read(slot, this.#entry);
      if (!version || !this.#isOver(jiffies)) continue;
      if (this.#end(version)) removed++;
    }
    this.#slot = end;
    for (const payer of this.#countByPayer.keys()) this.#updateRange(payer);
    return removed;
  }

  #updateRange(payer: number): { low: number; high: number } {
    const held = this.#table.holdings(payer) | 0;
    const range = this.#holdingsRange.get(payer) ?? { low: held, high: held };
    range.low = Math.min(range.low, held);
    range.high = Math.max(range.high, held);
    this.#holdingsRange.set(payer, range);
    return range;
  }

  #isPending(slot: number): boolean {
    const { entries } = this.#table;
    const flow = slot * E.size + E.fields.flow.offset;
    if (((entries[flow + FLOW.tcp_state.offset] as number) & SAYS) !== SAYS) return false;
    const isFlow = entries[flow + FLOW.kind.offset] === EA_KIND_FLOW;
    if (!isFlow) return false;
    const extra = flow + FLOW.extra.offset;
    if (entries[slot * E.size + KEY.protocol.offset] === 17) return entries[extra + NAME.said.offset] === EA_SAID_NONE;
    return (entries[extra + SAID.state.offset] as number) <= EA_SAID_PENDING;
  }

  #isOver(jiffies: number): boolean {
    if (this.#hasReleasedPeer()) return true;
    return (
      (jiffies - u64(this.#entry, E.fields.flow.offset + FLOW.last_jiffies.offset)) / this.#hz > idleLimit(this.#entry)
    );
  }

  /** Whether this is an inbound flow whose peer has lost its address. */
  #hasReleasedPeer(): boolean {
    const { flow } = E.fields;
    if (this.#peers?.hasReleased !== true || ((this.#entry[flow.offset + FLOW.flags.offset] as number) & INBOUND) === 0)
      return false;
    return this.#peers.isReleased(
      this.#entry,
      KEY.remote.offset,
      u64(this.#entry, flow.offset + FLOW.created_ns.offset),
    );
  }

  #end(version: EntryVersion): boolean {
    if (!this.#table.free(version)) return false;
    const { key, flow } = E.fields;
    if (isNews(this.#entry)) {
      this.#onEnded(
        this.#entry.subarray(key.offset, key.offset + L.STRUCTS.ea_flow_key.size),
        this.#entry.subarray(flow.offset),
      );
    }
    return true;
  }

  /** Repairs a slot that was free but tagged during a whole pass: an agent was killed while it freed the slot. */
  #repairTag(slot: number, state: number): void {
    const tag = (state & EA_ENTRY_LOCKED) === 0 ? this.#table.tag(slot) : 0;
    // Tag and state were read one after the other: a program may have written an entry in between.
    if (tag === 0 || this.#table.state(slot) !== state >>> 0) return;
    if (this.#leakedTags.get(slot) === tag) this.#table.untag(slot, tag);
    else this.#suspectTags.set(slot, tag);
  }

  #endPass(): void {
    this.entries = this.#entryCount;
    this.pending = this.#pendingCount;
    this.#pendingCount = 0;
    this.#peers?.endPass();
    // The programs' count changes during a pass: only a number outside its range in that time is an error. An error in
    // the same direction after two passes is real: a process was killed between an entry and its count.
    const errors = new Map<number, number>();
    for (const payer of new Set([...this.#countByPayer.keys(), ...this.#errorByPayer.keys()])) {
      const paid = this.#countByPayer.get(payer) ?? 0;
      const { low, high } = this.#updateRange(payer);
      const error = paid - Math.min(Math.max(paid, low), high);
      const previous = this.#errorByPayer.get(payer) ?? 0;
      if (error !== 0 && Math.sign(error) === Math.sign(previous))
        this.#table.adjustHoldings(payer, Math.sign(error) * Math.min(Math.abs(error), Math.abs(previous)));
      else if (error !== 0) errors.set(payer, error);
    }
    this.#errorByPayer = errors;
    this.#holdingsRange = new Map();
    for (const payer of this.#countByPayer.keys()) this.#updateRange(payer);
    this.#countByPayer = new Map();
    this.#leakedTags = this.#suspectTags;
    this.#suspectTags = new Map();
    this.#entryCount = 0;
    this.#slot = 0;
  }
}

/** Whether a flow's end is to be reported, once it has ended: not if it ended in the kernel, nor if its start was never reported. */
export function isNews(entry: Buffer): boolean {
  const value = E.fields.flow.offset;
  if (entry[value + FLOW.kind.offset] !== EA_KIND_FLOW) return false;
  const flags = entry[value + FLOW.flags.offset] as number;
  if (((entry[value + FLOW.tcp_state.offset] as number) & TCP.EA_TCP_CLOSED) !== 0) return false;
  if ((flags & INBOUND) !== 0) return (flags & (FLAGS.EA_FLOW_CONFIRMED | FLAGS.EA_FLOW_REPORTED)) !== 0;
  // Flows of the post-DNAT check are reported as the client's own flow.
  return (flags & FLAGS.EA_FLOW_POST_DNAT) === 0;
}

/** Seconds without a packet after which this entry has ended. */
function idleLimit(entry: Buffer): number {
  const value = E.fields.flow.offset;
  const kind = entry[value + FLOW.kind.offset];
  if (kind === EA_KIND_FRAGMENT) return IDLE_SECONDS.fragment;
  if (kind === EA_KIND_QUERY) return IDLE_SECONDS.query;
  if (kind !== EA_KIND_FLOW) return IDLE_SECONDS.pending;
  if (entry[value + FLOW.verdict.offset] === VERDICT_DENY) return IDLE_SECONDS.denied;
  const anyPositive = (...fields: { offset: number }[]) => fields.some(({ offset }) => u64(entry, value + offset) > 0);
  if (entry[KEY.protocol.offset] === 6) {
    const state = entry[value + FLOW.tcp_state.offset] as number;
    if ((state & TCP.EA_TCP_CLOSED) !== 0) return IDLE_SECONDS.tcpClosed;
    if ((state & (TCP.EA_TCP_FIN_IN | TCP.EA_TCP_FIN_OUT)) !== 0) return IDLE_SECONDS.tcpClosing;
    if ((state & ~SAYS) === TCP.EA_TCP_SYN) return IDLE_SECONDS.tcpOpening;
    // A pod's packet that is no SYN makes a flow look open. The node's answers, and those behind translations, are not
    // seen.
    const answersVisible = ((entry[value + FLOW.flags.offset] as number) & (INBOUND | FLAGS.EA_FLOW_POST_DNAT)) === 0;
    const unanswered = answersVisible && entry[value + FLOW.reason.offset] !== OBSERVED;
    return unanswered && !anyPositive(FLOW.packets_in, FLOW.shared_packets_in)
      ? IDLE_SECONDS.tcpOpening
      : IDLE_SECONDS.tcpOpen;
  }
  const both =
    anyPositive(FLOW.packets_in, FLOW.shared_packets_in) && anyPositive(FLOW.packets_out, FLOW.shared_packets_out);
  return both ? IDLE_SECONDS.answered : IDLE_SECONDS.unanswered;
}

function u64(buf: Buffer, at: number): number {
  return buf.readUInt32LE(at) + buf.readUInt32LE(at + 4) * 0x1_0000_0000;
}
