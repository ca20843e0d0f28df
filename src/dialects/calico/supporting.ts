/** The objects to which Calico's policies refer: tiers and network sets. */
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { type Cidr, tryParseCidr } from '../../net/addr.js';
import { type Fault, type TierPlace, TIERS, type Understood } from '../base/dialect.js';
import { calicoDomain } from '../base/names.js';
import { type Account, readAccount } from './accounts.js';
import { type Labelled, onSet } from './meaning.js';
import type { Selector } from './selector.js';
import { compileSchema, shapeFaults, withoutNulls } from '../base/schema.js';
import { networkSetSchema, tierSchema } from './schema.js';

/** A network set. Without a namespace, it is a GlobalNetworkSet. */
export interface NetworkSet extends Labelled {
  readonly kind: string;
  readonly name: string;
  readonly nets: readonly Cidr[];
  /** Whether some of its nets are invalid. */
  readonly broken: boolean;
  /** Patterns of its allowedEgressDomains. They count in rules that allow, and have no effect in others. */
  readonly domains: readonly string[];
  /** Whether some of these domains are invalid. */
  readonly brokenDomains: boolean;
}

export interface Supporting {
  /** Tiers by name; null for an invalid Tier. */
  readonly tiers: ReadonlyMap<string, TierPlace | null>;
  readonly sets: readonly NetworkSet[];
  readonly accounts: readonly Account[];
}

/** Tiers of Kubernetes' own policies. The last two are those that Calico used for AdminNetworkPolicies. */
const BUILT_IN: ReadonlyMap<string, TierPlace> = new Map(
  [
    TIERS.admin,
    TIERS.default,
    TIERS.baseline,
    { ...TIERS.admin, name: 'adminnetworkpolicy' },
    { ...TIERS.baseline, name: 'baselineadminnetworkpolicy' },
  ].map((place) => [place.name, place]),
);

const KINDS = ['Tier', 'NetworkSet', 'GlobalNetworkSet'];

/** @param ours whether the object is of one of Calico's API groups */
export function isSupporting({ apiVersion, kind }: RawPolicy, ours: boolean): boolean {
  return ours ? KINDS.includes(kind) : kind === 'ServiceAccount' && apiVersion === 'v1';
}

const read = new WeakMap<readonly RawPolicy[], Supporting>();

/** Parses the supporting objects. The same list gives the same result object. */
export function readSupporting(objects: readonly RawPolicy[]): Supporting {
  const known = read.get(objects);
  if (known) return known;
  const tiers = new Map<string, TierPlace | null>(BUILT_IN);
  const sets: NetworkSet[] = [];
  const accounts: Account[] = [];
  for (const raw of objects) {
    if (raw.kind === 'ServiceAccount') accounts.push(readAccount(raw));
    else if (raw.kind !== 'Tier') sets.push(readSet(raw).set);
    else if (!BUILT_IN.has(raw.name)) tiers.set(raw.name, readTier(raw).place);
  }
  const found = { tiers, sets, accounts };
  read.set(objects, found);
  return found;
}

/** The supporting objects, apart from the tier, that a policy looked for while it was parsed. */
export interface Lookups {
  /** The selectors of network sets. */
  readonly sets: Selector[];
  /** Whether a selector has a requirement on labels of service accounts. */
  accounts: boolean;
}

/** Makes the function that says whether a policy of this tier refers to one of some objects. */
export function references(tier: unknown, lookups: Lookups): Understood['dependsOn'] {
  const refersTo = (raw: RawPolicy): boolean => {
    if (raw.kind === 'Tier') return raw.name === tier;
    if (raw.kind === 'ServiceAccount') return lookups.accounts;
    const { set } = readSet(raw);
    return lookups.sets.some((selector) => onSet(selector, set) !== false);
  };
  return (changed) => changed.some(refersTo);
}

/** The faults of a supporting object. */
export function checkSupporting(raw: RawPolicy): readonly Fault[] {
  if (raw.kind === 'ServiceAccount') return [];
  return raw.kind === 'Tier' ? readTier(raw).faults : readSet(raw).faults;
}

const isTier = compileSchema(tierSchema);

function readTier(raw: RawPolicy): { place: TierPlace | null; faults: Fault[] } {
  const object = withoutNulls(raw.object) as { spec?: { order?: number; defaultAction?: string } };
  const effect = 'policies in this tier allow nothing';
  const faults: Fault[] = shapeFaults(isTier, object).map((f) => ({ ...f, effect }));
  if (faults.length > 0) return { place: BUILT_IN.get(raw.name) ?? null, faults };
  // Without an order, the tier is judged after all others (api/pkg/apis/projectcalico/v3/tier.go).
  const { order = Number.POSITIVE_INFINITY, defaultAction = 'Deny' } = object.spec ?? {};
  const place: TierPlace = { name: raw.name, order, defaultAction: defaultAction === 'Pass' ? 'pass' : 'deny' };
  const fixed = BUILT_IN.get(raw.name);
  if (!fixed) return { place, faults };
  // In Calico they cannot be moved either (libcalico-go/lib/validator/v3). Older versions do not store their order.
  const { spec } = object;
  if (spec?.order !== undefined && spec.order !== fixed.order)
    faults.push(moved('spec.order', `${fixed.order}`, raw.name));
  if (spec?.defaultAction !== undefined && place.defaultAction !== fixed.defaultAction)
    faults.push(moved('spec.defaultAction', fixed.defaultAction === 'pass' ? 'Pass' : 'Deny', raw.name));
  return { place: fixed, faults };
}

function moved(field: string, value: string, name: string): Fault {
  const message = `tier ${name} always has ${value} here`;
  return {
    severity: 'error',
    field,
    message,
    hint: `write ${value}, or use a tier of your own`,
    effect: `it has ${value}`,
  };
}

const isSet = compileSchema(networkSetSchema);

const sets = new WeakMap<object, { raw: RawPolicy; set: NetworkSet; faults: Fault[] }>();

function readSet(raw: RawPolicy): { set: NetworkSet; faults: Fault[] } {
  const known = sets.get(raw.object);
  if (known && known.raw.kind === raw.kind && known.raw.name === raw.name && known.raw.namespace === raw.namespace)
    return known;
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const effect = 'rules that select this set allow nothing of it; where they deny or pass, they deny everything';
  const faults: Fault[] = shapeFaults(isSet, object).map((f) => ({ ...f, effect }));
  const spec = isRecord(object.spec) ? object.spec : {};
  const nets: Cidr[] = [];
  (Array.isArray(spec.nets) ? spec.nets : []).forEach((text: unknown, i) => {
    if (typeof text !== 'string') return;
    const found = readNet(text, `spec.nets[${i}]`);
    if (found.cidr) nets.push(found.cidr);
    if (found.fault) faults.push(found.fault.severity === 'error' ? { ...found.fault, effect } : found.fault);
  });
  const broken = faults.some((f) => f.severity === 'error');
  const domains: string[] = [];
  let brokenDomains = false;
  (Array.isArray(spec.allowedEgressDomains) ? spec.allowedEgressDomains : []).forEach((text: unknown, i) => {
    if (typeof text !== 'string') return;
    const pattern = calicoDomain(text, `spec.allowedEgressDomains[${i}]`, (fault) => {
      const allows = 'rules that select this set and allow allow nothing';
      faults.push(fault.severity === 'error' ? { ...fault, effect: allows } : fault);
    });
    if (pattern === undefined) brokenDomains = true;
    else domains.push(pattern);
  });
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const labels = stringMap(metadata.labels);
  // A NetworkSet in a manifest need not name its namespace.
  const namespace = raw.kind === 'NetworkSet' ? (raw.namespace ?? 'default') : undefined;
  const set = { kind: raw.kind, namespace, name: raw.name, labels, nets, broken, domains, brokenDomains };
  const result = { raw, set, faults };
  sets.set(raw.object, result);
  return result;
}

export function stringMap(value: unknown): Readonly<Record<string, string>> {
  if (!isRecord(value)) return {};
  return Object.fromEntries(Object.entries(value).filter((e): e is [string, string] => typeof e[1] === 'string'));
}

/** Parses a CIDR block or a single address. */
export function readNet(text: string, field: string): { cidr?: Cidr; fault?: Fault } {
  const cidr = tryParseCidr(text);
  if (!cidr) {
    const hint = 'write it as address/prefix length, without leading zeros';
    return { fault: { severity: 'error', field, message: `${JSON.stringify(text)} is not a CIDR`, hint } };
  }
  if (!text.includes(':') && text.includes('/') && !text.startsWith(`${cidr.text.split('/')[0]}/`)) {
    const message = `${text} has bits set beyond its prefix; it is read as ${cidr.text}`;
    return { cidr, fault: { severity: 'warning', field, message, hint: `write ${cidr.text}` } };
  }
  return { cidr };
}
