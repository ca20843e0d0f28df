/**
 * Exact names in policies, resolved once for pods that ran before the agent: nobody saw what they asked then. The
 * answers come from the resolver that the pod uses, if it is a trusted one; a pod may write into its own resolv.conf
 * what it likes. A name that the pod has learned in the meantime is left alone.
 */
import { join } from 'node:path';
import { promises } from 'node:dns';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { governs, senderOf } from '../../src/ir/sender.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir, IrPolicy } from '../../src/ir/types.js';
import type { Logger } from '../../src/log.js';
import { tryCanonicalAddr } from '../../src/net/addr.js';
import { isExact } from '../../src/names/pattern.js';
import { processNamespaces } from '../netlink/netns.js';
import { parseResolvConf, readSmallFile } from './resolv-conf.js';
import type { TrustedServer } from './resolvers.js';

/** Names that are resolved at the same time, and for one endpoint at all: a policy may name thousands. */
const AT_ONCE = 8;
const MAX_NAMES = 1024;
const TIMEOUT_MS = 2000;
const TRIES = 2;
/** A resolver that fails is asked again after so long, so many times; milliseconds. */
const AGAIN_MS = 15_000;
const MAX_FAILURES = 4;
/** As resolv.conf has. */
const MAX_SERVERS = 3;

/** An address that the agent has resolved for an endpoint. */
export interface SeededName {
  readonly endpoint: number;
  readonly ifindex: number;
  /** Lower case, without the final dot. */
  readonly name: string;
  /** Canonical text. */
  readonly ip: string;
  readonly ttlS: number;
  readonly resolver: { readonly ip: string; readonly port: number };
}

export interface Answer {
  readonly ip: string;
  readonly ttlS: number;
}

/** A pod that ran before the agent. */
export interface SeedTarget {
  readonly id: number;
  readonly ifindex: number;
  /** `namespace/name` */
  readonly key: string;
  /** Cookie of its network namespace. */
  readonly netns?: string;
}

export interface NameSeederParts {
  /** Enters an address into the tables. @returns whether it is there now. Throws KERNEL */
  readonly enter: (seed: SeededName) => boolean;
  /** Whether an endpoint has learned a name. */
  readonly knows: (endpoint: number, name: string) => boolean;
  readonly trusted: () => readonly TrustedServer[];
  readonly log: Logger;
  /** Asks one resolver for addresses. Rejects if it does not answer; nothing if there are none. */
  readonly ask?: (server: { ip: string; port: number }, name: string) => Promise<Answer[]>;
  readonly procDir?: string;
}

interface Task {
  readonly target: SeedTarget;
  readonly name: string;
  failures: number;
}

export class NameSeeder {
  readonly #parts: NameSeederParts;
  /** Names that were resolved, or are waiting, by endpoint. */
  readonly #begun = new Map<number, Set<string>>();
  #targets: readonly SeedTarget[] = [];
  #nameservers: ReadonlyMap<string, readonly string[]> | undefined;
  readonly #waiting: Task[] = [];
  #running = 0;
  #ir: Ir | undefined;
  #closed = false;
  readonly #timers = new Set<NodeJS.Timeout>();
  /** Addresses that were entered. */
  entered = 0;

  constructor(parts: NameSeederParts) {
    this.#parts = parts;
  }

  /** Sets the pods that ran before the agent. */
  ranBefore(targets: readonly SeedTarget[]): void {
    this.#targets = targets;
    this.#ir = undefined;
  }

  /** Resolves the names of policies in force that nobody has resolved yet. */
  applied(ir: Ir, snapshot: Snapshot): void {
    if (this.#targets.length === 0 || ir === this.#ir) return;
    this.#ir = ir;
    const named = ir.tiers.flatMap((tier) => tier.policies).map((policy) => ({ policy, names: exactNames(policy) }));
    const withNames = named.filter(({ names }) => names.length > 0);
    if (withNames.length === 0) return;
    for (const target of this.#targets) this.#add(target, withNames, snapshot);
    this.#next();
  }

  /** Forgets pods that have gone. @param present ids of the endpoints that exist */
  keep(present: ReadonlySet<number>): void {
    if (this.#targets.every(({ id }) => present.has(id))) return;
    this.#targets = this.#targets.filter(({ id }) => present.has(id));
    for (const id of this.#begun.keys()) if (!present.has(id)) this.#begun.delete(id);
  }

  close(): void {
    this.#closed = true;
    this.#waiting.length = 0;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #add(target: SeedTarget, named: readonly { policy: IrPolicy; names: string[] }[], snapshot: Snapshot): void {
    const pod = senderOf(snapshot, target.key);
    if (!pod) return;
    let begun = this.#begun.get(target.id);
    if (!begun) this.#begun.set(target.id, (begun = new Set()));
    for (const { policy, names } of named) {
      if (!governs(policy, pod, snapshot)) continue;
      for (const name of names) {
        if (begun.has(name)) continue;
        if (begun.size >= MAX_NAMES) {
          this.#parts.log.warn('too many names in the policies of a pod: the rest is not resolved for it', {
            pod: target.key,
            names: MAX_NAMES,
          });
          return;
        }
        begun.add(name);
        this.#waiting.push({ target, name, failures: 0 });
      }
    }
  }

  #next(): void {
    while (this.#running < AT_ONCE) {
      const task = this.#waiting.shift();
      if (!task || this.#closed) return;
      this.#running++;
      void this.#resolve(task).finally(() => {
        this.#running--;
        this.#next();
      });
    }
  }

  async #resolve(task: Task): Promise<void> {
    const { target, name } = task;
    const { knows, enter, log, ask = askServer } = this.#parts;
    try {
      if (knows(target.id, name)) return;
      let fault: Error | undefined;
      for (const server of this.#serversOf(target)) {
        try {
          const answers = await ask(server, name);
          if (this.#closed || !this.#targets.includes(target) || knows(target.id, name)) return;
          const { id: endpoint, ifindex } = target;
          const entered = answers.filter(({ ip, ttlS }) =>
            enter({ endpoint, ifindex, name, ip, ttlS, resolver: server }),
          );
          this.entered += entered.length;
          log.debug('a name was resolved for a pod', { pod: target.key, name, addresses: entered.length });
          return;
        } catch (e) {
          fault = e as Error;
        }
      }
      this.#again(task, fault?.message ?? 'no resolver is trusted');
    } catch (e) {
      log.error('a name cannot be entered', { pod: target.key, name, error: (e as Error).message });
    }
  }

  #again(task: Task, why: string): void {
    const { target, name } = task;
    if (this.#closed) return;
    if (++task.failures >= MAX_FAILURES) {
      this.#parts.log.warn('a name in a policy cannot be resolved for a pod that ran before', {
        pod: target.key,
        name,
        why,
      });
      return;
    }
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.#waiting.push(task);
      this.#next();
    }, AGAIN_MS);
    timer.unref();
    this.#timers.add(timer);
  }

  /** The resolvers that a pod uses: the trusted ones of its resolv.conf, or else those that pods are told to ask. */
  #serversOf({ netns }: SeedTarget): TrustedServer[] {
    const trusted = this.#parts.trusted();
    const own = netns === undefined ? [] : (this.#byNamespace().get(netns) ?? []);
    const used = own.flatMap((ip) => trusted.find((s) => s.ip === ip && s.port === 53) ?? []);
    const servers = used.length > 0 ? used : trusted.filter((s) => s.asked);
    return servers.slice(0, MAX_SERVERS);
  }

  /** Nameservers by network namespace, from the resolv.conf of its first process. Needs the node's processes. */
  #byNamespace(): ReadonlyMap<string, readonly string[]> {
    if (this.#nameservers) return this.#nameservers;
    const { procDir = '/proc' } = this.#parts;
    const found = new Map<string, readonly string[]>();
    const wanted = new Set(this.#targets.map((t) => t.netns));
    for (const { pid, ns } of processNamespaces(procDir)) {
      if (found.has(ns.id) || !wanted.has(ns.id)) continue;
      const text = readSmallFile(join(procDir, pid, 'root/etc/resolv.conf'));
      if (text !== undefined) found.set(ns.id, parseResolvConf(text));
    }
    this.#nameservers = found;
    return found;
  }
}

/** The exact names that a policy's rules ask for. */
function exactNames(policy: IrPolicy): string[] {
  const names = new Set<string>();
  const collect = (peer: Peer) => {
    if (peer.kind === 'names') for (const pattern of peer.patterns) if (isExact(pattern)) names.add(pattern);
    if (peer.kind === 'all') peer.of.forEach(collect);
  };
  for (const rule of policy.rules) rule.peers?.forEach(collect);
  return [...names];
}

/** A and AAAA records. */
async function askServer({ ip, port }: { ip: string; port: number }, name: string): Promise<Answer[]> {
  const resolver = new promises.Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
  resolver.setServers([ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`]);
  const both = await Promise.all(
    [resolver.resolve4(name, { ttl: true }), resolver.resolve6(name, { ttl: true })].map((records) =>
      records.catch(none),
    ),
  );
  return both.flat().flatMap(({ address, ttl }) => {
    const canonical = tryCanonicalAddr(address);
    return canonical === undefined ? [] : [{ ip: canonical, ttlS: ttl }];
  });
}

/** Whether the resolver said that there is nothing: an answer, too. @throws its other failures */
function none(e: NodeJS.ErrnoException): [] {
  if (e.code === 'ENODATA' || e.code === 'ENOTFOUND') return [];
  throw e;
}
