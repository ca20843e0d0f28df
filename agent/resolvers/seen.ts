/** Resolvers that pods use although they are not trusted, and answers that were not trusted: who sent them, and to whom. */
import { remember } from '../../src/flow/names/addresses.js';
import type { ResolverSightings } from '../../src/flow/intake.js';
import { DNS_PORT } from './spec.js';

/** Addresses that are remembered: pods may ask anybody. */
const MOST = 256;

/** A resolver, and what came of it. Counts are since the agent began. */
export interface Sighting {
  readonly ip: string;
  readonly port: number;
  /** Id of the endpoint that used it last. */
  endpoint: number;
  /** Connections, and datagrams with new ports, to it. */
  asked: number;
  /** Answers that did not count. */
  untrusted: number;
}

export class SeenResolvers implements ResolverSightings {
  readonly #seen = new Map<string, Sighting>();

  asked(endpoint: number, ip: string): void {
    this.#note(endpoint, ip, DNS_PORT).asked++;
  }

  untrusted(endpoint: number, ip: string, port: number): void {
    this.#note(endpoint, ip, port).untrusted++;
  }

  /** Those that are not trusted, and trusted ones with answers that did not count; the most active first. */
  list(isTrusted: (ip: string, port: number) => boolean): Sighting[] {
    const strange = [...this.#seen.values()].filter((s) => s.untrusted > 0 || !isTrusted(s.ip, s.port));
    return strange.sort((a, b) => b.untrusted - a.untrusted || b.asked - a.asked);
  }

  #note(endpoint: number, ip: string, port: number): Sighting {
    const key = `${ip} ${port}`;
    const sighting = this.#seen.get(key) ?? { ip, port, endpoint, asked: 0, untrusted: 0 };
    sighting.endpoint = endpoint;
    remember(this.#seen, key, sighting, MOST);
    return sighting;
  }
}
