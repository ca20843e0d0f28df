/** Service addresses: what the packet path needs to judge them before kube-proxy translates them. */
import type { Snapshot } from '../identity/snapshot.js';
import { ownNodeIps } from './atoms.js';
import type { Destinations4, Destinations6, ImageService } from '../image/types.js';
import { classLookup } from '../image/lookup.js';

/** Kinds of backends that are judged one by one in the kernel (EA_MAX_BACKENDS). */
export const MAX_BACKENDS = 16;

/**
 * One entry for each address and port of each Service that has backends of the address's own family: kube-proxy never
 * translates from one to the other.
 * Backends of one class and port are one kind: no rule can tell them apart, except
 * that a pod always reaches itself, so local pods are kinds of their own. More than
 * MAX_BACKENDS kinds are judged after the translation only.
 */
export function compileServices(
  snapshot: Snapshot,
  local: readonly string[],
  destinations: { destinations4: Destinations4; destinations6: Destinations6 },
): Map<string, ImageService> {
  const classOf = classLookup(destinations);
  const localIps = new Set(local.flatMap((key) => snapshot.pods.get(key)?.ips ?? []));
  const nodeIps = [...ownNodeIps(snapshot)].sort();
  const out = new Map<string, ImageService>();
  for (const service of [...snapshot.services.values()].sort((a, b) => compare(key(a), key(b)))) {
    for (const port of service.ports) {
      const families = new Map<boolean, Pick<ImageService, 'backends' | 'many'>>();
      for (const v6 of [false, true]) {
        const kinds = new Map<string, { ip: string; port: number }>();
        for (const b of port.backends) {
          if (isV6(b.ip) !== v6) continue;
          const kind = `${localIps.has(b.ip) ? b.ip : classOf(b.ip)}|${b.port}`;
          if (!kinds.has(kind)) kinds.set(kind, { ip: b.ip, port: b.port });
        }
        const many = kinds.size > MAX_BACKENDS;
        if (kinds.size > 0) families.set(v6, { backends: many ? [] : [...kinds.values()], many });
      }
      const entry = (ip: string, at: number) => {
        const id = `${ip}|${at}|${port.protocol}`;
        const behind = families.get(isV6(ip));
        // Two Services that claim one address: the first by name holds it, as in the API server's allocator.
        if (behind && !out.has(id)) out.set(id, { ip, port: at, protocol: port.protocol, ...behind });
      };
      for (const vip of service.vips) entry(vip, port.port);
      if (port.nodePort) for (const ip of nodeIps) entry(ip, port.nodePort);
    }
  }
  return out;
}

/** Of canonical text. */
function isV6(ip: string): boolean {
  return ip.includes(':');
}

function key(s: { namespace: string; name: string }): string {
  return `${s.namespace}/${s.name}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
