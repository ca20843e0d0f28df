/** The namespaces that had flows recently. */
const SECONDS = 3600;
const MOST = 10_000;
/** Maximum number of pairs of parties with known namespaces. Older pairs are looked up again. */
const MOST_PAIRS = 4096;
const PAIR_LOOKS = 10;

/** The recently active namespaces, bounded in number. */
export class Namespaces {
  /** Second (CLOCK_MONOTONIC) of the last flow of each namespace, least recent first. */
  readonly #last = new Map<string, number>();
  readonly #pairs = new Map<number, readonly [string, string]>();
  #looks = 0;

  seen(namespace: string, second: number): void {
    if (namespace === '' || this.#last.get(namespace) === second) return;
    this.#last.delete(namespace);
    this.#last.set(namespace, second);
    if (this.#last.size > MOST) this.#last.delete(this.#last.keys().next().value as string);
  }

  /** The namespaces of the last flow between these parties; undefined if they must be looked up. */
  of(parties: number): readonly [string, string] | undefined {
    return this.#pairs.get(parties);
  }

  between(parties: number, namespaces: readonly [string, string]): void {
    if (this.#pairs.size < MOST_PAIRS) this.#pairs.set(parties, namespaces);
  }

  /** Starts a new period. An address may get another owner, which is noticed only when its pair is looked up again. */
  nextPeriod(): void {
    if (++this.#looks % PAIR_LOOKS === 0 || this.#pairs.size >= MOST_PAIRS) this.#pairs.clear();
  }

  forgetPairs(): void {
    this.#pairs.clear();
  }

  /** Namespaces with flows within the last hour, sorted; if there are very many, the latest. @param now second */
  list(now: number): { namespace: string }[] {
    return [...this.#last]
      .filter(([, second]) => second >= now - SECONDS)
      .map(([namespace]) => ({ namespace }))
      .sort((a, b) => (a.namespace < b.namespace ? -1 : 1));
  }
}
