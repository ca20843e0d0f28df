/**
 * Converts to ClusterNetworkPolicy of policy.networking.k8s.io/v1alpha2: ordered rules in one of two tiers without
 * defaults.
 */
import type { Placed } from '../../dialects/base/dialect.js';
import { TIERS } from '../../dialects/base/dialect.js';
import type { NamesPeer } from '../../ir/peers.js';
import type { Rule } from '../../ir/types.js';
import { protocolName } from '../../net/protocol.js';
import {
  actionText,
  attempt,
  checkAlways,
  chunks,
  clusterHint,
  type Context,
  type Maker,
  type Manifest,
  metadata,
  numbered,
  planOf,
  type TermRule,
  type Source,
  subjectField,
  subjects,
  wideName,
} from '../terms/common.js';
import { alternatives, parted, type Parted, selectorOf, Unsayable } from '../terms/labels.js';
import { byProtocol, fromOne, onlyWithPorts, portsText, type ProtocolPorts, WITH_PORTS } from '../terms/ports.js';
import {
  type Assumptions,
  blockText,
  describe,
  isAnywhere,
  isPlain,
  plainCidrs,
  saysOnly,
  type Term,
} from '../terms/terms.js';

const NAME = 'ClusterNetworkPolicy';
/** The API server's limit for rules, for peers and protocols in a rule, and for networks in a peer. */
const LIMIT = 25;
const PRIORITIES = 1000;

const ACTIONS = { allow: 'Accept', deny: 'Deny', pass: 'Pass' } as const;
const EVERYWHERE = [{ networks: ['0.0.0.0/0', '::/0'] }];

export function tierOf({ tier }: Placed): 'Admin' | 'Baseline' {
  return tier.order < TIERS.deny.order ? 'Admin' : 'Baseline';
}

export const toClusterNetworkPolicy: Maker = (source, context) => {
  const count = source.parts.length;
  return source.parts.flatMap((part, i) => ofPart(source, part, numbered(wideName(source), i, count), context));
};

function ofPart(source: Source, part: Placed, base: string, context: Context): Manifest[] {
  const plan = planOf(part, context);
  // Its tiers have no traffic that is always allowed, and it has no peer for the own node or the pod itself.
  checkAlways(plan, `a ${NAME}`, context);
  const rules = plan.rules.flatMap((termRule) => rulesOf(source, termRule, context));
  if (rules.length > LIMIT)
    context.refuse('spec.egress', `becomes ${rules.length} rules: a ${NAME} takes ${LIMIT} at most`);
  const who = subjects(plan.policy, context)?.map((one) =>
    attempt(context, subjectField(plan.policy), () => subjectOf(one)),
  );
  if (!who) return [];
  const make = (name: string, priority: number, egress: object[]): Manifest[] => {
    if (egress.length === 0) return [];
    if (priority > PRIORITIES) context.refuse('', `no priority up to ${PRIORITIES} is left for it`);
    return who.map((subject, i) => ({
      apiVersion: 'policy.networking.k8s.io/v1alpha2',
      kind: NAME,
      metadata: metadata(source, plan.policy.staged, numbered(name, i, who.length)),
      spec: { tier: tierOf(part), priority, subject, egress },
    }));
  };
  // The default deny must follow the rules of all policies, which are combined before it.
  const rest = plan.isolates && !plan.opens ? [{ name: 'default', action: 'Deny', to: EVERYWHERE }] : [];
  return [
    ...make(base, context.priority(part, 'rules'), rules),
    ...make(`${base}-default`, context.priority(part, 'rest'), rest),
  ];
}

function subjectOf({ namespace, pods, account }: Parted): object {
  if (account.length > 0) throw new Unsayable(`selects pods by their service account: a ${NAME} cannot`);
  const namespaces = selectorOf(namespace);
  return pods.length === 0
    ? { namespaces }
    : { pods: { namespaceSelector: namespaces, podSelector: selectorOf(pods) } };
}

function rulesOf(source: Source, { rule, field, terms, ports }: TermRule, context: Context): object[] {
  if (rule.action === 'log') {
    context.refuse(field, `${actionText(source, rule)} has no counterpart in cnp`);
    return [];
  }
  const peers = terms.some(isAnywhere)
    ? EVERYWHERE
    : terms.flatMap((term) => attempt(context, field, () => peersOf(term, context.assumed)) ?? []);
  if (peers.length === 0) return [];
  if (rule.action !== 'allow' && terms.some((term) => term.names)) {
    context.refuse(field, `${actionText(source, rule)} over names: a ${NAME} has names in Accept rules alone`);
    return [];
  }
  const protocols = ports === null ? [] : attempt(context, field, () => protocolsOf(ports, terms));
  if (protocols === undefined || (ports !== null && protocols.length === 0)) return [];
  const head = { name: ruleName(rule, field), action: ACTIONS[rule.action] };
  return chunks(peers, LIMIT).flatMap((to) =>
    ports === null ? [{ ...head, to }] : chunks(protocols, LIMIT).map((some) => ({ ...head, to, protocols: some })),
  );
}

/** A rule without a name gets its position as its name, which flows show. */
function ruleName({ ref }: Rule, field: string): string {
  const own = ref.policy.dialect === 'cilium' ? undefined : ref.name;
  return (own ?? field).slice(0, 100);
}

function peersOf(term: Term, assumed: Assumptions): object[] {
  if (isPlain(term)) {
    const cidrs = (term.blocks ?? []).flatMap(plainCidrs);
    return chunks([...new Set(cidrs)], LIMIT).map((networks) => ({ networks }));
  }
  if (saysOnly(term, 'pod') && term.pod)
    return alternatives(term.pod).map((one) => {
      const { namespace, pods, account } = parted(one);
      if (account.length > 0) throw new Unsayable(`means pods by their service account: a ${NAME} cannot`);
      if (pods.length === 0) return { namespaces: selectorOf(namespace) };
      return { pods: { namespaceSelector: selectorOf(namespace), podSelector: selectorOf(pods) } };
    });
  if (saysOnly(term, 'names') && term.names) return namesOf(term.names, term);
  if (saysOnly(term, 'node') && term.node) return alternatives(term.node).map((one) => ({ nodes: selectorOf(one) }));
  if (term.blocks && term.notPod?.op === 'true' && term.notNode?.op === 'true') {
    const blocks = term.blocks.map(blockText).join(', ');
    throw new Unsayable(`${blocks}: means no pod and no node, networks mean them too${clusterHint(assumed)}`);
  }
  throw new Unsayable(`means ${describe(term)}: a ${NAME} has no such peer`);
}

/** Names of two labels or more; `**.` as `*.`. */
const DOMAIN = /^(\*\*\.)?([a-z\d]([-\w]*[a-z\d])?\.)+[a-z\d]([-\w]*[a-z\d])?$/;

function namesOf({ patterns, aliases }: NamesPeer, term: Term): object[] {
  if (aliases) throw new Unsayable(`means ${describe(term)}: domainNames mean no aliases`);
  const names = patterns.map((pattern) => {
    if (!DOMAIN.test(pattern)) throw new Unsayable(`${pattern}: a ${NAME} has no such pattern of names`);
    return pattern.replace(/^\*\*/, '*');
  });
  return chunks(names, LIMIT).map((domainNames) => ({ domainNames }));
}

function protocolsOf(ports: NonNullable<TermRule['ports']>, terms: readonly Term[]): object[] {
  // A port name applies to any protocol. Names with a single protocol have no equivalent.
  const free = new Set(ports.filter((p) => p.protocol === null).flatMap((p) => p.named ?? []));
  const named = [...free].map((destinationNamedPort) => ({ destinationNamedPort }));
  if (named.length > 0 && !terms.every((t) => t.pod))
    throw new Unsayable(
      `port name ${[...free].join(', ')}: a ${NAME} has port names of pods alone, not beside networks or nodes`,
    );
  return [...byProtocol(ports).flatMap((one) => portsOf(one, free)), ...named];
}

function portsOf(one: ProtocolPorts, free: ReadonlySet<string>): object[] {
  onlyWithPorts(one, `a ${NAME}`);
  if (one.ranges === null) {
    throw new Unsayable(`every port of ${portsText(one)}: the ports of a ${NAME} begin at 1, and fragments show none`);
  }
  const name = one.names.find((n) => !free.has(n));
  if (name !== undefined) {
    const [only] = WITH_PORTS.filter((p) => p === one.protocol).map(protocolName);
    throw new Unsayable(`port name ${name} of ${only} alone: a ${NAME} means it in every protocol`);
  }
  const protocol = protocolName(one.protocol).toLowerCase();
  return one.ranges.map((range) => {
    fromOne(range, `a ${NAME}`);
    const [start, end] = range;
    return { [protocol]: { destinationPort: start === end ? { number: start } : { range: { start, end } } } };
  });
}
