/** What every dialect hands over to the registry. */
import type { RawPolicy } from '../identity/snapshot.js';
import type { IrPolicy } from '../ir/types.js';

/** A fault in a policy object, not yet tied to a file. */
export interface Fault {
  readonly severity: 'error' | 'warning';
  /** Field path in the object. */
  readonly field: string;
  readonly message: string;
  /** What to do. */
  readonly hint?: string;
  /** What is in force while the fault stands; errors only. */
  readonly effect?: string;
}

/** A policy object as its dialect understood it. */
export interface Understood {
  /** Fails closed where there are errors; undefined if the policy does not concern egress. */
  readonly policy: IrPolicy | undefined;
  readonly faults: readonly Fault[];
  /** No errors: may serve as the last good state. */
  readonly good: boolean;
}

export interface Dialect {
  readonly name: string;
  /** Is this object one of the dialect's? */
  claims(raw: RawPolicy): boolean;
  /** Pure: depends on the object's kind, namespace, name and content only. */
  understand(raw: RawPolicy): Understood;
}
