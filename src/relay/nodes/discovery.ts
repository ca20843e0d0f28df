/** Finds the agents' pods by their label, through the API. */
import type { KubeClient, KubeObject } from '../../kube/client/client.js';
import { Reflector } from '../../kube/reflector/reflector.js';
import type { Logger } from '../../log.js';
import type { AgentPlace, Agents } from './agents.js';
import { AGENT_SELECTOR } from './names.js';

export interface AgentPod {
  namespace: string;
  name: string;
  uid: string;
  /** Empty if it is not scheduled. */
  node: string;
  /** Empty if it has no address yet. */
  ip: string;
  phase: string;
}

/** Reads an agent's pod. A field of the wrong type counts as empty. */
export function readAgentPod(object: KubeObject): AgentPod {
  const { metadata, spec, status } = object as KubeObject & {
    spec?: Record<string, unknown>;
    status?: Record<string, unknown>;
  };
  const text = (value: unknown) => (typeof value === 'string' ? value : '');
  return {
    namespace: text(metadata?.namespace),
    name: text(metadata?.name),
    uid: text(metadata?.uid),
    node: text(spec?.nodeName),
    ip: text(status?.podIP),
    phase: text(status?.phase),
  };
}

/** API path of the pods of a namespace. */
export function podsPath(namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods`;
}

/** `ADDRESS:PORT` for an address of either family. */
export function hostPort(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function placeOf(pod: AgentPod, port: number): AgentPlace {
  return { id: pod.uid, name: pod.node || pod.name, address: hostPort(pod.ip, port) };
}

/** Keeps `agents` equal to the running pods. @returns a function that stops it */
export function followAgents(
  agents: Agents,
  opts: { client: KubeClient; namespace: string; port: number; log: Logger },
): { close(): void } {
  const pods = new Map<string, AgentPod>();
  const reflector: Reflector<AgentPod> = new Reflector<AgentPod>({
    client: opts.client,
    path: podsPath(opts.namespace),
    query: { labelSelector: AGENT_SELECTOR },
    read: readAgentPod,
    log: opts.log,
    onChange: () => {
      const changes = reflector.take();
      if ('all' in changes) {
        pods.clear();
        for (const [key, pod] of changes.all) pods.set(key, pod);
      } else {
        for (const [key, pod] of changes.changed) {
          if (pod) pods.set(key, pod);
          else pods.delete(key);
        }
      }
      const running = [...pods.values()].filter((p) => p.ip !== '' && p.phase === 'Running');
      if (!agents.set(running.map((p) => placeOf(p, opts.port)))) return;
      opts.log.info('agents', { running: running.length, pods: pods.size });
    },
  });
  reflector.start();
  return reflector;
}
