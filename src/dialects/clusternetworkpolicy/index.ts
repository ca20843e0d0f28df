/**
 * Translates ClusterNetworkPolicies (policy.networking.k8s.io/v1alpha2 and later), their egress half, to IR, and the
 * older shapes that admin.ts describes.
 *
 * Tier Admin is judged before the NetworkPolicies, Baseline after them. In a tier, the lowest priority is judged first,
 * equal ones by name. Neither tier has a default: if no rule matches, the next tier is judged.
 *
 * Invalid parts close (apis/v1alpha2/clusternetworkpolicy_types.go of network-policy-api, "fail closed"): an Accept
 * matches nothing, a Deny or a Pass denies everything. If the pods, the position or an unknown field of a policy make
 * its meaning uncertain, only what it denies under any interpretation applies: it is first in its tier, its Accepts
 * match nothing and its Passes deny.
 */
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { WorkloadMatch } from '../../ir/peers.js';
import { type Action, DEFAULT_RULE, type PolicyRef, type PortMatch, type Rule } from '../../ir/types.js';
import {
  type PeerSpec,
  type PortSpec,
  type ProtocolSpec,
  type Report,
  readPeer,
  readPort,
  readProtocol,
  readWorkloads,
  type Workloads,
} from './rules.js';
import { clusterNetworkPolicySchema } from './schema.js';
import { type Dialect, type Fault, TIERS, type TierPlace, type Understood } from '../base/dialect.js';
import { compileSchema, shapeFaults, type Validator, withoutNulls } from '../base/schema.js';

/** A rule as the user wrote it, with a valid shape. */
export interface RuleSpec {
  readonly name?: string;
  readonly action: string;
  readonly to: readonly PeerSpec[];
  readonly protocols?: readonly ProtocolSpec[];
  /** Field of the older shapes, each with its own form. */
  readonly ports?: readonly object[];
}

/** The position of a policy. Fields are undefined if they are invalid. */
export interface Place {
  readonly tier: TierPlace | undefined;
  readonly order: number | undefined;
}

/** The properties of one shape of cluster-wide policies. */
export interface Shape {
  /** PolicyRef.dialect. Objects with the same name and kind but different API groups are different policies. */
  readonly dialect: string;
  readonly versions: readonly string[];
  readonly validate: Validator;
  readonly specFields: readonly string[];
  /** The API server's limit for the rules of a policy, the peers of a rule and the ports of a rule. */
  readonly limit: number;
  /** Whether rules that pass may name domains, besides those that accept. */
  readonly passesNames?: boolean;
  /** Whether the subject may be absent, which means every pod. */
  readonly subjectOptional?: boolean;
  readonly place: (spec: Record<string, unknown>, sound: (path: string) => boolean, report: Report) => Place;
  /** undefined: every protocol and port. `places`: one of the rule's peers has no named ports. */
  readonly ports: (rule: RuleSpec, path: string, places: boolean, report: Report) => readonly PortMatch[] | undefined;
  /** Whether the policy is not about egress, whatever rules it has. */
  readonly otherDirection?: (
    spec: Record<string, unknown>,
    sound: (path: string) => boolean,
    report: Report,
  ) => boolean;
}

const GROUP = 'policy.networking.k8s.io';

const shape: Shape = {
  dialect: 'clusternetworkpolicy',
  versions: ['v1alpha2', 'v1beta1', 'v1'].map((version) => `${GROUP}/${version}`),
  validate: compileSchema(clusterNetworkPolicySchema),
  specFields: Object.keys(clusterNetworkPolicySchema.properties.spec.properties),
  limit: 25,
  place: placeByTier,
  ports: (rule, path, places, report) => {
    if (rule.protocols && rule.ports) {
      const message = 'cannot be combined with protocols';
      report({ severity: 'error', field: `${path}.ports`, message, hint: 'write everything as protocols' });
    } else if (rule.ports) {
      // v1alpha2 began with the ports of AdminNetworkPolicy (network-policy-api, conformance/base/admin_tier, 2025).
      const message = 'is the older form of protocols: newer clusters do not take it';
      report({ severity: 'warning', field: `${path}.ports`, message, hint: 'write protocols' });
      return rule.ports.map((port, i) => readPort(port as PortSpec, `${path}.ports[${i}]`, null, places, report));
    }
    return rule.protocols?.map((p, i) => readProtocol(p, `${path}.protocols[${i}]`, places, report));
  },
};

export const clusterNetworkPolicy: Dialect = {
  name: 'clusternetworkpolicy',
  claims: ({ apiVersion, kind }) => kind === 'ClusterNetworkPolicy' && apiGroup(apiVersion) === GROUP,
  understand: (raw) => understandShape(shape, raw),
};

/** Parses `tier` and `priority`. */
export function placeByTier(spec: Record<string, unknown>, sound: (path: string) => boolean, report: Report): Place {
  const tier = !sound('spec.tier') ? undefined : spec.tier === 'Baseline' ? TIERS.baseline : TIERS.admin;
  return { tier, order: readPriority(spec, sound, report) };
}

export function readPriority(
  { priority }: Record<string, unknown>,
  sound: (path: string) => boolean,
  report: Report,
): number | undefined {
  if (!sound('spec.priority') || typeof priority !== 'number') return undefined;
  if (priority >= 0 && priority <= 1000) return priority;
  const message = `${priority} is not a priority`;
  report({ severity: 'error', field: 'spec.priority', message, hint: 'use 0 to 1000; the lowest is judged first' });
  return undefined;
}

const EVERY_POD: WorkloadMatch = { namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } };
/** A priority before all others. */
const FIRST = -1;

export function understandShape(shape: Shape, raw: RawPolicy): Understood {
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const faults = shapeFaults(shape.validate, object);
  const report: Report = (fault) => faults.push(fault);
  /** Whether the part at this path has no faults of shape. */
  const sound = (path: string) => !faults.some((f) => f.severity === 'error' && within(f.field, path));
  const warn = (field: string, message: string, hint: string) => report({ severity: 'warning', field, message, hint });
  if (!shape.versions.includes(raw.apiVersion)) {
    const known = shape.versions.at(-1);
    warn('apiVersion', `${raw.apiVersion} is not a version that is known; it is read as ${known}`, `write ${known}`);
  }
  if (object.spec === undefined)
    warn('spec', 'is missing: the policy has no effect', 'say whom it is for and what they may reach');

  const spec = isRecord(object.spec) ? object.spec : {};
  const malformed = object.spec !== undefined && !isRecord(object.spec);
  const unknown = Object.keys(spec).some((key) => !shape.specFields.includes(key));
  // A misspelt `egress`?
  const lost = malformed || (spec.egress === undefined ? unknown : !Array.isArray(spec.egress));
  const entries: readonly unknown[] = Array.isArray(spec.egress) ? spec.egress : [];
  const other = shape.otherDirection?.(spec, sound, report) ?? false;
  const concerns = !other && (lost || entries.length > 0);

  const subject = malformed ? undefined : readSubject(shape, spec, sound, report);
  const { tier, order } = malformed ? { tier: undefined, order: undefined } : shape.place(spec, sound, report);
  const doubtful = unknown || subject === undefined || tier === undefined || order === undefined;
  const ref: PolicyRef = {
    dialect: shape.dialect,
    kind: raw.kind,
    name: raw.name,
    ...labelsOf(object),
  };
  const place = tier ?? TIERS.admin;
  const reading: Reading = { shape, ref, tier: place.name, doubtful, sound, report };
  const rules = concerns ? entries.map((entry, index) => readRule(reading, entry, index)) : [];
  if (concerns && lost) rules.push(denyAll(reading));
  if (concerns && entries.length > shape.limit)
    warn(
      'spec.egress',
      `has ${entries.length} rules: clusters take ${shape.limit} at most`,
      'split it into two policies',
    );
  const policy = Object.freeze({
    ref,
    subject: subject ?? EVERY_POD,
    rules: Object.freeze(rules),
    // Neither tier has a default that it could bring into force.
    isolates: false,
    staged: false,
  });
  return {
    policies: concerns ? [{ tier: place, order: [doubtful ? FIRST : (order as number)], policy }] : [],
    faults: faults.map((f) =>
      concerns && f.severity === 'error' ? { ...f, ...effectOf(f.field, rules, subject) } : f,
    ),
    good: !faults.some((f) => f.severity === 'error'),
  };
}

function within(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && (field[path.length] === '.' || field[path.length] === '['));
}

/** undefined: the subject is invalid. */
function readSubject(
  shape: Shape,
  spec: Record<string, unknown>,
  sound: (path: string) => boolean,
  report: Report,
): WorkloadMatch | undefined {
  if (!sound('spec.subject')) return undefined;
  if (spec.subject === undefined) return shape.subjectOptional ? EVERY_POD : undefined;
  const found: Fault[] = [];
  const subject = readWorkloads(spec.subject as Workloads, 'spec.subject', (f) => found.push(f));
  for (const fault of found) report(fault);
  return found.some((f) => f.severity === 'error') ? undefined : subject;
}

/** The context for parsing the rules of one policy. */
interface Reading {
  readonly shape: Shape;
  readonly ref: PolicyRef;
  readonly tier: string;
  readonly doubtful: boolean;
  readonly sound: (path: string) => boolean;
  readonly report: Report;
}

/** Allow is the older word, which people still write by mistake. Its meaning is clear. */
const ACTIONS: Readonly<Record<string, Action>> = { Accept: 'allow', Allow: 'allow', Deny: 'deny', Pass: 'pass' };

function readRule(reading: Reading, entry: unknown, index: number): Rule {
  const path = `spec.egress[${index}]`;
  const meant = isRecord(entry) && typeof entry.action === 'string' ? ACTIONS[entry.action] : undefined;
  const name = isRecord(entry) && typeof entry.name === 'string' && entry.name !== '' ? { name: entry.name } : {};
  const make = (action: Action, peers: Rule['peers'], ports: Rule['ports']): Rule =>
    Object.freeze({
      ref: { policy: reading.ref, index, ...name, tier: reading.tier, staged: false, action },
      action,
      peers,
      ports,
    });
  const closed = meant === 'allow' ? make('allow', [], []) : make('deny', null, null);
  if (!reading.sound(path) || meant === undefined) return closed;
  const found: Fault[] = [];
  const rule = entry as RuleSpec;
  const peers = readPeers(rule, path, meant, reading.shape, (f) => found.push(f));
  const ports = readPorts(reading.shape, rule, path, (f) => found.push(f));
  for (const fault of found) reading.report(fault);
  if (found.some((f) => f.severity === 'error')) return closed;
  if (!reading.doubtful) return make(meant, peers, ports);
  return meant === 'allow' ? closed : make('deny', peers, ports);
}

function readPeers(rule: RuleSpec, path: string, action: Action, { limit, passesNames }: Shape, report: Report) {
  countItems(
    rule.to,
    `${path}.to`,
    limit,
    'list at least one peer; networks 0.0.0.0/0 and ::/0 are everywhere',
    report,
  );
  const named = action === 'allow' || (passesNames && action === 'pass');
  const unnamed = named ? undefined : `Accept ${passesNames ? 'and Pass ' : ''}rules`;
  return rule.to.flatMap((peer, i) => readPeer(peer, `${path}.to[${i}]`, unnamed, report));
}

/** null: every protocol and port. */
function readPorts(shape: Shape, rule: RuleSpec, path: string, report: Report): readonly PortMatch[] | null {
  for (const field of ['protocols', 'ports'] as const) {
    const items = rule[field];
    if (items)
      countItems(items, `${path}.${field}`, shape.limit, 'leave it out to mean every protocol and port', report);
  }
  const places = rule.to.some(
    (peer) => 'networks' in peer || 'nodes' in peer || 'domainNames' in peer || 'ipBlock' in peer,
  );
  return shape.ports(rule, path, places, report) ?? null;
}

function countItems(items: readonly unknown[], field: string, limit: number, hint: string, report: Report): void {
  if (items.length === 0) report({ severity: 'error', field, message: 'is empty', hint });
  if (items.length <= limit) return;
  const message = `has ${items.length} items: clusters take ${limit} at most`;
  report({ severity: 'warning', field, message, hint: 'split it into two rules' });
}

/** A rule that stands for rules that cannot be parsed. */
function denyAll({ ref, tier }: Reading): Rule {
  const rule = { policy: ref, index: DEFAULT_RULE, tier, staged: false, action: 'deny' } as const;
  return Object.freeze({ ref: rule, action: 'deny', peers: null, ports: null });
}

/** Adds to a fault what it means for enforcement. */
function effectOf(field: string, rules: readonly Rule[], subject: WorkloadMatch | undefined): { effect?: string } {
  const whom = subject ? 'the pods that it selects' : 'every pod';
  const at = /^spec\.egress\[(\d+)\]/.exec(field);
  if (at) {
    const accepts = rules[Number(at[1])]?.action === 'allow';
    return { effect: `${at[0]} ${accepts ? 'accepts nothing' : `denies everything to ${whom}`}` };
  }
  if (!within(field, 'spec') || within(field, 'spec.ingress')) return {};
  if (rules.some((rule) => rule.ref.index === DEFAULT_RULE)) return { effect: `it denies everything to ${whom}` };
  return { effect: `it accepts nothing, and denies what it denies or passes to ${whom}, before other policies` };
}

function labelsOf(object: Record<string, unknown>): Pick<PolicyRef, 'labels'> {
  const labels = isRecord(object.metadata) ? object.metadata.labels : undefined;
  if (!isRecord(labels)) return {};
  const text = Object.entries(labels).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return { labels: Object.fromEntries(text) };
}
