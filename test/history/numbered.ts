/** Rows of which it is seen which write they are of. */
import type { EdgeHistory } from '../../src/edges/edge.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from '../edges/given.js';

const EDGES = Array.from({ length: 50 }, (_, n) =>
  makeEdge({ source: workload(`shop/web-${n}`), destination: outside(`192.0.2.${n}`) }),
);

/** Write number n: every edge has n connections on each of ten days. */
export function numbered(n: number): EdgeHistory[] {
  const days = Array.from({ length: 10 }, (_, d) => makeDay(A_DAY + d, { connections: n, bytes: n }));
  return EDGES.map((edge) => ({ edge, days }));
}
