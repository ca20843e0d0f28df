/**
 * Queues answers, so that each has its own turn of the event loop. The latest call is answered first. Thus a client
 * that sends thousands of calls at once, without waiting for answers, does not delay later callers. Without such a
 * client, the queue has one entry and the order does not matter.
 */
const waiting: (() => void)[] = [];

function next(): void {
  waiting.pop()?.();
  if (waiting.length > 0) setImmediate(next);
}

/** Resolves in a turn of the event loop of its own. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(next);
  });
}

/**
 * Shares a slow answer among simultaneous callers. At most one computation runs; callers that arrive meanwhile share
 * the next one. So nobody gets an answer whose computation began before the call.
 */
export function together<A>(answer: () => Promise<A>): () => Promise<A> {
  let running: Promise<unknown> = Promise.resolve();
  let next: Promise<A> | undefined;
  return () => {
    next ??= running.then(() => {
      next = undefined;
      const mine = answer();
      running = mine.catch(() => undefined);
      return mine;
    });
    return next;
  };
}
