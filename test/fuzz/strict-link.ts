/**
 * The strict parser's part for what passes without a rule: ARP and what IPv6 has in its place. A pod may speak for itself, in the very
 * form of the RFCs, to those on its link. What speaks for others is bad whatever the rules say; what is in another form is a packet,
 * for rules to judge, and may be dropped even so (a text: why).
 */
import { formatBytes16, parseAddr } from '../../src/net/addr.js';
import { type Ends, isLinkLocal, linkLocalOf, macOf, type Reading, type Site } from './strict-reading.js';

const bad = (why: string): Reading => ({ kind: 'bad', why });
const LINK: Reading = { kind: 'link' };

/** RFC 826, 5227: requests and answers, of Ethernet and IPv4. */
export function arpReading(arp: Buffer, hop: string, site: Site): Reading {
  if (arp.length < 28) return bad('cut ARP');
  if (arp.readUInt32BE(0) !== 0x0001_0800 || arp.readUInt16BE(4) !== 0x0604) return bad('ARP of another kind');
  const operation = arp.readUInt16BE(6);
  if (operation !== 1 && operation !== 2) return bad('ARP operation');
  const sender = [...arp.subarray(14, 18)].join('.');
  const probe = operation === 1 && sender === '0.0.0.0';
  if (macOf(arp, 8) !== site.mac || (!probe && !site.own.has(sender))) return bad('ARP for somebody else');
  // Ethernet's shortest frame has room for 46 bytes: what fills it up is nothing, and more is a message.
  if (arp.length > 46) return bad('more than ARP');
  if (arp.length > 28) return { kind: 'link', doubt: 'ARP with padding, which no veth needs' };
  const asked = macOf(arp, 18);
  if (operation === 2 && asked !== hop) return { kind: 'link', doubt: 'an answer to somebody else than the frame' };
  if (operation === 2 && !site.ownNode.has(askedAddress(arp)) && !site.neighbours.has(askedAddress(arp)))
    return { kind: 'link', doubt: 'an answer to an address that nobody has' };
  const empty = operation === 2 || ['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', hop].includes(asked);
  return empty ? LINK : { kind: 'link', doubt: 'a question that has a MAC where the answer should be' };
}

function askedAddress(arp: Buffer): string {
  return [...arp.subarray(24, 28)].join('.');
}

interface Message extends Ends {
  /** MAC that the frame goes to. */
  readonly hop: string;
  /** Traffic class and flow label. */
  readonly label: number;
  readonly icmp: Buffer;
  readonly hops: number;
  /** Extension headers before it. */
  readonly headers: Buffer;
  /** Bytes of the frame behind the packet. */
  readonly trailing: number;
}

/** undefined: a packet as any other. A text: the same, and why it may be dropped even if rules allow it. */
export function linkReading(m: Message, site: Site | undefined): Reading | string | undefined {
  const type = m.icmp[0] as number;
  if (m.trailing > 0 && site) return isDiscovery(type) || isListener(type) ? 'bytes behind link traffic' : undefined;
  if (isDiscovery(type)) return site ? neighbour(m, type, site) : ofNode(m, 255);
  if (isListener(type)) return site ? listener(m, type, site) : ofNode(m, 1);
  return undefined;
}

const isDiscovery = (type: number) => type >= 133 && type <= 137;
const isListener = (type: number) => [130, 131, 132, 143].includes(type);

/** A node is believed on its link. */
function ofNode({ hops, to, headers }: Message, limit: number): Reading | string {
  const near = to.startsWith('ff02:') || (limit === 255 && isLinkLocal(to));
  const doubt = 'link traffic in a form of its own';
  if (hops !== limit) return doubt;
  return near && headers.length <= 8 ? LINK : { kind: 'link', doubt };
}

/** Link-local addresses that are known to be others': the bridge's and the neighbours', as their MACs give them. */
function othersLinkLocal(address: string, site: Site): boolean {
  return [site.gateway, ...site.neighbours.values()].some((mac) => mac !== undefined && linkLocalOf(mac) === address);
}

function ownOrUnknown(address: string, site: Site): boolean {
  return site.own.has(address) || (isLinkLocal(address) && !othersLinkLocal(address, site));
}

/** Not the one that is made of the pod's Ethernet address (RFC 4291, appendix A): whose it is, the link may know. */
function perhapsOthers(address: string, site: Site): boolean {
  return isLinkLocal(address) && address !== linkLocalOf(site.mac);
}

/** No label, and a frame to a group goes to its Ethernet address (RFC 2464, 7). */
function isPlain({ to, hop, label }: Message): boolean {
  const low = parseAddr(to).bytes.subarray(12);
  return (
    label === 0 &&
    (!to.startsWith('ff') || hop === ['33', '33', ...[...low].map((b) => b.toString(16).padStart(2, '0'))].join(':'))
  );
}

/** The group of those who may have an address: RFC 4291, 2.7.1. */
function asksFor(group: string, target: string): boolean {
  const [g, t] = [parseAddr(group).bytes, parseAddr(target).bytes];
  const head = Buffer.from('ff0200000000000000000001ff', 'hex');
  return head.every((b, i) => b === g[i]) && [13, 14, 15].every((i) => g[i] === t[i]);
}

/** Router and neighbour solicitations, neighbour advertisements. */
function neighbour(m: Message, type: number, site: Site): Reading | string {
  const { icmp, src, to } = m;
  // RFC 4861, 6.1.1, 7.1.1, 7.1.2: with another hop limit nobody takes it for neighbour discovery, nor in fragments (RFC 6980).
  if (m.hops !== 255 || m.fragment !== 'none') return 'neighbour discovery that nobody believes';
  if (type === 134 || type === 137) return bad('a router advertisement or redirect from a pod');
  const fixed = type === 133 ? 8 : 24;
  if (icmp.length < fixed || icmp[1] !== 0 || m.headers.length > 0) return 'neighbour discovery in another form';
  const target = type === 133 ? undefined : formatBytes16(icmp.subarray(8, 24), 6);
  const many = to.startsWith('ff');
  // Beyond a router the hop limit tells that it is none.
  const near = many || isLinkLocal(to) || (type !== 133 && (site.neighbours.has(to) || site.ownNode.has(to)));
  if (site.own.has(to)) return { kind: 'link', doubt: 'neighbour discovery with itself' };
  if (!near) return 'neighbour discovery to far away';
  if (src === '::' && !many) return 'a question of nobody to one station';
  if (src === '::' ? type === 136 : !ownOrUnknown(src, site)) return bad('neighbour discovery as somebody else');
  if (type === 136 && !ownOrUnknown(target as string, site)) return bad('an advertisement of somebody else');
  const options = optionsOf(icmp.subarray(fixed), type, src, site);
  if (options === 'spoofed') return bad("somebody else's MAC in neighbour discovery");
  if (options === 'other') return 'neighbour discovery with other options';
  const doubt = doubtOf(m, type, target, site) ?? (options === 'odd' ? 'options out of their place' : undefined);
  return doubt ? { kind: 'link', doubt } : LINK;
}

function doubtOf(m: Message, type: number, target: string | undefined, site: Site): string | undefined {
  const { icmp, src, to } = m;
  if (to.startsWith('ff') && !to.startsWith('ff02:')) return 'a group that is wider than the link';
  if (target?.startsWith('ff')) return 'a group as a target';
  if (!isPlain(m)) return 'a label, or a frame for others than the group';
  if (type === 135 && to.startsWith('ff') && !asksFor(to, target as string))
    return 'a question to a group that the target is not in';
  if (
    [src, target].some((a) => a !== undefined && (a === src || src === '::' || type === 136) && perhapsOthers(a, site))
  )
    return "a link-local address that is not made of the pod's MAC";
  // Of an advertisement Solicited and Override; R is a router's.
  if ((icmp.readUInt32BE(4) & (type === 136 ? ~0x6000_0000 : ~0)) !== 0) return 'flags that are not for a host';
  if (type !== 135) return undefined;
  // RFC 4862, 5.4.3: somebody who is only about to take the address gives it up.
  if (src === '::')
    return ownOrUnknown(target as string, site) ? undefined : 'a claim to an address that is not its own';
  return to.startsWith('ff') || to === target ? undefined : 'a question to somebody else than it is about';
}

/** RFC 4861, 4.6, and the nonce of RFC 3971 with which Linux looks for a duplicate of its own address (RFC 7527). */
function optionsOf(options: Buffer, type: number, src: string, site: Site): 'fine' | 'odd' | 'other' | 'spoofed' {
  let result: 'fine' | 'odd' = 'fine';
  const seen = new Set<number>();
  for (let at = 0; at < options.length; ) {
    const [kind, units] = [options[at] as number, options[at + 1] ?? 0];
    if (units === 0 || at + units * 8 > options.length || ![1, 2, 14].includes(kind)) return 'other';
    if (kind !== 14) {
      if (units !== 1) return 'other';
      if (macOf(options, at + 2) !== site.mac) return 'spoofed';
    }
    const placed =
      kind === 14 ? type === 135 && units === 1 && src === '::' : kind === (type === 136 ? 2 : 1) && src !== '::';
    if (!placed || seen.has(kind)) result = 'odd';
    seen.add(kind);
    at += units * 8;
  }
  return result;
}

/** MLD's hop-by-hop header: a router alert, and padding to 8 bytes (RFC 2710, 3; RFC 2711). */
const ALERTS = ['3a00050200000100', '3a00010005020000'];

/** Reports and farewells of a multicast listener: RFC 2710, 3590, 3810. A query is a router's. */
function listener(m: Message, type: number, site: Site): Reading | string {
  const { icmp, src, to } = m;
  const form = 'a listener report in another form';
  if (type === 130 || m.hops !== 1 || !to.startsWith('ff') || m.fragment !== 'none' || m.headers.length > 8)
    return form;
  const groups = type === 143 ? recordsOf(icmp) : icmp.length === 24 && icmp[8] === 0xff ? [1] : undefined;
  if (!groups) return form;
  if (src !== '::' && !ownOrUnknown(src, site)) return bad('a listener report as somebody else');
  const plain = icmp[1] === 0 && icmp.readUInt16BE(4) === 0 && (type === 143 || icmp.readUInt16BE(6) === 0);
  const known = groups.length > 0 && groups.every((kind) => kind >= 1 && kind <= 6);
  const placed =
    ALERTS.includes(m.headers.toString('hex')) && (src === '::' || isLinkLocal(src)) && to.startsWith('ff02:');
  if (!plain || !known || !placed || perhapsOthers(src, site) || m.label !== 0)
    return { kind: 'link', doubt: 'a listener report as nobody sends it' };
  // Lists of sources, and of many groups, are bytes of the pod's choice for neighbours whom the rules may deny.
  const short = groups.length <= 16 && (type !== 143 || icmp.length === 8 + groups.length * 20);
  return short ? LINK : { kind: 'link', doubt: 'a listener report with room for other things' };
}

/** Kinds of a report's records (RFC 3810, 5.2), each about a group, with its sources, and without auxiliary data; undefined: it is none. */
function recordsOf(icmp: Buffer): number[] | undefined {
  const kinds: number[] = [];
  let at = 8;
  for (let records = icmp.readUInt16BE(6); records > 0; records--) {
    if (at + 20 > icmp.length || icmp[at + 1] !== 0 || icmp[at + 4] !== 0xff) return undefined;
    kinds.push(icmp[at] as number);
    at += 20 + icmp.readUInt16BE(at + 2) * 16;
  }
  return at === icmp.length ? kinds : undefined;
}
