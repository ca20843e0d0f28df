/**
 * Takes events from the kernel, together with the names known when they arrive, and hands them to the hub. Both are
 * needed to make flows later.
 */
import { askedResolver, EVENT_SIZE, eventTime, nameIncarnation, nameSlot, parties } from './event/decode.js';
import { decodeDns } from './event/dns.js';
import { decodeSaid } from './event/said.js';
import { Enricher, type EnricherOptions, type Known, type NameSource } from './names/enrich.js';
import { writeFlowEnd } from './event/flow-end.js';
import { FlowHub } from './hub/hub.js';
import type { Flow } from './event/types.js';
import { eventKind } from './event/kind.js';
import { isAudited } from './names/terms.js';

/** Who is told of the resolvers that pods use. */
export interface ResolverSightings {
  /** A pod's flow to port 53 began, and passed. */
  asked(endpoint: number, ip: string): void;
  /** An answer came that does not count: of another than the trusted resolvers, or that nobody asked for. */
  untrusted(endpoint: number, ip: string, port: number): void;
}

/** Who counts all events, whoever reads them: the ledger of edges. */
export interface EventCounter {
  learn(known: Known): void;
  /** @param buf events (struct ea_event), the first at offset `at`; not kept */
  events(buf: Buffer, at: number, count: number): void;
  flow(flow: Flow): void;
}

/** The entry of events into the hub. */
export class Intake {
  readonly hub: FlowHub;
  readonly #enricher: Enricher;
  readonly #names: NameSource | undefined;
  readonly #resolvers: ResolverSightings | undefined;
  readonly #edges: EventCounter | undefined;
  readonly #stride: number;
  #audited = 0;
  readonly #end = Buffer.from(new ArrayBuffer(EVENT_SIZE));

  /** @param stride bytes from one event to the next in the buffers that add() gets */
  constructor(opts: EnricherOptions & { stride: number; resolvers?: ResolverSightings; edges?: EventCounter }) {
    const enricher = new Enricher(opts);
    this.#enricher = enricher;
    this.#names = opts.names;
    this.#resolvers = opts.resolvers;
    this.#edges = opts.edges;
    this.#stride = opts.stride;
    this.hub = new FlowHub({
      nodeName: opts.nodeName,
      records: {
        size: EVENT_SIZE,
        stride: opts.stride,
        timeNs: eventTime,
        flow: (buf, at, n) => enricher.enrichRaw({ buf, at }, n + 1),
        kept: true,
        kind: eventKind,
        parties,
        lead: () => enricher.lead,
      },
    });
  }

  /**
   * Sets what is known from now on. Events that arrived before keep the names of their time, whenever they are read.
   */
  learn(known: Known): void {
    this.#edges?.learn(known);
    const now = this.#enricher.now();
    this.hub.turn(() => this.#enricher.update(known, now));
  }

  /** Copies `count` events (struct ea_event), the first at offset `at`. */
  add(buf: Buffer, at: number, count: number): void {
    const names = this.#names;
    if (names) for (let i = 0; i < count; i++) noteName(names, buf, at + i * this.#stride);
    const resolvers = this.#resolvers;
    for (let i = 0; i < count && resolvers; i++) {
      const asked = askedResolver(buf, at + i * this.#stride);
      if (asked) resolvers.asked(asked.endpoint, asked.ip);
    }
    this.#edges?.events(buf, at, count);
    this.hub.note(buf, at, count);
  }

  /**
   * Records the end of a silent flow. @param key, value of its entry in the flow table; not kept @param nowNs
   * CLOCK_MONOTONIC
   */
  ended(key: Buffer, value: Buffer, nowNs: number): void {
    writeFlowEnd(this.#end, key, value, nowNs);
    if (this.#names) noteName(this.#names, this.#end, 0);
    this.#edges?.events(this.#end, 0, 1);
    this.hub.note(this.#end, 0);
  }

  /** Takes a DNS message that the programs have reported. @param buf holds struct ea_dns_event at `at`; not kept */
  dns(buf: Buffer, at: number): void {
    const { kind, event, dns } = decodeDns(buf, at);
    if (kind === 'untrusted') this.#resolvers?.untrusted(event.endpoint, event.remote, event.remotePort);
    else this.hub.publishNext((number) => this.#enricher.enrichDns(event, dns, number));
  }

  /**
   * Takes what a connection has said, and the verdict on it. @param buf holds struct ea_said_event at `at`; not kept
   */
  said(buf: Buffer, at: number): void {
    const { event, said } = decodeSaid(buf, at);
    if (isAudited(event)) this.#audited++;
    this.hub.publishNext((number) => {
      const flow = this.#enricher.enrichSaid(event, said, number);
      this.#edges?.flow(flow);
      return flow;
    });
  }

  /** Number of hellos and requests that passed and that the audit verdict denies, among those that were reported. */
  get audited(): number {
    return this.#audited;
  }

  /**
   * Does the periodic work; to be called about once a second. It checks whether the wall clock was set, and extracts
   * what must be known of events that nobody reads.
   */
  tick(): void {
    const set = this.#enricher.measure();
    if (set) this.hub.turn(set);
    this.hub.examinePending();
  }
}

function noteName(names: NameSource, buf: Buffer, at: number): void {
  const incarnation = nameIncarnation(buf, at);
  if (incarnation !== 0) names.note(nameSlot(buf, at), incarnation);
}
