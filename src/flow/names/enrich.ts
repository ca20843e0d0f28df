/**
 * Turns a FlowEvent into a Flow: adds the owners of its addresses, the rule and the wall-clock time. This runs for
 * every event, so it needs only a few look-ups in tables, which are built when the first event after a change needs
 * them.
 */
import { randomBytes } from 'node:crypto';
import { changedKeys } from '../../identity/shared-map.js';
import type { Node, Service, Snapshot } from '../../identity/snapshot.js';
import type { RuleRef } from '../../ir/types.js';
import { AddressBook, nodeWho, remember, type Who, whoIs } from './addresses.js';
import { Clocks } from './clocks.js';
import { type EventHead, eventHead, type RawEvent } from '../event/decode.js';
import { type Common, NamedFlow } from './named.js';
import { isInbound, isOutgoing } from './terms.js';
import { nameIn } from '../event/said-text.js';
import type { DnsInfo, Flow, FlowEvent, SaidInfo, ServiceRef } from '../event/types.js';

export interface EnricherOptions {
  nodeName: string;
  /** Nanoseconds since 1970. */
  wallClock?: () => bigint;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  monoNs?: () => number;
  /** Texts of learned names. */
  names?: NameSource;
}

/** The texts of names that events mention. */
export interface NameSource {
  /** Called when an event arrives, so that its name is still known when somebody asks for it. */
  note(slot: number, incarnation: number): void;
  /** undefined: it is not known any more. */
  text(slot: number, incarnation: number): string | undefined;
  /**
   * The names by which an endpoint knew an address, for events that mention none: where no rule asks for names.
   * @param timeNs of the event, CLOCK_MONOTONIC
   */
  known(endpoint: number, ip: string, timeNs: number): readonly string[];
}

const NO_NAMES: readonly string[] = [];

export interface Known {
  snapshot: Snapshot;
  /** Rules by id. */
  rules: ReadonlyMap<number, RuleRef>;
  /** Endpoints by id; `pod` is `namespace/name`, or empty for the node's own uplinks. */
  endpoints: ReadonlyMap<number, { pod: string; uid: string }>;
}

interface Endpoint {
  uid: string;
  who: Who;
}

/** Maximum number of deleted rules that are remembered because they have decided something … */
const SEEN_RULES = 16384;
/** … and of deleted endpoints. A node runs some hundred pods at a time. */
const GONE_ENDPOINTS = 512;
/** Deleted rules that have not decided anything are remembered for this time, in which events in transit arrive. */
const FORMER_NS = 10e9;
const FORMER_RULES = 8;
const PRUNE_NS = 1e9;

/** Makes flows from events, with the names known at a time. */
export class Enricher {
  readonly #clocks: Clocks;
  readonly #names: NameSource | undefined;
  readonly #common: Common;
  #node: Who;
  readonly #addresses = new AddressBook();
  #number = 0;
  #rules: ReadonlyMap<number, RuleRef> = new Map();
  readonly #seenRules = new Map<number, RuleRef>();
  #formerRules: { rules: ReadonlyMap<number, RuleRef>; until: number }[] = [];
  readonly #endpoints = new Map<number, Endpoint>();
  #seen:
    | { endpoints: Known['endpoints']; pods: Snapshot['pods']; own: Node | undefined; keys: ReadonlySet<string> }
    | undefined;
  /** Time of the event at which old rules were last pruned. */
  #prunedAt = Number.NEGATIVE_INFINITY;

  constructor(opts: EnricherOptions) {
    this.#clocks = new Clocks(
      opts.wallClock ?? (() => BigInt(Date.now()) * 1_000_000n),
      opts.monoNs ?? (() => Number(process.hrtime.bigint())),
    );
    this.#names = opts.names;
    this.#node = nodeWho(opts.nodeName);
    const r = randomBytes(9).toString('hex');
    const uuidHead = `${r.slice(0, 8)}-${r.slice(8, 12)}-8${r.slice(12, 15)}-8${r.slice(15, 18)}-`;
    this.#common = { nodeName: opts.nodeName, uuidHead };
  }

  /**
   * Sets what is known now. It costs as much as this node has endpoints, and nothing if they are unchanged (`endpoints`
   * is then the same object). Other tables are updated by the next event.
   * @param now time of the change, nanoseconds of CLOCK_MONOTONIC
   */
  update({ snapshot, rules, endpoints }: Known, now = this.now()): void {
    if (rules !== this.#rules) {
      this.#formerRules.unshift({ rules: this.#rules, until: now + FORMER_NS });
      if (this.#formerRules.length > FORMER_RULES) this.#formerRules.pop();
      this.#rules = rules;
    }
    this.#addresses.update(snapshot, now);
    if (!this.#endpointsMayDiffer(snapshot, endpoints)) return;
    const { nodeName } = this.#common;
    this.#node = nodeWho(nodeName, snapshot.nodes.get(nodeName)?.labels);
    for (const [id, { pod: key, uid }] of endpoints) {
      const pod = key === '' ? undefined : snapshot.pods.get(key);
      const before = this.#endpoints.get(id);
      // A new pod with an old name has another UID.
      const same = pod !== undefined && (pod.uid === uid || uid === '');
      const who = key === '' ? this.#node : same ? whoIs(pod) : before?.uid === uid ? before.who : named(key);
      // Moved to the end, so that deleted endpoints are first, and evicted first.
      remember(this.#endpoints, id, { uid, who }, endpoints.size + GONE_ENDPOINTS);
    }
  }

  /** Whether this node's endpoints may have changed. Most changes in a cluster concern other nodes. */
  #endpointsMayDiffer({ pods, nodes }: Snapshot, endpoints: Known['endpoints']): boolean {
    const before = this.#seen;
    const own = nodes.get(this.#common.nodeName);
    const same = before?.endpoints === endpoints && before.own === own;
    const keys = same ? before.keys : new Set([...endpoints.values()].map((e) => e.pod));
    this.#seen = { endpoints, pods, own, keys };
    return !same || changedKeys(before.pods, pods).some((key) => keys.has(key));
  }

  /** Nanoseconds of CLOCK_MONOTONIC. */
  now(): number {
    return this.#clocks.now();
  }

  /** Wall clock minus CLOCK_MONOTONIC, now, in nanoseconds. */
  get lead(): bigint {
    return this.#clocks.latest;
  }

  /**
   * Measures the clocks, for events that are enriched later than they arrive. If the wall clock was set, it returns a
   * function to be called between the earlier and the later events. From the first call on, enrich() does not measure
   * by itself.
   */
  measure(): (() => void) | undefined {
    return this.#clocks.measure();
  }

  /** The owner of an address now. */
  whoAt(ip: string): Who {
    return this.#addresses.at(ip, this.#clocks.now());
  }

  /** Makes a flow. @param number part of its UUID; the UUIDs of one agent are in the order of events */
  enrich(event: FlowEvent, number = this.#number + 1): NamedFlow {
    return this.#named(event, number, event);
  }

  /** The same for struct ea_event. The flow keeps the bytes, which nobody may overwrite. */
  enrichRaw(raw: RawEvent, number: number): NamedFlow {
    return this.#named(eventHead(raw.buf, raw.at), number, raw);
  }

  /** Makes the flow of a DNS message. @param number as of enrich() */
  enrichDns(event: FlowEvent, dns: DnsInfo, number: number): Flow {
    return { ...this.#ofConnection(event, number), dns };
  }

  /**
   * Makes the flow of what a connection said. The name that it said stands behind those that were learned, as one more
   * name of its destination. @param number as of enrich()
   */
  enrichSaid(event: FlowEvent, said: SaidInfo, number: number): Flow {
    const learned = this.#names?.known(event.endpoint, event.remote, event.timeNs) ?? NO_NAMES;
    const flow: Flow = { ...this.#ofConnection(event, number), said };
    const name = nameIn(said);
    const isSaidLearned = name !== undefined && learned.includes(name);
    if (isSaidLearned) flow.isSaidLearned = true;
    const destinationNames = name === undefined || isSaidLearned ? learned : [...learned, name];
    if (destinationNames.length > 0) flow.destinationNames = destinationNames;
    return flow;
  }

  #ofConnection(event: FlowEvent, number: number): Flow {
    const named = this.#named(event, number, event);
    const { uuid, timeNs, source, destination, service, rule, auditRule, nodeName } = named;
    const flow: Flow = { uuid, timeNs, event, source, destination, nodeName };
    if (service) flow.service = service;
    if (rule) flow.rule = rule;
    if (auditRule) flow.auditRule = auditRule;
    return flow;
  }

  #named(e: EventHead, number: number, source: RawEvent | FlowEvent): NamedFlow {
    this.#number = number;
    this.#prune(e.timeNs);
    const began = e.createdNs > 0 ? e.createdNs : e.timeNs;
    return new NamedFlow(this.#common, this.#clocks.lead(e.timeNs), number, source, {
      local: this.#endpoints.get(e.endpoint)?.who ?? this.#addresses.at(e.local, began),
      remote: this.#addresses.at(e.remote, began),
      out: isOutgoing(e),
      service: isInbound(e) ? undefined : this.#service(e),
      names: this.#namesOf(e),
      rule: e.rule === 0 ? undefined : this.#rule(e.rule),
      auditRule: e.auditRule === 0 ? undefined : this.#rule(e.auditRule),
    });
  }

  /** The name by which the remote address was judged; or else all by which the endpoint knew it. */
  #namesOf(e: EventHead): readonly string[] {
    if (this.#names === undefined || e.remote === '' || e.type === 'dns' || e.type === 'said') return NO_NAMES;
    if (e.nameIncarnation === 0) return this.#names.known(e.endpoint, e.remote, e.timeNs);
    const judged = this.#names.text(e.name, e.nameIncarnation);
    return judged === undefined ? NO_NAMES : [judged];
  }

  #service(e: EventHead): ServiceRef | undefined {
    const service =
      e.service === ''
        ? this.#addresses.service(e.remote, e.remotePort, e.protocol)
        : this.#addresses.service(e.service, e.servicePort, e.protocol);
    return service && serviceRef(service);
  }

  #rule(id: number): RuleRef | undefined {
    const ref = this.#rules.get(id);
    if (ref) {
      if (this.#seenRules.get(id) !== ref) remember(this.#seenRules, id, ref, SEEN_RULES);
      return ref;
    }
    // Ids are hashes of the rule's content, so an old id never stands for another rule.
    const seen = this.#seenRules.get(id);
    if (seen) return seen;
    for (const former of this.#formerRules) {
      const found = former.rules.get(id);
      if (found) return found;
    }
    return undefined;
  }

  /** Drops rules that no event in transit can name any more. @param mono time of an event */
  #prune(mono: number): void {
    if (Math.abs(mono - this.#prunedAt) < PRUNE_NS) return;
    this.#prunedAt = mono;
    this.#formerRules = this.#formerRules.filter((f) => f.until > mono);
  }
}

const serviceRefs = new WeakMap<Service, ServiceRef>();

/** The reference to a Service; the same object for the same Service. */
function serviceRef(service: Service): ServiceRef {
  let ref = serviceRefs.get(service);
  if (!ref) serviceRefs.set(service, (ref = { namespace: service.namespace, name: service.name }));
  return ref;
}

/** The names of a pod that is not in the snapshot, from its key. */
function named(key: string): Who {
  const slash = key.indexOf('/');
  return { kind: 'pod', namespace: key.slice(0, slash), pod: key.slice(slash + 1), labels: {} };
}
