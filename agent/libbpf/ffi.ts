/**
 * The only file that knows which FFI is used. Everything else asks for functions by
 * signature and for memory by address; another FFI has to offer what is exported here.
 *
 * A call costs 10 to 30 µs, whatever it does: nothing that happens once a packet, an
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

/** As ffi-napi has it: the last argument is a callback. */
interface Foreign extends Native {
  async(...args: unknown[]): void;
}

interface Napi {
  Library(name: string, functions: Record<string, Signature>): Record<string, Foreign>;
  Callback(result: CType, args: readonly CType[], fn: Native): Buffer;
  errno(): number;
}
interface Ref {
  address(buf: Buffer): number;
  reinterpret(buf: Buffer, size: number, offset?: number): Buffer;
  readCString(buf: Buffer, offset?: number): string;
  isNull(buf: Buffer): boolean;
  NULL: Buffer;
}

const napi = require('ffi-napi') as Napi;
const ref = require('ref-napi') as Ref;

/**
 * Functions of a shared library, bound when the first of them is called: a machine
 * without the library can run everything that does not need it.
 * @throws AgentError KERNEL, on that first call, where library or function is missing
 */
export function library<T extends Record<string, Signature>>(name: string, functions: T): { [K in keyof T]: Bound } {
  let bound: Record<string, Foreign> | undefined;
  const bind = (): Record<string, Foreign> => {
    try {
      return napi.Library(name, functions as Record<string, Signature>);
    } catch (e) {
      throw new AgentError('KERNEL', `${name} cannot be loaded: ${(e as Error).message}`, {
        hint: name.startsWith('libbpf') ? 'install libbpf 1.0 or later (Debian and Ubuntu: libbpf1)' : undefined,
        cause: e,
      });
    }
  };
  const native = (key: string): Foreign => {
    bound ??= bind();
    return bound[key] as Foreign;
  };
  const out: Record<string, Bound> = {};
  for (const key of Object.keys(functions)) {
    const later = (...args: unknown[]): Promise<unknown> =>
      new Promise((resolve, reject) => {
        native(key).async(...args, (error: Error | null, result: unknown) => (error ? reject(error) : resolve(result)));
      });
    const first = (...args: unknown[]) => {
      // From now on the function itself, without this step.
      out[key] = Object.assign(native(key), { later });
      return native(key)(...args);
    };
    out[key] = Object.assign(first, { later });
  }
  return out as { [K in keyof T]: Bound };
}

/** A C function pointer that calls `fn`. Whoever passes it on keeps it referenced for as long as C may call it. */
export function callback(result: CType, args: readonly CType[], fn: Native): Buffer {
  return napi.Callback(result, args, fn);
}

/** errno of the last call; to be read before anything else runs. */
export function errno(): number {
  return napi.errno();
}

/** Address of a Buffer's first byte, as the kernel wants it in a struct. The caller keeps the Buffer alive. */
export function address(buf: Buffer): bigint {
  return BigInt(ref.address(buf));
}

/** Memory at a pointer that a call returned, as a Buffer: shared, not copied, not owned. */
export function memoryAt(pointer: Buffer, size: number): Buffer {
  return ref.reinterpret(pointer, size, 0);
}

/** NUL-terminated text at a pointer; empty for NULL. */
export function textAt(pointer: Buffer): string {
  return ref.isNull(pointer) ? '' : ref.readCString(memoryAt(pointer, 4096), 0);
}

export function isNull(pointer: Buffer): boolean {
  return ref.isNull(pointer);
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
