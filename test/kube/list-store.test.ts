/**
 * Lists and events in every order, without a network: each object's state only goes forward in the server's time, and when all events
 * are in, the view is the server's. FUZZ_SEED repeats a run.
 */
import fc from '../seeded.js';
import t from 'tap';
import type { KubeObject } from '../../src/kube/client/client.js';
import { ListStore, type ListUnderWay } from '../../src/kube/reflector/list-store.js';
import { compareVersions, newerVersion } from '../../src/kube/reflector/list-versions.js';
import { identity, parseEvent } from '../../src/kube/reflector/watch-events.js';

const SEED = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
const KEYS = 4;

type Step =
  | { do: 'put' | 'delete'; key: number }
  /** The n-th event that is under way comes. */
  | { do: 'deliver'; n: number }
  /** An event that has come comes again. */
  | { do: 'again'; n: number }
  | { do: 'begin' | 'page' | 'end' | 'abandon' | 'look' };

const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('put', 'delete'), key: fc.nat(KEYS - 1) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('deliver'), n: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('again'), n: fc.nat(20) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constantFrom('begin', 'page', 'end', 'look') }) },
  { weight: 1, arbitrary: fc.constant({ do: 'abandon' }) },
) as fc.Arbitrary<Step>;

interface State {
  from: number;
  /** undefined: there was no such object. */
  version: string | undefined;
}

/** A server's storage with all its past, and a view that is checked against it. */
class Model {
  readonly store = new ListStore<string>((object) => object.metadata?.resourceVersion as string);
  readonly objects = new Map<string, KubeObject>();
  readonly view = new Map<string, string>();
  time = 97;
  /** What each key was, since when. */
  readonly #past = new Map<string, State[]>();
  /** No earlier state of a key may show any more. */
  readonly #shown = new Map<string, number>();
  #underWay: object[] = [];
  readonly #come: object[] = [];
  #list: { taken: ListUnderWay; at: number; items: KubeObject[]; version: string } | undefined;

  constructor(readonly version: (time: number) => string) {}

  step(s: Step, inOrder: boolean): void {
    if (s.do === 'put' || s.do === 'delete') this.#change(`ns/${s.key}`, s.do === 'delete');
    else if (s.do === 'deliver') this.deliver(inOrder ? 0 : s.n);
    else if (s.do === 'again') {
      const event = this.#come[s.n];
      if (event && !inOrder) this.#apply(event);
    } else if (s.do === 'begin' && !this.#list) {
      const version = this.version(this.time);
      this.#list = { taken: this.store.beginList(), at: this.time, items: [...this.objects.values()], version };
    } else if (s.do === 'page') this.#page(2);
    else if (s.do === 'end') this.endList();
    else if (s.do === 'abandon') {
      this.#list?.taken.abandon();
      this.#list = undefined;
    } else if (s.do === 'look') this.look();
  }

  deliver(n: number): boolean {
    const [event] = this.#underWay.splice(Math.min(n, this.#underWay.length - 1), 1);
    if (!event) return false;
    this.#come.push(event);
    this.#apply(event);
    return true;
  }

  endList(): void {
    const list = this.#list;
    if (!list) return;
    this.#list = undefined;
    this.#page(Number.POSITIVE_INFINITY, list);
    list.taken.end(list.version);
    this.look();
    // What is older than a list that was taken in must not show any more.
    for (const key of this.#past.keys()) this.#shown.set(key, Math.max(list.at, this.#shown.get(key) ?? 0));
  }

  look(): void {
    const changes = this.store.take();
    for (const [key, version] of 'all' in changes ? changes.all : changes.changed) {
      if (version === undefined) this.view.delete(key);
      else this.view.set(key, version);
    }
  }

  /** @throws where a key shows a state that it had left already */
  check(): void {
    for (const [key, past] of this.#past) {
      const shown = this.#shown.get(key) ?? 0;
      const version = this.view.get(key);
      const at = past.findIndex((state, i) => {
        const until = past[i + 1]?.from ?? Number.POSITIVE_INFINITY;
        return state.version === version && until > shown;
      });
      if (at < 0) throw new Error(`${key} shows ${version} after ${shown}: ${JSON.stringify(past)}`);
      this.#shown.set(key, Math.max(shown, past[at]?.from ?? 0));
    }
  }

  #page(items: number, list = this.#list): void {
    for (const item of list?.items.splice(0, items) ?? []) list?.taken.add(identity(item)!, item);
  }

  #change(key: string, gone: boolean): void {
    const before = this.objects.get(key);
    if (gone && !before) return;
    const resourceVersion = this.version(++this.time);
    const uid = before?.metadata?.uid ?? `uid-${this.time}`;
    const object = { metadata: { namespace: 'ns', name: key.slice(3), uid, resourceVersion } };
    if (gone) this.objects.delete(key);
    else this.objects.set(key, object);
    const past = this.#past.get(key) ?? [{ from: 0, version: undefined }];
    past.push({ from: this.time, version: gone ? undefined : resourceVersion });
    this.#past.set(key, past);
    this.#underWay.push({ type: gone ? 'DELETED' : before ? 'MODIFIED' : 'ADDED', object });
  }

  #apply(line: object): void {
    const event = parseEvent(line);
    if (event.type !== 'BOOKMARK') this.store.apply(event);
  }
}

function play(steps: readonly Step[], version: (time: number) => string, inOrder: boolean): boolean {
  const model = new Model(version);
  // The watch begins where the first list was taken.
  model.step({ do: 'begin' }, inOrder);
  model.endList();
  for (const s of steps) {
    model.step(s, inOrder);
    if (!inOrder) {
      model.look();
      model.check();
    }
  }
  model.endList();
  while (model.deliver(0));
  model.look();
  const mine = [...model.view].map(([key, v]) => `${key} ${v}`).sort();
  const theirs = [...model.objects].map(([key, o]) => `${key} ${o.metadata?.resourceVersion}`).sort();
  return mine.join() === theirs.join();
}

const steps = fc.array(step, { minLength: 1, maxLength: 60, size: '+1' });

t.test(`decimal versions, events in any order and twice, FUZZ_SEED=${SEED}`, async (t) => {
  fc.assert(
    fc.property(steps, (s) => play(s, String, false)),
    { seed: SEED, numRuns: 5000 },
  );
  t.pass('5000 sequences');
});

t.test(`versions that mean nothing, events in order, FUZZ_SEED=${SEED}`, async (t) => {
  fc.assert(
    fc.property(steps, (s) => play(s, (time) => `v${(time * 7919) % 10_007}`, true)),
    { seed: SEED, numRuns: 5000 },
  );
  t.pass('5000 sequences');
});

/** One object, then events: `TYPE uid version`; @returns the version held at the end */
function after(listVersion: string, [uid, version]: readonly [string, string], events: readonly string[]): unknown {
  const store = new ListStore<string>((object) => object.metadata?.resourceVersion as string);
  const object = { metadata: { name: 'a', uid, resourceVersion: version } };
  const list = store.beginList();
  list.add(identity(object)!, object);
  list.end(listVersion);
  const view = new Map((store.take() as { all: ReadonlyMap<string, string> }).all);
  for (const text of events) {
    const [type, uid, resourceVersion] = text.split(' ');
    const event = parseEvent({ type, object: { metadata: { name: 'a', uid, resourceVersion } } });
    if (event.type !== 'BOOKMARK') store.apply(event);
  }
  const changes = store.take();
  for (const [key, value] of 'changed' in changes ? changes.changed : []) {
    if (value === undefined) view.delete(key);
    else view.set(key, value);
  }
  return view.get('a');
}

t.test('deletions', async (t) => {
  t.equal(after('9', ['u1', '5'], ['DELETED u1 5']), undefined, 'with the version that the object had last');
  t.equal(after('9', ['u1', '5'], ['DELETED u1 10']), undefined);
  t.equal(after('9', ['u2', '8'], ['DELETED u1 7']), '8', 'of the one that had the name before');
  t.equal(after('9', ['u1', '5'], ['DELETED u2 11']), undefined, 'of its successor, whose coming was lost');
  t.equal(after('x', ['u2', 'b'], ['DELETED u1 a']), 'b', 'the same, with versions that mean nothing');
  t.equal(after('9', ['u1', '5'], ['DELETED u1 12', 'MODIFIED u1 11']), undefined, 'a late event');
  t.equal(after('9', ['u1', '5'], ['DELETED u1 12', 'ADDED u2 13']), '13', 'another of the name');
});

t.test('versions', async (t) => {
  const rows = [
    ['9', '10', -1],
    ['10', '9', 1],
    ['99999999999999999999', '100000000000000000000', -1],
    ['7', '7', 0],
    ['a', 'a', 0],
    ['a', '7', undefined],
    ['07', '8', undefined],
    ['-1', '8', undefined],
    [undefined, '8', undefined],
  ] as const;
  for (const [a, b, order] of rows) {
    const got = compareVersions(a, b);
    t.equal(got === undefined ? got : Math.sign(got), order, `${a} ${b}`);
  }
  t.equal(newerVersion('10', '9'), '10');
  t.equal(newerVersion('9', '10'), '10');
  t.equal(newerVersion('x', '9'), '9');
  t.equal(newerVersion(undefined, '9'), '9');
});
