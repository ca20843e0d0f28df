/**
 * simulate(): judges a packet by the Image alone, by the kernel's own steps
 * (bpf/policy.h): class, rows, AND, first set bit. The second of the three engines.
 */
import { NODE_SENDER } from '../ir/sender.js';
import { classLookup } from './lookup.js';
import { CLASS_SELF, classRow, fixedRows, portRow, type Row, testBit } from './rows.js';
import type { Image, Packet, PolicySet, Verdict } from './types.js';

const lookups = new WeakMap<Image, (ip: string) => number>();

/** @param ownIps addresses of the sender, canonical text */
export function simulate(image: Image, packet: Packet, ownIps: readonly string[]): Verdict {
  const set = image.sets.get(image.endpoints.get(packet.from) ?? 0);
  if (!set) return { verdict: 'allow', rule: 0, logged: [] };
  const judge = (ip: string, port: number) =>
    classify(image, set, ip, packet.protocol, port, packet.fragment ?? false, ownIps);
  const translated = packet.fragment || packet.from === NODE_SENDER;
  const service = translated ? undefined : image.services.get(`${packet.to}|${packet.port}|${packet.protocol}`);
  if (!service) return judge(packet.to, packet.port);
  if (service.many) return { verdict: 'partial', rule: 0, logged: [] };
  const verdicts = service.backends.map((b) => judge(b.ip, b.port));
  const allowed = verdicts.filter((v) => v.verdict === 'allow').length;
  const first = verdicts[0] as Verdict;
  if (allowed !== 0 && allowed !== verdicts.length) return { verdict: 'partial', rule: 0, logged: [] };
  return { ...first, logged: [] };
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

/** First set bit decides; Pass jumps to the next tier, Log goes on with the next bit. */
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
