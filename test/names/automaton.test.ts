/** The automaton of names says what matchesName() says, is small, and refuses to grow without bound. */
import fc from '../seeded.js';
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import { type Automaton, buildAutomaton, walk } from '../../src/names/automaton.js';
import { matchesName, readAtom } from '../../src/names/pattern.js';

// Few letters, so that patterns and names meet.
const letter = fc.constantFrom('a', 'b', '-', '0');
const plain = fc.string({ unit: letter, minLength: 1, maxLength: 3 });
const label = fc.oneof(
  { weight: 4, arbitrary: plain },
  { weight: 1, arbitrary: fc.constantFrom('*', '**') },
  {
    weight: 2,
    arbitrary: fc
      .string({ unit: fc.oneof(letter, fc.constant('*')), minLength: 1, maxLength: 4 })
      .map((s) => s.replace(/\*+/g, '*')),
  },
);
const pattern = fc.oneof(
  { weight: 20, arbitrary: fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join('.')) },
  { weight: 1, arbitrary: fc.constant('***') },
);
const atom = fc.tuple(fc.constantFrom('name', 'alias', 'query'), pattern).map(([kind, p]) => `${kind}:${p}`);
const name = fc.oneof(
  { weight: 9, arbitrary: fc.array(plain, { maxLength: 4 }).map((labels) => labels.join('.')) },
  { weight: 1, arbitrary: fc.string({ unit: fc.constantFrom('a', '.', '?', 'A', '*'), maxLength: 5 }) },
);

/** What matchesName() says about the classes of a name. */
function expected(atoms: readonly string[], name: string) {
  const matching = [...new Set(atoms)].sort().filter((a) => matchesName(readAtom(a)!.pattern, name));
  const of = (mark: string, ...kinds: string[]) => {
    const own = matching.filter((a) => kinds.includes(readAtom(a)!.kind));
    return own.length === 0 ? [] : [mark, ...own];
  };
  return { names: of('@names', 'name', 'alias'), aliases: of('@names', 'alias'), queries: of('@queries', 'query') };
}

function found(automaton: Automaton, name: string) {
  const state = walk(automaton, name);
  const { names, aliases, queries } = automaton.accepts.find((a) => a.state === state) ?? {
    names: [],
    aliases: [],
    queries: [],
  };
  return { names, aliases, queries };
}

/** The rules of enum ea_cells: each cell belongs to one state, the cells of classes are free. */
function checkCells(t: Pick<typeof import('tap').t, 'same'>, { cells, size, accepts, root }: Automaton) {
  const { EA_CELL_CHUNK_BITS: bits, EA_CELL_CLASS: first, EA_CELL_SPAN: span } = ENUMS.ea_cells;
  const faults: string[] = [];
  const isState = (q: number) => q > 0 && q + span <= size && (cells[2 * q]! & 0x7fffffff) === q;
  if (cells.length !== 2 * size) faults.push('size');
  if (cells[0] !== 0 || cells[1] !== 0) faults.push('cell 0 is used');
  if (!isState(root)) faults.push('root');
  for (let at = 1; at < size; at++) {
    const owner = cells[2 * at]! & 0x7fffffff;
    const next = cells[2 * at + 1]!;
    if (owner === 0) {
      if (next !== 0) faults.push(`cell ${at} has no owner and leads to ${next}`);
      continue;
    }
    if (!isState(owner) || owner > at || at - owner >= first) faults.push(`cell ${at} belongs to ${owner}`);
    if (next !== 0 && !isState(next)) faults.push(`cell ${at} leads to ${next}`);
    if (at !== owner && next === 0) faults.push(`cell ${at} leads nowhere`);
    if (owner >> bits !== (owner + span - 1) >> bits) faults.push(`state ${owner} is in two chunks`);
  }
  const accepting = new Set(accepts.map((a) => a.state));
  for (const state of accepting)
    for (let at = state + first; at < state + span; at++)
      if (cells[2 * at] !== 0) faults.push(`cell ${at} is not free`);
  for (let at = 1; at < size; at++)
    if (cells[2 * at]! > 0x7fffffff !== accepting.has(at)) faults.push(`the header of ${at}`);
  t.same(faults, []);
}

t.test('says the same as matchesName()', async (t) => {
  fc.assert(
    fc.property(fc.array(atom, { maxLength: 12 }), fc.array(name, { minLength: 1, maxLength: 30 }), (atoms, names) => {
      const automaton = buildAutomaton(atoms);
      for (const n of names) {
        const [is, should] = [found(automaton, n), expected(atoms, n)];
        if (JSON.stringify(is) !== JSON.stringify(should))
          throw new Error(`"${n}": ${JSON.stringify(is)}, not ${JSON.stringify(should)}`);
      }
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

t.test('its cells, of random patterns and in any order', async (t) => {
  fc.assert(
    fc.property(fc.array(atom, { maxLength: 30 }), (atoms) => {
      const automaton = buildAutomaton(atoms);
      checkCells(t, automaton);
      t.same(buildAutomaton([...atoms].reverse().concat(atoms)), automaton);
    }),
    { numRuns: 200 },
  );
});

t.test('no patterns: a root that leads nowhere', async (t) => {
  const automaton = buildAutomaton([]);
  checkCells(t, automaton);
  t.equal(walk(automaton, ''), 0);
  t.equal(walk(automaton, 'a'), 0);
  t.same(automaton.accepts, []);
});

t.test('equal lists of atoms are one object', async (t) => {
  const { accepts } = buildAutomaton(['name:***', 'name:a.b', 'name:c.d']);
  t.ok(accepts.length > 5);
  t.equal(new Set(accepts.map((a) => a.names)).size, 3);
});

/** Milliseconds of CPU: other processes do not count. */
function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** 10,000 patterns of 20 to 30 bytes, exact and wildcards of every form mixed. */
function many(): string[] {
  const words = ['api', 'cdn', 'img', 'login', 'static', 'eu-west-1', 'us-east-2', 'store', 'files', 'mail'];
  const tlds = ['com', 'net', 'org', 'io', 'example', 'co.uk', 'dev'];
  const forms = ['W.N.T', 'W.N.T', 'W.N.T', '*.N.T', '**.N.T', 'W*.N.T', '*W.N.T', 'W-*-x.N.T', 'W.*.N.T', 'W.**.N.T'];
  return Array.from({ length: 10_000 }, (_, i) => {
    const site = `customer-${((i * 7919) % 100_003).toString(36)}-site`;
    const text = forms[i % forms.length]!.replace('W', words[(i >> 3) % words.length]!).replace('N', site);
    return text.replace('T', tlds[i % tlds.length]!);
  });
}

t.test('10,000 patterns', async (t) => {
  const atoms = many().map((p, i) => `${['name', 'alias', 'query'][i % 3]}:${p}`);
  buildAutomaton(atoms.slice(0, 1000));
  const started = process.cpuUsage();
  const automaton = buildAutomaton(atoms);
  const took = cpuSince(started);
  const MiB = automaton.cells.byteLength / 2 ** 20;
  const bytes = atoms.reduce((sum, a) => sum + a.length, 0) / atoms.length - 6;
  t.comment(
    `patterns of ${bytes.toFixed(1)} bytes: ${took.toFixed(0)} ms, ${MiB.toFixed(1)} MiB, ${automaton.accepts.length} accept`,
  );
  t.ok(took < 2500, `${took} ms`);
  t.ok(MiB < 8, `${MiB} MiB`);
  checkCells(t, automaton);
  for (const p of many().filter((_, i) => i % 499 === 0)) {
    const hit = p.replace('**', 'x.y').replace('*', 'zz');
    for (const n of [hit, `q${hit}`, hit.slice(1), `q.${hit}`]) t.same(found(automaton, n), expected(atoms, n), n);
  }
});

t.test('every name, beside 10,000 patterns', async (t) => {
  const automaton = buildAutomaton(['alias:***', ...many().map((p) => `name:${p}`)]);
  t.comment(`${(automaton.cells.byteLength / 2 ** 20).toFixed(1)} MiB`);
  checkCells(t, automaton);
  t.same(found(automaton, ''), { names: ['@names', 'alias:***'], aliases: ['@names', 'alias:***'], queries: [] });
});

t.test('patterns that blow up are refused, and named', async (t) => {
  const harmless = many().slice(0, 2000);
  const bad = Array.from({ length: 40 }, (_, i) => `*${i.toString(36)}a${i.toString(36)}*b${i}c*.example.com`);
  const started = process.cpuUsage();
  try {
    buildAutomaton([...harmless, ...bad].map((p) => `name:${p}`));
    t.fail('was built');
  } catch (error) {
    t.type(error, AgentError);
    const { code, hint, message } = error as AgentError;
    t.equal(code, 'TOO_LARGE');
    t.comment(`${message}; ${hint}; ${cpuSince(started).toFixed(0)} ms`);
    const named = /due to (.*):/.exec(hint ?? '')![1]!.split(', ');
    t.ok(named.length > 0 && named.every((p) => bad.includes(p)), 'only those that blow up are named');
  }
  t.ok(cpuSince(started) < 5000);
});
