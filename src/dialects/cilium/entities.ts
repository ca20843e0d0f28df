/** Entities: what has no labels of its own (pkg/policy/api/entity.go). */
import type { Peer } from '../../ir/peers.js';
import type { RawPolicy } from '../../identity/snapshot.js';
import type { Fault } from '../dialect.js';
import type { AskedGroups } from './cidrs.js';

/** What the reading of a rule needs to know. */
export interface Context {
  /** Of the policy; undefined: clusterwide. */
  readonly namespace: string | undefined;
  /** A rule of egressDeny. */
  readonly deny: boolean;
  /** CiliumCIDRGroups. */
  readonly groups: readonly RawPolicy[];
  /** Takes what was asked for among them. */
  readonly asked: AskedGroups;
  readonly report: (fault: Fault) => void;
}

const EVERY_POD: Peer = { kind: 'pods', namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } };
const NODES: Peer = { kind: 'nodes', labels: { op: 'true' } };
const OWN_NODE: Peer = { kind: 'own-node' };
const NOTHING: Peer = { kind: 'some', of: [] };

/** Identities of the cluster are never `world`, whatever their address: hence toCIDR does not match them either. */
export const OUTSIDE: Peer = { kind: 'not', of: { kind: 'some', of: [EVERY_POD, NODES, OWN_NODE] } };

const block = (cidr: string): Peer => ({ kind: 'cidr', cidr, except: [] });

const API_SERVER: Peer = {
  kind: 'services',
  namespaces: { names: ['default'] },
  name: 'kubernetes',
  labels: { op: 'true' },
};

const ENTITIES: ReadonlyMap<string, Peer> = new Map<string, Peer>([
  ['all', { kind: 'any' }],
  ['none', NOTHING],
  ['world', OUTSIDE],
  ['world-ipv4', { kind: 'all', of: [block('0.0.0.0/0'), OUTSIDE] }],
  ['world-ipv6', { kind: 'all', of: [block('::/0'), OUTSIDE] }],
  // Pods of the host's network have its identity, as they have its address.
  ['host', OWN_NODE],
  ['remote-node', { kind: 'all', of: [NODES, { kind: 'not', of: OWN_NODE }] }],
  ['kube-apiserver', API_SERVER],
  // InitEntities: the API server belongs to the cluster wherever it is.
  ['cluster', { kind: 'some', of: [EVERY_POD, NODES, OWN_NODE, API_SERVER] }],
]);

/** Parts of Cilium itself, and states in which its endpoints can be: without it there are none. */
const CILIUMS_OWN: ReadonlySet<string> = new Set(['init', 'ingress', 'health', 'unmanaged']);

export function entityPeer(name: string, field: string, { deny, report }: Context): Peer {
  const peer = ENTITIES.get(name);
  if (peer) return peer;
  if (CILIUMS_OWN.has(name)) {
    // Where Cilium runs they have addresses that are not known here: an allow may be too narrow, a deny may not.
    const message = `${name} is known to Cilium alone: no address is known to be one`;
    if (deny) report({ severity: 'error', field, message, hint: 'name their addresses, by toCIDR' });
    else report({ severity: 'warning', field, message: `${message}; it matches nothing`, hint: 'remove it' });
    return NOTHING;
  }
  const hint = `use one of ${[...ENTITIES.keys(), ...CILIUMS_OWN].join(', ')}`;
  report({ severity: 'error', field, message: `${JSON.stringify(name)} is not an entity`, hint });
  return NOTHING;
}
