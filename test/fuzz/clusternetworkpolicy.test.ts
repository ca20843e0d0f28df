/**
 * ClusterNetworkPolicies and their older shapes at random. What can be read means what a reading of the objects themselves says,
 * written here a second time and plainly; compiled, it means the same. What is mangled is understood without an exception,
 * and says what is in force.
 */
import t from 'tap';
import { toIr } from '../../src/dialects/index.js';
import { adminNetworkPolicy } from '../../src/dialects/clusternetworkpolicy/admin.js';
import { clusterNetworkPolicy } from '../../src/dialects/clusternetworkpolicy/index.js';
import type { Pod, RawPolicy, Snapshot } from '../../src/identity/snapshot.js';
import type { Packet } from '../../src/ir/packet.js';
import { cidrContains, parseAddr, parseCidr } from '../../src/net/addr.js';
import { NO_TUNNELS } from '../../src/net/tunnels.js';
import { Evaluate, Simulate } from '../engines/engine.js';
import { namespace, pod, policy, show, snapshotOf } from '../policy/world.js';
import {
  APPS,
  type Meant,
  type MeantPolicy,
  meantPolicy,
  type Selector,
  type Workloads,
  written,
} from './objects/admin.js';
import { type Random, seeded } from './random.js';
import { randomPacket } from './worlds.js';

const WORLDS = Number(process.env.FUZZ_WORLDS ?? 150);
const PACKETS = 80;
const random = seeded();

const NUMBERS: Record<string, number> = { tcp: 6, udp: 17, sctp: 132 };

function selects(selector: Selector | undefined, labels: Readonly<Record<string, string>>): boolean {
  const { matchLabels = {}, matchExpressions = [] } = selector ?? {};
  return (
    Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
    matchExpressions.every(({ key, operator, values = [] }) => {
      const has = labels[key] !== undefined;
      if (operator === 'Exists') return has;
      if (operator === 'DoesNotExist') return !has;
      return operator === 'In'
        ? has && values.includes(labels[key] as string)
        : !values.includes(labels[key] as string);
    })
  );
}

function holds({ namespaces, pods }: Workloads, pod: Pod, snapshot: Snapshot): boolean {
  if (pod.hostNetwork || pod.ended) return false;
  const labels = snapshot.namespaces.get(pod.namespace)?.labels ?? {};
  if (namespaces) return selects(namespaces, labels);
  return selects(pods?.namespaceSelector, labels) && selects(pods?.podSelector, pod.labels);
}

function matches(rule: Meant, aws: boolean, packet: Packet, snapshot: Snapshot): boolean {
  const there = [...snapshot.pods.values()].filter((p) => !p.hostNetwork && !p.ended && p.ips.includes(packet.to));
  const peer = rule.to.some(({ nodes, networks, ...pods }) => {
    if (networks) return networks.some((n) => cidrContains(parseCidr(n), parseAddr(packet.to)));
    if (nodes) return [...snapshot.nodes.values()].some((n) => n.ips.includes(packet.to) && selects(nodes, n.labels));
    return there.some((p) => holds(pods, p, snapshot));
  });
  if (!peer || !rule.ports) return peer;
  if (packet.fragment) return false;
  return rule.ports.some(({ protocol, range, named }) => {
    if (range)
      return NUMBERS[protocol as string] === packet.protocol && packet.port >= range[0] && packet.port <= range[1];
    if (aws && packet.protocol !== 6) return false;
    return there.some((p) =>
      p.ports.some((c) => c.name === named && c.protocol === packet.protocol && c.port === packet.port),
    );
  });
}

/** What these policies say: nothing where no rule decides. The NetworkPolicy, if there is one, isolates default/* entirely. */
function reading(policies: readonly MeantPolicy[], isolated: boolean, snapshot: Snapshot, packet: Packet): string {
  const sender = snapshot.pods.get(packet.from);
  if (!sender || sender.hostNetwork || sender.ended) return 'allow';
  const kinds = { cnp: 'cnp', aws: 'cnp', article: 'cnp', anp: 'anp', banp: 'banp' };
  for (const tier of ['Admin', 'NetworkPolicy', 'Baseline']) {
    if (tier === 'NetworkPolicy' && isolated && sender.namespace === 'default') {
      const free =
        sender.ips.includes(packet.to) ||
        [...snapshot.ownNode.ips, ...(snapshot.nodes.get(snapshot.ownNode.name)?.ips ?? [])].includes(packet.to);
      return free ? 'allow [np/*#node]' : 'deny [np/default/np#default]';
    }
    const sorted = policies
      .filter((p) => p.tier === tier)
      .sort((a, b) => a.priority - b.priority || (a.name < b.name ? -1 : 1));
    const rules = sorted
      .filter((p) => holds(p.subject, sender, snapshot))
      .flatMap((p) =>
        p.egress.map((rule, i) => ({ rule, aws: p.shape === 'aws', name: `${kinds[p.shape]}/${p.name}#${i}` })),
      );
    const first = rules.find(({ rule, aws }) => matches(rule, aws, packet, snapshot));
    if (first && first.rule.action !== 'Pass')
      return `${first.rule.action === 'Accept' ? 'allow' : 'deny'} [${first.name}]`;
  }
  return 'allow';
}

function cluster(r: Random): string {
  const node = (name: string, role: string, ...ips: string[]) =>
    `---\n${JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name, labels: r.chance(80) ? { role } : {} }, status: { addresses: ips.map((address) => ({ type: 'InternalIP', address })) } })}\n`;
  const docs = ['default', 'other'].map((name) =>
    namespace(name, r.chance(80) ? { env: r.pick(['prod', 'test']) } : {}),
  );
  docs.push(node('node-a', 'a', '192.168.0.1'), node('node-b', 'b', '192.168.0.2'));
  for (let n = 1; n <= 4; n++) {
    const ports = [
      { name: 'http', containerPort: r.pick([80, 8080]) },
      { name: 'dns', containerPort: 53, protocol: r.pick(['UDP', 'TCP']) },
    ];
    const more = {
      containers: [{ name: 'c', ports: r.some(ports, 2).filter((p, i, all) => all.indexOf(p) === i) }],
      ...(r.chance(5) ? { hostNetwork: true } : {}),
    };
    const ips = r.chance(50) ? [`10.244.0.${n}`, `fd00::${n}`] : [`10.244.0.${n}`];
    docs.push(pod(`${r.chance(70) ? 'default' : 'other'}/p${n}`, ips, r.chance(85) ? { app: r.pick(APPS) } : {}, more));
  }
  return docs.join('');
}

t.test(`random policies mean what they say, FUZZ_SEED=${random.seed}`, async (t) => {
  const engines = [new Evaluate(), new Simulate()];
  const seen: Record<string, number> = {};
  for (let n = 0; n < WORLDS; n++) {
    const policies = Array.from({ length: 1 + random.below(6) }, (_, i) => meantPolicy(random, i)).filter(
      (p, i, all) => all.findIndex((q) => q.name === p.name) === i,
    );
    const isolated = random.chance(40);
    const text =
      cluster(random) +
      policies.map((p) => `---\n${JSON.stringify(written(p))}\n`).join('') +
      (isolated ? policy('default/np', { podSelector: {}, policyTypes: ['Egress'] }) : '');
    // What nodes unwrap is denied before any rule; here it is about the rules.
    const snapshot = { ...snapshotOf(text), tunnels: NO_TUNNELS };
    const { ir, problems } = toIr(snapshot);
    if (problems.length + snapshot.problems.length > 0) {
      t.same(
        [...snapshot.problems, ...problems],
        [],
        `FUZZ_SEED=${random.seed}: what is right has no problems\n${text}`,
      );
      return;
    }
    for (const engine of engines) engine.use({ ir, snapshot });
    for (let i = 0; i < PACKETS; i++) {
      const packet = randomPacket(random, snapshot);
      const expected = reading(policies, isolated, snapshot, packet);
      seen[expected.split(/[/ ]/)[0] as string] = (seen[expected.split(/[/ ]/)[0] as string] ?? 0) + 1;
      for (const engine of engines) {
        const found = show(ir, engine.judge(packet));
        if (found === expected) continue;
        t.comment(`${text}\n${JSON.stringify(packet)}`);
        t.equal(found, expected, `FUZZ_SEED=${random.seed}: ${engine.name}`);
        return;
      }
    }
  }
  t.ok((seen.allow ?? 0) > 1000 && (seen.deny ?? 0) > 1000, `both verdicts are common: ${JSON.stringify(seen)}`);
});

/** Something else in the place of a part of the value. */
function mangle(r: Random, value: unknown): unknown {
  if (r.chance(12))
    return r.pick<unknown>([null, '', 'x', 0, -1, 1.5, true, [], {}, [null], { x: 1 }, '10.0.0.0/33', Number.NaN]);
  if (Array.isArray(value)) {
    const at = r.below(value.length + 1);
    if (r.chance(10)) return value.filter((_, i) => i !== at);
    return value.map((v, i) => (i === at ? mangle(r, v) : v));
  }
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value);
  const at = r.below(entries.length + 1);
  if (r.chance(10)) return Object.fromEntries(entries.filter((_, i) => i !== at));
  if (r.chance(6))
    return {
      ...value,
      [r.pick(['x', 'nodes', 'domainNames', 'namespaces', 'ports', 'constructor'])]: r.pick<unknown>([
        {},
        ['a.com'],
        5,
      ]),
    };
  return Object.fromEntries(entries.map(([k, v], i) => [k, i === at ? mangle(r, v) : v]));
}

t.test(`mangled policies are understood all the same, FUZZ_SEED=${random.seed}`, async (t) => {
  let broken = 0;
  for (let n = 0; n < WORLDS * 60; n++) {
    const whole = written(meantPolicy(random, n));
    const { apiVersion, kind } = whole as { apiVersion: string; kind: string };
    const mangled = { ...whole, spec: mangle(random, mangle(random, whole.spec)) };
    const raw: RawPolicy = { apiVersion, kind, name: 'p', object: mangled, where: {} };
    const dialect = clusterNetworkPolicy.claims(raw) ? clusterNetworkPolicy : adminNetworkPolicy;
    const said = JSON.stringify(mangled);
    try {
      const { policies, faults, good } = dialect.understand(raw, []);
      const errors = faults.filter((f) => f.severity === 'error');
      if (!good) broken++;
      const rules = policies.flatMap((p) => p.policy.rules);
      const faulty = new Set(
        errors.map((f) => /^spec\.egress\[(\d+)\]/.exec(f.field)?.[1]).filter((i) => i !== undefined),
      );
      const closed = [...faulty].every((i) => {
        const rule = rules.find((r) => r.ref.index === Number(i));
        if (rule?.action === 'allow') return rule.peers?.length === 0;
        return rules.length === 0 || (rule?.action === 'deny' && rule.peers === null && rule.ports === null);
      });
      const elsewhere = errors.some((f) => !f.field.startsWith('spec.egress[') && f.field.startsWith('spec'));
      const held = !elsewhere || rules.every((r) => r.action === 'deny' || r.peers?.length === 0);
      const effects = policies.length === 0 || errors.every((f) => f.effect !== undefined);
      if (good === (errors.length === 0) && closed && held && effects) continue;
      t.same({ good, closed, held, effects, faults }, {}, `FUZZ_SEED=${random.seed}: ${said}`);
      return;
    } catch (e) {
      t.error(e, `FUZZ_SEED=${random.seed}: ${said}`);
      return;
    }
  }
  t.ok(broken > WORLDS * 10, `${broken} could not be read entirely`);
});
