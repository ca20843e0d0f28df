/** Translates toCIDR, toCIDRSet and CiliumCIDRGroup. */
import { isRecord } from '../../identity/fields.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import { matchLabels } from '../../ir/match.js';
import type { Peer } from '../../ir/peers.js';
import { type Cidr, cidrContains, cidrCovers, tryParseCidr } from '../../net/addr.js';
import type { Fault, Understood } from '../base/dialect.js';
import { OUTSIDE } from '../base/outside.js';
import { compileSchema, shapeFaults, withoutNulls } from '../base/schema.js';
import type { LabelSelector } from '../base/selectors.js';
import type { GroupLookups, Context } from './context.js';
import { plainExpr } from './labels.js';
import { cidrGroupSchema } from './schema.js';

export interface CidrRule {
  readonly cidr?: string;
  readonly cidrGroupRef?: string;
  readonly cidrGroupSelector?: LabelSelector;
  readonly except?: readonly string[];
}

const NONE: readonly string[] = [];

/** Addresses that match one of these peers and are outside of the cluster. */
function outside(of: readonly Peer[]): Peer[] {
  return of.length === 0 ? [] : [{ kind: 'all', of: [{ kind: 'some', of }, OUTSIDE] }];
}

/** Translates toCIDR: blocks, or single addresses. */
export function cidrPeers(texts: readonly string[], path: string, { report }: Context): Peer[] {
  return outside(
    texts.flatMap((text, i): Peer[] => {
      const cidr = read(text, `${path}[${i}]`, true, report);
      return cidr ? [{ kind: 'cidr', cidr: cidr.text, except: NONE }] : [];
    }),
  );
}

/** Translates toCIDRSet: blocks with exceptions, and groups. */
export function cidrSetPeers(rules: readonly CidrRule[], path: string, context: Context): Peer[] {
  return outside(rules.flatMap((rule, i) => cidrRulePeer(rule, `${path}[${i}]`, context)));
}

function cidrRulePeer(rule: CidrRule, path: string, context: Context): Peer[] {
  const { report } = context;
  const ways = (['cidr', 'cidrGroupRef', 'cidrGroupSelector'] as const).filter((key) => rule[key] !== undefined);
  if (ways.length !== 1) {
    const message = ways.length === 0 ? 'names no addresses' : `has ${ways.join(' and ')}`;
    report({
      severity: 'error',
      field: path,
      message,
      hint: 'give it exactly one of cidr, cidrGroupRef, cidrGroupSelector',
    });
    return [];
  }
  const except = (rule.except ?? NONE).flatMap((text, i) => {
    const cidr = read(text, `${path}.except[${i}]`, false, report);
    return cidr ? [{ cidr, field: `${path}.except[${i}]` }] : [];
  });
  if (rule.cidr !== undefined) return blockPeer(rule.cidr, except, path, report);
  const of = groupsOf(rule, path, context).map((group) => readGroup(group).peer);
  if (except.length === 0) return of;
  const but = except.map(({ cidr }): Peer => ({ kind: 'cidr', cidr: cidr.text, except: NONE }));
  return [
    {
      kind: 'all',
      of: [
        { kind: 'some', of },
        { kind: 'not', of: { kind: 'some', of: but } },
      ],
    },
  ];
}

interface Except {
  readonly cidr: Cidr;
  readonly field: string;
}

function blockPeer(text: string, except: readonly Except[], path: string, report: Context['report']): Peer[] {
  const cidr = read(text, `${path}.cidr`, false, report);
  if (!cidr) return [];
  for (const { cidr: inner, field } of except) {
    // An exception must be inside the block: CIDRRule.sanitize checks its first address.
    if (cidrContains(cidr, inner)) continue;
    const message = `${inner.text} is not a part of ${cidr.text}`;
    report({ severity: 'error', field, message, hint: 'an exception must lie inside the block' });
  }
  if (except.some((inner) => cidrCovers(inner.cidr, cidr))) return [];
  return [{ kind: 'cidr', cidr: cidr.text, except: except.map((e) => e.cidr.text) }];
}

/** Makes the function that says whether a policy that looked for these groups refers to one of some groups. */
export function references({ names, labels }: GroupLookups): Understood['dependsOn'] {
  const refersTo = (group: RawPolicy) =>
    names.has(group.name) || labels.some((expr) => matchLabels(expr, labelsOf(group)));
  return (changed) => changed.some(refersTo);
}

/** The groups to which a rule refers. As in Cilium, a group that does not exist (yet) has no addresses. */
function groupsOf(rule: CidrRule, path: string, { groups, lookups, report }: Context): RawPolicy[] {
  const broken = (group: RawPolicy, field: string) => {
    if (groupFaults(group).every((f) => f.severity !== 'error')) return;
    const message = `CiliumCIDRGroup ${group.name} cannot be read`;
    report({ severity: 'error', field, message, hint: 'see its own problems' });
  };
  if (rule.cidrGroupRef !== undefined) {
    const field = `${path}.cidrGroupRef`;
    lookups.names.add(rule.cidrGroupRef);
    const found = groups.find((group) => group.name === rule.cidrGroupRef);
    if (!found) {
      const message = `there is no CiliumCIDRGroup ${rule.cidrGroupRef}: it matches nothing`;
      report({ severity: 'warning', field, message, hint: 'create it, or correct the name' });
      return [];
    }
    broken(found, field);
    return [found];
  }
  const field = `${path}.cidrGroupSelector`;
  const expr = plainExpr(rule.cidrGroupSelector as LabelSelector, field, report);
  lookups.labels.push(expr);
  const found = groups.filter((group) => matchLabels(expr, labelsOf(group)));
  for (const group of found) broken(group, field);
  return found;
}

function labelsOf({ object }: RawPolicy): Record<string, string> {
  const labels = isRecord(object.metadata) ? object.metadata.labels : undefined;
  if (!isRecord(labels)) return {};
  return Object.fromEntries(Object.entries(labels).filter((e): e is [string, string] => typeof e[1] === 'string'));
}

const validateGroup = compileSchema(cidrGroupSchema);

/** Cache by object: groups may be long, and many policies may refer to the same one. */
const groupCache = new WeakMap<object, { readonly peer: Peer; readonly faults: readonly Fault[] }>();

function readGroup({ object }: RawPolicy) {
  const known = groupCache.get(object);
  if (known) return known;
  const plain = withoutNulls(object);
  const faults = shapeFaults(validateGroup, plain);
  const spec = isRecord(plain) && isRecord(plain.spec) ? plain.spec : {};
  const list: readonly unknown[] = Array.isArray(spec.externalCIDRs) ? spec.externalCIDRs : [];
  const of = list.flatMap((text, i): Peer[] => {
    if (typeof text !== 'string') return [];
    const cidr = read(text, `spec.externalCIDRs[${i}]`, true, (f) => faults.push(f));
    return cidr ? [{ kind: 'cidr', cidr: cidr.text, except: NONE }] : [];
  });
  const made = { peer: { kind: 'some', of } as const, faults };
  groupCache.set(object, made);
  return made;
}

/** The faults of a CiliumCIDRGroup. */
export function groupFaults(group: RawPolicy): readonly Fault[] {
  return readGroup(group).faults;
}

/** @param bare whether an address without a prefix length is valid */
function read(text: string, field: string, bare: boolean, report: Context['report']): Cidr | undefined {
  const cidr = bare || text.includes('/') ? tryParseCidr(text) : undefined;
  if (!cidr) {
    const hint = tryParseCidr(text)
      ? 'add the prefix length: /32, or /128 for IPv6'
      : 'write it as address/prefix length, without leading zeros';
    report({ severity: 'error', field, message: `${JSON.stringify(text)} is not a CIDR`, hint });
  }
  return cidr;
}
