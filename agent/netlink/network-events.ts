/** The kernel's notifications of changed links, addresses, default routes and tc hooks. */
import { EventSocket } from './event-socket.js';
import { parseDefaultRoute } from './netlink.js';

/** What changed. `lost`: the queue overflowed, so anything may have changed. */
export type NetworkEvent = 'link' | 'address' | 'route' | 'tc' | 'lost';

/** RTNLGRP_LINK, TC, IPV4_IFADDR, IPV4_ROUTE, IPV6_IFADDR, IPV6_ROUTE, NSID. */
const GROUPS = [1, 4, 5, 7, 9, 11, 28];

function eventOf(type: number): NetworkEvent | undefined {
  if (type === 16 || type === 17 || type === 88 || type === 89) return 'link';
  if (type === 20 || type === 21) return 'address';
  if (type === 24 || type === 25) return 'route';
  if ((type >= 36 && type <= 38) || (type >= 44 && type <= 46)) return 'tc';
  return undefined;
}

/**
 * Calls back with the kinds of changes: at once for the first change, then at most every
 * `settleMillis` while changes go on. Includes changes in the namespaces at the other ends of
 * the agent's veths, so that an address that a pod gets later is noticed.
 */
export class NetworkEvents {
  readonly #socket: EventSocket;
  readonly #onChange: (events: ReadonlySet<NetworkEvent>) => void;
  readonly #settleMillis: number;
  #pending = new Set<NetworkEvent>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Throws KERNEL. `settleMillis`: milliseconds, 20 by default. */
  constructor(onChange: (events: ReadonlySet<NetworkEvent>) => void, opts: { settleMillis?: number } = {}) {
    this.#onChange = onChange;
    this.#settleMillis = opts.settleMillis ?? 20;
    this.#socket = new EventSocket({
      groups: GROUPS,
      allNamespaces: true,
      onMessage: (m) => {
        const event = eventOf(m.type);
        // A node may have thousands of routes; only default routes make an uplink.
        if (event && (event !== 'route' || parseDefaultRoute(m).length > 0)) this.#note(event);
      },
      onLost: () => this.#note('lost'),
    });
  }

  #note(event: NetworkEvent): void {
    this.#pending.add(event);
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#flush(), 0);
    this.#timer.unref();
  }

  #flush(): void {
    this.#timer = undefined;
    if (this.#closed || this.#pending.size === 0) return;
    const events = this.#pending;
    this.#pending = new Set();
    // Set before the call, so that changes by the callback itself wait for the next period.
    this.#timer = setTimeout(() => this.#flush(), this.#settleMillis);
    this.#timer.unref();
    this.#onChange(events);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#socket.close();
  }
}
