/** The destination of a rule, which becomes peers. */
import { isRecord } from '../../identity/fields.js';
import type { LabelExpr, Peer } from '../../ir/peers.js';
import type { Action, PortMatch } from '../../ir/types.js';
import type { Cidr } from '../../net/addr.js';
import { type Account, resolveAccounts } from './accounts.js';
import {
  allOf,
  ALL,
  inNamespace,
  noneOf,
  NOTHING,
  ofAccounts,
  ofNamespaces,
  onPods,
  onSet,
  saysGlobal,
  withAccounts,
} from './meaning.js';
import { type Block, blocksOf, everywhere, intersect, toPeers, without } from './nets.js';
import { isSelectorError, parseSelector, type Selector } from './selector.js';
import { type Lookups, type NetworkSet, readNet } from './supporting.js';
import type { Fault } from '../base/dialect.js';
import { calicoDomain, outsideNames } from '../base/names.js';

export interface EntitySpec {
  readonly nets?: readonly string[];
  readonly notNets?: readonly string[];
  readonly selector?: string;
  readonly notSelector?: string;
  readonly namespaceSelector?: string;
  readonly services?: { readonly name?: string; readonly namespace?: string };
  readonly ports?: readonly (number | string)[];
  readonly notPorts?: readonly (number | string)[];
  readonly serviceAccounts?: { readonly names?: readonly string[]; readonly selector?: string };
  readonly domains?: readonly string[];
}

/** The context for parsing a selector. */
export interface Reading {
  readonly accounts: readonly Account[];
  readonly lookups: Lookups;
  /** Reports a fault. An error closes the rule. */
  readonly report: (fault: Fault) => void;
}

/** The context for parsing an entity. */
export interface Context extends Reading {
  /** Namespace of the policy; undefined for a global one. */
  readonly namespace: string | undefined;
  readonly action: Action;
  readonly ipVersion: 4 | 6 | undefined;
  readonly sets: readonly NetworkSet[];
}

/** Parses a selector; undefined, with a fault, if it is invalid or cannot be resolved. */
export function readSelector(text: string | undefined, field: string, reading: Reading): Selector | undefined {
  if (text === undefined) return ALL;
  const { report } = reading;
  const error = (message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const parsed = parseSelector(text);
  if (isSelectorError(parsed)) {
    error(`${parsed.message}, at character ${parsed.position + 1}`, "write it as in: app == 'web' && has(tier)");
    return undefined;
  }
  if (
    saysGlobal(parsed) &&
    !field.endsWith('.destination.namespaceSelector') &&
    !field.endsWith('.source.namespaceSelector')
  ) {
    error('global() has no meaning here', 'it can be the namespaceSelector of a source or destination');
    return undefined;
  }
  if (saysGlobal(parsed) && parsed.op !== 'global') {
    error('global() cannot be combined', 'write global() alone, or split it into two rules');
    return undefined;
  }
  return followAccounts(parsed, field, reading);
}

/** Parses a selector on service accounts into one on endpoints. */
export function readAccountSelector(text: string | undefined, field: string, reading: Reading): Selector | undefined {
  const parsed = readSelector(text, field, reading);
  return parsed && followAccounts(ofAccounts(parsed), field, reading);
}

/** Resolves requirements on labels of accounts, which any selector may contain. */
function followAccounts(selector: Selector, field: string, { accounts, lookups, report }: Reading): Selector {
  return resolveAccounts(selector, accounts, (label) => {
    lookups.accounts = true;
    if (accounts.length > 0) return;
    const message = `asks for label ${label} of service accounts, of which none is known`;
    report({ severity: 'warning', field, message, hint: 'add the ServiceAccounts to the manifests' });
  });
}

/** The endpoints that an entity includes or excludes. If both are undefined, it does not restrict endpoints. */
interface Endpoints {
  readonly only?: Selector;
  readonly not?: Selector;
}

/** Combines the fields like libcalico-go's updateprocessors/rules.go. undefined: invalid. */
export function readEndpoints(spec: EntitySpec, path: string, context: Context): Endpoints | undefined {
  const { serviceAccounts } = spec;
  const { namespace, report } = context;
  // Empty texts and lists count as absent.
  const text = (value: string | undefined) => (value === '' ? undefined : value);
  const own = readSelector(text(spec.selector), `${path}.selector`, context);
  const not = readSelector(text(spec.notSelector), `${path}.notSelector`, context);
  const ofNamespace = readSelector(text(spec.namespaceSelector), `${path}.namespaceSelector`, context);
  const accounts = readAccountSelector(text(serviceAccounts?.selector), `${path}.serviceAccounts.selector`, context);
  if (!own || !not || !ofNamespace || !accounts) return undefined;
  const names = serviceAccounts?.names ?? [];
  const positive = text(spec.selector) ?? text(serviceAccounts?.selector) ?? names[0];
  const negative = text(spec.notSelector) !== undefined;
  const spaced = text(spec.namespaceSelector) !== undefined;
  if (serviceAccounts && names.length === 0 && !text(serviceAccounts.selector)) {
    const message = 'is empty: it does not restrict the service account';
    report({ severity: 'warning', field: `${path}.serviceAccounts`, message, hint: 'name an account, or remove it' });
  }
  let where = ALL;
  if (spaced) where = ofNamespaces(ofNamespace);
  // With any selector, including notSelector, a namespaced policy means its own namespace.
  else if (namespace !== undefined && (positive !== undefined || negative)) where = inNamespace(namespace);
  if (where === ALL && positive === undefined) return negative ? { not } : {};
  const only = allOf(where, own, accounts, ...(names.length > 0 ? [withAccounts(names)] : []));
  return { only: negative ? allOf(only, noneOf(not)) : only };
}

/** The network sets that match, and those for which it depends on the labels of their namespace. */
export function matching(selector: Selector, { sets, lookups }: Context): { sure: NetworkSet[]; maybe: NetworkSet[] } {
  if (selector === NOTHING) return { sure: [], maybe: [] };
  lookups.sets.push(selector);
  const found = sets.map((set) => [set, onSet(selector, set)] as const);
  return {
    sure: found.filter(([, m]) => m).map(([s]) => s),
    maybe: found.filter(([, m]) => m === undefined).map(([s]) => s),
  };
}

export interface Destination {
  /** null: every destination. */
  readonly peers: readonly Peer[] | null;
  /** Restricts the peers to the backends of this Service, on the backends' ports. */
  readonly service?: NonNullable<PortMatch['service']>;
}

/** @returns undefined if it is invalid */
export function readDestination(spec: EntitySpec, path: string, context: Context): Destination | undefined {
  const { report, ipVersion } = context;
  if (spec.domains?.length) return readDomains(spec.domains, spec, path, context);
  const nets = readNets(spec.nets, `${path}.nets`, report);
  const notNets = readNets(spec.notNets, `${path}.notNets`, report);
  const base = readBase(nets, notNets, ipVersion);
  if (spec.services) return readService(spec, path, base, context);
  const endpoints = readEndpoints(spec, path, context);
  if (!endpoints) return undefined;
  const { only, not } = endpoints;
  if (!only && !not) return { peers: base && toPeers(base) };
  const peers = only ? positivePeers(only, base, path, context) : negativePeers(not ?? ALL, base, path, context);
  return peers && { peers };
}

/** Fields that restrict the destination by other means than domains. */
const PLACES = [
  'nets',
  'notNets',
  'selector',
  'notSelector',
  'namespaceSelector',
  'serviceAccounts',
  'services',
] as const;

/** The first of these fields that is set; empty texts and lists count as absent. */
function firstSet<F extends keyof EntitySpec>(spec: EntitySpec, fields: readonly F[]): F | undefined {
  return fields.find((field) => {
    const value = spec[field];
    return isRecord(value) || (Array.isArray(value) || typeof value === 'string' ? value.length > 0 : false);
  });
}

/**
 * Calico Enterprise's domains: what was learned for them, also as the target of an alias, but never a pod or a node.
 * They stand alone, and in rules that allow (libcalico-go/lib/validator/v3).
 */
function readDomains(
  domains: readonly string[],
  spec: EntitySpec,
  path: string,
  { action, ipVersion, report }: Context,
): Destination | undefined {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  if (action !== 'allow') error(`${path}.domains`, 'may stand in Allow rules only', 'name the networks, under nets');
  const beside = firstSet(spec, PLACES);
  if (beside) error(`${path}.${beside}`, 'cannot stand beside domains', 'split it into two rules');
  for (const field of ['ports', 'notPorts'] as const) {
    const name = spec[field]?.findIndex((port) => !/^[\d:]+$/.test(String(port))) ?? -1;
    if (name < 0) continue;
    const message = 'is a port name: a pod gives it, and domains never mean a pod';
    error(`${path}.${field}[${name}]`, message, 'use a port number');
  }
  const patterns = domains.flatMap((text, i) => calicoDomain(text, `${path}.domains[${i}]`, report) ?? []);
  if (action !== 'allow' || beside) return undefined;
  return { peers: learned(patterns, readBase([], [], ipVersion)) };
}

/** The addresses of the base that were learned for these patterns. */
function learned(patterns: readonly string[], base: readonly Block[] | null): Peer[] {
  return outsideNames(patterns, true, base ? [{ kind: 'some', of: toPeers(base) }] : []);
}

/** Limit in api/pkg/apis/projectcalico/v3/policy_common.go. */
const MAX_NETS = 256;

function readNets(list: readonly string[] | undefined, field: string, report: (fault: Fault) => void): Cidr[] {
  if (list?.length === 0) {
    report({
      severity: 'warning',
      field,
      message: 'is empty: it restricts nothing',
      hint: 'list networks, or remove it',
    });
  }
  // Longer lists that older versions stored stay valid.
  if (list && list.length > MAX_NETS) {
    const hint = 'put them in a network set';
    report({ severity: 'warning', field, message: `has more than the ${MAX_NETS} networks that Calico takes`, hint });
  }
  return (list ?? []).flatMap((text, i) => {
    const { cidr, fault } = readNet(text, `${field}[${i}]`);
    if (fault) report(fault);
    return cidr ? [cidr] : [];
  });
}

/**
 * The addresses that nets, notNets and ipVersion leave; null: all. A rule that names networks, in nets or in notNets,
 * applies only to the address families of these networks (felix/rules/policy.go, FilterRuleToIPVersion).
 */
function readBase(nets: readonly Cidr[], notNets: readonly Cidr[], ipVersion: 4 | 6 | undefined): Block[] | null {
  if (nets.length === 0 && notNets.length === 0 && ipVersion === undefined) return null;
  const families = ([4, 6] as const).filter(
    (f) =>
      (ipVersion ?? f) === f &&
      (nets.length === 0 || nets.some((n) => n.family === f)) &&
      (notNets.length === 0 || notNets.some((n) => n.family === f)),
  );
  const all = everywhere(...families);
  return without(nets.length === 0 ? all : intersect(blocksOf(nets), all), notNets);
}

function within(peer: Peer, base: readonly Block[] | null): Peer {
  return base ? { kind: 'all', of: [peer, { kind: 'some', of: toPeers(base) }] } : peer;
}

function pods(selector: Selector): Peer {
  return { kind: 'pods', ...workloads(selector) };
}

/** The pods that match a selector. Pods of one namespace are selected by its name. */
export function workloads(selector: Selector): {
  namespaces: { names: string[] } | { labels: LabelExpr };
  pods: LabelExpr;
} {
  const expr = onPods(selector);
  const parts = expr.op === 'and' ? expr.of : [expr];
  const at = parts.findIndex((p) => p.op === 'in' && p.key === '@namespace');
  const named = parts[at];
  if (named?.op !== 'in') return { namespaces: { labels: { op: 'true' } }, pods: expr };
  const rest = parts.toSpliced(at, 1);
  const of: LabelExpr =
    rest.length === 0 ? { op: 'true' } : rest.length === 1 ? (rest[0] as LabelExpr) : { op: 'and', of: rest };
  return { namespaces: { names: [...named.values] }, pods: of };
}

function positivePeers(
  selector: Selector,
  base: Block[] | null,
  path: string,
  context: Context,
): readonly Peer[] | undefined {
  const { sure, maybe } = matching(selector, context);
  const allows = context.action === 'allow';
  const counted = [...sure, ...decideMaybe(maybe, context.action === 'deny', allows, path, context)];
  if (!soundSets([...sure, ...maybe], allows, path, context)) return undefined;
  const blocks = blocksOf(counted.flatMap((s) => s.nets));
  const domains = allows ? counted.flatMap((s) => s.domains) : [];
  const nets = toPeers(base ? intersect(blocks, base) : blocks);
  return [within(pods(selector), base), ...nets, ...learned(domains, base)];
}

function negativePeers(
  selector: Selector,
  base: Block[] | null,
  path: string,
  context: Context,
): readonly Peer[] | undefined {
  const { sure, maybe } = matching(selector, context);
  // Domains of sets are never excluded: they only allow.
  const counted = [...sure, ...decideMaybe(maybe, context.action !== 'deny', false, path, context)];
  if (!soundSets([...sure, ...maybe], false, path, context)) return undefined;
  const remaining = without(
    base ?? everywhere(4, 6),
    counted.flatMap((s) => s.nets),
  );
  return [
    {
      kind: 'all',
      of: [
        { kind: 'some', of: toPeers(remaining) },
        { kind: 'not', of: pods(selector) },
      ],
    },
  ];
}

/**
 * Decides about network sets that may or may not match: they count where that closes.
 * @param named whether their domains matter
 */
function decideMaybe(
  maybe: readonly NetworkSet[],
  count: boolean,
  named: boolean,
  path: string,
  context: Context,
): readonly NetworkSet[] {
  const first = maybe.find((s) => s.nets.length > 0 || (named && s.domains.length > 0));
  if (!first) return [];
  const message = `whether it means NetworkSet ${first.namespace}/${first.name} depends on labels of its namespace, which are not enforced for network sets`;
  const hint = 'select the set by labels of its own, or its namespace by projectcalico.org/name';
  // For a pass rule, both more and fewer matches may open.
  if (context.action === 'pass') context.report({ severity: 'error', field: path, message, hint });
  else {
    const what = first.nets.length > 0 ? 'nets' : 'domains';
    const effect = `its ${what} count as ${context.action === 'deny' ? 'denied' : 'not meant'}`;
    context.report({ severity: 'warning', field: path, message: `${message}: ${effect}`, hint });
  }
  return count ? maybe : [];
}

/** Reports a rule that refers to a network set with invalid parts that count. @returns whether there is none */
function soundSets(sets: readonly NetworkSet[], named: boolean, path: string, { report }: Context): boolean {
  const broken = sets.find((s) => s.broken || (named && s.brokenDomains));
  if (!broken) return true;
  const name = broken.namespace === undefined ? broken.name : `${broken.namespace}/${broken.name}`;
  const message = `means ${broken.kind} ${name}, which cannot be read`;
  report({ severity: 'error', field: path, message, hint: 'correct the set' });
  return false;
}

/**
 * The addresses and ports in the Service's EndpointSlices only, not the Service's own address (felix/rules/policy.go:
 * DstIpPortSetIds; felix/serviceindex).
 */
function readService(
  spec: EntitySpec,
  path: string,
  base: Block[] | null,
  { namespace, report }: Context,
): Destination | undefined {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const beside = firstSet(spec, [...PLACES.filter((field) => field !== 'services'), 'ports', 'notPorts']);
  if (beside) error(`${path}.${beside}`, 'cannot stand beside services', 'split it into two rules');
  const name = spec.services?.name ?? '';
  const inside = spec.services?.namespace || namespace;
  if (name === '') error(`${path}.services.name`, 'is missing', 'name the Service');
  if (inside === undefined)
    error(`${path}.services.namespace`, 'is missing', 'a global policy must say where the Service is');
  if (beside || name === '' || inside === undefined) return undefined;
  return { peers: base && toPeers(base), service: { namespace: inside, name } };
}
