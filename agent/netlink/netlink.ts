/**
 * Netlink requests (rtnetlink, sock_diag, ctnetlink): links, addresses, routes, sockets of the
 * agent's network namespace or another.
 *
 * A socket belongs for good to the namespace in which it was created. So the main thread
 * enters a pod's namespace only for the one socket(2) call and returns before any other
 * JavaScript runs: no other code ever runs in the foreign namespace.
 */
import { closeSync, openSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { AgentError } from '../../src/errors.js';
import { formatBytes16 } from '../../src/net/addr.js';
import { sys } from '../kernel/libbpf/sys.js';
import {
  attr,
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
export const NETLINK_NETFILTER = 12;
export const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
const MSG_DONTWAIT = 0x40;
const CLONE_NEWNET = 0x40000000;
const EAGAIN = 11;

const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
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
  /** `aa:bb:cc:dd:ee:ff`; '' if the device has no 6-byte address. */
  readonly mac: string;
  /** Frames carry no link-layer header (tun, ipip, wireguard …). */
  readonly l3: boolean;
  /** For veth: index of the peer, in the peer's namespace. */
  readonly iflink: number | undefined;
  /** Id of the peer's namespace in this namespace's numbering; undefined: the peer is in this namespace. */
  readonly netnsid: number | undefined;
  /** Index of the bridge, bond … that it is a port of. */
  readonly master?: number;
  /** IFLA_INFO_DATA: attributes that depend on the kind. */
  readonly data?: Buffer;
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
  const ownFd = openSync('/proc/thread-self/ns/net', 'r');
  try {
    sys.setns(nsFd, CLONE_NEWNET);
    try {
      return fn();
    } finally {
      // In the wrong namespace every later look-up would be wrong: abort instead.
      try {
        sys.setns(ownFd, CLONE_NEWNET);
      } catch (e) {
        console.error(`cannot return to the agent's network namespace: ${(e as Error).message}`);
        process.abort();
      }
    }
  } finally {
    closeSync(ownFd);
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

  /** Opens a socket in a namespace. `nsFd`: an open /proc/PID/ns/net; by default the agent's own. Throws KERNEL. */
  static open(protocol = NETLINK_ROUTE, nsFd?: number): NetlinkSocket {
    const make = () => sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    const fd = nsFd === undefined ? make() : inNetns(nsFd, make);
    const one = Buffer.from([1, 0, 0, 0]);
    try {
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, one);
      sys.setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, one);
    } catch {
      // Older kernels send errors without a text.
    }
    return new NetlinkSocket(fd);
  }

  /**
   * Sends one request and returns its answers, without the final acknowledgement.
   * Throws KERNEL with the errno and the kernel's text.
   */
  request(type: number, flags: number, parts: readonly Buffer[], what = `netlink request ${type}`): NlMessage[] {
    return this.#exchange(type, flags | NLM_F_ACK, parts, what);
  }

  /**
   * A dump, which has many answers. If the kernel marks it as interrupted by a change, it is
   * repeated, up to 8 times. The last is returned in any case: the change raises its own event.
   */
  dump(type: number, parts: readonly Buffer[], what = `netlink dump ${type}`): NlMessage[] {
    let answers: NlMessage[] = [];
    for (let i = 0; i < 8; i++) {
      answers = this.#exchange(type, NLM_F_DUMP, parts, what);
      if (!answers.some((m) => m.flags & NLM_F_DUMP_INTR)) break;
    }
    return answers;
  }

  /** A dump that may be too large for memory. Each answer is valid until `visit` returns. */
  each(type: number, parts: readonly Buffer[], what: string, visit: (m: NlMessage) => void): void {
    this.#converse(type, NLM_F_DUMP, parts, what, visit);
  }

  #exchange(type: number, flags: number, parts: readonly Buffer[], what: string): NlMessage[] {
    const out: NlMessage[] = [];
    this.#converse(type, flags, parts, what, (m) => out.push({ ...m, body: Buffer.from(m.body) }));
    return out;
  }

  #converse(type: number, flags: number, parts: readonly Buffer[], what: string, visit: (m: NlMessage) => void): void {
    const seq = ++this.#seq;
    sys.send(this.#fd, message(type, NLM_F_REQUEST | flags, seq, parts));
    for (;;) {
      // The kernel answers within sendmsg(2) and recvmsg(2): an empty queue means
      // that there will be no answer, and must not block the agent for ever.
      const n = sys.recv(this.#fd, this.#buf, MSG_DONTWAIT);
      if (n === -EAGAIN) throw new AgentError('KERNEL', `${what}: no answer`, { errno: 'EAGAIN' });
      for (const m of parseMessages(this.#buf.subarray(0, n))) {
        if (m.seq !== seq) continue;
        if (m.type === NLMSG_ERROR || m.type === NLMSG_DONE) {
          const { errno, text } = parseError(m);
          if (errno === 0) return;
          const name = getSystemErrorName(-errno);
          throw new AgentError('KERNEL', `${what}: ${text || name}`, { errno: name });
        }
        visit(m);
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

  /** Unicast routes of all tables, IPv4 and IPv6. */
  routes(): Route[] {
    return this.dump(RTM_GETROUTE, [Buffer.alloc(12)], 'list of routes').flatMap((m) => parseRoute(m) ?? []);
  }

  /** Devices to which a default route leads, in any table, IPv4 or IPv6; ascending. */
  defaultRouteDevices(routes = this.routes()): number[] {
    const out = new Set(routes.filter((r) => r.cidr.endsWith('/0')).flatMap((r) => r.devices));
    return [...out].sort((a, b) => a - b);
  }

  /** The id of `nsFd`'s namespace in the numbering of the socket's namespace; undefined: it has none. */
  netnsid(nsFd: number): number | undefined {
    // NETNSA_FD = 3, NETNSA_NSID = 1 (linux/net_namespace.h); rtgenmsg padded to 4.
    const answers = this.request(RTM_GETNSID, 0, [Buffer.alloc(4), attrU32(3, nsFd)], 'namespace id');
    const id = u32Of(answers[0] && parseAttrs(answers[0].body, 4).get(1));
    return id === undefined || id === 0xffffffff ? undefined : id;
  }

  /** Sets a device's address to the one it has, so that the kernel no longer changes it by itself. Throws KERNEL. */
  keepAddress({ ifindex, mac }: Link): void {
    // struct ifinfomsg; IFLA_ADDRESS.
    const header = Buffer.alloc(16);
    header.writeInt32LE(ifindex, 4);
    const address = attr(1, Buffer.from(mac.replaceAll(':', ''), 'hex'));
    this.request(RTM_SETLINK, 0, [header, address], 'setting the address of a link');
  }

  /** The cookie of the socket's namespace (SO_NETNS_COOKIE): unique until the next boot. */
  cookie(): string {
    const cookie = Buffer.alloc(8);
    sys.getsockopt(this.#fd, SOL_SOCKET, SO_NETNS_COOKIE, cookie);
    return String(cookie.readBigUInt64LE());
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
  const details = info && parseAttrs(info, 0);
  const [master, data] = [u32Of(a.get(10)), details?.get(2)];
  return {
    ifindex,
    name: stringOf(a.get(3)),
    kind: stringOf(details?.get(1)),
    flags: m.body.readUInt32LE(8),
    mac: hardware?.length === 6 ? [...hardware].map((b) => b.toString(16).padStart(2, '0')).join(':') : '',
    l3: type !== ARPHRD_ETHER && type !== ARPHRD_LOOPBACK,
    // Older kernels leave IFLA_LINK out where the peer has the same index in its namespace.
    iflink: u32Of(a.get(5)) ?? (netnsid === undefined ? undefined : ifindex),
    netnsid: netnsid === 0xffffffff ? undefined : netnsid,
    ...(master === undefined ? {} : { master }),
    ...(data === undefined ? {} : { data }),
  };
}

/** An IPv4 address as the 16 bytes of ::ffff:a.b.c.d (bpf/types.h). */
export function mappedAddress(v4: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from('00000000000000000000ffff', 'hex'), v4]);
}

/** RTM_NEWADDR; undefined for a message without an IPv4 or IPv6 address. */
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
    address: formatBytes16(family === 4 ? mappedAddress(bytes) : bytes, family),
    prefix: m.body.readUInt8(1),
    scope: m.body.readUInt8(3),
  };
}

/** A unicast route: its destination and its devices. */
export interface Route {
  /** Canonical text, `::/0` for a default route. */
  readonly cidr: string;
  readonly devices: readonly number[];
}

/** RTM_NEWROUTE or RTM_DELROUTE; undefined: not a unicast route. */
export function parseRoute(m: NlMessage): Route | undefined {
  const RTN_UNICAST = 1;
  if (m.body.length < 12 || m.body[7] !== RTN_UNICAST || (m.body[0] !== 2 && m.body[0] !== 10)) return undefined;
  const a = parseAttrs(m.body, 12);
  const [family, length] = m.body[0] === 2 ? ([4, 4] as const) : ([6, 16] as const);
  const address = a.get(1)?.subarray(0, length) ?? Buffer.alloc(length);
  const bytes = family === 4 ? mappedAddress(address) : address;
  return { cidr: `${formatBytes16(bytes, family)}/${m.body[1]}`, devices: devicesOf(a) };
}

/** Outgoing devices of a unicast default route; empty for every other route. */
export function parseDefaultRoute(m: NlMessage): number[] {
  const route = m.body[1] === 0 ? parseRoute(m) : undefined;
  return [...(route?.devices ?? [])];
}

function devicesOf(a: ReturnType<typeof parseAttrs>): number[] {
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

/** Calls `fn` with a socket in the namespace at `path` (by default the agent's own) and closes it. Throws KERNEL. */
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
