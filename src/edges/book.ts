/** Puts the answers of Edges streams together: of one server, or of the agents of many nodes. */
import type { EdgesResponse } from '../proto/edges.js';
import { type DayRow, type Edge, edgeId, edgeText, type EdgeHistory, sumDays } from './edge.js';
import { edgeOf, millisOf, rowAt } from './wire.js';

/** The latest row of each ledger, edge and day; what several ledgers saw is summed when it is read. */
export class EdgeBook {
  readonly #edges = new Map<number, { edge: Edge; text: string }>();
  /** The ids here of edges whose ids were others' already, by ledger and id. */
  readonly #renamed = new Map<string, number>();
  /** By edge and day: the row of each ledger. */
  readonly #rows = new Map<number, Map<number, Map<number, DayRow>>>();
  #beganMs: number | undefined;
  #overflow = new Map<number, number>();
  readonly #unavailable = new Set<string>();
  #isCut = false;

  /** Takes one message of a stream. */
  add(m: EdgesResponse): void {
    const ledger = Number(m.ledger ?? 0);
    for (const one of m.edges ?? []) this.#describe(ledger, edgeOf(one));
    const ids = m.id ?? [];
    for (let n = 0; n < ids.length; n++) {
      const given = Number(ids[n]);
      const id = this.#renamed.size === 0 ? given : (this.#renamed.get(`${ledger} ${given}`) ?? given);
      const row = rowAt(m, n);
      let days = this.#rows.get(id);
      if (!days) this.#rows.set(id, (days = new Map()));
      let ledgers = days.get(row.day);
      if (!ledgers) days.set(row.day, (ledgers = new Map()));
      ledgers.set(ledger, row);
    }
    const began = millisOf(m.began_at);
    if (began !== undefined) this.#beganMs = Math.min(this.#beganMs ?? began, began);
    if (m.overflow !== undefined) this.#overflow.set(ledger, Number(m.overflow));
    for (const name of m.unavailable_nodes ?? []) this.#unavailable.add(name);
    this.#isCut ||= m.more ?? false;
  }

  /** Takes an edge under its id, or under another one if that is taken by another edge. */
  #describe(ledger: number, edge: Edge): void {
    const text = edgeText(edge);
    let { id } = edge;
    for (let attempt = 1; ; attempt++) {
      const known = this.#edges.get(id);
      if (known === undefined || known.text === text) break;
      id = edgeId(text, attempt);
    }
    this.#edges.set(id, { edge: id === edge.id ? edge : { ...edge, id }, text });
    if (id !== edge.id) this.#renamed.set(`${ledger} ${edge.id}`, id);
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

  /** All edges in the order of their ids, each with its days, ascending. The same rows give the same list. */
  histories(): EdgeHistory[] {
    const out: EdgeHistory[] = [];
    for (const id of [...this.#rows.keys()].sort((a, b) => a - b)) {
      const edge = this.#edges.get(id)?.edge;
      if (!edge) continue;
      const days = [...(this.#rows.get(id) as Map<number, Map<number, DayRow>>).values()]
        .map((ledgers) => [...ledgers.values()].reduce(sumDays))
        .sort((a, b) => a.day - b.day);
      out.push({ edge, days });
    }
    return out;
  }
}
