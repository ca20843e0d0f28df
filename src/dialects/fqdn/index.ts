/**
 * Translates FQDNNetworkPolicies (networking.gke.io) to IR: GKE's own (v1alpha1, v1: `egress[].matches[]`), and those
 * of the open-source add-on of the same kind (v1alpha2, v1alpha3: `egress[].to[].fqdns[]`). The version tells which one
 * it is.
 *
 * The policies are combined with a pod's NetworkPolicies: a selected pod is isolated, and each rule adds to what it may
 * reach. GKE's engine is Cilium's, where no name means a pod or a node. The add-on resolves its names and writes
 * NetworkPolicies with the addresses, whosever they are. An invalid rule allows nothing.
 */
import { isRecord } from '../../identity/fields.js';
import { apiGroup } from '../../identity/kinds.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { LabelExpr, Peer } from '../../ir/peers.js';
import type { PolicyRef, PortMatch, Rule } from '../../ir/types.js';
import { parseProtocol, TCP, UDP } from '../../net/protocol.js';
import {
  type Dialect,
  type Fault,
  NETWORK_POLICY_ORDER,
  selfAndOwnNode,
  TIERS,
  type Understood,
} from '../base/dialect.js';
import { exactName, gkePattern, namesPeers, outsideNames } from '../base/names.js';
import { addOnSchema, gkeSchema } from './schema.js';
import { compileSchema, shapeFaults, withoutNulls } from '../base/schema.js';
import { type LabelSelector, labelSelector } from '../base/selectors.js';

/** The same as for NetworkPolicies, to which the add-on translates its objects. */
const IMPLICIT = selfAndOwnNode({ dialect: 'fqdn', kind: 'FQDNNetworkPolicy', name: '*' });

const validateGke = compileSchema(gkeSchema);
const validateAddOn = compileSchema(addOnSchema);

/** The versions of the add-on. All others are GKE's. */
const ADD_ON: ReadonlySet<string> = new Set(['networking.gke.io/v1alpha2', 'networking.gke.io/v1alpha3']);
const GKE: ReadonlySet<string> = new Set(['networking.gke.io/v1alpha1', 'networking.gke.io/v1']);

export const fqdnNetworkPolicy: Dialect = {
  name: 'fqdn',
  claims: ({ apiVersion, kind }) => kind === 'FQDNNetworkPolicy' && apiGroup(apiVersion) === 'networking.gke.io',
  understand,
};

type Report = (fault: Fault) => void;

function understand(raw: RawPolicy): Understood {
  const namespace = raw.namespace ?? 'default';
  const object = withoutNulls(raw.object) as Record<string, unknown>;
  const addOn = ADD_ON.has(raw.apiVersion);
  const faults = shapeFaults(addOn ? validateAddOn : validateGke, object);
  const error = (field: string, message: string, hint: string) =>
    faults.push({ severity: 'error', field, message, hint });
  const shape = faults.map((f) => f.field);
  const sound = (path: string) => !shape.some((field) => within(field, path));
  const known = addOn || GKE.has(raw.apiVersion);
  if (!known) {
    error('apiVersion', `${raw.apiVersion} is not known`, 'write networking.gke.io/v1alpha1');
  }
  const spec = isRecord(object.spec) ? object.spec : {};
  if (object.spec === undefined) error('spec', 'is missing', 'say which pods it selects and what they may reach');
  const readable = isRecord(object.spec) && sound('spec.podSelector');
  const pods = readable ? readSubject(spec, faults) : undefined;
  const ref: PolicyRef = { dialect: 'fqdn', kind: raw.kind, namespace, name: raw.name, labels: labelsOf(object) };
  const concerns = !addOn || concernsEgress(spec, sound);
  const entries: readonly unknown[] = concerns && Array.isArray(spec.egress) ? spec.egress : [];
  const rules = entries.map((entry, index): Rule => {
    const path = `spec.egress[${index}]`;
    const of = { policy: ref, index, tier: TIERS.default.name, staged: false, action: 'allow' } as const;
    const closed = Object.freeze<Rule>({ ref: of, action: 'allow', peers: [], ports: [] });
    if (!known || !sound(path)) return closed;
    let errors = false;
    const report: Report = (f) => {
      errors ||= f.severity === 'error';
      faults.push(f);
    };
    const meaning = addOn
      ? readAddOnRule(entry as AddOnRule, path, report)
      : readGkeRule(entry as GkeRule, path, report);
    return errors ? closed : Object.freeze<Rule>({ ref: of, action: 'allow', ...meaning });
  });
  const subject = { namespaces: { names: [namespace] }, pods: pods ?? ({ op: 'true' } as const) };
  const policy = Object.freeze({ ref, subject, rules: pods ? rules : [], implicit: IMPLICIT, staged: false });
  return {
    policies: concerns ? [{ tier: TIERS.default, order: [NETWORK_POLICY_ORDER], policy }] : [],
    faults: faults.map((f) => (concerns ? withEffect(f, namespace) : f)),
    good: !faults.some((f) => f.severity === 'error'),
  };
}

/** undefined: the selector is invalid. */
function readSubject(spec: Record<string, unknown>, faults: Fault[]): LabelExpr | undefined {
  if (spec.podSelector === undefined) {
    const hint = 'write podSelector: {} to select all pods';
    faults.push({
      severity: 'warning',
      field: 'spec.podSelector',
      message: 'is missing: every pod of the namespace is selected',
      hint,
    });
  }
  let broken = false;
  const pods = labelSelector((spec.podSelector ?? {}) as LabelSelector, 'spec.podSelector', (f) => {
    broken ||= f.severity === 'error';
    faults.push(f);
  });
  return broken ? undefined : pods;
}

/** Evaluates the add-on's policyTypes like those of a NetworkPolicy. */
function concernsEgress(spec: Record<string, unknown>, sound: (path: string) => boolean): boolean {
  if (!sound('spec')) return true;
  const types = (spec.policyTypes ?? []) as readonly string[];
  return types.length > 0 ? types.includes('Egress') : spec.egress !== undefined;
}

interface GkeRule {
  readonly matches?: readonly { readonly name?: string; readonly pattern?: string }[];
  readonly ports?: readonly { readonly protocol?: 'TCP' | 'UDP' | 'ALL'; readonly port?: number }[];
}
interface AddOnRule {
  readonly to?: readonly { readonly fqdns: readonly string[] }[];
  readonly ports?: readonly {
    readonly protocol?: 'TCP' | 'UDP' | 'SCTP';
    readonly port?: number | string;
    readonly endPort?: number;
  }[];
}

type Meaning = Pick<Rule, 'peers' | 'ports'>;

function readGkeRule({ matches = [], ports = [] }: GkeRule, path: string, report: Report): Meaning {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  if (matches.length === 0) error(`${path}.matches`, 'names nothing', 'list names or patterns');
  const patterns = matches.flatMap(({ name, pattern }, i) => {
    const field = `${path}.matches[${i}]`;
    if ((name === undefined) === (pattern === undefined)) {
      error(field, name === undefined ? 'names nothing' : 'has a name and a pattern', 'give it a name or a pattern');
    }
    return [
      name === undefined ? undefined : exactName(name, `${field}.name`, report),
      pattern === undefined ? undefined : gkePattern(pattern, `${field}.pattern`, report),
    ].filter((one) => one !== undefined);
  });
  const read = ports.flatMap(({ protocol = 'TCP', port }, i): PortMatch[] => {
    checkPort(port, `${path}.ports[${i}].port`, report);
    const protocols = protocol === 'ALL' ? [TCP, UDP] : [protocol === 'UDP' ? UDP : TCP];
    return protocols.map((one) => (port === undefined ? { protocol: one } : { protocol: one, ports: [[port, port]] }));
  });
  return { peers: outsideNames(patterns), ports: ports.length === 0 ? null : read };
}

function readAddOnRule({ to = [], ports = [] }: AddOnRule, path: string, report: Report): Meaning {
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  if (to.every(({ fqdns }) => fqdns.length === 0)) error(`${path}.to`, 'names nothing', 'list fqdns');
  const patterns = to.flatMap(({ fqdns }, i) =>
    fqdns.flatMap((name, j) => exactName(name, `${path}.to[${i}].fqdns[${j}]`, report) ?? []),
  );
  const read = ports.map(({ protocol, port, endPort }, i): PortMatch => {
    const field = `${path}.ports[${i}]`;
    const number = parseProtocol(protocol ?? 'TCP') ?? TCP;
    checkPort(endPort, `${field}.endPort`, report);
    if (typeof port === 'string') {
      error(`${field}.port`, 'is a port name: only pods give ports names', 'use a port number');
      return { protocol: number };
    }
    checkPort(port, `${field}.port`, report);
    if (endPort !== undefined && (port === undefined || endPort < port)) {
      error(`${field}.endPort`, `${endPort} needs a smaller port to start from`, 'the range is port to endPort');
    }
    return port === undefined ? { protocol: number } : { protocol: number, ports: [[port, endPort ?? port]] };
  });
  const peers: Peer[] = namesPeers(patterns);
  return { peers, ports: ports.length === 0 ? null : read };
}

function checkPort(port: number | undefined, field: string, report: Report): void {
  if (port === undefined || (port >= 1 && port <= 65535)) return;
  report({ severity: 'error', field, message: `${port} is not a port`, hint: 'use 1 to 65535' });
}

/** Whether a field path is equal to another or below it. */
function within(field: string, path: string): boolean {
  return field === path || (field.startsWith(path) && (field[path.length] === '.' || field[path.length] === '['));
}

function withEffect(f: Fault, namespace: string): Fault {
  if (f.severity !== 'error') return f;
  const rule = /^spec\.egress\[\d+\]/.exec(f.field);
  if (rule) return { ...f, effect: `${rule[0]} allows nothing` };
  if (f.field === 'spec' || within(f.field, 'spec.podSelector'))
    return { ...f, effect: `it isolates every pod of namespace ${namespace} and allows nothing` };
  return { ...f, effect: 'the pods that it selects may reach nothing by this policy' };
}

function labelsOf(object: Record<string, unknown>): PolicyRef['labels'] {
  const labels = isRecord(object.metadata) ? object.metadata.labels : undefined;
  if (!isRecord(labels)) return undefined;
  return Object.fromEntries(
    Object.entries(labels).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
