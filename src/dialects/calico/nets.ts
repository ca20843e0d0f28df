/** Sets of addresses as CIDR blocks with exceptions: cut and restricted while they are still few. */
import { type Cidr, cidrCovers, parseCidr } from '../../net/addr.js';
import type { Peer } from '../../ir/peers.js';

/** Addresses of `cidr` that are in none of `except`. */
export interface Block {
  readonly cidr: Cidr;
  /** All smaller than `cidr`, and inside it. */
  readonly except: readonly Cidr[];
}

const ALL: Readonly<Record<4 | 6, Block>> = {
  4: { cidr: parseCidr('0.0.0.0/0'), except: [] },
  6: { cidr: parseCidr('::/0'), except: [] },
};

/** Every address of these families. */
export function everywhere(...families: (4 | 6)[]): Block[] {
  return families.map((family) => ALL[family]);
}

export function blocksOf(cidrs: readonly Cidr[]): Block[] {
  return cidrs.map((cidr) => ({ cidr, except: [] }));
}

/** What is in both. Two blocks have nothing in common, or one is inside the other. */
export function intersect(a: readonly Block[], b: readonly Block[]): Block[] {
  return a.flatMap((x) =>
    b.flatMap((y) => {
      if (cidrCovers(x.cidr, y.cidr)) return without([y], x.except);
      return cidrCovers(y.cidr, x.cidr) ? without([x], y.except) : [];
    }),
  );
}

/** What is in none of these. */
export function without(blocks: readonly Block[], except: readonly Cidr[]): Block[] {
  if (except.length === 0) return [...blocks];
  return blocks.flatMap((block) => {
    if (except.some((e) => cidrCovers(e, block.cidr))) return [];
    const inside = except.filter((e) => cidrCovers(block.cidr, e));
    return [inside.length === 0 ? block : { cidr: block.cidr, except: [...block.except, ...inside] }];
  });
}

export function toPeers(blocks: readonly Block[]): Peer[] {
  return blocks.map(({ cidr, except }) => ({ kind: 'cidr', cidr: cidr.text, except: except.map((e) => e.text) }));
}
