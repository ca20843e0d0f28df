/**
 * What the CNI gate waits for: the pod is known, its set is in the maps, its interface is hooked. Then, and not before,
 * its containers may start.
 */
import { AgentError } from '../src/errors.js';
import type { Attacher } from './attach.js';
import type { Claims } from './claims.js';
import type { GateRequest } from './gate/protocol.js';
import type { GateHandler } from './gate/server.js';
import type { InForceState } from './reconciler.js';

interface Waiting {
  readonly key: string;
  /** Netns.id: the namespace may be known by another of its files. */
  readonly netns: string;
  readonly resolve: () => void;
}

export interface PodGateParts {
  readonly claims: Claims;
  readonly attacher: Pick<Attacher, 'hooked'>;
  /** Asks for a pass. */
  readonly schedule: () => void;
}

export class PodGate implements GateHandler {
  readonly #parts: PodGateParts;
  readonly #waiting = new Set<Waiting>();

  constructor(parts: PodGateParts) {
    this.#parts = parts;
  }

  /** @throws AgentError NETNS where there is no such namespace */
  add(request: GateRequest, signal: AbortSignal): Promise<void> {
    // Not a pod's: other users of the same CNI configuration are none of our business.
    if (!request.pod) return Promise.resolve();
    const { namespace, name, uid } = request.pod;
    const ns = this.#parts.claims.add({ namespace, name, uid, netns: request.netns });
    if (!ns) {
      const hint = 'mount the directory of the network namespaces into the agent';
      return Promise.reject(
        new AgentError('NETNS', `there is no network namespace at ${request.netns}`, {
          where: { object: `Pod ${namespace}/${name}` },
          hint,
        }),
      );
    }
    return new Promise((resolve, reject) => {
      const waiting: Waiting = {
        key: `${namespace}/${name}`,
        netns: ns.id,
        resolve: () => {
          this.#waiting.delete(waiting);
          resolve();
        },
      };
      const withdrawn = () => {
        this.#waiting.delete(waiting);
        reject(new AgentError('AGENT', 'the question was withdrawn'));
      };
      if (signal.aborted) return withdrawn();
      this.#waiting.add(waiting);
      signal.addEventListener('abort', withdrawn, { once: true });
      this.#parts.schedule();
    });
  }

  del(request: GateRequest): void {
    if (request.pod) this.#parts.claims.remove({ ...request.pod, netns: request.netns });
  }

  /** After each pass: whose pod is judged now may start. */
  passed({ bindings }: InForceState): void {
    for (const waiting of [...this.#waiting]) {
      const there = bindings.pods.filter((b) => b.key === waiting.key && b.netns.id === waiting.netns);
      const judged = there.every((b) => this.#parts.attacher.hooked(b.ifindex, 'ingress'));
      if (there.length > 0 && judged) waiting.resolve();
    }
  }
}
