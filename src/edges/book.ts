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
  #beganMs: number | undefined;
  #overflow = new Map<number, number>();
  readonly #unavailable = new Set<string>();
  #isCut = false;

  /** Takes one message of a stream. */
  add(m: EdgesResponse): void {
    const ledger = Number(m.ledger ?? 0);
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
    if (began !== undefined) this.#beganMs = Math.min(this.#beganMs ?? began, began);
    if (m.overflow !== undefined) this.#overflow.set(ledger, Number(m.overflow));
    for (const name of m.unavailable_nodes ?? []) this.#unavailable.add(name);
    this.#isCut ||= m.more ?? false;
  }

  /** Since when the oldest of the ledgers counts, milliseconds since 1970; undefined: nothing came. */
  get beganMs(): number | undefined {
    return this.#beganMs;
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
