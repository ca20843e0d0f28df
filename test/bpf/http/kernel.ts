/** The functions of bpf/http*.h, as programs that are run on bytes in a map (http.bpf.c). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compile } from '../../../agent/kernel/build.js';
import { BpfMap } from '../../../agent/kernel/libbpf/map.js';
import { BpfObject } from '../../../agent/kernel/libbpf/object.js';
import { BpfProgram } from '../../../agent/kernel/libbpf/program.js';
import { HttpPrograms } from '../../../agent/maps/tables/http-cells.js';
import { STRUCTS } from '../../../src/image/layout.gen.js';
import { readLayouts } from '../../../src/net/btf.js';
import { clangFlags } from '../../../src/net/clang.js';
import { compiled, root } from '../../netns/shell.js';

/** Maps that the programs do not use, which would be large. */
const SMALL = { destinations4: 16, destinations6: 16, flows: 64, flow_buckets: 8, names: 64, name_buckets: 8 };

/** Results of http_head(). */
export const RESULTS = ['more', 'head', 'other', 'refused'] as const;
export type Result = (typeof RESULTS)[number];

/** enum http_why, without its prefix. */
export type Why = string;

export interface Head {
  readonly result: Result;
  readonly why: Why;
  /** Of a whole head: its length, and what is in it. */
  readonly length: number;
  readonly version: '1.0' | '1.1';
  readonly method: string;
  readonly target: string;
  readonly path: string;
  readonly host: string | undefined;
  /** The host without its port. */
  readonly hostname: string | undefined;
  readonly lines: number;
  readonly content: number;
  readonly chunked: boolean;
  readonly upgrades: boolean;
  readonly connects: boolean;
}

/** Where a stream is: enum http_part, and its flags. */
export interface Part {
  readonly part: string;
  readonly why: Why;
}

const OUTPUT = join(compiled, 'bpf-test/http.bpf.o');

export class HttpKernel {
  readonly #object: BpfObject;
  readonly #case: Buffer;
  readonly #at: (field: string) => number;
  readonly #why: readonly string[];
  readonly #parts: Readonly<Record<string, number>>;
  readonly #bytes: number;

  constructor() {
    const source = join(root, 'test/bpf/http/http.bpf.c');
    compile(process.env.CLANG ?? 'clang', clangFlags(join(root, 'bpf')), source, OUTPUT);
    const bytes = readFileSync(OUTPUT);
    this.#object = new BpfObject(bytes, OUTPUT);
    for (const name of this.#object.mapNames) this.#object.setPinPath(name, undefined);
    for (const [name, size] of Object.entries(SMALL)) this.#object.setMaxEntries(name, size);
    if (this.#object.load() !== 0) {
      const [refusal] = this.#object.refusals();
      throw new Error(`${this.#object.messages().join('\n')}\n${refusal?.program}: ${refusal?.log.slice(-3000)}`);
    }
    const { fields } = readLayouts(bytes, 'ea_').structs.ea_http_case as (typeof STRUCTS)['ea_http_step'];
    this.#at = (field) => (fields as Record<string, { offset: number }>)[field]?.offset as number;
    const enums = readLayouts(bytes, 'http_').enums;
    const byNumber = Object.entries(enums.http_why as Record<string, number>).sort(([, a], [, b]) => a - b);
    this.#why = byNumber.map(([name]) => name.replace('HTTP_', ''));
    this.#parts = enums.http_part as Record<string, number>;
    this.#case = this.map('http_case').mmap();
    this.#bytes = this.#at('bytes');
  }

  map(name: string): BpfMap {
    return new BpfMap(this.#object.mapFd(name), name);
  }

  program(name: string): BpfProgram {
    return new BpfProgram(this.#object.programFd(name), name);
  }

  /** Bytes that the buffer holds. */
  static readonly BUFFER = 16384;

  /** A new connection. */
  connect(): void {
    this.#case.fill(0, 0, STRUCTS.ea_said_stream.size);
  }

  /** Writes into the buffer. */
  put(bytes: Uint8Array, at = 0): void {
    this.#case.set(bytes, this.#bytes + at);
  }

  /** Moves bytes of the buffer to its beginning. */
  move(from: number, to: number): void {
    this.#case.copyWithin(this.#bytes, this.#bytes + from, this.#bytes + to);
  }

  /** Reads a head of which these bytes of the buffer have arrived. @param passes if it is whole */
  head(from: number, length: number, passes = false): Head {
    this.#run(passes ? 'run_passing_head' : 'run_head', from, length);
    const field = (name: string) => this.#case.readUInt32LE(this.#at(name));
    const piece = (n: number) => {
      const [begin, end] = [0, 4].map((o) => this.#case.readUInt32LE(this.#at('pieces') + n * 8 + o));
      return this.#case.toString('latin1', this.#bytes + (begin as number), this.#bytes + (end as number));
    };
    const result = RESULTS[field('result')] as Result;
    return {
      result,
      why: result === 'refused' ? (this.#why[field('why')] as string) : 'FINE',
      length: field('head'),
      version: field('minor') === 1 ? '1.1' : '1.0',
      method: piece(0),
      target: piece(1),
      path: `${field('rooted') ? '/' : ''}${piece(2)}`,
      host: field('has_host') ? piece(3) : undefined,
      hostname: field('has_host') ? piece(4) : undefined,
      lines: field('count'),
      content: Number(this.#case.readBigUInt64LE(this.#at('content'))),
      chunked: field('chunked') === 1,
      upgrades: field('upgrades') === 1,
      connects: field('connects') === 1,
    };
  }

  /** Reads what comes behind a head. @returns how many bytes were read */
  follow(from: number, length: number): number {
    return this.#run('run_follow', from, length);
  }

  /** The stream is in the middle of a head. */
  get isCut(): boolean {
    return this.#run('run_is_cut', 0, 0) !== 0;
  }

  /** The server sends something. */
  hear(): void {
    this.#run('run_hear', 0, 0);
  }

  /** Reads what the server answers. @returns the part in which the stream is then */
  answer(from: number, length: number): string {
    return this.#partName(this.#run('run_answer', from, length));
  }

  /** Where the stream is. */
  get part(): Part {
    const part = (this.#case[STRUCTS.ea_said_stream.fields.body.offset] as number) & 15;
    const left = this.#case.readUInt32LE(STRUCTS.ea_said_stream.fields.left.offset);
    const name = this.#partName(part);
    return { part: name, why: name === 'BROKEN' ? (this.#why[left] as string) : 'FINE' };
  }

  /** What `left` is: bytes of a body that are to come, for one. */
  get left(): bigint {
    return this.#case.readBigUInt64LE(STRUCTS.ea_said_stream.fields.left.offset);
  }

  /** A new view of what sets ask of requests. */
  programs(): HttpPrograms {
    return new HttpPrograms({ http_programs: this.map('http_programs'), http_cells: this.map('http_cells') });
  }

  installProgram(set: number, program: Buffer): void {
    const key = Buffer.alloc(8);
    key.writeBigUInt64LE(BigInt(set));
    this.map('http_programs').update(key, program);
  }

  /** The set whose program is run. */
  choose(set: number): void {
    this.#case.writeBigUInt64LE(BigInt(set), this.#at('set'));
  }

  /** What a set asks of the request in the buffer: classes; undefined: that cannot be told. */
  match(set: number, length: number): bigint[] | undefined {
    this.choose(set);
    if (this.#run('run_match', 0, length) !== 0) return undefined;
    const count = this.#case.readUInt32LE(this.#at('count'));
    return Array.from({ length: count - 1 }, (_, i) => this.#case.readBigUInt64LE(this.#at('classes') + 8 * (i + 1)));
  }

  /** Nanoseconds that a program takes for the bytes in the buffer. */
  time(name: string, length: number, repeat = 200_000): number {
    this.#case.writeUInt32LE(0, this.#at('from'));
    this.#case.writeUInt32LE(length, this.#at('length'));
    return this.program(name).testRun(Buffer.alloc(64), { repeat }).durationNs;
  }

  close(): void {
    this.#object.close();
  }

  #run(name: string, from: number, length: number): number {
    this.#case.writeUInt32LE(from, this.#at('from'));
    this.#case.writeUInt32LE(length, this.#at('length'));
    this.#case.writeInt32LE(-1, this.#at('result'));
    this.program(name).testRun(Buffer.alloc(64));
    return this.#case.readInt32LE(this.#at('result'));
  }

  #partName(part: number): string {
    const found = Object.entries(this.#parts).find(([name, value]) => value === part && name !== 'HTTP_PART_MASK');
    return found?.[0].replace('HTTP_', '') ?? String(part);
  }
}
