/** What an agent's server shows, of a cluster that is given instead of watched: everything but the kernel is real. */
import { join } from 'node:path';
import { PolicyServer } from '../../agent/serve/policies.js';
import type { InForceState } from '../../agent/endpoints/in-force.js';
import { toIr } from '../../src/dialects/index.js';
import { isPolicy } from '../../src/dialects/objects.js';
import type { EdgeFeed } from '../../src/edges/query.js';
import { AgentError, type Problem } from '../../src/errors.js';
import { explain } from '../../src/explain/explain.js';
import type { FlowHub } from '../../src/flow/hub/hub.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Learned } from '../../src/ir/packet.js';
import { senderOf, viewOf } from '../../src/ir/sender.js';
import { isStaged } from '../../src/staging/forms.js';
import { podAddresses } from '../../src/tools/places.js';
import { tryCanonicalAddr } from '../../src/net/addr.js';
import type { AgentStatus, AgentView, LearnedView, PolicyStatus } from '../../src/rpc/view.js';
import { VERSION } from '../../src/version.js';

const HEARING = { verifyNames: 'off', quic: 'inspect' } as const;

export interface GivenAgent {
  readonly snapshot: Snapshot;
  readonly edges: EdgeFeed & { readonly size?: number };
  readonly hub: FlowHub;
  /** Of its files. */
  readonly dir: string;
  readonly learned?: Learned;
  readonly names?: readonly LearnedView[];
  /** Where its status differs from that of an agent without troubles. */
  readonly status?: Partial<AgentStatus>;
  /** `namespace/name` of pods that have hooks. */
  readonly pods?: readonly string[];
}

/** Ends with `close()`. */
export interface GivenView extends AgentView {
  close(): void;
}

/** The view of such an agent. */
export function viewOfGiven(given: GivenAgent): GivenView {
  const { snapshot, edges, dir, learned, names = [] } = given;
  const { ir, problems: found } = toIr(snapshot, HEARING);
  const problems = [...snapshot.problems, ...found];
  const startedAt = Date.now();
  // What answers reads these parts of the state alone.
  const state = { snapshot, ir, problems, appliedAt: startedAt } as unknown as InForceState;
  const server = new PolicyServer(HEARING, join(dir, 'policy-ages'));
  server.applied(state);
  const policies = statesOf(snapshot, problems);
  return {
    edges,
    status: () => statusOf(given, policies, problems, startedAt),
    policies: () => policies,
    snapshot: () => snapshot,
    names: async ({ limit }) => ({ names: names.slice(0, limit), more: names.length > limit }),
    explain: ({ from, to: asked, port, protocol, query, said }) => {
      if (!senderOf(snapshot, from)) throw new AgentError('USAGE', `there is no pod ${from}`);
      const to = tryCanonicalAddr(asked) ?? podAddresses(snapshot, asked)[0];
      const more = { ...(query === undefined ? {} : { query }), ...(said ? { said } : {}) };
      return explain(ir, viewOf(snapshot, from), { from, to, port, protocol, ...more }, learned);
    },
    policyObjects: (request) => server.objects(request, state),
    preview: (request) => server.preview(request, state, edges),
    recommend: async (request) => server.recommend(request, state, edges),
    close: () => {
      server.close();
    },
  };
}

function statesOf(snapshot: Snapshot, problems: readonly Problem[]): PolicyStatus[] {
  return snapshot.policies.filter(isPolicy).map(({ kind, namespace = '', name, where }) => {
    const own = problems.filter((p) => p.where.object !== undefined && p.where.object === where.object);
    const state = own.some((p) => p.severity === 'error') ? 'refused' : 'in-force';
    return { kind, namespace, name, state, problems: own };
  });
}

function statusOf(
  { snapshot, edges, hub, pods = [], status = {} }: GivenAgent,
  policies: readonly PolicyStatus[],
  problems: readonly Problem[],
  startedAt: number,
): AgentStatus {
  const { flowsPerSecond, seenFlows, numFlows, queueLost, uptimeNs } = hub.stats();
  const refused = policies.filter((p) => p.state === 'refused').length;
  return {
    version: VERSION,
    nodeName: hub.nodeName,
    mode: 'manifests',
    source: '/manifests',
    pid: process.pid,
    startedAt,
    uptimeNs,
    attachMode: 'tcx',
    denyResponse: 'drop',
    endpoints: pods.map((pod, n) => ({
      pod,
      uid: snapshot.pods.get(pod)?.uid ?? '',
      interface: `veth${n}`,
      ifindex: n + 2,
      hooks: ['tcx ingress', 'tcx egress'],
      state: 'enforced',
      policies: 1,
      set: n + 1,
      unproven: 0,
      lostEvents: 0,
      flows: 0,
      names: 0,
      namesRefused: 0,
      answersUntrusted: 0,
    })),
    hooks: { attached: 2 * pods.length, expected: 2 * pods.length, problems: [] },
    policies: {
      inForce: policies.length - refused,
      staged: snapshot.policies.filter(({ object }) => isStaged(object)).length,
      refused,
      problems: [...problems],
    },
    epoch: 1,
    maps: [],
    flows: {
      perSecond: flowsPerSecond,
      seen: seenFlows,
      inTable: numFlows,
      share: 8192,
      notStored: 0,
      evicted: 0,
      busy: 0,
    },
    lost: { ring: [0], queue: queueLost },
    drops: {},
    staleness: { appliedAt: startedAt },
    namespaces: snapshot.namespaces.size,
    names: {
      ...{ names: 0, pages: 0, share: 512, pageShare: 1024, refused: 0, overflow: 0, untrusted: 0, seeded: 0 },
      ...{ resolvers: [], seen: [], dnsEventsLost: 0 },
    },
    said: {
      ...{ inspected: 0, judged: 0, denied: 0, pending: 0, oversize: 0, withoutBuffer: 0 },
      ...{ echWithoutRoom: 0, audited: 0, eventsLost: 0 },
    },
    ledger: {
      ...{ beganMs: edges.beganMs, edges: edges.size ?? edges.histories({}).length, max: 20_000 },
      ...{ overflow: edges.overflow, forgotten: 0 },
    },
    ...status,
  };
}
