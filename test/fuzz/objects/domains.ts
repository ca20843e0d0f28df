/**
 * DNS names, and what each policy language writes about them: few zones and labels, so that names lie on both sides of every
 * pattern. What a pattern means is nowhere said here: it is read from the manifests as text.
 */
import type { Random } from '../random.js';
import type { Manifest } from './names.js';

const long = (sizes: readonly number[]) => sizes.map((n, i) => String.fromCharCode(97 + i).repeat(n)).join('.');
/** 253 bytes, the longest that there are: with long labels, and with as many as there can be. */
export const LONGEST = `${long([63, 63, 63, 51])}.z.example`;
const MOST_LABELS = Array(127).fill('a').join('.');

export const NAMES: readonly string[] = [
  ...['z.example', 'a.z.example', 'b.z.example', 'b.a.z.example', 'c.b.a.z.example', 'a.b.z.example', 'az.example'],
  ...['xz.example', 'a-b_c.z.example', 'sub.z.example', 'subs.z.example', 'z.examples', 'z.example.org', 'example'],
  ...['a.example', 's0.default.svc.cluster.local', 'a?.z.example', '_sip._tcp.z.example', LONGEST, MOST_LABELS, ''],
];
/** Those that policies may name. */
const EXACT = NAMES.filter((name) => name !== '' && !name.includes('?'));

/** Cilium's and GKE's: a star within a label, leading stars, stars alone. */
const STARRED: readonly string[] = [
  ...['*', '**', '***', '*.*', '**.*', '*.z.example', '*.example', '**.z.example', '***.z.example', '*z.example'],
  ...[
    '**z.example',
    'sub*.z.example',
    's*b.z.example',
    '*b*.z.example',
    'a*c.z.example',
    'a.*.example',
    'a.**.example',
  ],
  ...[
    'b.*.z.example',
    'b.**.z.example',
    '*.a.*',
    '**.a.**',
    '*.*.z.example',
    '**.*.z.example',
    'a.*',
    '*a',
    'z.example*',
  ],
  ...['*.svc.cluster.local', '_*._tcp.z.example', `*${LONGEST}`, `*.${LONGEST.slice(64)}`, 'a.z.*', '*-*.z.example'],
];
/** Of ClusterNetworkPolicy and AWS' kinds: one leading `*.` */
const BELOW: readonly string[] = ['*.z.example', '*.a.z.example', '*.svc.cluster.local', '*.b.a.z.example'];
/** Calico's: one star, which is a whole component and not the last. */
const COMPONENT: readonly string[] = [
  ...['*.z.example', '*.example', '*.a.z.example', 'a.*.example', 'b.*.z.example', '*.svc.cluster.local'],
  ...['s0.*.cluster.local', '*.local', 'c.*.z.example'],
];
/** What is refused somewhere. */
const WRONG: readonly string[] = [
  'a..z.example',
  '.',
  '',
  'a b.example',
  '*.*.*z',
  'z.*',
  '*x.example',
  '*.example',
  '-',
];

/** As somebody may write it: in other case, with the final dot. */
function spelled(r: Random, text: string): string {
  const cased = r.chance(25) ? [...text].map((c) => (r.chance(40) ? c.toUpperCase() : c)).join('') : text;
  return r.chance(18) && !text.endsWith('.') ? `${cased}.` : cased;
}

function some(r: Random, patterns: readonly string[], exact: number): string {
  if (r.chance(1)) return r.pick(WRONG);
  return spelled(r, r.pick(r.chance(exact) ? EXACT : patterns));
}

export const exactName = (r: Random): string => some(r, EXACT, 100);
export const domainName = (r: Random): string => some(r, BELOW, 50);
export const calicoDomain = (r: Random): string => some(r, COMPONENT, 45);

/** An item of Cilium's toFQDNs and rules.dns. */
export function ciliumName(r: Random): Record<string, string> {
  if (r.chance(40)) return { matchName: exactName(r) };
  return r.chance(98) ? { matchPattern: some(r, STARRED, 12) } : {};
}

/** An item of matches in GKE's FQDNNetworkPolicy. */
export function gkeName(r: Random): Record<string, string> {
  return r.chance(40) ? { name: exactName(r) } : { pattern: some(r, STARRED, 12) };
}

const FIELDS = new Set([
  'matchName',
  'matchPattern',
  'matches',
  'fqdns',
  'domainNames',
  'domains',
  'allowedEgressDomains',
]);

/** The names and patterns in policies and what they refer to, as they are written. */
export function textsOf(objects: Iterable<Manifest>): string[] {
  const found: string[] = [];
  const walk = (value: unknown, here: boolean): void => {
    if (typeof value === 'string') {
      if (here) found.push(value);
    } else if (Array.isArray(value)) for (const one of value) walk(one, here);
    else if (typeof value === 'object' && value !== null)
      for (const [key, one] of Object.entries(value)) walk(one, here || FIELDS.has(key));
  };
  for (const { kind, spec, specs } of objects) {
    if (!/Policy$|NetworkSet$/.test(kind)) continue;
    walk(spec, false);
    walk(specs, false);
  }
  return found;
}

/**
 * A name on one side of a pattern or on the other; canonical. Stars become nothing, bytes, labels; then it may lose or gain a byte
 * or a label.
 */
export function nameNear(r: Random, text: string): string {
  const filled = text
    .toLowerCase()
    .replaceAll(/\*+/g, () => r.pick(['', 'a', 'b', 'x', 'x-', '_', 'a.b', 'x.y.b', 'b.a', '?']));
  const whole = filled.split('.').filter((label) => label !== '');
  const name = changed(r, whole.join('.'));
  const labels = name.split('.');
  const isName = name === '' || (name.length <= 253 && labels.every((l) => l.length >= 1 && l.length <= 63));
  return isName && /^[-a-z0-9_?.]*$/.test(name) ? name : r.pick(NAMES);
}

function changed(r: Random, name: string): string {
  if (r.chance(65)) return name;
  const at = r.below(Math.max(1, name.length));
  return r.pick([
    `x${name}`,
    `x.${name}`,
    `a.b.${name}`,
    `${name}x`,
    `${name}.x`,
    name.split('.').slice(1).join('.'),
    name.slice(1),
    name.slice(0, -1),
    `${name.slice(0, at)}?${name.slice(at + 1)}`,
    `${name.slice(0, at)}${name.slice(at + 1)}`,
  ]);
}

/** A name at the boundary of what policies say, or any. */
export function nameFor(r: Random, texts: readonly string[]): string {
  return texts.length > 0 && r.chance(88) ? nameNear(r, r.pick(texts)) : r.pick(NAMES);
}
