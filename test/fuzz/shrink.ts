/**
 * What was found, made small: first as a state without a past (a case file for test/cases), else as the shortest history that still
 * leads there.
 */
import { toIr } from '../../src/dialects/index.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { senderOf } from '../../src/ir/sender.js';
import { printer } from '../engines/cases.js';
import { caseText, packetText } from './case-text.js';
import { Agent, type Batch, type Disagreement, Fresh, judged, judgedAgain, judgedState } from './history.js';
import type { ManyPackets, Sent } from './kernel.js';
import { type Lesson, namesText } from './lessons.js';
import type { Manifest } from './objects/names.js';
import { idOf } from './world.js';

/** A case file where the state alone is enough; a history, as JSON, where it is not. */
export interface Small {
  readonly name: string;
  readonly text: string;
  readonly extension: 'yaml' | 'json';
  readonly answers: Disagreement['answers'];
}

/** Milliseconds that making it small may take. */
const PATIENCE = 120_000;

/** Lives through a history and asks the last state what was found before; undefined: all is well. */
export function replay(history: readonly Batch[], found: Disagreement, kernel: ManyPackets): Disagreement | undefined {
  const agent = new Agent(kernel);
  const { packet } = found;
  let before: Sent | undefined;
  history.forEach((batch, i) => {
    agent.take(batch);
    const last = i === history.length - 1;
    if (last || !packet || found.about !== 'flow' || !agent.fresh().senders.includes(packet.from)) return;
    before = agent.judge(packet).sent;
  });
  const fresh = agent.fresh();
  if (found.about === 'state') return judgedState(fresh, agent, kernel);
  if (!packet || !fresh.senders.includes(packet.from)) return undefined;
  if (found.about === 'flow') return before && judgedAgain(fresh, kernel, before);
  return judged(fresh, agent, packet).found;
}

/** @param wrong what is wrong with a state, where it is not that the engines disagree: for tests */
export function shrink(
  found: Disagreement,
  history: readonly Batch[],
  kernel: ManyPackets,
  name: string,
  wrong?: (fresh: Fresh) => boolean,
): Small {
  const until = performance.now() + PATIENCE;
  const still = (h: readonly Batch[]) => {
    try {
      if (!wrong) return replay(h, found, kernel) !== undefined;
      const agent = new Agent(kernel);
      for (const batch of h) agent.take(batch);
      return wrong(agent.fresh());
    } catch {
      // Less than a world: it is not this that was found.
      return false;
    }
  };
  const state = [flat(history)];
  // What is wrong of a known flow is most often wrong of a first packet too: that needs no history.
  if (found.about === 'flow' && found.packet && !wrong) {
    const first = replay(state, { ...found, about: 'verdict' }, kernel);
    if (first) found = first;
  }
  const alone = still(state);
  // What is left out must not make a faulty policy of a good one: a case file has none.
  const faults = (h: readonly Batch[]) => (alone && found.packet ? problemsOf(h[0] as Batch) : 0);
  let least = faults(state);
  let small: readonly Batch[] = alone ? state : history;
  if (!alone && still(history)) small = fewer(small, still, until);
  for (let at = 0; at < small.length; at++) {
    const taken = (batch: Batch) => {
      const candidate = small.with(at, batch);
      const now = faults(candidate);
      if (now > least || !still(candidate)) return false;
      least = now;
      small = candidate;
      return true;
    };
    const less = (lessons: readonly Lesson[]) => taken({ ...(small[at] as Batch), lessons });
    const fewerLessons = without(small[at]?.lessons ?? [], less, until);
    for (const [i, lesson] of fewerLessons.entries())
      without(
        lesson.addresses,
        (addresses) => less((small[at] as Batch).lessons?.with(i, { ...lesson, addresses }) ?? []),
        until,
      );
    smaller((small[at] as Batch).changes, (changes) => taken({ ...(small[at] as Batch), changes }), until);
  }
  if (alone && still(small) && found.packet && found.about === 'verdict') {
    const objects = (small[0] as Batch).changes.map(([, object]) => object as Manifest);
    return {
      name,
      text: asCase(name, objects, small[0] as Batch, found, kernel),
      extension: 'yaml',
      answers: found.answers,
    };
  }
  const last = (wrong ? undefined : replay(small, found, kernel)) ?? found;
  const text = `${JSON.stringify({ name, found: last, history: small }, null, 1)}\n`;
  return { name, text, extension: 'json', answers: last.answers };
}

function problemsOf({ changes, ownIps }: Batch): number {
  const objects = changes.map(([, object]) => object).filter((object) => object !== undefined);
  const { snapshot } = new Fresh(objects, ownIps, { tiers: [] });
  return snapshot.problems.length + toIr(snapshot).problems.length;
}

/** Everything at once. What pods learned, they are taught by hand: the policies that let them ask may be gone. */
function flat(history: readonly Batch[]): Batch {
  const objects = new Map<string, Manifest>();
  for (const [id, object] of history.flatMap((b) => b.changes)) {
    if (object) objects.set(id, object);
    else objects.delete(id);
  }
  const lessons = history.flatMap((b) => b.lessons ?? []).filter(({ refused }) => !refused);
  const byHand = lessons.map(({ server: _, ...lesson }): Lesson => lesson);
  return { changes: [...objects], ownIps: history.at(-1)?.ownIps ?? [], lessons: byHand };
}

/** Leaves batches out, and puts neighbours together. */
function fewer(history: readonly Batch[], still: (h: readonly Batch[]) => boolean, until: number): readonly Batch[] {
  for (let at = history.length - 2; at >= 0 && performance.now() < until; at--) {
    const [a, b] = [history[at] as Batch, history[at + 1] as Batch];
    const { changes, lessons = [] } = flat([a, b]);
    const joined = history.toSpliced(at, 2, { changes: [...changes, ...gone([a, b])], ownIps: b.ownIps, lessons });
    const left = history.toSpliced(at, 1);
    if (still(left)) history = left;
    else if (still(joined)) history = joined;
  }
  return history;
}

function gone(history: readonly Batch[]): Batch['changes'] {
  const last = new Map(history.flatMap((b) => b.changes));
  return [...last].filter(([, object]) => object === undefined);
}

/** Leaves out as many as can be, many at a time and then one by one. */
function without<T>(list: readonly T[], still: (fewer: readonly T[]) => boolean, until: number): readonly T[] {
  for (let size = list.length; size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < list.length && performance.now() < until; ) {
      const fewer = list.toSpliced(at, size);
      if (still(fewer)) list = fewer;
      else at += size;
    }
  }
  return list;
}

/** Leaves objects out, and then parts of what is left. */
function smaller(
  changes: Batch['changes'],
  still: (changes: Batch['changes']) => boolean,
  until: number,
): Batch['changes'] {
  changes = without(changes, still, until);
  for (let i = 0; i < changes.length; i++) {
    const [id, whole] = changes[i] as Batch['changes'][number];
    let object = whole;
    for (let again = object !== undefined; again && performance.now() < until; ) {
      again = false;
      for (const part of parts(object as Manifest)) {
        if (performance.now() > until || !still(changes.with(i, [id, part]))) continue;
        object = part;
        changes = changes.with(i, [id, part]);
        again = true;
        break;
      }
    }
  }
  return changes;
}

/** The object with one thing less: an element of a list or a field, the large ones first. Its name stays. */
function* parts(object: Manifest): Generator<Manifest> {
  const paths: (string | number)[][] = [];
  const walk = (value: unknown, path: (string | number)[]) => {
    if (typeof value !== 'object' || value === null) return;
    for (const key of Array.isArray(value) ? value.keys() : Object.keys(value)) {
      const inner = [...path, key];
      if (['apiVersion', 'kind', 'metadata.name', 'metadata.namespace', 'metadata'].includes(inner.join('.'))) {
        if (key === 'metadata') walk((value as Record<string, unknown>).metadata, inner);
        continue;
      }
      paths.push(inner);
      walk((value as Record<string | number, unknown>)[key], inner);
    }
  };
  walk(object, []);
  for (const path of paths.sort((a, b) => a.length - b.length)) {
    const copy = structuredClone(object);
    let at = copy as unknown as Record<string | number, unknown>;
    for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>;
    const last = path.at(-1) as string | number;
    if (Array.isArray(at)) at.splice(last as number, 1);
    else delete at[last];
    yield copy;
  }
}

/** Manifests and the reference's answer; where a policy of them has errors, which no case may have, the IR that is in force. */
function asCase(
  name: string,
  objects: readonly Manifest[],
  { ownIps, lessons = [] }: Batch,
  { packet }: Disagreement,
  kernel: ManyPackets,
): string {
  const agent = new Agent(kernel);
  agent.take({ changes: objects.map((o) => [idOf(o), o]), ownIps, lessons });
  const { snapshot } = agent.world;
  const { ir, problems } = toIr(snapshot);
  if (!packet) throw new Error('a case is about a packet');
  const { learned, senders } = agent.fresh();
  const names = namesText(
    lessons.filter(({ pod, uid }) => senders.includes(pod) && senderOf(snapshot, pod)?.uid === uid),
  );
  // No manifest of a case has words for what connections say beside its spec.
  if (problems.length > 0 || objects.some(({ says }) => says !== undefined))
    return caseText(name, { ...agent.world, learned }, [packet], names);
  const row = `${packetText(packet)}: ${printer(ir)(evaluate(ir, snapshot, packet, learned), packet)}`;
  return [
    `name: ${JSON.stringify(name)}`,
    `nodeIps: ${JSON.stringify(ownIps)}`,
    'manifests: |',
    ...objects.map((o, i) => `${i > 0 ? '  ---\n' : ''}  ${JSON.stringify(o)}`),
    ...names,
    'packets:',
    `- ${JSON.stringify(row)}`,
    '',
  ].join('\n');
}
