/** What a description of edges needs of a snapshot: generations of policies, and what is behind a Service. */
import { apiGroup } from '../identity/kinds.js';
import type { Pod, RawPolicy, Service, Snapshot } from '../identity/snapshot.js';
import type { PolicyRef } from '../ir/types.js';
import type { ServiceRef } from '../flow/event/types.js';
import { whoIs } from '../flow/names/addresses.js';
import { type EdgeFacts, workloadOf } from './describe.js';
import type { EdgeParty } from './edge.js';
import { policyGeneration } from './generation.js';

/** Backends that are looked at: of more, the workload of the first ones is that of all. */
const LOOKED_AT = 16;

type Behind = { party: EdgeParty; port: number } | undefined;

export class SnapshotFacts implements EdgeFacts {
  readonly nodeName: string;
  #snapshot: Snapshot | undefined;
  #policies: readonly RawPolicy[] | undefined;
  readonly #generations = new Map<string, number>();
  #behind = new WeakMap<Service, Map<number, Behind>>();
  /** The pods by which Services' backends were found. */
  #pods: Snapshot['pods'] | undefined;
  #podIps: Map<string, Pod> | undefined;

  constructor(nodeName: string) {
    this.nodeName = nodeName;
  }

  update(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
  }

  generation({ dialect, kind, namespace, name }: PolicyRef): number {
    const policies = this.#snapshot?.policies ?? [];
    if (policies !== this.#policies) {
      this.#policies = policies;
      this.#generations.clear();
      for (const raw of policies)
        this.#generations.set(
          key(isCalico(raw), raw.kind, raw.namespace, raw.name),
          policyGeneration(raw),
        );
    }
    return this.#generations.get(key(dialect === 'calico', kind, namespace, name)) ?? 0;
  }

  behind({ namespace, name }: ServiceRef, port: number, protocol: number): Behind {
    const service = this.#snapshot?.services.get(`${namespace}/${name}`);
    if (!service) return undefined;
    if (this.#snapshot?.pods !== this.#pods) {
      // Pods get their addresses a moment before or after their Services know them.
      this.#pods = this.#snapshot?.pods;
      this.#podIps = undefined;
      this.#behind = new WeakMap();
    }
    let ports = this.#behind.get(service);
    if (!ports) this.#behind.set(service, (ports = new Map()));
    const id = port * 256 + protocol;
    if (!ports.has(id)) ports.set(id, this.#find(service, port, protocol));
    return ports.get(id);
  }

  #find(service: Service, port: number, protocol: number): Behind {
    const found = service.ports.find((p) => p.port === port && p.protocol === protocol);
    let party: EdgeParty | undefined;
    let target: number | undefined;
    for (const backend of (found?.backends ?? []).slice(0, LOOKED_AT)) {
      const pod = this.#podAt(backend.ip);
      if (!pod) return undefined;
      const own = workloadOf(whoIs(pod));
      const isSame =
        !party ||
        (own.name === party.name && own.namespace === party.namespace && own.workloadKind === party.workloadKind);
      if (!isSame || (target !== undefined && target !== backend.port)) return undefined;
      party = own;
      target = backend.port;
    }
    return party && target !== undefined ? { party, port: target } : undefined;
  }

  #podAt(ip: string): Pod | undefined {
    if (!this.#podIps) {
      this.#podIps = new Map();
      for (const pod of this.#pods?.values() ?? [])
        if (!pod.hostNetwork && !pod.ended) for (const own of pod.ips) this.#podIps.set(own, pod);
    }
    return this.#podIps.get(ip);
  }
}

function isCalico({ apiVersion }: RawPolicy): boolean {
  return apiGroup(apiVersion).endsWith('projectcalico.org');
}

function key(calico: boolean, kind: string, namespace: string | undefined, name: string): string {
  return [calico, kind, namespace ?? '', name].join(' ');
}
