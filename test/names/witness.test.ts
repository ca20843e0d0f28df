/** A name for each kind of names that patterns tell apart. */
import fc from '../seeded.js';
import t from 'tap';
import { buildAutomaton, walk } from '../../src/names/automaton.js';
import { witnesses } from '../../src/names/witness.js';
import { nameKinds } from '../../src/tools/names/kinds.js';
import type { Rule } from '../../src/ir/types.js';

const pattern = fc.constantFrom('a.b', '*.b', '*a.b', '**.b', 'a*.b', '***', '*', 'c.*.b', '*a*', 'a.**');
const atoms = fc.array(
  fc.tuple(fc.constantFrom('name', 'alias', 'query'), pattern).map(([kind, p]) => `${kind}:${p}`),
  { maxLength: 8 },
);

t.test('a witness for everything that an automaton tells apart', async (t) => {
  fc.assert(
    fc.property(atoms, (atoms) => {
      const automaton = buildAutomaton(atoms);
      const found = witnesses(automaton);
      const told = (one: { names: readonly string[]; aliases: readonly string[]; queries: readonly string[] }) =>
        JSON.stringify([one.names, one.aliases, one.queries]);
      for (const { name, accepts } of found) {
        const state = walk(automaton, name);
        const accepted = automaton.accepts.find((a) => a.state === state);
        if (!accepted || told(accepted) !== told(accepts)) throw new Error(`"${name}" of ${atoms}`);
      }
      // Every accepting state can be reached, so its content must have been found.
      const all = new Set(automaton.accepts.map(told));
      if (found.length !== all.size) throw new Error(`${found.length} of ${all.size}: ${atoms}`);
    }),
  );
  t.same(
    witnesses(buildAutomaton(['name:*.example.com', 'name:api.example.com', 'name:*y.example.com']))
      .map((w) => w.name)
      .sort(),
    ['api.example.com', 'x.example.com', 'y.example.com'],
  );
});

t.test('kinds of names that rules distinguish', async (t) => {
  const rule = (part: Partial<Rule>) => ({ peers: null, ports: null, ...part }) as Rule;
  const kinds = nameKinds([
    rule({
      peers: [
        { kind: 'names', patterns: ['a.b'] },
        { kind: 'all', of: [{ kind: 'names', patterns: ['*.b'], aliases: true }] },
      ],
    }),
    rule({ queries: ['**'] }),
  ]);
  const told = kinds.learned.map(({ name, alias }) => `${name}${alias ? ' alias' : ''}`);
  t.same(told.sort(), ['a.b', 'a.b alias', 'x.b', 'x.b alias'].sort());
  t.equal(kinds.queries.length, 4, 'one that no pattern matches, too');
});
