/**
 * The only file that knows which FFI is used. Everything else asks for functions by
 * signature and for memory by address; another FFI has to offer these five things.
 */
import { createRequire } from 'node:module';
import os from 'node:os';

const require = createRequire(import.meta.url);

/** C types that the bindings use. `pointer` takes a Buffer (its address is passed) or null. */
export type CType = 'void' | 'int' | 'uint' | 'long' | 'size_t' | 'uint64' | 'pointer' | 'string' | 'int64';
export type Signature = readonly [result: CType, args: readonly CType[]];

interface Napi {
  Library(name: string, functions: Record<string, Signature>): Record<string, (...args: unknown[]) => unknown>;
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

/** Binds functions of a shared library. Throws when the library or a function is missing. */
export function library<T extends Record<string, Signature>>(
  name: string,
  functions: T,
): { [K in keyof T]: (...args: unknown[]) => unknown } {
  return napi.Library(name, functions as Record<string, Signature>) as { [K in keyof T]: (...args: unknown[]) => unknown };
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

const names = new Map(Object.entries(os.constants.errno).map(([name, number]) => [number, name]));
/** Errnos that the kernel's BPF code returns and Node has no name for. */
names.set(524, 'ENOTSUPP');
names.set(28, 'ENOSPC');

/** `ENOSPC` for 28; a number without a name as `E28`. */
export function errnoName(number: number): string {
  return names.get(Math.abs(number)) ?? `E${Math.abs(number)}`;
}
