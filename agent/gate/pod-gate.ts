/**
 * The condition of the CNI gate: the pod is known, its set is in the maps, and its interface is hooked. Its containers
 * may start only then: without the gate, they could send packets before they are judged.
 */
import { AgentError } from '../../src/errors.js';
import type { Attacher } from '../hooks/attach.js';
import type { Claims } from '../endpoints/binding/claims.js';
import type { GateRequest } from './protocol.js';
import type { GateHandler } from './server.js';
import type { InForceState } from '../endpoints/in-force.js';

interface WaitingPod {
  readonly key: string;
  /** Netns.id, not a path: the pod may be bound by another file of the namespace. */
  readonly netns: string;
  readonly resolve: () => void;
}

export interface PodGateParts {
  readonly claims: Claims;
  readonly attacher: Pick<Attacher, 'hooked'>;
  /** Schedules a pass. */
  readonly schedule: () => void;
}

export class PodGate implements GateHandler {
  readonly #parts: PodGateParts;
  readonly #waiting = new Set<WaitingPod>();

  constructor(parts: PodGateParts) {
    this.#parts = parts;
  }

  /** Resolves when the pod is judged. Rejects with NETNS if there is no such namespace, AGENT if `signal` aborts. */
  add(request: GateRequest, signal: AbortSignal): Promise<void> {
    // Not a pod's sandbox: other users of the same CNI configuration are not held.
    if (!request.pod) return Promise.resolve();
    const { namespace, name, uid } = request.pod;
    const facts = { ips: request.ips, mac: request.mac };
    const ns = this.#parts.claims.add({ namespace, name, uid, netns: request.netns, ifname: request.ifname, facts });
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
      const waiting: WaitingPod = {
        key: `${namespace}/${name}`,
        netns: ns.id,
        resolve: () => {
          this.#waiting.delete(waiting);
          resolve();
        },
      };
      const onAbort = () => {
        this.#waiting.delete(waiting);
        reject(new AgentError('AGENT', 'the question was withdrawn'));
      };
      if (signal.aborted) return onAbort();
      this.#waiting.add(waiting);
      signal.addEventListener('abort', onAbort, { once: true });
      this.#parts.schedule();
    });
  }

  del(request: GateRequest): void {
    if (request.pod) this.#parts.claims.remove({ ...request.pod, netns: request.netns });
  }

  /** Called after each pass: releases the pods that are judged now. */
  release({ bindings }: InForceState): void {
    for (const waiting of [...this.#waiting]) {
      const nics = bindings.pods.filter((b) => b.key === waiting.key && b.netns.id === waiting.netns);
      const judged = nics.every((b) => this.#parts.attacher.hooked(b.ifindex, 'ingress'));
      if (nics.length > 0 && judged) waiting.resolve();
    }
  }
}
