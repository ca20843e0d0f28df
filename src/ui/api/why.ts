/** POST /api/why: why a packet would be allowed or denied by the policies of now. */
import { AgentError } from '../../errors.js';
import { isDnsName } from '../../named/given.js';
import { canonicalName } from '../../names/pattern.js';
import { tryCanonicalAddr } from '../../net/addr.js';
import { formatRule } from '../../ir/names.js';
import type { Explanation } from '../../explain/explain.js';
import { hasPorts, protocolName } from '../../net/protocol.js';
import type { ExplainRequest, ExplainResponse } from '../../proto/messages.js';
import type { AgentExplanation } from '../../rpc/view.js';
import { mayUse, type Scope } from '../access/viewer.js';
import { HttpError } from '../http/answers.js';
import { type Body, bodyOf, flagOf, numberOf, textOf } from '../http/read.js';
import type { WhyAnswer, WhyNow } from '../wire/explain.js';
import type { WhyEnd } from '../wire/why.js';
import { findPod, type FoundPod, type PodSource, runningPods } from '../why/pods.js';
import { allowOf, type Wish } from '../why/proposal.js';
import { sentenceOf } from '../why/sentence.js';
import { targetsOf } from '../why/shape.js';
import type { Handler } from './handler.js';

/** The part of a client that is used. */
export interface WhySource extends PodSource {
  explain(request: ExplainRequest): Promise<ExplainResponse>;
}

interface Question {
  readonly from: WhyEnd;
  readonly to: WhyEnd;
  readonly address: string;
  readonly port: number;
  readonly protocol: number;
  readonly query: string;
  readonly isInbound: boolean;
}

const KINDS = ['workload', 'node', 'name', 'address', 'service', 'other'] as const;

export function whyHandler(source: WhySource): Handler {
  return async (body, viewer, signal) => {
    const asked = questionOf(body);
    const scope = await viewer.scope();
    // What a pod may reach, and why, is its namespace's.
    if (!maySee(asked.from, scope)) throw new HttpError(403, forbidden(asked.from));
    return await answer(source, asked, scope, signal);
  };
}

/** What is no workload is of no namespace, whatever is said of it. */
function maySee({ kind, namespace }: WhyEnd, scope: Scope): boolean {
  return scope === undefined || (kind === 'workload' && mayUse(scope, namespace));
}

function forbidden({ kind, namespace }: WhyEnd): string {
  return namespace === '' || kind !== 'workload'
    ? 'you may not see what has no namespace'
    : `you may not see the namespace ${namespace}`;
}

async function answer(source: WhySource, asked: Question, scope: Scope, signal: AbortSignal): Promise<WhyAnswer> {
  const cannot = unexplained(asked);
  if (cannot !== undefined) return { cannot };
  const { from, to } = asked;
  const running = await runningPods(source);
  const isNode = from.kind === 'node';
  const sender: FoundPod | undefined = isNode
    ? { key: `@node/${from.name}`, how: '', labels: undefined }
    : await findPod(source, 'source', from, running, signal);
  if (!sender)
    return {
      cannot: `No pod of ${from.workloadKind} ${from.namespace}/${from.name} runs now: nothing would judge its packets.`,
    };
  const isSeen = to.kind === 'workload' && mayUse(scope, to.namespace);
  const receiver = isSeen ? await findPod(source, 'destination', to, running, signal) : undefined;
  const place = placeOf(asked, receiver);
  if (place === undefined) return { cannot: `No address of ${endText(to)} is known now.` };
  let explained: AgentExplanation;
  try {
    const { json } = await source.explain({
      from: sender.key,
      to: place,
      port: asked.port,
      protocol: asked.protocol,
      ...(asked.query === '' ? {} : { dns_query: asked.query }),
    });
    explained = JSON.parse(json) as AgentExplanation;
  } catch (e) {
    if (e instanceof AgentError && e.code === 'USAGE') return { cannot: `${e.message}${e.hint ? `: ${e.hint}` : ''}` };
    throw e;
  }
  const who = isNode ? `node ${from.name}` : sender.key;
  const first = 'explanations' in explained ? explained.explanations[0] : explained;
  const allow = first && allowOf(first, wishOf(asked, sender, place, receiver?.labels));
  return {
    asked: { from: who, to: place, how: sender.how },
    now: nowOf(explained, asked, who, scope),
    ...(allow ? { allow } : {}),
  };
}

/** What nobody judges. */
function unexplained({ from, to, isInbound }: Question): string | undefined {
  if (from.kind !== 'workload' && from.kind !== 'node') {
    return isInbound
      ? 'It was opened from outside of the cluster. Policies here judge what pods send, not what is sent to them; what the pod answers passes as a reply.'
      : `${endText(from)} is no pod and no node of this cluster: nothing here judges what it sends.`;
  }
  if (from.kind === 'node' && isInbound)
    return 'A node opened it to a pod of its own. Policies here judge what pods send, not what is sent to them; what the pod answers passes as a reply.';
  if (to.kind === 'other')
    return 'Its destination stands for many addresses that found no room of their own, so that there is none to ask about.';
  return undefined;
}

/** What is asked about: an address, a pod, a name. */
function placeOf({ to, address }: Question, receiver: FoundPod | undefined): string | undefined {
  const name = to.kind === 'name' ? canonicalName(to.name) : '';
  const known = tryCanonicalAddr(address);
  // Of a name, each address that the sender has learned is asked about, as long as it knows one. What is no name of DNS
  // would be taken for the name of a pod, of any namespace.
  if (name !== '' && known === undefined) return isDnsName(name) ? name : undefined;
  return known ?? (to.kind === 'address' ? tryCanonicalAddr(to.name) : undefined) ?? receiver?.key;
}

function nowOf(e: AgentExplanation, { to, address, port, protocol }: Question, who: string, scope: Scope): WhyNow {
  const where = to.kind === 'address' ? to.name : endText(to);
  const whom = portText(where || address, port, protocol);
  if (!('explanations' in e)) {
    const { targets, more } = targetsOf(e.targets, scope);
    return {
      verdict: e.verdict.verdict,
      rule: e.rule ? formatRule(e.rule) : '',
      ...(e.verdict.audit ? { auditVerdict: e.verdict.audit.verdict } : {}),
      ...(e.auditRule ? { auditRule: formatRule(e.auditRule) } : {}),
      sentence: sentenceOf(e, who, whom),
      notes: notesOf(e, scope),
      ...{ targets, more },
    };
  }
  const [first] = e.explanations;
  const all = e.explanations.flatMap((x) => x.targets);
  const { targets, more } = targetsOf(all, scope);
  const unknown = e.known
    ? []
    : [`${who} has learned no address for ${e.name} yet: judged is one outside of the cluster.`];
  const query = e.query
    ? [`Its DNS query to ${e.query.to}: ${e.query.verdict}${e.query.rule ? ` by ${e.query.rule}` : ''}.`]
    : [];
  return {
    verdict: e.verdict,
    rule: first?.rule ? formatRule(first.rule) : '',
    sentence:
      e.verdict === 'partial' || !first
        ? `${who} may reach some addresses of ${whom}, and others not`
        : sentenceOf(first, who, whom),
    notes: [...unknown, ...query, ...(scope ? [] : e.hints.slice(0, 10)), ...(first ? notesOf(first, scope) : [])],
    ...{ targets, more: more + e.more },
  };
}

function notesOf(e: Explanation, scope: Scope): string[] {
  const { service } = e;
  return [
    ...(service && mayUse(scope, service.namespace)
      ? [
          `${e.packet.to} is Service ${service.namespace}/${service.name}: each of its ${service.backends} backends is judged.`,
        ]
      : []),
    ...(e.pending ? ['This is the handshake: what the connection says then decides.'] : []),
    ...(e.sender.selectable ? [] : [`${e.sender.key}: ${e.sender.why}.`]),
  ];
}

function wishOf(asked: Question, sender: FoundPod, place: string, labels: FoundPod['labels']): Wish {
  const { from, to, port, protocol } = asked;
  const address = tryCanonicalAddr(place);
  const pod = to.kind === 'workload' && labels ? { kind: 'pod' as const, namespace: to.namespace, labels } : undefined;
  const named = to.kind === 'name' && isDnsName(canonicalName(to.name));
  return {
    namespace: from.namespace,
    name: from.name,
    labels: from.kind === 'node' ? undefined : sender.labels,
    to: pod ?? (named || address === undefined ? { kind: 'name', name: to.name } : { kind: 'address', address }),
    ...{ port, protocol },
  };
}

function endText({ kind, namespace, name }: WhyEnd): string {
  if (kind === 'node') return `node ${name}`;
  return namespace === '' ? name : `${namespace}/${name}`;
}

function portText(where: string, port: number, protocol: number): string {
  const name = protocolName(protocol).toLowerCase();
  if (!hasPorts(protocol)) return `${where} by ${name}`;
  return `${where.includes(':') ? `[${where}]` : where}${port === 0 ? '' : `:${port}`}/${name}`;
}

function questionOf(body: Body): Question {
  const from = endOf(body, 'from');
  const to = endOf(body, 'to');
  const port = numberOf(body, 'port', 0, 65_535, 0);
  const servicePort = numberOf(body, 'servicePort', 0, 65_535, 0);
  return {
    from,
    to,
    address: textOf(body, 'address', 100, ''),
    // A Service whose backend is not known is asked for at its own port.
    port: to.kind === 'service' && servicePort > 0 ? servicePort : port,
    protocol: numberOf(body, 'protocol', 0, 255, 6),
    query: textOf(body, 'query', 300, ''),
    isInbound: flagOf(body, 'inbound'),
  };
}

function endOf(body: Body, field: string): WhyEnd {
  const end = bodyOf(body[field]);
  const kind = KINDS.find((k) => k === end['kind']);
  if (kind === undefined)
    throw new HttpError(400, `${field}.kind must be one of ${KINDS.join(', ')}`, { field: `${field}.kind` });
  const of = (name: string) => textOf({ [`${field}.${name}`]: end[name] }, `${field}.${name}`, 300, '');
  return {
    kind,
    namespace: of('namespace'),
    workloadKind: of('workloadKind'),
    name: of('name'),
    pod: of('pod'),
  };
}
