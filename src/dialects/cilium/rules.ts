/** Translates one rule of egress or egressDeny to peers and ports. */
import type { Peer } from '../../ir/peers.js';
import type { PortMatch, Rule } from '../../ir/types.js';
import type { Fault } from '../base/dialect.js';
import { outsideNames } from '../base/names.js';
import type { LabelSelector } from '../base/selectors.js';
import { type CidrRule, cidrPeers, cidrSetPeers } from './cidrs.js';
import type { Context } from './context.js';
import { entityPeer, remoteNodes } from './entities.js';
import { endpointPeer, nodeExpr, plainExpr } from './labels.js';
import { type NameSpec, patternOf } from './names.js';
import { type IcmpRule, icmpMatches, type PortGroup, type PortRule, portGroups } from './ports.js';

interface ServiceSpec {
  readonly k8sService?: { readonly serviceName?: string; readonly namespace?: string };
  readonly k8sServiceSelector?: { readonly selector: LabelSelector; readonly namespace?: string };
}

/** EgressRule and EgressDenyRule (pkg/policy/api/egress.go) with a valid shape. */
export interface EgressRule {
  readonly toEndpoints?: readonly LabelSelector[];
  readonly toRequires?: readonly LabelSelector[];
  readonly toNodes?: readonly LabelSelector[];
  readonly toCIDR?: readonly string[];
  readonly toCIDRSet?: readonly CidrRule[];
  readonly toEntities?: readonly string[];
  readonly toServices?: readonly ServiceSpec[];
  readonly toGroups?: readonly object[];
  readonly toFQDNs?: readonly NameSpec[];
  readonly toPorts?: readonly PortRule[];
  readonly icmps?: readonly IcmpRule[];
  readonly authentication?: { readonly mode: string };
}

/** The fields of layer 3. A rule has at most one of them. */
const PLACES = [
  'toEndpoints',
  'toCIDR',
  'toCIDRSet',
  'toEntities',
  'toServices',
  'toNodes',
  'toFQDNs',
  'toGroups',
] as const satisfies readonly (keyof EgressRule)[];

/** `tells`: it is a rule that logs. */
export type Meaning = Pick<Rule, 'peers' | 'ports' | 'queries' | 'serverNames' | 'http'> & { readonly tells?: true };

/**
 * Translates a rule. Items of toPorts that ask for more than ports become rules of their own. Faults go to the context's
 * report; if one is an error, the caller must ignore the result.
 */
export function readRule(rule: EgressRule, path: string, context: Context): Meaning[] {
  const { report } = context;
  const error = (field: string, message: string, hint: string) => report({ severity: 'error', field, message, hint });
  const { toPorts = [], icmps = [] } = rule;
  if (toPorts.length > 0 && icmps.length > 0) {
    error(`${path}.icmps`, 'cannot stand beside toPorts', 'split it into two rules');
  }
  if ((rule.toRequires ?? []).length > 0) {
    const hint = 'add the labels to each selector of toEndpoints';
    error(`${path}.toRequires`, 'is not enforced: it would narrow the rules of every other policy', hint);
  }
  const { authentication } = rule;
  if (authentication !== undefined && authentication.mode !== 'disabled') {
    const hint = 'remove it to allow connections that are not authenticated';
    error(`${path}.authentication`, 'is not enforced: peers are not authenticated by certificates', hint);
  }
  const groups = portGroups(toPorts, `${path}.toPorts`, context);
  const messages = icmpMatches(icmps, `${path}.icmps`, context);
  const anyPort = toPorts.length === 0 && icmps.length === 0;
  const peers = readPlaces(rule, path, context);
  if (rule.toFQDNs?.length && groups.some(({ ports }) => ports.some((p) => p.named !== undefined))) {
    const message = 'has a port name: a pod gives it, and names never mean a pod';
    error(`${path}.toPorts`, message, 'use port numbers');
  }
  if (peers === null && anyPort) {
    // Without layer 3 and 4, mergeEgress (pkg/policy/rule.go) adds nothing; Cilium's guide uses `egress: [{}]` to deny
    // all.
    if (context.deny) {
      const hint = 'to deny everything write toEntities: [all]';
      report({
        severity: 'warning',
        field: path,
        message: 'names neither destinations nor ports: it denies nothing',
        hint,
      });
    }
    return [{ peers: [], ports: [] }];
  }
  if (anyPort) return [{ peers, ports: null }];
  return meanings(peers, groups, messages);
}

function meanings(peers: Peer[] | null, groups: readonly PortGroup[], messages: readonly PortMatch[]): Meaning[] {
  const isPlain = ({ queries, serverNames, http }: PortGroup) => !queries && !serverNames && !http;
  const plain = [...groups.filter(isPlain).flatMap(({ ports }) => ports), ...messages];
  const asked = groups
    .filter((group) => !isPlain(group))
    .map(({ log, ...group }): Meaning => ({ peers, ...group, ...(log ? { tells: true } : {}) }));
  // What logs must stand before what decides.
  const telling = asked.filter(({ tells }) => tells);
  const deciding = asked.filter(({ tells }) => !tells);
  const all = plain.length > 0 || asked.length === 0 ? [{ peers, ports: plain }] : [];
  return [...telling, ...all, ...deciding];
}

/** null: no field of layer 3. An empty list in such a field selects nothing. */
function readPlaces(rule: EgressRule, path: string, context: Context): Peer[] | null {
  const { report } = context;
  const present = PLACES.filter((key) => rule[key] !== undefined);
  if (present.length === 0) return null;
  const filled = present.filter((key) => rule[key]?.length !== 0);
  if (filled.length > 1) {
    const hint = 'make a rule of each of them';
    report({ severity: 'error', field: path, message: `has ${filled.join(' and ')}: they cannot be combined`, hint });
    return [];
  }
  return [
    ...(rule.toEndpoints ?? []).map((s, i) => endpointPeer(s, `${path}.toEndpoints[${i}]`, context)),
    ...cidrPeers(rule.toCIDR ?? [], `${path}.toCIDR`, context),
    ...cidrSetPeers(rule.toCIDRSet ?? [], `${path}.toCIDRSet`, context),
    ...(rule.toEntities ?? []).map((e, i) => entityPeer(e, `${path}.toEntities[${i}]`, context)),
    ...(rule.toServices ?? []).map((s, i) => servicePeer(s, `${path}.toServices[${i}]`, report)),
    ...(rule.toNodes ?? []).map((s, i): Peer => remoteNodes(nodeExpr(s, `${path}.toNodes[${i}]`, report))),
    ...outsideNames((rule.toFQDNs ?? []).flatMap((s, i) => patternOf(s, `${path}.toFQDNs[${i}]`, report) ?? [])),
    ...refused(rule, path, report),
  ];
}

function refused({ toGroups = [] }: EgressRule, path: string, report: Context['report']): Peer[] {
  if (toGroups.length > 0) {
    const [message, hint] = ['groups of cloud providers are not resolved', 'name their addresses, by toCIDR'];
    report({ severity: 'error', field: `${path}.toGroups`, message, hint });
  }
  return [];
}

/**
 * pkg/policy/k8s/service.go: without a namespace, Services of any namespace match. A selector has precedence over a
 * name.
 */
function servicePeer(spec: ServiceSpec, path: string, report: (fault: Fault) => void): Peer {
  const { k8sService, k8sServiceSelector } = spec;
  const namespaces = (name: string | undefined) =>
    name === undefined || name === '' ? ({ labels: { op: 'true' } } as const) : { names: [name] };
  if (k8sServiceSelector) {
    const labels = plainExpr(k8sServiceSelector.selector, `${path}.k8sServiceSelector.selector`, report);
    return { kind: 'services', namespaces: namespaces(k8sServiceSelector.namespace), labels };
  }
  const name = k8sService?.serviceName;
  if (name === undefined || name === '') {
    const hint = 'give it a k8sService with serviceName, or a k8sServiceSelector';
    report({ severity: 'error', field: path, message: 'names no Service', hint });
    return { kind: 'some', of: [] };
  }
  return { kind: 'services', namespaces: namespaces(k8sService?.namespace), name, labels: { op: 'true' } };
}
