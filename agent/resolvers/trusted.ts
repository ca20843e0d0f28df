/** Keeps the map of trusted resolvers equal to what the cluster, the node and the options say. */
import { formatProblem, type Problem } from '../../src/errors.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Logger } from '../../src/log.js';
import type { DnsServers } from '../maps/tables/dns-servers.js';
import { nodeNameservers } from './resolv-conf.js';
import { resolveServers, type TrustedServer } from './resolvers.js';
import type { ServerSpec } from './spec.js';

type Seen = Pick<Snapshot, 'services' | 'ownNode'>;

export class TrustedResolvers {
  readonly #specs: readonly ServerSpec[] | undefined;
  readonly #map: Pick<DnsServers, 'set' | 'list' | 'capacity'>;
  readonly #log: Logger;
  readonly #readNameservers: () => string[];
  #snapshot: Seen | undefined;
  #nameservers: readonly string[] = [];
  #servers: readonly TrustedServer[] = [];
  #problems: readonly Problem[] = [];

  /** @param specs undefined: the default */
  constructor(
    specs: readonly ServerSpec[] | undefined,
    map: Pick<DnsServers, 'set' | 'list' | 'capacity'>,
    log: Logger,
    readNameservers: () => string[] = nodeNameservers,
  ) {
    this.#specs = specs;
    this.#map = map;
    this.#log = log;
    this.#readNameservers = readNameservers;
  }

  /** Those in force, and why each is one. */
  get servers(): readonly TrustedServer[] {
    return this.#servers;
  }

  /** Most that there is room for. */
  get capacity(): number {
    return this.#map.capacity;
  }

  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** Takes over a Snapshot. Before the first, what an earlier agent wrote stays in force. */
  update(snapshot: Seen): void {
    const before = this.#snapshot;
    this.#snapshot = snapshot;
    if (before === undefined) this.#nameservers = this.#readNameservers();
    else if (before.services === snapshot.services && before.ownNode.dns?.join() === snapshot.ownNode.dns?.join())
      return;
    this.#apply(snapshot);
  }

  /** Reads the node's resolv.conf again. To be called from time to time: its changes raise no event. */
  recheck(): void {
    const nameservers = this.#readNameservers();
    if (this.#snapshot === undefined || nameservers.join() === this.#nameservers.join()) return;
    this.#nameservers = nameservers;
    this.#apply(this.#snapshot);
  }

  #apply(snapshot: Seen): void {
    const inputs = { specs: this.#specs, snapshot, nameservers: this.#nameservers, most: this.#map.capacity };
    const { servers, problems } = resolveServers(inputs);
    const known = new Set(this.#problems.map(formatProblem));
    for (const problem of problems) if (!known.has(formatProblem(problem))) this.#log.warn(formatProblem(problem));
    this.#problems = problems;
    this.#servers = servers;
    if (!this.#map.set(servers)) return;
    const names = servers.slice(0, 8).map(({ ip, port }) => (ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`));
    this.#log.info('trusted resolvers', { count: servers.length, servers: names.join(' ') });
  }
}
