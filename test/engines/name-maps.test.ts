/**
 * Names in the map store. After each single write of an update, whichever set and whichever matcher a packet has read
 * by then, it finds the rows that this set has for each name. An agent may be killed there, and the next one goes on.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { KernelMapStore, type Maps } from '../../agent/maps/store.js';
import * as encode from '../../agent/maps/tables/encode.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { SetFault } from '../../src/image/fault.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import { PLAIN_IDS } from '../../src/ids.js';
import { seeded } from '../fuzz/random.js';
import { loadForTest } from './engine.js';
import { MatcherReader } from './matcher-reader.js';
import * as worlds from './name-images.js';
import { watching } from './watching.js';

const random = seeded();
const ROUNDS = Number(process.env.EA_ROUNDS ?? 4);
const MAPS = ['destinations4', 'class_rules', 'port_rules', 'rules', 'addresses'];
const SIZES = { ...Object.fromEntries(MAPS.map((name) => [name, 8192])), flows: 1024, events: 65536 };

class Killed extends Error {}

/** What packets may be doing: the sets that they have read, and the matchers that they read after them. */
class Packets {
  readonly #maps: Maps;
  readonly #reader: MatcherReader;
  readonly #known: ReadonlyMap<number, PolicySet>;
  #sets = new Set<number>();
  #pairs = new Map<string, [set: number, root: number]>();
  states = 0;

  constructor(maps: Maps, known: ReadonlyMap<number, PolicySet>) {
    this.#maps = maps;
    this.#reader = new MatcherReader(maps);
    this.#known = known;
  }

  /** A grace period is over: packets go by what is in force. */
  waited(): void {
    this.#sets.clear();
    this.#pairs.clear();
    this.#start();
  }

  #start(): void {
    for (const set of this.#inForce()) this.#sets.add(set);
    const { root } = this.#reader.word;
    for (const set of this.#sets) this.#pairs.set(`${set},${root}`, [set, root]);
  }

  #inForce(): number[] {
    const memory = encode.map(this.#maps, 'endpoints').mmap();
    const E = STRUCTS.ea_endpoint;
    return worlds.bindings().flatMap(({ ifindex }) => {
      const ref = memory.readBigUInt64LE(ifindex * E.size + E.fields.set.offset);
      return ref === 0n ? [] : [encode.setOf(ref)];
    });
  }

  /** Throws if a packet finds another row than its set has. */
  look(): void {
    this.#start();
    const cells = this.#reader.cells();
    const byRoot = new Map<number, ReturnType<MatcherReader['walk']>[]>();
    const rows = new Map<string, string>();
    const rowOf = (set: number, id: number, kind: 'names' | 'queries') => {
      const memo = `${set},${id},${kind}`;
      let row = rows.get(memo);
      if (row === undefined) rows.set(memo, (row = String(this.#reader.row(set, id, kind))));
      return row;
    };
    for (const [id, root] of this.#pairs.values()) {
      const set = this.#known.get(id);
      if (!set) throw new Error(`packets are judged by set ${id}`);
      let found = byRoot.get(root);
      if (!found) byRoot.set(root, (found = worlds.NAMES.map((name) => this.#reader.walk(cells, root, name))));
      for (const [n, name] of worlds.NAMES.entries()) {
        const classes = found[n] as (typeof found)[number];
        for (const kind of ['name', 'alias', 'query'] as const) {
          const field = kind === 'query' ? 'queries' : 'names';
          if (!set[field]) continue;
          this.states++;
          const got = rowOf(id, classes[kind], field);
          const wanted = String(expected(set, kind, name));
          if (got !== wanted) throw new Error(`${kind} ${name}: set ${id} has row ${got}, not ${wanted}`);
        }
      }
    }
  }
}

const expectedRows = new WeakMap<PolicySet, Map<string, string>>();
function expected(set: PolicySet, kind: 'name' | 'alias' | 'query', name: string): string {
  let known = expectedRows.get(set);
  if (!known) expectedRows.set(set, (known = new Map()));
  let row = known.get(`${kind} ${name}`);
  if (row === undefined) known.set(`${kind} ${name}`, (row = String(worlds.expectedRow(set, kind, name))));
  return row;
}

/** Every entry of the policy maps and what names find, as text in order. */
function dump(maps: Maps): string[] {
  const out: string[] = [];
  for (const name of MAPS) {
    const map = encode.map(maps, name);
    for (const { keys, values, count } of map.batches()) {
      for (let i = 0; i < count; i++) {
        const key = keys.subarray(i * map.keySize, (i + 1) * map.keySize).toString('hex');
        out.push(`${name} ${key} ${values.subarray(i * map.valueSize, (i + 1) * map.valueSize).toString('hex')}`);
      }
    }
  }
  const reader = new MatcherReader(maps);
  const cells = reader.cells();
  for (const name of worlds.NAMES) out.push(`${name} ${JSON.stringify(reader.walk(cells, reader.word.root, name))}`);
  out.push(`matcher: ${reader.word.root !== 0}`);
  return [...new Set(out)].sort();
}

function freshly(image: Image): string[] {
  const programs = loadForTest(SIZES);
  const store = new KernelMapStore(programs.maps);
  store.apply(image, worlds.bindings());
  store.tidy();
  const out = dump(programs.maps);
  store.close();
  programs.close();
  return out;
}

t.test(`${ROUNDS} sequences of updates, killed now and then, FUZZ_SEED=${random.seed}`, async (t) => {
  let [states, kills, most] = [0, 0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const statePath = mkdtempSync(join(tmpdir(), 'names-'));
    const programs = loadForTest(SIZES);
    const { maps } = programs;
    const known = new Map<number, PolicySet>();
    const packets = new Packets(maps, known);
    let remaining = Number.POSITIVE_INFINITY;
    const undo = watching(
      () => {
        packets.look();
        if (--remaining <= 0) throw new Killed();
      },
      () => packets.waited(),
    );
    let image: Image | undefined;
    try {
      let store = new KernelMapStore(maps, { statePath });
      for (let n = 0; n < 8; n++) {
        image = worlds.randomImage(random, PLAIN_IDS, image);
        for (const set of image.sets.values()) known.set(set.id, set);
        remaining = random.chance(40) ? 1 + random.below(60) : Number.POSITIVE_INFINITY;
        try {
          store.apply(image, worlds.bindings());
          if (random.chance(60)) store.tidy();
        } catch (e) {
          if (!(e instanceof Killed)) throw e;
          kills++;
          remaining = Number.POSITIVE_INFINITY;
          // The next agent, or the same one, which reads the maps again.
          if (random.chance(70)) store = new KernelMapStore(maps, { statePath });
          store.apply(image, worlds.bindings());
        }
        remaining = Number.POSITIVE_INFINITY;
        packets.look();
        if (random.chance(20)) t.same(store.verify(false), [], `round ${round}: the maps are as the Image says`);
      }
      store.tidy();
      const end = dump(maps);
      t.strictSame(end, freshly(image as Image), `round ${round}: nothing is left over`);
      t.same(store.verify(false), []);
      most = Math.max(most, new MatcherReader(maps).chunks().size);
      store.close();
      // A restart without a change: everything stays as it is.
      const { generation } = new MatcherReader(maps).word;
      const next = new KernelMapStore(maps, { statePath });
      t.equal(next.apply(image as Image, worlds.bindings()).written, 0, 'the next agent writes nothing');
      t.equal(new MatcherReader(maps).word.generation, generation, 'and takes the matcher over');
      next.close();
    } finally {
      undo();
      programs.close();
      rmSync(statePath, { recursive: true });
    }
    states += packets.states;
  }
  t.ok(most <= 3, `${most} chunks`);
  t.comment(`${states} rows of names compared, ${kills} kills`);
});

/** A store with one Image in force, in maps of its own. */
function inForce(t: Test, image: Image, sizes: Record<string, number> = {}) {
  const programs = loadForTest({ ...SIZES, ...sizes });
  t.teardown(() => programs.close());
  const store = new KernelMapStore(programs.maps);
  store.apply(image, worlds.bindings());
  store.tidy();
  return { store, maps: programs.maps, reader: new MatcherReader(programs.maps) };
}

const allowing = (...names: string[]) => worlds.setOf([worlds.rule({ names: [...names].sort() })], PLAIN_IDS);
const imageOf = (...sets: (PolicySet | undefined)[]) => worlds.imageOf(sets, PLAIN_IDS, [0, 0, 0]);
const pattern = (n: number) => `name:*.service-${n}.team${n % 89}.example.org`;

t.test('what someone else changed in the matcher is found and mended', async (t) => {
  const set = allowing('name:*.example.com', 'alias:a.b');
  const { store, maps, reader } = inForce(t, imageOf(set));
  const before = dump(maps);
  const mended = (wanted: RegExp, what: string) => {
    t.match(store.verify(false), [wanted], what);
    t.match(store.verify(true), [wanted]);
    t.same(store.verify(false), [], 'and mended');
    t.same(dump(maps), before);
  };
  const [slot, id] = [...reader.chunks()].find(([n]) => n === reader.word.root >>> 17) as [number, number];
  const chunk = BpfMap.byId(id, 'chunk');
  chunk.mmap().writeUInt32LE(7, (reader.word.root % 2 ** 17) * 8 + 4);
  chunk.close();
  mended(new RegExp(`name_cells\\[${slot}\\] has wrong cells`), 'a cell');
  encode.map(maps, 'name_state').mmap().writeUInt32LE(3, STRUCTS.ea_name_state_words.fields.matcher.offset);
  mended(/name_state: the matcher begins at 3/, 'the word');
  const key = Buffer.alloc(4);
  key.writeUInt32LE(reader.word.root >>> 17);
  encode.map(maps, 'name_cells').delete(key);
  mended(/name_cells\[\d+\] is missing/, 'a chunk');
  store.close();
});

t.test('a matcher of several chunks', async (t) => {
  const many = Array.from({ length: 8000 }, (_, n) => pattern(n));
  const { store, reader } = inForce(t, imageOf(allowing(...many), allowing('name:x')), { class_rules: 65536 });
  t.ok(reader.chunks().size >= 2, `${reader.chunks().size} chunks`);
  const find = () => {
    const cells = reader.cells();
    const [query, alias] = [0, 0];
    for (let n = 0; n < many.length; n += 7) {
      const found = reader.walk(cells, reader.word.root, `a.service-${n}.team${n % 89}.example.org`);
      if (found.name === 0 || found.query !== query || found.alias !== alias) return `${n}: ${JSON.stringify(found)}`;
    }
    return reader.walk(cells, reader.word.root, 'service-1.team1.example.org').name;
  };
  t.equal(find(), 0, 'each is found');
  const { generation } = reader.word;
  store.apply(imageOf(allowing(...many), allowing('name:y')), worlds.bindings());
  t.equal(find(), 0, 'also while patterns come and go');
  store.tidy();
  t.equal(find(), 0);
  t.equal(reader.word.generation, generation + 1, 'one old pattern is not worth another matcher');
  t.same(store.verify(false), []);
  store.apply(imageOf(allowing(...many.slice(0, 6000))), worlds.bindings());
  t.equal(reader.word.generation, generation + 1, 'nothing is new');
  store.tidy();
  t.equal(reader.word.generation, generation + 2, 'but some thousand are');
  t.same(store.verify(false), []);
  store.apply(imageOf(), worlds.bindings());
  store.tidy();
  t.same(reader.word, { generation: generation + 3, root: 0 }, 'nobody asks for a name');
  t.ok(reader.chunks().size <= 4, `${reader.chunks().size} chunks are kept`);
  t.same(store.verify(false), []);
  store.close();
});

t.test('without names nothing is done', async (t) => {
  const { store, reader } = inForce(t, imageOf(worlds.setOf([worlds.rule({})], PLAIN_IDS)));
  t.same(reader.word, { generation: 0, root: 0 });
  t.equal(reader.chunks().size, 0);
  t.equal(store.fill().find(({ name }) => name === 'name_cells')?.entries, 0);
  store.close();
});

t.test('what does not fit changes nothing', async (t) => {
  const old = allowing('name:x');
  const { store, maps } = inForce(t, imageOf(old), { class_rules: 64 });
  const before = dump(maps);
  const large = allowing(...Array.from({ length: 70 }, (_, n) => pattern(n)));
  const refused = (set: PolicySet, wanted: object, what: string) => {
    try {
      store.apply(imageOf(old, set), worlds.bindings());
      t.fail(what);
    } catch (e) {
      t.ok(e instanceof SetFault);
      t.match(e, { code: 'TOO_LARGE', blamed: { sets: [set.id] }, ...wanted }, what);
    }
    t.same(dump(maps), before, 'the maps are as before');
    t.same(store.verify(false), []);
  };
  refused(large, { message: /map class_rules holds 64 entries/ }, 'rows');
  const stars = Array.from({ length: 40 }, (_, n) => `name:*${'abcdefghij'[n % 10]}*${n}*${'klm'[n % 3]}*.example.com`);
  refused(allowing(...stars), { message: /patterns of names need more than/, hint: /\*/ }, 'states');
  store.close();
});

t.test('references of sets say what packets must ask for', (t) => {
  const flags = (set: PolicySet) => encode.setRef(set) >> 53n;
  t.equal(flags(allowing('name:x')), 1n << 7n);
  t.equal(flags(worlds.setOf([worlds.rule({ queries: ['query:x'] })], PLAIN_IDS)), 1n << 6n);
  t.equal(flags(worlds.setOf([worlds.rule({})], PLAIN_IDS)), 0n);
  t.end();
});
