/**
 * FlowEvent → Flow: whose addresses, which rule, what time of day. In the path of every event: a few look-ups in
 * tables that are made when the first event after a change needs them.
 */
import { randomBytes } from 'node:crypto';
import { changedKeys } from '../identity/shared-map.js';
import type { Node, Snapshot } from '../identity/snapshot.js';
import type { RuleRef } from '../ir/types.js';
import { hasPorts } from '../net/protocol.js';
import { AddressBook, nodeWho, remember, type Who, whoIs } from './addresses.js';
import { isInbound, isOutgoing } from './terms.js';
import type { Flow, FlowEvent, Party } from './types.js';

export interface EnricherOptions {
  nodeName: string;
  /** Nanoseconds since 1970. */
  wallClock?: () => bigint;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  monoNs?: () => number;
}

export interface Known {
  snapshot: Snapshot;
  /** By rule id. */
  rules: ReadonlyMap<number, RuleRef>;
  /** By endpoint id; `pod` is `namespace/name`, empty for the node's own uplinks. */
  endpoints: ReadonlyMap<number, { pod: string; uid: string }>;
}

interface Endpoint {
  uid: string;
  who: Who;
}

/** So many rules that have decided something are remembered after they went away … */
const SEEN_RULES = 16384;
/** … and so many endpoints: a node runs some hundred pods at a time. */
const GONE_ENDPOINTS = 512;
/** Former rules that have not decided anything yet: an event that is on its way arrives within this time. */
const FORMER_NS = 10e9;
const FORMER_RULES = 8;
/** The distance between the clocks is measured again after this many nanoseconds of events … */
const CLOCK_NS = 1e9;
/** … and corrected when it is off by this much: less is the wall clock's own grain, and would put flows out of order. */
const CLOCK_STEP_NS = 2_000_000n;

/** What all flows of one agent share. */
interface Common {
  nodeName: string;
  /** The first 24 characters of every uuid: RFC 9562, version 8, the layout of the bits is ours. */
  uuidHead: string;
}

class NamedFlow implements Flow {
  readonly #common: Common;
  readonly #offset: bigint;
  readonly #number: number;

  constructor(
    common: Common,
    offset: bigint,
    number: number,
    readonly event: FlowEvent,
    readonly source: Party,
    readonly destination: Party,
    readonly service: { namespace: string; name: string } | undefined,
    readonly rule: RuleRef | undefined,
    readonly auditRule: RuleRef | undefined,
  ) {
    this.#common = common;
    this.#offset = offset;
    this.#number = number;
  }

  get timeNs(): bigint {
    return BigInt(this.event.timeNs) + this.#offset;
  }

  get uuid(): string {
    return this.#common.uuidHead + this.#number.toString(16).padStart(12, '0');
  }

  get nodeName(): string {
    return this.#common.nodeName;
  }
}

export class Enricher {
  readonly #wallClock: () => bigint;
  readonly #monoNs: () => number;
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
  #offset = 0n;
  #offsetAt = Number.NEGATIVE_INFINITY;

  constructor(opts: EnricherOptions) {
    this.#wallClock = opts.wallClock ?? (() => BigInt(Date.now()) * 1_000_000n);
    this.#monoNs = opts.monoNs ?? (() => Number(process.hrtime.bigint()));
    this.#node = nodeWho(opts.nodeName);
    const r = randomBytes(9).toString('hex');
    const uuidHead = `${r.slice(0, 8)}-${r.slice(8, 12)}-8${r.slice(12, 15)}-8${r.slice(15, 18)}-`;
    this.#common = { nodeName: opts.nodeName, uuidHead };
  }

  /**
   * Takes over what is known now. Costs as much as this node has endpoints, and nothing while they are the same (`endpoints`
   * too); the rest waits for the next event.
   */
  update({ snapshot, rules, endpoints }: Known): void {
    const now = this.#monoNs();
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
      // A new pod with an old name is another pod: the uid tells.
      const same = pod !== undefined && (pod.uid === uid || uid === '');
      const who = key === '' ? this.#node : same ? whoIs(pod) : before?.uid === uid ? before.who : named(key);
      // To the end: those that went away come first, and go first.
      remember(this.#endpoints, id, { uid, who }, endpoints.size + GONE_ENDPOINTS);
    }
  }

  /** Most of what happens in a cluster happens elsewhere. */
  #endpointsMayDiffer({ pods, nodes }: Snapshot, endpoints: Known['endpoints']): boolean {
    const before = this.#seen;
    const own = nodes.get(this.#common.nodeName);
    const same = before?.endpoints === endpoints && before.own === own;
    const keys = same ? before.keys : new Set([...endpoints.values()].map((e) => e.pod));
    this.#seen = { endpoints, pods, own, keys };
    return !same || changedKeys(before.pods, pods).some((key) => keys.has(key));
  }

  enrich(event: FlowEvent): Flow {
    const began = event.createdNs > 0 ? event.createdNs : event.timeNs;
    const ports = hasPorts(event.protocol);
    const who = this.#endpoints.get(event.endpoint)?.who ?? this.#addresses.at(event.local, began);
    const local = party(event.local, ports ? event.localPort : 0, who);
    const remote = party(event.remote, ports ? event.remotePort : 0, this.#addresses.at(event.remote, began));
    const out = isOutgoing(event);
    return new NamedFlow(
      this.#common,
      this.#clocks(event.timeNs),
      ++this.#number,
      event,
      out ? local : remote,
      out ? remote : local,
      isInbound(event) ? undefined : this.#service(event),
      event.rule === 0 ? undefined : this.#rule(event.rule),
      event.auditRule === 0 ? undefined : this.#rule(event.auditRule),
    );
  }

  #service(e: FlowEvent): { namespace: string; name: string } | undefined {
    const service =
      e.service === ''
        ? this.#addresses.service(e.remote, e.remotePort, e.protocol)
        : this.#addresses.service(e.service, e.servicePort, e.protocol);
    return service && { namespace: service.namespace, name: service.name };
  }

  #rule(id: number): RuleRef | undefined {
    const ref = this.#rules.get(id);
    if (ref) {
      if (this.#seenRules.get(id) !== ref) remember(this.#seenRules, id, ref, SEEN_RULES);
      return ref;
    }
    // Ids are made of the rule's content: an old one never names another rule.
    const seen = this.#seenRules.get(id);
    if (seen) return seen;
    for (const former of this.#formerRules) {
      const found = former.rules.get(id);
      if (found) return found;
    }
    return undefined;
  }

  /** The wall clock's lead over CLOCK_MONOTONIC. */
  #clocks(mono: number): bigint {
    if (mono - this.#offsetAt < CLOCK_NS && this.#offsetAt - mono < CLOCK_NS) return this.#offset;
    const now = this.#monoNs();
    const offset = this.#wallClock() - BigInt(Math.round(now));
    const step = offset - this.#offset;
    if (step > CLOCK_STEP_NS || step < -CLOCK_STEP_NS) this.#offset = offset;
    this.#offsetAt = mono;
    this.#formerRules = this.#formerRules.filter((f) => f.until > now);
    return this.#offset;
  }
}

function party(ip: string, port: number, who: Who): Party {
  const made: Party = { ip, port, kind: who.kind, namespace: who.namespace, pod: who.pod, labels: who.labels };
  if (who.workload !== undefined) made.workload = who.workload;
  if (who.node !== undefined) made.node = who.node;
  return made;
}

/** A pod that the snapshot does not have: what its key says. */
function named(key: string): Who {
  const slash = key.indexOf('/');
  return { kind: 'pod', namespace: key.slice(0, slash), pod: key.slice(slash + 1), labels: {} };
}
