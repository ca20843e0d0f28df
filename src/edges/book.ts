/** Puts the answers of Edges streams together: of one server, or of the agents of many nodes. */
import type { EdgesResponse } from '../proto/edges.js';
import type { DayRow, Edge, EdgeHistory } from './edge.js';
import { mergeHistories } from './merge.js';
import { edgeOf, millisOf, rowAt } from './wire.js';

/** An edge of one ledger, with its latest rows by day. */
interface Own {
  edge: Edge | undefined;
  readonly days: Map<number, DayRow>;
}

/** The latest row of each ledger, edge and day; what several ledgers saw is summed when it is read. */
export class EdgeBook {
  /** By ledger, then by the edge's id there. */
  readonly #ledgers = new Map<number, Map<number, Own>>();
  readonly #began = new Map<number, number>();
  #overflow = new Map<number, number>();
  readonly #unavailable = new Set<string>();
  #isCut = false;

  /** Takes one message of a stream. */
  add(m: EdgesResponse): void {
    for (const part of m.parts ?? []) this.#take(part);
    this.#take(m);
  }

  #take(m: EdgesResponse): void {
    const ledger = Number(m.ledger ?? 0);
    for (const gone of m.gone_ledgers ?? []) this.#forget(Number(gone));
    let own = this.#ledgers.get(ledger);
    if (!own) this.#ledgers.set(ledger, (own = new Map()));
    for (const one of m.edges ?? []) {
      const edge = edgeOf(one);
      const known = own.get(edge.id);
      if (known) known.edge = edge;
      else own.set(edge.id, { edge, days: new Map() });
    }
    const ids = m.id ?? [];
    for (let n = 0; n < ids.length; n++) {
      const id = Number(ids[n]);
      const row = rowAt(m, n);
      let known = own.get(id);
      if (!known) own.set(id, (known = { edge: undefined, days: new Map() }));
      known.days.set(row.day, row);
    }
    const began = millisOf(m.began_at);
    if (began !== undefined) this.#began.set(ledger, Math.min(this.#began.get(ledger) ?? began, began));
    if (m.overflow !== undefined) this.#overflow.set(ledger, Number(m.overflow));
    // A relay that has caught up names all of them. An agent's answer, which has a ledger, says nothing of others.
    if (m.caught_up && ledger === 0) this.#unavailable.clear();
    for (const name of m.unavailable_nodes ?? []) this.#unavailable.add(name);
    this.#isCut ||= m.more ?? false;
  }

  /** Takes back what a ledger has said. */
  #forget(ledger: number): void {
    this.#ledgers.delete(ledger);
    this.#began.delete(ledger);
    this.#overflow.delete(ledger);
  }

  /** Since when the oldest of the ledgers counts, milliseconds since 1970; undefined: nothing came. */
  get beganMs(): number | undefined {
    const all = [...this.#began.values()];
    return all.length === 0 ? undefined : Math.min(...all);
  }

  /** Flows that found no edge of their own. */
  get overflow(): number {
    return [...this.#overflow.values()].reduce((sum, n) => sum + n, 0);
  }

  get unavailable(): readonly string[] {
    return [...this.#unavailable].sort();
  }

  /** Whether rows were left out because of a limit. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** All edges, each with its days, ascending. The same rows give the same list. */
  histories(): EdgeHistory[] {
    const all: EdgeHistory[] = [];
    for (const own of this.#ledgers.values())
      for (const { edge, days } of own.values())
        if (edge && days.size > 0) all.push({ edge, days: [...days.values()] });
    return mergeHistories(all);
  }
}
