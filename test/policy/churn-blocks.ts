/** Random CIDR blocks, many of which lie in one another, and lists of hundreds of them that change entry by entry. */
import { parseCidr } from '../../src/net/addr.js';
import type { Random } from '../fuzz/random.js';

export interface Block {
  readonly cidr: string;
  readonly except?: readonly string[];
}

/** Where Churn's pods, nodes and Services are. */
const BASES4 = ['10.0', '10.244', '10.244', '192.0', '192.168'];
const BASES6 = ['fd00:', 'fd00:1:', '2001:db8:1:'];
const LENGTHS4 = [0, 7, 8, 16, 23, 24, 25, 29, 30, 31, 32, 32, 32, 32];
const LENGTHS6 = [0, 8, 32, 48, 64, 120, 127, 128, 128, 128];

function address(r: Random, v6: boolean): string {
  if (v6) return `${r.pick(BASES6)}:${r.below(r.pick([4, 256])).toString(16)}`;
  const base = r.pick(BASES4);
  return `${base}.${base === '192.0' ? 2 : r.below(r.pick([3, 250]))}.${r.below(r.pick([4, 256]))}`;
}

/** @param wide one in so many is short: in it are many of the others */
function randomBlock(r: Random, wide: number): Block {
  const v6 = r.chance(30);
  const lengths = v6 ? LENGTHS6 : LENGTHS4;
  const at = r.below(wide) === 0 ? r.below(4) : 4 + r.below(lengths.length - 4);
  const ip = address(r, v6);
  const { text: cidr, prefix } = parseCidr(`${ip}/${lengths[at]}`);
  const inside = lengths.filter((length) => length > prefix);
  if (inside.length === 0 || r.chance(70)) return { cidr };
  // Of the same address: inside it, and of one another.
  const except = Array.from({ length: 1 + r.below(2) }, () => parseCidr(`${ip}/${r.pick(inside)}`).text);
  return { cidr, except: [...new Set(except)] };
}

/** A list that lives long. */
export class BlockList {
  readonly blocks: Block[];
  readonly #wide: number;

  constructor(
    private readonly r: Random,
    size: number,
  ) {
    this.#wide = Math.ceil(size / 3);
    this.blocks = Array.from({ length: size }, () => randomBlock(r, this.#wide));
  }

  /** One entry comes, goes, or becomes another one; now and then it stands there twice. */
  change(): void {
    const { r, blocks } = this;
    const at = r.below(blocks.length);
    if (blocks.length < 2 || r.chance(30))
      blocks.splice(at, 0, r.chance(20) ? r.pick(blocks) : randomBlock(r, this.#wide));
    else if (r.chance(45)) blocks.splice(at, 1);
    else blocks[at] = randomBlock(r, this.#wide);
  }
}
