/**
 * The node's connection tracking, read by ctnetlink (linux/netfilter/nfnetlink_conntrack.h). It is the only evidence of
 * who opened a connection that is older than the agent's hooks.
 */
import { AgentError } from '../../src/errors.js';
import { NETLINK_NETFILTER, withNetlink } from './netlink.js';
import { attr, attrNested, attrU32, type NlMessage } from './nlmsg.js';

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_NEW = 0;
const IPCTNL_MSG_CT_GET = 1;
/** sizeof(struct nfgenmsg): family (0: any), version, resource. */
const NFGENMSG_SIZE = 4;
const AF_INET = 2;
const AF_INET6 = 10;
const TCP = 6;

const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_PROTOINFO = 4;
const CTA_FILTER = 25;
const CTA_STATUS_MASK = 26;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_SRC = 1;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTOINFO_TCP = 1;
const CTA_PROTOINFO_TCP_STATE = 1;
const CTA_PROTOINFO_TCP_FLAGS_ORIGINAL = 4;
const CTA_PROTOINFO_TCP_FLAGS_REPLY = 5;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_FILTER_REPLY_FLAGS = 2;
const CTA_FILTER_F_CTA_IP_SRC = 1 << 0;
const CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3;

/** enum ip_conntrack_status. */
const IPS_SEEN_REPLY = 2;
/** enum tcp_conntrack: from SYN_RECV on, both sides have sent packets; after TIME_WAIT the connection is closed. */
const TCP_SYN_RECV = 2;
const TCP_TIME_WAIT = 7;
/** Both sides sent a SYN: neither of them alone opened the connection. */
const IP_CT_TCP_SIMULTANEOUS_OPEN = 0x80;
/** Tracking began in the middle of a connection: "original" is only the direction of the first packet after that. */
const IP_CT_TCP_FLAG_BE_LIBERAL = 0x08;

/** One direction of a connection. Addresses are 16 bytes, network order, IPv4-mapped. */
export interface Tuple {
  readonly source: Buffer;
  readonly destination: Buffer;
  sourcePort: number;
  destinationPort: number;
}

/** An entry of conntrack. Valid during one callback only: the reader overwrites it with the next entry. */
export interface TrackedConnection {
  protocol: number;
  /** Of the first packet. */
  readonly original: Tuple;
  /** Of an answer, before it is translated back. */
  readonly reply: Tuple;
  /** IPS_* bits. */
  status: number;
  /** enum tcp_conntrack; 0 for other protocols. */
  tcpState: number;
  /** IP_CT_TCP_FLAG_* of both directions, ORed. */
  tcpFlags: number;
}

const tuple = (): Tuple => ({
  source: Buffer.alloc(16),
  destination: Buffer.alloc(16),
  sourcePort: 0,
  destinationPort: 0,
});

/** Calls back for each attribute. Unlike parseAttrs it builds no map, as there may be 200,000 messages. */
function eachAttr(b: Buffer, from: number, to: number, visit: (type: number, at: number, end: number) => void): void {
  for (let at = from; at + 4 <= to; ) {
    const length = b.readUInt16LE(at);
    if (length < 4 || at + length > to) return;
    visit(b.readUInt16LE(at + 2) & 0x3fff, at + 4, at + length);
    at += (length + 3) & ~3;
  }
}

/** Parses ctnetlink's messages, all into the same object. */
export class TrackedReader {
  readonly #connection: TrackedConnection = {
    protocol: 0,
    original: tuple(),
    reply: tuple(),
    status: 0,
    tcpState: 0,
    tcpFlags: 0,
  };

  /** The entry; undefined for another message, and for an entry without both directions. */
  read(m: NlMessage): TrackedConnection | undefined {
    if (m.type !== ((NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW)) return undefined;
    const connection = this.#connection;
    const b = m.body;
    let directions = 0;
    connection.status = connection.tcpState = connection.tcpFlags = 0;
    eachAttr(b, NFGENMSG_SIZE, b.length, (type, at, end) => {
      if (type === CTA_TUPLE_ORIG && this.#tuple(connection.original, b, at, end)) directions |= 1;
      else if (type === CTA_TUPLE_REPLY && this.#tuple(connection.reply, b, at, end)) directions |= 2;
      else if (type === CTA_STATUS && end - at === 4) connection.status = b.readUInt32BE(at);
      else if (type === CTA_PROTOINFO) this.#protocol(b, at, end);
    });
    return directions === 3 ? connection : undefined;
  }

  #tuple(tuple: Tuple, b: Buffer, from: number, until: number): boolean {
    let addresses = 0;
    tuple.sourcePort = tuple.destinationPort = 0;
    eachAttr(b, from, until, (type, at, end) => {
      if (type === CTA_TUPLE_IP) {
        eachAttr(b, at, end, (kind, a, z) => {
          if (kind < CTA_IP_V4_SRC || kind > CTA_IP_V6_DST || (z - a !== 4 && z - a !== 16)) return;
          // Types of sources are odd, those of destinations even.
          const address = kind % 2 === 1 ? tuple.source : tuple.destination;
          address.fill(0);
          if (z - a === 4) address.writeUInt16BE(0xffff, 10);
          b.copy(address, 16 - (z - a), a, z);
          addresses |= kind % 2 === 1 ? 1 : 2;
        });
      } else if (type === CTA_TUPLE_PROTO) {
        eachAttr(b, at, end, (kind, a) => {
          if (kind === CTA_PROTO_NUM) this.#connection.protocol = b.readUInt8(a);
          else if (kind === CTA_PROTO_SRC_PORT) tuple.sourcePort = b.readUInt16BE(a);
          else if (kind === CTA_PROTO_DST_PORT) tuple.destinationPort = b.readUInt16BE(a);
        });
      }
    });
    return addresses === 3;
  }

  #protocol(b: Buffer, from: number, until: number): void {
    eachAttr(b, from, until, (type, at, end) => {
      if (type !== CTA_PROTOINFO_TCP) return;
      eachAttr(b, at, end, (kind, a) => {
        if (kind === CTA_PROTOINFO_TCP_STATE) this.#connection.tcpState = b.readUInt8(a);
        else if (kind === CTA_PROTOINFO_TCP_FLAGS_ORIGINAL || kind === CTA_PROTOINFO_TCP_FLAGS_REPLY) {
          this.#connection.tcpFlags |= b.readUInt8(a);
        }
      });
    });
  }
}

/**
 * Whether this entry proves who opened its TCP connection: the first packet was a SYN in the original direction, and
 * the other side answered it. Entries whose tracking began later prove nothing: without this check, a connection that a
 * pod opened would count as its peer's if the peer sent the first packet after that.
 */
export function provesOpener({ protocol, status, tcpState, tcpFlags }: TrackedConnection): boolean {
  return (
    protocol === TCP &&
    (status & IPS_SEEN_REPLY) !== 0 &&
    tcpState >= TCP_SYN_RECV &&
    tcpState <= TCP_TIME_WAIT &&
    (tcpFlags & (IP_CT_TCP_FLAG_BE_LIBERAL | IP_CT_TCP_SIMULTANEOUS_OPEN)) === 0
  );
}

/** Up to so many IPv4 addresses, the kernel filters the table for each; for more, one dump of all of it is cheaper. */
const FEW_ADDRESSES = 8;

const be32 = (value: number): Buffer => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(value);
  return b;
};

/**
 * A request for answered TCP connections of a family; with `v4` (4 bytes, network order), only those that this address
 * answers. A kernel ignores filters that it does not know. There is no filter by IPv6 address: the kernel (6.18)
 * compares those the wrong way round.
 */
function request(family: number, v4?: Buffer): Buffer[] {
  const parts = [attrNested(CTA_TUPLE_PROTO, attr(CTA_PROTO_NUM, Buffer.from([TCP])))];
  if (v4) parts.unshift(attrNested(CTA_TUPLE_IP, attr(CTA_IP_V4_SRC, v4)));
  const flags = CTA_FILTER_F_CTA_PROTO_NUM | (v4 ? CTA_FILTER_F_CTA_IP_SRC : 0);
  return [
    Buffer.from([family, 0, 0, 0]),
    attr(CTA_STATUS, be32(IPS_SEEN_REPLY)),
    attr(CTA_STATUS_MASK, be32(IPS_SEEN_REPLY)),
    attrNested(CTA_TUPLE_REPLY, ...parts),
    attrNested(CTA_FILTER, attrU32(CTA_FILTER_ORIG_FLAGS, 0), attrU32(CTA_FILTER_REPLY_FLAGS, flags)),
  ];
}

const isV4 = (address: Buffer): boolean =>
  address.readUInt32BE(8) === 0xffff && address.readUInt32BE(4) === 0 && address.readUInt32BE(0) === 0;

/**
 * Visits answered TCP connections that the node's namespace, which is the agent's, tracks: all that one of `addresses`
 * (16 bytes each) answers, and possibly others. None if the kernel does not track connections. Throws KERNEL.
 */
export function answeredBy(addresses: readonly Buffer[], visit: (t: TrackedConnection) => void): void {
  const v4 = addresses.filter(isV4);
  const requests = v4.length > FEW_ADDRESSES ? [request(AF_INET)] : v4.map((a) => request(AF_INET, a.subarray(12)));
  if (addresses.length > v4.length) requests.push(request(AF_INET6));
  if (requests.length === 0) return;
  const reader = new TrackedReader();
  const type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
  try {
    withNetlink(
      undefined,
      (nl) => {
        for (const parts of requests) {
          nl.each(type, parts, 'connections that the node tracks', (m) => {
            const connection = reader.read(m);
            if (connection) visit(connection);
          });
        }
      },
      NETLINK_NETFILTER,
    );
  } catch (e) {
    if (!(e instanceof AgentError) || !['EPROTONOSUPPORT', 'EINVAL', 'ENOTSUP'].includes(e.errno ?? '')) throw e;
  }
}
