/** Which edges the chips let through. What edges do not have (labels, pods, DNS queries …) is asked of flows only. */
import type { Chip } from '../../src/ui/wire/chips.js';
import { matchesGlob } from '../../src/ui/text/glob.js';
import type { EdgeInfo, Party } from '../../src/ui/wire/messages.js';
import { PROTOCOLS } from '../parts/words.js';

type Test = (edge: EdgeInfo, value: string) => boolean;

const inNamespace = (p: Party, value: string) => p.namespace === value;
const isWorkload = (p: Party, value: string) => {
  const slash = value.indexOf('/');
  const name = slash < 0 ? value : value.slice(slash + 1);
  return p.kind === 'workload' && p.name === name && (slash < 0 || p.workloadKind === value.slice(0, slash));
};
const isNamed = (p: Party, value: string) => p.kind === 'name' && matchesGlob(value, p.name);
const hasAddress = (edge: EdgeInfo, p: Party, value: string) =>
  (p.kind === 'address' && p.name === value) || (p === edge.destination && edge.address === value);
const isService = ({ service }: EdgeInfo, value: string) => service === value || service.endsWith(`/${value}`);

const TESTS: Readonly<Record<string, Test>> = {
  namespace: (e, v) => inNamespace(e.source, v) || inNamespace(e.destination, v),
  'from-namespace': (e, v) => inNamespace(e.source, v),
  'to-namespace': (e, v) => inNamespace(e.destination, v),
  workload: (e, v) => isWorkload(e.source, v) || isWorkload(e.destination, v),
  'from-workload': (e, v) => isWorkload(e.source, v),
  'to-workload': (e, v) => isWorkload(e.destination, v),
  ip: (e, v) => hasAddress(e, e.source, v) || hasAddress(e, e.destination, v),
  'from-ip': (e, v) => hasAddress(e, e.source, v),
  'to-ip': (e, v) => hasAddress(e, e.destination, v),
  port: (e, v) => String(e.port) === v,
  'to-port': (e, v) => String(e.port) === v,
  fqdn: (e, v) => isNamed(e.source, v) || isNamed(e.destination, v),
  'to-fqdn': (e, v) => isNamed(e.destination, v),
  service: isService,
  'to-service': isService,
  protocol: (e, v) => PROTOCOLS[e.protocol] === v.toLowerCase(),
  verdict: (e, v) => {
    const word = v.toUpperCase();
    if (word === 'ALLOWED' || word === 'FORWARDED') return e.verdict !== 'deny';
    if (word === 'DENIED' || word === 'DROPPED') return e.verdict === 'deny';
    return word === 'AUDIT' && e.auditVerdict === 'deny' && e.verdict !== 'deny';
  },
};

/** Whether edges can be asked for this. A CIDR cannot. */
export function appliesToEdges({ key, value }: Chip): boolean {
  return Object.hasOwn(TESTS, key) && !(key.endsWith('ip') && value.includes('/'));
}

/**
 * As the server filters flows: chips of one name are alternatives, others must all match, and what a chip with NOT
 * matches is left out.
 */
export function edgeFilter(chips: readonly Chip[]): (edge: EdgeInfo) => boolean {
  const usable = chips.filter(appliesToEdges);
  if (usable.length === 0) return () => true;
  const alternatives = new Map<string, string[]>();
  for (const { not, key, value } of usable) if (!not) alternatives.set(key, [...(alternatives.get(key) ?? []), value]);
  const excluded = usable.filter(({ not }) => not);
  const test = (key: string) => TESTS[key] as Test;
  return (edge) =>
    [...alternatives].every(([key, values]) => values.some((value) => test(key)(edge, value))) &&
    !excluded.some(({ key, value }) => test(key)(edge, value));
}
