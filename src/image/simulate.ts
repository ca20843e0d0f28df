/**
 * simulate(): judges a packet by the Image alone, in the same steps as the kernel (bpf/policy.h): class, rows, AND,
 * first set bit. It is the second of the three engines.
 */
import { NODE_SENDER } from '../ir/sender.js';
import { isOnLink, isTunnelled } from '../net/tunnels.js';
import { classLookup } from './lookup.js';
import { CLASS_SELF, classRow, fixedRows, portRow, type Row, testBit } from './rows.js';
import type { Packet, Verdict } from '../ir/packet.js';
import type { Image, PolicySet } from './types.js';

const lookups = new WeakMap<Image, (ip: string) => number>();

/** Judges one packet. @param ownIps addresses of the sender, canonical text */
export function simulate(image: Image, packet: Packet, ownIps: readonly string[]): Verdict {
  const set = image.sets.get(image.endpoints.get(packet.from) ?? 0);
  if (!set) return { verdict: 'allow', rule: 0, logged: [] };
  const fragment = packet.fragment ?? false;
  const unwrapped = (ip: string, port: number) =>
    packet.from !== NODE_SENDER &&
    isTunnelled(image.tunnels, packet.protocol, port, fragment) &&
    (image.nodes.has(ip) || isOnLink(ip));
  const judge = (ip: string, port: number) =>
    unwrapped(ip, port) ? denied(set) : classify(image, set, ip, packet.protocol, port, fragment, ownIps);
  if (unwrapped(packet.to, packet.port)) return denied(set);
  const translated = packet.fragment || packet.from === NODE_SENDER;
  const service = translated ? undefined : image.services.get(`${packet.to}|${packet.port}|${packet.protocol}`);
  if (!service) return judge(packet.to, packet.port);
  const verdicts = service.backends.map((b) => judge(b.ip, b.port));
  // No hook sees packets that are translated to the node itself, so a denied backend there denies the packet.
  const closed = verdicts.find((v, i) => service.backends[i]?.own && v.verdict === 'deny');
  if (closed) return { ...closed, logged: [] };
  if (service.many) return { verdict: 'partial', rule: 0, logged: [] };
  const allowed = verdicts.filter((v) => v.verdict === 'allow').length;
  const first = verdicts[0] as Verdict;
  if (allowed !== 0 && allowed !== verdicts.length) return { verdict: 'partial', rule: 0, logged: [] };
  return { ...first, logged: [] };
}

/** A denial before any rule. It is the same if staged rules are enforced. */
function denied(set: PolicySet): Verdict {
  const verdict = { verdict: 'deny', rule: 0, logged: [] } as const;
  return set.staged ? { ...verdict, audit: { verdict: 'deny', rule: 0 } } : verdict;
}

function classify(
  image: Image,
  set: PolicySet,
  ip: string,
  protocol: number,
  port: number,
  fragment: boolean,
  ownIps: readonly string[],
): Verdict {
  let lookup = lookups.get(image);
  if (!lookup) lookups.set(image, (lookup = classLookup(image)));
  const fixed = new Map(fixedRows(set));
  const peers = (classRow(set, image.classes.get(lookup(ip)) ?? []) ?? (fixed.get(0) as Row)).slice();
  const self = fixed.get(CLASS_SELF);
  if (self && ownIps.includes(ip))
    for (let i = 0; i < peers.length; i++) peers[i] = (peers[i] as number) | (self[i] as number);
  const ports = portRow(set, protocol, port, fragment);
  const hits = peers.map((word, i) => word & (ports[i] as number));
  const real = scan(set, hits, false);
  if (!set.staged) return real;
  const audit = scan(set, hits, true);
  return { ...real, audit: { verdict: audit.verdict as 'allow' | 'deny', rule: audit.rule } };
}

/** The first set bit decides. Pass continues with the next tier, Log with the next bit. */
function scan(set: PolicySet, hits: Row, withStaged: boolean): Verdict {
  const logged: number[] = [];
  for (let bit = 0; bit < set.rules.length; ) {
    const rule = set.rules[bit];
    if (!rule || !testBit(hits, bit) || (rule.staged && !withStaged)) {
      bit++;
      continue;
    }
    if (rule.action === 'pass') {
      bit = rule.tierEnd;
      continue;
    }
    if (rule.action === 'log') {
      logged.push(rule.id);
      bit++;
      continue;
    }
    return { verdict: rule.action, rule: rule.id, logged };
  }
  return { verdict: 'allow', rule: 0, logged };
}
