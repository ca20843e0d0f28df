/** Which node a ledger is of. A node that has begun another ledger has lost the one before. */

/** Nodes come and go for as long as somebody reads; those that have been silent for longest are forgotten. */
const MOST = 20_000;

export class Owners {
  /** Node → its ledger. */
  readonly #ledgers = new Map<string, number>();
  readonly #nodes = new Map<number, string>();

  /** The name of the node that a ledger is of. */
  of(ledger: number): string | undefined {
    return this.#nodes.get(ledger);
  }

  /** A node speaks for a ledger. @returns the one that it had before; 0: none */
  begins(node: string, ledger: number): number {
    const before = this.#ledgers.get(node) ?? 0;
    this.#ledgers.delete(node);
    if (this.#nodes.get(before) === node) this.#nodes.delete(before);
    this.#ledgers.set(node, ledger);
    this.#nodes.set(ledger, node);
    for (const [oldest, of] of this.#ledgers) {
      if (this.#ledgers.size <= MOST) break;
      this.#ledgers.delete(oldest);
      this.#nodes.delete(of);
    }
    return before;
  }

  /** Takes over the nodes that are not known here. @returns the ledgers whose nodes have another one here */
  takeOver(older: Owners): number[] {
    const gone: number[] = [];
    for (const [node, ledger] of older.#ledgers) {
      const own = this.#ledgers.get(node);
      if (own === undefined && !this.#nodes.has(ledger)) this.begins(node, ledger);
      else if (own !== undefined && own !== ledger && !this.#nodes.has(ledger)) gone.push(ledger);
    }
    return gone;
  }
}
