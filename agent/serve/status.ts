/** The agent's status for its clients: computed from its parts at each request. */
import type { LedgerKeeper } from '../ledger/keeper.js';
import type { Problem } from '../../src/errors.js';
import { formatProblem } from '../../src/errors.js';
import { isPolicy } from '../../src/dialects/index.js';
import type { Exports } from '../../src/export/exports.js';
import type { FlowHub } from '../../src/flow/hub/hub.js';
import type { Intake } from '../../src/flow/intake.js';
import { REASONS } from '../../src/flow/event/decode.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { tiersFor } from '../../src/ir/evaluate.js';
import { formatPolicy } from '../../src/ir/names.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import type { PolicyProblem } from '../../src/kube/events.js';
import type { ClusterSource } from '../../src/kube/source.js';
import { VERSION } from '../../src/version.js';
import type { AgentStatus, ClusterView, EndpointStatus, PolicyStatus } from '../../src/rpc/view.js';
import type { Attacher, HookState } from '../hooks/attach.js';
import type { FlowSweeper } from '../events/sweeper.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import type { Gate } from '../gate/gate.js';
import type { MapCounter } from '../maps/tables/counter.js';
import type { KernelMapStore } from '../maps/store.js';
import type { InForceState } from '../endpoints/in-force.js';
import type { RingReader } from '../events/ring.js';
import type { Seeder } from '../hooks/seed.js';
import type { Learning } from '../resolvers/learning.js';
import type { Shares } from '../events/shares.js';
import { sumOf } from './counters.js';
import type { FlowRoom } from './flow-room.js';
import type { NamesServer } from './names.js';
import { ledgerStatus } from './ledger.js';
import { saidStatus } from './said.js';

export interface StatusParts {
  readonly options: { readonly nodeName: string; readonly denyResponse: 'drop' | 'reject' };
  readonly source: {
    readonly mode: 'manifests' | 'cluster';
    readonly name: string;
    readonly cluster?: ClusterSource;
  };
  readonly reconciler: {
    readonly state: InForceState | undefined;
    readonly hookStates: readonly HookState[];
    readonly problems: readonly Problem[];
    readonly failingSince: number | undefined;
  };
  gate?: Gate;
  exports?: Exports;
  readonly attacher: Attacher;
  readonly store: KernelMapStore;
  readonly ring: RingReader;
  readonly dnsRing: RingReader;
  readonly shares: Shares;
  readonly seeder: Seeder;
  readonly sweeper: FlowSweeper;
  readonly room: FlowRoom;
  readonly namesServer: NamesServer;
  readonly names: Learning;
  readonly counter: MapCounter;
  readonly hub: FlowHub;
  readonly counters: BpfMap;
  readonly intake: Intake;
  readonly keeper: LedgerKeeper;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

export function agentStatus(parts: StatusParts): AgentStatus {
  const { options, source, attacher, store, reconciler, ring, sweeper, room, counter, names, hub, startedAt } = parts;
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
      staged: stagedCount(state),
      refused: policies.filter((p) => p.state === 'refused').length,
      problems: [...reconciler.problems, ...names.trusted.problems],
    },
    epoch: store.epoch,
    maps: [
      ...store.fill(),
      { name: 'flows', entries: sweeper.entries, max: sweeper.capacity },
      ...names.fill(),
      ...counter.fill(),
    ],
    flows: { perSecond: stats.flowsPerSecond, seen: stats.seenFlows, inTable: sweeper.entries, ...room.view() },
    lost: { ring: ring.lost(), queue: stats.queueLost },
    drops: dropCounts(parts.counters),
    staleness: {
      appliedAt: state?.appliedAt ?? 0,
      ...(reconciler.failingSince === undefined
        ? {}
        : { failingSince: reconciler.failingSince, lastError: lastError(reconciler.problems) }),
    },
    namespaces: state?.snapshot.namespaces.size ?? 0,
    names: parts.namesServer.status(parts.dnsRing.lost().reduce((sum, n) => sum + n, 0)),
    said: saidStatus(parts.counters, sweeper, parts.intake),
    ledger: ledgerStatus(parts.keeper),
    ...(source.cluster ? { cluster: clusterView(source.cluster) } : {}),
    ...(parts.gate ? { gate: parts.gate.view() } : {}),
    ...(parts.exports ? { exports: parts.exports.status() } : {}),
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

/** The problems of policy objects, each with its object. */
export function policyProblems({ snapshot, problems }: InForceState): PolicyProblem[] {
  const ofObjects = problems.filter((p) => p.where.object !== undefined);
  if (ofObjects.length === 0) return [];
  const policies = new Map(snapshot.policies.map((p) => [p.where.object, p]));
  return ofObjects.flatMap((problem) => {
    const policy = policies.get(problem.where.object);
    return policy ? [{ policy, problem }] : [];
  });
}

function lastError(problems: readonly Problem[]): string {
  const last = problems.at(-1);
  return last ? formatProblem(last) : '';
}

function endpointStatus(
  state: InForceState,
  { attacher, reconciler, seeder, shares, room, store, names }: StatusParts,
): EndpointStatus[] {
  const failed = new Set(
    reconciler.hookStates
      .filter((h) => h.state === 'failed' || h.state === 'gone')
      .map((h) => `${h.ifindex}/${h.direction}`),
  );
  return state.endpoints.map((b) => {
    const sender = b.kind === 'pod' ? b.key : NODE_SENDER;
    const set = state.image.endpoints.get(sender) ?? 0;
    const isJudged = b.kind === 'pod' || set !== 0;
    const directions = isJudged ? (['ingress', 'egress'] as const) : (['egress'] as const);
    const hooks = directions.filter((d) => attacher.hooked(b.ifindex, d) && !failed.has(`${b.ifindex}/${d}`));
    const senderPod = senderOf(state.snapshot, sender);
    const tiers = senderPod ? tiersFor(state.ir, state.snapshot, senderPod) : [];
    const slot = store.slotOf(b.ifindex);
    const held = slot === undefined ? undefined : names.table.holdings(slot);
    return {
      pod: b.key,
      uid: b.uid,
      interface: b.ifname,
      ifindex: b.ifindex,
      hooks: hooks.map((d) => `${attacher.mode} ${d}`),
      state: hooks.length < directions.length ? 'missing' : set === 0 ? 'observed' : 'enforced',
      policies: tiers.reduce((n, v) => n + v.selecting.length, 0),
      set,
      unproven: seeder.unproven(b.id),
      lostEvents: shares.lost(b.id),
      flows: room.holdings(b.ifindex),
      names: held?.names ?? 0,
      namesRefused: held?.refused ?? 0,
      answersUntrusted: held?.untrusted ?? 0,
    };
  });
}

/** Policy objects that are staged; one may be several policies, of several tiers. */
export function stagedCount(state: InForceState | undefined): number {
  const staged = (state?.ir.tiers ?? []).flatMap((tier) => tier.policies.filter((policy) => policy.staged));
  return new Set(staged.map(({ ref }) => formatPolicy(ref))).size;
}

/** The policy objects, and whether an error keeps one out of force. Objects that policies refer to are left out. */
export function policyStatus(state: InForceState | undefined, problems: readonly Problem[]): PolicyStatus[] {
  const byObject = new Map<string, Problem[]>();
  for (const p of problems) {
    const object = p.where.object ?? '';
    const list = byObject.get(object);
    if (list) list.push(p);
    else byObject.set(object, [p]);
  }
  return (state?.snapshot.policies ?? []).filter(isPolicy).map((policy) => {
    const ownProblems = byObject.get(policy.where.object ?? '') ?? [];
    return {
      kind: policy.kind,
      namespace: policy.namespace ?? '',
      name: policy.name,
      state: ownProblems.some((p) => p.severity === 'error') ? 'refused' : 'in-force',
      problems: ownProblems,
    };
  });
}

/** Dropped packets by reason, since the maps were created. */
function dropCounts(counters: BpfMap): Record<string, number> {
  const out: Record<string, number> = {};
  for (const [reason, name] of REASONS.entries()) {
    if (name === undefined) continue;
    const total = sumOf(counters, ENUMS.ea_counter.EA_COUNT_DROPS + reason);
    if (total > 0) out[name === 'rule' ? 'policy' : name] = total;
  }
  return out;
}
