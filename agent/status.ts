/** The agent's state as its callers see it: made from the parts, anew for each question. */
import { readFileSync } from 'node:fs';
import type { Problem } from '../src/errors.js';
import { formatProblem } from '../src/errors.js';
import { isPolicy } from '../src/dialects/index.js';
import type { FlowHub } from '../src/flow/hub.js';
import { REASONS } from '../src/flow/decode.js';
import { ENUMS } from '../src/image/layout.gen.js';
import { tiersFor } from '../src/ir/evaluate.js';
import { NODE_SENDER, senderOf } from '../src/ir/sender.js';
import type { PolicyProblem } from '../src/kube/events.js';
import type { ClusterSource } from '../src/kube/source.js';
import type { AgentStatus, ClusterView, EndpointStatus, PolicyStatus } from '../src/rpc/view.js';
import type { Attacher } from './attach.js';
import type { FlowSweeper } from './flow-sweeper.js';
import type { BpfMap } from './libbpf/map.js';
import type { Gate } from './gate.js';
import type { MapCounter } from './map-counter.js';
import type { KernelMapStore } from './map-store.js';
import type { PolicySource } from './source.js';
import type { AgentOptions } from './options.js';
import type { InForceState, Reconciler } from './reconciler.js';
import type { RingReader } from './ring.js';

export interface StatusParts {
  readonly options: AgentOptions;
  readonly source: PolicySource;
  gate?: Gate;
  readonly attacher: Attacher;
  readonly store: KernelMapStore;
  readonly reconciler: Reconciler;
  readonly ring: RingReader;
  readonly sweeper: FlowSweeper;
  readonly counter: MapCounter;
  readonly hub: FlowHub;
  readonly counters: BpfMap;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

/** package.json stands beside `agent/` in the sources and beside `dist/` in a build. */
export const VERSION: string = (() => {
  for (const path of ['../package.json', '../../package.json']) {
    try {
      return (JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')) as { version: string }).version;
    } catch {
      // The other place.
    }
  }
  return 'unknown';
})();

export function agentStatus(parts: StatusParts): AgentStatus {
  const { options, source, attacher, store, reconciler, ring, sweeper, counter, hub, startedAt } = parts;
  const state = reconciler.state;
  const stats = hub.stats();
  const policies = policyStatus(state, reconciler.problems);
  const endpoints = state ? endpointStatus(state, parts) : [];
  const expected = endpoints.reduce((n, e) => n + (e.pod.startsWith('node/') ? 1 : 2), 0);
  return {
    version: VERSION,
    nodeName: options.nodeName,
    mode: source.mode,
    source: source.name,
    pid: process.pid,
    startedAt,
    uptimeNs: (Date.now() - startedAt) * 1e6,
    attachMode: attacher.mode,
    denyResponse: options.denyResponse,
    endpoints,
    hooks: {
      attached: endpoints.reduce((n, e) => n + e.hooks.length, 0),
      expected,
      problems: reconciler.hookStates
        .filter((h) => h.state === 'failed' || h.ahead.length > 0)
        .map((h) => `${h.ifname} ${h.direction}: ${h.error ?? `programs ahead of ours: ${h.ahead.join(', ')}`}`),
    },
    policies: {
      inForce: policies.filter((p) => p.state === 'in-force').length,
      refused: policies.filter((p) => p.state === 'refused').length,
      problems: [...reconciler.problems],
    },
    epoch: store.epoch,
    maps: [...store.fill(), { name: 'flows', entries: sweeper.entries, max: sweeper.capacity }, ...counter.fill()],
    flows: { perSecond: stats.flowsPerSecond, seen: stats.seenFlows, inTable: sweeper.entries },
    lost: { ring: ring.lost(), queue: stats.queueLost },
    drops: dropCounts(parts.counters),
    staleness: {
      appliedAt: state?.appliedAt ?? 0,
      ...(reconciler.failingSince === undefined
        ? {}
        : { failingSince: reconciler.failingSince, lastError: lastError(reconciler.problems) }),
    },
    namespaces: state?.snapshot.namespaces.size ?? 0,
    ...(source.cluster ? { cluster: clusterView(source.cluster) } : {}),
    ...(parts.gate ? { gate: parts.gate.view() } : {}),
  };
}

function clusterView(cluster: ClusterSource): ClusterView {
  return {
    synced: cluster.synced,
    staleSince: cluster.staleSince,
    error: cluster.lastError,
    kinds: cluster.kinds().map((k) => ({ ...k })),
  };
}

/** What is wrong with policy objects, each with its object. */
export function policyProblems({ snapshot, problems }: InForceState): PolicyProblem[] {
  const concerned = problems.filter((p) => p.where.object !== undefined);
  if (concerned.length === 0) return [];
  const policies = new Map(snapshot.policies.map((p) => [p.where.object, p]));
  return concerned.flatMap((problem) => {
    const policy = policies.get(problem.where.object);
    return policy ? [{ policy, problem }] : [];
  });
}

function lastError(problems: readonly Problem[]): string {
  const last = problems.at(-1);
  return last ? formatProblem(last) : '';
}

function endpointStatus(state: InForceState, { attacher, reconciler }: StatusParts): EndpointStatus[] {
  const failed = new Set(
    reconciler.hookStates
      .filter((h) => h.state === 'failed' || h.state === 'gone')
      .map((h) => `${h.ifindex}/${h.direction}`),
  );
  return state.endpoints.map((b) => {
    const sender = b.kind === 'pod' ? b.key : NODE_SENDER;
    const set = state.image.endpoints.get(sender) ?? 0;
    const both = b.kind === 'pod' || set !== 0;
    const directions = both ? (['ingress', 'egress'] as const) : (['egress'] as const);
    const hooks = directions.filter((d) => attacher.hooked(b.ifindex, d) && !failed.has(`${b.ifindex}/${d}`));
    const who = senderOf(state.snapshot, sender);
    const views = who ? tiersFor(state.ir, state.snapshot, who) : [];
    return {
      pod: b.key,
      uid: b.uid,
      interface: b.ifname,
      ifindex: b.ifindex,
      hooks: hooks.map((d) => `${attacher.mode} ${d}`),
      state: hooks.length < directions.length ? 'missing' : set === 0 ? 'observed' : 'enforced',
      policies: views.reduce((n, v) => n + v.selecting.length, 0),
      set,
    };
  });
}

/** Each policy object, and whether a problem of it keeps it out of force. What policies refer to is none. */
export function policyStatus(state: InForceState | undefined, problems: readonly Problem[]): PolicyStatus[] {
  const byObject = new Map<string, Problem[]>();
  for (const p of problems) {
    const object = p.where.object ?? '';
    const list = byObject.get(object);
    if (list) list.push(p);
    else byObject.set(object, [p]);
  }
  return (state?.snapshot.policies ?? []).filter(isPolicy).map((policy) => {
    const mine = byObject.get(policy.where.object ?? '') ?? [];
    return {
      kind: policy.kind,
      namespace: policy.namespace ?? '',
      name: policy.name,
      state: mine.some((p) => p.severity === 'error') ? 'refused' : 'in-force',
      problems: mine,
    };
  });
}

/** Dropped packets by reason, since the programs were loaded first. */
function dropCounts(counters: BpfMap): Record<string, number> {
  const out: Record<string, number> = {};
  const key = Buffer.alloc(4);
  for (const [reason, name] of REASONS.entries()) {
    if (name === undefined) continue;
    key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_DROPS + reason);
    const total = counters.lookupPerCpu(key).reduce((n, v) => n + Number(v.readBigUInt64LE(0)), 0);
    if (total > 0) out[name === 'rule' ? 'policy' : name] = total;
  }
  return out;
}
