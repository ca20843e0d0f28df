/** The other side of thread.ts: takes one question in pieces, answers it, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { AgentError, type ErrorCode, type Where } from '../../src/errors.js';
import { type Piece, Whole } from './pieces.js';

/** Answers a question. An exception becomes that of the caller. */
export type Job = (question: unknown) => unknown;

/** What the thread is told of its task. */
export interface Task {
  /** Module that exports `JOBS`. */
  readonly jobs: string;
  readonly job: string;
}

export type Answer = { readonly answer: unknown } | { readonly fault: Fault };

/** An exception as it crosses threads. */
export interface Fault {
  readonly message: string;
  /** Only of an AgentError. */
  readonly code?: ErrorCode;
  readonly where?: Where;
  readonly hint?: string;
}

if (parentPort) serve(workerData as Task, parentPort);

function serve(task: Task, port: NonNullable<typeof parentPort>): void {
  const whole = new Whole();
  port.on('message', (piece: Piece | 'end') => {
    if (piece !== 'end') {
      whole.add(piece);
      return;
    }
    void answer(task, whole.value).then((result) => {
      port.postMessage(result);
      port.close();
    });
  });
}

async function answer({ jobs, job }: Task, question: unknown): Promise<Answer> {
  try {
    const { JOBS } = (await import(jobs)) as { JOBS: Readonly<Record<string, Job>> };
    const run = Object.hasOwn(JOBS, job) ? JOBS[job] : undefined;
    if (!run) throw new AgentError('INTERNAL', `there is no job ${job}`);
    return { answer: await run(question) };
  } catch (e) {
    return { fault: faultOf(e) };
  }
}

function faultOf(e: unknown): Fault {
  if (!(e instanceof AgentError)) return { message: e instanceof Error ? e.message : String(e) };
  const { message, code, where, hint } = e;
  return { message, code, where, ...(hint === undefined ? {} : { hint }) };
}
