/** Entries of the kernel's connection tracking, made by hand over ctnetlink: what the hooks find there as if kube-proxy had translated. */
import { NetlinkSocket } from '../../agent/netlink/netlink.js';
import { attr, attrNested, NLM_F_CREATE, NLM_F_EXCL } from '../../agent/netlink/nlmsg.js';
import { parseAddr } from '../../src/net/addr.js';
import type { Tuple } from './flow-types.js';

const NETLINK_NETFILTER = 12;
/** linux/netfilter/nfnetlink_conntrack.h: the subsystem's number is the high byte. */
const [CT_NEW, CT_DELETE] = [0x100, 0x102];
const TUPLE_ORIG = 1;
const TUPLE_REPLY = 2;
const STATUS = 3;
const PROTOINFO = 4;
const TIMEOUT = 7;
/** Seen a reply, assured, confirmed: IPS_*. */
const ESTABLISHED = 2 | 4 | 8;
const TCP_ESTABLISHED = 3;
const MINUTE = 60;

function big32(value: number): Buffer {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(value);
  return b;
}

function tuple(kind: number, { protocol, src, sport, to, dport }: Tuple): Buffer {
  const port = (n: number) => big32(n).subarray(2);
  const v4 = parseAddr(src).family === 4;
  const bytes = (text: string) => Buffer.from(parseAddr(text).bytes.subarray(v4 ? 12 : 0));
  return attrNested(
    kind,
    attrNested(1, attr(v4 ? 1 : 3, bytes(src)), attr(v4 ? 2 : 4, bytes(to))),
    attrNested(2, attr(1, Buffer.from([protocol])), attr(2, port(sport)), attr(3, port(dport))),
  );
}

export class Conntrack {
  readonly #socket: NetlinkSocket;

  /** @param nsFd whose connections */
  constructor(nsFd: number) {
    this.#socket = NetlinkSocket.open(NETLINK_NETFILTER, nsFd);
  }

  /** TCP and UDP: no other can be looked up from BPF. `reply`: as the answers come. */
  add(first: Tuple, reply: Tuple): void {
    const { protocol, src } = first;
    if (protocol !== 6 && protocol !== 17) return;
    const head = Buffer.from([parseAddr(src).family === 4 ? 2 : 10, 0, 0, 0]);
    const tcp = attrNested(PROTOINFO, attrNested(1, attr(1, Buffer.from([TCP_ESTABLISHED]))));
    this.#socket.request(CT_NEW, NLM_F_CREATE | NLM_F_EXCL, [
      head,
      tuple(TUPLE_ORIG, first),
      tuple(TUPLE_REPLY, reply),
      attr(STATUS, big32(ESTABLISHED)),
      attr(TIMEOUT, big32(10 * MINUTE)),
      ...(protocol === 6 ? [tcp] : []),
    ]);
  }

  remove(first: Tuple): void {
    if (first.protocol !== 6 && first.protocol !== 17) return;
    const head = Buffer.from([parseAddr(first.src).family === 4 ? 2 : 10, 0, 0, 0]);
    this.#socket.request(CT_DELETE, 0, [head, tuple(TUPLE_ORIG, first)]);
  }

  clear(): void {
    this.#socket.request(CT_DELETE, 0, [Buffer.alloc(4)]);
  }

  close(): void {
    this.#socket.close();
  }
}
