/** The policies as they were told last: read anew when a node has applied others. */
import { timestampOf } from '../../edges/wire.js';
import type { ActivityResponse, PolicyObjectMessage } from '../../proto/edges.js';
import type { ClusterNode, ClusterStatusResponse } from '../../proto/status.js';
import type { Window } from '../wire/messages.js';
import { windowStart } from './edges.js';

/** The part of a client that is used. */
export interface PolicySource {
  clusterStatus(): Promise<ClusterStatusResponse>;
  policyObjects(request: object, deadlineMs?: number): Promise<{ objects?: PolicyObjectMessage[] }>;
  activity(request: { since?: ReturnType<typeof timestampOf> }, deadlineMs?: number): Promise<ActivityResponse>;
}

const ANSWER_MS = 30_000;
/** An answer is good for so long, for all pages that ask, milliseconds. */
const FRESH_MS = 2000;
/** What takes long is not asked again at once: it is work for an agent. */
const PAUSE_FACTOR = 10;

/** Changes when a node has applied other policies, or to other pods. */
export function policiesKey(nodes: readonly ClusterNode[]): string {
  return JSON.stringify(
    nodes.map(({ name, status: s }) => [
      name,
      s?.applied_at?.seconds,
      s?.applied_at?.nanos,
      s?.policies_in_force,
      s?.policies_staged,
      s?.policies_refused,
    ]),
  );
}

/** An answer that is asked for once at a time, and kept for a moment. */
class Kept<T> {
  readonly #ask: () => Promise<T>;
  #asking: Promise<T> | undefined;
  #until = 0;

  constructor(ask: () => Promise<T>) {
    this.#ask = ask;
  }

  get(): Promise<T> {
    if (this.#asking && Date.now() < this.#until) return this.#asking;
    const began = Date.now();
    const asking = this.#ask();
    this.#asking = asking;
    this.#until = Number.POSITIVE_INFINITY;
    asking.then(
      () => {
        const now = Date.now();
        this.#until = now + Math.max(FRESH_MS, (now - began) * PAUSE_FACTOR);
      },
      // An error is not kept.
      () => (this.#asking = undefined),
    );
    return asking;
  }
}

/** Policy objects and their activity, shared by all pages. */
export class PolicyBook {
  readonly #source: PolicySource;
  readonly #objects: Kept<readonly PolicyObjectMessage[]>;
  readonly #activity = new Map<Window | 'all', Kept<ActivityResponse>>();
  #key: string | undefined;
  #last: readonly PolicyObjectMessage[] = [];

  constructor(source: PolicySource) {
    this.#source = source;
    this.#objects = new Kept(() => this.#readObjects());
  }

  /** In the order in which they are judged; of several tiers once for each. @throws AgentError */
  objects(): Promise<readonly PolicyObjectMessage[]> {
    return this.#objects.get();
  }

  /** @param window `all`: all days that there are @throws AgentError */
  activity(window: Window | 'all'): Promise<ActivityResponse> {
    let kept = this.#activity.get(window);
    if (!kept) {
      const since = () => (window === 'all' ? {} : { since: timestampOf(windowStart(window, Date.now())) });
      kept = new Kept(() => this.#source.activity(since(), ANSWER_MS));
      this.#activity.set(window, kept);
    }
    return kept.get();
  }

  async #readObjects(): Promise<readonly PolicyObjectMessage[]> {
    const { nodes = [] } = await this.#source.clusterStatus();
    const key = policiesKey(nodes);
    if (key === this.#key) return this.#last;
    const { objects = [] } = await this.#source.policyObjects({}, ANSWER_MS);
    this.#last = objects;
    this.#key = key;
    return objects;
  }
}
