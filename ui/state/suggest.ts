/** What the query box offers: names of filters, and values that the edges have. */
import { CHIP_KEYS } from '../../src/ui/wire/chips.js';
import { edges } from './store.js';
import type { Party } from '../../src/ui/wire/messages.js';

export interface Suggestion {
  /** What is put into the box; with a colon at its end, a value is to follow. */
  readonly text: string;
  readonly about: string;
}

const MOST = 12;

/** @param text what is in the box: `to-po`, `!namespace:ku`, `payments` */
export function suggest(text: string): readonly Suggestion[] {
  const not = text.startsWith('!') ? '!' : '';
  const rest = text.slice(not.length);
  const colon = rest.indexOf(':');
  const out: Suggestion[] = [];
  if (colon < 0) {
    for (const [key, about] of Object.entries(CHIP_KEYS))
      if (key.includes(rest)) out.push({ text: `${not}${key}:`, about });
    out.sort((a, b) => Number(b.text.startsWith(text)) - Number(a.text.startsWith(text)));
    if (rest.length < 2) return out.slice(0, MOST);
    for (const key of ['namespace', 'workload', 'fqdn'])
      for (const value of valuesOf(key, rest)) out.push({ text: `${not}${key}:${value}`, about: CHIP_KEYS[key] ?? '' });
    return out.slice(0, MOST);
  }
  const key = rest.slice(0, colon);
  const about = Object.hasOwn(CHIP_KEYS, key) ? (CHIP_KEYS[key] ?? '') : '';
  return valuesOf(key, rest.slice(colon + 1)).map((value) => ({ text: `${not}${key}:${value}`, about }));
}

const FIXED: Readonly<Record<string, readonly string[]>> = {
  verdict: ['ALLOWED', 'DENIED', 'AUDIT', 'TRACED'],
  protocol: ['tcp', 'udp', 'sctp', 'icmp', 'dns', 'http', 'tls', 'quic'],
  type: ['drop', 'trace', 'policy-verdict', 'l7'],
  'traffic-direction': ['ingress', 'egress'],
};

function valuesOf(key: string, part: string): string[] {
  const wanted = part.toLowerCase();
  const found = new Set<string>();
  const add = (value: string) => {
    if (value !== '' && value.toLowerCase().includes(wanted)) found.add(value);
  };
  for (const value of FIXED[key] ?? []) add(value);
  const bare = key.replace(/^(from|to)-/, '');
  for (const { info } of FIXED[key] ? [] : edges.values()) {
    if (found.size >= MOST) break;
    const parties = key.startsWith('from-')
      ? [info.source]
      : key.startsWith('to-')
        ? [info.destination]
        : [info.source, info.destination];
    if (bare === 'port') add(String(info.port));
    else if (bare === 'service') add(info.service);
    else for (const party of parties) add(textOf(bare, party));
  }
  return [...found];
}

function textOf(key: string, { kind, namespace, name }: Party): string {
  if (key === 'namespace') return namespace;
  if (key === 'workload') return kind === 'workload' ? name : '';
  if (key === 'fqdn') return kind === 'name' ? name : '';
  return key === 'ip' && kind === 'address' ? name : '';
}
