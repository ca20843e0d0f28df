/**
 * Changes of links, addresses, default routes and tc hooks, pushed by the kernel.
 *
 * libuv cannot poll a netlink socket, and a blocking read on its thread pool would
 * hold one of its few threads and keep the process alive. So the socket is in
 * O_ASYNC mode: the kernel raises SIGIO when there is something to read, Node turns
 * the signal into a callback, and the queue is read until it is empty. No thread, no
 * timer, and a signal listener does not keep the process alive.
 */
import { AgentError } from '../src/errors.js';
import { sys } from './libbpf/sys.js';
import {
  AF_NETLINK,
  NETLINK_ROUTE,
  parseDefaultRoute,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_NETLINK,
} from './netlink.js';
import { parseMessages } from './nlmsg.js';

/** `lost`: the queue ran over, anything may have changed. */
export type NetworkEvent = 'link' | 'address' | 'route' | 'tc' | 'lost';

const NETLINK_LISTEN_ALL_NSID = 8;
const NETLINK_ADD_MEMBERSHIP = 1;
/** RTNLGRP_LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NSID. */
const GROUPS = [1, 4, 5, 7, 9, 11, 28];
const F_SETFL = 4;
const F_SETOWN = 8;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
const SO_RCVBUFFORCE = 33;
const SOL_SOCKET = 1;
const EAGAIN = 11;

/** Everything that wants to hear of SIGIO. The listener, once there, stays: without it the signal would kill us. */
const readers = new Set<() => void>();
let listening = false;
function onSigio(read: () => void): void {
  readers.add(read);
  if (listening) return;
  listening = true;
  process.on('SIGIO', () => {
    for (const r of [...readers]) r();
  });
}

function eventOf(type: number): NetworkEvent | undefined {
  if (type === 16 || type === 17 || type === 88 || type === 89) return 'link';
  if (type === 20 || type === 21) return 'address';
  if (type === 24 || type === 25) return 'route';
  if ((type >= 36 && type <= 38) || (type >= 44 && type <= 46)) return 'tc';
  return undefined;
}

/**
 * Calls back with what kinds of things have changed: at once for the first change, then
 * at most every `settleMillis` while changes go on. Changes in the namespaces at
 * the other end of our veths are heard too, so that an address given to a pod later is noticed.
 */
export class NetworkEvents {
  readonly #fd: number;
  readonly #buf = Buffer.alloc(65536);
  readonly #onChange: (events: ReadonlySet<NetworkEvent>) => void;
  readonly #settleMillis: number;
  readonly #read = () => this.#drain();
  #seen = new Set<NetworkEvent>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Throws KERNEL. `settleMillis`: milliseconds, 20 by default. */
  constructor(onChange: (events: ReadonlySet<NetworkEvent>) => void, opts: { settleMillis?: number } = {}) {
    this.#onChange = onChange;
    this.#settleMillis = opts.settleMillis ?? 20;
    this.#fd = sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    try {
      const option = (level: number, name: number, value: number) => {
        const b = Buffer.alloc(4);
        b.writeUInt32LE(value);
        sys.setsockopt(this.#fd, level, name, b);
      };
      option(SOL_SOCKET, SO_RCVBUFFORCE, 4 * 1024 * 1024);
      option(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);
      // struct sockaddr_nl: without a port id of its own the socket is left out of broadcasts.
      sys.bind(this.#fd, Buffer.from([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
      for (const group of GROUPS) option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
      onSigio(this.#read);
      sys.fcntl(this.#fd, F_SETOWN, process.pid);
      sys.fcntl(this.#fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    } catch (e) {
      this.close();
      throw e;
    }
    // What came between joining the groups and O_ASYNC raised no signal.
    this.#drain();
  }

  #drain(): void {
    while (!this.#closed) {
      let n: number;
      try {
        n = sys.recv(this.#fd, this.#buf, 0);
      } catch (e) {
        if (!(e instanceof AgentError) || e.errno !== 'ENOBUFS') throw e;
        this.#note('lost');
        continue;
      }
      if (n === -EAGAIN || n <= 0) return;
      for (const m of parseMessages(this.#buf.subarray(0, n))) {
        const event = eventOf(m.type);
        // A node may hear of thousands of routes; only default routes make an uplink.
        if (event && (event !== 'route' || parseDefaultRoute(m).length > 0)) this.#note(event);
      }
    }
  }

  #note(event: NetworkEvent): void {
    this.#seen.add(event);
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#tell(), 0);
    this.#timer.unref();
  }

  #tell(): void {
    this.#timer = undefined;
    if (this.#closed || this.#seen.size === 0) return;
    const events = this.#seen;
    this.#seen = new Set();
    // Armed before the call: changes that the callback itself makes wait their turn.
    this.#timer = setTimeout(() => this.#tell(), this.#settleMillis);
    this.#timer.unref();
    this.#onChange(events);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    readers.delete(this.#read);
    clearTimeout(this.#timer);
    sys.close(this.#fd);
  }
}
