import type { Problem } from '../../src/errors.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { ApplyResult, EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import type { Ir } from '../../src/ir/types.js';
import type { Bindings } from './resolver.js';

/** The state in force, complete and consistent: replaced as a whole after each pass. */
export interface InForceState {
  readonly snapshot: Snapshot;
  readonly ir: Ir;
  readonly image: Image;
  readonly bindings: Bindings;
  /** Endpoints that are bound, or were bound before and cannot be read just now. */
  readonly endpoints: readonly EndpointBinding[];
  readonly problems: readonly Problem[];
  readonly lastApply: ApplyResult;
  /** Wall clock of the pass, milliseconds since 1970. */
  readonly appliedAt: number;
}
