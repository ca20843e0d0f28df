/** Leaves out what a viewer may not see: an edge or flow shows if either side may be seen, without the other's labels. */
import type { EdgeInfo, FlowEnd, FlowRow, RuleName } from '../wire/messages.js';
import { mayUse, type Scope } from './viewer.js';

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
    source: seesSource ? source : { ...source, labels: [] },
    destination: seesDestination ? destination : { ...destination, labels: [] },
    // What was asked or said is the source's.
    detail: seesSource ? flow.detail : '',
    ...seenRule('rule', rule, scope),
    ...seenRule('auditRule', auditRule, scope),
  };
}

function isSeen({ namespace }: FlowEnd, scope: Scope): boolean {
  return namespace !== '' && mayUse(scope, namespace);
}

/** Rules of the whole cluster concern everybody; those of a namespace only who may see it. */
function seenRule<K extends 'rule' | 'auditRule'>(key: K, rule: RuleName | undefined, scope: Scope) {
  return rule !== undefined && (rule.namespace === '' || mayUse(scope, rule.namespace)) ? { [key]: rule } : {};
}
