/** Reads what packets find of names in the maps, in the steps of the kernel: the matcher's walk, and the rows. */
import { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Maps } from '../../agent/maps/store.js';
import * as encode from '../../agent/maps/tables/encode.js';
import { CLASS_UNASKED, CLASS_UNNAMED, type Row } from '../../src/image/rows.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { symbolOf } from '../../src/names/trie.js';

const { EA_CELL_CHUNK_BITS, EA_CELL_CLASS, EA_CELL_ALIAS, EA_CELL_QUERY, EA_CELL_CHUNKS } = ENUMS.ea_cells;
const CHUNK = 2 ** EA_CELL_CHUNK_BITS;
const WORDS = STRUCTS.ea_row_large.fields.words.offset;
const DOT = 1;

/** The classes of a name; 0: none. */
export interface FoundClasses {
  readonly name: number;
  readonly alias: number;
  readonly query: number;
}

const NOTHING: FoundClasses = { name: 0, alias: 0, query: 0 };

export class MatcherReader {
  readonly #maps: Maps;
  readonly #memory = new Map<number, Uint32Array>();

  constructor(maps: Maps) {
    this.#maps = maps;
  }

  /** Generation and root of the matcher in force. */
  get word(): { generation: number; root: number } {
    const state = encode.map(this.#maps, 'name_state').mmap();
    const at = STRUCTS.ea_name_state_words.fields.matcher.offset;
    return { root: state.readUInt32LE(at), generation: state.readUInt32LE(at + 4) };
  }

  /** Chunks in the outer map, by slot: their kernel ids. */
  chunks(): Map<number, number> {
    const out = new Map<number, number>();
    for (let slot = 0; slot < EA_CELL_CHUNKS; slot++) {
      const id = encode.map(this.#maps, 'name_cells').lookup(key32(slot));
      if (id) out.set(slot, id.readUInt32LE());
    }
    return out;
  }

  /** Reader of cells, as they are in the outer map at this moment. @returns a cell's words */
  cells(): (cell: number) => [owner: number, next: number] {
    const chunks = new Map<number, number | undefined>();
    return (cell) => {
      const slot = cell >>> EA_CELL_CHUNK_BITS;
      if (!chunks.has(slot)) chunks.set(slot, encode.map(this.#maps, 'name_cells').lookup(key32(slot))?.readUInt32LE());
      const id = chunks.get(slot);
      if (id === undefined) return [0, 0];
      let memory = this.#memory.get(id);
      if (!memory) {
        const chunk = BpfMap.byId(id, 'chunk');
        const bytes = chunk.mmap();
        memory = new Uint32Array(bytes.buffer, bytes.byteOffset, CHUNK * 2);
        chunk.close();
        this.#memory.set(id, memory);
      }
      const at = (cell & (CHUNK - 1)) * 2;
      return [memory[at] as number, memory[at + 1] as number];
    };
  }

  /** Walks as the kernel does. @param root of a matcher; 0: none */
  walk(cell: (n: number) => [number, number], root: number, name: string): FoundClasses {
    let state = root;
    for (let i = name.length - 1; i >= 0 && state !== 0; i--) {
      const symbol = symbolOf(name[i] as string);
      if (symbol === undefined) return NOTHING;
      const [owner, next] = cell(state + symbol);
      if (owner === state) state = next;
      else state = symbol === DOT ? 0 : cell(state)[1];
    }
    if (state === 0 || cell(state)[0] !== (state | 0x8000_0000) >>> 0) return NOTHING;
    const id = (offset: number) => {
      const [low, high] = cell(state + offset);
      return high * 2 ** 32 + low;
    };
    return { name: id(EA_CELL_CLASS), alias: id(EA_CELL_ALIAS), query: id(EA_CELL_QUERY) };
  }

  /** The row of a class, or of the fixed class to which the kernel falls back. */
  row(set: number, classId: number, kind: 'names' | 'queries', large = false): Row | undefined {
    const map = encode.map(this.#maps, large ? 'class_rules_large' : 'class_rules');
    const key = Buffer.alloc(encode.SIZES.classKey);
    const find = (id: number) => {
      encode.writeClassKey(key, 0, set, id);
      return map.lookup(key);
    };
    const value = (classId === 0 ? undefined : find(classId)) ?? find(kind === 'names' ? CLASS_UNNAMED : CLASS_UNASKED);
    if (!value) return undefined;
    const words = Buffer.from(value.subarray(WORDS));
    return new Uint32Array(words.buffer, words.byteOffset, words.length / 4);
  }
}

function key32(n: number): Buffer {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(n);
  return key;
}
