/** Policies for a thousand workloads, from the evidence of 35 days: learned, written, read again and replayed, in the thread of an agent. */
import { AskThread, USUAL_LIMITS } from '../../agent/ask/thread.js';
import type { RecommendResponse } from '../../src/proto/edges.js';
import type { Recommendation } from '../../src/recommend/base/types.js';
import type { RecommendQuestion } from '../../src/recommend/request.js';
import type { Namespace, Pod, Service, Snapshot } from '../../src/identity/snapshot.js';
import {
  DAY_MS,
  type DayRow,
  type EdgeHistory,
  type EdgeParty,
  edgeId,
  edgeText,
  type Edge,
} from '../../src/edges/edge.js';
import { atMost, median, progress, type Result } from './result.js';

const [WORKLOADS, EDGES, DAYS, PODS, SPACES] = [1000, 20, 35, 3, 50] as const;
const FIRST = 20_454;
const ROUNDS = 3;

export async function recommendations(): Promise<Result[]> {
  const snapshot = world();
  const histories = evidence();
  const own = { beganMs: FIRST * DAY_MS, overflow: 0, histories };
  // As an agent is asked, but for its limit of time: what another machine takes is to be seen.
  const thread = new AskThread(new URL('../../agent/ask/jobs.js', import.meta.url).href, {
    ...USUAL_LIMITS,
    ms: 600_000,
  });
  const took: number[] = [];
  let edges = 0;
  for (let i = 0; i < ROUNDS; i++) {
    const begin = performance.now();
    const question: RecommendQuestion = { request: { dialect: 'cilium' }, own, snapshot };
    const answer = await thread.ask<RecommendResponse>('recommend', question);
    took.push((performance.now() - begin) / 1000);
    const result = JSON.parse(answer.json ?? '') as Recommendation;
    edges = result.workloads.reduce((sum, w) => sum + w.replay.edges, 0);
    const refused = result.workloads.filter((w) => w.refused !== undefined).length;
    if (refused > 0 || result.workloads.length !== WORKLOADS)
      throw new Error(`${refused} of ${result.workloads.length}`);
    progress(`recommend: ${took.at(-1)?.toFixed(1)} s, ${edges} edges replayed`);
  }
  const text = `${WORKLOADS} workloads, ${histories.length} edges, ${DAYS} days, ${edges} edges replayed; median of ${ROUNDS}, ${Math.min(...took).toFixed(1)} to ${Math.max(...took).toFixed(1)} s`;
  return [atMost('policies for 1,000 workloads, replayed', median(took), 's', text, 20)];
}

const nameOf = (n: number) => `app-${n}`;
const spaceOf = (n: number) => `team-${n % SPACES}`;
const ipOf = (n: number, pod: number) => `10.${pod + 1}.${n >> 8}.${n & 255}`;

function world(): Snapshot {
  const pods = new Map<string, Pod>();
  const services = new Map<string, Service>();
  const add = (namespace: string, name: string, labels: Record<string, string>, ips: string[]) =>
    ips.forEach((ip, i) => {
      const pod = `${name}-7d9c5b6f4-${i}`;
      pods.set(`${namespace}/${pod}`, {
        ...{ uid: `${namespace}/${pod}`, namespace, name: pod, annotations: {}, serviceAccount: 'default' },
        labels: { ...labels, 'pod-template-hash': '7d9c5b6f4' },
        ...{ ips: [ip], nodeName: '', hostNetwork: false, ended: false, ports: [] },
        workload: { kind: 'Deployment', name },
      });
    });
  for (let n = 0; n < WORKLOADS; n++) {
    const [namespace, name] = [spaceOf(n), nameOf(n)];
    const ips = Array.from({ length: PODS }, (_, i) => ipOf(n, i));
    add(namespace, name, { app: name, tier: `t${n % 3}` }, ips);
    const backends = ips.map((ip) => ({ ip, port: 8080 }));
    const vips = [`10.100.${n >> 8}.${n & 255}`];
    services.set(`${namespace}/${name}`, {
      namespace,
      name,
      labels: {},
      vips,
      ports: [{ protocol: 6, port: 80, backends }],
    });
  }
  const dns = ['10.9.0.1', '10.9.0.2'];
  add('kube-system', 'coredns', { 'k8s-app': 'kube-dns' }, dns);
  const at = [17, 6].map((protocol) => ({ protocol, port: 53, backends: dns.map((ip) => ({ ip, port: 53 })) }));
  const labels = { 'k8s-app': 'kube-dns' };
  services.set('kube-system/kube-dns', {
    namespace: 'kube-system',
    name: 'kube-dns',
    labels,
    vips: ['10.96.0.10'],
    ports: at,
  });
  const spaces = ['kube-system', ...Array.from({ length: SPACES }, (_, n) => spaceOf(n))];
  const namespaces = new Map<string, Namespace>(
    spaces.map((name) => [
      name,
      { name, labels: { 'kubernetes.io/metadata.name': name }, annotations: {}, terminating: false },
    ]),
  );
  return { pods, namespaces, nodes: new Map(), services, policies: [], ownNode: { name: '', ips: [] }, problems: [] };
}

function evidence(): EdgeHistory[] {
  const out: EdgeHistory[] = [];
  const days = Array.from({ length: DAYS }, (_, d): DayRow => {
    const firstMs = (FIRST + d) * DAY_MS + 1000;
    return {
      day: FIRST + d,
      firstMs,
      lastMs: firstMs + 80_000_000,
      connections: 1000,
      bytes: 1e7,
      drops: 0,
      hours: 0xff_ffff,
    };
  });
  const workload = (namespace: string, name: string): EdgeParty => ({
    kind: 'workload',
    namespace,
    workloadKind: 'Deployment',
    name,
  });
  const outside = (kind: 'name' | 'address', name: string): EdgeParty => ({
    kind,
    namespace: '',
    workloadKind: '',
    name,
  });
  for (let n = 0; n < WORKLOADS; n++) {
    const source = workload(spaceOf(n), nameOf(n));
    const edge = (given: Partial<Edge>, rows: readonly DayRow[] = days) => {
      const one = {
        ...{ source, destination: source, inbound: false, service: '', servicePort: 0, port: 443, protocol: 6 },
        ...{ verdict: 'allow' as const, auditVerdict: 'none' as const, reason: 'no-policy', address: '' },
        ...given,
      };
      out.push({ edge: { id: edgeId(edgeText(one)), ...one }, days: rows });
    };
    const dns = { service: 'kube-system/kube-dns', servicePort: 53, port: 53, address: '10.96.0.10' };
    edge({ destination: workload('kube-system', 'coredns'), protocol: 17, ...dns });
    for (let i = 1; i < EDGES - 8; i++) {
      const m = (n * 31 + i * 97) % WORKLOADS;
      const service = { service: `${spaceOf(m)}/${nameOf(m)}`, servicePort: 80, port: 8080 };
      edge({ destination: workload(spaceOf(m), nameOf(m)), ...service, address: `10.100.${m >> 8}.${m & 255}` });
    }
    for (let i = 0; i < 4; i++)
      edge({
        destination: outside('name', `api-${(n * 7 + i) % 300}.example.com`),
        address: `198.51.100.${(n + i) % 250}`,
      });
    for (let i = 0; i < 3; i++) {
      const ip = `203.0.${(n + i) % 100}.${i + 1}`;
      edge({ destination: outside('address', ip), port: 5432 + i, address: ip }, days.slice(i * 3));
    }
    const ip = `192.0.2.${n % 250}`;
    edge({ destination: outside('address', ip), address: ip }, days.slice(10, 11));
  }
  return out;
}
