/** The result of a CNI plugin, which describes the interface that it made (CNI specification, "Result types"). */
import { tryCanonicalAddr } from '../../../src/net/addr.js';

/** Limit of a list's length: more than any CNI returns. */
const MAX_RESULTS = 256;

/** Addresses and MAC of the pod's interface. Missing and malformed fields are ignored. @throws Error for a long list */
export function factsOf(result: unknown, ifname: string): { ips: string[]; mac?: string } {
  const interfaces = listOf(result, 'interfaces');
  const inPod = (i: unknown): boolean => typeof member(i, 'sandbox') === 'string' && member(i, 'sandbox') !== '';

  const ips = new Set<string>();
  const addAddress = (address: unknown): void => {
    const ip = typeof address === 'string' ? tryCanonicalAddr(address.split('/', 1)[0] as string) : undefined;
    if (ip !== undefined) ips.add(ip);
  };
  for (const ip of listOf(result, 'ips')) {
    const index = member(ip, 'interface');
    // Without an index, or with an invalid one, the interface is unknown: it is the pod's, as a rule.
    const owner = typeof index === 'number' ? interfaces[index] : undefined;
    if (owner === undefined || inPod(owner)) addAddress(member(ip, 'address'));
  }
  // Results before 0.3.0.
  for (const family of ['ip4', 'ip6']) addAddress(member(member(result, family), 'ip'));

  const podInterface = interfaces.find((i) => inPod(i) && member(i, 'name') === ifname);
  const mac = member(podInterface, 'mac');
  const isMac = typeof mac === 'string' && /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(mac);
  return isMac ? { ips: [...ips], mac: mac.toLowerCase() } : { ips: [...ips] };
}

/** An own member of a JSON object. */
export function member(of: unknown, name: string): unknown {
  if (typeof of !== 'object' || of === null || !Object.hasOwn(of, name)) return undefined;
  return (of as Record<string, unknown>)[name];
}

/** A member that is a list; empty for anything else. @throws Error if it is too long */
export function listOf(of: unknown, name: string): unknown[] {
  const list = member(of, name);
  if (!Array.isArray(list)) return [];
  if (list.length > MAX_RESULTS) throw new Error(`${name} has more than ${MAX_RESULTS} items`);
  return list;
}
