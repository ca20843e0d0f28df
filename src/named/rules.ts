/** Which rules of a pod's policies a learned name serves. */
import type { Snapshot } from '../identity/snapshot.js';
import type { NamesPeer, Peer } from '../ir/peers.js';
import { tiersFor } from '../ir/evaluate.js';
import { senderOf } from '../ir/sender.js';
import type { Ir, RuleRef } from '../ir/types.js';
import { isExact, matchesName } from '../names/pattern.js';

interface Use {
  readonly pattern: string;
  /** The rule also means the targets of CNAMEs. */
  readonly aliases: boolean;
  /** The order of the rule among the pod's rules. */
  readonly order: number;
  readonly ref: RuleRef;
}

/** The rules of one pod that ask for learned names. */
export class NamedRules {
  /** By the pattern, of exact ones; otherwise by the whole labels at its end that have no star. */
  readonly #exact = new Map<string, Use[]>();
  readonly #bySuffix = new Map<string, Use[]>();

  /** @param key `namespace/name` of a pod, or NODE_SENDER */
  constructor(ir: Ir, snapshot: Snapshot, key: string) {
    const sender = senderOf(snapshot, key);
    let order = 0;
    for (const { rules } of sender ? tiersFor(ir, snapshot, sender) : []) {
      for (const { ref, peers } of rules) {
        order++;
        for (const peer of namesPeers(peers ?? [])) {
          for (const pattern of peer.patterns) this.#add({ pattern, aliases: peer.aliases === true, order, ref });
        }
      }
    }
  }

  /** Whether any rule asks for names. */
  get isEmpty(): boolean {
    return this.#exact.size === 0 && this.#bySuffix.size === 0;
  }

  /** All patterns. */
  patterns(): { pattern: string; aliases: boolean; ref: RuleRef }[] {
    return [...this.#exact.values(), ...this.#bySuffix.values()].flat();
  }

  /** The rules that match an address by this name, in their order. @param alias the name is the target of a CNAME */
  serving(name: string, alias: boolean): RuleRef[] {
    const uses = [...(this.#exact.get(name) ?? [])];
    for (let suffix = name; ; suffix = suffix.slice(suffix.indexOf('.') + 1)) {
      for (const use of this.#bySuffix.get(suffix) ?? []) if (matchesName(use.pattern, name)) uses.push(use);
      if (!suffix.includes('.')) break;
    }
    for (const use of name === '' ? [] : (this.#bySuffix.get('') ?? []))
      if (matchesName(use.pattern, name)) uses.push(use);
    const matching = uses.filter((use) => !alias || use.aliases).sort((a, b) => a.order - b.order);
    return [...new Map(matching.map((use) => [use.order, use.ref])).values()];
  }

  #add(use: Use): void {
    const [map, key] = isExact(use.pattern) ? [this.#exact, use.pattern] : [this.#bySuffix, suffixOf(use.pattern)];
    const uses = map.get(key);
    if (uses) uses.push(use);
    else map.set(key, [use]);
  }
}

/** The peers of a rule that ask for names. */
export function namesPeers(peers: readonly Peer[]): NamesPeer[] {
  return peers.flatMap((peer) => (peer.kind === 'all' ? peer.of : [peer])).filter((peer) => peer.kind === 'names');
}

/** The labels behind the last one that has a star: every name that matches ends with them. */
function suffixOf(pattern: string): string {
  const labels = pattern.split('.');
  const last = labels.findLastIndex((label) => label.includes('*'));
  return labels.slice(last + 1).join('.');
}
