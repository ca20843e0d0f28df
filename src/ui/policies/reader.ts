/**
 * Reads texts that somebody edits without keeping everybody else waiting: YAML of a megabyte takes seconds, and one with
 * many keys minutes. Long texts are read in a thread, which is ended when it takes too long.
 */
import { Worker } from 'node:worker_threads';
import { HttpError } from '../http/answers.js';
import type { TextProblem } from '../wire/policies.js';
import { located } from './positions.js';
import { type Reading, reading } from './reading.js';

/** Characters that are read at once: some milliseconds. */
const SHORT = 8 << 10;
/** Threads at once: a server of a few cores has others to answer. */
const MOST_RUNNING = 2;
const MOST_WAITING = 32;
/** Memory of a thread's objects, MiB. */
const MEBIBYTES = 256;

/** What a thread is asked. With problems: where they are. */
export interface Asked {
  readonly text: string;
  readonly problems?: readonly TextProblem[];
}

export class Reader {
  readonly #limitMs: number;
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  /** @param limitMs milliseconds that one text may take */
  constructor(limitMs = 4000) {
    this.#limitMs = limitMs;
  }

  /** @throws HttpError 413, 429 */
  async read(text: string): Promise<Reading> {
    if (text.length <= SHORT) return reading(text);
    const answer = await this.#ask<Reading>({ text });
    if (answer) return answer;
    throw new HttpError(413, 'this text takes too long to read', { hint: 'a policy of this size is better split' });
  }

  /** The problems with their places; without them if that takes too long, or others wait. Never throws. */
  async locate(text: string, problems: readonly TextProblem[]): Promise<readonly TextProblem[]> {
    if (text.length <= SHORT || problems.length === 0) return located(text, problems);
    if (this.#waiting.length >= MOST_WAITING) return problems;
    return (await this.#ask<TextProblem[]>({ text, problems })) ?? problems;
  }

  /** @returns undefined: it takes too long, or too much memory */
  async #ask<A>(asked: Asked): Promise<A | undefined> {
    if (this.#running >= MOST_RUNNING) {
      if (this.#waiting.length >= MOST_WAITING)
        throw new HttpError(429, 'many long texts are being read', { hint: 'try again in a moment' });
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    } else this.#running++;
    const worker = new Worker(new URL('./reader-worker.js', import.meta.url), {
      workerData: asked,
      resourceLimits: { maxOldGenerationSizeMb: MEBIBYTES },
      env: {},
    });
    const timer = setTimeout(() => void worker.terminate(), this.#limitMs);
    try {
      return await new Promise<A | undefined>((resolve) => {
        worker.once('message', resolve);
        worker.once('error', () => resolve(undefined));
        worker.once('exit', () => resolve(undefined));
      });
    } finally {
      clearTimeout(timer);
      await worker.terminate();
      // Whoever waits takes the place over.
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running--;
    }
  }
}
