/** Where flows are exported to. */
import type { Item } from './item.js';

/** What became of a batch. */
export type Outcome =
  /** It is over. `refused`: so many of it were not taken, and never will be. */
  | { readonly done: true; readonly refused: number; readonly why?: string; readonly reopened?: boolean }
  /** The first `delivered` of it were taken; the others can be tried again, not before `afterMs` milliseconds. */
  | { readonly done: false; readonly delivered: number; readonly why: string; readonly afterMs?: number };

/** A sink. It holds no queue of its own: whoever writes to it waits for the outcome, and writes one batch at a time. */
export interface Sink<T = unknown> {
  /** The item in the form in which it waits to be written: of bounded size, whatever names and paths are in it. */
  encode(item: Item): T;
  /** Approximate bytes that it takes while it waits. */
  sizeOf(encoded: T): number;
  /** How many are written at once, at most, and how long a batch waits to be that large, in milliseconds. */
  readonly most: number;
  readonly mostBytes: number;
  readonly lingerMs: number;
  /**
   * Writes a batch. Resolves within some seconds, whatever the other side does; earlier if the signal comes. Never
   * rejects.
   */
  write(batch: readonly T[], signal: AbortSignal): Promise<Outcome>;
  /** Frees what it holds. Resolves when connections have ended. */
  close(): Promise<void> | void;
}

/** Milliseconds that any collector has to take a batch. */
export const WRITE_MS = 10_000;

/** Longest text of another's that is repeated in a message about a fault. */
const MOST_WHY = 200;

/** The reason of a failure in a few words, without control characters. */
export function whyOf(e: unknown): string {
  const { code, message } = e as NodeJS.ErrnoException;
  const text = message || code || String(e);
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, ' ').slice(0, MOST_WHY);
}

/** Nothing of the batch was taken, and it can be tried again. */
export function again(e: unknown, delivered = 0): Outcome {
  return { done: false, delivered, why: whyOf(e) };
}
