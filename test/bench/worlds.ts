/** Clusters of a size, as IR: many policies, many CIDRs. */
import type { Pod, Snapshot } from '../../src/identity/snapshot.js';
import type { Peer } from '../../src/ir/peers.js';
import type { Ir, IrPolicy } from '../../src/ir/types.js';
import type { World } from '../engines/engine.js';

export const POD_IP = '10.244.0.1';

/** The n-th /32 of 100.64.0.0/10 and beyond, spread so that the trie is as deep as real lists make it. */
export function cidr(n: number): string {
  const x = Math.imul(n + 1, 2654435761) >>> 0;
  return `${20 + (x >>> 27)}.${(x >>> 19) & 255}.${(x >>> 11) & 255}.${(x >>> 3) & 255}/32`;
}

export function snapshot(): Snapshot {
  const pod: Pod = {
    uid: 'u',
    namespace: 'default',
    name: 'web',
    labels: { app: 'web' },
    annotations: {},
    ips: [POD_IP],
    nodeName: '',
    serviceAccount: '',
    hostNetwork: false,
    ended: false,
    ports: [],
  };
  return {
    pods: new Map([['default/web', pod]]),
    namespaces: new Map(),
    nodes: new Map(),
    services: new Map(),
    policies: [],
    ownNode: { name: 'n', ips: [] },
    problems: [],
  };
}

/** `policies` that all select the pod, with `cidrs` CIDRs among them, and a rule for one port each. */
export function world(policies: number, cidrs: number): World {
  const each = Math.max(1, Math.floor(cidrs / policies));
  const tier = {
    name: 'default',
    order: 0,
    defaultAction: 'deny' as const,
    policies: Array.from({ length: policies }, (_, p): IrPolicy => {
      const ref = { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'default', name: `p${p}` };
      const peers: Peer[] = [];
      for (let n = p * each; n < (p + 1) * each; n++) peers.push({ kind: 'cidr', cidr: cidr(n), except: [] });
      return {
        ref,
        staged: false,
        subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } },
        rules: [
          {
            ref: { policy: ref, index: 0, tier: 'default', staged: false, action: 'allow' },
            action: 'allow',
            peers,
            ports: [{ protocol: 6, ports: [[1000 + (p % 60000), 1000 + (p % 60000)]] }],
          },
        ],
      };
    }),
  };
  const ir: Ir = { tiers: [tier] };
  return { ir, snapshot: snapshot() };
}
