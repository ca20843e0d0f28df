/** Parses the lines of a watch. */
import { KubeError, type KubeObject } from '../client/client.js';

export interface ObjectIdentity {
  /** `namespace/name`, or `name` for cluster-wide objects. */
  key: string;
  uid: string;
  version: string;
}

export type WatchEvent =
  | { type: 'ADDED' | 'MODIFIED' | 'DELETED'; object: KubeObject; id: ObjectIdentity }
  | { type: 'BOOKMARK'; version: string };

/** The identity of an object; undefined if it has none. */
export function identity(object: unknown): ObjectIdentity | undefined {
  if (typeof object !== 'object' || object === null) return undefined;
  const { name, namespace, uid, resourceVersion } = (object as KubeObject).metadata ?? {};
  if (typeof name !== 'string' || name === '' || typeof resourceVersion !== 'string' || resourceVersion === '') {
    return undefined;
  }
  const key = typeof namespace === 'string' && namespace !== '' ? `${namespace}/${name}` : name;
  return { key, uid: typeof uid === 'string' ? uid : '', version: resourceVersion };
}

/**
 * Parses one event.
 * @throws KubeError with the status of an ERROR event (410 or another one); reason Malformed if it is not an event
 */
export function parseEvent(line: unknown): WatchEvent {
  const { type, object } = (line ?? {}) as { type?: unknown; object?: unknown };
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
    case 'DELETED': {
      const id = identity(object);
      if (!id) throw new KubeError(0, 'Malformed', `watch: ${type} of an object without name or resourceVersion`);
      return { type, object: object as KubeObject, id };
    }
    case 'BOOKMARK': {
      const version = (object as KubeObject | null | undefined)?.metadata?.resourceVersion;
      if (typeof version !== 'string' || version === '') {
        throw new KubeError(0, 'Malformed', 'watch: BOOKMARK without resourceVersion');
      }
      return { type, version };
    }
    case 'ERROR': {
      const status = (object ?? {}) as { code?: unknown; reason?: unknown; message?: unknown };
      const code = typeof status.code === 'number' ? status.code : 500;
      const reason = typeof status.reason === 'string' ? status.reason : 'Unknown';
      throw new KubeError(code, reason, `watch: ${String(status.message ?? reason).slice(0, 300)}`);
    }
    default:
      throw new KubeError(0, 'Malformed', `watch: an event of unknown type ${JSON.stringify(type)?.slice(0, 40)}`);
  }
}
