/**
 * Invariant 6 where a compiler lives long: after any sequence of changes its Image is the one that a compiler without a past
 * makes, and the plan from one to the next leads through no state that is neither.
 */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { Compiler } from '../../src/compile/index.js';
import { DialectRegistry } from '../../src/dialects/index.js';
import { LiveSnapshot } from '../../src/identity/live.js';
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import { planDestinations } from '../../src/image/plan/plan.js';
import type { Image } from '../../src/image/types.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { Ir, IrPolicy, Tier } from '../../src/ir/types.js';
import { Random, seeded } from '../fuzz/random.js';
import { Churn } from './churn.js';
import { walkPlan } from './plan-model.js';
import { NODE, NODE_IP, pod, policy, snapshotOf } from './world.js';

const SEEDS = Number(process.env.FUZZ_SEQUENCES ?? 6);
const STEPS = 350;
const random = seeded();

/** The same as text wherever it was made: maps without an order. */
function plain(image: Image): Record<string, unknown> {
  const { sets, classes, rules, services, nodes, tunnels, endpoints, refused, refusedServices } = image;
  const { destinations4: d4, destinations6: d6 } = image;
  const sorted = (map: ReadonlyMap<string | number, unknown>) =>
    Object.fromEntries([...map].sort(([a], [b]) => (a < b ? -1 : 1)));
  return {
    ...{ sets: sorted(sets), classes: sorted(classes), rules: sorted(rules), services: sorted(services) },
    ...{ nodes: sorted(nodes), tunnels: sorted(tunnels), endpoints: sorted(endpoints), refused: sorted(refused) },
    refusedServices: sorted(refusedServices),
    destinations4: [Array.from(d4.keys), Array.from(d4.classes)],
    destinations6: [d6.keys, Array.from(d6.classes)],
  };
}

function firstDifference(a: Record<string, unknown>, b: Record<string, unknown>): string {
  for (const key of Object.keys(a)) {
    if (isDeepStrictEqual(a[key], b[key])) continue;
    return `${key}: ${JSON.stringify(a[key])}\nnot ${JSON.stringify(b[key])}`;
  }
  return '';
}

/** A snapshot without a past: everything at once, in another order. */
function anew({ kinds }: Churn, ips: readonly string[]): Snapshot {
  const live = new LiveSnapshot(NODE);
  for (const { name, section, entries } of Object.values(kinds).reverse()) {
    live.apply(name, section, { all: new Map([...entries].reverse()) });
  }
  return live.snapshot(ips);
}

function withDns(snapshot: Snapshot, dns: readonly string[]): Snapshot {
  return { ...snapshot, ownNode: { ...snapshot.ownNode, dns } };
}

function sameWorld(a: Snapshot, b: Snapshot): string {
  const flat = (s: Snapshot): Record<string, unknown> => ({
    ...Object.fromEntries(
      (['pods', 'namespaces', 'nodes', 'services'] as const).map((k) => [
        k,
        [...s[k]].sort(([x], [y]) => (x < y ? -1 : 1)),
      ]),
    ),
    policies: s.policies.map((p) => JSON.stringify(p)).sort(),
    ownNode: s.ownNode,
    problems: s.problems,
  });
  return firstDifference(flat(a), flat(b));
}

function localOf(r: Random, snapshot: Snapshot): string[] {
  const here = [...snapshot.pods.values()].filter((p) => p.nodeName === NODE && !p.hostNetwork && !p.ended);
  // Now and then one that is not bound yet, or one that the API server has not told of.
  const keys = here.filter(() => r.chance(92)).map((p) => `${p.namespace}/${p.name}`);
  // Where a policy governs nodes, the node itself.
  if (r.chance(40)) keys.push(NODE_SENDER);
  return r.chance(5) ? [...keys, 'a/unknown'] : keys;
}

function run(seed: number): { steps: number; states: number } {
  const r = new Random(seed);
  const churn = new Churn(r);
  const live = new LiveSnapshot(NODE);
  const registry = new DialectRegistry();
  const compiler = new Compiler();
  let ownIps = [NODE_IP];
  let dnsIps: string[] = [];
  let closed: string[] = [];
  let local: string[] = [];
  let last = compiler.compile(registry.toIr(live.snapshot(ownIps)).ir, live.snapshot(ownIps), []);
  let states = 0;
  for (let step = 0; step < STEPS; step++) {
    const fail = (what: string) => {
      throw new Error(`FUZZ_SEED=${random.seed}: sequence ${seed}, step ${step}: ${what}`);
    };
    // Some changes come together.
    for (let n = r.chance(20) ? r.below(6) + 2 : 1; n > 0; n--) {
      const { kind, key, entry } = churn.step();
      if (r.chance(3)) live.apply(kind.name, kind.section, { all: new Map(kind.entries) });
      else live.apply(kind.name, kind.section, { changed: new Map([[key, entry]]) });
    }
    if (r.chance(5)) dnsIps = r.pick([[], ['10.96.0.1'], ['10.96.0.1', '10.96.0.2']]);
    if (r.chance(5)) ownIps = r.pick([[NODE_IP], [NODE_IP, 'fd00:1::1'], [NODE_IP, '10.244.0.4']]);
    if (r.chance(8))
      closed = r.pick([[], ['(starting)/veth1'], ['(starting)/veth1', '(conflict)/veth2'], ['(orphaned)/veth3']]);
    const snapshot = withDns(live.snapshot(ownIps), dnsIps);
    const fresh = withDns(anew(churn, ownIps), dnsIps);
    const world = sameWorld(snapshot, fresh);
    if (world !== '') fail(`the snapshot: ${world}`);
    if (r.chance(60) || !local.every((key) => snapshot.pods.has(key))) local = localOf(r, snapshot);

    const { ir } = registry.toIr(snapshot);
    const image = compiler.compile(ir, snapshot, local, closed);
    const difference = firstDifference(plain(image), plain(new Compiler().compile(ir, fresh, local, closed)));
    if (difference !== '') fail(`the image: ${difference}`);

    const flips = [...image.endpoints].some(([key, set]) => last.endpoints.has(key) && last.endpoints.get(key) !== set);
    // With other sets in force a plan of one step is not asked for.
    for (const careful of flips || !isDeepStrictEqual(setsOf(last), setsOf(image)) ? [true] : [false, true]) {
      const walked = walkPlan(last, image, planDestinations(last, image, careful), careful);
      states += walked.states;
      if (walked.wrong !== undefined) fail(`the plan, flips ${careful}: ${walked.wrong}`);
    }
    last = image;
  }
  return { steps: STEPS, states };
}

const setsOf = (image: Image) => [...image.sets.keys()].sort();

t.test(`a compiler with a past and one without, FUZZ_SEED=${random.seed}`, async (t) => {
  let states = 0;
  for (let n = 0; n < SEEDS; n++) states += run(random.below(2 ** 31) + 1).states;
  t.pass(`${SEEDS} sequences of ${STEPS} steps, ${states} states of the tables between them`);
});

t.test('the same policies in a tier that is another', async (t) => {
  const snapshot = snapshotOf(pod('a/p', '10.244.0.1') + policy('a/np', { podSelector: {}, policyTypes: ['Egress'] }));
  const { ir } = new DialectRegistry().toIr(snapshot);
  const [tier] = ir.tiers as [Tier];
  const compiler = new Compiler();
  const tiers: Tier[] = [
    tier,
    { ...tier },
    { ...tier, defaultAction: 'pass' },
    { ...tier, name: 'other' },
    { ...tier, policies: tier.policies.map((p) => ({ ...p, implicit: [] })) },
    tier,
  ];
  const ids = tiers.map((it) => {
    const image = compiler.compile({ tiers: [it] }, snapshot, ['a/p']);
    t.same(plain(image), plain(new Compiler().compile({ tiers: [it] }, snapshot, ['a/p'])));
    return image.endpoints.get('a/p');
  });
  t.equal(new Set(ids).size, 4, 'a set for each');
});

/** An IR whose rules cannot be looked at. */
function broken(ir: Ir, error: Error): Ir {
  const tiers = ir.tiers.map((tier) => {
    const policies = tier.policies.map((policy): IrPolicy => {
      const rules = policy.rules.map((rule) => ({
        ...rule,
        get peers(): never {
          throw error;
        },
      }));
      return { ...policy, rules };
    });
    return { ...tier, policies };
  });
  return { tiers };
}

t.test('what is thrown in the middle poisons nothing', async (t) => {
  const r = new Random(random.below(2 ** 31) + 1);
  const churn = new Churn(r);
  const live = new LiveSnapshot(NODE);
  const registry = new DialectRegistry();
  const compiler = new Compiler();
  let thrown = 0;
  for (let step = 0; step < STEPS; step++) {
    const { kind, key, entry } = churn.step();
    live.apply(kind.name, kind.section, { changed: new Map([[key, entry]]) });
    const snapshot = live.snapshot([NODE_IP]);
    const { ir } = registry.toIr(snapshot);
    const local = localOf(r, snapshot);
    if (r.chance(30)) {
      const armed = { is: true };
      try {
        // In a rule: before the tables change. In the pods: while they do.
        if (r.chance(50)) compiler.compile(broken(ir, new Error('a rule')), snapshot, local);
        else compiler.compile(ir, { ...snapshot, pods: treacherous(snapshot, r, armed) }, local);
      } catch {
        thrown++;
      }
      armed.is = false;
    }
    const difference = firstDifference(
      plain(compiler.compile(ir, snapshot, local)),
      plain(new Compiler().compile(ir, snapshot, local)),
    );
    if (difference !== '') throw new Error(`FUZZ_SEED=${random.seed}: step ${step}: ${difference}`);
  }
  t.ok(thrown > 10, `${thrown} compilations ended early`);
});

/** Pods of which one throws when a field of it is asked for, as long as it is armed. */
function treacherous({ pods }: Snapshot, r: Random, armed: { is: boolean }): Snapshot['pods'] {
  const out = new Map(pods);
  if (out.size === 0) return out;
  const key = r.pick([...out.keys()]);
  const field = r.pick(['labels', 'ports', 'ips', 'namespace'] as const);
  const good = out.get(key) as Pod;
  const get = () => {
    if (armed.is) throw new Error('a pod');
    return good[field];
  };
  out.set(key, Object.defineProperty({ ...good }, field, { get, enumerable: true }));
  return out;
}
