/**
 * Limits the rows of the map `services` for each namespace. Without the limit, whoever may write Services in one
 * namespace could fill the map, and the Services of others would not fit. The rows are counted before any is made,
 * because a Service with 300 addresses and 1000 ports is only a line of YAML.
 */
import type { Service, Snapshot } from '../identity/snapshot.js';

/** One eighth of the map. */
export const NAMESPACE_ROWS = 16_384;

/**
 * The result depends only on the Services and the node's addresses, not on the order of events. A namespace that asks
 * for too many rows is decided as a whole: its Services are admitted in order of name. A Service that does not fit has
 * no rows; later ones that fit have theirs.
 */
export class ServiceBudget {
  readonly #rowsOfService = new Map<string, number>();
  /** `namespace/name`s by namespace. */
  readonly #inNamespace = new Map<string, Set<string>>();
  readonly #rows = new Map<string, number>();
  #out: ReadonlyMap<string, string> = new Map();

  /** Services that are left out, with the reasons; the same object while nothing changes. */
  get refused(): ReadonlyMap<string, string> {
    return this.#out;
  }

  /**
   * @param changed Services whose number of rows may have changed
   * @returns the Services that were admitted or left out by this update
   */
  update(changed: Iterable<string>, services: Snapshot['services'], nodeIps: readonly string[]): string[] {
    const node = familiesOf(nodeIps);
    const moved = new Set<string>();
    for (const key of changed) {
      const service = services.get(key);
      if (this.#count(key, service && rowsOf(service, node))) moved.add(namespaceOf(key));
    }
    const out = new Map(this.#out);
    const flipped: string[] = [];
    const decide = (key: string, why: string | undefined) => {
      const before = this.#out.get(key);
      if (why === before) return;
      if ((why === undefined) !== (before === undefined)) flipped.push(key);
      if (why === undefined) out.delete(key);
      else out.set(key, why);
      this.#out = out;
    };
    const deleted: string[] = [];
    for (const key of this.#out.keys())
      if (moved.has(namespaceOf(key)) && !this.#rowsOfService.has(key)) deleted.push(key);
    for (const namespace of moved) this.#decide(namespace, decide);
    for (const key of deleted) decide(key, undefined);
    return flipped;
  }

  /** @returns whether the number changed */
  #count(key: string, rows: number | undefined): boolean {
    const before = this.#rowsOfService.get(key);
    if (rows === before) return false;
    const namespace = namespaceOf(key);
    const keys = this.#inNamespace.get(namespace) ?? new Set();
    const sum = (this.#rows.get(namespace) ?? 0) + (rows ?? 0) - (before ?? 0);
    if (rows === undefined) {
      this.#rowsOfService.delete(key);
      keys.delete(key);
    } else {
      this.#rowsOfService.set(key, rows);
      keys.add(key);
    }
    if (keys.size > 0) this.#inNamespace.set(namespace, keys);
    else this.#inNamespace.delete(namespace);
    if (keys.size > 0) this.#rows.set(namespace, sum);
    else this.#rows.delete(namespace);
    return true;
  }

  #decide(namespace: string, decide: (key: string, why: string | undefined) => void): void {
    const sum = this.#rows.get(namespace) ?? 0;
    const keys = this.#inNamespace.get(namespace) ?? [];
    const why = `the Services of namespace ${namespace} are ${sum} addresses with ports, ${NAMESPACE_ROWS} are held of a namespace`;
    let remaining = NAMESPACE_ROWS;
    for (const key of sum > NAMESPACE_ROWS ? [...keys].sort() : keys) {
      const rows = this.#rowsOfService.get(key) ?? 0;
      const fits = rows <= remaining;
      if (fits) remaining -= rows;
      decide(key, fits ? undefined : why);
    }
  }
}

function namespaceOf(key: string): string {
  return key.slice(0, key.indexOf('/'));
}

interface Families {
  readonly v4: number;
  readonly v6: number;
}

/** Whether a canonical address is IPv6. */
export function isV6(ip: string): boolean {
  return ip.includes(':');
}

function familiesOf(ips: readonly string[]): Families {
  const v6 = ips.filter(isV6).length;
  return { v4: ips.length - v6, v6 };
}

/** Number of rows of a Service: each address times each port with backends of its family. */
function rowsOf({ vips, ports }: Service, node: Families): number {
  const own = familiesOf(vips);
  let rows = 0;
  for (const { nodePort, backends } of ports) {
    if (backends.some((b) => !isV6(b.ip))) rows += own.v4 + (nodePort ? node.v4 : 0);
    if (backends.some((b) => isV6(b.ip))) rows += own.v6 + (nodePort ? node.v6 : 0);
  }
  return rows;
}
