/**
 * Reports each interface of the agent's own namespace as soon as the kernel announces it, so that a new one is closed
 * before its owner is looked up. Without that, a pod could create a veth and send through it until the next pass.
 * NetworkEvents cannot do this: it waits to batch events, and does not distinguish the namespaces that they come from.
 *
 * THE DELAY. The kernel announces a device after its registration, and neither a clsact filter nor a tcx link can be
 * attached before that. Between announcement and attachment are a signal, a turn of the event loop and two system
 * calls, during which the device works. Measured with a pod that makes itself a veth and floods it with some 100,000
 * frames a second (test/netns/second-veth.test.ts, 2 cores with other load): if only the next pass closes the veth, 480
 * to 1,070 frames get through, now and then 6,000; with the alarm 0 to 4, or, if a pass is running at that moment,
 * those of its duration, a few hundred.
 */
import { EventSocket } from './event-socket.js';
import { type Link, parseLink } from './netlink.js';

const RTNLGRP_LINK = 1;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;

export interface LinkListener {
  /** An interface is new, or has changed. */
  appeared(link: Link): void;
  /** An interface was removed. */
  disappeared(ifindex: number): void;
}

export class LinkAlarm {
  readonly #socket: EventSocket;

  /** Throws KERNEL. Lost messages need no handling: NetworkEvents loses them too, and schedules a pass. */
  constructor(listener: LinkListener) {
    this.#socket = new EventSocket({
      groups: [RTNLGRP_LINK],
      onMessage: (m) => {
        if (m.type !== RTM_NEWLINK && m.type !== RTM_DELLINK) return;
        // Bridges announce their ports in the same group.
        const AF_BRIDGE = 7;
        if (m.body[0] === AF_BRIDGE) return;
        const link = parseLink(m);
        if (!link) return;
        if (m.type === RTM_NEWLINK) listener.appeared(link);
        else listener.disappeared(link.ifindex);
      },
      onLost: () => undefined,
    });
  }

  close(): void {
    this.#socket.close();
  }
}
