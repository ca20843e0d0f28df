/**
 * Counts events on edges. Nearly every event is of an edge that was met a moment before: a hash of a few of its bytes
 * finds the edge's slot, and nothing is decoded. Only the others cost names, and a pod that makes many of them gets an
 * edge of its own for the rest.
 */
import { randomInt } from 'node:crypto';
import { ENUMS, STRUCTS } from '../image/layout.gen.js';
import { EVENT_SIZE, isZero, u64, viewOf } from '../flow/event/decode.js';
import type { Flow } from '../flow/event/types.js';
import { Enricher, type EnricherOptions, type Known } from '../flow/names/enrich.js';
import { isAudited } from '../flow/names/terms.js';
import { describe } from './describe.js';
import { SnapshotFacts } from './facts.js';
import type { Ledger } from './ledger.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;
const { EA_FLOW_INBOUND, EA_FLOW_POST_DNAT } = ENUMS.ea_flow_flags;
const { EA_EVENT_VERDICT, EA_EVENT_CHANGED, EA_EVENT_END, EA_EVENT_LOG } = ENUMS.ea_event_type;
const OPENERS = EA_FLOW_INBOUND | EA_FLOW_POST_DNAT;

/** Remembered edges. Two that meet in one place cost names again and again, which is rare and harmless. */
const PLACES = 1 << 16;
/** Milliseconds for which an edge is remembered although names may have changed since. */
const STALE_MS = 2000;
/** … and at most: a pod learns names of addresses, which nothing else tells. */
const RENEW_MS = 30_000;
/** Events that may cost names between two ticks, some four microseconds each; and what each endpoint may in any case. */
const BUDGET = 4000;
const LEAST_BUDGET = 64;
/** Edges for the rest that are remembered. */
const MOST_RESTS = 4096;
const NONE = -1;
const LATER = -2;

/** Random, so that nobody outside knows which events share a place. */
const [SEED_A, SEED_B] = [randomInt(2 ** 32) | 0, randomInt(2 ** 32) | 0];

export class EdgeCounter {
  readonly #ledger: Ledger;
  readonly #enricher: Enricher;
  readonly #facts: SnapshotFacts;
  readonly #stride: number;
  readonly #hashes = new Float64Array(PLACES);
  /** Slot in the ledger; NONE: it is not counted. */
  readonly #slots = new Int32Array(PLACES);
  readonly #incarnations = new Uint32Array(PLACES);
  readonly #versions = new Uint32Array(PLACES);
  #version = 1;
  #renewedAt = 0;
  #isChanged = false;
  #left = BUDGET;
  readonly #spent = new Map<number, number>();
  readonly #rests = new Map<string, { slot: number; incarnation: number }>();
  #number = 0;

  /** @param stride bytes from one event to the next in the buffers that events() gets */
  constructor(ledger: Ledger, opts: EnricherOptions & { stride: number }) {
    this.#ledger = ledger;
    this.#stride = opts.stride;
    const enricher = new Enricher(opts);
    this.#enricher = enricher;
    this.#facts = new SnapshotFacts({ nodeName: opts.nodeName, whoAt: (ip) => enricher.whoAt(ip) });
  }

  /** Sets what is known from now on. */
  learn(known: Known): void {
    this.#enricher.update(known);
    this.#facts.update(known.snapshot);
    this.#isChanged = true;
  }

  /** Renews the budget. To be called each time before events are read. @param nowMs any clock, milliseconds */
  tick(nowMs: number): void {
    this.#left = BUDGET;
    this.#spent.clear();
    const age = nowMs - this.#renewedAt;
    if (age < 0 || age >= RENEW_MS || (this.#isChanged && age >= STALE_MS)) {
      this.#isChanged = false;
      this.#renewedAt = nowMs;
      this.#version = (this.#version + 1) >>> 0;
      this.#rests.clear();
    }
  }

  /** Counts events (struct ea_event), the first at offset `at`. They are not kept. */
  events(buf: Buffer, at: number, count: number): void {
    const v = viewOf(buf);
    // A wall clock in nanoseconds needs 61 bits: a number is exact to 256 of them.
    const lead = Number(this.#enricher.lead) / 1e6;
    const end = at + count * this.#stride;
    for (let offset = at; offset < end; offset += this.#stride) {
      const o = buf.byteOffset + offset;
      const type = v.getUint8(o + E.type.offset);
      if (type === EA_EVENT_LOG) continue;
      const slot = this.#slot(v, o, buf, offset);
      if (slot === NONE) continue;
      const ms = u64(v, o + E.time_ns.offset) / 1e6 + lead;
      const bytes = type === EA_EVENT_END ? u64(v, o + E.bytes_out.offset) + u64(v, o + E.bytes_in.offset) : 0;
      const opened = type === EA_EVENT_VERDICT || type === EA_EVENT_CHANGED ? 1 : 0;
      this.#ledger.count(slot, ms, opened, bytes, u64(v, o + E.drops.offset));
    }
  }

  /** Counts a flow that did not come as an event of the ring: what a connection said, where that was denied. */
  flow(flow: Flow): void {
    if (flow.event.verdict !== 'deny' && !isAudited(flow.event)) return;
    const edge = describe(flow, this.#facts);
    const slot = edge && this.#ledger.slotOf(edge);
    if (slot !== undefined) this.#ledger.count(slot, Number(flow.timeNs / 1_000_000n), 1, 0, flow.event.drops);
  }

  /**
   * Notes flows that are open: those of whom nothing is known yet are counted, the others are only seen now.
   * @param buf holds struct ea_event of one of them at offset 0, as writeFlowEnd() makes it
   * @param fresh slots that this pass has made: their flows are counted
   * @returns false: its names cost more than is left before the next tick. It has been noted before, or can be later:
   *   no flow is lost, so none goes to the edge for the rest.
   */
  open(buf: Buffer, fresh: Set<number>): boolean {
    const v = viewOf(buf);
    const before = this.#ledger.size;
    const slot = this.#slot(v, buf.byteOffset, buf, 0, LATER);
    if (slot === LATER) return false;
    if (slot === NONE) return true;
    if (this.#ledger.size > before) fresh.add(slot);
    const ms = (u64(v, buf.byteOffset + E.time_ns.offset) + Number(this.#enricher.lead)) / 1e6;
    this.#ledger.count(slot, ms, fresh.has(slot) ? 1 : 0, 0, 0);
    return true;
  }

  /** @param beyond the answer for an endpoint without budget; undefined: its edge for the rest */
  #slot(v: DataView, o: number, buf: Buffer, at: number, beyond?: number): number {
    const hash = hashOf(v, o);
    const place = hash % PLACES;
    if (this.#hashes[place] === hash && this.#versions[place] === this.#version) {
      const slot = this.#slots[place] as number;
      if (slot === NONE || this.#incarnations[place] === this.#ledger.incarnation(slot)) return slot;
    }
    const endpoint = v.getUint32(o + KEY + K.endpoint.offset, true);
    const spent = this.#spent.get(endpoint) ?? 0;
    if (this.#left <= 0 ? spent >= LEAST_BUDGET : spent >= Math.max(LEAST_BUDGET, this.#left)) {
      return beyond ?? this.#rest(v, o, buf, at, endpoint);
    }
    this.#left--;
    this.#spent.set(endpoint, spent + 1);
    const slot = this.#find(buf, at);
    this.#hashes[place] = hash;
    this.#versions[place] = this.#version;
    this.#slots[place] = slot;
    this.#incarnations[place] = slot === NONE ? 0 : this.#ledger.incarnation(slot);
    return slot;
  }

  #find(buf: Buffer, at: number): number {
    const edge = describe(this.#named(buf, at), this.#facts);
    return edge === undefined ? NONE : (this.#ledger.slotOf(edge) ?? NONE);
  }

  /** The edge for all that an endpoint has no budget for. */
  #rest(v: DataView, o: number, buf: Buffer, at: number, endpoint: number): number {
    this.#ledger.overflow++;
    const rule = u64(v, o + E.rule.offset);
    const key = `${endpoint} ${v.getUint8(o + E.verdict.offset)} ${v.getUint8(o + E.reason.offset)} ${rule}`;
    const known = this.#rests.get(key);
    if (known && (known.slot === NONE || known.incarnation === this.#ledger.incarnation(known.slot))) return known.slot;
    if (!known && this.#rests.size >= MOST_RESTS) return NONE;
    const edge = describe(this.#named(buf, at), this.#facts);
    const slot = edge === undefined ? NONE : (this.#ledger.otherOf(edge) ?? NONE);
    this.#rests.set(key, { slot, incarnation: slot === NONE ? 0 : this.#ledger.incarnation(slot) });
    return slot;
  }

  #named(buf: Buffer, at: number) {
    // A copy, since a flow keeps its bytes.
    const own = Buffer.from(buf.subarray(at, at + EVENT_SIZE));
    return this.#enricher.enrichRaw({ buf: own, at: 0 }, ++this.#number);
  }
}

/**
 * A number for all that tells edges apart, as far as it is in the event: events of different edges share one with a
 * probability of 2^-53.
 */
function hashOf(v: DataView, o: number): number {
  const flags = v.getUint8(o + E.flow_flags.offset) & OPENERS;
  const created = v.getUint32(o + E.created_ns.offset, true) | v.getUint32(o + E.created_ns.offset + 4, true);
  const ports = flags & EA_FLOW_INBOUND ? K.local_port.offset : K.remote_port.offset;
  const key = o + KEY;
  let a = SEED_A ^ v.getInt32(key + K.endpoint.offset, true);
  let b = SEED_B ^ a;
  const mix = (word: number) => {
    a = Math.imul(a ^ word, 0x9e3779b1);
    a ^= a >>> 15;
    b = Math.imul(b ^ word, 0x85ebca77);
    b ^= b >>> 13;
  };
  for (let at = key + K.remote.offset; at < key + K.remote.offset + 16; at += 4) mix(v.getInt32(at, true));
  mix((v.getUint16(key + ports) << 16) | (v.getUint8(key + K.protocol.offset) << 8) | flags);
  mix(
    (v.getUint8(o + E.verdict.offset) << 24) |
      (v.getUint8(o + E.audit_verdict.offset) << 16) |
      (v.getUint8(o + E.reason.offset) << 8) |
      (v.getUint8(o + E.hook.offset) << 1) |
      (created === 0 ? 1 : 0),
  );
  mix(v.getInt32(o + E.rule.offset, true));
  mix(v.getInt32(o + E.rule.offset + 4, true));
  mix(v.getInt32(o + E.audit_rule.offset, true));
  mix(v.getInt32(o + E.audit_rule.offset + 4, true));
  // Another set: a policy has another content, and its rules may have the names that they had.
  mix(v.getInt32(o + E.set.offset, true));
  mix(v.getInt32(o + E.set.offset + 4, true));
  mix(v.getInt32(o + E.name_incarnation.offset, true));
  mix(v.getInt32(o + E.name.offset, true));
  if (!isZero(v, o + E.service.offset)) {
    for (let at = o + E.service.offset; at < o + E.service.offset + 16; at += 4) mix(v.getInt32(at, true));
    mix(v.getUint16(o + E.service_port.offset));
  }
  return (a >>> 0) * 0x20_0000 + (b >>> 11);
}
