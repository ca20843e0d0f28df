/** Values of chips, of what has been seen. */
import type { FlowEnd, Party } from '../../src/ui/wire/messages.js';
import { PROTOCOLS } from '../parts/words.js';
import { edges, flows, nodes } from './store.js';

/** Values at most. */
const MOST = 20;
/** Edges and flows that are looked at, for each key that is typed. */
const MOST_LOOKED_AT = 8000;

const FIXED: Readonly<Record<string, readonly string[]>> = {
  verdict: ['ALLOWED', 'DENIED', 'AUDIT', 'TRACED'],
  protocol: ['tcp', 'udp', 'sctp', 'icmp', 'dns', 'http', 'tls', 'quic'],
  type: ['drop', 'trace', 'policy-verdict', 'l7'],
  'traffic-direction': ['egress', 'ingress'],
};

type Side = 'source' | 'destination';
type Take = (value: string) => void;

const ofParty: Readonly<Record<string, (p: Party, take: Take) => void>> = {
  namespace: (p, take) => take(p.namespace),
  workload: (p, take) => p.kind === 'workload' && take(`${p.workloadKind}/${p.name}`),
  fqdn: (p, take) => p.kind === 'name' && take(p.name),
  ip: (p, take) => p.kind === 'address' && take(p.name),
};
const ofEnd: Readonly<Record<string, (e: FlowEnd, take: Take) => void>> = {
  namespace: (e, take) => take(e.namespace),
  workload: (e, take) => e.workload !== '' && take(`${e.workloadKind}/${e.workload}`),
  pod: (e, take) => e.pod !== '' && take(`${e.namespace}/${e.pod}`),
  fqdn: (e, take) => e.names.forEach(take),
  ip: (e, take) => take(e.ip),
  label: (e, take) => e.labels.forEach((label) => take(label.replace(/^k8s:/, ''))),
};

/**
 * Values of a chip that have been seen, the most frequent first.
 * @param key of a chip: `from-namespace`
 * @param prefix how the value begins, in any case
 */
export function suggest(key: string, prefix: string): string[] {
  const begin = prefix.toLowerCase();
  const fits = (value: string) => value !== '' && value.length <= 200 && value.toLowerCase().startsWith(begin);
  const fixed = FIXED[key];
  if (fixed) return fixed.filter(fits);
  if (key === 'node-name')
    return (nodes.peek() ?? [])
      .map(({ name }) => name)
      .filter(fits)
      .slice(0, MOST);
  const found = new Map<string, number>();
  const take = (value: string) => {
    if (fits(value)) found.set(value, (found.get(value) ?? 0) + 1);
  };
  const [, side = '', what = ''] = /^(?:(from|to)-)?(.+)$/.exec(key) ?? [];
  const sides: readonly Side[] =
    side === 'from' ? ['source'] : side === 'to' ? ['destination'] : ['source', 'destination'];
  let looked = 0;
  for (const { info } of edges.values()) {
    if (++looked > MOST_LOOKED_AT) break;
    if (what === 'port') take(info.port === 0 || PROTOCOLS[info.protocol] === 'icmp' ? '' : String(info.port));
    else if (what === 'service') take(info.service);
    else for (const one of sides) ofParty[what]?.(info[one], take);
  }
  for (let n = flows.length - 1; n >= 0 && looked < 2 * MOST_LOOKED_AT; n--, looked++) {
    const flow = flows[n];
    if (flow && what !== 'port') for (const one of sides) ofEnd[what]?.(flow[one], take);
  }
  return [...found]
    .sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1))
    .slice(0, MOST)
    .map(([value]) => value);
}
