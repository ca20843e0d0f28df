/**
 * Programs about HTTP requests as the kernel reads them (bpf/http_types.h): for each policy set that asks what
 * connections say a `struct ea_http_program`, and cells with its automata. A part of an automaton that several steps
 * share is there once: many sets ask for the same paths, and differ in little else.
 *
 * ORDER OF STORES. Packets read cells while the agent writes. So the cells of new parts are free ones, which no program
 * leads to, and they are written before the entry of the program, which is written before any endpoint has its set. A
 * set's entry is deleted, and its cells are free, when every program that could have read them has ended.
 */
import { AgentError } from '../../../src/errors.js';
import { type RequestProgram, type RequestStep, requestProgram } from '../../../src/image/requests.js';
import * as L from '../../../src/image/layout.gen.js';
import type { PolicySet } from '../../../src/image/types.js';
import type { Dfa } from '../../../src/regex/dfa.js';
import type { BpfMap } from '../../kernel/libbpf/map.js';
import * as encode from './encode.js';

const { EA_HTTP_STEPS, EA_HTTP_NAME, EA_HTTP_CELL, EA_HTTP_CELLS } = L.ENUMS.ea_http_sizes;
const { ea_http_program: PROGRAM, ea_http_step: STEP } = L.STRUCTS;
const FIELDS = {
  method: L.ENUMS.ea_http_field.EA_HTTP_METHOD,
  path: L.ENUMS.ea_http_field.EA_HTTP_PATH,
  host: L.ENUMS.ea_http_field.EA_HTTP_HOST,
  header: L.ENUMS.ea_http_field.EA_HTTP_HEADER,
} as const;
const BYTES = 256;

/** Content of the cells that one part of an automaton takes. */
interface Part {
  readonly first: number;
  readonly count: number;
  /** How many steps of programs lead to it. */
  uses: number;
}

const known = new WeakMap<Record<string, BpfMap>, HttpPrograms>();

export class HttpPrograms {
  readonly #programs: BpfMap;
  readonly #cells: Uint8Array;
  /** By content. */
  #parts = new Map<string, Part>();
  /** By set: the contents that its program leads to. */
  readonly #sets = new Map<number, readonly string[]>();

  /** The one of these maps, which knows what is in use. */
  static of(maps: Record<string, BpfMap>): HttpPrograms {
    let found = known.get(maps);
    if (!found) known.set(maps, (found = new HttpPrograms(maps)));
    return found;
  }

  constructor(maps: Record<string, BpfMap>) {
    this.#programs = encode.map(maps, 'http_programs');
    const memory = encode.map(maps, 'http_cells').mmap();
    this.#cells = new Uint8Array(memory.buffer, memory.byteOffset, EA_HTTP_CELLS * EA_HTTP_CELL);
    this.restore();
  }

  /** The sets that have a program. */
  get ids(): readonly number[] {
    return [...this.#sets.keys()];
  }

  has(set: number): boolean {
    return this.#sets.has(set);
  }

  /** Cells in use. */
  get used(): number {
    return [...this.#parts.values()].reduce((n, { count }) => n + count, 0);
  }

  /** Reads what is in the maps, also programs of sets that this agent does not know. */
  restore(): void {
    this.#parts = new Map();
    this.#sets.clear();
    const { keySize, valueSize } = this.#programs;
    for (const { keys, values, count } of this.#programs.batches()) {
      for (let i = 0; i < count; i++) {
        const id = encode.readId(keys, i * keySize);
        const program = Buffer.from(values.subarray(i * valueSize, (i + 1) * valueSize));
        this.#sets.set(
          id,
          partsIn(program).map(([first, size]) => {
            const content = Buffer.from(this.#cells.subarray(first * EA_HTTP_CELL, first * EA_HTTP_CELL + size));
            return this.#use(content, first);
          }),
        );
      }
    }
  }

  /** Whether there is room for the programs of new sets beside all others. */
  hasRoom(sets: readonly PolicySet[]): boolean {
    const asking = sets.filter(({ id, says }) => says && !this.#sets.has(id));
    if (this.#sets.size + asking.length > this.#programs.maxEntries) return false;
    const added = new Map<string, Part>();
    try {
      for (const set of asking) for (const content of contentsOf(set)) this.#place(content, added);
      return true;
    } catch (e) {
      if (e instanceof AgentError && e.code === 'TOO_LARGE') return false;
      throw e;
    }
  }

  /** Writes the programs of sets that ask what connections say. @throws AgentError TOO_LARGE */
  write(sets: readonly PolicySet[]): number {
    let n = 0;
    for (const set of sets) {
      if (!set.says || this.#sets.has(set.id)) continue;
      const { steps, hosts } = requestProgram(set);
      this.put(set.id, steps, hosts);
      n++;
    }
    return n;
  }

  /**
   * Writes the program of a set that has none.
   * @param hosts whether its rules ask for the host by patterns of names, too
   * @throws AgentError TOO_LARGE
   */
  put(set: number, steps: readonly RequestStep[], hosts = true): void {
    const contents: string[] = [];
    try {
      const program = encodeProgram({ steps, hosts }, (content) => {
        const { first } = this.#place(content, this.#parts);
        this.#cells.set(content, first * EA_HTTP_CELL);
        contents.push(this.#use(content, first));
        return first;
      });
      this.#programs.update(keyOf(set), program);
    } catch (e) {
      this.#leave(contents);
      throw e;
    }
    this.#sets.set(set, contents);
  }

  /** Deletes the programs of sets, if they have one. Nobody may read them any more. */
  remove(ids: Iterable<number>): number {
    let n = 0;
    for (const id of ids) {
      const contents = this.#sets.get(id);
      if (!contents) continue;
      this.#programs.delete(keyOf(id));
      this.#sets.delete(id);
      n++;
      this.#leave(contents);
    }
    return n;
  }

  #leave(contents: readonly string[]): void {
    for (const content of contents) {
      const part = this.#parts.get(content);
      if (part && --part.uses <= 0) this.#parts.delete(content);
    }
  }

  /** Differences from the programs that some sets should have, one line each. @param repair removes and writes them */
  differences(sets: readonly PolicySet[], repair: boolean): string[] {
    const wanted = new Map(sets.filter(({ says }) => says).map((set) => [set.id, set]));
    const wrong = [...wanted.values()].filter((set) => !this.#isWritten(set));
    const extra = [...this.#sets.keys()].filter((id) => !wanted.has(id));
    if (repair) {
      this.remove([...wrong.map(({ id }) => id), ...extra]);
      this.write(wrong);
    }
    return [
      ...wrong.map(({ id }) => `http_programs[${keyOf(id).toString('hex')}] is missing or wrong`),
      ...extra.map((id) => `http_programs[${keyOf(id).toString('hex')}] should not be there`),
    ];
  }

  #isWritten(set: PolicySet): boolean {
    const found = this.#programs.lookup(keyOf(set.id));
    if (!found || !this.#sets.has(set.id)) return false;
    const at = (content: Buffer) => this.#parts.get(content.toString('latin1'))?.first ?? 0;
    const isThere = (content: Buffer) =>
      content.equals(this.#cells.subarray(at(content) * EA_HTTP_CELL, at(content) * EA_HTTP_CELL + content.length));
    return contentsOf(set).every(isThere) && encodeProgram(requestProgram(set), at).equals(found);
  }

  #use(content: Buffer, first: number): string {
    const key = content.toString('latin1');
    const part = this.#parts.get(key);
    if (part) part.uses++;
    else this.#parts.set(key, { first, count: cellsOf(content), uses: 1 });
    return key;
  }

  /** A place for a content: where it is, or the first gap that is large enough. @param added parts that also take room */
  #place(content: Buffer, added: Map<string, Part>): Part {
    const key = content.toString('latin1');
    const found = this.#parts.get(key) ?? added.get(key);
    if (found) return found;
    const count = cellsOf(content);
    let first = 0;
    const others = added === this.#parts ? [] : added.values();
    for (const part of [...this.#parts.values(), ...others].sort((a, b) => a.first - b.first)) {
      if (part.first - first >= count) break;
      first = Math.max(first, part.first + part.count);
    }
    if (first + count > EA_HTTP_CELLS)
      throw new AgentError('TOO_LARGE', `what rules ask of HTTP requests takes more than ${EA_HTTP_CELLS} cells`, {
        hint: 'use fewer or simpler regular expressions in rules about HTTP',
      });
    const part = { first, count, uses: 0 };
    added.set(key, part);
    return part;
  }
}

function keyOf(set: number): Buffer {
  const key = Buffer.alloc(encode.ID_SIZE);
  encode.writeId(key, 0, set);
  return key;
}

function cellsOf(content: Buffer): number {
  return Math.ceil(content.length / EA_HTTP_CELL);
}

/** The contents that the program of a set leads to. */
function contentsOf(set: PolicySet): Buffer[] {
  return requestProgram(set).steps.flatMap(({ table, ids }) => Object.values(partsOf(table, ids)));
}

/** The four parts of an automaton, as bytes. */
function partsOf({ classOf, next, accepts }: Dfa, ids: readonly number[]) {
  const bytes = ({ buffer, byteOffset, byteLength }: Uint8Array | Uint16Array | BigUint64Array) =>
    Buffer.from(buffer, byteOffset, byteLength);
  return {
    bytes: bytes(classOf),
    next: bytes(next),
    accepts: bytes(accepts),
    ids: bytes(BigUint64Array.from(ids, BigInt)),
  };
}

/**
 * A program, as an entry of `http_programs`.
 * @param place says where a content is: its first cell
 * @throws AgentError TOO_LARGE: more steps than a program has, a longer name of a header
 */
function encodeProgram(
  { steps, hosts }: Pick<RequestProgram, 'steps' | 'hosts'>,
  place: (content: Buffer) => number,
): Buffer {
  if (steps.length > EA_HTTP_STEPS)
    throw new AgentError('TOO_LARGE', `the rules of a pod ask for HTTP requests in ${steps.length} ways`, {
      hint: `${EA_HTTP_STEPS} fields or headers at most, and fewer regular expressions for each`,
    });
  const program = Buffer.alloc(PROGRAM.size);
  program.writeUInt32LE(steps.length, PROGRAM.fields.count.offset);
  program.writeUInt32LE(hosts ? 0 : 1, PROGRAM.fields.no_hosts.offset);
  steps.forEach((step, i) => {
    const at = PROGRAM.fields.steps.offset + i * STEP.size;
    encodeStep(program.subarray(at, at + STEP.size), step, place);
  });
  return program;
}

function encodeStep(
  to: Buffer,
  { field, name = '', table, settled, ids, absent }: RequestStep,
  place: (content: Buffer) => number,
): void {
  check(table, ids);
  const bytes = Buffer.from(name, 'latin1');
  if (bytes.length > EA_HTTP_NAME)
    throw new AgentError('TOO_LARGE', `the header ${name} has a longer name than ${EA_HTTP_NAME} bytes`);
  const { fields } = STEP;
  const parts = partsOf(table, ids);
  to.writeBigUInt64LE(BigInt(absent), fields.absent.offset);
  for (const part of ['bytes', 'next', 'accepts', 'ids'] as const)
    to.writeUInt32LE(place(parts[part]), fields[part].offset);
  to.writeUInt16LE(table.classes, fields.classes.offset);
  to.writeUInt16LE(table.start, fields.start.offset);
  to.writeUInt8(FIELDS[field], fields.field.offset);
  to.writeUInt8(bytes.length, fields.length.offset);
  to.writeUInt16LE(table.accepts.length, fields.states.offset);
  to.writeUInt32LE(ids.length, fields.sets.offset);
  to.writeUInt32LE(settled, fields.settled.offset);
  bytes.copy(to, fields.name.offset);
}

/** Where the parts of a program's automata are: first cells and sizes in bytes. */
function partsIn(program: Buffer): (readonly [first: number, size: number])[] {
  const { fields } = STEP;
  const count = Math.min(program.readUInt32LE(PROGRAM.fields.count.offset), EA_HTTP_STEPS);
  return Array.from({ length: count }, (_, i) => {
    const step = program.subarray(PROGRAM.fields.steps.offset + i * STEP.size);
    const states = step.readUInt16LE(fields.states.offset);
    const sizes = {
      bytes: BYTES,
      next: 2 * states * step.readUInt16LE(fields.classes.offset),
      accepts: 2 * states,
      ids: 8 * step.readUInt32LE(fields.sets.offset),
    };
    return (['bytes', 'next', 'accepts', 'ids'] as const).map(
      (part) => [step.readUInt32LE(fields[part].offset), sizes[part]] as const,
    );
  }).flat();
}

function check({ classes, classOf, next, start, accepts }: Dfa, ids: readonly number[]): void {
  const states = accepts.length;
  const fits =
    classOf.length === BYTES &&
    next.length === states * classes &&
    start < states &&
    classOf.every((c) => c < classes) &&
    next.every((state) => state < states) &&
    accepts.every((set) => set < ids.length);
  if (!fits) throw new AgentError('INTERNAL', 'an automaton of HTTP requests leads out of itself');
}
