/**
 * The sockets of a pod, by sock_diag (linux/inet_diag.h), from a socket made in the
 * pod's namespace.
 */
import { AgentError } from '../src/errors.js';
import { mapped, NETLINK_SOCK_DIAG, type NetlinkSocket, withNetlink } from './netlink.js';
import { type NlMessage, parseAttrs } from './nlmsg.js';

/** A connection, seen from the pod. */
export interface Connection {
  /** 16 bytes each, network order, IPv4-mapped. */
  readonly local: Buffer;
  readonly remote: Buffer;
  readonly localPort: number;
  readonly remotePort: number;
  /** 6, 17 or 132. */
  readonly protocol: number;
}

const SOCK_DIAG_BY_FAMILY = 20;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_SCTP = 132;
/** enum inet_diag attributes of SCTP: arrays of struct sockaddr_storage, 128 bytes each. */
const INET_DIAG_LOCALS = 12;
const INET_DIAG_PEERS = 13;
const SOCKADDR_STORAGE = 128;

const TCP_SYN_SENT = 1 << 2;
const TCP_CLOSE = 1 << 7;
const TCP_LISTEN = 1 << 10;
const ALL_STATES = 0x1fff;
/** What a connection passes through once its first packet is there, TIME_WAIT (it still answers) included. */
const CONNECTED = ALL_STATES & ~(TCP_SYN_SENT | TCP_CLOSE | TCP_LISTEN);
/** Associations are listed with SCTP's own numbers: ESTABLISHED (3) to SHUTDOWN_ACK_SENT (7). */
const SCTP_CONNECTED = 0xf8;

interface Sock extends Connection {
  /** One bit, 1 << TCP_* state; UDP borrows ESTABLISHED and CLOSE. */
  readonly state: number;
  readonly locals: readonly Buffer[];
  readonly peers: readonly Buffer[];
}

/** struct inet_diag_req_v2: family, protocol, ext, pad, states, then an empty inet_diag_sockid. */
function request(family: number, protocol: number, states: number): Buffer {
  const b = Buffer.alloc(56);
  b.writeUInt8(family, 0);
  b.writeUInt8(protocol, 1);
  b.writeUInt32LE(states, 4);
  return b;
}

function sockaddrs(b: Buffer | undefined): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; b && at + SOCKADDR_STORAGE <= b.length; at += SOCKADDR_STORAGE) {
    const family = b.readUInt16LE(at);
    if (family === 2) out.push(mapped(b.subarray(at + 4, at + 8)));
    else if (family === 10) out.push(Buffer.from(b.subarray(at + 8, at + 24)));
  }
  return out;
}

/** struct inet_diag_msg: family, state, timer, retrans, sockid { sport, dport, src, dst, if, cookie } … */
function parseSock(m: NlMessage, protocol: number): Sock | undefined {
  if (m.type !== SOCK_DIAG_BY_FAMILY || m.body.length < 72) return undefined;
  const b = m.body;
  const v4 = b[0] === 2;
  const address = (at: number) => (v4 ? mapped(b.subarray(at, at + 4)) : Buffer.from(b.subarray(at, at + 16)));
  const attrs = protocol === IPPROTO_SCTP ? parseAttrs(b, 72) : undefined;
  return {
    protocol,
    state: 1 << b.readUInt8(1),
    localPort: b.readUInt16BE(4),
    remotePort: b.readUInt16BE(6),
    local: address(8),
    remote: address(24),
    locals: sockaddrs(attrs?.get(INET_DIAG_LOCALS)),
    peers: sockaddrs(attrs?.get(INET_DIAG_PEERS)),
  };
}

function list(nl: NetlinkSocket, protocol: number, states: number): Sock[] {
  const out: Sock[] = [];
  for (const family of [2, 10]) {
    try {
      for (const m of nl.dump(
        SOCK_DIAG_BY_FAMILY,
        [request(family, protocol, states)],
        `sockets of protocol ${protocol}`,
      )) {
        const sock = parseSock(m, protocol);
        if (sock) out.push(sock);
      }
    } catch (e) {
      // The kernel has no such protocol, or cannot list it: then there is none to speak of, or we cannot know.
      if (!(e instanceof AgentError) || !['ENOENT', 'EINVAL', 'ENOTSUP', 'EAFNOSUPPORT'].includes(e.errno ?? ''))
        throw e;
    }
  }
  return out;
}

function isLoopback(address: Buffer): boolean {
  const v4 = address.readUInt32BE(8) === 0xffff && address.readUInt32BE(0) === 0 && address.readUInt32BE(4) === 0;
  return v4 ? address[12] === 127 : address.subarray(0, 15).every((b) => b === 0) && address[15] === 1;
}

/**
 * Which of a namespace's sockets are connections that were opened to it: their local
 * port is one on which the namespace listens (UDP: on which it has an unconnected socket). The kernel
 * does not say who opened a connection, and one whose listener has closed since counts
 * as opened by the pod. Connections over loopback never meet our hooks and are left out.
 */
export function inboundOf(sockets: readonly Sock[]): Connection[] {
  const listening = new Set<string>();
  for (const s of sockets) {
    const waits = s.protocol === IPPROTO_UDP ? s.remotePort === 0 : s.state === TCP_LISTEN;
    if (waits) listening.add(`${s.protocol}/${s.localPort}`);
  }
  const out = new Map<string, Connection>();
  for (const s of sockets) {
    const connected = s.protocol === IPPROTO_SCTP ? SCTP_CONNECTED : CONNECTED;
    if (s.remotePort === 0 || !(s.state & connected) || !listening.has(`${s.protocol}/${s.localPort}`)) continue;
    // An SCTP association may use any pair of its addresses.
    for (const local of s.locals.length > 0 ? s.locals : [s.local]) {
      for (const remote of s.peers.length > 0 ? s.peers : [s.remote]) {
        if (isLoopback(local) || isLoopback(remote)) continue;
        const { localPort, remotePort, protocol } = s;
        const key = `${protocol} ${local.toString('hex')} ${localPort} ${remote.toString('hex')} ${remotePort}`;
        out.set(key, { local, remote, localPort, remotePort, protocol });
      }
    }
  }
  return [...out.values()];
}

/** Connections opened to the namespace at `path` (the agent's own without one) that are open now: TCP, connected UDP, SCTP. Throws KERNEL. */
export function inboundConnections(path: string | undefined): Connection[] {
  return withNetlink(
    path,
    (nl) =>
      inboundOf([
        ...list(nl, IPPROTO_TCP, CONNECTED | TCP_LISTEN),
        ...list(nl, IPPROTO_UDP, ALL_STATES),
        ...list(nl, IPPROTO_SCTP, CONNECTED | TCP_LISTEN),
      ]),
    NETLINK_SOCK_DIAG,
  );
}
