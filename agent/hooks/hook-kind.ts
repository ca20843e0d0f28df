/** The common interface of the two kinds of tc hooks, tcx links and clsact filters, and their shared helpers. */
import { readdirSync } from 'node:fs';
import { AgentError } from '../../src/errors.js';

/** `ingress` of a host-side veth is what its pod sends; `egress` is what is delivered to the pod. */
export type Direction = 'ingress' | 'egress';

export const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

/** A hook to attach. */
export interface Hook {
  readonly ifindex: number;
  readonly ifname: string;
  readonly direction: Direction;
  readonly programFd: number;
  /** The program's kernel id. */
  readonly programId: number;
}

/** "Ours" below: made by this agent or an earlier one. All methods throw KERNEL. */
export interface HookKind {
  /** Indices of the devices that have a hook of ours. */
  devices(): number[];
  /** Whether the device has a hook of ours. */
  has(ifindex: number, direction: Direction): boolean;
  /** Whether our hook exists and has that program. */
  inPlace(hook: Hook): boolean;
  /** Attaches, or replaces the program of ours in one step: each packet meets the old one or the new one. */
  put(hook: Hook): void;
  /** Removes our hook and no other; does nothing if there is none, or no device. */
  drop(ifindex: number, direction: Direction): void;
  /** Programs of others that run before ours; all of them if ours is missing. */
  ahead(hook: Hook): string[];
  /** Removes the pin directories, after all hooks are dropped. */
  clear(): void;
}

export function isErrno(e: unknown, ...names: string[]): boolean {
  return e instanceof AgentError && names.includes(e.errno ?? '');
}

/** The numbers with which the names in a directory begin; empty if it is missing. */
export function indicesIn(dir: string): number[] {
  try {
    return [...new Set(readdirSync(dir).map((name) => Number.parseInt(name, 10)))].filter((n) => n > 0);
  } catch {
    return [];
  }
}

/** Calls unlink or rmdir. It is no error if the path is missing, or the directory contains files of others. */
export function removePath(remove: (path: string) => void, path: string): void {
  try {
    remove(path);
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code;
    // EBUSY: a mount point, such as the BPF file system itself; in a container whose own files are read-only, EROFS.
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EBUSY' && code !== 'EROFS') throw e;
  }
}
