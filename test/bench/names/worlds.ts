/** Worlds with names: a pod whose policies have so many patterns, and what it has learned. */
import type { Peer } from '../../../src/ir/peers.js';
import type { Ir, IrPolicy, PortMatch, Rule } from '../../../src/ir/types.js';
import type { World } from '../../engines/engine.js';
import { a, cname, type WireMessage } from '../../names/wire.js';
import { snapshot } from '../worlds.js';

export const RESOLVER = '10.96.0.10';
/** Every pod's own port for its queries, where they come from one flow. */
export const SPORT = 5353;
export const PORT = 443;
/** What the pod asks for, and the alias that it is answered with. */
export const NAME = 'www.shop.example.com';
export const ALIAS = 'd111111abcdef8.cdn.example.net';
/** What allows it. */
const OWN = '*.shop.example.com';
/** Patterns of one policy: lists of names are of some hundred. */
const EACH = 100;
const [TCP, UDP] = [6, 17];

/** The n-th of many patterns: exact names and wildcards, in zones of a hundred. */
export function pattern(n: number): string {
  const zone = `zone-${Math.floor(n / EACH)}.example.${n % 2 === 0 ? 'org' : 'net'}`;
  return n % 4 === 0 ? `*.team-${n}.${zone}` : `service-${n}.${zone}`;
}

/** A policy that selects the pod, and allows what these rules say. */
export function policyOf(
  name: string,
  rules: readonly { peers: readonly Peer[]; ports: readonly PortMatch[] }[],
): IrPolicy {
  const ref = { dialect: 'cilium', kind: 'CiliumNetworkPolicy', namespace: 'default', name };
  return {
    ref,
    staged: false,
    subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } },
    rules: rules.map(
      ({ peers, ports }, index): Rule => ({
        ref: { policy: ref, index, tier: 'default', staged: false, action: 'allow' },
        action: 'allow',
        peers,
        ports,
      }),
    ),
  };
}

const host = (ip: string): Peer => ({ kind: 'cidr', cidr: `${ip}/32`, except: [] });
const tcp: readonly PortMatch[] = [{ protocol: TCP, ports: [[PORT, PORT]] }];
const dns: readonly PortMatch[] = [UDP, TCP].map((protocol) => ({ protocol, ports: [[53, 53]] }));

/** One tier in which the pod may ask the resolver, and what these policies say. */
function worldOf(policies: readonly IrPolicy[]): World {
  const ask = policyOf('dns', [{ peers: [host(RESOLVER)], ports: dns }]);
  const ir: Ir = { tiers: [{ name: 'default', order: 0, defaultAction: 'deny', policies: [ask, ...policies] }] };
  return { ir, snapshot: snapshot() };
}

/** The pod may talk to NAME, and to so many patterns of names more. */
export function named(patterns: number): World {
  const lists: string[][] = [[OWN]];
  for (let n = 0; n < patterns - 1; n++) {
    if (n % EACH === 0) lists.push([]);
    lists.at(-1)?.push(pattern(n));
  }
  return worldOf(
    lists.map((list, i) => policyOf(`names-${i}`, [{ peers: [{ kind: 'names', patterns: list }], ports: tcp }])),
  );
}

/** The pod may talk to these addresses, in as many policies as `named` has. */
export function listed(ips: readonly string[], policies: number): World {
  const lists = Array.from({ length: policies }, (_, i) => (i === 0 ? ips : [`192.0.2.${i % 250}`]));
  return worldOf(lists.map((list, i) => policyOf(`networks-${i}`, [{ peers: list.map(host), ports: tcp }])));
}

/** An answer for NAME with a CNAME and these addresses. */
export function answerOf(ips: readonly string[]): WireMessage {
  return { questions: [{ name: NAME, type: 1 }], answers: [cname(NAME, ALIAS), ...ips.map((ip) => a(ALIAS, ip))] };
}
