/** Pairs of worlds between which a careless order of writes would show: each a trap that random worlds seldom set. */
import { toIr } from '../../src/dialects/index.js';
import type { Packet } from '../../src/ir/packet.js';
import type { World } from '../engines/engine.js';
import { cidr } from '../bench/worlds.js';
import { pod, policy, snapshotOf } from '../policy/world.js';
import type { Pair } from './torn.js';

const FROM = 'default/web';
const SERVICES = 60;

function world(...documents: string[]): World {
  const snapshot = snapshotOf([pod(FROM, ['10.244.0.1', 'fd00::1'], { app: 'web' }), ...documents].join(''));
  return { snapshot, ir: toIr(snapshot).ir };
}

function manifest(apiVersion: string, kind: string, metadata: object, rest: object): string {
  return `---\n${JSON.stringify({ apiVersion, kind, metadata, ...rest })}\n`;
}

function service(n: number, backends: readonly string[]): string {
  const ports = [{ port: 80, protocol: 'TCP' }];
  const meta = { namespace: 'default', name: `s${n}-1`, labels: { 'kubernetes.io/service-name': `s${n}` } };
  return [
    manifest('v1', 'Service', { namespace: 'default', name: `s${n}` }, { spec: { clusterIPs: [vip(n)], ports } }),
    manifest('discovery.k8s.io/v1', 'EndpointSlice', meta, {
      addressType: 'IPv4',
      ports: [{ name: '', port: 80, protocol: 'TCP' }],
      endpoints: backends.map((ip) => ({ addresses: [ip] })),
    }),
  ].join('');
}

const vip = (n: number) => `10.96.0.${n}`;
const tcp = (to: string, port: number): Packet => ({ from: FROM, to, protocol: 6, port });

/** Egress of the pod, a rule for each list of blocks and ports. */
function allow(...rules: (readonly [blocks: readonly string[], ...ports: number[]])[]): string {
  const egress = rules.map(([blocks, ...list]) => ({
    to: blocks.map((b) => ({ ipBlock: { cidr: b } })),
    ...(list.length > 0 ? { ports: list.map((port) => ({ protocol: 'TCP', port })) } : {}),
  }));
  return policy('default/p', { podSelector: {}, policyTypes: ['Egress'], egress });
}

/** Peers of one set with ports of the other would allow what both deny. */
function crossed(): Pair {
  const packets = ['192.0.2.1', '198.51.100.1'].flatMap((ip) => [80, 81, 443].map((port) => tcp(ip, port)));
  return {
    name: 'crossed',
    worlds: [
      world(allow([['192.0.2.0/24'], 80], [['198.51.100.0/24'], 443])),
      world(allow([['192.0.2.1/32'], 443], [['198.51.100.1/32'], 80])),
    ],
    packets,
  };
}

/** What both allow, each by blocks of its own, among many others: it reads a third class on its way from one to the other. */
function lists(): Pair {
  const list = (from: number) => Array.from({ length: 2000 }, (_, n) => cidr(from + n));
  const packets = ['192.0.2.1', '192.0.2.2', '198.51.100.7'].flatMap((ip) => [tcp(ip, 80), tcp(ip, 81)]);
  return {
    name: 'lists',
    worlds: [
      world(allow([[...list(0), '192.0.2.0/31'], 80], [['192.0.2.2/32']])),
      world(allow([[...list(3000), '192.0.2.1/32', '192.0.2.2/32'], 80])),
    ],
    packets,
  };
}

/** Backends that one set tells apart and the other does not: a Service that passes unjudged must not pass judged. */
function kinds(): Pair {
  const s = service(1, ['192.0.2.1', '192.0.2.2', '192.0.2.3']);
  return {
    name: 'kinds of backends',
    worlds: [world(s, allow([['192.0.2.1/32']])), world(s, allow([['198.51.100.0/24']]))],
    packets: [tcp(vip(1), 80), tcp('192.0.2.1', 80), tcp('192.0.2.2', 80)],
  };
}

/**
 * Backends of many Services change at once; each Service stays allowed, or denied. Each has as many kinds of backends as
 * are judged one by one: the reader of one entry is busy with it while the next ones are written.
 */
function services(): Pair {
  const net = (n: number) => (n % 2 === 0 ? '192.0.2' : '198.51.100');
  const hosts = Array.from({ length: 16 }, (_, i) => i + 1);
  const all = (from: number) =>
    Array.from({ length: SERVICES }, (_, n) =>
      service(
        n + 1,
        hosts.map((h) => `${net(n)}.${from + h}`),
      ),
    );
  const policies = allow(
    ...hosts.flatMap((h) =>
      [h, 100 + h].flatMap((host) => [
        [[`192.0.2.${host}/32`], 80] as const,
        [[`198.51.100.${host}/32`], 9999] as const,
      ]),
    ),
  );
  return {
    name: 'backends of Services',
    worlds: [world(policies, ...all(0)), world(policies, ...all(100))],
    packets: Array.from({ length: SERVICES }, (_, n) => tcp(vip(n + 1), 80)),
  };
}

/** A Service is there in one world only: with it, what stands behind it counts. */
function comes(): Pair {
  const policies = allow([['192.0.2.0/24']], [['10.96.0.0/16'], 81]);
  const all = (from: number) => Array.from({ length: SERVICES }, (_, n) => service(from + n, ['192.0.2.9']));
  return {
    name: 'Services come and go',
    worlds: [world(policies, ...all(1)), world(policies, ...all(100))],
    packets: [1, 2, 40, 100, 140].map((n) => tcp(vip(n), 80)),
  };
}

export const pairs: readonly (() => Pair)[] = [services, crossed, lists, kinds, comes];
