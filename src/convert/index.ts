/**
 * Converts policies of one language to another. Each result is parsed again like any manifest, and proven: first each
 * policy alone, then all of them in place of the originals, on generated clusters that distinguish selectors and on the
 * given cluster. A policy that cannot be expressed, or is not equivalent, is refused with a reason.
 */
import { understandOne, isSupporting, toIr } from '../dialects/index.js';
import type { Placed } from '../dialects/base/dialect.js';
import { isRecord } from '../identity/fields.js';
import { apiGroup } from '../identity/kinds.js';
import type { RawPolicy, Snapshot } from '../identity/snapshot.js';
import { formatRule, ruleField } from '../ir/names.js';
import type { PolicyRef, RuleRef } from '../ir/types.js';
import { toCalico } from './targets/calico.js';
import { toCilium } from './targets/cilium.js';
import { toClusterNetworkPolicy } from './targets/clusternetworkpolicy.js';
import type { Context, Maker, Manifest, Reason, Source, Target } from './terms/common.js';
import { toNetworkPolicy } from './targets/networkpolicy.js';
import { priorities } from './targets/priorities.js';
import { Grounds } from './proof/grounds.js';
import { type Counterexample, prove } from './proof/proof.js';
import type { Assumptions } from './terms/terms.js';
import { documentText, policiesIn } from './text.js';
import { witnesses } from './proof/witness.js';

const MAKERS: Readonly<Record<Target, Maker>> = {
  networkpolicy: toNetworkPolicy,
  cnp: toClusterNetworkPolicy,
  calico: toCalico,
  cilium: toCilium,
};

/** A policy with its equivalent, proven. */
export interface Converted {
  readonly source: Source;
  readonly objects: readonly Manifest[];
  /** The proven objects as YAML documents. */
  readonly texts: readonly string[];
}

export interface Refused {
  readonly source: Pick<Source, 'raw' | 'title'>;
  readonly reasons: readonly Reason[];
}

export interface Conversion {
  readonly converted: readonly Converted[];
  /** Policies that are already in the target's language, and the objects to which they refer, unchanged. */
  readonly kept: readonly RawPolicy[];
  readonly refused: readonly Refused[];
  /** Parts that are not converted. */
  readonly notes: readonly Refused[];
  /** Number of packets that were judged. */
  readonly packets: number;
}

/**
 * Converts policies.
 * @param own the policies of the snapshot to convert
 * @param snapshot the cluster as far as it is known, with all policies in force
 */
export function convert(
  own: readonly RawPolicy[],
  snapshot: Snapshot,
  target: Target,
  assumed: Assumptions,
): Conversion {
  const refused: Refused[] = [];
  const notes: Refused[] = [];
  const kept = own.filter((raw) => isOf(target, raw));
  const sources = own
    .filter((raw) => !isOf(target, raw) && !isSupporting(raw))
    .flatMap((raw) => sourceOf(raw, snapshot, refused, notes));
  const priority = priorities(sources.flatMap((source) => source.parts));
  const prover = new Prover(snapshot, assumed);
  let made: Made[] = [];
  for (const source of sources) {
    const reasons: Reason[] = [];
    const context: Context = {
      assumed,
      priority,
      refuse: (field, message) => {
        if (!reasons.some((r) => r.field === field && r.message === message)) reasons.push({ field, message });
      },
    };
    const objects = MAKERS[target](source, context);
    const one = reasons.length === 0 ? write(source, objects, snapshot, context) : undefined;
    if (one && reasons.length === 0) reasons.push(...prover.alone(one, target));
    if (one && reasons.length === 0) made.push(one);
    else refused.push({ source, reasons });
  }
  made = withoutNamesakes(made, snapshot, refused);
  made = prover.together(made, target, refused);
  const converted = made.map(({ source, objects, texts }): Converted => ({ source, objects, texts }));
  return { converted, kept, refused, notes, packets: prover.packets };
}

/** Whether an object is of the language, or of a kind to which its policies refer. */
function isOf(target: Target, { apiVersion, kind }: RawPolicy): boolean {
  const group = apiGroup(apiVersion);
  switch (target) {
    case 'networkpolicy':
      return kind === 'NetworkPolicy' && (group === 'networking.k8s.io' || group === 'extensions');
    case 'cnp':
      return kind === 'ClusterNetworkPolicy' && group === 'policy.networking.k8s.io';
    case 'calico':
      return group === 'projectcalico.org' || group === 'crd.projectcalico.org';
    case 'cilium':
      return group === 'cilium.io';
    default:
      return target satisfies never;
  }
}

function titleOf({ kind, namespace, name }: RawPolicy): string {
  return `${kind} ${namespace === undefined ? '' : `${namespace}/`}${name}`;
}

function sourceOf(raw: RawPolicy, snapshot: Snapshot, refused: Refused[], notes: Refused[]): Source[] {
  const understood = understandOne(raw, snapshot);
  if (!understood) return [];
  const source: Source = { raw, title: titleOf(raw), parts: understood.policies };
  const errors = understood.faults.filter((f) => f.severity === 'error');
  if (errors.length > 0) {
    const reasons = errors.map(({ field, message }) => ({ field, message: `cannot be read: ${message}` }));
    refused.push({ source, reasons });
    return [];
  }
  if (source.parts.length === 0) {
    notes.push({ source, reasons: [{ field: '', message: 'says nothing of egress: left out' }] });
    return [];
  }
  if (source.parts.some(({ policy }) => policy.nodes !== undefined)) {
    const message = 'is for what nodes themselves send: policies of other languages are for pods';
    refused.push({ source, reasons: [{ field: 'spec.nodeSelector', message }] });
    return [];
  }
  const field = ingressOf(raw);
  if (field !== undefined) {
    const message = 'what it says of ingress is not converted: keep that half as a policy for ingress only';
    notes.push({ source, reasons: [{ field, message }] });
  }
  return [source];
}

/** The field that makes it a policy for ingress too. */
function ingressOf({ object, kind, apiVersion }: RawPolicy): string | undefined {
  const specs = [object.spec, ...(Array.isArray(object.specs) ? object.specs : [])].filter(isRecord);
  for (const spec of specs) {
    const types = spec.policyTypes ?? spec.types;
    if (Array.isArray(types) && types.length > 0) {
      if (types.includes('Ingress')) return spec.policyTypes ? 'spec.policyTypes' : 'spec.types';
      continue;
    }
    // Without policyTypes, a NetworkPolicy always applies to ingress.
    if (kind === 'NetworkPolicy' && apiGroup(apiVersion) === 'networking.k8s.io') return 'spec.policyTypes';
    if (kind === 'ApplicationNetworkPolicy') return 'spec.policyTypes';
    for (const key of ['ingress', 'ingressDeny'])
      if (Array.isArray(spec[key]) && spec[key].length > 0) return `spec.${key}`;
  }
  return undefined;
}

/** A conversion that has been formatted and parsed again. */
interface Made extends Converted {
  readonly policies: readonly RawPolicy[];
}

function write(source: Source, objects: Manifest[], snapshot: Snapshot, { refuse }: Context): Made | undefined {
  if (objects.length === 0) {
    refuse('', 'selects no pod and has no rules: there is nothing to convert');
    return undefined;
  }
  const { file, line } = source.raw.where;
  const place = file === undefined ? '' : ` (${file}${line === undefined ? '' : `:${line}`})`;
  // A tier that several policies need is printed once, so its comment must be the same.
  const from = (object: Manifest) =>
    object.kind === 'Tier' ? 'of the policies that name it' : `from ${source.title}${place}`;
  const texts = objects.map((object) => documentText(object, [from(object)]));
  const { policies, problems } = policiesIn(texts.join(''));
  const all = { ...snapshot, policies: [...snapshot.policies, ...policies] };
  const faults = policies
    .flatMap((raw) => understandOne(raw, all)?.faults ?? [])
    .filter((f) => f.severity === 'error')
    .map((f) => `${f.field}: ${f.message}`);
  for (const fault of [...problems, ...faults]) refuse('', `what it becomes cannot be read: ${fault}`);
  if (policies.length !== objects.length && problems.length === 0)
    refuse('', 'what it becomes has one name for several objects');
  return { source, objects, texts, policies };
}

function keyOf(raw: Pick<RawPolicy, 'apiVersion' | 'kind' | 'namespace' | 'name'>): string {
  return [apiGroup(raw.apiVersion), raw.kind, raw.namespace ?? '', raw.name].join('\0');
}

/** Refuses policies that would become the same object, or replace another policy. */
function withoutNamesakes(made: readonly Made[], snapshot: Snapshot, refused: Refused[]): Made[] {
  const taken = new Map<string, string>(snapshot.policies.map((raw) => [keyOf(raw), JSON.stringify(raw.object)]));
  return made.filter((one) => {
    const same = one.policies.find((raw) => {
      const other = taken.get(keyOf(raw));
      // Several policies may need the same tier.
      return other !== undefined && !(raw.kind === 'Tier' && other === JSON.stringify(raw.object));
    });
    if (same) {
      const message = `becomes ${titleOf(same)}: another object has that name`;
      refused.push({ source: one.source, reasons: [{ field: 'metadata.name', message }] });
      return false;
    }
    for (const raw of one.policies) taken.set(keyOf(raw), JSON.stringify(raw.object));
    return true;
  });
}

class Prover {
  readonly #snapshot: Snapshot;
  readonly #assumed: Assumptions;
  packets = 0;
  /** Pairs of policies, before and after, that have been compared in generated clusters. */
  readonly #proven = new Set<string>();
  readonly #numbers = new Map<RawPolicy, number>();

  constructor(snapshot: Snapshot, assumed: Assumptions) {
    this.#snapshot = snapshot;
    this.#assumed = assumed;
  }

  /** Compares one policy, with the objects to which it refers, with its conversion. */
  alone(one: Made, target: Target): Reason[] {
    const supporting = this.#snapshot.policies.filter(isSupporting);
    const counterexample = this.#compare([one.source.raw, ...supporting], [...one.policies, ...supporting], false);
    return counterexample ? [reasonOf(counterexample, one, target, 'what it becomes')] : [];
  }

  /**
   * Compares all policies with the set in which the converted ones are replaced. A policy that differs is refused,
   * until all are equivalent.
   */
  together(made: readonly Made[], target: Target, refused: Refused[]): Made[] {
    let remaining = [...made];
    for (;;) {
      const replaced = new Set(remaining.map((one) => one.source.raw));
      const after = this.#snapshot.policies.filter((raw) => !replaced.has(raw));
      if (remaining.length === 0) return remaining;
      const counterexample = this.#compare(this.#snapshot.policies, [...after, ...deduplicated(remaining)], true);
      if (!counterexample) return remaining;
      const involved = remaining.filter((one) => isInvolved(one, counterexample));
      const out = involved.length > 0 ? involved : remaining;
      for (const one of out)
        refused.push({
          source: one.source,
          reasons: [reasonOf(counterexample, one, target, 'beside the other policies, what it becomes')],
        });
      remaining = remaining.filter((one) => !out.includes(one));
    }
  }

  /** @param given compares on the given cluster too */
  #compare(before: readonly RawPolicy[], after: readonly RawPolicy[], given: boolean): Counterexample | undefined {
    const [was, is] = [before, after].map((policies) => toIr({ ...this.#snapshot, policies }).ir) as [
      ReturnType<typeof toIr>['ir'],
      ReturnType<typeof toIr>['ir'],
    ];
    const key = JSON.stringify([this.#numbersOf(before), this.#numbersOf(after)]);
    const clusters = this.#proven.has(key) ? [] : witnesses([was, is], this.#assumed.cluster);
    this.#proven.add(key);
    if (given && this.#snapshot.pods.size > 0) clusters.push(this.#snapshot);
    const grounds = new Grounds([...before, ...after]);
    for (const cluster of clusters) {
      const { packets, counterexample } = prove(was, is, cluster, this.#assumed.ignoreOwn, grounds);
      this.packets += packets;
      if (counterexample) return counterexample;
    }
    return undefined;
  }

  #numbersOf(policies: readonly RawPolicy[]): number[] {
    const of = (raw: RawPolicy) => {
      const number = this.#numbers.get(raw) ?? this.#numbers.size;
      this.#numbers.set(raw, number);
      return number;
    };
    return policies.map(of).sort((a, b) => a - b);
  }
}

function deduplicated(made: readonly Made[]): RawPolicy[] {
  return [...new Map(made.flatMap((one) => one.policies).map((raw) => [keyOf(raw), raw])).values()];
}

function isInvolved(one: Made, { was, is, misread }: Counterexample): boolean {
  const names = new Set([one.source.raw, ...one.policies].map((raw) => refKey(raw)));
  return [was.rule, was.audit, is.rule, is.audit, misread?.rule].some(
    (ref) => ref !== undefined && names.has(refKey(ref.policy)),
  );
}

function refKey({ kind, namespace, name }: Pick<PolicyRef, 'kind' | 'namespace' | 'name'>): string {
  return [kind, namespace ?? '', name].join('\0');
}

function reasonOf({ packet, was, is, misread }: Counterexample, one: Made, target: Target, what: string): Reason {
  const own = (ref: RuleRef | undefined) => ref !== undefined && refKey(ref.policy) === refKey(one.source.raw);
  if (misread) {
    const message = `is read as more than it says: ${packet} meets ${formatRule(misread.rule)}, whose fields mean ${misread.means} alone`;
    return { field: own(misread.rule) ? ruleField(misread.rule) : '', message };
  }
  const field = own(was.rule) && was.rule ? ruleField(was.rule) : '';
  const denies = one.source.parts.some(({ policy }: Placed) => policy.rules.some((r) => r.action === 'deny'));
  const order = target === 'cilium' && denies ? '; Cilium has no order, and its egressDeny wins over every allow' : '';
  return { field, message: `${what} is not equivalent: ${packet} was ${was.text}, would be ${is.text}${order}` };
}
