/**
 * The only file that knows which FFI is used. Everything else asks for functions by
 * signature and for memory by address; another FFI has to offer what is exported here.
 *
 * A call costs some 10 µs, whatever it does: nothing that happens once a packet, an
 * event or a map entry may go through here. Batch it or mmap it.
 */
import { createRequire } from 'node:module';
import os from 'node:os';
import { AgentError } from '../../src/errors.js';

const require = createRequire(import.meta.url);

/** C types that the bindings use. `pointer` takes a Buffer (its address is passed) or null. */
export type CType = 'void' | 'int' | 'uint' | 'long' | 'size_t' | 'uint64' | 'pointer' | 'string' | 'int64';
export type Signature = readonly [result: CType, args: readonly CType[]];

type Native = (...args: unknown[]) => unknown;

/** A function of a library. */
export interface Bound {
  (...args: unknown[]): unknown;
  /** The same call in a thread of its own, for what waits in the kernel. errno is not to be had. */
  later(...args: unknown[]): Promise<unknown>;
}

interface Napi {
  DynamicLibrary(name: string): { get(symbol: string): Buffer };
  CIF(result: unknown, args: readonly unknown[]): Buffer;
  Callback(result: CType, args: readonly CType[], fn: Native): Buffer;
}
/** What ffi-napi itself calls. */
interface Calls {
  ffi_call(cif: Buffer, fn: Buffer, result: Buffer, args: Buffer): void;
  ffi_call_async(cif: Buffer, fn: Buffer, result: Buffer, args: Buffer, done: (error: Error | null) => void): void;
}
interface Ref {
  coerceType(type: string): unknown;
  address(buf: Buffer): number;
  reinterpret(buf: Buffer, size: number, offset?: number): Buffer;
  readPointer(buf: Buffer, offset: number, size: number): Buffer;
  readCString(buf: Buffer, offset?: number): string;
  isNull(buf: Buffer): boolean;
  NULL: Buffer;
}

const napi = require('ffi-napi') as Napi;
const calls = require('ffi-napi/lib/bindings') as Calls;
const ref = require('ref-napi') as Ref;

/** Bytes of an argument, and of a result: all that is used here fits. */
const WORD = 8;

/**
 * Where a call's arguments and its result stand. Made once and used again: the library remembers each ArrayBuffer that it is given,
 * and, of one that it was given more than once, for ever. With new ones for each call an agent grows by megabytes an hour.
 */
class Frame {
  readonly result = Buffer.alloc(WORD);
  /** Addresses of the values. */
  readonly args: Buffer;
  private readonly values: Buffer;
  /** What the values point to, for as long as the call may use it. */
  private readonly held: unknown[];

  constructor(private readonly types: readonly CType[]) {
    this.args = Buffer.alloc(Math.max(1, types.length) * WORD);
    this.values = Buffer.alloc(Math.max(1, types.length) * WORD);
    this.held = new Array(types.length);
    const base = address(this.values);
    for (let i = 0; i < types.length; i++) this.args.writeBigUInt64LE(base + BigInt(i * WORD), i * WORD);
  }

  /** @throws TypeError for a value that is none of its type */
  write(values: readonly unknown[]): void {
    if (values.length !== this.types.length)
      throw new TypeError(`${this.types.length} arguments are wanted, not ${values.length}`);
    for (let i = 0; i < values.length; i++) {
      const [type, value, at] = [this.types[i], values[i], i * WORD];
      if (type === 'int') this.values.writeInt32LE(value as number, at);
      else if (type === 'uint') this.values.writeUInt32LE(value as number, at);
      else if (type === 'pointer') this.pointer(i, value as Buffer | null);
      else if (type === 'string') this.pointer(i, Buffer.from(`${value as string}\0`));
      else this.values.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value as number | bigint)), at);
    }
  }

  /** The values point to nothing any more. */
  release(): void {
    this.held.fill(undefined);
  }

  private pointer(i: number, to: Buffer | null): void {
    this.held[i] = to;
    this.values.writeBigUInt64LE(to === null ? 0n : address(to), i * WORD);
  }

  /** A Buffer for a pointer; a number where it is exact, otherwise a bigint. */
  read(type: CType): unknown {
    if (type === 'void') return undefined;
    if (type === 'int') return this.result.readInt32LE();
    if (type === 'uint') return this.result.readUInt32LE();
    if (type === 'pointer' || type === 'string') return ref.readPointer(this.result, 0, 1);
    const n = type === 'long' || type === 'int64' ? this.result.readBigInt64LE() : this.result.readBigUInt64LE();
    return Number.isSafeInteger(Number(n)) ? Number(n) : n;
  }
}

/** This thread's errno, in place: the library's own way to it is a call that leaves something behind. */
let errnoHere: Buffer | undefined;

function findErrno(): void {
  const where = bind(napi.DynamicLibrary('libc.so.6').get('__errno_location'), ['pointer', []]);
  errnoHere = memoryAt(where() as Buffer, 4);
}

function bind(fn: Buffer, [result, args]: Signature): Bound {
  const cif = napi.CIF(
    ref.coerceType(named(result)),
    args.map((type) => ref.coerceType(named(type))),
  );
  const frame = new Frame(args);
  const idle: Frame[] = [];
  const call = (...values: unknown[]): unknown => {
    frame.write(values);
    calls.ffi_call(cif, fn, frame.result, frame.args);
    frame.release();
    return frame.read(result);
  };
  const later = async (...values: unknown[]): Promise<unknown> => {
    const own = idle.pop() ?? new Frame(args);
    own.write(values);
    await new Promise<void>((resolve, reject) => {
      calls.ffi_call_async(cif, fn, own.result, own.args, (error) => (error ? reject(error) : resolve()));
    });
    own.release();
    idle.push(own);
    return own.read(result);
  };
  return Object.assign(call, { later });
}

/** As ffi-napi calls it. */
function named(type: CType): string {
  return type === 'string' ? 'pointer' : type;
}

/**
 * Functions of a shared library, bound when each of them is called first: a machine
 * without the library can run everything that does not need it.
 * @throws AgentError KERNEL, on that first call, where library or function is missing
 */
export function library<T extends Record<string, Signature>>(name: string, functions: T): { [K in keyof T]: Bound } {
  let opened: { get(symbol: string): Buffer } | undefined;
  const native = (key: string): Bound => {
    try {
      // Not when it is asked for: it would be another one by then.
      if (!errnoHere) findErrno();
      opened ??= napi.DynamicLibrary(name);
      return bind(opened.get(key), functions[key] as Signature);
    } catch (e) {
      throw new AgentError('KERNEL', `${name} cannot be loaded: ${(e as Error).message}`, {
        hint: name.startsWith('libbpf') ? 'install libbpf 1.0 or later (Debian and Ubuntu: libbpf1)' : undefined,
        cause: e,
      });
    }
  };
  const out: Record<string, Bound> = {};
  for (const key of Object.keys(functions)) {
    // From the first call on the function itself, without this step.
    const bound = () => (out[key] = native(key));
    out[key] = Object.assign((...args: unknown[]) => bound()(...args), {
      later: (...args: unknown[]) => bound().later(...args),
    });
  }
  return out as { [K in keyof T]: Bound };
}

/** A C function pointer that calls `fn`. Whoever passes it on keeps it referenced for as long as C may call it. */
export function callback(result: CType, args: readonly CType[], fn: Native): Buffer {
  return napi.Callback(result, args, fn);
}

/** errno of the last call; to be read before anything else runs. */
export function errno(): number {
  return errnoHere?.readInt32LE() ?? 0;
}

/** Where the memory of each begins. Asked for once: see Frame. */
const bases = new WeakMap<ArrayBufferLike, bigint>();

/** Address of a Buffer's first byte, as the kernel wants it in a struct. The caller keeps the Buffer alive. */
export function address(buf: Buffer): bigint {
  // NULL, and what has no memory.
  if (buf.length === 0) return BigInt(ref.address(buf));
  let base = bases.get(buf.buffer);
  if (base === undefined) {
    base = BigInt(ref.address(buf)) - BigInt(buf.byteOffset);
    bases.set(buf.buffer, base);
  }
  return base + BigInt(buf.byteOffset);
}

/** Memory at a pointer that a call returned, as a Buffer: shared, not copied, not owned. */
export function memoryAt(pointer: Buffer, size: number): Buffer {
  return ref.reinterpret(pointer, size, 0);
}

/** NUL-terminated text at a pointer; empty for NULL. */
export function textAt(pointer: Buffer): string {
  return isNull(pointer) ? '' : ref.readCString(memoryAt(pointer, 4096), 0);
}

export function isNull(pointer: Buffer): boolean {
  return address(pointer) === 0n;
}

export const NULL = ref.NULL;

/** Where one number has two names, the one that manual pages use. */
const SYNONYMS = ['EWOULDBLOCK', 'ENOTSUP', 'EDEADLOCK'];
const names = new Map<number, string>();
for (const [name, number] of Object.entries(os.constants.errno)) if (!SYNONYMS.includes(name)) names.set(number, name);
// The kernel's BPF code lets this one out, which is no errno of user space.
names.set(524, 'ENOTSUPP');

/** `ENOSPC` for 28 or -28; a number without a name as `E28`. */
export function errnoName(number: number): string {
  return names.get(Math.abs(number)) ?? `E${Math.abs(number)}`;
}
