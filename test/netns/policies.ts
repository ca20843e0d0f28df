/** NetworkPolicy objects in few words. */
import { servers } from './world.js';

export type EgressRule = Record<string, unknown>;

/** A NetworkPolicy that selects pods by `app` label (all pods if undefined) and allows these egress rules. */
export function egressPolicy(name: string, app: string | undefined, egress: readonly EgressRule[]): object {
  return {
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace: 'default' },
    spec: {
      podSelector: app === undefined ? {} : { matchLabels: { app } },
      policyTypes: ['Egress'],
      egress,
    },
  };
}

/** Port written `tcp/80`, `udp/53`, `sctp/99`. */
export function ports(...list: readonly string[]): object[] {
  return list.map((text) => {
    const [protocol, port] = text.split('/') as [string, string];
    return { protocol: protocol.toUpperCase(), port: Number(port) };
  });
}

/** To these addresses (hosts, not networks), all ports unless given. */
export function toHosts(addrs: readonly string[], ...list: readonly string[]): EgressRule {
  return {
    to: addrs.map((a) => ({ ipBlock: { cidr: a.includes(':') ? `${a}/128` : `${a}/32` } })),
    ...(list.length > 0 ? { ports: ports(...list) } : {}),
  };
}

/** To a server of the internet, both families. */
export function toServer(which: 'one' | 'two', ...list: readonly string[]): EgressRule {
  return toHosts([servers[which].ip4, servers[which].ip6], ...list);
}

/** To pods by their `app` label. */
export function toApp(app: string, ...list: readonly string[]): EgressRule {
  return {
    to: [{ podSelector: { matchLabels: { app } } }],
    ...(list.length > 0 ? { ports: ports(...list) } : {}),
  };
}

/** A CiliumNetworkPolicy: pods by their `app` label may ask these resolvers, and talk to names by patterns, at all ports. */
export function cnpNames(name: string, app: string, patterns: readonly string[], resolvers: readonly string[]): object {
  return {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name, namespace: 'default' },
    spec: {
      endpointSelector: { matchLabels: { app } },
      egress: [
        {
          toCIDR: resolvers.map((a) => (a.includes('/') ? a : `${a}/${a.includes(':') ? 128 : 32}`)),
          toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '*' }] } }],
        },
        { toFQDNs: patterns.map((p) => (p.includes('*') ? { matchPattern: p } : { matchName: p })) },
      ],
    },
  };
}
