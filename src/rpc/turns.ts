/**
 * Turns of the event loop, one for each answer. The latest comes first: in a crowd that asks thousands of times at once and waits
 * for nothing, somebody who comes after it is answered at once. Without a crowd there is nobody to overtake.
 */
const waiting: (() => void)[] = [];

function next(): void {
  waiting.pop()?.();
  if (waiting.length > 0) setImmediate(next);
}

export function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    if (waiting.push(resolve) === 1) setImmediate(next);
  });
}

/**
 * An answer that takes its time, for many who ask for it at once: one is on its way at most, and who comes meanwhile waits for the
 * next, with all others. So nobody is given one that was begun before the question.
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
