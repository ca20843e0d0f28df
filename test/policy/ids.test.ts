/** Ids: nobody chooses two contents of one, and where two meet all the same, one set is refused, by name, and all others go on. */
import t from 'tap';
import { peerAtoms } from '../../src/compile/atoms/atoms.js';
import { Compiler } from '../../src/compile/index.js';
import { toIr } from '../../src/dialects/index.js';
import { SetFault } from '../../src/image/fault.js';
import { type Ids, keyedIds, PLAIN_IDS } from '../../src/ids.js';
import { simulate } from '../../src/image/simulate.js';
import type { Image } from '../../src/image/types.js';
import type { Ir, IrPolicy, Rule } from '../../src/ir/types.js';
import { printer, readCases } from '../engines/cases.js';
import { Simulate } from '../engines/engine.js';
import { inPlainIds, reasons, weakIds } from '../engines/weak-ids.js';
import { ATTACKED, ATTACKER, COLLIDING_BLOCKS, COLLIDING_CLASSES, victims } from './attacks-ids.js';
import { packet, pod, policy, snapshotOf } from './world.js';

const judge = (image: Image, from: string, target: string, ips: readonly string[]) =>
  simulate(image, packet(from, target), ips).verdict;

t.test('what another namespace names opens nothing', async (t) => {
  const [mine, theirs] = COLLIDING_BLOCKS;
  const snapshot = victims(COLLIDING_BLOCKS);
  const { ir } = toIr(snapshot);
  for (const ids of [PLAIN_IDS, keyedIds('ab'.repeat(32))]) {
    const image = new Compiler(ids).compile(ir, snapshot, [ATTACKED, ATTACKER]);
    t.equal(image.refused.size, 0);
    t.equal(judge(image, ATTACKED, `${mine}:80/tcp`, ['10.0.0.1']), 'allow');
    t.equal(judge(image, ATTACKED, `${theirs}:80/tcp`, ['10.0.0.1']), 'deny');
    t.equal(judge(image, ATTACKER, `${theirs}:80/tcp`, ['10.0.0.2']), 'allow');
    t.equal(judge(image, ATTACKER, `${mine}:80/tcp`, ['10.0.0.2']), 'deny');
  }
  const [a, b] = COLLIDING_BLOCKS.map((ip) => blockAtom(`${ip}/32`));
  t.not(a, b);
  t.match(a, /^[\w+/]{32}$/, '192 bits');
});

t.test('two blocks stop no update', async (t) => {
  const [one, other] = COLLIDING_CLASSES;
  const snapshot = victims(COLLIDING_CLASSES);
  const { ir } = toIr(snapshot);
  const image = new Compiler().compile(ir, snapshot, [ATTACKED, ATTACKER]);
  t.equal(image.refused.size, 0);
  t.equal(judge(image, ATTACKED, `${one}:80/tcp`, ['10.0.0.1']), 'allow');
  t.equal(judge(image, ATTACKED, `${other}:80/tcp`, ['10.0.0.1']), 'deny');
  const ids = image.destinations4.classes;
  t.equal(new Set(ids).size, ids.length, 'each has a class of its own');
});

t.test('keys', async (t) => {
  const [a, b] = [keyedIds('00'.repeat(32)), keyedIds('01'.repeat(32))];
  const contents = Array.from({ length: 1000 }, (_, n) => `class|${n}`);
  const ids = contents.map((content) => a.of(content));
  t.same(
    ids,
    contents.map((content) => PLAIN_IDS.of(content)),
    'the same key, the same ids',
  );
  t.ok(ids.every((id) => Number.isSafeInteger(id) && id >= 16));
  t.ok(Math.max(...ids) > 2 ** 52, 'all of the 53 bits');
  t.ok(contents.every((content) => a.of(content) !== b.of(content)));
});

for (const bits of [10, 8]) {
  t.test(`ids of ${bits} bits: who is not refused is judged as evaluate() says`, async (t) => {
    let [judged, refused] = [0, 0];
    for (let salt = 0; salt < 2; salt++) {
      for (const c of readCases()) {
        const print = printer(c.ir);
        const engine = new Simulate(weakIds(bits, salt));
        engine.use(c);
        for (const why of reasons(engine.image).map(([, why]) => why)) {
          refused++;
          if (!/^\S+.*: (rules|it and|two destination classes|\d+ rules|no )/.test(why) && !/ have one id$/.test(why))
            t.fail(`not told by name: ${why}`);
        }
        for (const { text, packet, expected } of c.rows) {
          if (engine.image.refused.has(packet.from)) continue;
          judged++;
          const found = print(inPlainIds(engine.judge(packet), engine.image), packet);
          const wanted = packet.fragment ? expected.split(' ')[0] : expected;
          if (found !== wanted) t.equal(found, wanted, `${c.file}, salt ${salt}: ${text}`);
        }
      }
    }
    t.ok(refused > 10, `${refused} senders were refused`);
    t.ok(judged > 300, `${judged} packets were judged`);
  });
}

/** Ids of which some are as said. */
function except(given: Record<string, number>): Ids {
  return {
    of: (content) => Object.entries(given).find(([part]) => content.includes(part))?.[1] ?? PLAIN_IDS.of(content),
  };
}

/** Pods web-0, web-1 … with a policy of their own each, to 192.0.2.N. */
function several(n: number): { snapshot: ReturnType<typeof snapshotOf>; ir: Ir; pods: string[] } {
  const each = Array.from({ length: n }, (_, i) => i);
  const text = each.map(
    (i) =>
      pod(`default/web-${i}`, `10.0.0.${i}`, { app: `${i}` }) +
      policy(`default/p-${i}`, {
        podSelector: { matchLabels: { app: `${i}` } },
        policyTypes: ['Egress'],
        egress: [{ to: [{ ipBlock: { cidr: `192.0.2.${i}/32` } }] }],
      }),
  );
  const snapshot = snapshotOf(text.join(''));
  return { snapshot, ir: toIr(snapshot).ir, pods: each.map((i) => `default/web-${i}`) };
}

t.test('two rules of one id: the later set is refused, and closed', async (t) => {
  const { snapshot, ir, pods } = several(3);
  const ids = except({ '"p-0",0': 99, '"p-2",0': 99 });
  const image = new Compiler(ids).compile(ir, snapshot, pods);
  t.same(reasons(image), [
    ['default/web-2', 'np/default/p-2: rules np/default/p-0#0 and np/default/p-2#0 have one id'],
  ]);
  for (const i of [0, 1]) t.equal(judge(image, `default/web-${i}`, `192.0.2.${i}:80/tcp`, []), 'allow');
  t.equal(judge(image, 'default/web-2', '192.0.2.2:80/tcp', []), 'deny', "its tier's default");
});

t.test('what is in force stays so, whoever comes', async (t) => {
  const { snapshot, ir, pods } = several(3);
  const compiler = new Compiler(except({ '"p-0",0': 99, '"p-2",0': 99 }));
  compiler.compile(ir, snapshot, pods.slice(2));
  const image = compiler.compile(ir, snapshot, pods);
  t.same([...image.refused.keys()], ['default/web-0']);
  t.equal(judge(image, 'default/web-2', '192.0.2.2:80/tcp', []), 'allow');
});

t.test('two classes of one id', async (t) => {
  const { snapshot, ir, pods } = several(3);
  const [a, b] = [0, 1].map((i) => blockAtom(`192.0.2.${i}/32`)) as [string, string];
  const image = new Compiler(except({ [`class|${a}`]: 77, [`class|${b}`]: 77 })).compile(ir, snapshot, pods);
  t.same(reasons(image), [['default/web-1', 'np/default/p-1: two destination classes have the id 77']]);
  for (const i of [0, 2]) t.equal(judge(image, `default/web-${i}`, `192.0.2.${i}:80/tcp`, []), 'allow');
  t.equal(judge(image, 'default/web-0', '192.0.2.1:80/tcp', []), 'deny');
  t.equal(judge(image, 'default/web-1', '192.0.2.1:80/tcp', []), 'deny');
});

t.test('a change that makes two classes of one id: by a patch, beside what is in force', async (t) => {
  const { snapshot, ir, pods } = several(3);
  const [a, b] = [0, 1].map((i) => blockAtom(`192.0.2.${i}/32`)) as [string, string];
  const compiler = new Compiler(except({ [`class|${a}`]: 77, [`class|${b}`]: 77 }));
  t.equal(compiler.compile(ir, snapshot, pods.slice(1)).refused.size, 0);
  const image = compiler.compile(ir, snapshot, pods);
  t.same([...image.refused.keys()], ['default/web-0'], 'who came last');
  for (const i of [1, 2]) t.equal(judge(image, `default/web-${i}`, `192.0.2.${i}:80/tcp`, []), 'allow');
});

t.test('a class that goes with this change has the id of one that comes', async (t) => {
  const pods = ['default/web', 'default/db'];
  const to = (...labels: object[]) => {
    const spec = {
      podSelector: {},
      policyTypes: ['Egress'],
      egress: [{ to: labels.map((matchLabels) => ({ podSelector: { matchLabels } })) }],
    };
    const both = pod('default/web', '10.0.0.1') + pod('default/db', '10.0.0.2', { app: 'db', tier: 'data' });
    const snapshot = snapshotOf(both + policy('default/p', spec));
    return { ir: toIr(snapshot).ir, snapshot };
  };
  const [before, after] = [to({ app: 'db' }, { tier: 'data' }), to({ app: 'db' })];
  const classOf = ({ ir, snapshot }: ReturnType<typeof to>) =>
    [...new Compiler().compile(ir, snapshot, pods).classes.values()].map((atoms) => `class|${atoms.join()}`).at(-1);
  const texts = [classOf(before), classOf(after)] as [string, string];
  t.not(...texts);
  const ids: Ids = { of: (content) => (texts.includes(content) ? 77 : PLAIN_IDS.of(content)) };
  const compiler = new Compiler(ids);
  compiler.compile(before.ir, before.snapshot, pods);
  const image = compiler.compile(after.ir, after.snapshot, pods);
  t.equal(image.refused.size, 0, 'only one of them is left');
  t.equal(judge(image, 'default/web', '10.0.0.2:80/tcp', ['10.0.0.1']), 'allow');
  t.equal(judge(image, 'default/web', '10.0.0.3:80/tcp', ['10.0.0.1']), 'deny');
});

t.test('no set is left: nothing passes', async (t) => {
  const { snapshot, ir, pods } = several(1);
  const everything: Ids = { of: () => 50 };
  const image = new Compiler(everything).compile(ir, snapshot, pods);
  t.equal(image.refused.size, 1);
  t.equal(judge(image, 'default/web-0', '192.0.2.0:80/tcp', []), 'deny');
  t.equal(image.endpoints.get('default/web-0'), 1);
  t.match(image.rules.get(1), { policy: { kind: 'Refused' } });
});

t.test('interfaces that nothing may pass: each by why, whatever contents are called', async (t) => {
  const { snapshot, ir, pods } = several(1);
  const keys = ['(starting)/a', '(starting)/b', '(conflict)/c', '(orphaned)/d'];
  const nothing: Ids = { of: () => 50 };
  for (const ids of [PLAIN_IDS, nothing]) {
    const image = new Compiler(ids).compile(ir, snapshot, pods, keys);
    const sets = keys.map((key) => image.endpoints.get(key) ?? 0);
    t.same(sets, [2, 2, 3, 4]);
    t.same(
      sets.map((id) => image.rules.get(id)?.policy.kind),
      ['Starting', 'Starting', 'Conflict', 'Orphaned'],
    );
    for (const key of keys) t.equal(judge(image, key, '192.0.2.0:80/tcp', []), 'deny');
    t.match(image.sets.get(3), { id: 3, staged: false, large: false });
  }
});

t.test('a policy that cannot be compiled is a fault of its pods alone', async (t) => {
  const { snapshot, ir, pods } = several(3);
  const broken = {
    tiers: ir.tiers.map((tier) => ({
      ...tier,
      policies: tier.policies.map((p): IrPolicy => {
        if (p.ref.name !== 'p-1') return p;
        const [rule] = p.rules as [Rule];
        return { ...p, rules: [{ ...rule, peers: [{ kind: 'all', of: [{ kind: 'self' }] }] }] };
      }),
    })),
  };
  const image = new Compiler().compile(broken, snapshot, pods);
  t.same([...image.refused.keys()], ['default/web-1']);
  t.match(image.refused.get('default/web-1')?.reason, /^np\/default\/p-1 cannot be compiled: /);
  for (const i of [0, 2]) t.equal(judge(image, `default/web-${i}`, `192.0.2.${i}:80/tcp`, []), 'allow');
  t.equal(judge(image, 'default/web-1', '192.0.2.1:80/tcp', []), 'deny');
});

t.test('a set that somebody objects to: the last one stays, until it is tried again', async (t) => {
  const { snapshot, ir, pods } = several(2);
  const before = { tiers: ir.tiers.map((tier) => ({ ...tier, policies: tier.policies.slice(0, 1) })) };
  const compiler = new Compiler();
  const first = compiler.compile(before, snapshot, pods);
  const changed = several(2).ir;
  const second = compiler.compile(changed, snapshot, pods);
  const id = second.endpoints.get('default/web-1') as number;
  t.not(id, 0);
  t.equal(compiler.refuse(new SetFault('TOO_LARGE', 'no room', { sets: [1234, id] })), true);
  const third = compiler.compile(changed, snapshot, pods);
  t.same(reasons(third), [['default/web-1', 'np/default/p-1: no room']]);
  t.equal(third.endpoints.get('default/web-1'), first.endpoints.get('default/web-1'), 'as it was');
  t.equal(third.endpoints.get('default/web-0'), second.endpoints.get('default/web-0'));
  t.equal(compiler.compile(changed, snapshot, pods).refused.size, 1);
  t.equal(compiler.retry(), true);
  t.equal(compiler.compile(changed, snapshot, pods).endpoints.get('default/web-1'), id);
  t.equal(compiler.retry(), false);
  t.equal(compiler.refuse(new SetFault('TOO_LARGE', 'no room', { sets: [1234] })), false, 'nobody is to blame');
});

function blockAtom(cidr: string): string {
  const rule = { peers: [{ kind: 'cidr', cidr, except: [] }] } as unknown as Rule;
  return peerAtoms(rule).atoms?.[0]?.id as string;
}
