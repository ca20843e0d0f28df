/** Converts to NetworkPolicy of networking.k8s.io/v1, which isolates and allows, without order. */
import { protocolName } from '../../net/protocol.js';
import {
  actionText,
  allows,
  attempt,
  clusterHint,
  type Context,
  type Maker,
  type Manifest,
  metadata,
  numbered,
  OWN_HINT,
  type Plan,
  planOf,
  type TermRule,
  type Source,
  subjectField,
  subjects,
  withoutDenyAll,
} from '../terms/common.js';
import { alternatives, parted, type Parted, selectorOf, Unsayable } from '../terms/labels.js';
import { byProtocol, fromOne, onlyWithPorts, type ProtocolPorts } from '../terms/ports.js';
import { type Assumptions, blockText, describe, isAnywhere, isPlain, saysOnly, type Term } from '../terms/terms.js';

const NAME = 'networkpolicy';

export const toNetworkPolicy: Maker = (source, context) => {
  const plans = source.parts.map((part) => planOf(part, context));
  return plans.flatMap((plan, i) => ofPlan(source, plan, i, plans.length, context));
};

function ofPlan(source: Source, plan: Plan, index: number, count: number, context: Context): Manifest[] {
  const closed = withoutDenyAll(plan.rules);
  const rules = closed ?? plan.rules;
  for (const { rule, field } of rules)
    if (rule.action !== 'allow') context.refuse(field, `${actionText(source, rule)} has no counterpart in ${NAME}`);
  if (!closed && !plan.isolates && !plan.opens)
    context.refuse('spec', 'does not isolate the pods that it selects: a NetworkPolicy always does');
  if (!context.assumed.ignoreOwn && !plan.opens) {
    const missing = [
      ...(plan.always.has('self') || allows(plan, 'self') ? [] : ['itself']),
      ...(plan.always.has('own-node') || allows(plan, 'own') ? [] : ['its own node']),
    ];
    if (missing.length > 0) {
      const what = missing.join(' and ');
      context.refuse('spec', `a NetworkPolicy always lets a pod reach ${what}, this policy does not${OWN_HINT}`);
    }
  }
  const where = placesOf(plan, context);
  if (!where) return [];
  const objects = where.flatMap(({ names, pods }) => names.map((namespace) => ({ namespace, pods })));
  return objects.map(({ namespace, pods }, i) => {
    const egress = rules.flatMap((termRule) => rulesOf(termRule, namespace, context));
    const name = numbered(numbered(source.raw.name, index, count), i, objects.length);
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: metadata(source, plan.policy.staged, name, namespace),
      spec: {
        podSelector: attempt(context, subjectField(plan.policy), () => selectorOf(pods.pods)) ?? {},
        policyTypes: ['Egress'],
        egress,
      },
    };
  });
}

function placesOf({ policy }: Plan, context: Context): { names: readonly string[]; pods: Parted }[] | undefined {
  return subjects(policy, context)?.flatMap((one) => {
    const field = subjectField(policy);
    if (one.account.length > 0) context.refuse(field, `selects pods by their service account: ${NAME} cannot`);
    if (one.names) return [{ names: one.names, pods: one }];
    context.refuse(field, 'is for pods of several namespaces: a NetworkPolicy is for those of one');
    return [];
  });
}

function rulesOf({ field, terms, ports }: TermRule, namespace: string, context: Context): object[] {
  const anywhere = terms.some(isAnywhere);
  const to = anywhere
    ? []
    : terms.flatMap(
        (term) => attempt(context, field, () => peersOf(term, ports === null, namespace, context.assumed)) ?? [],
      );
  if (!anywhere && to.length === 0) return [];
  const portList = ports && attempt(context, field, () => byProtocol(ports).flatMap(portsOf));
  if (portList?.length === 0) return [];
  return [{ ...(anywhere ? {} : { to }), ...(portList ? { ports: portList } : {}) }];
}

/** @param everyPort whether the rule applies to every port, like the traffic that a NetworkPolicy always allows */
function peersOf(term: Term, everyPort: boolean, namespace: string, assumed: Assumptions): object[] {
  if (isPlain(term))
    return (term.blocks ?? []).map(({ cidr, except }) => ({
      ipBlock: { cidr: cidr.text, ...(except.length > 0 ? { except: except.map((e) => e.text) } : {}) },
    }));
  if (saysOnly(term, 'pod') && term.pod)
    return alternatives(term.pod).map((one) => {
      const { namespace: spaces, pods, account, names } = parted(one);
      if (account.length > 0) throw new Unsayable(`means pods by their service account: ${NAME} cannot`);
      const podSelector = selectorOf(pods);
      if (names?.length === 1 && names[0] === namespace) return { podSelector };
      return { namespaceSelector: selectorOf(spaces), ...(pods.length > 0 ? { podSelector } : {}) };
    });
  if (everyPort && (saysOnly(term, 'own') || saysOnly(term, 'self')) && (term.own || term.self)) return [];
  if (term.blocks && term.notPod?.op === 'true' && term.notNode?.op === 'true') {
    const blocks = term.blocks.map(blockText).join(', ');
    throw new Unsayable(`${blocks}: means no pod and no node, an ipBlock means them too${clusterHint(assumed)}`);
  }
  throw new Unsayable(`means ${describe(term)}: ${NAME} has no such peer`);
}

function portsOf(one: ProtocolPorts): object[] {
  onlyWithPorts(one, NAME);
  const protocol = protocolName(one.protocol);
  if (one.ranges === null) return [{ protocol }];
  return [
    ...one.ranges.map((range) => {
      fromOne(range, NAME);
      const [port, endPort] = range;
      return { protocol, port, ...(endPort > port ? { endPort } : {}) };
    }),
    ...one.names.map((port) => ({ protocol, port })),
  ];
}
