/** The nodes with their states, asked again from time to time. */
import type { ClusterNode, ClusterStatusResponse } from '../../proto/status.js';
import type { NodeBrief } from '../wire/messages.js';

/** The part of a client that is used. */
export interface NodeSource {
  clusterStatus(): Promise<ClusterStatusResponse>;
}

const EVERY_MS = 3000;

/** The nodes as they were answered last. Listeners are called with each answer. */
export class NodesFeed {
  readonly #source: NodeSource;
  readonly #listeners = new Set<() => void>();
  #timer: NodeJS.Timeout | undefined;
  #ended = false;
  nodes: readonly ClusterNode[] = [];
  /** There is an answer, even if it has no nodes. */
  isAnswered = false;
  /** Why there is no newer answer; empty: there is. */
  trouble = '';

  constructor(source: NodeSource) {
    this.#source = source;
    void this.#ask();
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    try {
      this.nodes = (await this.#source.clusterStatus()).nodes ?? [];
      this.trouble = '';
      this.isAnswered = true;
    } catch (e) {
      this.trouble = (e as Error).message;
    }
    if (this.#ended) return;
    for (const listener of this.#listeners) listener();
    this.#timer = setTimeout(() => void this.#ask(), EVERY_MS);
    this.#timer.unref();
  }
}

/** What the page's bar shows of a node. */
export function briefOf({ name, state, message = '', status }: ClusterNode): NodeBrief {
  const sum = (list: readonly (number | string)[] | undefined) =>
    (list ?? []).reduce<number>((n, v) => n + Number(v), 0);
  return {
    name,
    connected: state === 'NODE_CONNECTED',
    message,
    policiesRefused: status?.policies_refused ?? 0,
    flowsPerSecond: status?.flows_per_second ?? 0,
    lost: sum(status?.lost_in_ring) + Number(status?.lost_in_queues ?? 0),
  };
}
