import type { Known } from '../src/flow/names/enrich.js';
import type { Intake } from '../src/flow/intake.js';
import type { EndpointBinding } from '../src/image/store.js';
import type { RuleRef } from '../src/ir/types.js';
import type { PolicyEvents } from '../src/kube/events.js';
import type { Logger } from '../src/log.js';
import type { InForceState } from './endpoints/in-force.js';
import type { ReleasedAddresses } from './events/released-addresses.js';
import type { PodGate } from './gate/pod-gate.js';
import type { Attacher } from './hooks/attach.js';
import type { Programs } from './kernel/loader.js';
import type { KernelMapStore } from './maps/store.js';
import type { Learning } from './resolvers/learning.js';
import type { PolicyServer } from './serve/policies.js';
import { policyProblems } from './serve/status.js';

export interface AfterPassParts {
  readonly programs: Pick<Programs, 'table' | 'dropOthers'>;
  readonly store: KernelMapStore;
  readonly attacher: Attacher;
  readonly intake: Intake;
  readonly peers: ReleasedAddresses;
  readonly names: Learning;
  readonly podGate: PodGate;
  readonly policyServer: Pick<PolicyServer, 'applied'>;
  readonly events: PolicyEvents | undefined;
  readonly log: Logger;
}

/** Passes what the reconciler has put in force on to the other parts: names, metrics, the gate, Kubernetes Events. */
export class AfterPass {
  readonly #parts: AfterPassParts;
  /** Names of the rules that an earlier agent had in force, by rule id. */
  readonly #recovered: ReadonlyMap<number, RuleRef>;
  #lastEndpoints: { bindings: readonly EndpointBinding[]; endpoints: Known['endpoints'] } = {
    bindings: [],
    endpoints: new Map(),
  };
  #strangersRemoved = false;
  #othersDropped = false;

  constructor(parts: AfterPassParts) {
    this.#parts = parts;
    this.#recovered = new Map(parts.store.recoveredRules);
  }

  /** Endpoints in force, by id. */
  get endpoints(): Known['endpoints'] {
    return this.#lastEndpoints.endpoints;
  }

  applied(state: InForceState): void {
    const { programs, intake, peers, names, podGate, policyServer, events } = this.#parts;
    if (state.endpoints !== this.#lastEndpoints.bindings) {
      const entries = state.endpoints.map((b) => [b.id, { pod: b.kind === 'pod' ? b.key : '', uid: b.uid }] as const);
      this.#lastEndpoints = { bindings: state.endpoints, endpoints: new Map(entries) };
      programs.table.divide(state.endpoints.length);
    }
    const recovered = this.#recovered;
    const rules = recovered.size > 0 ? new Map([...recovered, ...state.image.rules]) : state.image.rules;
    intake.learn({ snapshot: state.snapshot, rules, endpoints: this.endpoints });
    if (!this.#othersDropped) programs.dropOthers();
    this.#othersDropped = true;
    peers.update(state.snapshot.pods);
    podGate.release(state);
    policyServer.applied(state);
    events?.report(policyProblems(state));
    this.#forgetStrangers(state);
    names.applied(state, this.#strangersRemoved);
  }

  /** Removes the map entries of interfaces that no longer exist. Once, as soon as every pod of the node is bound. */
  #forgetStrangers({ bindings }: InForceState): void {
    const { store, attacher, log } = this.#parts;
    if (this.#strangersRemoved || bindings.unbound.size > 0) return;
    this.#strangersRemoved = true;
    const dropped = store.dropStrangers(new Set(attacher.attached()));
    if (dropped > 0) log.info('entries of removed interfaces were deleted', { entries: dropped });
  }
}
