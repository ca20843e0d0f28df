/** What a description of edges needs of a snapshot: generations of policies, and what is behind a Service. */
import { apiGroup } from '../identity/kinds.js';
import type { RawPolicy, Service, Snapshot } from '../identity/snapshot.js';
import type { PolicyRef } from '../ir/types.js';
import type { ServiceRef } from '../flow/event/types.js';
import type { Who } from '../flow/names/addresses.js';
import { type EdgeFacts, partyOf } from './describe.js';
import { type EdgeParty, partyName } from './edge.js';
import { policyGeneration } from './generation.js';

/** Backends that are looked at: of more, nobody knows whether all are of one workload. */
const LOOKED_AT = 2000;

type Behind = { party: EdgeParty; port: number };

export interface FactsOptions {
  readonly nodeName: string;
  /** The owner of an address now. */
  whoAt(ip: string): Who;
}

export class SnapshotFacts implements EdgeFacts {
  readonly nodeName: string;
  readonly #whoAt: (ip: string) => Who;
  #snapshot: Snapshot | undefined;
  #policies: readonly RawPolicy[] | undefined;
  readonly #generations = new Map<string, number>();
  /** By Service and port × 256 + protocol; a Service whose backends change is another object. */
  readonly #behind = new WeakMap<Service, Map<number, Behind>>();
  /** The same of what is no workload: with the present snapshot. */
  #others = new WeakMap<Service, Map<number, Behind | undefined>>();

  constructor({ nodeName, whoAt }: FactsOptions) {
    this.nodeName = nodeName;
    this.#whoAt = whoAt;
  }

  update(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#others = new WeakMap();
  }

  generation({ dialect, kind, namespace, name }: PolicyRef): number {
    const policies = this.#snapshot?.policies ?? [];
    if (policies !== this.#policies) {
      this.#policies = policies;
      this.#generations.clear();
      for (const raw of policies)
        this.#generations.set(key(isCalico(raw), raw.kind, raw.namespace, raw.name), policyGeneration(raw));
    }
    return this.#generations.get(key(dialect === 'calico', kind, namespace, name)) ?? 0;
  }

  behind({ namespace, name }: ServiceRef, port: number, protocol: number): Behind | undefined {
    const service = this.#snapshot?.services.get(`${namespace}/${name}`);
    if (!service) return undefined;
    let ports = this.#behind.get(service);
    if (!ports) this.#behind.set(service, (ports = new Map()));
    const id = port * 256 + protocol;
    const known = ports.get(id);
    if (known) return known;
    let others = this.#others.get(service);
    if (others?.has(id)) return others.get(id);
    const found = this.#find(service, port, protocol);
    // Pods get their addresses a moment before or after their Services know them: only workloads are kept for long.
    if (found?.party.kind === 'workload') ports.set(id, found);
    else {
      if (!others) this.#others.set(service, (others = new Map()));
      others.set(id, found);
    }
    return found;
  }

  #find(service: Service, port: number, protocol: number): Behind | undefined {
    const at = service.ports.find((p) => p.port === port && p.protocol === protocol);
    let found: Behind | undefined;
    const backends = at?.backends ?? [];
    // Whoever may write Endpoints could put another one behind those that are looked at.
    if (backends.length > LOOKED_AT) return undefined;
    for (const { ip, port: target } of backends) {
      const party = partyOf(this.#whoAt(ip), ip, []);
      if (found && (found.port !== target || partyName(found.party) !== partyName(party))) return undefined;
      found ??= { party, port: target };
    }
    return found;
  }
}

function isCalico({ apiVersion }: RawPolicy): boolean {
  return apiGroup(apiVersion).endsWith('projectcalico.org');
}

function key(calico: boolean, kind: string, namespace: string | undefined, name: string): string {
  return [calico, kind, namespace ?? '', name].join(' ');
}
