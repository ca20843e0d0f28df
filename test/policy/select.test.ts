/** Which policies select a pod, found again after each change: as a selector without a past finds it, and the same object where it is the same. */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { Selector } from '../../src/compile/select.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import type { Ir, IrPolicy, Tier } from '../../src/ir/types.js';
import { type Random, seeded } from '../fuzz/random.js';

const NAMESPACES = ['a', 'b', 'c'];
const LABELS = ['x', 'y'];

function policy(r: Random, n: number): IrPolicy {
  const named = r.chance(70);
  const pods = r.chance(50) ? ({ op: 'true' } as const) : ({ op: 'in', key: 'l', values: [r.pick(LABELS)] } as const);
  const names = NAMESPACES.filter(() => r.chance(50));
  const labels = r.chance(50) ? ({ op: 'true' } as const) : ({ op: 'in', key: 'n', values: [r.pick(LABELS)] } as const);
  const ref = { dialect: 'test', kind: 'Policy', name: `p${n}` };
  return { ref, subject: { namespaces: named ? { names } : { labels }, pods }, rules: [], staged: false };
}

function podOf(r: Random, namespace: string, name: string): Pod {
  return {
    ...{ uid: name, namespace, name, labels: { l: r.pick(LABELS) }, annotations: {}, ips: [], nodeName: 'n' },
    ...{ serviceAccount: '', hostNetwork: false, ended: false, ports: [] },
  };
}

/** One step: policies come, go, change places, or pods and namespaces change. */
function step(r: Random, ir: Ir, pods: Map<string, Pod>, namespaces: Map<string, object>, n: number): Ir {
  if (r.chance(15)) {
    const namespace = r.pick(NAMESPACES);
    namespaces.set(namespace, { name: namespace, labels: { n: r.pick(LABELS) }, annotations: {}, terminating: false });
  }
  if (r.chance(20)) {
    const namespace = r.pick(NAMESPACES);
    pods.set(`${namespace}/p`, podOf(r, namespace, 'p'));
  }
  if (r.chance(10)) pods.delete(`${r.pick(NAMESPACES)}/p`);
  const tiers = ir.tiers.map((tier): Tier => {
    if (r.chance(70)) return tier;
    const policies = [...tier.policies];
    const at = r.below(policies.length + 1);
    if (r.chance(30)) policies.splice(at, 1);
    else if (r.chance(50)) policies.splice(at, 1, policy(r, n));
    else if (r.chance(20)) policies.reverse();
    else policies.splice(at, 0, policy(r, n));
    return { ...tier, policies };
  });
  if (r.chance(10)) tiers.splice(r.below(tiers.length + 1), 1);
  if (tiers.length < 3 && r.chance(30))
    tiers.push({ name: `t${n % 3}`, order: n % 2, defaultAction: 'deny', policies: [policy(r, n + 0.5)] });
  return { tiers };
}

t.test('after any history', async (t) => {
  const r = seeded();
  const selector = new Selector();
  let ir: Ir = { tiers: [] };
  const pods = new Map<string, Pod>();
  const namespaces = new Map<string, object>();
  const plain = (found: ReturnType<Selector['select']>) =>
    [...found].map(([key, list]) => [key, list.map((s) => [s.tier.name, s.tier.order, s.policies])]);
  let kept = 0;
  let last = new Map<string, unknown>();
  for (let n = 0; n < 2000; n++) {
    ir = step(r, ir, pods, namespaces, n);
    const snapshot = { pods: new Map(pods), namespaces: new Map(namespaces) } as unknown as Snapshot;
    const keys = [...pods.keys(), 'a/none'].sort();
    const found = selector.select(ir, snapshot, keys);
    const expected = new Selector().select(ir, snapshot, keys);
    if (!isDeepStrictEqual(plain(found), plain(expected))) {
      t.fail(`step ${n}: ${JSON.stringify(plain(found))}\nnot ${JSON.stringify(plain(expected))}`);
      return;
    }
    for (const [key, list] of found) if (list.length > 0 && last.get(key) === list) kept++;
    last = found;
  }
  t.ok(kept > 100, `${kept} times the same as before`);
});
