/** The merge by property: several nodes, each with delays of its own → time order, nothing lost, nothing doubled. */
import fc from '../seeded.js';
import t from 'tap';
import { Merge } from '../../src/relay/merge/merge.js';

interface Item {
  node: string;
  n: number;
  /** Nanoseconds. */
  time: bigint;
  /** Milliseconds at which it arrives. */
  arrives: number;
}

const HOLD = 100;

/** Nodes' items in order of time and, by node, of arrival; a delay is at most `slowest` milliseconds. */
const world = (slowest: number) =>
  fc
    .array(fc.array(fc.record({ gap: fc.nat(60), delay: fc.nat(slowest) }), { maxLength: 30 }), {
      minLength: 1,
      maxLength: 6,
    })
    .map((nodes) =>
      nodes.map((steps, i) => {
        let [ms, last] = [0, 0];
        return steps.map(({ gap, delay }, n): Item => {
          ms += gap;
          // What a node sends arrives in the order in which it was sent.
          last = Math.max(last, ms + delay);
          return { node: `n${i}`, n, time: BigInt(ms) * 1_000_000n, arrives: last };
        });
      }),
    );

interface Out extends Item {
  left: number;
}

/** Lets time pass as a reader does: pushes what arrives, takes what may leave, wakes when something is due. */
function play(merge: Merge<Item>, nodes: readonly Item[][], opts: { ends: boolean }): Out[] {
  const arrivals = nodes.flat().sort((a, b) => a.arrives - b.arrives);
  nodes.forEach((_, i) => merge.join(`n${i}`));
  const left = new Map(nodes.map((items, i) => [`n${i}`, items.length]));
  const out: Out[] = [];
  let now = 0;
  const drain = () => {
    for (let item = merge.take(now); item; item = merge.take(now)) out.push({ ...item, left: now });
  };
  const end = () => {
    if (opts.ends) for (const [node, n] of left) if (n === 0) merge.leave(node);
  };
  end();
  for (const item of arrivals) {
    for (let due = merge.dueIn(now); now + due <= item.arrives; due = merge.dueIn(now)) {
      now += due;
      drain();
    }
    now = item.arrives;
    merge.push(item.node, item.time, item, now);
    left.set(item.node, (left.get(item.node) ?? 0) - 1);
    end();
    drain();
  }
  for (let due = merge.dueIn(now); Number.isFinite(due); due = merge.dueIn(now)) {
    now += due;
    drain();
  }
  return out;
}

const key = (i: Item) => `${i.node}/${i.n}`;
const isSorted = (out: readonly Out[]) => out.every((o, i) => i === 0 || (out[i - 1] as Out).time <= o.time);
const isComplete = (out: readonly Out[], nodes: readonly Item[][]) =>
  out.length === nodes.flat().length && new Set(out.map(key)).size === out.length;

t.test('answers that end: all of it, in order, however late', async (t) => {
  fc.assert(
    fc.property(world(5000), (nodes) => {
      const merge = new Merge<Item>({ holdBackMs: Number.POSITIVE_INFINITY, most: Number.POSITIVE_INFINITY });
      const out = play(merge, nodes, { ends: true });
      return isSorted(out) && isComplete(out, nodes) && merge.size === 0;
    }),
  );
  t.pass();
});

t.test('following, delays below the hold-back: in order', async (t) => {
  fc.assert(
    fc.property(world(HOLD - 1), (nodes) => {
      const out = play(new Merge<Item>({ holdBackMs: HOLD, most: Number.POSITIVE_INFINITY }), nodes, { ends: false });
      return isSorted(out) && isComplete(out, nodes);
    }),
  );
  t.pass();
});

t.test('following, any delay: nothing lost, nothing doubled, nothing held for longer', async (t) => {
  fc.assert(
    fc.property(world(1000), (nodes) => {
      const out = play(new Merge<Item>({ holdBackMs: HOLD, most: Number.POSITIVE_INFINITY }), nodes, { ends: false });
      return isComplete(out, nodes) && out.every((o) => o.left - o.arrives <= HOLD);
    }),
  );
  t.pass();
});

t.test('no more is held than there is room for', async (t) => {
  fc.assert(
    fc.property(world(1000), fc.integer({ min: 1, max: 8 }), (nodes, most) => {
      const merge = new Merge<Item>({ holdBackMs: Number.POSITIVE_INFINITY, most });
      const out = play(merge, nodes, { ends: false });
      // Without an end and without a hold-back, what is left are fewer items than there is room for.
      const rest = nodes.flat().length - out.length;
      return rest === merge.size && rest < most && new Set(out.map(key)).size === out.length;
    }),
  );
  t.pass();
});

t.test('nodes that leave and come back', async (t) => {
  const merge = new Merge<string>({ holdBackMs: Number.POSITIVE_INFINITY, most: 100 });
  merge.join('a');
  merge.join('b');
  merge.push('a', 10n, 'a10', 0);
  t.equal(merge.take(0), undefined, 'b may have something earlier');
  t.same(merge.awaited(), ['b']);
  merge.leave('a');
  t.equal(merge.take(0), undefined, 'a has left; b is still waited for');
  merge.join('a');
  merge.push('b', 20n, 'b20', 0);
  t.equal(merge.take(0), undefined, 'a is back, and nothing is known of it');
  t.same(merge.awaited(), ['a']);
  merge.push('a', 15n, 'a15', 0);
  t.equal(merge.take(0), 'a10');
  merge.leave('b');
  merge.leave('a');
  t.equal(merge.take(0), 'a15');
  t.equal(merge.take(0), 'b20');
  t.equal(merge.take(0), undefined);
  t.equal(merge.dueIn(0), Number.POSITIVE_INFINITY);
});
