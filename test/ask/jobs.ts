/** Jobs for the test of threads. */
import { AgentError } from '../../src/errors.js';

export const JOBS = {
  echo: (question: unknown) => question,
  isEven: (n: unknown) => {
    if ((n as number) % 2 === 0) return true;
    throw new AgentError('USAGE', 'odd', { hint: 'be even', where: { field: 'n' } });
  },
  crash: () => {
    throw new TypeError('no');
  },
  spin: () => {
    for (;;);
  },
  fill: () => {
    const all: unknown[] = [];
    for (;;) all.push({ n: all.length, text: `${all.length}` });
  },
};
