/** Events of the steps of a policy's life, which `kubectl describe` shows. */
import { createHash } from 'node:crypto';
import { isRecord } from '../../identity/fields.js';
import type { PlainObject } from '../forms.js';

/** Who makes a step. */
export type Manager = 'egressctl' | 'egress-ui';

const LONGEST_MESSAGE = 1000;

/** What is said about an object. */
interface Note {
  readonly reason: string;
  readonly message: string;
  readonly now: Date;
  readonly manager: Manager;
}

/** An Event about an object, in its namespace. */
export function stepEvent(object: PlainObject, { reason, message, now, manager }: Note) {
  const { apiVersion, kind, metadata } = object;
  const { namespace, name, uid, resourceVersion } = isRecord(metadata) ? metadata : {};
  const time = now.toISOString();
  const hash = createHash('sha256')
    .update(JSON.stringify([uid, reason, time, message]))
    .digest('hex')
    .slice(0, 16);
  const seconds = time.replace(/\.\d+Z$/, 'Z');
  return {
    apiVersion: 'v1',
    kind: 'Event',
    // Events of cluster-wide objects are in `default`.
    metadata: {
      name: `${String(name)
        .slice(0, 200)
        .replace(/[-.]+$/, '')}.${hash}`,
      namespace: namespace === undefined ? 'default' : String(namespace),
    },
    involvedObject: { apiVersion, kind, namespace, name, uid, resourceVersion },
    type: 'Normal',
    reason,
    message: message.length > LONGEST_MESSAGE ? `${message.slice(0, LONGEST_MESSAGE)}…` : message,
    source: { component: manager },
    reportingComponent: `egress-agent.io/${manager}`,
    reportingInstance: manager,
    firstTimestamp: seconds,
    lastTimestamp: seconds,
    count: 1,
  };
}
