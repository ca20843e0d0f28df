/** What is outside of the cluster, by whatever name or block it is meant. */
import type { Peer } from '../../ir/peers.js';

export const EVERY_POD: Peer = { kind: 'pods', namespaces: { labels: { op: 'true' } }, pods: { op: 'true' } };
export const NODES: Peer = { kind: 'nodes', labels: { op: 'true' } };
export const OWN_NODE: Peer = { kind: 'own-node' };

/** Every address that no pod and no node of the cluster has. */
export const OUTSIDE: Peer = { kind: 'not', of: { kind: 'some', of: [EVERY_POD, NODES, OWN_NODE] } };
