/** The two ways to a tc hook, tcx links and clsact filters, behind one interface; and what they share. */
import { readdirSync } from 'node:fs';
import { AgentError } from '../src/errors.js';

/** `ingress` of a host-side veth is what its pod sends; `egress` is what is delivered to the pod. */
export type Direction = 'ingress' | 'egress';

export const DIRECTIONS: readonly Direction[] = ['ingress', 'egress'];

/** A hook as it is to be. */
export interface Hook {
  readonly ifindex: number;
  readonly ifname: string;
  readonly direction: Direction;
  readonly programFd: number;
  /** The kernel's number of the program. */
  readonly programId: number;
}

/** "Ours" below: made by this process or an agent before it. All throw KERNEL. */
export interface HookKind {
  /** Indices of the devices that have a hook of ours. */
  devices(): number[];
  has(ifindex: number, direction: Direction): boolean;
  /** Ours is there, and has that program. */
  inPlace(hook: Hook): boolean;
  /** Attaches, or replaces the program of ours in one step: each packet meets the old one or the new one. */
  put(hook: Hook): void;
  /** Removes ours, nobody else's; without one, or without the device, does nothing. */
  drop(ifindex: number, direction: Direction): void;
  /** What others run before ours; all that they run where ours is not there. */
  ahead(hook: Hook): string[];
  /** Removes the directories, once all hooks are dropped. */
  clear(): void;
}

export function isErrno(e: unknown, ...names: string[]): boolean {
  return e instanceof AgentError && names.includes(e.errno ?? '');
}

/** The numbers that the names in a directory begin with; empty where it is missing. */
export function indicesIn(dir: string): number[] {
  try {
    return [...new Set(readdirSync(dir).map((name) => Number.parseInt(name, 10)))].filter((n) => n > 0);
  } catch {
    return [];
  }
}

/** Calls unlink or rmdir; that there is nothing, or something of another's inside, is fine. */
export function removePath(remove: (path: string) => void, path: string): void {
  try {
    remove(path);
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code;
    // EBUSY: a mount point, such as the BPF file system itself; in a container whose own files are read-only, EROFS.
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EBUSY' && code !== 'EROFS') throw e;
  }
}
