/**
 * Translates CiliumNetworkPolicies and CiliumClusterwideNetworkPolicies (cilium.io/v2), their egress half, to IR.
 *
 * Rules of egress are in the tier `default`, together with NetworkPolicies. Rules of egressDeny are in an earlier tier,
 * since they have precedence over every allow in any language. Both isolate, unless enableDefaultDeny is false.
 *
 * Faults of an object close, and never open: an invalid allow rule allows nothing, an invalid deny rule denies
 * everything, and a policy with an invalid selector isolates all pods that it could select and allows nothing.
 */
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { LabelExpr } from '../../ir/peers.js';
import { IMPLICIT_RULE, type PolicyRef, type Rule } from '../../ir/types.js';
import {
  type Dialect,
  type Fault,
  NETWORK_POLICY_ORDER,
  type Placed,
  TIERS,
  type Understood,
} from '../base/dialect.js';
import { compileSchema, shapeFaults, withoutNulls } from '../base/schema.js';
import type { LabelSelector } from '../base/selectors.js';
import { groupFaults, references } from './cidrs.js';
import type { GroupLookups } from './context.js';
import { plainExpr, subjectExpr } from './labels.js';
import { type EgressRule, type Meaning, readRule } from './rules.js';
import { policySchema, ruleSpec } from './schema.js';

/**
 * A pod that reaches itself through a Service is not judged by Cilium (`loopback` in bpf/bpf_lxc.c). Unlike with
 * NetworkPolicy, its own node is judged: that is the entity `host`.
 */
function toItself(tier: string, action: 'allow' | 'pass'): Rule {
  const policy = { dialect: 'cilium', kind: 'CiliumNetworkPolicy', name: '*' };
  const name = 'a pod always reaches itself';
  const ref = { policy, index: IMPLICIT_RULE, name, tier, staged: false, action };
  return Object.freeze<Rule>({ ref, action, peers: [{ kind: 'self' }], ports: null });
}

const IMPLICIT: readonly Rule[] = Object.freeze([toItself(TIERS.default.name, 'allow')]);
const BEFORE_DENY = toItself(TIERS.deny.name, 'pass');

const KINDS: ReadonlySet<string> = new Set(['CiliumNetworkPolicy', 'CiliumClusterwideNetworkPolicy']);
const validate = compileSchema(policySchema);

export const cilium: Dialect = {
  name: 'cilium',
  claims: ({ apiVersion, kind }) => KINDS.has(kind) && apiGroup(apiVersion) === 'cilium.io',
  supports: ({ apiVersion, kind }) => kind === 'CiliumCIDRGroup' && apiGroup(apiVersion) === 'cilium.io',
  check: groupFaults,
  understand,
};

/** The object whose specs are parsed. */
interface Source {
  readonly ref: PolicyRef;
  /** undefined: clusterwide. */
  readonly namespace: string | undefined;
  readonly groups: readonly RawPolicy[];
  /** Collects the groups that the policy looked for. */
  readonly lookups: GroupLookups;
  /** Whether there are several specs. Rules are then named by their path. */
  readonly several: boolean;
  readonly faults: Fault[];
  /** Whether the part at this path has no errors of shape. */
  readonly sound: (path: string) => boolean;
  /** Number of rules so far in all specs: each rule has its own number. */
  readonly counted: { egress: number; egressDeny: number };
}

function understand(raw: RawPolicy, groups: readonly RawPolicy[]): Understood {
  const clusterwide = raw.kind === 'CiliumClusterwideNetworkPolicy';
  const namespace = clusterwide ? undefined : (raw.namespace ?? 'default');
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const faults = shapeFaults(validate, object);
  const broken = faults.filter((f) => f.severity === 'error').map((f) => f.field);
  if (raw.apiVersion !== 'cilium.io/v2') {
    const message = `${raw.apiVersion} has no such kind; it is read as cilium.io/v2`;
    faults.push({ severity: 'warning', field: 'apiVersion', message, hint: 'write cilium.io/v2' });
  }
  const ref: PolicyRef = {
    dialect: 'cilium',
    kind: raw.kind,
    ...(namespace === undefined ? {} : { namespace }),
    name: raw.name,
    labels: policyLabels(object),
  };
  const specs = specsOf(object);
  if (specs.length === 0) {
    const hint = 'say which pods it selects and what they may reach';
    faults.push({ severity: 'warning', field: 'spec', message: 'is missing: the policy has no effect', hint });
  }
  const source: Source = {
    ref,
    namespace,
    groups,
    lookups: { names: new Set(), labels: [] },
    several: specs.length > 1,
    faults,
    sound: (path) => !broken.some((field) => within(field, path)),
    counted: { egress: 0, egressDeny: 0 },
  };
  const placed = specs.flatMap(({ path, spec }) => readSpec(spec, path, source));
  const concerns = placed.length > 0;
  return {
    policies: placed,
    faults: faults.map((f) => withEffect(f, concerns, namespace)),
    good: !faults.some((f) => f.severity === 'error'),
    dependsOn: references(source.lookups),
  };
}

/** `spec`, then `specs`: both apply (CiliumNetworkPolicy.Parse). */
function specsOf(object: Record<string, unknown>): { path: string; spec: unknown }[] {
  const { spec, specs } = object;
  const several: { path: string; spec: unknown }[] = Array.isArray(specs)
    ? specs.map((one: unknown, i) => ({ path: `specs[${i}]`, spec: one }))
    : specs === undefined
      ? []
      : [{ path: 'specs', spec: specs }];
  return [...(spec === undefined ? [] : [{ path: 'spec', spec }]), ...several];
}

function readSpec(given: unknown, path: string, source: Source): Placed[] {
  const spec = isRecord(given) ? given : {};
  const subject = readSubject(spec, isRecord(given), path, source);
  if (!subject || !concernsEgress(spec, isRecord(given), path, source)) return [];
  const { pods, nodes, broken } = subject;
  const { ref, namespace } = source;
  const namespaces =
    nodes !== undefined
      ? { names: [] }
      : namespace === undefined
        ? { labels: { op: 'true' } as const }
        : { names: [namespace] };
  const common = { ref, subject: { namespaces, pods }, ...(nodes === undefined ? {} : { nodes }), staged: false };
  const ofNodes = nodes !== undefined;
  const allow = readRules(spec, 'egress', path, source, ofNodes);
  const deny = readRules(spec, 'egressDeny', path, source, ofNodes);
  const isolates = broken || isolatesEgress(spec, path, source, ofNodes);
  const placed: Placed[] = [];
  if (!broken && deny.length > 0) {
    const policy = Object.freeze({ ...common, rules: nodes ? deny : [BEFORE_DENY, ...deny], isolates: false });
    placed.push({ tier: TIERS.deny, order: [0], policy });
  }
  // Rules for unknown pods must not open pods that another policy isolates.
  const rules = broken ? [] : allow;
  if (isolates || rules.length > 0) {
    // Traffic of a node to itself does not leave the node.
    const policy = Object.freeze({ ...common, rules, isolates, implicit: nodes ? [] : IMPLICIT });
    placed.push({ tier: TIERS.default, order: [NETWORK_POLICY_ORDER], policy });
  }
  return placed;
}

interface Subject {
  readonly pods: LabelExpr;
  /** If present, the policy selects nodes and no pods. */
  readonly nodes?: LabelExpr;
  /** Whether it is uncertain which pods the policy selects. */
  readonly broken: boolean;
}

/**
 * @returns undefined if it selects nodes but is invalid. A node that is closed completely could not be repaired
 * remotely
 */
function readSubject(
  spec: Record<string, unknown>,
  readable: boolean,
  path: string,
  source: Source,
): Subject | undefined {
  const { namespace, faults, sound } = source;
  const all = { pods: { op: 'true' }, broken: true } as const;
  const error = (field: string, message: string, hint: string) =>
    faults.push({ severity: 'error', field, message, hint });
  if (!readable) return all;
  const { endpointSelector, nodeSelector } = spec;
  if (nodeSelector !== undefined) {
    if (endpointSelector === undefined) return readNodes(nodeSelector, `${path}.nodeSelector`, source);
    error(`${path}.nodeSelector`, 'cannot be combined with endpointSelector', 'split it into two policies');
  } else if (endpointSelector === undefined) {
    error(`${path}.endpointSelector`, 'is missing', 'select the pods; {} selects every pod');
  }
  const field = `${path}.endpointSelector`;
  if (!isRecord(endpointSelector) || !sound(field)) return all;
  let broken = nodeSelector !== undefined;
  const pods = subjectExpr(endpointSelector as LabelSelector, namespace, field, (f) => {
    broken ||= f.severity === 'error';
    faults.push(f);
  });
  // The valid requirements still select a superset of the intended pods.
  return broken && nodeSelector === undefined ? all : { pods, broken };
}

/**
 * Only cluster-wide policies may select nodes: Rule.Sanitize and CiliumNetworkPolicy.Parse (pkg/policy/api,
 * pkg/k8s/apis/cilium.io/v2).
 */
function readNodes(selector: unknown, field: string, { namespace, faults, sound }: Source): Subject | undefined {
  let broken = !isRecord(selector) || !sound(field);
  if (namespace !== undefined) {
    const message = 'is not allowed in a namespaced policy';
    faults.push({ severity: 'error', field, message, hint: 'write a CiliumClusterwideNetworkPolicy' });
    broken = true;
  }
  const report = (f: Fault) => {
    broken ||= f.severity === 'error';
    faults.push(f);
  };
  const nodes = isRecord(selector) && sound(field) ? plainExpr(selector as LabelSelector, field, report) : undefined;
  return broken || !nodes ? undefined : { pods: { op: 'true' }, nodes, broken: false };
}

/** Whether there are egress rules, or something that may be some: unknown fields, or an explicit default. */
function concernsEgress(spec: Record<string, unknown>, readable: boolean, path: string, { sound }: Source): boolean {
  if (!readable || spec.egress !== undefined || spec.egressDeny !== undefined) return true;
  if (!sound(`${path}.enableDefaultDeny`)) return true;
  if (isRecord(spec.enableDefaultDeny) && spec.enableDefaultDeny.egress === true) return true;
  return Object.keys(spec).some((key) => !Object.hasOwn(ruleSpec.properties, key));
}

function isolatesEgress(
  spec: Record<string, unknown>,
  path: string,
  { faults, sound }: Source,
  ofNodes: boolean,
): boolean {
  if (!sound(`${path}.enableDefaultDeny`)) return true;
  const said = isRecord(spec.enableDefaultDeny) ? spec.enableDefaultDeny.egress : undefined;
  if (typeof said === 'boolean') return said;
  const lists = [spec.egress, spec.egressDeny];
  if (lists.every((list) => list === undefined || (Array.isArray(list) && list.length === 0))) {
    const field = `${path}.${spec.egress === undefined ? 'egressDeny' : 'egress'}`;
    if (lists.some((list) => list !== undefined)) {
      if (ofNodes) {
        const message = 'is empty: it does not isolate the nodes';
        faults.push({ severity: 'warning', field, message, hint: 'write egress: [{}] to close' });
        return false;
      }
      // Rule.Sanitize depends on the lengths of the lists, but an author who writes an empty list means to deny.
      const message = 'is empty: Cilium would not isolate the pods, here they are isolated';
      faults.push({ severity: 'warning', field, message, hint: 'write egress: [{}] to close, or remove the list' });
    }
  }
  return true;
}

function readRules(
  spec: Record<string, unknown>,
  section: 'egress' | 'egressDeny',
  path: string,
  source: Source,
  ofNodes: boolean,
): Rule[] {
  const { ref: policy, namespace, groups, lookups, several, faults, sound, counted } = source;
  const deny = section === 'egressDeny';
  const action = deny ? 'deny' : 'allow';
  const tier = deny ? TIERS.deny.name : TIERS.default.name;
  /** Used for a rule that is invalid as a whole. */
  const closed = deny ? { peers: null, ports: null } : { peers: [], ports: [] };
  const label = isRecord(spec.log) && typeof spec.log.value === 'string' ? spec.log.value : '';
  const list = spec[section];
  const entries: readonly unknown[] = Array.isArray(list) ? list : list === undefined ? [] : [list];
  return entries.flatMap((entry, i): Rule[] => {
    const place = Array.isArray(list) ? `${section}[${i}]` : section;
    const at = `${path}.${place}`;
    const name = [several ? at : place, ...(label === '' ? [] : [label])].join(' ');
    const index = counted[section]++;
    const ref = { policy, index, name, tier, staged: false, action } as const;
    if (!sound(at)) return [Object.freeze({ ref, action, ...closed })];
    let errors = false;
    const report = (fault: Fault) => {
      errors ||= fault.severity === 'error';
      faults.push(fault);
    };
    const meanings = readRule(entry as EgressRule, at, { namespace, deny, ofNodes, groups, lookups, report });
    return (errors ? [closed] : meanings).map(({ tells, ...meaning }: Meaning): Rule => {
      const does = tells ? 'log' : action;
      return Object.freeze<Rule>({ ref: { ...ref, action: does }, action: does, ...meaning });
    });
  });
}

/** Whether a field path is equal to another or below it. */
function within(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && (field[path.length] === '.' || field[path.length] === '['));
}

/** Adds to a fault what it means for enforcement. */
function withEffect(f: Fault, concerns: boolean, namespace: string | undefined): Fault {
  if (f.severity !== 'error') return f;
  if (/^specs?(\[\d+\])?\.nodeSelector/.test(f.field)) {
    const alone = 'what nodes themselves send is not judged by it';
    const pods = concerns && f.message.includes('beside endpointSelector');
    return { ...f, effect: pods ? `${alone}, and the pods of its endpointSelector reach nothing` : alone };
  }
  if (!concerns) return f;
  const rule = /^specs?(\[\d+\])?\.(egressDeny|egress)(\[\d+\])?/.exec(f.field);
  if (rule) {
    return { ...f, effect: `${rule[0]} ${rule[2] === 'egress' ? 'allows nothing' : 'denies everything'}` };
  }
  if (/^specs?(\[\d+\])?($|\.endpointSelector)/.test(f.field)) {
    const where = namespace === undefined ? 'every namespace' : `namespace ${namespace}`;
    return { ...f, effect: `it isolates every pod of ${where} and allows nothing` };
  }
  return f;
}

function policyLabels(object: Record<string, unknown>): PolicyRef['labels'] {
  const labels = isRecord(object.metadata) ? object.metadata.labels : undefined;
  if (!isRecord(labels)) return undefined;
  return Object.fromEntries(
    Object.entries(labels).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
