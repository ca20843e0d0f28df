/**
 * A netlink socket for the kernel's notifications.
 *
 * libuv cannot poll a netlink socket, and a blocking read on its thread pool would hold one of its few threads and keep
 * the process alive. So the socket is in O_ASYNC mode: the kernel raises SIGIO when there is something to read, Node
 * turns the signal into a callback, and the queue is read until it is empty. No thread, no timer, and a signal listener
 * does not keep the process alive.
 */
import { AgentError } from '../../src/errors.js';
import { EAGAIN, sys } from '../kernel/libbpf/sys.js';
import { AF_NETLINK, NETLINK_ROUTE, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOL_NETLINK } from './netlink.js';
import { type NlMessage, parseMessages } from './nlmsg.js';

const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_LISTEN_ALL_NSID = 8;
const F_SETFL = 4;
const F_SETOWN = 8;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
const SO_RCVBUFFORCE = 33;
const SOL_SOCKET = 1;

/**
 * Readers that SIGIO wakes, in the order of their registration. The signal's listener is never removed: without one,
 * the signal would kill the process.
 */
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

export interface EventSocketOptions {
  /** Multicast groups (RTNLGRP_…). */
  groups: readonly number[];
  /** Also events of the namespaces at the other ends of this namespace's veths. */
  allNamespaces?: boolean;
  onMessage: (message: NlMessage) => void;
  /** The queue overflowed: events are lost. */
  onLost: () => void;
}

export class EventSocket {
  readonly #fd: number;
  readonly #buf = Buffer.alloc(65536);
  readonly #opts: EventSocketOptions;
  readonly #read = () => this.#drain();
  #closed = false;

  /** Opens the socket and joins the groups. Throws KERNEL. */
  constructor(opts: EventSocketOptions) {
    this.#opts = opts;
    this.#fd = sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    try {
      const option = (level: number, name: number, value: number) => {
        const b = Buffer.alloc(4);
        b.writeUInt32LE(value);
        sys.setsockopt(this.#fd, level, name, b);
      };
      option(SOL_SOCKET, SO_RCVBUFFORCE, 4 * 1024 * 1024);
      if (opts.allNamespaces) option(SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);
      // struct sockaddr_nl: a socket that is not bound gets no broadcasts.
      sys.bind(this.#fd, Buffer.from([AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
      for (const group of opts.groups) option(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
      onSigio(this.#read);
      sys.fcntl(this.#fd, F_SETOWN, process.pid);
      sys.fcntl(this.#fd, F_SETFL, O_NONBLOCK | O_ASYNC);
    } catch (e) {
      this.close();
      throw e;
    }
    // Messages between joining the groups and O_ASYNC raised no signal.
    this.#drain();
  }

  #drain(): void {
    while (!this.#closed) {
      let n: number;
      try {
        n = sys.recv(this.#fd, this.#buf, 0);
      } catch (e) {
        if (!(e instanceof AgentError) || e.errno !== 'ENOBUFS') throw e;
        this.#opts.onLost();
        continue;
      }
      if (n === -EAGAIN || n <= 0) return;
      for (const m of parseMessages(this.#buf.subarray(0, n))) this.#opts.onMessage(m);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    readers.delete(this.#read);
    sys.close(this.#fd);
  }
}
