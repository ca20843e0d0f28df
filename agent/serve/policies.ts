/** Answers questions about policy objects, and about changes of them that are not made. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Hearing } from '../../src/dialects/hearing.js';
import type { EdgeFeed } from '../../src/edges/query.js';
import { edgeHistoryOf } from '../../src/edges/wire.js';
import type {
  PolicyObjectsRequest,
  PolicyObjectsResponse,
  PreviewRequest,
  PreviewResponse,
  RecommendRequest,
  RecommendResponse,
} from '../../src/proto/edges.js';
import { readRequest, type RecommendQuestion } from '../../src/recommend/request.js';
import { policyObjects } from '../../src/tools/policies/objects.js';
import type { PreviewInput } from '../../src/tools/policies/preview.js';
import { PolicyAges } from '../../src/tools/policies/since.js';
import { readAges, writeAges } from './ages.js';
import { AskThread } from '../ask/thread.js';
import type { InForceState } from '../endpoints/in-force.js';

/** Milliseconds of work after which others have their turn. */
const SLICE_MS = 5;

export class PolicyServer {
  readonly #hearing: Hearing;
  readonly #ages: PolicyAges;
  readonly #path: string;
  readonly #thread = new AskThread(new URL('../ask/jobs.js', import.meta.url).href);

  /** @param hearing what the agent's options say @param path file of what policies are since when */
  constructor(hearing: Hearing, path: string) {
    this.#hearing = hearing;
    this.#path = path;
    this.#ages = new PolicyAges(readAges(path));
  }

  /** Saves since when policies are as they are, if that has changed. To be called once in a while. */
  save(): void {
    if (!this.#ages.isChanged) return;
    this.#ages.isChanged = false;
    writeAges(this.#path, this.#ages.all);
  }

  /** Takes the policies that have come into force. */
  applied({ snapshot, appliedAt }: Pick<InForceState, 'snapshot' | 'appliedAt'>): void {
    this.#ages.take(snapshot, appliedAt);
  }

  async objects({ namespaces }: PolicyObjectsRequest, state: InForceState): Promise<PolicyObjectsResponse> {
    const asked = namespaces?.length ? new Set(namespaces) : undefined;
    let end = performance.now() + SLICE_MS;
    const pause = async () => {
      if (performance.now() < end) return;
      await nextTurn();
      end = performance.now() + SLICE_MS;
    };
    const { ir, snapshot, problems } = state;
    const since = (raw: (typeof snapshot.policies)[number]) => this.#ages.since(raw);
    return { objects: await policyObjects({ ir, snapshot, problems, since }, asked, pause) };
  }

  /** @throws AgentError USAGE if the request is too large, AGENT if it takes too long or too many are open */
  preview(request: PreviewRequest, { snapshot }: InForceState, edges: EdgeFeed): Promise<PreviewResponse> {
    const { manifests = '', deleted = [], evidence, enforce_staged = false, limit = 0 } = request;
    const input: PreviewInput = {
      snapshot,
      hearing: this.#hearing,
      change: { manifests, deleted, enforceStaged: enforce_staged },
      evidence: evidence?.length ? evidence.map(edgeHistoryOf) : edges.histories({}),
      limit,
    };
    return this.#thread.ask<PreviewResponse>('preview', input);
  }

  /** @throws AgentError USAGE if the request cannot be read, AGENT if it takes too long or too many are open */
  recommend(request: RecommendRequest, { snapshot }: InForceState, edges: EdgeFeed): Promise<RecommendResponse> {
    const { given } = readRequest(request);
    const { beganMs, overflow } = edges;
    const own = given ? {} : { own: { beganMs, overflow, histories: edges.histories({}) } };
    const question: RecommendQuestion = { request, snapshot, ...own };
    return this.#thread.ask<RecommendResponse>('recommend', question);
  }

  close(): void {
    this.#thread.close();
    this.save();
  }
}
