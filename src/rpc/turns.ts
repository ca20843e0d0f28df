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
