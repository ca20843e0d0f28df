/**
 * Random clusters and flows: in every language, the policies that are printed allow what was seen and asked for, and
 * nothing else but what their language cannot tell apart. Judged by evaluate(), with the whole cluster, as the agent
 * would judge the staged policies themselves.
 */
import t from 'tap';
import fc from '../seeded.js';
import { policiesIn } from '../../src/convert/text.js';
import { toIr } from '../../src/dialects/index.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { Packet } from '../../src/ir/packet.js';
import { viewOf } from '../../src/ir/sender.js';
import { LANGUAGES, type Language } from '../../src/recommend/base/names.js';
import { recommend } from '../../src/recommend/index.js';
import { outside } from '../edges/given.js';
import { A_DAY, type GivenService, type GivenWorkload, on, OPTIONS, party, seen, snapshotOf } from './given.js';

const RUNS = 40;
const NODE = { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' }, ips: ['192.168.0.1'] };
const OTHER = { name: 'n2', labels: { 'kubernetes.io/hostname': 'n2' }, ips: ['192.168.0.2'] };
const PORTS = [80, 443, 5432, 8080] as const;

/** A workload has one to three pods, a label of its own, and some that others have too. */
const cluster = fc.array(fc.record({ pods: fc.integer({ min: 1, max: 3 }), tier: fc.integer({ min: 0, max: 2 }) }), {
  minLength: 3,
  maxLength: 6,
});

const flow = fc.record({
  from: fc.nat(),
  kind: fc.constantFrom('workload', 'service', 'name', 'address', 'node', 'icmp'),
  to: fc.nat(),
  port: fc.constantFrom(...PORTS),
  udp: fc.boolean(),
  days: fc.uniqueArray(fc.integer({ min: 0, max: 20 }), { minLength: 1, maxLength: 6 }),
  denied: fc.boolean(),
});
type Flow = typeof flow extends fc.Arbitrary<infer T> ? T : never;

interface Case {
  readonly snapshot: Snapshot;
  readonly histories: readonly EdgeHistory[];
  readonly names: readonly string[];
}

const spaceOf = (n: number) => ['shop', 'blog'][n % 2] as string;
const nameOf = (n: number) => `${spaceOf(n)}/w${n}`;
const ipOf = (n: number, pod: number) => `10.0.${n + 1}.${pod + 1}`;
const vipOf = (n: number) => `10.96.1.${n + 1}`;
const outsideOf = (n: number) => `203.0.113.${(n % 9) + 1}`;
/** All names lead to one front: the address alone does not tell them apart. */
const FRONT = '198.51.100.1';

function caseOf(sizes: readonly { pods: number; tier: number }[], flows: readonly Flow[]): Case {
  const workloads = sizes.map(
    ({ pods, tier }, n): GivenWorkload => ({
      name: nameOf(n),
      labels: { app: `w${n}`, tier: `t${tier}` },
      ips: Array.from({ length: pods }, (_, i) => ipOf(n, i)),
      nodeName: 'n1',
      own: (i) => ({ 'pod-template-hash': `h${i}` }),
    }),
  );
  const services = sizes.map(({ pods }, n): GivenService => {
    const backends = Array.from({ length: pods }, (_, i) => [ipOf(n, i), 8080] as const);
    return { name: nameOf(n), vip: vipOf(n), port: 80, backends };
  });
  const snapshot = snapshotOf({ workloads, services, nodes: [NODE, OTHER] });
  const histories = flows.map((f) => edgeOf(f, sizes.length));
  return { snapshot, histories, names: ['a.example.com', 'b.example.com', 'c.example.org'] };
}

function edgeOf(f: Flow, size: number): EdgeHistory {
  const source = party(nameOf(f.from % size));
  const to = f.to % size;
  const protocol = f.udp ? 17 : 6;
  const common = {
    source,
    port: f.port as number,
    protocol,
    verdict: f.denied ? ('deny' as const) : ('allow' as const),
  };
  const days = on(f.days);
  switch (f.kind) {
    case 'workload':
      return seen({ ...common, destination: party(nameOf(to)), address: ipOf(to, 0) }, days);
    case 'service': {
      const through = { service: nameOf(to), servicePort: 80, port: 8080, protocol: 6 };
      return seen({ ...common, destination: party(nameOf(to)), ...through, address: vipOf(to) }, days);
    }
    case 'name': {
      const name = ['a.example.com', 'b.example.com', 'c.example.org'][f.to % 3] as string;
      return seen({ ...common, destination: outside(name, 'name'), address: FRONT }, days);
    }
    case 'node': {
      const destination = { kind: 'node' as const, namespace: '', workloadKind: '', name: 'n2' };
      return seen({ ...common, destination, address: '192.168.0.2' }, days);
    }
    case 'icmp':
      return seen(
        { ...common, destination: outside(outsideOf(f.to)), port: 8 << 8, protocol: 1, address: outsideOf(f.to) },
        days,
      );
    default:
      return seen({ ...common, destination: outside(outsideOf(f.to)), address: outsideOf(f.to) }, days);
  }
}

/** What a workload may do: `address port protocol`, with a name after it where the address alone is not enough. */
function allowed(
  { histories, snapshot }: Case,
  language: Language,
  workload: string,
  withDenied: boolean,
): Set<string> {
  const out = new Set(['10.0.9.1', '10.0.9.2'].flatMap((ip) => [`${ip} 53 17`, `${ip} 53 6`]));
  const ipsOf = (name: string) =>
    [...snapshot.pods.values()].filter((p) => `${p.namespace}/${p.workload?.name}` === name).flatMap((p) => p.ips);
  const days = new Map<string, Set<number>>();
  const keyOf = ({ edge }: EdgeHistory) =>
    JSON.stringify([edge.destination, edge.service, edge.port, edge.protocol, edge.verdict === 'deny']);
  const own = histories.filter(({ edge }) => `${edge.source.namespace}/${edge.source.name}` === workload);
  for (const one of own) {
    const set = days.get(keyOf(one)) ?? new Set();
    for (const { day } of one.days) set.add(day);
    days.set(keyOf(one), set);
  }
  for (const one of own) {
    const { destination: d, port, protocol, verdict, address } = one.edge;
    const enough = (days.get(keyOf(one))?.size ?? 0) >= 2 && (verdict !== 'deny' || withDenied);
    if (!enough) continue;
    if (protocol === 1 && language !== 'calico' && language !== 'cilium') continue;
    if (d.kind === 'workload') for (const ip of ipsOf(`${d.namespace}/${d.name}`)) out.add(`${ip} ${port} ${protocol}`);
    else if (d.kind === 'name' && language !== 'networkpolicy') out.add(`${address} ${port} ${protocol} ${d.name}`);
    else out.add(`${address} ${port} ${protocol}`);
    // Of Cilium's policies for nodes, one part means the own node.
    if (d.kind === 'node' && language === 'cilium') out.add(`192.168.0.1 ${port} ${protocol}`);
  }
  return out;
}

for (const language of LANGUAGES) {
  t.test(`${language}: exactly what was seen`, (t) => {
    let packets = 0;
    let allows = 0;
    fc.assert(
      fc.property(cluster, fc.array(flow, { maxLength: 14 }), fc.boolean(), (sizes, flows, withDenied) => {
        const given = caseOf(sizes, flows);
        const options = { ...OPTIONS, language, withDenied };
        const result = recommend(given.histories, given.snapshot, options);
        const { policies, problems } = policiesIn(result.workloads.map(({ yaml }) => yaml).join(''));
        if (problems.length > 0) throw new Error(problems.join());
        const { ir, problems: faults } = toIr({ ...given.snapshot, policies });
        const bad = faults.filter(({ severity }) => severity === 'error');
        if (bad.length > 0) throw new Error(JSON.stringify(bad));
        for (const one of result.workloads) {
          const from = [...given.snapshot.pods.values()].find(
            (p) => `${p.namespace}/${p.workload?.name}` === one.workload,
          );
          const view = viewOf(given.snapshot, from ? `${from.namespace}/${from.name}` : '');
          if (!from || one.refused !== undefined) throw new Error(`${one.workload}: ${one.refused}`);
          if (one.replay.opened.length > 0) throw new Error('nothing was denied before');
          const may = allowed(given, language, one.workload, withDenied);
          for (const { packet, name } of probes(given, `${from.namespace}/${from.name}`)) {
            if (from.ips.includes(packet.to)) continue;
            const learned = new Map([[packet.from, new Map(name ? [[packet.to, [{ name }]]] : [])]]);
            const got = evaluate(ir, view, packet, learned);
            if (got.verdict !== 'allow') throw new Error('staged policies deny nothing');
            const key = `${packet.to} ${packet.port} ${packet.protocol}`;
            const own = language.includes('networkpolicy') || language === 'fqdn' ? packet.to === '192.168.0.1' : false;
            const expected = own || may.has(key) || (name !== undefined && may.has(`${key} ${name}`));
            packets++;
            if (expected) allows++;
            const is = (got.audit?.verdict ?? 'allow') === 'allow';
            if (is !== expected)
              throw new Error(
                `${one.workload} → ${key} ${name ?? ''}: ${got.audit?.verdict}, not ${expected}\n${one.yaml}`,
              );
          }
          for (const n of sizes.keys()) {
            const service = given.snapshot.services.get(nameOf(n));
            const packet = { from: `${from.namespace}/${from.name}`, to: vipOf(n), port: 80, protocol: 6 };
            if (service?.ports[0]?.backends.some(({ ip }) => from.ips.includes(ip))) continue;
            const is = evaluate(ir, view, packet).audit?.verdict === 'allow';
            if (is !== may.has(`${ipOf(n, 0)} 8080 6`)) throw new Error(`${one.workload} → Service ${nameOf(n)}`);
          }
        }
      }),
      { numRuns: RUNS },
    );
    t.ok(packets > 10_000 && allows > 500, `${packets} packets, ${allows} of them allowed`);
    t.end();
  });
}

/** All destinations and ports that there are, and some that nobody has asked for. */
function* probes({ snapshot, names }: Case, from: string): Generator<{ packet: Packet; name?: string }> {
  const ips = [...snapshot.pods.values()].flatMap((p) => p.ips);
  const outsides = Array.from({ length: 10 }, (_, n) => `203.0.113.${n + 1}`);
  for (const to of [...ips, ...outsides, FRONT, '192.168.0.1', '192.168.0.2', '8.8.8.8']) {
    yield { packet: { from, to, protocol: 1, port: 8 << 8 } };
    for (const protocol of [6, 17])
      for (const port of [53, ...PORTS, 81]) {
        const packet = { from, to, protocol, port, ...(port === 53 ? { query: 'x.example' } : {}) };
        yield { packet };
        if (to === FRONT) for (const name of [...names, 'd.example.com']) yield { packet, name };
      }
  }
}

t.test('the same evidence gives the same text, in whatever order it comes', (t) => {
  fc.assert(
    fc.property(
      cluster,
      fc.array(flow, { maxLength: 14 }),
      fc.constantFrom(...LANGUAGES),
      fc.infiniteStream(fc.nat()),
      (sizes, flows, language, random) => {
        const given = caseOf(sizes, flows);
        const shuffled = shuffle(given.histories, random).map(({ edge, days }) => ({
          edge,
          days: shuffle(days, random),
        }));
        const reversed: Snapshot = {
          ...given.snapshot,
          pods: new Map(shuffle([...given.snapshot.pods], random)),
          services: new Map(shuffle([...given.snapshot.services], random)),
          nodes: new Map(shuffle([...given.snapshot.nodes], random)),
        };
        const options = { ...OPTIONS, language, untilMs: (A_DAY + 25) * 86_400_000 };
        const [a, b] = [recommend(given.histories, given.snapshot, options), recommend(shuffled, reversed, options)];
        if (JSON.stringify(a) !== JSON.stringify(b)) throw new Error(`${JSON.stringify(a)}\n${JSON.stringify(b)}`);
      },
    ),
    { numRuns: 60 },
  );
  t.end();
});

function shuffle<T>(list: readonly T[], random: fc.Stream<number>): T[] {
  return list
    .map((one) => ({ one, at: random.next().value as number }))
    .sort((a, b) => a.at - b.at)
    .map(({ one }) => one);
}
