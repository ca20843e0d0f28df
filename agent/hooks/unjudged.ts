/** Pods without hooks while no update can be applied: closed if a policy selects them, open otherwise. */
import { AgentError } from '../../src/errors.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image } from '../../src/image/types.js';
import type { Logger } from '../../src/log.js';
import type { Attacher, HookPrograms } from './attach.js';

interface Parts {
  readonly attacher: Attacher;
  readonly programs: HookPrograms;
  readonly log: Logger;
}

/**
 * Closes the pods without hooks that a policy selects: otherwise a new pod could send anything while an update fails. A
 * pod with a hook, also an earlier agent's, stays as it is: its hook judges by the last policies. A pod that no policy
 * selects is opened if its interface was closed when it appeared, before its owner was known.
 */
export function closeUnjudged({ attacher, programs, log }: Parts, endpoints: readonly EndpointBinding[], image: Image) {
  for (const { kind, key, ifindex, ifname } of endpoints) {
    if (kind !== 'pod') continue;
    try {
      if ((image.endpoints.get(key) ?? 0) === 0) attacher.reopenDevice(ifindex);
      else if (!attacher.has(ifindex, 'ingress')) {
        attacher.closeDevice({ ifindex, ifname }, programs);
        log.warn('a pod is closed until its policies can be applied', { endpoint: key, interface: ifname });
      }
    } catch (e) {
      if (!(e instanceof AgentError)) throw e;
      log.error('a pod without hooks cannot be closed, or opened', {
        endpoint: key,
        interface: ifname,
        error: e.message,
      });
    }
  }
}
