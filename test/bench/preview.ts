/** A change of policies that is not made: what it would do to the flows that were seen, and to all others. */
import { type EdgeHistory, type EdgeParty, NOBODY } from '../../src/edges/edge.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import type { ParsedObject } from '../../src/identity/fields.js';
import { preview } from '../../src/tools/policies/preview.js';
import { makeEdge } from '../edges/given.js';
import { atMost, median, percentile, progress, type Result } from './result.js';

const [NAMESPACES, WORKLOADS, REPLICAS, NODES, EDGES] = [50, 1000, 3, 30, 20_000];
const ROUNDS = 11;

export async function previews(): Promise<Result[]> {
  const snapshot = buildSnapshot(objects(), { nodeName: 'n0', ownNodeIps: [] });
  const evidence = edges();
  const hearing = { verifyNames: 'audit', quic: 'inspect' } as const;
  const ask = (manifests: string, expected: number) => {
    const took: number[] = [];
    let changed = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      const answer = preview({
        snapshot,
        hearing,
        change: { manifests, deleted: [], enforceStaged: false },
        evidence,
        limit: 0,
      });
      took.push(performance.now() - start);
      changed = (answer.opened ?? 0) + (answer.closed ?? 0);
    }
    if (changed < expected) throw new Error(`only ${changed} edges change`);
    progress(`${changed} edges change: ${took.map((ms) => ms.toFixed(0)).join(' ')} ms`);
    return { took, changed };
  };
  const one = ask(JSON.stringify(policy('ns0', 'p1', [{ to: [{ podSelector: {} }] }])), 1);
  const all = ask(
    JSON.stringify({
      apiVersion: 'projectcalico.org/v3',
      kind: 'GlobalNetworkPolicy',
      metadata: { name: 'all' },
      spec: { order: 1, types: ['Egress'], egress: [{ action: 'Deny', destination: { nets: ['192.0.2.0/25'] } }] },
    }),
    1000,
  );
  const size = `${EDGES} edges, ${WORKLOADS * REPLICAS} pods, ${NAMESPACES * 4} policies`;
  const text = ({ took, changed }: typeof one) =>
    `${changed} edges change; median of ${ROUNDS}, p90 ${percentile(took, 90).toFixed(0)} ms`;
  return [
    atMost('preview of one policy, answer', median(one.took), 'ms', `${size}; ${text(one)}`, 400),
    atMost('preview of a policy for every pod, answer', median(all.took), 'ms', `${size}; ${text(all)}`, 2000),
  ];
}

function policy(namespace: string, name: string, egress: object[]): object {
  const spec = { podSelector: { matchLabels: { half: '0' } }, policyTypes: ['Egress'], egress };
  return { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace, name }, spec };
}

const nameOf = (n: number) => ({ namespace: `ns${n % NAMESPACES}`, name: `w${n}` });
const ipOf = (n: number, replica: number) => `10.${replica}.${n >> 8}.${n & 255}`;

function objects(): ParsedObject[] {
  const all: object[] = [];
  for (let n = 0; n < NODES; n++)
    all.push({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: `n${n}` },
      status: { addresses: [{ type: 'InternalIP', address: `172.16.0.${n + 1}` }] },
    });
  for (let n = 0; n < NAMESPACES; n++) {
    all.push({ apiVersion: 'v1', kind: 'Namespace', metadata: { name: `ns${n}` } });
    for (let i = 0; i < 4; i++)
      all.push(
        policy(`ns${n}`, `p${i}`, [
          {
            to: [
              { podSelector: {} },
              { namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': `ns${(n + i) % NAMESPACES}` } } },
            ],
          },
          { to: [{ ipBlock: { cidr: '192.0.2.0/24' } }], ports: [{ port: 443, protocol: 'TCP' }] },
        ]),
      );
  }
  for (let n = 0; n < WORKLOADS; n++) {
    const { namespace, name } = nameOf(n);
    for (let replica = 0; replica < REPLICAS; replica++)
      all.push({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: {
          namespace,
          name: `${name}-${replica}`,
          labels: { app: name, half: '0' },
          ownerReferences: [{ kind: 'StatefulSet', name, controller: true }],
        },
        spec: { nodeName: `n${(n + replica) % NODES}`, containers: [] },
        status: { podIPs: [{ ip: ipOf(n, replica) }] },
      });
  }
  return all.map((object) => ({ object: object as ParsedObject['object'], where: {} }));
}

function edges(): EdgeHistory[] {
  const workload = (n: number): EdgeParty => ({ kind: 'workload', workloadKind: 'StatefulSet', ...nameOf(n) });
  return Array.from({ length: EDGES }, (_, n) => {
    const source = workload(n % WORKLOADS);
    const i = Math.floor(n / WORKLOADS);
    const ip = `192.0.2.${(n * 7 + i) % 256}`;
    const outside = i % 4 === 3;
    const called = (n + i) % WORKLOADS;
    const destination: EdgeParty = outside ? { ...NOBODY, kind: 'address', name: ip } : workload(called);
    const edge = makeEdge({ source, destination, address: outside ? ip : ipOf(called, 0) });
    const days = [{ day: 20_454, firstMs: 0, lastMs: n, connections: 1, bytes: 1, drops: 0, hours: 1 }];
    return { edge, days };
  });
}
