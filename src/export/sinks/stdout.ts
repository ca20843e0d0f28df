/** JSON lines on standard output. */
import { write } from 'node:fs';
import { promisify } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Item } from '../base/item.js';
import { again, type Outcome, type Sink, WRITE_MS } from '../base/sink.js';
import { lineOf } from './jsonl.js';

const BATCH = 256;
const BATCH_BYTES = 64 << 10;
const LINGER_MS = 100;
/** Milliseconds after which a full pipe that does not block is tried again. */
const FULL_MS = 20;
const STDOUT = 1;
const LATE = Symbol('late');

const writeTo = promisify(write);

/**
 * process.stdout would block the whole process while the other end of a pipe does not read: the container runtime's
 * log. Here a thread of the pool waits for it.
 */
export class StdoutSink implements Sink<Buffer> {
  readonly most = BATCH;
  readonly mostBytes = BATCH_BYTES;
  readonly lingerMs = LINGER_MS;
  /** What is being written, and may be so still when the time for it is over: so many lines. */
  #running: { readonly lines: number; readonly end: Promise<unknown> } | undefined;

  encode(item: Item): Buffer {
    return lineOf(item);
  }

  sizeOf(line: Buffer): number {
    return line.length + 128;
  }

  async write(batch: readonly Buffer[], signal: AbortSignal): Promise<Outcome> {
    for (let done = 0; done < batch.length; ) {
      // A write that has begun is never given up, as the next line would begin in the middle of one.
      this.#running ??= { lines: batch.length - done, end: writeAll(Buffer.concat(batch.slice(done))) };
      const { lines, end } = this.#running;
      const fault = await within(end, signal);
      if (fault === LATE) return again('nobody reads standard output', done);
      this.#running = undefined;
      if (fault !== undefined) return again(fault, done);
      done += lines;
    }
    return { done: true, refused: 0 };
  }

  close(): void {}
}

/** @returns the fault, if any */
async function writeAll(bytes: Buffer): Promise<unknown> {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += (await writeTo(STDOUT, bytes, at)).bytesWritten;
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code !== 'EAGAIN') return e;
      await sleep(FULL_MS);
    }
  }
  return undefined;
}

/** What it resolves to, or LATE if the time is over or the signal comes before. */
async function within(end: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  const late = new AbortController();
  const abort = () => late.abort();
  signal.addEventListener('abort', abort);
  if (signal.aborted) abort();
  const limit = sleep(WRITE_MS, LATE, { signal: late.signal }).catch(() => LATE);
  const first = await Promise.race([end, limit]);
  signal.removeEventListener('abort', abort);
  late.abort();
  return first;
}
