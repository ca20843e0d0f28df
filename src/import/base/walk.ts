/** The walk over the rules that count on some ports: what each kind of connection may still name, and what is said of it. */
import type { Listing, ListRule, Place, Remarks } from './model.js';
import { EVERYTHING, NOTHING, type Region } from './region.js';
import { cidrsOf, type Ports, portsText } from './spans.js';
import { isEverySpeech, type Kind, KINDS, speechText } from './speech.js';

/**
 * How connections name a server: in a TLS hello, as the host of an HTTP request, in either way; `lookup`: not at all,
 * the pod has looked up the address under that name.
 */
export type By = 'tls' | 'http' | 'either' | 'lookup';

/** Servers that connections name. */
export interface NamesItem {
  readonly kind: 'names';
  readonly by: By;
  /** Canonical patterns. */
  readonly patterns: readonly string[];
  /** Where they may be, if not at the addresses of these names: at those of other names, or in blocks. */
  readonly at?: { readonly looked: readonly string[] } | { readonly blocks: readonly string[] };
  readonly where: Place;
}

/** One rule of a policy: all of an item's destinations on the ports of its part. */
export type Item =
  | NamesItem
  /** CIDR blocks, canonical text; those of both families together are every address. */
  | { readonly kind: 'allow' | 'deny'; readonly blocks: readonly string[]; readonly where: Place };

export const ANYWHERE: readonly string[] = ['0.0.0.0/0', '::/0'];

/** Domains that a message lists. */
const SHOWN = 3;

/** What rules have said of connections of one kind, for every address that is not in a denied block. */
interface State {
  /** Names that a rule has decided. */
  readonly decided: Region;
  /** The part of them that is denied, and that is allowed. */
  readonly denied: Region;
  readonly allowed: Region;
}

const FRESH: State = { decided: NOTHING, denied: NOTHING, allowed: NOTHING };

export class Walk {
  readonly #ports: Ports;
  /** Of a query everything is said by its name. */
  readonly #kinds: readonly Kind[];
  readonly #refused: Remarks;
  readonly #states = new Map<Kind, State>();
  readonly #items: Item[] = [];
  /** What is not said of connections without a name, unless a later rule allows all of the rest. */
  readonly #unsaid: { where: Place; message: string }[] = [];

  constructor(ports: Ports, about: Listing['about'], refused: Remarks) {
    this.#ports = ports;
    this.#kinds = about === 'queries' ? ['tls'] : KINDS;
    this.#refused = refused;
    for (const kind of this.#kinds) this.#states.set(kind, FRESH);
  }

  items(rules: readonly ListRule[]): Item[] {
    for (const rule of rules) {
      if (rule.addresses !== null || rule.looked) this.#toPlaces(rule);
      else if (rule.action === 'allow') this.#allow(rule);
      else this.#deny(rule);
      if (this.#every((state) => state.decided.isEverything)) break;
    }
    while (this.#items.at(-1)?.kind === 'deny') this.#items.pop();
    const denies = this.#items.some(({ kind }) => kind === 'deny');
    if (denies || !this.#isOpen()) for (const { where, message } of this.#unsaid) this.#refuse(where, message);
    return this.#items;
  }

  #isOpen(): boolean {
    return this.#every((state) => state.allowed.isEverything);
  }

  #refuse(where: Place, message: string): void {
    this.#refused.say(where, `${message} (${portsText(this.#ports)})`);
  }

  #every(is: (state: State) => boolean): boolean {
    return [...this.#states.values()].every(is);
  }

  /** What a rule says that nothing has decided, by kind. Kinds of which the same is known share it. */
  #live({ names, speech }: Pick<ListRule, 'names' | 'speech'>): Map<Kind, Region> {
    const live = new Map<Kind, Region>();
    const known = new Map<State, Region>();
    for (const kind of this.#kinds) {
      if (!speech[kind]) continue;
      const state = this.#states.get(kind)!;
      // What names nobody is for no name.
      const own = kind === 'other' ? (names.unnamed ? EVERYTHING : NOTHING) : names;
      const rest = (kind === 'other' ? undefined : known.get(state)) ?? own.minus(state.decided);
      if (kind !== 'other') known.set(state, rest);
      if (!rest.isEmpty) live.set(kind, rest);
    }
    return live;
  }

  #decide(live: ReadonlyMap<Kind, Region>, as: 'denied' | 'allowed'): void {
    const next = new Map<State, Map<Region, State>>();
    for (const [kind, region] of live) {
      const state = this.#states.get(kind)!;
      const same = next.get(state) ?? new Map<Region, State>();
      const now = same.get(region) ?? {
        ...state,
        decided: state.decided.or(region),
        [as]: state[as].or(region),
      };
      next.set(state, same.set(region, now));
      this.#states.set(kind, now);
    }
  }

  #deny(rule: Pick<ListRule, 'names' | 'speech'>): void {
    this.#decide(this.#live(rule), 'denied');
  }

  /** A rule for some addresses. */
  #toPlaces(rule: ListRule): void {
    const { action, names, speech, addresses, looked, where } = rule;
    const all = names.isEverything && isEverySpeech(speech);
    if (action === 'deny') {
      if (all && addresses !== null) this.#items.push({ kind: 'deny', blocks: cidrsOf(addresses), where });
      else {
        const what = names.isEverything ? 'some connections' : 'some names';
        this.#refuse(where, `denies ${what} at some addresses only: no language does, so it denies them everywhere`);
        this.#deny(rule);
      }
      return;
    }
    if (!all) {
      this.#allowAt(rule);
      return;
    }
    const denied = [...this.#states.values()].map((state) => state.denied);
    if (denied.some((region) => region.hasNames || region.unnamed)) {
      const rest = denied.some((region) => region.hasNames) ? 'names' : 'addresses without a name';
      const what = looked ? 'names that are looked up' : 'addresses';
      this.#refuse(where, `allows ${what}, but rules before it deny ${rest}, and no language denies by name`);
      return;
    }
    if (looked) this.#items.push({ kind: 'names', by: 'lookup', patterns: this.#patterns(looked, where), where });
    else if (addresses !== null) this.#items.push({ kind: 'allow', blocks: cidrsOf(addresses), where });
  }

  /** A rule for what connections name at some addresses. It decides nothing for the rest. */
  #allowAt(rule: ListRule): void {
    const { addresses, looked, where } = rule;
    if (addresses !== null && looked) {
      this.#refuse(where, 'allows addresses in blocks that were looked up, too: no language has both in one rule');
      return;
    }
    const live = this.#live(rule);
    this.#tellUnnamed(live, where);
    const at = looked ? { looked: this.#patterns(looked, where) } : { blocks: cidrsOf(addresses ?? []) };
    this.#sayNames(live, where, at);
  }

  #allow(rule: ListRule): void {
    const { where } = rule;
    const live = this.#live(rule);
    if (live.size === 0) return;
    this.#decide(live, 'allowed');
    if (this.#isOpen()) {
      this.#items.push({ kind: 'allow', blocks: ANYWHERE, where });
      return;
    }
    this.#tellUnnamed(live, where);
    this.#sayNames(live, where);
  }

  #tellUnnamed(live: ReadonlyMap<Kind, Region>, where: Place): void {
    const unnamed = [...live].filter(([, region]) => region.unnamed);
    if (unnamed.length === 0) return;
    const kinds = unnamed.map(([kind]) => kind);
    const less = [...live].some(([kind, region]) => kind !== 'other' && region.hasNames) ? 'less' : 'nothing';
    this.#unsaid.push({
      where,
      message:
        kinds.length === this.#kinds.length
          ? `allows everything but some names: no language denies by name, so it allows ${less}`
          : `allows every ${speechText(kinds)}, also what names nobody: no rule says that, so it allows ${less}`,
    });
  }

  /** An item for each way of naming, or one for both. */
  #sayNames(live: ReadonlyMap<Kind, Region>, where: Place, at?: NamesItem['at']): void {
    const [tls, http] = [live.get('tls'), live.get('http')];
    const push = (by: By, patterns: readonly string[]) => {
      if (patterns.length > 0) this.#items.push({ kind: 'names', by, patterns, ...(at ? { at } : {}), where });
    };
    const said = tls && this.#patterns(tls, where);
    // Of a query there is one way.
    const asked = http === tls || this.#kinds.length === 1 ? said : http && this.#patterns(http, where);
    if (said && asked && (said === asked || said.join() === asked.join())) push('either', said);
    else {
      push('tls', said ?? []);
      push('http', asked ?? []);
    }
  }

  /** The patterns of a region's names; what none of them says is told. */
  #patterns(region: Region, where: Place): readonly string[] {
    const { patterns, lost } = region.named.patterns();
    const told = lost.filter(({ below }) => below !== '');
    for (const { below, but } of told.slice(0, SHOWN))
      this.#refuse(where, `allows what is below ${below} but not ${but}, which no pattern says: none of it is allowed`);
    if (told.length > SHOWN) this.#refuse(where, `and ${told.length - SHOWN} more domains like ${told[0]!.below}`);
    if (told.length < lost.length && !region.unnamed)
      this.#refuse(where, 'allows every name but some: no language denies by name');
    return patterns;
  }
}
