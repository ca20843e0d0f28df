/**
 * The clsact qdisc and its bpf filters, for kernels without tcx. Uses rtnetlink and not
 * libbpf's bpf_tc_*, which cannot name a filter, list the filters of others, or find a
 * filter's owner before they replace it.
 */
import { AgentError } from '../../src/errors.js';
import type { Direction } from './hook-kind.js';
import type { NetlinkSocket } from '../netlink/netlink.js';
import {
  attrNested,
  attrString,
  attrU32,
  NLM_F_CREATE,
  NLM_F_EXCL,
  type NlMessage,
  parseAttrs,
  stringOf,
  u32Of,
} from '../netlink/nlmsg.js';

/**
 * Priority of our filters: early, since a program that returns TC_ACT_OK ends the list, and
 * later filters do not run; not the first, as others insist on 1. Filters are identified by
 * name and handle, so sharing the priority would do no harm.
 */
export const PRIORITY = 0xea;
export const HANDLE = 0xea00;
const HANDLES = 16;
/** TCA_BPF_NAME of our filters, by which they are identified. */
const NAME = 'egress-agent';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

const TC_H_CLSACT = 0xfffffff1;
const PARENT: Record<Direction, number> = { ingress: 0xfffffff2, egress: 0xfffffff3 };
/** htons(ETH_P_ALL) on a little-endian host. */
const ETH_P_ALL = 0x0300;

const TCA_KIND = 1;
const TCA_OPTIONS = 2;
const TCA_INGRESS_BLOCK = 13;
const TCA_EGRESS_BLOCK = 14;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
const TCA_BPF_FLAG_ACT_DIRECT = 1;

export interface TcFilter {
  readonly kind: string;
  readonly priority: number;
  readonly handle: number;
  /** Of bpf filters. */
  readonly name: string;
  readonly programId: number | undefined;
  /** Made by this agent or an earlier one. */
  readonly ours: boolean;
}

/** struct tcmsg: family, padding, ifindex, handle, parent, info (priority << 16 | protocol). */
function tcmsg(ifindex: number, handle: number, parent: number, info: number): Buffer {
  const b = Buffer.alloc(20);
  b.writeInt32LE(ifindex, 4);
  b.writeUInt32LE(handle >>> 0, 8);
  b.writeUInt32LE(parent >>> 0, 12);
  b.writeUInt32LE(info >>> 0, 16);
  return b;
}

const infoOf = (priority: number) => ((priority << 16) | ETH_P_ALL) >>> 0;

function parseFilter(m: NlMessage): TcFilter | undefined {
  if (m.type !== RTM_NEWTFILTER || m.body.length < 20) return undefined;
  const a = parseAttrs(m.body, 20);
  const kind = stringOf(a.get(TCA_KIND));
  const options = a.get(TCA_OPTIONS);
  const handle = m.body.readUInt32LE(8);
  // Each priority is listed by itself too, with handle 0 and no options.
  if (handle === 0 && !options) return undefined;
  const bpf = kind === 'bpf' && options ? parseAttrs(options, 0) : undefined;
  const name = stringOf(bpf?.get(TCA_BPF_NAME));
  return {
    kind,
    priority: m.body.readUInt32LE(16) >>> 16,
    handle,
    name,
    programId: u32Of(bpf?.get(TCA_BPF_ID)),
    ours: name === NAME || name.startsWith(`${NAME}/`),
  };
}

/**
 * The qdisc at a device's TC_H_CLSACT, which is also TC_H_INGRESS: `clsact`, `ingress`, or undefined. Throws KERNEL.
 */
export function ingressQdisc(nl: NetlinkSocket, ifindex: number): { kind: string; shared: boolean } | undefined {
  for (const m of nl.dump(RTM_GETQDISC, [tcmsg(ifindex, 0, 0, 0)], 'list of qdiscs')) {
    if (m.type !== RTM_NEWQDISC || m.body.length < 20 || m.body.readInt32LE(4) !== ifindex) continue;
    if (m.body.readUInt32LE(12) !== TC_H_CLSACT) continue;
    const a = parseAttrs(m.body, 20);
    const shared = a.has(TCA_INGRESS_BLOCK) || a.has(TCA_EGRESS_BLOCK);
    return { kind: stringOf(a.get(TCA_KIND)), shared };
  }
  return undefined;
}

/** Indices of all devices with a clsact, whoever made it. */
export function clsactDevices(nl: NetlinkSocket): number[] {
  const out: number[] = [];
  for (const m of nl.dump(RTM_GETQDISC, [tcmsg(0, 0, 0, 0)], 'list of qdiscs')) {
    if (m.type !== RTM_NEWQDISC || m.body.length < 20 || m.body.readUInt32LE(12) !== TC_H_CLSACT) continue;
    if (stringOf(parseAttrs(m.body, 20).get(TCA_KIND)) === 'clsact') out.push(m.body.readInt32LE(4));
  }
  return out;
}

/** Adds clsact if there is none; true: it was added. Throws KERNEL, with a hint if an `ingress` qdisc is in the way. */
export function ensureClsact(nl: NetlinkSocket, ifindex: number, ifname: string): boolean {
  const qdisc = ingressQdisc(nl, ifindex);
  if (qdisc?.kind === 'clsact') return false;
  if (qdisc) {
    throw new AgentError('KERNEL', `${ifname} has another owner's ${qdisc.kind} qdisc, beside which clsact cannot be`, {
      errno: 'EEXIST',
      where: { object: `interface ${ifname}` },
      hint: 'use a kernel with tcx (6.6), or remove what added that qdisc (the bandwidth CNI plugin does)',
    });
  }
  try {
    nl.request(
      RTM_NEWQDISC,
      NLM_F_CREATE | NLM_F_EXCL,
      [tcmsg(ifindex, 0xffff0000, TC_H_CLSACT, 0), attrString(TCA_KIND, 'clsact')],
      `clsact on ${ifname}`,
    );
    return true;
  } catch (e) {
    // Another program added it meanwhile: it is theirs.
    if (e instanceof AgentError && e.errno === 'EEXIST') return false;
    throw e;
  }
}

/** All filters of one hook, in the order in which they run; empty where there is no clsact. */
export function listFilters(nl: NetlinkSocket, ifindex: number, direction: Direction): TcFilter[] {
  let answers: NlMessage[];
  try {
    answers = nl.dump(RTM_GETTFILTER, [tcmsg(ifindex, 0, PARENT[direction], 0)], 'list of filters');
  } catch (e) {
    // The qdisc or the device does not exist.
    if (e instanceof AgentError && ['EINVAL', 'ENODEV', 'ENOENT'].includes(e.errno ?? '')) return [];
    throw e;
  }
  const out: TcFilter[] = [];
  for (const m of answers) {
    const filter = parseFilter(m);
    if (filter) out.push(filter);
  }
  return out;
}

/**
 * Adds a filter with the program to the hook, or atomically replaces the program of our
 * filter there. A handle that somebody else uses is skipped.
 * Throws KERNEL: ENODEV if the device no longer exists.
 */
export function putFilter(nl: NetlinkSocket, ifindex: number, direction: Direction, programFd: number): void {
  const filters = listFilters(nl, ifindex, direction);
  const ours = filters.find((f) => f.ours);
  const write = (priority: number, handle: number, flags: number) =>
    nl.request(
      RTM_NEWTFILTER,
      flags,
      [
        tcmsg(ifindex, handle, PARENT[direction], infoOf(priority)),
        attrString(TCA_KIND, 'bpf'),
        attrNested(
          TCA_OPTIONS,
          attrU32(TCA_BPF_FD, programFd),
          attrString(TCA_BPF_NAME, `${NAME}/${direction}`),
          attrU32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT),
        ),
      ],
      `filter on interface ${ifindex} ${direction}`,
    );
  if (ours) {
    write(ours.priority, ours.handle, NLM_F_CREATE);
    return;
  }
  for (let handle = HANDLE; ; handle++) {
    try {
      write(PRIORITY, handle, NLM_F_CREATE | NLM_F_EXCL);
      return;
    } catch (e) {
      if (!(e instanceof AgentError) || e.errno !== 'EEXIST' || handle === HANDLE + HANDLES) throw e;
    }
  }
}

/** Removes our filters from the hook, and no others. Returns their number. Throws KERNEL. */
export function removeFilters(nl: NetlinkSocket, ifindex: number, direction: Direction): number {
  let n = 0;
  for (const f of listFilters(nl, ifindex, direction)) {
    if (!f.ours) continue;
    nl.request(
      RTM_DELTFILTER,
      0,
      [tcmsg(ifindex, f.handle, PARENT[direction], infoOf(f.priority)), attrString(TCA_KIND, 'bpf')],
      `removal of filter ${f.handle} on interface ${ifindex}`,
    );
    n++;
  }
  return n;
}

/** Removes a clsact without filters; false: it stays, as somebody uses it. Throws KERNEL. */
export function removeEmptyClsact(nl: NetlinkSocket, ifindex: number): boolean {
  const qdisc = ingressQdisc(nl, ifindex);
  if (qdisc?.kind !== 'clsact' || qdisc.shared) return false;
  for (const direction of ['ingress', 'egress'] as const) {
    if (listFilters(nl, ifindex, direction).length > 0) return false;
  }
  nl.request(
    RTM_DELQDISC,
    0,
    [tcmsg(ifindex, 0xffff0000, TC_H_CLSACT, 0)],
    `removal of clsact on interface ${ifindex}`,
  );
  return true;
}
