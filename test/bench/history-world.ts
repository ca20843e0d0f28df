/**
 * The ledgers of a large cluster, for the benchmark of the history: workloads that each have a hundred edges, half of them
 * to other workloads and half to the outside; every edge is in the ledgers of four agents.
 */
import { DAY_MS, type DayRow, type Edge, hash53 } from '../../src/edges/edge.js';
import { ruleRefOf } from '../../src/edges/wire.js';
import { makeEdge, outside, workload } from '../edges/given.js';

export const EDGES_OF_AN_AGENT = 2000;
const OF_A_WORKLOAD = 100;
const LEDGERS = 4;
const PORTS = [443, 80, 5432, 6379, 9092, 53, 8080, 3306];

export class LedgerWorld {
  readonly agents: number;
  readonly workloads: number;
  readonly count: number;
  readonly #edges: (Edge | undefined)[];
  /** Agents with the same edges. */
  readonly #groups: number;

  constructor(agents: number) {
    this.agents = agents;
    this.#groups = agents / LEDGERS;
    this.count = this.#groups * EDGES_OF_AN_AGENT;
    this.workloads = this.count / OF_A_WORKLOAD;
    this.#edges = new Array(this.count);
  }

  name(n: number): string {
    return `team-${n % 100}/service-${n}`;
  }

  /** The numbers of an agent's edges. */
  edgesOf(agent: number): number[] {
    return Array.from({ length: EDGES_OF_AN_AGENT }, (_, n) => n * this.#groups + (agent % this.#groups));
  }

  /** Made when it is first asked for. */
  edge(n: number): Edge {
    return (this.#edges[n] ??= this.#make(n));
  }

  /** The ids of all edges: whoever needs no more keeps a gigabyte less. */
  ids(): Float64Array {
    return Float64Array.from({ length: this.count }, (_, n) => this.#make(n).id);
  }

  /** The agents of one of several processes, so that few have the same edges as those of another. */
  agentsOf(process: number, processes: number): number[] {
    const all = Array.from({ length: this.agents }, (_, agent) => agent);
    return all.filter((agent) => (agent % this.#groups) % processes === process);
  }

  #make(n: number): Edge {
    const own = Math.floor(n / OF_A_WORKLOAD);
    const random = mix(n);
    const source = workload(this.name(own));
    const rule = ruleRefOf({
      ...{ kind: 'NetworkPolicy', namespace: `team-${own % 100}`, name: `service-${own}-egress` },
      ...{ index: n % 7, dialect: 'networkpolicy', tier: 'networkpolicy', action: 'allow', text: '', staged: false },
    });
    const port = PORTS[n % PORTS.length] as number;
    const shared = { source, port, reason: 'rule', rule: { ref: rule, generation: hash53(`${own}`) } };
    if (n % 2 === 0) {
      const to = this.name(random % this.workloads);
      return makeEdge({
        ...shared,
        destination: workload(to),
        service: to,
        servicePort: port,
        address: `10.2.${n % 256}.7`,
      });
    }
    const address = [random >>> 24, random >>> 16, random >>> 8, n].map((x) => x & 255).join('.');
    if (n % 4 === 1) return makeEdge({ ...shared, destination: outside(address) });
    return makeEdge({ ...shared, destination: outside(`api-${random % 5000}.example.com`, 'name'), address });
  }
}

function mix(n: number): number {
  let x = Math.imul(n ^ 0x5bd1e995, 0x9e3779b1);
  x ^= x >>> 15;
  x = Math.imul(x, 0x85ebca6b);
  return (x ^ (x >>> 13)) >>> 0;
}

/**
 * What one ledger saw of an edge on a day, some minutes into it. Some edges are busy all day and some for an hour; their
 * connections and bytes are spread over five orders of magnitude.
 */
export function rowOf(edge: number, agent: number, day: number, minutes: number): DayRow {
  const [a, b, c] = [mix(edge * 7 + agent), mix(edge + day * 1_000_003 + agent), mix(edge * 3 + day)];
  const begin = day * DAY_MS;
  const isBusy = a % 3 === 0;
  const firstMs = begin + (b % (isBusy ? 600_000 : 3_600_000));
  const rate = Math.exp((a % 1000) / 120) / 60;
  const connections = Math.ceil(rate * minutes * (1 + (b % 100) / 500));
  return {
    day,
    firstMs,
    lastMs: Math.min(begin + DAY_MS - 1, firstMs + minutes * 60_000 - (c % 60_000)),
    connections,
    bytes: connections * (400 + (c % 40_000)) + (b % 1000),
    drops: a % 50 === 0 ? b % 500 : 0,
    hours: isBusy ? 2 ** 24 - 1 : b % 2 ** 24,
  };
}
