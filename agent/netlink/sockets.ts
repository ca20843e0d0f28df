/**
 * The sockets of a namespace, read by sock_diag (linux/inet_diag.h). They are claims, not evidence: a pod can create
 * any socket.
 */
import { AgentError } from '../../src/errors.js';
import { mappedAddress, NETLINK_SOCK_DIAG, type NetlinkSocket, withNetlink } from './netlink.js';
import { type NlMessage, parseAttrs } from './nlmsg.js';

/** A connection, from the pod's point of view. */
export interface Connection {
  /** 16 bytes each, network order, IPv4-mapped. */
  readonly local: Buffer;
  readonly remote: Buffer;
  readonly localPort: number;
  readonly remotePort: number;
  /** 6, 17 or 132. */
  readonly protocol: number;
}

/** A connection that, by the pod's sockets, a peer opened. */
export interface Claim extends Connection {
  /** A socket of the namespace listens on the local port (UDP: an unconnected socket is bound to it). */
  readonly listening: boolean;
  /** TCP: this side sent the SYN, by the socket's counters. Undefined if they do not show it. */
  readonly dialled: boolean | undefined;
}

const SOCK_DIAG_BY_FAMILY = 20;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;
const IPPROTO_SCTP = 132;
/** sizeof(struct inet_diag_msg). */
const DIAG_MSG = 72;
/** enum inet_diag attributes: struct tcp_info; of SCTP, arrays of struct sockaddr_storage, 128 bytes each. */
const INET_DIAG_INFO = 2;
const INET_DIAG_LOCALS = 12;
const INET_DIAG_PEERS = 13;
const SOCKADDR_STORAGE = 128;

const TCP_SYN_SENT = 1 << 2;
const TCP_CLOSE = 1 << 7;
const TCP_LISTEN = 1 << 10;
const ALL_STATES = 0x1fff;
/** FIN_WAIT1, FIN_WAIT2, LAST_ACK, CLOSING: this side has closed its direction. */
const CLOSING_STATES = (1 << 4) | (1 << 5) | (1 << 9) | (1 << 11);
/** States of a connection whose first packet has arrived, including TIME_WAIT, which still answers. */
const CONNECTED_STATES = ALL_STATES & ~(TCP_SYN_SENT | TCP_CLOSE | TCP_LISTEN);
/** The same for SCTP, which has its own numbers of states: ESTABLISHED (3) to SHUTDOWN_ACK_SENT (7). */
const SCTP_CONNECTED_STATES = 0xf8;

interface Sock extends Connection {
  /** One bit, 1 << TCP_* state; UDP borrows ESTABLISHED and CLOSE. */
  readonly state: number;
  readonly dialled?: boolean | undefined;
  readonly locals: readonly Buffer[];
  readonly peers: readonly Buffer[];
}

/**
 * struct inet_diag_req_v2: family, protocol, ext (one bit for each attribute), pad, states, then an empty
 * inet_diag_sockid.
 */
function request(family: number, protocol: number, states: number): Buffer {
  const b = Buffer.alloc(56);
  b.writeUInt8(family, 0);
  b.writeUInt8(protocol, 1);
  if (protocol === IPPROTO_TCP) b.writeUInt8(1 << (INET_DIAG_INFO - 1), 2);
  b.writeUInt32LE(states, 4);
  return b;
}

function sockaddrs(b: Buffer | undefined): Buffer[] {
  const out: Buffer[] = [];
  for (let at = 0; b && at + SOCKADDR_STORAGE <= b.length; at += SOCKADDR_STORAGE) {
    const family = b.readUInt16LE(at);
    if (family === 2) out.push(mappedAddress(b.subarray(at + 4, at + 8)));
    else if (family === 10) out.push(Buffer.from(b.subarray(at + 8, at + 24)));
  }
  return out;
}

/**
 * Whether this side sent the SYN. A SYN takes a sequence number, which only the side that opened the connection counts
 * among the acknowledged bytes. `queued`: bytes to be sent or acknowledged; `info`: struct tcp_info (linux/tcp.h).
 * Undefined before Linux 4.19, and if something was sent between the kernel's readings of the two.
 */
export function dialledOf(state: number, queued: number, info: Buffer | undefined): boolean | undefined {
  if (!info || info.length < 216) return undefined;
  const acknowledged = Number(info.readBigUInt64LE(120));
  const unsent = info.readUInt32LE(144);
  const sent = Number(info.readBigUInt64LE(200)) - Number(info.readBigUInt64LE(208));
  // A FIN takes a sequence number too, once it is sent.
  const fin = state & CLOSING_STATES && unsent === 0 ? 1 : 0;
  const excess = acknowledged + (queued - unsent) - sent - fin;
  return excess === 0 ? false : excess === 1 ? true : undefined;
}

/**
 * struct inet_diag_msg: family, state, timer, retrans, sockid { sport, dport, src, dst, if, cookie }, expires, rqueue,
 * wqueue …
 */
function parseSock(m: NlMessage, protocol: number): Sock | undefined {
  if (m.type !== SOCK_DIAG_BY_FAMILY || m.body.length < DIAG_MSG) return undefined;
  const b = m.body;
  const v4 = b[0] === 2;
  const address = (at: number) => (v4 ? mappedAddress(b.subarray(at, at + 4)) : Buffer.from(b.subarray(at, at + 16)));
  const attrs = parseAttrs(b, DIAG_MSG);
  const state = 1 << b.readUInt8(1);
  return {
    protocol,
    state,
    dialled: protocol === IPPROTO_TCP ? dialledOf(state, b.readUInt32LE(60), attrs.get(INET_DIAG_INFO)) : undefined,
    localPort: b.readUInt16BE(4),
    remotePort: b.readUInt16BE(6),
    local: address(8),
    remote: address(24),
    locals: sockaddrs(attrs.get(INET_DIAG_LOCALS)),
    peers: sockaddrs(attrs.get(INET_DIAG_PEERS)),
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
      // The kernel has no such protocol, so there are no sockets; or it cannot list them, so they stay unknown.
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

/** A connection as a map's key. */
export function textOf({ protocol, local, localPort, remote, remotePort }: Connection): string {
  return `${protocol} ${local.toString('latin1')} ${localPort} ${remote.toString('latin1')} ${remotePort}`;
}

/**
 * The sockets that, as far as can be seen, are connections from peers: not dialled, or, if the counters do not show
 * that, on a port on which the namespace listens. Loopback connections never pass the hooks and are left out.
 */
export function claimsOf(sockets: readonly Sock[]): Map<string, Claim> {
  const listeningPorts = new Set<string>();
  for (const s of sockets) {
    const listens = s.protocol === IPPROTO_UDP ? s.remotePort === 0 : s.state === TCP_LISTEN;
    if (listens) listeningPorts.add(`${s.protocol}/${s.localPort}`);
  }
  const out = new Map<string, Claim>();
  for (const { state, locals, peers, ...s } of sockets) {
    const states = s.protocol === IPPROTO_SCTP ? SCTP_CONNECTED_STATES : CONNECTED_STATES;
    if (s.remotePort === 0 || !(state & states)) continue;
    const listening = listeningPorts.has(`${s.protocol}/${s.localPort}`);
    if (!listening && s.dialled !== false) continue;
    // An SCTP association may use any pair of its addresses.
    for (const local of locals.length > 0 ? locals : [s.local]) {
      for (const remote of peers.length > 0 ? peers : [s.remote]) {
        if (isLoopback(local) || isLoopback(remote)) continue;
        const claim = { ...s, local, remote, listening, dialled: s.dialled };
        out.set(textOf(claim), claim);
      }
    }
  }
  return out;
}

/**
 * Connections (TCP, connected UDP, SCTP) that peers seem to have opened to the namespace at `path`; by default the
 * agent's own. Throws KERNEL, NETNS.
 */
export function claims(path: string | undefined): Map<string, Claim> {
  return withNetlink(
    path,
    (nl) =>
      claimsOf([
        ...list(nl, IPPROTO_TCP, CONNECTED_STATES | TCP_LISTEN),
        ...list(nl, IPPROTO_UDP, ALL_STATES),
        ...list(nl, IPPROTO_SCTP, CONNECTED_STATES | TCP_LISTEN),
      ]),
    NETLINK_SOCK_DIAG,
  );
}
