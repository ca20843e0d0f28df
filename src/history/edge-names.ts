/**
 * Which id an edge has in the history. It is that of its ledger, unless another edge has that: whoever chooses names can find
 * two edges with one id, and one must not hide behind the other. So texts are compared, each once.
 */
import { type Edge, edgeId, edgeText } from '../edges/edge.js';
import type { Rows } from './base/rows.js';
import type { DescribedEdge, HistoryStore } from './base/store.js';
import { type Description, edgeOfDescription } from './decode.js';
import type { HistoryWriter } from './writer.js';

/** The edges of one stream. */
export class EdgeNames {
  readonly #store: HistoryStore;
  readonly #writer: HistoryWriter;
  /** The ledger's id → the one here. */
  readonly #renamed = new Map<number, number>();

  constructor(store: HistoryStore, writer: HistoryWriter) {
    this.#store = store;
    this.#writer = writer;
  }

  /** @returns the edges that are to be written. Until they wait at the writer, nobody else may take any. */
  async take(descriptions: readonly Description[]): Promise<DescribedEdge[]> {
    const taken = descriptions.map(({ id }) => id).filter((id) => this.#store.has(id));
    const stored = taken.length === 0 ? new Map<number, Edge>() : await this.#store.describe(taken);
    const fresh = new Map<number, DescribedEdge>();
    for (const description of descriptions) {
      const { mark } = description;
      const edge = edgeOfDescription(description);
      const text = edgeText(edge);
      let { id } = edge;
      let other: Edge | undefined;
      for (let attempt = 1; ; attempt++) {
        other = fresh.get(id)?.edge ?? this.#writer.edge(id) ?? stored.get(id);
        if (!other && this.#store.has(id)) other = (await this.#store.describe([id])).get(id);
        if (!other || edgeText(other) === text) break;
        id = edgeId(text, attempt);
      }
      if (id !== edge.id) this.#renamed.set(edge.id, id);
      // A description under another id is compared each time: it is rare.
      const own = id === edge.id ? mark : 0;
      if (other?.address === edge.address && this.#store.has(id)) this.#store.confirm(id, own);
      else fresh.set(id, { edge: id === edge.id ? edge : { ...edge, id }, mark: own });
    }
    return [...fresh.values()];
  }

  /** Puts the ids here in place of the ledger's. */
  rename(rows: Rows): void {
    if (this.#renamed.size === 0) return;
    const ids = rows.column('id');
    for (let n = 0; n < ids.length; n++) ids[n] = this.#renamed.get(ids[n] as number) ?? (ids[n] as number);
  }
}
