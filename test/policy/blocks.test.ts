/** Blocks patched atom by atom, and the same ones swept at once. */
import t from 'tap';
import { type Atom, peerAtoms } from '../../src/compile/atoms/atoms.js';
import { BlockTable } from '../../src/compile/destinations/blocks.js';
import { sweep } from '../../src/compile/destinations/sweep.js';
import { ascending, sizeOf } from '../../src/image/edited.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Rule } from '../../src/ir/types.js';
import { Random, seeded } from '../fuzz/random.js';
import { BlockList } from './churn-blocks.js';

const random = seeded();
const STEPS = 40;

/** Of lists as rules have them. */
function atomsOf(lists: readonly BlockList[]): Atom[] {
  const all = new Map<string, Atom>();
  for (const { blocks } of lists) {
    const peers = blocks.map(({ cidr, except = [] }): Peer => ({ kind: 'cidr', cidr, except }));
    for (const atom of peerAtoms({ peers } as unknown as Rule).atoms ?? []) all.set(atom.id, atom);
  }
  return [...all.values()].sort((a, b) => ascending(a.id, b.id));
}

function plain({ destinations4: d4, destinations6: d6 }: Pick<BlockTable, 'destinations4' | 'destinations6'>) {
  return [[...d4.keys], [...d4.classes], [...d6.keys], [...d6.classes]];
}

const byId = (classes: Iterable<readonly [number, readonly string[]]>) => [...classes].sort(([a], [b]) => a - b);

for (const sizes of [[1], [30, 30, 10], [700, 300], [4000, 1500, 20]]) {
  t.test(`lists of ${sizes.join(', ')}, FUZZ_SEED=${random.seed}`, async (t) => {
    const r = new Random(random.below(2 ** 31) + 1);
    const lists = sizes.map((size) => new BlockList(r, size));
    const table = new BlockTable();
    let patched = 0;
    for (let step = 0; step < STEPS; step++) {
      const some = lists.filter(() => r.chance(80));
      for (const list of some) if (r.chance(60)) list.change();
      const atoms = atomsOf(r.chance(85) ? lists : some);
      const moved = table.update(atoms);
      if (moved && moved !== 'all') patched++;
      const whole = sweep(atoms);
      t.strictSame(plain(table), plain(whole), `step ${step}: ${moved === 'all' ? 'swept' : 'patched'}`);
      t.strictSame(byId(table.classes), byId(whole.classes), 'and no class more');
    }
    t.ok(patched > 0, `${patched} patches on ${sizeOf(table.destinations4)} destinations`);
  });
}
