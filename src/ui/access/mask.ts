/** Leaves out what a viewer may not see: an edge or flow shows if either side may be seen, without the other's labels. */
import { AgentError, isOfAsker } from '../../errors.js';
import type { Chip } from '../wire/chips.js';
import type { EdgeInfo, FlowEnd, FlowRow, NodeBrief, RuleName } from '../wire/messages.js';
import { mayUse, NOTHING, type Scope, type Viewer } from './viewer.js';

/** The edge as it may be seen. @returns undefined: not at all */
export function seenEdge(edge: EdgeInfo, scope: Scope): EdgeInfo | undefined {
  if (scope === undefined) return edge;
  if (!mayUse(scope, edge.source.namespace) && !mayUse(scope, edge.destination.namespace)) return undefined;
  const { rule, auditRule, ...rest } = edge;
  return { ...rest, ...seenRule('rule', rule, scope), ...seenRule('auditRule', auditRule, scope) };
}

/** The flow as it may be seen. @returns undefined: not at all */
export function seenFlow(flow: FlowRow, scope: Scope): FlowRow | undefined {
  if (scope === undefined) return flow;
  const { source, destination } = flow;
  const seesSource = isSeen(source, scope);
  const seesDestination = isSeen(destination, scope);
  if (!seesSource && !seesDestination) return undefined;
  const { rule, auditRule, ...rest } = flow;
  return {
    ...rest,
    // The names of an address are those that the other end asked for; what was asked or said is the source's.
    source: {
      ...source,
      ...(seesSource ? {} : { labels: [] }),
      ...(seesDestination ? {} : { names: [] }),
    },
    destination: {
      ...destination,
      ...(seesDestination ? {} : { labels: [] }),
      ...(seesSource ? {} : { names: [] }),
    },
    detail: seesSource ? flow.detail : '',
    ...seenRule('rule', rule, scope),
    ...seenRule('auditRule', auditRule, scope),
  };
}

/** What a filter asks that only who sees an end may know: of which ends. */
const ASKS: Readonly<Record<string, readonly ('source' | 'destination')[]>> = {
  label: ['source', 'destination'],
  'from-label': ['source'],
  'to-label': ['destination'],
  'dns-query': ['source'],
  'http-method': ['source'],
  'http-path': ['source'],
  'server-name': ['source'],
  fqdn: ['source', 'destination'],
  'to-fqdn': ['source'],
};

/**
 * Whether a filter would tell by its result what is not shown: then the flow is left out, whatever the result.
 * Somebody who may not see labels could else ask for one after the other.
 */
export function isAskedAway({ source, destination }: FlowRow, chips: readonly Chip[], scope: Scope): boolean {
  if (scope === undefined) return false;
  const ends = { source, destination };
  return chips.some(({ key }) => (ASKS[key] ?? []).some((end) => !isSeen(ends[end], scope)));
}

/** Of a node, whoever may not see the whole cluster is told that it is there: its numbers count what others do. */
export function seenNode(node: NodeBrief, scope: Scope): NodeBrief {
  if (scope === undefined) return node;
  const { name, connected } = node;
  return { name, connected, message: '' };
}

const NO_ANSWER = 'the source does not answer';

/**
 * The error of a source as a viewer may be told it: what it says of itself, and of nodes, has addresses and names in it.
 * What is wrong with the question itself is told to everybody.
 */
export async function seenError(e: unknown, viewer: Viewer): Promise<unknown> {
  if (!(e instanceof AgentError) || isOfAsker(e)) return e;
  // If nobody can say what may be seen, it is nothing.
  const scope = await viewer.scope().catch(() => NOTHING);
  return scope === undefined
    ? e
    : new AgentError(e.code, NO_ANSWER, { hint: 'who may see the whole cluster is told why' });
}

/** Why something does not come, without addresses and names of what it comes from. */
export function seenTrouble(message: string, scope: Scope): string {
  return scope === undefined || message === '' ? message : NO_ANSWER;
}

function isSeen({ namespace }: FlowEnd, scope: Scope): boolean {
  return namespace !== '' && mayUse(scope, namespace);
}

/** Rules of the whole cluster concern everybody; those of a namespace only who may see it. */
function seenRule<K extends 'rule' | 'auditRule'>(key: K, rule: RuleName | undefined, scope: Scope) {
  return rule !== undefined && (rule.namespace === '' || mayUse(scope, rule.namespace)) ? { [key]: rule } : {};
}
