/** diff() against the reference: it finds a packet exactly where evaluate() differs, and says what evaluate() says. */
import t from 'tap';
import { evaluate } from '../../src/ir/evaluate.js';
import type { Packet } from '../../src/ir/packet.js';
import type { Ir } from '../../src/ir/types.js';
import { type Change, diff } from '../../src/tools/diff.js';
import { boundaryPackets, servicePlaces, type World } from '../../src/tools/packets.js';
import { outcomeOf, staysInside } from '../../src/ir/outcome.js';
import { viewOf } from '../../src/ir/sender.js';
import { byNode } from '../../src/tools/nodes.js';
import { rangeContains, rangesText, spansText } from '../../src/tools/ranges.js';
import { completed } from '../../src/tools/world.js';
import { toIr } from '../../src/dialects/index.js';
import { type Random, seeded } from '../fuzz/random.js';
import { randomPacket, randomWorld } from '../fuzz/worlds.js';
import { pod, policy, show, snapshotOf } from '../policy/world.js';

const random = seeded();
t.setTimeout(120_000);

/** Another state of the world: a rule, a policy, a tier, a Service or a pod is another one or gone. */
function mutated(r: Random, { ir, snapshot }: World): World {
  if (r.chance(30)) {
    const drop = <T>(map: ReadonlyMap<string, T>) => new Map([...map].filter(() => !r.chance(30)));
    return { ir, snapshot: { ...snapshot, services: drop(snapshot.services), pods: drop(snapshot.pods) } };
  }
  const without = <T>(list: readonly T[]) =>
    list.length > 0 && r.chance(60) ? list.toSpliced(r.below(list.length), 1) : list;
  const tiers = without(ir.tiers).map((tier) => ({
    ...tier,
    policies: without(tier.policies).map((p) => ({
      ...p,
      staged: r.chance(5) ? !p.staged : p.staged,
      rules: without(p.rules),
    })),
  }));
  return { ir: { tiers } as Ir, snapshot };
}

/** The changes that speak of a packet. */
function about(changes: readonly Change[], packet: Packet, [a, b]: readonly [World, World]): Change[] {
  const own = [a, b].some(({ snapshot }) => snapshot.pods.get(packet.from)?.ips.includes(packet.to));
  const id = `${packet.to}|${packet.port}|${packet.protocol}`;
  const place = !packet.fragment && [a, b].some(({ snapshot }) => servicePlaces(viewOf(snapshot, packet.from)).has(id));
  return changes.filter(({ senders, to, ports }) => {
    if (!senders.includes(packet.from)) return false;
    const spans = ports.filter((s) => s.protocols.includes(packet.protocol));
    if (
      packet.fragment
        ? !spans.some((s) => s.fragment)
        : !spans.some((s) => !s.fragment && s.lo <= packet.port && packet.port <= s.hi)
    )
      return false;
    if (to.kind === 'service') return place && to.ips.includes(packet.to);
    if (place) return false;
    return !own && to.ranges.some((range) => rangeContains(range, packet.to));
  });
}

t.test(`random worlds, FUZZ_SEED=${random.seed}`, async (t) => {
  let different = 0;
  let packets = 0;
  const until = Date.now() + Number(process.env.DIFF_MS ?? 15_000);
  for (let n = 0; n < 400 && Date.now() < until; n++) {
    const world = randomWorld(random);
    const other = random.chance(50) ? mutated(random, world) : { ...world, ir: randomWorld(random).ir };
    const worlds = completed(world, other);
    const { changes } = diff(...worlds);
    // The reference takes its time with hundreds of rules.
    const large = worlds.some(({ ir }) => ir.tiers.some((one) => one.policies.some((p) => p.rules.length > 100)));
    const asked = Array.from({ length: large ? 30 : 150 }, () => randomPacket(random, worlds[0].snapshot));
    for (const packet of large ? [] : boundaryPackets(worlds))
      if (asked.length < 1500 && random.chance(30)) asked.push(packet);
    let differs = false;
    for (const packet of asked) {
      packets++;
      // An address that is the pod's own in one of them alone is compared as somebody else's.
      const [own, also] = worlds.map(({ snapshot }) => staysInside(snapshot, packet));
      if (own !== also) continue;
      const [was, is] = worlds.map(({ ir, snapshot }) => outcomeOf(ir, viewOf(snapshot, packet.from), packet)) as [
        ReturnType<typeof outcomeOf>,
        ReturnType<typeof outcomeOf>,
      ];
      const found = about(changes, packet, worlds);
      const expected = was.verdict === is.verdict ? [] : [[show(worlds[0].ir, was), show(worlds[1].ir, is)]];
      const text = (o: Change['was']) => (o.rule === undefined ? o.verdict : `${o.verdict} [${o.rule}]`);
      const said = found.map((c) => [text(c.was), text(c.is)]);
      differs ||= expected.length > 0;
      if (JSON.stringify(said) !== JSON.stringify(expected)) {
        t.comment(JSON.stringify(found, (_, v) => (typeof v === 'bigint' ? v.toString(16) : v)));
        t.same(said, expected, `FUZZ_SEED=${random.seed}, world ${n}: ${JSON.stringify(packet)}`);
        return;
      }
    }
    if (differs) different++;
    // The other way round: without a change no packet at any boundary differs.
    if (changes.length === 0 && differs) t.fail('changes without a difference');
    // And where there is a change, the packets at the boundaries show it.
    if (changes.length > 0 && !large) {
      let shown = false;
      for (const p of byNode(worlds).flatMap(({ worlds: on, keys }) => [...boundaryPackets(on, new Set(keys))])) {
        if (worlds.some(({ snapshot }) => staysInside(snapshot, p))) continue;
        const [was, is] = worlds.map(({ ir, snapshot }) => outcomeOf(ir, viewOf(snapshot, p.from), p).verdict);
        if ((shown = was !== is)) break;
      }
      if (!shown) {
        t.fail(`FUZZ_SEED=${random.seed}, world ${n}: no packet at a boundary shows ${changes.length} changes`);
        return;
      }
    }
  }
  t.ok(different > 5, `${different} pairs of worlds differ, ${packets} packets`);
});

const web = (egress: object[]) => policy('shop/web', { podSelector: {}, policyTypes: ['Egress'], egress });
const worldOf = (text: string): World => {
  const snapshot = snapshotOf(pod('shop/web', ['10.0.0.1'], {}) + pod('shop/db', ['10.0.0.2'], {}) + text);
  return { snapshot, ir: toIr(snapshot).ir };
};
const said = (a: World, b: World) =>
  diff(...completed(a, b)).changes.map(({ senders, to, ports, was, is }) =>
    [
      senders.join(),
      to.kind === 'addresses' ? rangesText(to.ranges).join(' ') : to.kind,
      spansText(ports),
      `${was.verdict} ${was.rule ?? ''} → ${is.verdict} ${is.rule ?? ''}`,
    ].join(' | '),
  );

t.test('edges of blocks and of ranges, and nothing beside them', async (t) => {
  const before = worldOf(web([{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }], ports: [{ port: 80 }] }]));
  const after = worldOf(
    web([
      { to: [{ ipBlock: { cidr: '192.0.2.0/24', except: ['192.0.2.128/25'] } }], ports: [{ port: 79, endPort: 81 }] },
      { to: [{ ipBlock: { cidr: '2001:db8::/32' } }], ports: [{ port: 53, protocol: 'UDP' }] },
    ]),
  );
  t.same(said(before, before), []);
  const expected = [
    'shop/db,shop/web | 192.0.2.128/25 | tcp/80 | allow np/shop/web#0 → deny np/shop/web#default',
    'shop/db,shop/web | 192.0.2.0/25 | tcp/79,81 | deny np/shop/web#default → allow np/shop/web#0',
    'shop/db,shop/web | 2001:db8::/32 | udp/53 | deny np/shop/web#default → allow np/shop/web#1',
  ];
  t.same(said(before, after).sort(), expected.sort());
});

t.test('all and nothing; a pod that only one of them has', async (t) => {
  const open = worldOf('');
  const closed = worldOf(web([]) + pod('shop/new', ['10.0.0.3'], {}));
  // A pod reaches itself, and its node, whatever its policies say.
  const [change, ...more] = said(open, closed);
  t.equal(more.length, 0);
  t.match(
    change,
    /^shop\/db,shop\/new,shop\/web \| anywhere except 192\.168\.0\.1 \| every port \| allow {2}→ deny np\/shop\/web#default$/,
  );
});

t.test('text of ranges and of ports', async (t) => {
  const span = (protocol: number, lo: number, hi: number) => ({ protocols: [protocol], lo, hi });
  t.equal(spansText([span(6, 80, 80), span(6, 81, 90), span(17, 0, 65535)]), 'udp, tcp/80-90');
  t.equal(spansText([span(1, 2048, 2303), span(58, 32768, 32768)]), 'icmp/type 8, icmpv6/type 128/0');
  t.equal(spansText([{ ...span(6, 0, 65535), fragment: true }]), 'later fragments of tcp');
  t.equal(spansText([{ ...span(6, 0, 65535), protocols: Array.from({ length: 256 }, (_, i) => i) }]), 'every port');
});

t.test('policies for nodes: each node by itself', async (t) => {
  const node = (name: string, role: string) =>
    `---\n{apiVersion: v1, kind: Node, metadata: {name: ${name}, labels: {role: ${role}}}, status: {addresses: [{type: InternalIP, address: 192.168.0.${name === 'a' ? 1 : 2}}]}}\n`;
  const of = (egress: string) => {
    const text = `---\n{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: n}, spec: {nodeSelector: {matchLabels: {role: x}}, egress: ${egress}}}\n`;
    const { ir, snapshot } = worldOf(node('a', 'x') + node('b', 'y') + text);
    return { ir, snapshot: { ...snapshot, ownNode: { name: '', ips: [] } } };
  };
  const before = of('[{toCIDR: [192.0.2.0/24]}]');
  t.same(said(before, before), []);
  t.same(said(before, of('[{toCIDR: [192.0.2.0/25]}]')), [
    '@node/a | 192.0.2.128/25 | every port | allow ccnp/n#0 "egress[0]" → deny ccnp/n#default',
  ]);
});

t.test('who is its own destination is that of others too', async (t) => {
  const all = { to: [{ podSelector: {} }] };
  const [before, after] = completed(worldOf(web([all])), worldOf(web([])));
  const shown = [...boundaryPackets([before, after])].filter(
    (p) => evaluate(before.ir, before.snapshot, p).verdict !== evaluate(after.ir, after.snapshot, p).verdict,
  );
  t.same(
    [...new Set(shown.map((p) => `${p.from} ${p.to}`))].sort(),
    ['shop/db 10.0.0.1', 'shop/web 10.0.0.2'].filter((row) => shown.some((p) => `${p.from} ${p.to}` === row)),
  );
  t.ok(shown.length > 0, 'the pod that stands for both is not the only one that sends');
});

t.test('what a pod sends to itself does not stand for what it sends to others of its kind', async (t) => {
  const worldWith = (egress: object[]) => {
    const all = policy('shop/one', { podSelector: { matchLabels: { app: 'one' } }, policyTypes: ['Egress'], egress });
    const snapshot = snapshotOf(pod('shop/a', ['10.0.0.1'], { app: 'one' }) + pod('shop/b', ['10.0.0.2'], {}) + all);
    return { snapshot, ir: toIr(snapshot).ir };
  };
  const worlds = completed(worldWith([{ to: [{ podSelector: {} }] }]), worldWith([]));
  const shown = [...boundaryPackets(worlds)].filter((p) => {
    const [was, is] = worlds.map(({ ir, snapshot }) => outcomeOf(ir, snapshot, p).verdict);
    return was !== is;
  });
  t.same([...new Set(shown.map((p) => `${p.from} ${p.to}`))], ['shop/a 10.0.0.2']);
});

t.test('a rule about the one pod that it selects says nothing: it reaches itself anyway', async (t) => {
  const worldWith = (to: string[]) => {
    const egress = to.map((cidr) => ({ to: [{ ipBlock: { cidr } }] }));
    const spec = { podSelector: { matchLabels: { app: 'one' } }, policyTypes: ['Egress'], egress };
    const pods = pod('shop/one', ['10.0.0.1'], { app: 'one' }) + pod('shop/other', ['10.0.0.2'], {});
    const snapshot = snapshotOf(pods + policy('shop/own', spec));
    return { snapshot, ir: toIr(snapshot).ir };
  };
  t.same(said(worldWith(['10.0.0.1/32']), worldWith([])), []);
  t.same(said(worldWith(['10.0.0.1/32', '10.0.0.2/32']), worldWith([])), [
    'shop/one | 10.0.0.2 | every port | allow np/shop/own#1 → deny np/shop/own#default',
  ]);
});
