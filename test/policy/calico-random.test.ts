/** Random Calico objects: they are understood without an exception, mangled ones too, and evaluate and simulate agree on them. */
import t from 'tap';
import { calico } from '../../src/dialects/calico/index.js';
import { toIr } from '../../src/dialects/index.js';
import type { RawPolicy } from '../../src/identity/snapshot.js';
import { comparable, Evaluate, Simulate } from '../engines/engine.js';
import { type Random, seeded } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';

const random = seeded();
const NETS = [
  '10.0.0.0/8',
  '10.244.0.0/24',
  '10.244.0.2/31',
  '192.0.2.0/24',
  '192.0.2.128/25',
  '2001:db8::/32',
  '0.0.0.0/0',
  '::/0',
  '10.244.0.3',
];
const SELECTORS = [
  '',
  'all()',
  "app == 'web'",
  "app != 'db'",
  '!has(app)',
  "app in {'web','ops'}",
  "role == 'x'",
  "app starts with 'w' || role == 'y'",
  "projectcalico.org/namespace == 'other'",
  "pcns.env == 'prod'",
];
const SPACES = ['all()', 'global()', "env == 'prod'", "env != 'prod'", "projectcalico.org/name == 'other'"];

const list = <T>(r: Random, of: readonly T[], max: number) =>
  Array.from({ length: 1 + r.below(max) }, () => r.pick(of));

function entity(r: Random, ports: boolean): object {
  return {
    ...(r.chance(35) ? { nets: list(r, NETS, 3) } : {}),
    ...(r.chance(20) ? { notNets: list(r, NETS, 2) } : {}),
    ...(r.chance(35) ? { selector: r.pick(SELECTORS) } : {}),
    ...(r.chance(15) ? { notSelector: r.pick(SELECTORS) } : {}),
    ...(r.chance(20) ? { namespaceSelector: r.pick(SPACES) } : {}),
    ...(r.chance(8) ? { serviceAccounts: { names: ['default'] } } : {}),
    ...(ports && r.chance(50) ? { ports: list(r, [80, '79:81', 443, 'http', '0:65535'], 2) } : {}),
    ...(ports && r.chance(25) ? { notPorts: list(r, [80, '1000:2000', 'http'], 2) } : {}),
  };
}

function rule(r: Random): object {
  const protocol = r.pick(['TCP', 'UDP', 'SCTP', 'ICMP', 'ICMPv6', 47, undefined]);
  const icmp = protocol === 'ICMP' || protocol === 'ICMPv6';
  const source = r.chance(15) ? { selector: r.pick(SELECTORS) } : undefined;
  return {
    action: r.pick(['Allow', 'Allow', 'Deny', 'Pass', 'Log']),
    ...(protocol === undefined ? {} : { protocol }),
    ...(r.chance(10) ? { notProtocol: r.pick(['TCP', 47]) } : {}),
    ...(icmp && r.chance(50) ? { icmp: { type: r.pick([8, 3, 128]) } } : {}),
    ...(icmp && r.chance(30) ? { notICMP: { type: 8, code: 1 } } : {}),
    ...(!icmp && r.chance(15) ? { ipVersion: r.pick([4, 6]) } : {}),
    ...(source ? { source } : {}),
    destination: entity(r, protocol === 'TCP' || protocol === 'UDP' || protocol === 'SCTP'),
  };
}

function raw(kind: string, name: string, namespace: string | undefined, labels: object, spec: object): RawPolicy {
  const apiVersion = 'projectcalico.org/v3';
  const object = { apiVersion, kind, metadata: { name, namespace, labels }, spec };
  return {
    apiVersion,
    kind,
    name,
    ...(namespace ? { namespace } : {}),
    object,
    where: { file: 'random.yaml' },
  } as RawPolicy;
}

function objects(r: Random): RawPolicy[] {
  const out = [raw('Tier', 'first', undefined, {}, { order: 5, defaultAction: r.pick(['Pass', 'Deny']) })];
  for (let n = 0; n < r.below(3); n++) {
    const kind = r.pick(['GlobalNetworkSet', 'NetworkSet']);
    const space = kind === 'NetworkSet' ? r.pick(['default', 'other']) : undefined;
    out.push(raw(kind, `s${n}`, space, { role: r.pick(['x', 'y']) }, { nets: list(r, NETS, 3) }));
  }
  for (let n = 0; n < 1 + r.below(4); n++) {
    const kind = r.pick(['NetworkPolicy', 'GlobalNetworkPolicy', 'GlobalNetworkPolicy', 'StagedGlobalNetworkPolicy']);
    const space = kind === 'NetworkPolicy' ? r.pick(['default', 'other']) : undefined;
    const egress = Array.from({ length: r.below(5) }, () => rule(r));
    out.push(
      raw(
        kind,
        `p${n}`,
        space,
        {},
        {
          ...(r.chance(30) ? { tier: 'first' } : {}),
          ...(r.chance(50) ? { order: r.below(3) } : {}),
          selector: r.pick(SELECTORS),
          types: ['Egress'],
          egress,
        },
      ),
    );
  }
  return out;
}

/** The object with something in it replaced or added. */
function mangled(r: Random, value: unknown): unknown {
  const junk = [null, 0, -1, 1e9, '', 'x', [], {}, true, ['x'], { a: 1 }, '((', Number.NaN];
  if (r.chance(12)) return r.pick(junk);
  if (Array.isArray(value)) return value.map((v) => mangled(r, v));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([k, v]) => [k, mangled(r, v)]);
  if (r.chance(5)) entries.push([r.pick(['selecter', '__proto__', 'toString']), r.pick(junk)]);
  return Object.fromEntries(entries);
}

t.test(`evaluate and simulate agree, FUZZ_SEED=${random.seed}`, async (t) => {
  const engines = [new Evaluate(), new Simulate()] as const;
  const verdicts: Record<string, number> = {};
  for (let n = 0; n < 150; n++) {
    const { snapshot: bare } = randomWorld(random);
    const policies = objects(random);
    const snapshot = { ...bare, policies };
    const { ir } = toIr(snapshot);
    for (const e of engines) e.use({ ir, snapshot });
    for (let i = 0; i < 60; i++) {
      const packet = randomPacket(random, snapshot);
      const [a, b] = engines.map((e) => e.judge(packet)) as [
        ReturnType<Evaluate['judge']>,
        ReturnType<Evaluate['judge']>,
      ];
      verdicts[a.verdict] = (verdicts[a.verdict] ?? 0) + 1;
      if (JSON.stringify(comparable(a, packet)) === JSON.stringify(comparable(b, packet))) continue;
      t.same(
        comparable(b, packet),
        comparable(a, packet),
        JSON.stringify({ seed: random.seed, packet, policies: policies.map((p) => p.object) }),
      );
      return;
    }
  }
  t.ok((verdicts.allow ?? 0) > 500 && (verdicts.deny ?? 0) > 500, JSON.stringify(verdicts));
});

t.test('mangled objects close, and never throw', async (t) => {
  let faulty = 0;
  for (let n = 0; n < 4000; n++) {
    const all = objects(random).map((o) => ({ ...o, object: mangled(random, o.object) as RawPolicy['object'] }));
    const readable = all.filter((o) => typeof o.object === 'object' && o.object !== null);
    const supporting = readable.filter((o) => calico.supports?.(o));
    for (const o of supporting) calico.check?.(o);
    for (const o of readable.filter((p) => calico.claims(p))) {
      const { policies, faults, good } = calico.understand(o, supporting);
      if (!good) faulty++;
      if (good !== !faults.some((f) => f.severity === 'error')) t.fail('good means without errors');
      for (const { policy } of policies) {
        for (const r of policy.rules) if (r.action !== r.ref.action) t.fail('a rule does what it is called');
      }
    }
  }
  t.ok(faulty > 1000, `${faulty} had errors`);
});
