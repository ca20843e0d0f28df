/**
 * rtnetlink and sock_diag over sockets of our own: links, addresses, default
 * routes, in the agent's network namespace or another.
 *
 * A socket belongs for good to the namespace in which it was created. So the main
 * thread enters a pod's namespace only for the one socket(2) call and is back before
 * any other JavaScript runs: nothing else ever sees the foreign namespace.
 */
import { closeSync, openSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { AgentError } from '../src/errors.js';
import { formatBytes16 } from '../src/net/addr.js';
import { sys } from './libbpf/sys.js';
import {
  attrU32,
  message,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  type NlMessage,
  NLMSG_DONE,
  NLMSG_ERROR,
  parseAttrs,
  parseError,
  parseMessages,
  stringOf,
  u32Of,
} from './nlmsg.js';

export const AF_NETLINK = 16;
export const SOCK_RAW = 3;
export const SOCK_CLOEXEC = 0x80000;
export const SOCK_NONBLOCK = 0x800;
export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const MSG_DONTWAIT = 0x40;
const CLONE_NEWNET = 0x40000000;
const EAGAIN = 11;

const RTM_GETLINK = 18;
const RTM_GETADDR = 22;
const RTM_GETROUTE = 26;
const RTM_GETNSID = 90;

export const IFF_UP = 0x1;
export const IFF_LOOPBACK = 0x8;
const ARPHRD_ETHER = 1;
const ARPHRD_LOOPBACK = 772;

/** A network device as RTM_NEWLINK shows it. */
export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** IFLA_INFO_KIND: `veth`, `bridge`, `vxlan` …; '' for hardware. */
  readonly kind: string;
  /** IFF_* bits. */
  readonly flags: number;
  /** `aa:bb:cc:dd:ee:ff`; '' where the device has no such address. */
  readonly mac: string;
  /** Frames carry no link-layer header (tun, ipip, wireguard …). */
  readonly l3: boolean;
  /** For veth: index of the peer, in the peer's namespace. */
  readonly iflink: number | undefined;
  /** Id of the peer's namespace, as this one numbers it; undefined: this namespace. */
  readonly netnsid: number | undefined;
}

export interface Address {
  readonly ifindex: number;
  readonly family: 4 | 6;
  /** Canonical text. */
  readonly address: string;
  readonly prefix: number;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
}

/** Runs `fn` inside the network namespace `nsFd`. `fn` must be synchronous. */
export function inNetns<T>(nsFd: number, fn: () => T): T {
  const own = openSync('/proc/thread-self/ns/net', 'r');
  try {
    sys.setns(nsFd, CLONE_NEWNET);
    try {
      return fn();
    } finally {
      // Staying behind would make every later lookup lie: better not to run at all.
      try {
        sys.setns(own, CLONE_NEWNET);
      } catch (e) {
        console.error(`cannot return to the agent's network namespace: ${(e as Error).message}`);
        process.abort();
      }
    }
  } finally {
    closeSync(own);
  }
}

/** A request/answer netlink socket. Not for events: see NetworkEvents. */
export class NetlinkSocket {
  readonly #fd: number;
  readonly #buf = Buffer.alloc(65536);
  #seq = 0;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** `nsFd`: an open /proc/PID/ns/net; without it the agent's own namespace. Throws KERNEL. */
  static open(protocol = NETLINK_ROUTE, nsFd?: number): NetlinkSocket {
    const make = () => sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    const fd = nsFd === undefined ? make() : inNetns(nsFd, make);
    const one = Buffer.from([1, 0, 0, 0]);
    try {
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, one);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, one);
    } catch {
      // Older kernels: errors come without a text.
    }
    return new NetlinkSocket(fd);
  }

  /**
   * Sends one request and returns what it was answered, without the closing
   * acknowledgement. Throws KERNEL with the errno and the kernel's text.
   */
  request(type: number, flags: number, parts: readonly Buffer[], what = `netlink request ${type}`): NlMessage[] {
    return this.#exchange(type, flags | NLM_F_ACK, parts, what);
  }

  /**
   * A dump: many answers. One that the kernel marks as interrupted by a change is
   * taken again, up to 8 times; the last is returned even so, as the change's own event follows.
   */
  dump(type: number, parts: readonly Buffer[], what = `netlink dump ${type}`): NlMessage[] {
    let answers: NlMessage[] = [];
    for (let i = 0; i < 8; i++) {
      answers = this.#exchange(type, NLM_F_DUMP, parts, what);
      if (!answers.some((m) => m.flags & NLM_F_DUMP_INTR)) break;
    }
    return answers;
  }

  #exchange(type: number, flags: number, parts: readonly Buffer[], what: string): NlMessage[] {
    const seq = ++this.#seq;
    sys.send(this.#fd, message(type, NLM_F_REQUEST | flags, seq, parts));
    const out: NlMessage[] = [];
    for (;;) {
      // The kernel answers within sendmsg(2) and recvmsg(2): an empty queue means
      // that there will be no answer, and must not block the agent for ever.
      const n = sys.recv(this.#fd, this.#buf, MSG_DONTWAIT);
      if (n === -EAGAIN) throw new AgentError('KERNEL', `${what}: no answer`, { errno: 'EAGAIN' });
      for (const m of parseMessages(Buffer.from(this.#buf.subarray(0, n)))) {
        if (m.seq !== seq) continue;
        if (m.type === NLMSG_ERROR || m.type === NLMSG_DONE) {
          const { errno, text } = parseError(m);
          if (errno === 0) return out;
          const name = getSystemErrorName(-errno);
          throw new AgentError('KERNEL', `${what}: ${text || name}`, { errno: name });
        }
        out.push(m);
      }
    }
  }

  /** All devices of the socket's namespace. */
  links(): Link[] {
    const links: Link[] = [];
    for (const m of this.dump(RTM_GETLINK, [Buffer.alloc(16)], 'list of links')) {
      const link = parseLink(m);
      if (link) links.push(link);
    }
    return links;
  }

  /** All addresses of the socket's namespace, IPv4 and IPv6. */
  addresses(): Address[] {
    const out: Address[] = [];
    for (const m of this.dump(RTM_GETADDR, [Buffer.alloc(8)], 'list of addresses')) {
      const address = parseAddress(m);
      if (address) out.push(address);
    }
    return out;
  }

  /** Devices to which a default route leads, in any table, IPv4 or IPv6; ascending. */
  defaultRouteDevices(): number[] {
    const out = new Set<number>();
    for (const m of this.dump(RTM_GETROUTE, [Buffer.alloc(12)], 'list of routes')) {
      for (const ifindex of parseDefaultRoute(m)) out.add(ifindex);
    }
    return [...out].sort((a, b) => a - b);
  }

  /** The id by which the socket's namespace knows `nsFd`'s; undefined: it has none. */
  netnsid(nsFd: number): number | undefined {
    // NETNSA_FD = 3, NETNSA_NSID = 1 (linux/net_namespace.h); rtgenmsg padded to 4.
    const answers = this.request(RTM_GETNSID, 0, [Buffer.alloc(4), attrU32(3, nsFd)], 'namespace id');
    const id = u32Of(answers[0] && parseAttrs(answers[0].body, 4).get(1));
    return id === undefined || id === 0xffffffff ? undefined : id;
  }

  close(): void {
    sys.close(this.#fd);
  }
}

/** RTM_NEWLINK or RTM_DELLINK; undefined for a message that is too short. */
export function parseLink(m: NlMessage): Link | undefined {
  if (m.body.length < 16) return undefined;
  const a = parseAttrs(m.body, 16);
  const type = m.body.readUInt16LE(2);
  const hardware = a.get(1);
  const info = a.get(18);
  const netnsid = u32Of(a.get(37));
  const ifindex = m.body.readInt32LE(4);
  return {
    ifindex,
    name: stringOf(a.get(3)),
    kind: info ? stringOf(parseAttrs(info, 0).get(1)) : '',
    flags: m.body.readUInt32LE(8),
    mac: hardware?.length === 6 ? [...hardware].map((b) => b.toString(16).padStart(2, '0')).join(':') : '',
    l3: type !== ARPHRD_ETHER && type !== ARPHRD_LOOPBACK,
    // Older kernels leave IFLA_LINK out where the peer has the same index in its namespace.
    iflink: u32Of(a.get(5)) ?? (netnsid === undefined ? undefined : ifindex),
    netnsid: netnsid === 0xffffffff ? undefined : netnsid,
  };
}

/** An IPv4 address as the 16 bytes of ::ffff:a.b.c.d (bpf/types.h). */
export function mapped(v4: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('00000000000000000000ffff', 'hex'), v4]);
}

export function parseAddress(m: NlMessage): Address | undefined {
  if (m.body.length < 8) return undefined;
  const family = m.body[0] === 2 ? 4 : m.body[0] === 10 ? 6 : undefined;
  const a = parseAttrs(m.body, 8);
  // IFA_LOCAL before IFA_ADDRESS: on point-to-point devices the latter is the peer's.
  const bytes = a.get(2) ?? a.get(1);
  if (!family || bytes?.length !== (family === 4 ? 4 : 16)) return undefined;
  return {
    ifindex: m.body.readUInt32LE(4),
    family,
    address: formatBytes16(family === 4 ? mapped(bytes) : bytes, family),
    prefix: m.body.readUInt8(1),
    scope: m.body.readUInt8(3),
  };
}

/** Outgoing devices of a unicast default route; empty for every other route. */
export function parseDefaultRoute(m: NlMessage): number[] {
  const RTN_UNICAST = 1;
  if (m.body.length < 12 || m.body[1] !== 0 || m.body[7] !== RTN_UNICAST) return [];
  const a = parseAttrs(m.body, 12);
  const oif = u32Of(a.get(4));
  if (oif !== undefined) return [oif];
  // RTA_MULTIPATH: struct rtnexthop { u16 len; u8 flags, hops; s32 ifindex }, then attributes.
  const hops = a.get(9);
  const out: number[] = [];
  for (let at = 0; hops && at + 8 <= hops.length; ) {
    const length = hops.readUInt16LE(at);
    if (length < 8) break;
    out.push(hops.readInt32LE(at + 4));
    at += (length + 3) & ~3;
  }
  return out;
}

/** Calls `fn` with a socket in the namespace at `path` (or our own) and closes it. */
export function withNetlink<T>(
  path: string | undefined,
  fn: (nl: NetlinkSocket, nsFd: number | undefined) => T,
  protocol = NETLINK_ROUTE,
): T {
  const nsFd = path === undefined ? undefined : openSync(path, 'r');
  try {
    const nl = NetlinkSocket.open(protocol, nsFd);
    try {
      return fn(nl, nsFd);
    } finally {
      nl.close();
    }
  } finally {
    if (nsFd !== undefined) closeSync(nsFd);
  }
}
