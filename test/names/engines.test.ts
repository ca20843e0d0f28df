/** Rules that ask for names, as compiled: the rows of their classes, what is refused, and the same verdicts as evaluate(). */
import fc from '../seeded.js';
import t from 'tap';
import { Compiler } from '../../src/compile/index.js';
import { patternAtoms } from '../../src/image/names.js';
import { CLASS_UNASKED, CLASS_UNNAMED, classRow, fixedRows } from '../../src/image/rows.js';
import { simulate } from '../../src/image/simulate.js';
import type { PolicySet } from '../../src/image/types.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { explain } from '../../src/explain/explain.js';
import { outcomeOf } from '../../src/ir/outcome.js';
import type { Learned, LearnedName, Packet } from '../../src/ir/packet.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Action, Ir, IrPolicy, PortMatch, Rule, Tier } from '../../src/ir/types.js';
import { pod, snapshotOf } from '../policy/world.js';

const WEB = 'default/web';
const http = { containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80, protocol: 'TCP' }] }] };
const snapshot = snapshotOf(
  pod(WEB, '10.1.0.1', { app: 'web' }, http) + pod('default/db', '10.1.0.2', { app: 'db' }, http),
);

type Body = Pick<Rule, 'peers' | 'ports' | 'queries'> & { action?: Action; staged?: boolean };

function policyOf(name: string, bodies: readonly Body[], tier = 'one', staged = false): IrPolicy {
  const ref = { dialect: 'test', kind: 'Test', name };
  const rules = bodies.map(
    ({ action = 'allow', ...body }, index): Rule => ({
      ...body,
      action,
      ref: { policy: ref, index, tier, staged, action },
    }),
  );
  return { ref, subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } }, rules, staged };
}

function irOf(...tiers: (readonly IrPolicy[])[]): Ir {
  const names = ['one', 'two'];
  return {
    tiers: tiers.map(
      (policies, order): Tier => ({ name: names[order]!, order, defaultAction: order ? 'deny' : 'pass', policies }),
    ),
  };
}

function setOf(...bodies: Body[]): PolicySet {
  const image = new Compiler().compile(irOf([policyOf('p', bodies)]), snapshot, [WEB]);
  return image.sets.get(image.endpoints.get(WEB)!)!;
}

const names = (...patterns: string[]): Peer => ({ kind: 'names', patterns });
const aliases = (...patterns: string[]): Peer => ({ kind: 'names', patterns, aliases: true });
const cidr = (cidr: string): Peer => ({ kind: 'cidr', cidr, except: [] });
const bits = (row: Uint32Array | undefined) => row && [...Array(12).keys()].filter((bit) => (row[0]! >> bit) & 1);

t.test('the bits of a rule', async (t) => {
  const shape = (...bodies: Body[]) =>
    setOf(...bodies)
      .rules.slice(0, -1)
      .map(({ atoms, exprs, names, queries }) => ({
        where: atoms === null ? 'any' : exprs ? 'expr' : atoms.length,
        ...(names && { names }),
        ...(queries && { queries }),
      }));
  t.same(
    shape({ peers: [cidr('10.0.0.0/8'), names('b', 'a', 'b'), cidr('11.0.0.0/8'), aliases('*.c')], ports: null }),
    [{ where: 1 }, { where: 'any', names: ['alias:*.c', 'name:a', 'name:b'] }],
  );
  const inside = (peer: Peer): Peer => ({ kind: 'all', of: [peer, { kind: 'not', of: cidr('10.0.0.0/8') }] });
  t.same(
    shape({ peers: [inside(names('a')), inside(names('b')), names('c')], ports: null }),
    [
      { where: 'expr', names: ['name:a', 'name:b'] },
      { where: 'any', names: ['name:c'] },
    ],
    'names with the same other conditions share a bit',
  );
  t.same(shape({ peers: [names()], ports: null }), [], 'no pattern matches nothing');
  t.same(shape({ peers: null, ports: null, queries: [] }), []);
  t.same(shape({ peers: null, ports: null, queries: ['b', 'a'] }), [{ where: 'any', queries: ['query:a', 'query:b'] }]);
  const named: PortMatch[] = [{ protocol: 6, named: 'http' }];
  t.same(shape({ peers: [names('a')], ports: named }), [], 'a port name belongs to pods');
  t.same(shape({ peers: [names('a'), cidr('10.1.0.0/16')], ports: named }), [{ where: 1 }]);
  t.same(shape({ peers: [names('a')], ports: [{ protocol: 6, notNamed: ['http'] }] }), [
    { where: 'any', names: ['name:a'] },
    { where: 'expr', names: ['name:a'] },
  ]);
});

t.test('rows of classes, and what a set says of itself', async (t) => {
  const set = setOf(
    { peers: [names('a.b')], ports: null },
    { peers: [cidr('10.0.0.0/8')], ports: null },
    { peers: [aliases('*.b'), names('c')], ports: null },
    { peers: null, ports: null, queries: ['a.b', '***'] },
  );
  t.same([set.names, set.queries], [true, true]);
  t.same(patternAtoms([set]), ['alias:*.b', 'name:a.b', 'name:c', 'query:***', 'query:a.b']);
  const fixed = new Map(fixedRows(set));
  t.same(bits(fixed.get(CLASS_UNNAMED)), [1, 3, 4]);
  t.same(bits(fixed.get(CLASS_UNASKED)), [0, 1, 2, 4]);
  t.same(bits(fixed.get(0)), [0, 2, 3, 4], 'every address may have a name');
  t.same(bits(classRow(set, ['@names', 'alias:*.b', 'name:a.b'])), [0, 1, 2, 3, 4]);
  t.same(bits(classRow(set, ['@names', 'alias:*.b'])), [1, 2, 3, 4]);
  t.equal(classRow(set, ['@names', 'name:x']), undefined, 'as an address without a name');
  t.equal(classRow(set, ['@names', 'query:a.b']), undefined);
  t.same(bits(classRow(set, ['@queries', 'query:***'])), [0, 1, 2, 3, 4]);
  t.equal(classRow(set, ['@queries', 'name:a.b']), undefined);
  const plain = setOf({ peers: [cidr('10.0.0.0/8')], ports: null });
  t.same([plain.names, plain.queries], [false, false]);
  t.same(
    fixedRows(plain).map(([id]) => id),
    [0],
  );
  t.equal(classRow(plain, ['@names', 'name:a.b']), undefined);
  t.equal(classRow(plain, ['@queries', 'query:a.b']), undefined);
});

t.test('the atoms of sets, whatever was put together before', async (t) => {
  const set = (...patterns: readonly string[]) => {
    const peers: Peer[] = [{ kind: 'names', patterns }];
    const image = new Compiler().compile(irOf([policyOf('a', [{ peers, ports: null }])]), snapshot, [WEB]);
    return [...image.sets.values()][0] as PolicySet;
  };
  const pattern = fc.constantFrom('a.b', '*.b', 'c.d', '**.d', 'x.y', 'z.z', '*.z', 'q.r');
  const lists = fc.array(fc.uniqueArray(pattern, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 12 });
  fc.assert(
    fc.property(lists, fc.array(fc.tuple(fc.nat(11), fc.uniqueArray(pattern, { minLength: 1 }))), (first, changes) => {
      const sets = first.map((patterns) => set(...patterns));
      for (const [at, patterns] of changes) {
        sets[at % (sets.length + 1)] = set(...patterns);
        const all = [...new Set(sets.flatMap((one) => one.rules.flatMap(({ names }) => names ?? [])))].sort();
        if (patternAtoms(sets).join() !== all.join()) throw new Error(`${patternAtoms(sets)} are not ${all}`);
      }
    }),
    { numRuns: 100 },
  );
  t.pass();
});

t.test('what a rule asks is part of the identity of its set', async (t) => {
  const ids = [
    setOf({ peers: [names('a')], ports: null }),
    setOf({ peers: [names('b')], ports: null }),
    setOf({ peers: [aliases('a')], ports: null }),
    setOf({ peers: null, ports: null }),
    setOf({ peers: null, ports: null, queries: ['a'] }),
    setOf({ peers: null, ports: null, queries: ['b'] }),
  ].map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length);
  t.equal(setOf({ peers: [names('a', 'b')], ports: null }).id, setOf({ peers: [names('b', 'a')], ports: null }).id);
});

t.test('what cannot be compiled is refused with its set', async (t) => {
  for (const peer of [
    names('UPPER'),
    { kind: 'not', of: names('a') },
    { kind: 'all', of: [names('a'), names('b')] },
    { kind: 'all', of: [{ kind: 'all', of: [names('a')] }] },
    { kind: 'some', of: [names('a')] },
  ] as Peer[]) {
    const image = new Compiler().compile(irOf([policyOf('p', [{ peers: [peer], ports: null }])]), snapshot, [WEB]);
    t.match(image.refused.get(WEB)?.reason, /cannot be compiled/, JSON.stringify(peer));
  }
});

t.test('patterns that blow up are refused with the sets that have them', async (t) => {
  const bad = Array.from({ length: 40 }, (_, i) => `*${i}a${i}*b${i}c*.example.com`);
  const only = (policy: IrPolicy, app: string): IrPolicy => ({
    ...policy,
    subject: { namespaces: { names: ['default'] }, pods: { op: 'in', key: 'app', values: [app] } },
  });
  const good = only(policyOf('good', [{ peers: [names('a.example.com')], ports: null }]), 'db');
  const compiler = new Compiler();
  const first = compiler.compile(irOf([good]), snapshot, [WEB, 'default/db']);
  t.equal(first.refused.size, 0);
  const ir = irOf([good, only(policyOf('bad', [{ peers: [names(...bad)], ports: null }]), 'web')]);
  const image = compiler.compile(ir, snapshot, [WEB, 'default/db']);
  t.same([...image.refused.keys()], [WEB]);
  t.match(
    image.refused.get(WEB)?.reason,
    /test\/bad: the patterns of names need more than \d+ states — most are due to \*/,
  );
  t.equal(image.endpoints.get('default/db'), first.endpoints.get('default/db'));
  t.equal(image.endpoints.get(WEB), 0, 'it keeps what it had');
});

// Few names and patterns, so that they meet.
const pattern = fc.constantFrom('a.x', '*.x', '*a.x', '**.x', 'b.*', '***', 'c.x', 'b.a.x');
const name = fc.constantFrom('', 'x', 'a.x', 'ba.x', 'b.a.x', 'c.x', 'b.y', 'a?.x');
const patterns = fc.uniqueArray(pattern, { minLength: 0, maxLength: 3 });
const block = fc.constantFrom('192.0.2.0/24', '192.0.2.1/32', '10.1.0.0/16', '0.0.0.0/0');
const address: fc.Arbitrary<Peer> = fc.oneof(
  block.map(cidr),
  fc.constant<Peer>({ kind: 'pods', namespaces: { names: ['default'] }, pods: { op: 'true' } }),
  block.map((b): Peer => ({ kind: 'not', of: cidr(b) })),
);
const asking: fc.Arbitrary<Peer> = fc.oneof(
  patterns.map((p) => names(...p)),
  patterns.map((p) => aliases(...p)),
);
const peer: fc.Arbitrary<Peer> = fc.oneof(
  address,
  asking,
  fc.tuple(asking, address).map(([a, b]): Peer => ({ kind: 'all', of: [b, a] })),
  fc.constant<Peer>({ kind: 'self' }),
);
const port: fc.Arbitrary<PortMatch> = fc.oneof(
  fc.constantFrom<PortMatch>(
    { protocol: 6 },
    { protocol: 17, ports: [[53, 53]] },
    { protocol: null, ports: [[53, 80]] },
    { protocol: 6, named: 'http' },
    { protocol: 6, notNamed: ['http'] },
  ),
);
/** No rule of a language has both the pod itself and port names. */
const peers = fc.array(peer, { maxLength: 3 });
const body: fc.Arbitrary<Body> = fc
  .record({
    action: fc.constantFrom<Action>('allow', 'allow', 'deny', 'pass', 'log'),
    peers: fc.oneof({ weight: 4, arbitrary: peers }, { weight: 1, arbitrary: fc.constant(null) }),
    ports: fc.oneof(fc.constant(null), fc.array(port, { minLength: 1, maxLength: 2 })),
    queries: fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: patterns }),
  })
  .map(({ peers, ports, ...rest }) => ({
    peers: ports?.some((p) => p.notNamed || p.named) ? (peers?.filter((p) => p.kind !== 'self') ?? null) : peers,
    ports,
    ...rest,
  }));
const tier = fc.tuple(fc.array(body, { maxLength: 4 }), fc.array(body, { maxLength: 3 }), fc.boolean());
const to = fc.constantFrom('192.0.2.1', '192.0.2.2', '198.51.100.1', '10.1.0.1', '10.1.0.2');
const learnedName = fc
  .tuple(name, fc.boolean())
  .map(([name, alias]): LearnedName => (alias ? { name, alias } : { name }));
const learned: fc.Arbitrary<Learned> = fc
  .array(fc.tuple(to, fc.array(learnedName, { maxLength: 3 })), { maxLength: 4 })
  .map((list) => new Map([[WEB, new Map(list)]]));
const packet: fc.Arbitrary<Packet> = fc
  .record({
    to,
    protocol: fc.constantFrom(6, 17, 1),
    port: fc.constantFrom(53, 79, 80, 81),
    query: fc.oneof(fc.constant(undefined), name),
    fragment: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary: fc.constant(true) }),
  })
  .map(({ query, fragment, ...rest }) => ({
    from: WEB,
    ...rest,
    ...(fragment ? { fragment } : query === undefined ? {} : { query }),
  }));

t.test('simulate() and explain() give the verdicts of evaluate()', async (t) => {
  let asked = 0;
  fc.assert(
    fc.property(tier, tier, learned, fc.array(packet, { minLength: 1, maxLength: 8 }), (one, two, learned, packets) => {
      const [ir1, ir2] = [one, two].map(([plain, staged, also], i) => [
        policyOf('p', plain, ['one', 'two'][i]),
        ...(also ? [policyOf('s', staged, ['one', 'two'][i], true)] : []),
      ]);
      const ir = irOf(ir1!, ir2!);
      const image = new Compiler().compile(ir, snapshot, [WEB]);
      for (const packet of packets) {
        const should = evaluate(ir, snapshot, packet, learned);
        const is = simulate(image, packet, ['10.1.0.1'], learned);
        if (JSON.stringify(sorted(is)) !== JSON.stringify(sorted(should)))
          throw new Error(`${JSON.stringify(packet)}: ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
        const explained = explain(ir, snapshot, packet, learned);
        const outcome = outcomeOf(ir, snapshot, packet, learned);
        if (JSON.stringify(explained.verdict) !== JSON.stringify(outcome)) throw new Error('explain');
        const rules = explained.targets[0]!.tiers.flatMap((x) => [...x.policies.flatMap((p) => p.rules), ...x.always]);
        const decides = rules.find((r) => r.result === 'decides');
        if (packet.to !== '10.1.0.1' && (decides !== undefined) !== (outcome.rule !== 0))
          throw new Error(`${decides?.rule} decides, says explain: ${JSON.stringify(packet)}`);
        if (packet.query !== undefined && should.rule !== 0) asked++;
      }
    }),
    { numRuns: 1500 },
  );
  t.ok(asked > 100, `${asked} queries were decided by a rule`);
});

function sorted(verdict: object): object {
  return Object.fromEntries(Object.entries(verdict).sort());
}

t.test('an explanation names the name', async (t) => {
  const ir = irOf(
    [],
    [
      policyOf(
        'p',
        [
          { peers: [names('api.example.com', '*.wild.example')], ports: [{ protocol: 6, ports: [[443, 443]] }] },
          {
            peers: null,
            ports: [
              { protocol: 17, ports: [[53, 53]] },
              { protocol: 6, ports: [[53, 53]] },
            ],
            queries: ['**.example'],
          },
        ],
        'two',
      ),
    ],
  );
  const known: Learned = new Map([
    [
      WEB,
      new Map([
        ['192.0.2.1', [{ name: 'x.wild.example' }]],
        ['192.0.2.2', [{ name: 'other.example' }, { name: 'api.example.com', alias: true }]],
      ]),
    ],
  ]);
  const why = (p: Omit<Packet, 'from'>, index: number) => {
    const { targets } = explain(ir, snapshot, { from: WEB, ...p }, known);
    const { text, why } = targets[0]!.tiers[1]!.policies[0]!.rules[index]!;
    return `${text}: ${why}`;
  };
  const text = 'allow to names api.example.com, *.wild.example on TCP 443';
  const tcp = { protocol: 6, port: 443 };
  t.equal(
    why({ to: '192.0.2.1', ...tcp }, 0),
    `${text}: 192.0.2.1 is learned for name api.example.com, *.wild.example (x.wild.example) and TCP 443 is TCP 443`,
  );
  t.equal(
    why({ to: '192.0.2.2', ...tcp }, 0),
    `${text}: 192.0.2.2 is not learned for name api.example.com, *.wild.example: the sender learned it for other.example, api.example.com (an alias)`,
  );
  t.match(why({ to: '192.0.2.3', ...tcp }, 0), /: the sender learned no name for it$/);
  const dns = { to: '192.0.2.53', port: 53 };
  t.equal(
    why({ ...dns, protocol: 17, query: 'a.example' }, 1),
    'allow to anywhere on UDP 53 or TCP 53, DNS queries for **.example: every destination is meant and UDP 53 is UDP 53 and it asks for a.example',
  );
  t.match(why({ ...dns, protocol: 17, query: 'a.b' }, 1), /but it asks for a\.b, not for \*\*\.example$/);
  t.match(why({ ...dns, protocol: 17 }, 1), /but it is no DNS query, not for \*\*\.example$/);
  t.match(why({ ...dns, protocol: 6 }, 1), /its DNS queries come later, and each is judged by its name$/);
});
