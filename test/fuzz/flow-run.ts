/**
 * Sequences of packets of three pods, their node and whoever is outside, through all hooks that each one meets, while policies and
 * Services change and tables lose what they held. Of each packet the model says whether it must arrive, must not, or may do as it likes.
 */
import { Bed } from './flow-bed.js';
import type { Fate } from './fate.js';
import { FlowModel } from './flow-model.js';
import { Path, type Walked } from './flow-path.js';
import { type Before, randomStep, randomWorld } from './flow-steps.js';
import type { Segment, Step, Tuple, WorldSpec } from './flow-types.js';
import { Moment } from './flow-world.js';
import { Random } from './random.js';

/** Steps with one kernel and one model, from nothing: what is found need not be looked for in more than these. */
const SEQUENCE = 1000;

export interface WrongFlow {
  readonly steps: readonly Step[];
  readonly walked: Walked;
  readonly final: Tuple;
  readonly expected: Fate;
}

export interface FlowRun {
  steps: number;
  /** By who sent, and what the model said. */
  seen: Record<string, number>;
  wrong?: WrongFlow;
}

export interface FlowLimits {
  readonly count: number;
  /** Of performance.now(). */
  readonly until?: number;
  /** What is made of the hooks' answer, for tests: as if the programs had a fault. */
  readonly flaw?: Flaw;
  /** Whether to go on, with another sequence, after a disagreement. */
  readonly goOn?: (wrong: WrongFlow) => boolean;
}

export type Flaw = (s: Segment, walked: Walked) => Walked;

/** The hooks and the model; steps are taken by both. */
class Pair {
  readonly #bed = new Bed();
  #moment!: Moment;
  #model!: FlowModel;
  readonly #path: Path;
  readonly #moments = new Map<string, Moment>();
  #now = '';
  before: Before | undefined;

  constructor(private readonly flaw: Flaw = (_, walked) => walked) {
    this.#path = new Path(this.#bed, () => this.#moment);
  }

  inside<T>(fn: () => T): T {
    return this.#bed.inside(fn);
  }

  /** From nothing. */
  begin(world: WorldSpec): void {
    this.#use(world);
    this.#bed.begin();
    this.#path.begin();
    this.#model = new FlowModel(() => this.#moment);
    this.before = undefined;
  }

  /** @returns what is wrong, and what was expected of it where a packet was sent */
  take(step: Step): { fate?: Fate; wrong?: Omit<WrongFlow, 'steps'> } {
    if (step.do === 'world') {
      this.#use(step.world);
      this.#model.changed();
    }
    if (step.do === 'forget') {
      if (step.what === 'conntrack') this.#path.forget();
      else this.#bed.forget(step.what);
      this.#model.forget(step.what);
    }
    if (step.do !== 'send') return {};
    const { segment } = step;
    const { final, flow } = this.#path.ahead(segment);
    const expected = this.#model.fate(segment, final, flow);
    const walked = this.flaw(segment, this.#path.walk(segment));
    this.#model.learn(segment, final, walked);
    this.before = { segment, final };
    const right = expected.fate === 'either' || (expected.fate === 'drop') === (walked.stopped !== undefined);
    return right ? { fate: expected } : { fate: expected, wrong: { walked, final, expected } };
  }

  close(): void {
    this.#bed.close();
  }

  #use(world: WorldSpec): void {
    const name = JSON.stringify(world);
    if (name === this.#now) return;
    this.#now = name;
    this.#moment = this.#moments.get(name) ?? new Moment(world);
    if (this.#moments.size > 64) this.#moments.clear();
    this.#moments.set(name, this.#moment);
    this.#bed.use(this.#moment);
  }
}

export function fuzzFlows(
  seed: number,
  limits: FlowLimits,
  progress: (steps: number) => void = () => undefined,
): FlowRun {
  const r = new Random(seed);
  const pair = new Pair(limits.flaw);
  const run: FlowRun = { steps: 0, seen: {} };
  const going = () => run.steps < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY);
  try {
    return pair.inside(() => {
      while (going() && sequence(r, pair, run, limits)) progress(run.steps);
      return run;
    });
  } finally {
    pair.close();
  }
}

/** False: something was found, and that is enough. */
function sequence(r: Random, pair: Pair, run: FlowRun, limits: FlowLimits): boolean {
  let world = randomWorld(r);
  const steps: Step[] = [{ do: 'world', world }];
  pair.begin(world);
  while (steps.length < SEQUENCE) {
    const step = randomStep(r, pair.before, world);
    if (step.do === 'world') world = step.world;
    steps.push(step);
    const { fate, wrong } = pair.take(step);
    run.steps++;
    const kind = step.do === 'send' ? `${step.segment.from} ${fate?.fate}` : step.do;
    run.seen[kind] = (run.seen[kind] ?? 0) + 1;
    if (!wrong) continue;
    const small = smaller({ steps, ...wrong }, pair);
    if (limits.goOn?.(small)) return true;
    run.wrong = small;
    return false;
  }
  return true;
}

/** Takes the steps of each sequence anew, from nothing. */
export function replayFlows(...sequences: readonly (readonly Step[])[]): (WrongFlow | undefined)[] {
  const pair = new Pair();
  try {
    return pair.inside(() => sequences.map((steps) => again(steps, pair)));
  } finally {
    pair.close();
  }
}

function again(steps: readonly Step[], pair: Pair): WrongFlow | undefined {
  const [first, ...rest] = steps;
  if (first?.do !== 'world') return undefined;
  pair.begin(first.world);
  for (const [i, step] of rest.entries()) {
    const { wrong } = pair.take(step);
    if (wrong) return { steps: steps.slice(0, i + 2), ...wrong };
  }
  return undefined;
}

/** The last step, and as few before it as still lead there, in a world that says as little as it can. */
function smaller(found: WrongFlow, pair: Pair): WrongFlow {
  const same = (steps: readonly Step[]) => {
    const now = again(steps, pair);
    return now?.expected.fate === found.expected.fate ? now : undefined;
  };
  let small = same(found.steps) ?? found;
  for (let size = small.steps.length >> 1; size >= 1; size >>= 1) {
    for (let at = 1; at + size < small.steps.length; ) {
      const fewer = same(small.steps.toSpliced(at, size));
      if (fewer && fewer.steps.length < small.steps.length) small = fewer;
      else at += size;
    }
  }
  for (let at = 0; at < small.steps.length; at++) {
    const step = small.steps[at];
    if (step?.do !== 'world') continue;
    for (let world of lesser(step.world)) {
      const now = same(small.steps.with(at, { do: 'world', world }));
      if (!now || now.steps.length !== small.steps.length) continue;
      small = now;
      for (let again = true; again; ) {
        again = false;
        for (const less of lesser(world)) {
          const then = same(small.steps.with(at, { do: 'world', world: less }));
          if (!then || then.steps.length !== small.steps.length) continue;
          [small, world, again] = [then, less, true];
          break;
        }
      }
      break;
    }
  }
  return small;
}

/** The world with one thing less. */
function* lesser(world: WorldSpec): Generator<WorldSpec> {
  const { api, node, ...rest } = world;
  if (api) yield { ...rest, ...(node ? { node } : {}) };
  if (node) yield { ...rest, ...(api ? { api } : {}) };
  for (const name of ['services', 'outside'] as const)
    if (world.masquerade[name]) yield { ...world, masquerade: { ...world.masquerade, [name]: false } };
  for (const [i] of world.web.entries()) yield { ...world, web: world.web.toSpliced(i, 1) };
  for (const [n, list] of world.backends.entries())
    for (const [i] of list.entries()) yield { ...world, backends: world.backends.with(n, list.toSpliced(i, 1)) };
}
