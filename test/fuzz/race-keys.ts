/** The flows of the race: whose packets go in, and what must become of each, whoever of several CPUs comes first. */
import { parseAddr } from '../../src/net/addr.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { frame } from '../engines/packets.js';
import { Random } from './random.js';

const { ea_flow_key: KEY } = STRUCTS;
export const POD = 'default/web';
export const POD_IPS = ['10.244.0.1', 'fd00::1'] as const;
/** Of each kind of flow its peers' networks. */
export const NETWORKS = {
  allowed: ['10.1.0.0/16', '2001:db8:1::/48'],
  switching: ['10.2.0.0/16', '2001:db8:2::/48'],
  denied: ['10.3.0.0/16', '2001:db8:3::/48'],
} as const;
const [TCP, UDP, ICMP, ICMPV6] = [6, 17, 1, 58];
const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];

/**
 * `allowed`, `denied`, `switching`: what the pod opens, by the policies; `inbound`: what a peer opens whom no policy lets it
 * speak to; `churn`: connections that begin and end all the time, of which nothing is counted.
 */
export type Kind = 'allowed' | 'denied' | 'switching' | 'inbound' | 'churn';
const KINDS: readonly Kind[] = [
  'allowed',
  'allowed',
  'denied',
  'switching',
  'switching',
  'inbound',
  'inbound',
  'churn',
];

export type Way = 'out' | 'in';
export interface Line {
  readonly way: Way;
  readonly must: 'pass' | 'drop' | 'any';
  readonly bytes: Buffer;
}

export interface RaceKey {
  readonly kind: Kind;
  /** struct ea_flow_key, hex, with the endpoint's id. */
  readonly name: string;
  readonly packet: Packet;
  /** What goes in first, from all CPUs at once. */
  readonly opens: readonly Line[];
  /** What goes in when it is there. */
  readonly later: readonly Line[];
}

/** @param endpoint the id that its flows are under */
export function raceKeys(seed: number, count: number, endpoint: number): RaceKey[] {
  const r = new Random(seed);
  const keys = new Map<string, RaceKey>();
  while (keys.size < count) {
    const key = randomKey(r, endpoint);
    keys.set(key.name, key);
  }
  return [...keys.values()];
}

function randomKey(r: Random, endpoint: number): RaceKey {
  const kind = r.pick(KINDS);
  const six = r.chance(40);
  const net = kind === 'allowed' || kind === 'churn' ? 1 : kind === 'switching' ? 2 : 3;
  const peer = six ? `2001:db8:${net}::${(1 + r.below(40)).toString(16)}` : `10.${net}.0.${1 + r.below(40)}`;
  const protocol = kind === 'churn' ? TCP : r.pick([TCP, TCP, UDP, six ? ICMPV6 : ICMP]);
  const [own, local, remote] = [POD_IPS[six ? 1 : 0], 30_000 + r.below(200), 80 + r.below(4)];
  const icmp = protocol === ICMP || protocol === ICMPV6;
  const echo = (reply: boolean) => (six ? (reply ? 129 : 128) : reply ? 0 : 8) * 256;
  const line = (way: Way, must: Line['must'], flags = 0, answers = false): Line => {
    const [src, to] = way === 'out' ? [own, peer] : [peer, own];
    const [sport, port] = icmp ? [local, echo(answers)] : way === 'out' ? [local, remote] : [remote, local];
    return { way, must, bytes: frame({ to, protocol, port }, { src, sport, tcpFlags: flags }) };
  };
  const inbound = kind === 'inbound';
  const name = keyName(endpoint, own, peer, local, icmp ? echo(false) : remote, protocol, icmp && inbound);
  const packet = { from: POD, to: peer, protocol, port: icmp ? echo(false) : remote };
  const base = { kind, name, packet };
  if (kind === 'churn') return { ...base, opens: [line('out', 'pass', SYN)], later: conversation(line) };
  if (inbound)
    return {
      ...base,
      opens: [line('in', 'pass', SYN)],
      later: [line('in', 'pass', ACK), line('out', 'pass', ACK, true)],
    };
  const must = { allowed: 'pass', denied: 'drop', switching: 'any' } as const;
  const out = line('out', must[kind], ACK);
  // A datagram from a peer whose flow is denied opens another one, in the other direction.
  const answered = kind === 'allowed' || protocol !== UDP;
  return { ...base, opens: [out], later: answered ? [out, line('in', 'pass', ACK, true)] : [out] };
}

function conversation(line: (way: Way, must: Line['must'], flags: number) => Line): Line[] {
  const out = [SYN, ACK, FIN | ACK, RST | ACK].map((flags) => line('out', 'pass', flags));
  return [...out, ...[SYN | ACK, ACK, FIN | ACK, RST].map((flags) => line('in', 'pass', flags))];
}

function keyName(
  endpoint: number,
  own: string,
  peer: string,
  local: number,
  remote: number,
  protocol: number,
  openedRemotely: boolean,
): string {
  const { fields: f } = KEY;
  const key = Buffer.alloc(KEY.size);
  Buffer.from(parseAddr(own).bytes).copy(key, f.local.offset);
  Buffer.from(parseAddr(peer).bytes).copy(key, f.remote.offset);
  key.writeUInt16BE(local, f.local_port.offset);
  key.writeUInt16BE(remote, f.remote_port.offset);
  key.writeUInt32LE(endpoint, f.endpoint.offset);
  key.writeUInt8(protocol, f.protocol.offset);
  key.writeUInt8(openedRemotely ? 1 : 0, f.opened_remotely.offset);
  return key.toString('hex');
}

/** What an entry may say of the packet's verdict while policies change, and what it must when they have. */
export interface Outcomes {
  readonly may: readonly Verdict[];
  readonly last: Verdict;
}
