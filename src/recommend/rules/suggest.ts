/** Blocks that seem to belong together: they are named, and never merged unless somebody says so. */
import { cidrContains, parseCidr, tryCanonicalAddr, tryParseCidr } from '../../net/addr.js';
import { push } from '../base/cluster.js';
import type { Need } from '../base/needs.js';

/** Addresses of a /24 or a /64 that are worth a word. */
const NEIGHBOURS = 4;
const SHOWN = 5;

/** What could be declared as networks. */
export function suggestions(kept: readonly Need[]): string[] {
  const blocks = new Map<string, string[]>();
  for (const { destination } of kept) {
    const ip = destination.kind === 'address' ? tryCanonicalAddr(destination.name) : undefined;
    if (ip === undefined) continue;
    const block = tryParseCidr(`${ip}/${ip.includes(':') ? 64 : 24}`);
    if (block && !cidrContains(LINK_LOCAL, block)) push(blocks, block.text, ip);
  }
  const found = [...blocks]
    .map(([text, ips]) => ({ text, seen: new Set(ips).size }))
    .filter(({ seen }) => seen >= NEIGHBOURS)
    .sort((a, b) => b.seen - a.seen || (a.text < b.text ? -1 : 1));
  return found
    .slice(0, SHOWN)
    .map(
      ({ text, seen }) =>
        `${text} covers ${text.includes(':') ? '2^64' : 256}, seen ${seen}: if it is a network of its own, --network NAME=${text} says so`,
    );
}

const LINK_LOCAL = parseCidr('169.254.0.0/16');
