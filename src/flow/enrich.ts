/**
 * FlowEvent → Flow: whose addresses, which rule, what time of day. In the path of every event: a few look-ups in
 * tables that are made when the first event after a change needs them.
 */
import { randomBytes } from 'node:crypto';
import type { Pod, Snapshot } from '../identity/snapshot.js';
import type { RuleRef } from '../ir/types.js';
import { hasPorts } from '../net/protocol.js';
import type { Flow, FlowEvent, Party } from './types.js';

export interface EnricherOptions {
  nodeName: string;
  /** Nanoseconds since 1970. */
  wallClock?: () => bigint;
  /** Nanoseconds of CLOCK_MONOTONIC. */
  monoNs?: () => bigint;
}

export interface Known {
  snapshot: Snapshot;
  /** By rule id. */
  rules: ReadonlyMap<number, RuleRef>;
  /** By endpoint id; `pod` is `namespace/name`, empty for the node's own uplinks. */
  endpoints: ReadonlyMap<number, { pod: string; uid: string }>;
}

/** Everything of a Party but its address and port. */
type Who = Omit<Party, 'ip' | 'port'>;

/** Names that went away are remembered for events that are still on their way: so many of each. */
const REMEMBERED = 8192;
/** The two clocks drift apart: their distance is measured again after this many nanoseconds. */
const CLOCK_NS = 1_000_000_000;
const NOBODY = {};

export class Enricher {
  readonly #opts: Required<EnricherOptions>;
  readonly #uuidHead: string;
  #sequence = 0;
  #known: Known | undefined;
  #stale = true;
  #byIp = new Map<string, Who>();
  #byPod = new Map<string, Who>();
  #services = new Map<string, { namespace: string; name: string }>();
  #podsSeen: Snapshot['pods'] | undefined;
  readonly #goneIps = new Map<string, Who>();
  readonly #goneRules = new Map<number, RuleRef>();
  readonly #goneEndpoints = new Map<number, Who>();
  readonly #node: Who;
  #offset = 0n;
  #offsetAt = Number.NEGATIVE_INFINITY;

  constructor(opts: EnricherOptions) {
    this.#opts = {
      wallClock: () => BigInt(Date.now()) * 1_000_000n,
      monoNs: () => process.hrtime.bigint(),
      ...opts,
    };
    this.#node = { kind: 'node', namespace: '', pod: '', labels: NOBODY, node: opts.nodeName };
    const r = randomBytes(10).toString('hex');
    // RFC 9562, version 8: the layout of the bits is ours.
    this.#uuidHead = `${r.slice(0, 8)}-${r.slice(8, 12)}-8${r.slice(12, 15)}-8${r.slice(15, 18)}-`;
  }

  /** Takes over what is known now. Costs nothing until an event comes. */
  update(known: Known): void {
    const before = this.#known;
    if (before && before.rules !== known.rules) {
      for (const [id, ref] of before.rules) if (!known.rules.has(id)) remember(this.#goneRules, id, ref);
    }
    if (before) {
      for (const [id, e] of before.endpoints) {
        if (known.endpoints.has(id)) continue;
        const who = this.#byPod.get(e.pod);
        if (who) remember(this.#goneEndpoints, id, who);
      }
    }
    this.#known = known;
    this.#stale = true;
  }

  enrich(event: FlowEvent): Flow {
    if (this.#stale) this.#index();
    const ports = hasPorts(event.protocol) || event.protocol === 33 || event.protocol === 136;
    const local: Party = { ip: event.local, port: ports ? event.localPort : 0, ...this.#endpoint(event) };
    const remote: Party = { ip: event.remote, port: ports ? event.remotePort : 0, ...this.#address(event.remote) };
    // Out of the endpoint: what it opened and no reply, or a reply to what was opened to it.
    const out = event.type === 'end' ? !event.inbound : event.inbound === event.isReply;
    const asked = event.service === '' ? event.remote : event.service;
    const service = event.inbound ? undefined : this.#services.get(asked);
    return {
      uuid: this.#uuidHead + (++this.#sequence).toString(16).padStart(12, '0'),
      timeNs: this.#wall(event.timeNs),
      event,
      source: out ? local : remote,
      destination: out ? remote : local,
      ...(service ? { service } : {}),
      ...this.#rule('rule', event.rule),
      ...this.#rule('auditRule', event.auditRule),
      nodeName: this.#opts.nodeName,
    };
  }

  #rule(field: 'rule' | 'auditRule', id: number): { rule?: RuleRef; auditRule?: RuleRef } {
    if (id === 0) return NOBODY;
    const ref = this.#known?.rules.get(id) ?? this.#goneRules.get(id);
    return ref ? { [field]: ref } : NOBODY;
  }

  #endpoint(event: FlowEvent): Who {
    const endpoint = this.#known?.endpoints.get(event.endpoint);
    if (!endpoint) return this.#goneEndpoints.get(event.endpoint) ?? this.#address(event.local);
    if (endpoint.pod === '') return this.#node;
    return this.#byPod.get(endpoint.pod) ?? this.#address(event.local);
  }

  #address(ip: string): Who {
    return this.#byIp.get(ip) ?? this.#goneIps.get(ip) ?? WORLD;
  }

  #wall(mono: number): bigint {
    if (mono - this.#offsetAt > CLOCK_NS || mono < this.#offsetAt - CLOCK_NS) {
      this.#offset = this.#opts.wallClock() - this.#opts.monoNs();
      this.#offsetAt = mono;
    }
    return BigInt(mono) + this.#offset;
  }

  #index(): void {
    this.#stale = false;
    const snapshot = this.#known?.snapshot;
    if (!snapshot) return;
    const before = this.#byIp;
    const byIp = new Map<string, Who>();
    const byPod = new Map<string, Who>();
    this.#services = new Map();
    for (const s of snapshot.services.values()) {
      const name = { namespace: s.namespace, name: s.name };
      for (const vip of s.vips) {
        this.#services.set(vip, name);
        byIp.set(vip, { kind: 'service', namespace: s.namespace, pod: '', labels: NOBODY });
      }
    }
    for (const [key, pod] of snapshot.pods) {
      // A pod that did not change keeps its entry: most of a cluster, most of the time.
      const who = this.#podsSeen?.get(key) === pod ? (this.#byPod.get(key) ?? whoIs(pod)) : whoIs(pod);
      byPod.set(key, who);
      if (!pod.hostNetwork && !pod.ended) for (const ip of pod.ips) byIp.set(ip, who);
    }
    for (const node of snapshot.nodes.values()) {
      const who: Who = { kind: 'node', namespace: '', pod: '', labels: node.labels, node: node.name };
      for (const ip of node.ips) byIp.set(ip, who);
    }
    for (const ip of snapshot.ownNode.ips) byIp.set(ip, this.#node);
    for (const [ip, who] of before) if (!byIp.has(ip)) remember(this.#goneIps, ip, who);
    this.#byIp = byIp;
    this.#byPod = byPod;
    this.#podsSeen = snapshot.pods;
  }
}

const WORLD: Who = { kind: 'world', namespace: '', pod: '', labels: NOBODY };

function whoIs(pod: Pod): Who {
  return {
    kind: 'pod',
    namespace: pod.namespace,
    pod: pod.name,
    labels: pod.labels,
    ...(pod.workload ? { workload: pod.workload } : {}),
    ...(pod.nodeName === '' ? {} : { node: pod.nodeName }),
  };
}

/** Bounded: the oldest goes. */
function remember<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
  if (map.size > REMEMBERED) map.delete(map.keys().next().value as K);
}
