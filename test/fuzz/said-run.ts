/**
 * Connections whose verdict depends on what they say, through the hooks, and a server behind them: nothing may arrive there
 * that the rules do not admit, however its segments are cut, repeated, damaged, lost; and what a client says that means
 * well must arrive.
 */
import type { Said } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import type { Ir } from '../../src/ir/types.js';
import { RST } from '../attacks/craft.js';
import { snapshot } from '../bench/worlds.js';
import { Processors } from '../engines/processors.js';
import { Connection, type Fate, irOf, type Line, SaidBed, SERVER } from '../said/bed.js';
import { Random } from './random.js';
import { type ReadingOf, readStream } from './said-reading.js';
import { type Reply, SaidServer } from './said-server.js';
import { randomSaid } from './said-steps.js';
import type { SaidSend, SaidStep, WrongSaid } from './said-types.js';

/** Whether requests are judged in the kernel, so that streams of them are sent too. */
export const HEARS_HTTP = true;

interface Rules {
  readonly lines: readonly Line[];
  readonly isHttp?: true;
}

const GOOD = ['good.example', '*.good.example'];
/** What is allowed, what is denied; and the same of requests. */
const RULES: readonly Rules[] = [
  { lines: [{ serverNames: GOOD }] },
  { lines: [{ action: 'deny', serverNames: ['evil.example', '**.evil.example'] }, {}] },
  { lines: [{ serverNames: ['good.example'] }, { action: 'deny', serverNames: ['**'] }, {}] },
  { lines: [{ http: [{ method: 'GET', path: '/a.*', host: 'good\\.example' }, { method: 'POST' }] }], isHttp: true },
  { lines: [{ action: 'deny', http: [{ path: '/b' }] }, {}], isHttp: true },
];
const NUMBERS = [...RULES.keys()].filter((n) => HEARS_HTTP || !RULES[n]?.isHttp);
/** Connections under the same rules: to write them takes long. */
const EACH = 60;

export interface SaidRun {
  steps: number;
  seen: Record<string, number>;
  wrong?: WrongSaid;
}

/** As if what is dropped for this reason passed: for tests of this fuzzer. */
export type SaidFlaw = string | undefined;

/** The hooks and the server. */
export class SaidPair {
  readonly #bed = new SaidBed([]);
  readonly #processors = new Processors();
  readonly #verdicts = RULES.map(() => new Map<string, boolean>());
  readonly #irs: readonly Ir[] = RULES.map(({ lines }) => irOf(lines));
  readonly seen: Record<string, number> = {};
  flaw: SaidFlaw;
  #rules: number | undefined;
  #connection!: Connection;
  #server = new SaidServer();
  #reading: ReadingOf = { said: [] };
  /** A hello with early data was to be tried again: what the pod sends from then on must not arrive. */
  #over: number | undefined;
  #answered = false;

  /** Takes a step. @returns what is wrong */
  take(step: SaidStep): string | undefined {
    this.#count(step.do);
    switch (step.do) {
      case 'connect':
        return this.#connect(step.rules);
      case 'send':
        return this.#send(step);
      case 'acknowledge':
        this.#reply(this.#server.acknowledge());
        return undefined;
      case 'answer':
        return this.#answer(step);
      case 'finish':
        return this.#finish(Buffer.from(step.stream, 'hex'), step.size);
      default:
        return step satisfies never;
    }
  }

  /** The first bytes of what its applications read. */
  get stream(): string {
    return this.#server.streams.map((s) => s.subarray(0, 400).toString('hex')).join(' ');
  }

  close(): void {
    this.#processors.release();
    this.#bed.close();
  }

  #connect(rules: number): undefined {
    if (rules !== this.#rules) this.#bed.rules(RULES[rules]?.lines ?? []);
    this.#rules = rules;
    // Half of all buffers are for one pod.
    if (this.#bed.held() > 120) this.#bed.drop();
    this.#connection = new Connection(this.#bed.kernel, this.#bed.port(), 443);
    this.#server = new SaidServer();
    this.#reading = { said: [] };
    this.#over = undefined;
    this.#answered = false;
  }

  #send({ at, bytes, flags, sum, lost, must }: SaidSend): string | undefined {
    const payload = Buffer.from(bytes, 'hex');
    // What a processor keeps of other segments must not matter.
    this.#processors.next();
    const fate = this.#connection.send(at, payload, { flags, ...(sum === undefined ? {} : { sum }) });
    for (const reason of new Set(fate.told)) this.#count(reason);
    const isWhole = fate.passes && fate.data.equals(payload) && fate.flags === (flags & 0xff);
    if (must && !isWhole) return `does not pass: ${at} ${bytes.slice(0, 60)} (${fate.told.join(' ')})`;
    const arrives = this.#arriving(fate, { at, payload, flags });
    // A wrong checksum arrives nowhere, unless what goes on is a reset of the program's.
    if (!arrives || lost || (sum !== undefined && fate.data.equals(payload) && isWhole)) return undefined;
    this.#reply(this.#server.arrive(arrives));
    return this.#check();
  }

  #arriving(fate: Fate, sent: { at: number; payload: Buffer; flags: number }) {
    if (this.flaw !== undefined && fate.told.includes(this.flaw)) return { ...sent, data: sent.payload };
    return fate.passes ? { at: fate.seq, flags: fate.flags, data: fate.data } : undefined;
  }

  #reply(reply: Reply | undefined): void {
    if (reply) this.#connection.receive(reply.at, Buffer.alloc(0), reply);
  }

  #answer({ bytes, retry }: Extract<SaidStep, { do: 'answer' }>): undefined {
    const ack = this.#server.isOpen ? this.#server.acknowledge()?.ack : undefined;
    // A server answers what it has read.
    if (ack === undefined || this.#reading.said.length === 0) return undefined;
    const fate = this.#connection.receive(0, Buffer.from(bytes, 'hex'), { ack });
    if (fate.flags & RST) this.#count('reset by its answer');
    // Only its first answer may be one.
    if (retry && this.#reading.early && !this.#answered) this.#over ??= this.#server.next;
    this.#answered = true;
    return undefined;
  }

  #finish(stream: Buffer, size: number): string | undefined {
    const isGood = this.#read(stream);
    if (isGood.wrong !== undefined || !this.#server.isOpen) return undefined;
    this.#count('to arrive');
    for (let n = 0; this.#server.next < stream.length; n++) {
      const at = this.#server.next;
      const bytes = stream.subarray(at, at + size).toString('hex');
      const wrong = this.#send({ do: 'send', at, bytes, flags: 0x18, must: true });
      if (wrong) return wrong;
      if (n % 3 === 0) this.#reply(this.#server.acknowledge());
    }
    this.#reply(this.#server.acknowledge());
    const data = '1703030001aa';
    // Behind a hello, whatever is no hello.
    if (!RULES[this.#rules ?? 0]?.isHttp)
      return this.#send({ do: 'send', at: stream.length, bytes: data, flags: 0x18, must: true });
    return undefined;
  }

  #read(stream: Buffer): ReadingOf {
    const { isHttp = false } = RULES[this.#rules ?? 0] as Rules;
    return readStream(stream, (said) => this.#admits(said), isHttp);
  }

  #check(): string | undefined {
    if (this.#over !== undefined && this.#server.next > this.#over) return 'a second hello behind early data';
    for (const stream of this.#server.streams) {
      const reading = this.#read(stream);
      if (reading.said.length > this.#reading.said.length) this.#count(`said ${reading.said.length}`);
      if (reading.wrong) return reading.wrong;
      this.#reading = reading;
    }
    return undefined;
  }

  #admits(said: Said): boolean {
    const n = this.#rules ?? 0;
    const known = this.#verdicts[n] as Map<string, boolean>;
    const key = JSON.stringify(said);
    let admitted = known.get(key);
    if (admitted === undefined) {
      const packet = { from: 'default/web', to: SERVER, protocol: 6, port: 443, said };
      admitted = evaluate(this.#irs[n] as Ir, snapshot(), packet).verdict === 'allow';
      known.set(key, admitted);
    }
    return admitted;
  }

  #count(kind: string): void {
    this.seen[kind] = (this.seen[kind] ?? 0) + 1;
  }
}

/** @param limits `until`: of performance.now() */
export function fuzzSaid(
  seed: number,
  limits: { count: number; until?: number },
  progress: (steps: number) => void = () => undefined,
  pair: SaidPair = new SaidPair(),
): SaidRun {
  const r = new Random(seed);
  const run: SaidRun = { steps: 0, seen: pair.seen };
  while (run.steps < limits.count && performance.now() < (limits.until ?? Number.POSITIVE_INFINITY)) {
    const rules = r.pick(NUMBERS);
    for (let n = 0; n < EACH; n++) {
      const steps = randomSaid(r, rules, RULES[rules]?.isHttp ?? false);
      run.steps += steps.length;
      const wrong = again(steps, pair);
      if (wrong) return { ...run, wrong: smaller(wrong, pair) };
    }
    progress(run.steps);
  }
  return run;
}

/** Takes the steps anew, from nothing. */
export function replaySaid(steps: readonly SaidStep[], pair: SaidPair = new SaidPair()): WrongSaid | undefined {
  return again(steps, pair);
}

function again(steps: readonly SaidStep[], pair: SaidPair): WrongSaid | undefined {
  for (const [i, step] of steps.entries()) {
    const wrong = pair.take(step);
    if (wrong) return { steps: steps.slice(0, i + 1), wrong, stream: pair.stream };
  }
  return undefined;
}

/** As few steps as still lead to something wrong. */
function smaller(found: WrongSaid, pair: SaidPair): WrongSaid {
  let small = found;
  for (let at = 1; at < small.steps.length; ) {
    const fewer = again(small.steps.toSpliced(at, 1), pair);
    if (fewer) small = fewer;
    else at++;
  }
  return small;
}
