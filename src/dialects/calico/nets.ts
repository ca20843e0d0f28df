/** Sets of addresses as CIDR blocks with exceptions, for intersections and differences of short lists. */
import { type Cidr, cidrCovers, parseCidr } from '../../net/addr.js';
import type { Peer } from '../../ir/peers.js';

/** The addresses of `cidr` that are in none of `except`. */
export interface Block {
  readonly cidr: Cidr;
  /** Each is smaller than `cidr` and inside of it. */
  readonly except: readonly Cidr[];
}

const ALL: Readonly<Record<4 | 6, Block>> = {
  4: { cidr: parseCidr('0.0.0.0/0'), except: [] },
  6: { cidr: parseCidr('::/0'), except: [] },
};

/** All addresses of some families. */
export function everywhere(...families: (4 | 6)[]): Block[] {
  return families.map((family) => ALL[family]);
}

/** CIDRs as blocks without exceptions. */
export function blocksOf(cidrs: readonly Cidr[]): Block[] {
  return cidrs.map((cidr) => ({ cidr, except: [] }));
}

/** The intersection. Two blocks are either disjoint or nested. */
export function intersect(a: readonly Block[], b: readonly Block[]): Block[] {
  return a.flatMap((x) =>
    b.flatMap((y) => {
      if (cidrCovers(x.cidr, y.cidr)) return without([y], x.except);
      return cidrCovers(y.cidr, x.cidr) ? without([x], y.except) : [];
    }),
  );
}

/** The blocks without some networks. */
export function without(blocks: readonly Block[], except: readonly Cidr[]): Block[] {
  if (except.length === 0) return [...blocks];
  return blocks.flatMap((block) => {
    if (except.some((e) => cidrCovers(e, block.cidr))) return [];
    const inside = except.filter((e) => cidrCovers(block.cidr, e));
    return [inside.length === 0 ? block : { cidr: block.cidr, except: [...block.except, ...inside] }];
  });
}

/** Blocks as peers of the IR. */
export function toPeers(blocks: readonly Block[]): Peer[] {
  return blocks.map(({ cidr, except }) => ({ kind: 'cidr', cidr: cidr.text, except: except.map((e) => e.text) }));
}
