/** Names: what it costs to learn them, to ask, and to be judged by them; and what the agent has to do for them. */
import { onOneCpu } from '../one-cpu.js';
import type { Result } from '../result.js';
import { flows } from './flows.js';
import { learning } from './learn.js';
import { memory } from './memory.js';
import { queries } from './queries.js';
import { updates } from './update.js';

export async function names(): Promise<Result[]> {
  const packets = onOneCpu(async () => [...(await learning()), ...(await flows())]);
  return [...(await packets()), ...(await queries()), ...(await updates()), ...(await memory())];
}
