/**
 * Programs about HTTP requests as the kernel reads them (bpf/http_types.h): for each policy set a `struct
 * ea_http_program`, and the cells with the automata of all of them.
 *
 * A part of an automaton that several steps share is there once: many sets ask for the same paths, and differ in the
 * classes only.
 *
 * ORDER OF STORES. Packets read cells while the agent writes. So new cells go where no program leads, then the entries
 * of programs are written; cells that programs led to before are free when every program that ran then has ended. Who
 * alternates between two halves (`room`) has that.
 */
import { AgentError } from '../../../src/errors.js';
import * as L from '../../../src/image/layout.gen.js';

const { EA_HTTP_STEPS, EA_HTTP_NAME, EA_HTTP_CELL, EA_HTTP_CELLS } = L.ENUMS.ea_http_sizes;
const { ea_http_program: PROGRAM, ea_http_step: STEP } = L.STRUCTS;
const FIELDS = {
  method: L.ENUMS.ea_http_field.EA_HTTP_METHOD,
  path: L.ENUMS.ea_http_field.EA_HTTP_PATH,
  host: L.ENUMS.ea_http_field.EA_HTTP_HOST,
  header: L.ENUMS.ea_http_field.EA_HTTP_HEADER,
} as const;
const BYTES = 256;

/** An automaton over bytes. State 0 is dead: it leads to itself. */
export interface Dfa {
  /** Number of classes of bytes. */
  readonly classes: number;
  /** By byte: its class. 256 entries. */
  readonly classOf: Uint8Array;
  /** The next state, at `state * classes + class`. */
  readonly next: Uint16Array;
  /** The state in which a walk begins. */
  readonly start: number;
  /** By state: number of the set of regular expressions that match a text that ends in it. */
  readonly accepts: Uint16Array;
}

/** A step of a program: a class of the request for each step. Class ids are not 0, and have 53 bits. */
export interface HttpStep {
  /** `path`: with the query. `host`: as it was sent, with its port. */
  readonly field: keyof typeof FIELDS;
  /** `header`: its name, in lower case. Several lines of it are one, with commas between the values. */
  readonly name?: string;
  readonly dfa: Dfa;
  /** By number of a set of `dfa.accepts`: class id. */
  readonly ids: readonly number[];
  /** Class id of a request without such a field. Every request has a method and a path. */
  readonly absent: number;
}

export interface HttpTables {
  /** Content of the cells of the room that are used, from its first one on. */
  readonly cells: Buffer;
  /** By id of the policy set: its entry in `http_programs`. */
  readonly programs: ReadonlyMap<number, Buffer>;
}

/** Cells, from the first one to that behind the last one. */
export interface Room {
  readonly from: number;
  readonly to: number;
}

export const ALL_CELLS: Room = { from: 0, to: EA_HTTP_CELLS };

/**
 * @param programs by id of the policy set; a set that asks for no field has a program without steps
 * @throws AgentError TOO_LARGE: more steps than a program has, a longer name of a header, or more cells than there is
 *   room for
 */
export function encodeHttp(programs: ReadonlyMap<number, readonly HttpStep[]>, room = ALL_CELLS): HttpTables {
  const cells = new Cells(room);
  const encoded = new Map<number, Buffer>();
  for (const [set, steps] of programs) encoded.set(set, encodeProgram(steps, cells));
  return { cells: cells.content, programs: encoded };
}

function encodeProgram(steps: readonly HttpStep[], cells: Cells): Buffer {
  if (steps.length > EA_HTTP_STEPS)
    throw new AgentError('TOO_LARGE', `the rules of a pod ask for HTTP requests in ${steps.length} ways`, {
      hint: `${EA_HTTP_STEPS} fields or headers at most, and fewer regular expressions for each`,
    });
  const program = Buffer.alloc(PROGRAM.size);
  program.writeUInt32LE(steps.length, PROGRAM.fields.count.offset);
  steps.forEach((step, i) => {
    const at = PROGRAM.fields.steps.offset + i * STEP.size;
    encodeStep(program.subarray(at, at + STEP.size), step, cells);
  });
  return program;
}

function encodeStep(to: Buffer, { field, name = '', dfa, ids, absent }: HttpStep, cells: Cells): void {
  check(dfa, ids);
  const bytes = Buffer.from(name, 'latin1');
  if (bytes.length > EA_HTTP_NAME)
    throw new AgentError('TOO_LARGE', `the header ${name} has a longer name than ${EA_HTTP_NAME} bytes`);
  const { fields } = STEP;
  to.writeBigUInt64LE(BigInt(absent), fields.absent.offset);
  to.writeUInt32LE(cells.place(dfa.classOf), fields.bytes.offset);
  to.writeUInt32LE(cells.place(dfa.next), fields.next.offset);
  to.writeUInt32LE(cells.place(dfa.accepts), fields.accepts.offset);
  to.writeUInt32LE(cells.place(BigUint64Array.from(ids, BigInt)), fields.ids.offset);
  to.writeUInt16LE(dfa.classes, fields.classes.offset);
  to.writeUInt16LE(dfa.start, fields.start.offset);
  to.writeUInt8(FIELDS[field], fields.field.offset);
  to.writeUInt8(bytes.length, fields.length.offset);
  bytes.copy(to, fields.name.offset);
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

/** Cells that are filled one after the other. */
class Cells {
  readonly #room: Room;
  readonly #parts: Buffer[] = [];
  /** Content → its first cell. */
  readonly #placed = new Map<string, number>();
  #next: number;

  constructor(room: Room) {
    this.#room = room;
    this.#next = room.from;
  }

  get content(): Buffer {
    return Buffer.concat(this.#parts);
  }

  /** @returns the first cell of these numbers. @throws AgentError TOO_LARGE */
  place(numbers: Uint8Array | Uint16Array | BigUint64Array): number {
    const bytes = Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
    const key = bytes.toString('latin1');
    const placed = this.#placed.get(key);
    if (placed !== undefined) return placed;
    const cell = this.#next;
    const count = Math.ceil(bytes.length / EA_HTTP_CELL);
    if (cell + count > this.#room.to)
      throw new AgentError(
        'TOO_LARGE',
        `what rules ask of HTTP requests takes more than ${this.#room.to - this.#room.from} cells`,
        {
          hint: 'use fewer or simpler regular expressions in rules about HTTP',
        },
      );
    this.#parts.push(bytes, Buffer.alloc(count * EA_HTTP_CELL - bytes.length));
    this.#placed.set(key, cell);
    this.#next += count;
    return cell;
  }
}
