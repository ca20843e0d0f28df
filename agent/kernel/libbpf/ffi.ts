/**
 * The only file that knows which FFI is used. Everything else asks for functions by
 * signature and for memory by address; another FFI has to offer what is exported here.
 *
 * A call costs some 10 µs, whatever it does: nothing that happens once a packet, an
 * event or a map entry may go through here. Batch it or mmap it.
 */
import { createRequire } from 'node:module';
import os from 'node:os';
import { AgentError } from '../../../src/errors.js';

const require = createRequire(import.meta.url);

/** C types that the bindings use. `pointer` takes a Buffer (its address is passed) or null. */
export type CType = 'void' | 'int' | 'uint' | 'long' | 'size_t' | 'uint64' | 'pointer' | 'string' | 'int64';
export type Signature = readonly [result: CType, args: readonly CType[]];

type Native = (...args: unknown[]) => unknown;

/** A function of a library. */
export interface BoundFunction {
  (...args: unknown[]): unknown;
  /** The same call on another thread, for calls that block in the kernel. errno is not available. */
  inThread(...args: unknown[]): Promise<unknown>;
}

interface Napi {
  DynamicLibrary(name: string): { get(symbol: string): Buffer };
  CIF(result: unknown, args: readonly unknown[]): Buffer;
  Callback(result: CType, args: readonly CType[], fn: Native): Buffer;
}
/** ffi-napi's native functions. */
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

/** Bytes of an argument and of a result: every type in use fits. */
const WORD = 8;

/**
 * Memory of a call's arguments and result. Allocated once and used again: the library remembers each ArrayBuffer that
 * it gets, and keeps one that it got more than once for ever. With a new one for each call, an agent would grow by
 * megabytes an hour.
 */
class Frame {
  readonly #types: readonly CType[];
  readonly result = Buffer.alloc(WORD);
  /** Addresses of the values. */
  readonly args: Buffer;
  readonly #values: Buffer;
  /** Buffers that the values point to, referenced for as long as the call may use them. */
  readonly #pointees: unknown[];

  constructor(types: readonly CType[]) {
    this.#types = types;
    this.args = Buffer.alloc(Math.max(1, types.length) * WORD);
    this.#values = Buffer.alloc(Math.max(1, types.length) * WORD);
    this.#pointees = new Array(types.length);
    const base = address(this.#values);
    for (let i = 0; i < types.length; i++) this.args.writeBigUInt64LE(base + BigInt(i * WORD), i * WORD);
  }

  /** Writes the arguments. @throws TypeError for a value of the wrong type */
  write(values: readonly unknown[]): void {
    if (values.length !== this.#types.length)
      throw new TypeError(`${this.#types.length} arguments are wanted, not ${values.length}`);
    for (let i = 0; i < values.length; i++) {
      const [type, value, at] = [this.#types[i], values[i], i * WORD];
      if (type === 'int') this.#values.writeInt32LE(value as number, at);
      else if (type === 'uint') this.#values.writeUInt32LE(value as number, at);
      else if (type === 'pointer') this.#pointer(i, value as Buffer | null);
      else if (type === 'string') this.#pointer(i, Buffer.from(`${value as string}\0`));
      else this.#values.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value as number | bigint)), at);
    }
  }

  /** Drops the references to the buffers that the values point to. */
  release(): void {
    this.#pointees.fill(undefined);
  }

  #pointer(i: number, target: Buffer | null): void {
    this.#pointees[i] = target;
    this.#values.writeBigUInt64LE(target === null ? 0n : address(target), i * WORD);
  }

  /** The result: a Buffer for a pointer; otherwise a number, or a bigint where a number is not exact. */
  read(type: CType): unknown {
    if (type === 'void') return undefined;
    if (type === 'int') return this.result.readInt32LE();
    if (type === 'uint') return this.result.readUInt32LE();
    if (type === 'pointer' || type === 'string') return ref.readPointer(this.result, 0, 1);
    const n = type === 'long' || type === 'int64' ? this.result.readBigInt64LE() : this.result.readBigUInt64LE();
    return Number.isSafeInteger(Number(n)) ? Number(n) : n;
  }
}

/** This thread's errno, as shared memory: the library's own function for it leaks memory with each call. */
let errnoMemory: Buffer | undefined;

function findErrno(): void {
  const errnoLocation = bind(napi.DynamicLibrary('libc.so.6').get('__errno_location'), ['pointer', []]);
  errnoMemory = memoryAt(errnoLocation() as Buffer, 4);
}

function bind(fn: Buffer, [result, args]: Signature): BoundFunction {
  const cif = napi.CIF(
    ref.coerceType(ffiType(result)),
    args.map((type) => ref.coerceType(ffiType(type))),
  );
  const frame = new Frame(args);
  const idle: Frame[] = [];
  const call = (...values: unknown[]): unknown => {
    frame.write(values);
    calls.ffi_call(cif, fn, frame.result, frame.args);
    frame.release();
    return frame.read(result);
  };
  const inThread = async (...values: unknown[]): Promise<unknown> => {
    const ownFrame = idle.pop() ?? new Frame(args);
    ownFrame.write(values);
    await new Promise<void>((resolve, reject) => {
      calls.ffi_call_async(cif, fn, ownFrame.result, ownFrame.args, (error) => (error ? reject(error) : resolve()));
    });
    ownFrame.release();
    idle.push(ownFrame);
    return ownFrame.read(result);
  };
  return Object.assign(call, { inThread });
}

/** ffi-napi's name of a type. */
function ffiType(type: CType): string {
  return type === 'string' ? 'pointer' : type;
}

/**
 * Functions of a shared library. Each is bound on its first call, so that a machine
 * without the library can run everything that does not need it.
 * @throws AgentError KERNEL, on that first call, if library or function is missing
 */
export function library<T extends Record<string, Signature>>(
  name: string,
  functions: T,
): { [K in keyof T]: BoundFunction } {
  let dynamicLibrary: { get(symbol: string): Buffer } | undefined;
  const native = (key: string): BoundFunction => {
    try {
      // Before the call, not when errno is read: the look-up itself may change errno.
      if (!errnoMemory) findErrno();
      dynamicLibrary ??= napi.DynamicLibrary(name);
      return bind(dynamicLibrary.get(key), functions[key] as Signature);
    } catch (e) {
      throw new AgentError('KERNEL', `${name} cannot be loaded: ${(e as Error).message}`, {
        hint: name.startsWith('libbpf') ? 'install libbpf 1.0 or later (Debian and Ubuntu: libbpf1)' : undefined,
        cause: e,
      });
    }
  };
  const out: Record<string, BoundFunction> = {};
  for (const key of Object.keys(functions)) {
    // After the first call, the native function itself, without this step.
    const bound = () => (out[key] = native(key));
    out[key] = Object.assign((...args: unknown[]) => bound()(...args), {
      inThread: (...args: unknown[]) => bound().inThread(...args),
    });
  }
  return out as { [K in keyof T]: BoundFunction };
}

/** A C function pointer that calls `fn`. The caller keeps it referenced for as long as C may call it. */
export function callback(result: CType, args: readonly CType[], fn: Native): Buffer {
  return napi.Callback(result, args, fn);
}

/** errno of the last call; read it before anything else runs. */
export function errno(): number {
  return errnoMemory?.readInt32LE() ?? 0;
}

/** Address of each ArrayBuffer's first byte. The library is asked once for each: see Frame. */
const bases = new WeakMap<ArrayBufferLike, bigint>();

/** Address of a Buffer's first byte, as the kernel wants it in a struct. The caller keeps the Buffer alive. */
export function address(buf: Buffer): bigint {
  // NULL and empty buffers have no memory.
  if (buf.length === 0) return BigInt(ref.address(buf));
  let base = bases.get(buf.buffer);
  if (base === undefined) {
    base = BigInt(ref.address(buf)) - BigInt(buf.byteOffset);
    bases.set(buf.buffer, base);
  }
  return base + BigInt(buf.byteOffset);
}

/** `size` bytes of memory at a pointer that a call returned, as a Buffer: shared, not copied, not owned. */
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
// The kernel's BPF code returns this one, although it is no errno of user space.
names.set(524, 'ENOTSUPP');

/** `ENOSPC` for 28 or -28; a number without a name as `E28`. */
export function errnoName(number: number): string {
  return names.get(Math.abs(number)) ?? `E${Math.abs(number)}`;
}
