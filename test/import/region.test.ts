import t from 'tap';
import { EVERYTHING, NOTHING, Region } from '../../src/import/base/region.js';
import { addressesOf, andAddresses, cidrsOf, notAddresses, notPorts, hasPort } from '../../src/import/base/spans.js';
import { matchesName } from '../../src/names/pattern.js';
import fc from '../seeded.js';

const label = fc.constantFrom('a', 'b', 'c');
const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.'));
const domain = fc.record({ name, own: fc.boolean(), below: fc.boolean() });
/** Every name of four labels at most, and one label that no domain has. */
const NAMES = ['a', 'b', 'c', 'z'].reduce<string[]>(
  (all) => {
    const longer = all.filter((n) => n.split('.').length < 5 || n === '');
    return [
      ...new Set([...all, ...longer.flatMap((n) => ['a', 'b', 'c', 'z'].map((l) => (n === '' ? l : `${l}.${n}`)))]),
    ];
  },
  [''],
);

interface Tree {
  readonly region: Region;
  readonly has: (name: string | undefined) => boolean;
}

const leaf: fc.Arbitrary<Tree> = fc.array(domain, { maxLength: 6 }).map((domains) => ({
  region: Region.of(domains),
  has: (one) =>
    one !== undefined &&
    domains.some(({ name, own, below }) => (own && one === name) || (below && one.endsWith(`.${name}`))),
}));

const tree: fc.Arbitrary<Tree> = fc.letrec<{ tree: Tree }>((tie) => ({
  tree: fc.oneof(
    { depthSize: 'small' },
    leaf,
    fc.constantFrom<Tree>({ region: EVERYTHING, has: () => true }, { region: NOTHING, has: () => false }),
    fc.tuple(fc.constantFrom('and', 'or', 'minus'), tie('tree'), tie('tree')).map(([op, a, b]): Tree => {
      if (op === 'and') return { region: a.region.and(b.region), has: (n) => a.has(n) && b.has(n) };
      if (op === 'or') return { region: a.region.or(b.region), has: (n) => a.has(n) || b.has(n) };
      return { region: a.region.minus(b.region), has: (n) => a.has(n) && !b.has(n) };
    }),
    tie('tree').map((a): Tree => ({ region: a.region.not(), has: (n) => !a.has(n) })),
  ),
})).tree;

t.test('sets of names are closed under and, or, not', (t) => {
  fc.assert(
    fc.property(tree, ({ region, has }) => {
      for (const name of [undefined, ...NAMES]) if (region.has(name) !== has(name)) return false;
      return region.isEverything === [undefined, ...NAMES].every(has) || !region.isEverything;
    }),
  );
  t.end();
});

t.test('patterns mean the set, or less where something is told to be lost', (t) => {
  fc.assert(
    fc.property(tree, ({ region, has }) => {
      const { patterns, lost } = region.patterns();
      for (const name of NAMES.slice(1)) {
        const said = patterns.some((pattern) => matchesName(pattern, name));
        if (said && !has(name)) return false;
        if (lost.length === 0 && said !== has(name)) return false;
      }
      return lost.every(({ below, but }) => below === '' || but.endsWith(`.${below}`));
    }),
  );
  t.end();
});

t.test('blocks and ports', (t) => {
  const cidr = fc
    .tuple(fc.nat(15), fc.integer({ min: 28, max: 32 }))
    .map(([n, bits]) => `10.0.0.${(n >> (32 - bits)) << (32 - bits)}/${bits}`);
  fc.assert(
    fc.property(fc.array(cidr, { maxLength: 5 }), fc.array(cidr, { maxLength: 5 }), (a, b) => {
      const inside = (list: readonly string[], n: number) =>
        list.some((one) => {
          const [address = '', bits = ''] = one.split('/');
          const lo = Number(address.split('.')[3]);
          return address.startsWith('10.0.0.') && n >= lo && n < lo + 2 ** (32 - Number(bits));
        });
      const rest = cidrsOf(andAddresses(addressesOf(a), notAddresses(addressesOf(b))));
      for (let n = 0; n < 16; n++) if (inside(rest, n) !== (inside(a, n) && !inside(b, n))) return false;
      return true;
    }),
  );
  t.same(cidrsOf(addressesOf(['0.0.0.0/1', '128.0.0.0/1'])), ['0.0.0.0/0']);
  t.same(cidrsOf(notAddresses([])), ['0.0.0.0/0', '::/0']);
  const but = notPorts({
    tcp: [
      [80, 80],
      [443, 65535],
    ],
    udp: [],
    other: true,
  });
  t.same(
    [1, 79, 80, 81, 442, 443, 65535].map((port) => hasPort(but, 6, port)),
    [true, true, false, true, true, false, false],
  );
  t.same([hasPort(but, 17, 53), hasPort(but, 1, 0)], [true, false]);
  t.end();
});
