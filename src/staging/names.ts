/** Names of policies as users write them: as rules have them, or as kubectl and Events do. */
import { AgentError } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import { apiGroup } from '../identity/kinds.js';
import { formatPolicy, shortKind } from '../ir/names.js';
import type { PolicyRef } from '../ir/types.js';
import type { PlainObject } from './forms.js';

/** A policy that a user named. */
export interface PolicyName {
  readonly kind: string;
  /** API groups that may have it, the likeliest first. */
  readonly groups: readonly string[];
  /** Absent for cluster-wide kinds. */
  readonly namespace?: string;
  readonly name: string;
  /** As rules have it: `np/shop/web`. */
  readonly text: string;
}

interface Kind {
  readonly dialect: string;
  readonly kind: string;
  readonly groups: readonly string[];
  readonly namespaced: boolean;
}

const CALICO = ['crd.projectcalico.org', 'projectcalico.org'];
const POLICY = 'policy.networking.k8s.io';
const AWS = 'networking.k8s.aws';

const KINDS: readonly Kind[] = [
  kind('networkpolicy', 'NetworkPolicy', ['networking.k8s.io'], true),
  kind('networkpolicy', 'ApplicationNetworkPolicy', [AWS], true),
  kind('clusternetworkpolicy', 'ClusterNetworkPolicy', [POLICY, AWS, 'networking.x-k8s.io'], false),
  kind('clusternetworkpolicy', 'AdminNetworkPolicy', [POLICY], false),
  kind('clusternetworkpolicy', 'BaselineAdminNetworkPolicy', [POLICY], false),
  kind('calico', 'NetworkPolicy', CALICO, true),
  kind('calico', 'GlobalNetworkPolicy', CALICO, false),
  kind('calico', 'StagedNetworkPolicy', CALICO, true),
  kind('calico', 'StagedGlobalNetworkPolicy', CALICO, false),
  kind('calico', 'StagedKubernetesNetworkPolicy', CALICO, true),
  kind('cilium', 'CiliumNetworkPolicy', ['cilium.io'], true),
  kind('cilium', 'CiliumClusterwideNetworkPolicy', ['cilium.io'], false),
  kind('fqdn', 'FQDNNetworkPolicy', ['networking.gke.io'], true),
];

function kind(dialect: string, name: string, groups: readonly string[], namespaced: boolean): Kind {
  return { dialect, kind: name, groups, namespaced };
}

/** What the API server takes for a name (RFC 1123): it becomes part of a path. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

/**
 * Parses `np/shop/web`, `cnp/deny-all`, `NetworkPolicy shop/web`, `NetworkPolicy/shop/web`, and
 * `ClusterNetworkPolicy.networking.k8s.aws deny-all`.
 * @throws AgentError USAGE
 */
export function parsePolicyName(text: string): PolicyName {
  const parts = text.trim().split(/[\s/]+/);
  const [title = '', ...path] = parts;
  if (text.includes('#'))
    throw fault(
      `${text} is a rule`,
      `its policy is ${text.slice(0, text.indexOf('#')).trim() || 'what is before the #'}`,
    );
  const [word = '', ...rest] = title.split('.');
  const group = rest.join('.');
  const found = KINDS.find((k) => shortKind(k.dialect, k.kind) === title || (k.kind === word && matches(k, group)));
  if (!found) {
    const known = KINDS.map((k) => shortKind(k.dialect, k.kind)).join(', ');
    throw fault(
      `${text} names no policy: there is no kind ${title === '' ? 'in it' : title}`,
      `the kinds are ${known}; or as in "NetworkPolicy shop/web"`,
    );
  }
  const short = shortKind(found.dialect, found.kind);
  const form = found.namespaced ? `${short}/NAMESPACE/NAME` : `${short}/NAME`;
  if (path.length !== (found.namespaced ? 2 : 1))
    throw fault(`${text} names no ${found.kind}`, `it is written ${form}`);
  for (const part of path)
    if (!NAME.test(part)) throw fault(`${text}: ${part} cannot be a name`, `it is written ${form}`);
  const name = path.at(-1) as string;
  const place = found.namespaced ? { namespace: path[0] as string } : {};
  const groups = group === '' ? found.groups : [group];
  const shown = formatPolicy({ dialect: found.dialect, kind: found.kind, name, ...place });
  return { kind: found.kind, groups, ...place, name, text: shown };
}

/**
 * The name of the policy that an object is.
 * @throws AgentError USAGE; it names the field that is missing or wrong, or says that the kind is no policy's
 */
export function policyNameOf({ apiVersion, kind, metadata }: PlainObject): PolicyName {
  const field = (at: string, value: unknown): string => {
    if (typeof value === 'string' && value !== '') return value;
    throw ofField(at, value === undefined || value === null ? 'is missing' : 'is not a text');
  };
  const [version, title] = [field('apiVersion', apiVersion), field('kind', kind)];
  const group = apiGroup(version);
  const found = KINDS.find((k) => k.kind === title && k.groups.includes(group));
  if (!found) throw ofField('kind', `${shown(title)} of ${shown(version)} is no policy that is known`);
  if (!isRecord(metadata)) throw ofField('metadata', 'is missing');
  const part = (at: string, value: unknown): string => {
    const text = field(at, value);
    if (!NAME.test(text)) throw ofField(at, `${shown(text)} cannot be a name`);
    return text;
  };
  const name = part('metadata.name', metadata.name);
  if (!found.namespaced && metadata.namespace !== undefined)
    throw ofField('metadata.namespace', `a ${title} is of the whole cluster, and in no namespace`);
  const place = found.namespaced ? { namespace: part('metadata.namespace', metadata.namespace) } : {};
  const text = formatPolicy({ dialect: found.dialect, kind: title, name, ...place });
  return { kind: title, groups: [group], ...place, name, text };
}

/** What others wrote, in a message. */
function shown(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
}

function ofField(field: string, message: string): AgentError {
  return new AgentError('USAGE', `${field}: ${message}`, { where: { field } });
}

function matches({ groups }: Kind, group: string): boolean {
  return group === '' || groups.includes(group);
}

function fault(message: string, hint: string): AgentError {
  return new AgentError('USAGE', message, { hint });
}

/** The names under which rules know a policy and its other form. */
export function bothNames({ text }: Pick<PolicyName, 'text'>): readonly string[] {
  const [short = '', ...path] = text.split('/');
  const other = TWINS.flatMap(([a, b]) => (short === a ? [b] : short === b ? [a] : []));
  return [text, ...other.map((one) => [one, ...path].join('/'))];
}

/** Short names of Calico's kinds, and of their Staged ones. */
const TWINS = [
  ['calico', 'snp'],
  ['gnp', 'sgnp'],
  ['np', 'sknp'],
] as const;

/** Whether a rule's policy has one of these names. */
export function isOf(ref: PolicyRef, names: readonly string[]): boolean {
  return names.includes(formatPolicy(ref));
}
