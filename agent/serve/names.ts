/** What pods learned of names, for the agent's clients. */
import { AgentError } from '../../src/errors.js';
import type { Learned } from '../../src/ir/packet.js';
import { NODE_SENDER } from '../../src/ir/sender.js';
import type { RuleRef } from '../../src/ir/types.js';
import { NamedRules } from '../../src/named/rules.js';
import { globTest } from '../../src/names/glob.js';
import { tryCanonicalAddr } from '../../src/net/addr.js';
import type { LearnedView, NamesQuery, NamesStatus } from '../../src/rpc/view.js';
import type { InForceState } from '../endpoints/in-force.js';
import { sys } from '../kernel/libbpf/sys.js';
import type { ListedName } from '../names/table.js';
import type { Learning } from '../resolvers/learning.js';

/** Addresses in an answer, of all names together. */
const MOST_ADDRESSES = 50_000;
/** Resolvers that are not trusted, in a status. */
const MOST_SEEN = 16;

export class NamesServer {
  readonly #learning: Learning;
  readonly #state: () => InForceState | undefined;

  constructor(learning: Learning, state: () => InForceState | undefined) {
    this.#learning = learning;
    this.#state = state;
  }

  /** The names that a query asks for. @throws AgentError USAGE */
  async list({ pod, name, ip, limit }: NamesQuery): Promise<{ names: LearnedView[]; more: boolean }> {
    const state = this.#state();
    const address = ip === undefined ? undefined : tryCanonicalAddr(ip);
    if (ip !== undefined && address === undefined) throw new AgentError('USAGE', `${ip} is not an IP address`);
    const endpoints = pod === undefined ? undefined : new Set(endpointsOf(state, pod));
    if (endpoints?.size === 0) throw new AgentError('USAGE', `there is no pod ${pod} on this node`);
    const matches = name === undefined ? undefined : globTest(name, 'name');
    const steps = this.#learning.table.listing({
      ...(endpoints ? { endpoints } : {}),
      ...(matches ? { matches } : {}),
      ...(address === undefined ? {} : { ip: address }),
      limit,
      addresses: MOST_ADDRESSES,
    });
    for (;;) {
      const step = steps.next();
      if (step.done === true) return { names: this.#views(step.value.names, state), more: step.value.more };
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** The names of an address that a pod learned. */
  of(pod: string, ip: string): LearnedView[] {
    const state = this.#state();
    const endpoints = new Set(endpointsOf(state, pod));
    const { names } = this.#learning.table.list({ endpoints, ip, limit: 100, addresses: MOST_ADDRESSES });
    return this.#views(names, state);
  }

  /** The entries of one name that a pod learned. */
  named(pod: string, name: string): LearnedView[] {
    const state = this.#state();
    const endpoints = new Set(endpointsOf(state, pod));
    const matches = (text: string) => text === name;
    const { names } = this.#learning.table.list({ endpoints, matches, limit: 100, addresses: MOST_ADDRESSES });
    return this.#views(names, state);
  }

  /** Everything that a pod learned. */
  learned(pod: string): Learned {
    const all = new Map(endpointsOf(this.#state(), pod).flatMap((id) => [...this.#learning.table.learnedBy(id)]));
    return new Map([[pod, all]]);
  }

  /** A resolver that pods ask. */
  get resolver(): { ip: string; port: number } | undefined {
    return this.#learning.trusted.servers.find((s) => s.asked);
  }

  /** @param dnsEventsLost reports of DNS messages for which there was no room */
  status(dnsEventsLost: number): NamesStatus {
    const { table, sweeper, trusted, seeder, seen } = this.#learning;
    const isTrusted = (ip: string, port: number) => trusted.servers.some((s) => s.ip === ip && s.port === port);
    const keys = new Map(this.#state()?.endpoints.map((b) => [b.id, b.key]));
    const strange = seen.list(isTrusted).slice(0, MOST_SEEN);
    return {
      ...sweeper.entries,
      share: table.memory.nameShare,
      pageShare: table.memory.pageShare,
      ...table.totals(),
      seeded: seeder?.entered ?? 0,
      resolvers: trusted.servers.map(({ ip, port, source }) => ({ ip, port, source })),
      seen: strange.map(({ endpoint, ...s }) => ({ ...s, pod: keys.get(endpoint) ?? '' })),
      dnsEventsLost,
    };
  }

  #views(names: readonly ListedName[], state: InForceState | undefined): LearnedView[] {
    const keys = new Map(state?.endpoints.map((b) => [b.id, b.key]));
    const rules = new Map<string, NamedRules>();
    const rulesOf = (key: string): NamedRules | undefined => {
      if (!state || key === '') return undefined;
      const sender = key.startsWith('node/') ? NODE_SENDER : key;
      let found = rules.get(sender);
      if (!found) rules.set(sender, (found = new NamedRules(state.ir, state.snapshot, sender)));
      return found;
    };
    // Wall clock of the boot, milliseconds.
    const boot = Date.now() - sys.bootSeconds() * 1000;
    const wall = (seconds: number) => boot + seconds * 1000;
    return names.map((n): LearnedView => {
      const pod = keys.get(n.endpoint) ?? '';
      return {
        pod,
        name: n.text,
        asked: n.asked,
        seeded: n.seeded,
        learnedAt: wall(n.learnedS),
        answeredAt: wall(n.answeredS),
        expiresAt: wall(n.expiresS),
        resolver: n.resolver.includes(':') ? `[${n.resolver}]:${n.resolverPort}` : `${n.resolver}:${n.resolverPort}`,
        addresses: n.addresses.map((a) => ({ ip: a.ip, alias: a.alias, expiresAt: wall(a.expiresS), ttl: a.ttlS })),
        rules: serving(rulesOf(pod), n),
      };
    });
  }
}

/** Rules that match an address of the name, by an address that was asked for or by an alias. */
function serving(rules: NamedRules | undefined, { text, asked, addresses }: ListedName): RuleRef[] {
  if (!rules || rules.isEmpty) return [];
  const isOnlyAlias = !asked || (addresses.length > 0 && addresses.every((a) => a.alias));
  return rules.serving(text, isOnlyAlias);
}

/** Ids of a pod's endpoints: a pod may have several interfaces. */
function endpointsOf(state: InForceState | undefined, pod: string): number[] {
  const isIt = (key: string) => key === pod || (pod === NODE_SENDER && key.startsWith('node/'));
  return (state?.endpoints ?? []).filter((b) => isIt(b.key)).map((b) => b.id);
}
