/** Entities: destinations without labels of their own (pkg/policy/api/entity.go). */
import type { LabelExpr, Peer } from '../../ir/peers.js';
import { EVERY_POD, NODES, OUTSIDE, OWN_NODE } from '../base/outside.js';
import type { Context } from './context.js';

const NOTHING: Peer = { kind: 'some', of: [] };

/**
 * getNodeSelector (pkg/k8s/apis/cilium.io/utils) adds `reserved:remote-node` to each selector of nodes, so the own node
 * never matches.
 */
export function remoteNodes(labels: LabelExpr): Peer {
  return {
    kind: 'all',
    of: [
      { kind: 'nodes', labels },
      { kind: 'not', of: OWN_NODE },
    ],
  };
}

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
  // Identities of the cluster are never `world`, whatever their address. Therefore toCIDR does not match them either.
  ['world', OUTSIDE],
  ['world-ipv4', { kind: 'all', of: [block('0.0.0.0/0'), OUTSIDE] }],
  ['world-ipv6', { kind: 'all', of: [block('::/0'), OUTSIDE] }],
  // Pods with hostNetwork have the host's identity, as they have its address.
  ['host', OWN_NODE],
  ['remote-node', remoteNodes({ op: 'true' })],
  ['kube-apiserver', API_SERVER],
  // InitEntities: the API server belongs to the cluster wherever it runs.
  ['cluster', { kind: 'some', of: [EVERY_POD, NODES, OWN_NODE, API_SERVER] }],
]);

/** Components of Cilium itself, and states of its endpoints. Without Cilium they do not exist. */
const CILIUMS_OWN: ReadonlySet<string> = new Set(['init', 'ingress', 'health', 'unmanaged']);

/** Translates an entity to a peer. */
export function entityPeer(name: string, field: string, { deny, report }: Context): Peer {
  const peer = ENTITIES.get(name);
  if (peer) return peer;
  if (CILIUMS_OWN.has(name)) {
    // Where Cilium runs, they have addresses that are unknown here. An allow may match too little, a deny may not.
    const message = `${name} is known to Cilium alone: no address is known to be one`;
    if (deny) report({ severity: 'error', field, message, hint: 'name their addresses, by toCIDR' });
    else report({ severity: 'warning', field, message: `${message}; it matches nothing`, hint: 'remove it' });
    return NOTHING;
  }
  const hint = `use one of ${[...ENTITIES.keys(), ...CILIUMS_OWN].join(', ')}`;
  report({ severity: 'error', field, message: `${JSON.stringify(name)} is not an entity`, hint });
  return NOTHING;
}
