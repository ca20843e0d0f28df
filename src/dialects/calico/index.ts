/**
 * Translates Calico's policies (projectcalico.org/v3, and as crd.projectcalico.org/v1 stores them), their egress half,
 * to IR.
 *
 * Tiers and the actions Allow, Deny, Log and Pass are those of the IR. A pod that a policy with egress selects gets the
 * default of the policy's tier, whatever rules the policy has. Nothing is always allowed: a pod does not reach its own
 * node unless a rule allows it. Host endpoints are not judged, and no selector matches them.
 *
 * Faults of an object close, and never open: an invalid Allow allows nothing, an invalid Deny or Pass denies
 * everything. If the pods or the tier of a policy are uncertain, it isolates all pods that it could select, and only
 * its Deny and Pass rules apply, both as Deny.
 */
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { IrPolicy, PolicyRef, Rule } from '../../ir/types.js';
import { type Dialect, type Fault, type Placed, type TierPlace, TIERS, type Understood } from '../base/dialect.js';
import { networkPolicy } from '../networkpolicy/index.js';
import { compileSchema, shapeFaults, withoutNulls } from '../base/schema.js';
import { type Reading, readAccountSelector, readSelector, workloads } from './entity.js';
import { ALL, allOf, inNamespace, isFalse, ofNamespaces } from './meaning.js';
import { type ReadRule, readRules } from './rules.js';
import {
  globalNetworkPolicySchema,
  networkPolicySchema,
  policySpec,
  stagedActionSchema,
  stagedGlobalNetworkPolicySchema,
  stagedNetworkPolicySchema,
} from './schema.js';
import type { Selector } from './selector.js';
import { type Lookups, checkSupporting, isSupporting, readSupporting, references, stringMap } from './supporting.js';

const STORED = 'crd.projectcalico.org';
const GROUPS = ['projectcalico.org', STORED];

const KINDS = {
  NetworkPolicy: { validate: compileSchema(networkPolicySchema), staged: false, global: false },
  GlobalNetworkPolicy: { validate: compileSchema(globalNetworkPolicySchema), staged: false, global: true },
  StagedNetworkPolicy: { validate: compileSchema(stagedNetworkPolicySchema), staged: true, global: false },
  StagedGlobalNetworkPolicy: { validate: compileSchema(stagedGlobalNetworkPolicySchema), staged: true, global: true },
};
const KUBERNETES = 'StagedKubernetesNetworkPolicy';

export const calico: Dialect = {
  name: 'calico',
  claims: (raw) => ours(raw) && (Object.hasOwn(KINDS, raw.kind) || raw.kind === KUBERNETES),
  supports: (raw) => isSupporting(raw, ours(raw)),
  check: checkSupporting,
  understand: (raw, supporting) => (raw.kind === KUBERNETES ? understandKubernetes(raw) : understand(raw, supporting)),
};

function ours({ apiVersion }: RawPolicy): boolean {
  return GROUPS.includes(apiGroup(apiVersion));
}

function understand(raw: RawPolicy, objects: readonly RawPolicy[]): Understood {
  const { validate, staged, global } = KINDS[raw.kind as keyof typeof KINDS];
  const namespace = global ? undefined : (raw.namespace ?? 'default');
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const faults: Fault[] = shapeFaults(validate, object);
  const spec = isRecord(object.spec) ? object.spec : {};
  const aside = (staged ? stagedAside(spec, faults) : undefined) ?? hostAside(spec, faults);
  if (aside) return aside;
  if (object.spec === undefined) {
    faults.push(
      warning('spec', 'is missing: the policy has no effect', 'say which pods it selects and what they may reach'),
    );
    return done([], faults);
  }
  const sound = (path: string) => !faults.some((f) => f.severity === 'error' && under(f.field, path));
  const concerns = concernsEgress(raw, spec, sound, faults);
  const before = faults.length;
  const { tiers, sets, accounts } = readSupporting(objects);
  const lookups: Lookups = { sets: [], accounts: false };
  const subject = readSubject(spec, namespace, sound, { accounts, lookups, report: (f) => faults.push(f) });
  const tier = readTier(spec, tiers, sound, faults);
  const closed = !subject || !tier || !wellPlaced(faults, before);
  const dependsOn = references(spec.tier, lookups);
  if (!concerns) return { ...done([], faults), dependsOn };

  const policy: PolicyRef = {
    dialect: 'calico',
    kind: raw.kind,
    ...(namespace === undefined ? {} : { namespace }),
    name: raw.name,
    labels: stringMap(isRecord(object.metadata) ? object.metadata.labels : undefined),
  };
  const place = tier ?? TIERS.default;
  const rules = readRules(spec.egress, {
    policy,
    tier: place.name,
    staged,
    sets,
    accounts,
    lookups,
    closed,
    sound,
    report: (f) => faults.push(f),
  });
  const everyone = namespace === undefined ? ALL : inNamespace(namespace);
  const order = [typeof spec.order === 'number' ? spec.order : Number.POSITIVE_INFINITY, ...nameOrder(raw, place.name)];
  const pieces = split(rules, closed || !subject ? everyone : subject, policy, staged);
  const result = done(
    pieces.map((piece) => ({ tier: place, order, policy: piece })),
    faults.map((f) => withEffect(f, namespace)),
  );
  return { ...result, dependsOn };
}

function done(policies: readonly Placed[], faults: readonly Fault[]): Understood {
  return { policies, faults, good: !faults.some((f) => f.severity === 'error') };
}

function warning(field: string, message: string, hint: string): Fault {
  return { severity: 'warning', field, message, hint };
}

function under(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && (field[path.length] === '.' || field[path.length] === '['));
}

/** Staged policies whose action says that they are ignored; those with Set and Learn are computed. */
function stagedAside(spec: Record<string, unknown>, faults: Fault[]): Understood | undefined {
  if (spec.stagedAction === 'Ignore') return done([], faults);
  if (spec.stagedAction !== 'Delete') return undefined;
  const message = 'the deletion of a policy is not computed';
  const hint = 'take the policy itself out of a copy of your manifests, and compare';
  const effect = 'nothing is audited for it; the policy that it names stays as it is';
  return done([], [...faults, { severity: 'error', field: 'spec.stagedAction', message, hint, effect }]);
}

/** Policies for host endpoints only, which never judge a pod's packets. */
function hostAside(spec: Record<string, unknown>, faults: Fault[]): Understood | undefined {
  const field = (['doNotTrack', 'preDNAT'] as const).find((f) => spec[f] === true);
  if (field) {
    const message = 'is for host endpoints, which are not enforced';
    const hint = 'pods are judged by policies without it';
    const effect = 'nothing of this policy is in force';
    return done([], [...faults, { severity: 'error', field: `spec.${field}`, message, hint, effect }]);
  }
  if (spec.applyOnForward === true) {
    const message = 'is not enforced: packets that host endpoints forward are not judged, those of pods are';
    faults.push(warning('spec.applyOnForward', message, 'remove it to select pods only'));
  }
  return undefined;
}

/** Evaluates `types`, or its default. */
function concernsEgress(
  raw: RawPolicy,
  spec: Record<string, unknown>,
  sound: (path: string) => boolean,
  faults: Fault[],
): boolean {
  if (!sound('spec.types') || !isRecord(raw.object.spec)) return true;
  const types = (spec.types ?? []) as readonly string[];
  if (types.length > 0) {
    const egress = types.includes('Egress');
    if (!egress && Array.isArray(spec.egress) && spec.egress.length > 0) {
      faults.push(
        warning('spec.egress', 'has no effect: types does not list Egress', 'add Egress to types, or remove the rules'),
      );
    }
    return egress;
  }
  // A misspelt field may be `egress`.
  if (spec.egress !== undefined && (!Array.isArray(spec.egress) || spec.egress.length > 0)) return true;
  if (unknownFields(spec)) return true;
  // The API's default depends on the rules (defaultPolicyTypesField in libcalico-go/lib/clientv3). For a stored policy
  // without types, Felix assumes both directions (felix/calc/policy_sorter.go, ExtractPolicyMetadata).
  if (apiGroup(raw.apiVersion) === STORED) {
    faults.push(warning('spec.types', 'is missing: stored like this the policy is for egress too', 'add types'));
    return true;
  }
  if (spec.egress !== undefined) {
    faults.push(
      warning('spec.egress', 'is empty and types is missing: the policy is for Ingress only', 'add types: [Egress]'),
    );
  }
  return false;
}

const KNOWN = [
  ...Object.keys(policySpec),
  'namespaceSelector',
  'applyOnForward',
  'doNotTrack',
  'preDNAT',
  'stagedAction',
];

function unknownFields(spec: Record<string, unknown>): boolean {
  return Object.keys(spec).some((key) => !KNOWN.includes(key));
}

/** undefined: it is uncertain which pods the policy selects. */
function readSubject(
  spec: Record<string, unknown>,
  namespace: string | undefined,
  sound: (path: string) => boolean,
  reading: Reading,
): Selector | undefined {
  const text = (field: string) => {
    const value = sound(`spec.${field}`) ? spec[field] : undefined;
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const own = readSelector(text('selector'), 'spec.selector', reading);
  const accounts = readAccountSelector(text('serviceAccountSelector'), 'spec.serviceAccountSelector', reading);
  const spaces = readSelector(text('namespaceSelector'), 'spec.namespaceSelector', reading);
  if (!own || !accounts || !spaces) return undefined;
  const where = namespace === undefined ? ofNamespaces(spaces) : inNamespace(namespace);
  return allOf(where, own, accounts);
}

/** undefined: the tier or the order is uncertain. */
function readTier(
  spec: Record<string, unknown>,
  tiers: ReadonlyMap<string, TierPlace | null>,
  sound: (path: string) => boolean,
  faults: Fault[],
): TierPlace | undefined {
  if (!sound('spec.tier')) return undefined;
  const name = typeof spec.tier === 'string' && spec.tier !== '' ? spec.tier : 'default';
  const place = tiers.get(name);
  if (place) return place;
  const message = place === null ? `tier ${name} cannot be read` : `there is no tier ${name}`;
  faults.push({
    severity: 'error',
    field: 'spec.tier',
    message,
    hint: 'add a Tier object of this name, or correct it',
  });
  return undefined;
}

/**
 * Whether the fields outside of the rules, which determine the pods and the position of the policy, are valid. An
 * unknown field may be one of them.
 */
function wellPlaced(faults: readonly Fault[], after: number): boolean {
  const elsewhere = (f: Fault) => ['spec.egress', 'spec.ingress', 'spec.types'].some((path) => under(f.field, path));
  return !faults.some((f, i) => f.severity === 'error' && (i >= after || (under(f.field, 'spec') && !elsewhere(f))));
}

/**
 * Sort keys of policies of the same order: by name, then namespace, then kind (felix/calc/policy_sorter.go, PolKVLess).
 * Stored objects have the name of the tier as a prefix of their own.
 */
function nameOrder({ name, namespace, kind }: RawPolicy, tier: string): number[] {
  const own = name.startsWith(`${tier}.`) ? name.slice(tier.length + 1) : name;
  return Array.from(`${own}/${namespace ?? ''}/${kind}`, (c) => c.codePointAt(0) as number);
}

/**
 * Splits a policy. Rules with a restricted source apply to some of the policy's pods only, so the policy becomes
 * several, in order. Those for all of its pods isolate.
 */
function split(rules: readonly ReadRule[], subject: Selector, ref: PolicyRef, staged: boolean): IrPolicy[] {
  const pieces: { senders: Selector; rules: Rule[] }[] = [];
  for (const { senders, rule } of rules) {
    const last = pieces.at(-1);
    if (last && JSON.stringify(last.senders) === JSON.stringify(senders)) last.rules.push(rule);
    else pieces.push({ senders, rules: [rule] });
  }
  const isWhole = (senders: Selector) => senders.op === 'all';
  if (!pieces.some((p) => isWhole(p.senders))) pieces.push({ senders: ALL, rules: [] });
  return pieces.flatMap(({ senders, rules: own }) => {
    const match = workloads(allOf(subject, senders));
    if (!isWhole(senders) && isFalse(match.pods)) return [];
    const isolates = isWhole(senders) ? {} : { isolates: false };
    return [Object.freeze({ ref, subject: match, rules: own, staged, ...isolates })];
  });
}

/** Adds to a fault what it means for enforcement, if the reader of that part has not. */
function withEffect(fault: Fault, namespace: string | undefined): Fault {
  if (fault.severity !== 'error' || fault.effect !== undefined) return fault;
  const rule = /^spec\.egress\[\d+\]/.exec(fault.field);
  if (rule) return { ...fault, effect: `${rule[0]} allows nothing, or denies everything if it is no Allow` };
  if (under(fault.field, 'spec.egress'))
    return { ...fault, effect: 'the pods that it selects may reach nothing by this policy' };
  if (!under(fault.field, 'spec') || under(fault.field, 'spec.ingress')) return fault;
  const whom = namespace === undefined ? 'every pod' : `every pod of namespace ${namespace}`;
  return { ...fault, effect: `it isolates ${whom}, allows nothing and denies what it would deny` };
}

const isStagedAction = compileSchema(stagedActionSchema);

/** Translates a staged Kubernetes NetworkPolicy. */
function understandKubernetes(raw: RawPolicy): Understood {
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const shape = shapeFaults(isStagedAction, object).filter((f) => f.field === 'spec.stagedAction');
  const { spec } = object;
  const aside = stagedAside(isRecord(spec) ? spec : {}, shape);
  if (aside) return aside;
  const { stagedAction: _, ...rest } = isRecord(spec) ? spec : {};
  const inner = { ...object, ...(isRecord(spec) ? { spec: rest } : {}) };
  const read = networkPolicy.understand({ ...raw, apiVersion: 'networking.k8s.io/v1', object: inner }, []);
  const policies = read.policies.map(({ policy, ...place }): Placed => {
    const ref: PolicyRef = { ...policy.ref, dialect: 'calico' };
    const rules = policy.rules.map(
      (rule): Rule => Object.freeze({ ...rule, ref: { ...rule.ref, policy: ref, staged: true } }),
    );
    return { ...place, policy: Object.freeze({ ...policy, ref, rules, staged: true }) };
  });
  return done(policies, [...shape, ...read.faults]);
}
