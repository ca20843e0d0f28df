/**
 * Questions that take long are answered in a thread of their own: enforcement and the reading of events go on
 * meanwhile. One question at a time; a few may wait. Each thread ends with its answer, so that its memory is free again.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { AgentError } from '../../src/errors.js';
import { pieces } from './pieces.js';
import type { Answer, Fault, Task } from './worker.js';

/** What one question may take. */
export interface Limits {
  /** Milliseconds, without the time that it waits. */
  readonly ms: number;
  /** Memory of JavaScript objects, MiB. */
  readonly mebibytes: number;
  /** Number of questions that may wait. */
  readonly waiting: number;
}

/** Most of what an answer needs is garbage a moment later: with less room, collecting it takes a sixth of the time. */
const YOUNG_MEBIBYTES = 96;

export const USUAL_LIMITS: Limits = { ms: 60_000, mebibytes: 1024, waiting: 4 };

/** Asks questions, one after the other. */
export class AskThread {
  readonly #jobs: string;
  readonly #limits: Limits;
  #last: Promise<unknown> = Promise.resolve();
  #open = 0;
  #worker: Worker | undefined;
  #isClosed = false;

  /** @param jobs URL of the module whose `JOBS` answers, by name */
  constructor(jobs: string, limits: Limits = USUAL_LIMITS) {
    this.#jobs = jobs;
    this.#limits = limits;
  }

  /**
   * The answer of a job. @param question plain data and maps, which must not change until the answer is there
   * @throws AgentError AGENT if it takes too long, too much memory, or too many wait; the job's own
   */
  ask<T>(job: string, question: unknown): Promise<T> {
    if (this.#isClosed) return Promise.reject(new AgentError('AGENT', 'the agent is being stopped'));
    if (this.#open > this.#limits.waiting)
      return Promise.reject(
        new AgentError('AGENT', `${this.#open} such questions are open already`, { hint: 'ask again in a moment' }),
      );
    this.#open++;
    const answer = this.#last.then(() => this.#answer(job, question)).finally(() => this.#open--);
    this.#last = answer.catch(() => {});
    return answer as Promise<T>;
  }

  /** Ends a question that is being answered, and refuses those that wait. */
  close(): void {
    this.#isClosed = true;
    void this.#worker?.terminate();
  }

  async #answer(job: string, question: unknown): Promise<unknown> {
    if (this.#isClosed) throw new AgentError('AGENT', 'the agent is being stopped');
    const { ms, mebibytes } = this.#limits;
    const task: Task = { jobs: this.#jobs, job };
    const worker = new Worker(new URL('./worker.js', import.meta.url), {
      workerData: task,
      resourceLimits: { maxOldGenerationSizeMb: mebibytes, maxYoungGenerationSizeMb: YOUNG_MEBIBYTES },
      env: {},
    });
    this.#worker = worker;
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      void worker.terminate();
    }, ms);
    let hasEnded = false;
    const ended = new Promise<Answer>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', (e) => reject(tooMuch(e, mebibytes)));
      worker.once('exit', () => {
        const why = isLate ? `${job} took more than ${ms / 1000} s` : `${job} was ended`;
        reject(new AgentError('AGENT', why, { hint: isLate ? 'ask about fewer workloads' : 'ask again' }));
      });
    }).finally(() => {
      hasEnded = true;
    });
    try {
      const sent = send(worker, question, () => hasEnded);
      const [answer] = await Promise.all([ended, sent]);
      if ('answer' in answer) return answer.answer;
      throw errorOf(answer.fault);
    } finally {
      clearTimeout(timer);
      this.#worker = undefined;
      await worker.terminate();
    }
  }
}

async function send(worker: Worker, question: unknown, hasEnded: () => boolean): Promise<void> {
  for (const piece of pieces(question)) {
    if (hasEnded()) return;
    worker.postMessage(piece);
    await nextTurn();
  }
  worker.postMessage('end');
}

function tooMuch(e: unknown, mebibytes: number): Error {
  if ((e as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return e as Error;
  return new AgentError('AGENT', `it takes more than ${mebibytes} MiB of memory`, {
    hint: 'ask about fewer workloads',
  });
}

function errorOf({ message, code, where, hint }: Fault): Error {
  if (code === undefined) return new AgentError('INTERNAL', message);
  return new AgentError(code, message, { ...(where ? { where } : {}), ...(hint === undefined ? {} : { hint }) });
}
