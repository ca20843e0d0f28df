/** Completes names of fields: those of the policy languages that concern egress. */
import type { Completion, CompletionContext, CompletionResult } from '@codemirror/autocomplete';

/** By the field that they are below, and `` for the top. */
const FIELDS: Readonly<Record<string, readonly string[]>> = {
  '': ['apiVersion', 'kind', 'metadata', 'spec', 'specs'],
  metadata: ['name', 'namespace', 'labels', 'annotations'],
  annotations: ['egress-agent.io/enforcement'],
  spec: [
    ...['podSelector', 'policyTypes', 'egress', 'endpointSelector', 'nodeSelector', 'egressDeny', 'description'],
    ...['tier', 'order', 'selector', 'namespaceSelector', 'serviceAccountSelector', 'types', 'priority', 'subject'],
    ...['stagedAction', 'enableDefaultDeny'],
  ],
  podSelector: ['matchLabels', 'matchExpressions'],
  namespaceSelector: ['matchLabels', 'matchExpressions'],
  endpointSelector: ['matchLabels', 'matchExpressions'],
  egress: [
    ...['to', 'ports', 'action', 'protocol', 'destination', 'name', 'matches', 'http'],
    ...['toCIDR', 'toCIDRSet', 'toEndpoints', 'toEntities', 'toFQDNs', 'toPorts', 'toServices', 'icmps'],
  ],
  egressDeny: ['toCIDR', 'toCIDRSet', 'toEndpoints', 'toEntities', 'toPorts', 'icmps'],
  to: ['podSelector', 'namespaceSelector', 'ipBlock', 'pods', 'namespaces', 'networks', 'nodes', 'domainNames'],
  ipBlock: ['cidr', 'except'],
  ports: ['port', 'protocol', 'endPort', 'portNumber', 'portRange', 'namedPort'],
  toPorts: ['ports', 'serverNames', 'rules'],
  toFQDNs: ['matchName', 'matchPattern'],
  toEndpoints: ['matchLabels', 'matchExpressions'],
  toCIDRSet: ['cidr', 'except'],
  destination: ['nets', 'notNets', 'ports', 'notPorts', 'selector', 'namespaceSelector', 'domains', 'services'],
  matches: ['name', 'pattern'],
  matchExpressions: ['key', 'operator', 'values'],
  subject: ['namespaces', 'pods'],
};

/** Values of fields that have few. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  protocol: ['TCP', 'UDP', 'SCTP'],
  action: ['Allow', 'Deny', 'Log', 'Pass', 'Accept'],
  operator: ['In', 'NotIn', 'Exists', 'DoesNotExist'],
  'egress-agent.io/enforcement': ['audit'],
  stagedAction: ['Set', 'Delete', 'Ignore'],
};

/** Lines above the cursor that are looked through for the field around it. */
const MOST_LINES = 400;

export function completeFields(context: CompletionContext): CompletionResult | null {
  const line = context.state.doc.lineAt(context.pos);
  const before = line.text.slice(0, context.pos - line.from);
  const value = /^\s*(?:- )*([\w./-]+):\s+([\w-]*)$/.exec(before);
  if (value) {
    const options = VALUES[value[1] as string] ?? [];
    return options.length === 0 ? null : resultOf(context.pos - (value[2] as string).length, options, '');
  }
  const key = /^(\s*(?:- )*)([\w./-]*)$/.exec(before);
  if (!key || (key[2] === '' && !context.explicit)) return null;
  const [, indent = '', word = ''] = key;
  const fields = FIELDS[parentOf(context, line.number, indent.length)] ?? [];
  return fields.length === 0 ? null : resultOf(context.pos - word.length, fields, ': ');
}

function resultOf(from: number, words: readonly string[], ending: string): CompletionResult {
  const options: Completion[] = words.map((label) => ({ label, apply: `${label}${ending}`, type: 'property' }));
  return { from, options, validFor: /^[\w./-]*$/ };
}

/** The name of the field that a line with this indent is below. */
function parentOf(context: CompletionContext, number: number, indent: number): string {
  let least = indent;
  for (let n = number - 1; n > 0 && n > number - MOST_LINES; n--) {
    const match = /^(\s*(?:- )*)([\w./-]+):\s*$/.exec(context.state.doc.line(n).text);
    const own = match?.[1]?.length ?? 0;
    // A list may stand at the indent of its field.
    if (match && (own < least || (own === least && /- $/.test(context.state.doc.line(number).text.slice(0, indent)))))
      return match[2] as string;
    if (match) least = Math.min(least, own + 1);
    if (least === 0) break;
  }
  return '';
}
