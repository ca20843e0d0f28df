/**
 * Translates Kubernetes NetworkPolicies (networking.k8s.io/v1), their egress half, to IR, and AWS' kind of the same
 * shape that application.ts describes.
 *
 * All policies are in one tier, `default`. A pod that any of them selects is isolated, and each rule of each policy
 * adds to what it may reach. Faults of an object close, and never open: an invalid rule allows nothing, and a policy
 * with an invalid podSelector isolates every pod of the namespace and allows nothing.
 */
import { canonicalCidr4, cidrCovers, tryParseCidr } from '../../net/addr.js';
import { parseProtocol, TCP } from '../../net/protocol.js';
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { LabelExpr, Peer } from '../../ir/peers.js';
import type { PolicyRef, PortMatch, Rule } from '../../ir/types.js';
import {
  type Dialect,
  type Fault,
  NETWORK_POLICY_ORDER,
  selfAndOwnNode,
  TIERS,
  type Understood,
} from '../base/dialect.js';
import { networkPolicySchema } from './schema.js';
import { domainName, namesPeers } from '../base/names.js';
import { compileSchema, shapeFaults, type Validator, withoutNulls } from '../base/schema.js';
import { type LabelSelector, labelSelector } from '../base/selectors.js';

/** The properties of one kind of policies of this shape. */
export interface Variant {
  /** PolicyRef.dialect. */
  readonly dialect: string;
  readonly apiVersion: string;
  readonly validate: Validator;
  /** Traffic that no such policy can deny. */
  readonly implicit: readonly Rule[];
}

interface PeerSpec {
  readonly podSelector?: LabelSelector;
  readonly namespaceSelector?: LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
  /** AWS' field. */
  readonly domainNames?: readonly string[];
}
interface PortSpec {
  readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
  readonly port?: number | string;
  readonly endPort?: number;
}
interface EgressSpec {
  readonly to?: readonly PeerSpec[];
  readonly ports?: readonly PortSpec[];
}

const NONE: readonly string[] = [];

/** API groups. The second is that of Kubernetes before 1.7, with the same shape. */
const GROUPS = ['networking.k8s.io', 'extensions'];

const plain: Variant = {
  dialect: 'networkpolicy',
  apiVersion: 'networking.k8s.io/v1',
  validate: compileSchema(networkPolicySchema),
  implicit: selfAndOwnNode({ dialect: 'networkpolicy', kind: 'NetworkPolicy', name: '*' }),
};

export const networkPolicy: Dialect = {
  name: 'networkpolicy',
  // Calico has a kind of the same name.
  claims: ({ apiVersion, kind }) => kind === 'NetworkPolicy' && GROUPS.includes(apiGroup(apiVersion)),
  understand: (raw) => understandVariant(plain, raw),
};

export function understandVariant(variant: Variant, raw: RawPolicy): Understood {
  const namespace = raw.namespace ?? 'default';
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const faults = shapeFaults(variant.validate, object);
  if (raw.apiVersion !== variant.apiVersion) faults.push(versionFault(raw.apiVersion, variant));
  const spec = isRecord(object.spec) ? object.spec : {};
  if (object.spec === undefined) {
    faults.push({
      severity: 'warning',
      field: 'spec',
      message: 'is missing: the policy has no effect on egress',
      hint: 'say which pods it selects and what they may reach',
    });
  }
  /** Whether the part at this path has no faults of shape. */
  const sound = (path: string) => !faults.some((f) => f.severity === 'error' && within(f.field, path));

  const malformed = object.spec !== undefined && !isRecord(object.spec);
  const before = faults.length;
  const pods = readSubject(spec, sound('spec.podSelector') && !malformed, faults);
  const subjectBroken = pods === undefined || faults.slice(before).some((f) => f.severity === 'error');
  const concerns = malformed || concernsEgress(spec, sound, faults);
  const ref: PolicyRef = {
    dialect: variant.dialect,
    kind: raw.kind,
    namespace,
    name: raw.name,
    labels: policyLabels(object),
  };
  const read = concerns ? readRules(spec, ref, namespace, sound, faults) : [];
  // Rules for unknown pods must not open pods that another policy isolates.
  const rules = subjectBroken ? [] : read;
  const good = !faults.some((f) => f.severity === 'error');
  const subject = { namespaces: { names: [namespace] }, pods: subjectBroken ? ({ op: 'true' } as const) : pods };
  return {
    policies: concerns
      ? [
          {
            tier: TIERS.default,
            order: [NETWORK_POLICY_ORDER],
            policy: Object.freeze({ ref, subject, rules, implicit: variant.implicit, staged: false }),
          },
        ]
      : [],
    faults: faults.map((f) => withEffect(f, namespace, concerns)),
    good,
  };
}

function within(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && (field[path.length] === '.' || field[path.length] === '['));
}

/** Adds to a fault what it means for enforcement. */
function withEffect(f: Fault, namespace: string, concerns: boolean): Fault {
  if (f.severity !== 'error') return f;
  const rule = /^spec\.egress\[\d+\]/.exec(f.field);
  if (!concerns) return f;
  if (rule) return { ...f, effect: `${rule[0]} allows nothing` };
  if (f.field === 'spec' || within(f.field, 'spec.podSelector'))
    return { ...f, effect: `it isolates every pod of namespace ${namespace} and allows nothing` };
  if (within(f.field, 'spec.egress'))
    return { ...f, effect: 'the pods that it selects may reach nothing by this policy' };
  return f;
}

function versionFault(given: string, { dialect, apiVersion }: Variant): Fault {
  const what = dialect === plain.dialect ? 'is not served by Kubernetes any more' : 'is not a version that is known';
  const message = `${given} ${what}; it is read as ${apiVersion}`;
  return { severity: 'warning', field: 'apiVersion', message, hint: `write ${apiVersion}` };
}

/** undefined: the selector is invalid. */
function readSubject(spec: Record<string, unknown>, sound: boolean, faults: Fault[]): LabelExpr | undefined {
  if (!sound) return undefined;
  if (spec.podSelector === undefined && Object.keys(spec).length > 0) {
    const message = 'is missing: every pod of the namespace is selected';
    faults.push({
      severity: 'warning',
      field: 'spec.podSelector',
      message,
      hint: 'write podSelector: {} to select all pods',
    });
  }
  return labelSelector((spec.podSelector ?? {}) as LabelSelector, 'spec.podSelector', (f) => faults.push(f));
}

/**
 * Evaluates policyTypes, or its default: Ingress, and Egress if there is an `egress`. If the field is invalid, or a
 * field of the spec is unknown (a misspelt `egress`?), the policy isolates.
 */
function concernsEgress(spec: Record<string, unknown>, sound: (path: string) => boolean, faults: Fault[]): boolean {
  if (!sound('spec.policyTypes')) return true;
  const types = (spec.policyTypes ?? []) as readonly string[];
  const warn = (field: string, message: string, hint: string) =>
    faults.push({ severity: 'warning', field, message, hint });
  if (types.length > 0) {
    const egress = types.includes('Egress');
    if (!egress && Array.isArray(spec.egress) && spec.egress.length > 0) {
      warn(
        'spec.egress',
        'has no effect: policyTypes does not list Egress',
        'add Egress to policyTypes, or remove the rules',
      );
    }
    return egress;
  }
  if (Array.isArray(spec.egress) && spec.egress.length === 0) {
    // The API server's default depends on the length of the list, but an author who writes an empty list means to deny.
    warn(
      'spec.egress',
      'is empty and policyTypes is missing: a Kubernetes cluster would take this policy for Ingress only',
      'add policyTypes: [Egress]',
    );
  }
  if (spec.egress !== undefined) return true;
  return !sound('spec') && unknownFields(spec);
}

function unknownFields(spec: Record<string, unknown>): boolean {
  return Object.keys(spec).some((key) => !Object.hasOwn(networkPolicySchema.properties.spec.properties, key));
}

function readRules(
  spec: Record<string, unknown>,
  policy: PolicyRef,
  namespace: string,
  sound: (path: string) => boolean,
  faults: Fault[],
): Rule[] {
  if (!Array.isArray(spec.egress)) return [];
  return spec.egress.map((entry: unknown, index): Rule => {
    const path = `spec.egress[${index}]`;
    const ref = { policy, index, tier: TIERS.default.name, staged: false, action: 'allow' } as const;
    const closed: Rule = { ref, action: 'allow', peers: [], ports: [] };
    if (!sound(path)) return Object.freeze(closed);
    const { to = [], ports = [] } = entry as EgressSpec;
    const found: Fault[] = [];
    const report = (f: Fault) => found.push(f);
    const peers = to.map((peer, i) => readPeer(peer, namespace, `${path}.to[${i}]`, report));
    const matches = ports.length === 0 ? null : ports.map((p, i) => readPort(p, `${path}.ports[${i}]`, report));
    if (peers.some((peer) => peer.kind === 'names') && matches?.some((match) => match.named !== undefined)) {
      const message = 'a port name means nothing beside domainNames: pods give names to ports';
      const hint = 'use port numbers for domain names';
      report({ severity: 'warning', field: `${path}.ports`, message, hint });
    }
    faults.push(...found);
    const rule: Rule = { ref, action: 'allow', peers: to.length === 0 ? null : peers, ports: matches };
    return Object.freeze(found.some((f) => f.severity === 'error') ? closed : rule);
  });
}

type Report = (fault: Fault) => void;

function readPeer(peer: PeerSpec, namespace: string, path: string, report: Report): Peer {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const { podSelector, namespaceSelector, ipBlock, domainNames } = peer;
  if (domainNames) {
    if (podSelector || namespaceSelector || ipBlock) {
      error(path, 'has domainNames and something else', 'split it into two items, each with its own dash');
    }
    if (domainNames.length === 0) error(`${path}.domainNames`, 'is empty', 'list at least one name');
    const patterns = domainNames.flatMap((n, i) => domainName(n, `${path}.domainNames[${i}]`, report) ?? []);
    return namesPeers(patterns)[0] ?? { kind: 'some', of: [] };
  }
  if (ipBlock) {
    if (podSelector || namespaceSelector) {
      error(path, 'has an ipBlock and a selector', 'split it into two items, each with its own dash');
    }
    return readBlock(ipBlock, `${path}.ipBlock`, report);
  }
  if (!podSelector && !namespaceSelector) {
    error(
      path,
      'is empty',
      'give it a podSelector, a namespaceSelector or an ipBlock; to allow every destination, leave `to` out',
    );
  }
  return {
    kind: 'pods',
    namespaces: namespaceSelector
      ? { labels: labelSelector(namespaceSelector, `${path}.namespaceSelector`, report) }
      : { names: [namespace] },
    pods: podSelector ? labelSelector(podSelector, `${path}.podSelector`, report) : { op: 'true' },
  };
}

function readBlock(block: NonNullable<PeerSpec['ipBlock']>, path: string, report: Report): Peer {
  // Fast path: lists of a million blocks consist of these.
  if (!block.except?.length && canonicalCidr4(block.cidr) >= 0) return { kind: 'cidr', cidr: block.cidr, except: NONE };
  const read = (text: string, field: string) => {
    const cidr = text.includes('/') ? tryParseCidr(text) : undefined;
    if (!cidr) {
      const hint = tryParseCidr(text)
        ? 'add the prefix length: /32, or /128 for IPv6'
        : 'write it as address/prefix length, without leading zeros';
      report({ severity: 'error', field, message: `${JSON.stringify(text)} is not a CIDR`, hint });
    } else if (cidr.text !== text && !text.includes(':') && !text.startsWith(`${cidr.text.split('/')[0]}/`)) {
      const message = `${text} has bits set beyond its prefix; it is read as ${cidr.text}`;
      report({ severity: 'warning', field, message, hint: `write ${cidr.text}` });
    }
    return cidr;
  };
  const cidr = read(block.cidr, `${path}.cidr`);
  // Saves memory for lists of a million blocks: each block keeps the text of the object, and all share one empty list
  // of exceptions.
  const text = cidr === undefined ? '' : cidr.text === block.cidr ? block.cidr : cidr.text;
  if (!block.except?.length) return { kind: 'cidr', cidr: text, except: NONE };
  const except: string[] = [];
  block.except.forEach((text, i) => {
    const field = `${path}.except[${i}]`;
    const inner = read(text, field);
    if (!cidr || !inner) return;
    if (!cidrCovers(cidr, inner) || cidr.prefix === inner.prefix) {
      const message = `${inner.text} is not a part of ${cidr.text}`;
      report({
        severity: 'error',
        field,
        message,
        hint: 'an exception must lie inside the block and be smaller than it',
      });
    }
    except.push(inner.text);
  });
  return { kind: 'cidr', cidr: text, except };
}

/** IANA_SVC_NAME, as the API server checks it. */
const PORT_NAME = /^(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$/;

function readPort(spec: PortSpec, path: string, report: Report): PortMatch {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const protocol = parseProtocol(spec.protocol ?? 'TCP') ?? TCP;
  const { port, endPort } = spec;
  if (typeof port === 'string') {
    if (!PORT_NAME.test(port)) {
      const hint = /^\d+$/.test(port)
        ? 'write a port number without quotes'
        : 'use at most 15 lower-case letters, digits and single "-", with a letter';
      error(`${path}.port`, `${JSON.stringify(port)} is not a port name`, hint);
    }
    if (endPort !== undefined)
      error(`${path}.endPort`, 'needs a port number to start from', 'replace the port name by a number');
    return { protocol, named: port };
  }
  if (port === undefined) {
    if (endPort !== undefined) error(`${path}.endPort`, 'needs a port to start from', 'add port');
    return { protocol };
  }
  if (port < 1 || port > 65535) error(`${path}.port`, `${port} is not a port`, 'use 1 to 65535');
  if (endPort !== undefined && (endPort < port || endPort > 65535)) {
    error(`${path}.endPort`, `${endPort} must be from ${port} to 65535`, 'the range is port to endPort, both included');
  }
  return { protocol, ports: [[port, endPort ?? port]] };
}

function policyLabels(object: Record<string, unknown>): PolicyRef['labels'] {
  const labels = isRecord(object.metadata) ? object.metadata.labels : undefined;
  if (!isRecord(labels)) return undefined;
  return Object.fromEntries(
    Object.entries(labels).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
