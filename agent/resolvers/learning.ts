/** Everything about learned names in user space: the tables, what leaves them, whose answers count, and the seed. */
import { sys } from '../kernel/libbpf/sys.js';
import type { BpfMap } from '../kernel/libbpf/map.js';
import type { BpfProgram } from '../kernel/libbpf/program.js';
import type { Programs } from '../kernel/loader.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { Logger } from '../../src/log.js';
import type { InForceState } from '../endpoints/in-force.js';
import { DnsServers } from '../maps/tables/dns-servers.js';
import { AddressesInUse } from '../names/in-use.js';
import { KnownEch } from '../names/ech.js';
import { teach } from '../names/learn.js';
import { NameSweeper } from '../names/sweeper.js';
import { NameTable } from '../names/table.js';
import { NameTexts } from '../names/texts.js';
import { NameSeeder, type SeededName } from './seed.js';
import { SeenResolvers } from './seen.js';
import type { ServerSpec } from './spec.js';
import { TrustedResolvers } from './trusted.js';

export interface LearningOptions {
  readonly dnsServers?: readonly ServerSpec[] | undefined;
  readonly nameSeed: 'on' | 'off';
}

/** How long a pass over all names answers the seed's questions. */
const KNOWN_MS = 1000;

export class Learning {
  readonly table: NameTable;
  readonly texts: NameTexts;
  readonly sweeper: NameSweeper;
  readonly ech: KnownEch;
  readonly trusted: TrustedResolvers;
  readonly seen = new SeenResolvers();
  readonly seeder: NameSeeder | undefined;
  /** Ids of endpoints by interface that an earlier agent judged: nothing that they asked was missed. */
  #earlier: ReadonlyMap<number, number> = new Map();
  #present: ReadonlySet<number> | undefined;
  #presentOf: InForceState['endpoints'] | undefined;
  #endpoints: InForceState['endpoints'] | undefined;
  #sleptS = 0;
  #knownByEndpoint: ReadonlyMap<number, ReadonlySet<string>> = new Map();
  #textsReadAt = Number.NEGATIVE_INFINITY;

  constructor(programs: Pick<Programs, 'maps' | 'names' | 'table' | 'all'>, options: LearningOptions, log: Logger) {
    this.table = new NameTable(programs.names);
    this.texts = new NameTexts({
      table: this.table,
      mayKnow: (endpoint) => this.sweeper.mayKnow(endpoint),
      sleptS: () => this.#sleptS,
    });
    this.trusted = new TrustedResolvers(options.dnsServers, new DnsServers(programs.maps), log);
    this.ech = new KnownEch(programs.maps.ech_known as BpfMap);
    this.sweeper = new NameSweeper({
      memory: programs.names,
      inUse: new AddressesInUse(programs.table),
      endpoints: () => this.#present,
      onFreed: (slot, incarnation, text) => this.texts.freed(slot, incarnation, text),
    });
    const program = programs.all.learn;
    if (options.nameSeed === 'off' || !program) return;
    this.seeder = new NameSeeder({
      enter: (seed) => enter(program, seed),
      knows: (endpoint, name) => this.#knownTexts().get(endpoint)?.has(name) === true,
      trusted: () => this.trusted.servers,
      log,
    });
  }

  /** What is known, as of a second ago at most: a seed asks for many names, and one pass answers for all. */
  #knownTexts(): ReadonlyMap<number, ReadonlySet<string>> {
    const now = performance.now();
    if (now - this.#textsReadAt >= KNOWN_MS) {
      this.#knownByEndpoint = this.table.texts();
      this.#textsReadAt = now;
    }
    return this.#knownByEndpoint;
  }

  /** Sets the endpoints that an earlier agent has left in the maps. @param ids by interface */
  foundEndpoints(ids: ReadonlyMap<number, number>): void {
    this.#earlier = new Map(ids);
  }

  /**
   * Takes over what is in force.
   * @param allBound every pod of this node is bound: endpoints that are not there have gone
   */
  applied({ endpoints, bindings, snapshot, ir }: InForceState, allBound: boolean): void {
    this.trusted.update(snapshot);
    if (endpoints !== this.#endpoints) {
      const ids = new Set(endpoints.map((b) => b.id));
      if (this.#endpoints === undefined) {
        const fresh = bindings.pods.filter((b) => this.#earlier.get(b.ifindex) !== b.id);
        this.seeder?.ranBefore(fresh.map(({ id, ifindex, key, netns }) => ({ id, ifindex, key, netns: netns.id })));
      } else {
        this.seeder?.keep(ids);
      }
      this.#endpoints = endpoints;
      this.table.memory.divide(endpoints.length);
    }
    if (allBound && this.#presentOf !== endpoints) {
      this.#presentOf = endpoints;
      this.#present = new Set(endpoints.map((b) => b.id));
    }
    this.seeder?.applied(ir, snapshot);
  }

  /** Frees what is over. To be called about once a second. */
  sweep(): void {
    const now = sys.bootSeconds();
    this.#sleptS = now - Number(sys.monotonicNs()) / 1e9;
    this.sweeper.sweep(now);
    this.ech.sweep(this.#present, now);
  }

  /** Fill of the tables, and of the map of resolvers. */
  fill(): { name: string; entries: number; max: number }[] {
    const { nameCapacity, pageCapacity } = this.table.memory;
    const { names, pages } = this.sweeper.entries;
    return [
      { name: 'names', entries: names, max: nameCapacity },
      { name: 'name_pages', entries: pages, max: pageCapacity },
      this.ech.fill,
      { name: 'dns_servers', entries: this.trusted.servers.length, max: this.trusted.capacity },
    ];
  }

  close(): void {
    this.seeder?.close();
  }
}

/** Tries while programs hold the entry's lock. */
const TRIES = 8;

function enter(program: BpfProgram, { endpoint, ifindex, name, ip, ttlS, resolver }: SeededName): boolean {
  const { EA_NAME_ASKED, EA_NAME_SEEDED } = ENUMS.ea_name_flags;
  const by = { address: resolver.ip, port: resolver.port };
  const lesson = {
    endpoint,
    ifindex,
    name,
    address: ip,
    ttl: ttlS,
    resolver: by,
    flags: EA_NAME_ASKED | EA_NAME_SEEDED,
  };
  let result = teach(program, lesson);
  for (let i = 1; i < TRIES && result === 'busy'; i++) result = teach(program, lesson);
  return result === 'learned';
}
