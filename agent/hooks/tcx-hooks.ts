/** Hooks as tcx links, pinned at `<pin-dir>/links/<ifindex>-<direction>`. */
import { mkdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type Direction, type Hook, type HookKind, indicesIn, isErrno, removePath } from './hook-kind.js';
import { sys } from '../kernel/libbpf/sys.js';
import * as tcx from './tcx.js';

export class TcxHooks implements HookKind {
  readonly #dir: string | undefined;
  /** The links by `ifindex-direction`, if nothing is pinned; they end with their fds. */
  readonly #fds = new Map<string, number>();

  /** `pinDir`: on a bpffs; undefined: nothing is pinned. */
  constructor(pinDir: string | undefined) {
    this.#dir = pinDir === undefined ? undefined : join(pinDir, 'links');
  }

  devices(): number[] {
    if (this.#dir !== undefined) return indicesIn(this.#dir);
    return [...this.#fds.keys()].map((key) => Number.parseInt(key, 10));
  }

  has(ifindex: number, direction: Direction): boolean {
    return this.#withLink(ifindex, direction, (fd) => fd !== undefined);
  }

  inPlace(hook: Hook): boolean {
    return this.#withLink(hook.ifindex, hook.direction, (fd) => {
      return fd !== undefined && tcx.linkInfo(fd)?.programId === hook.programId;
    });
  }

  put(hook: Hook): void {
    const { ifindex, direction, programFd } = hook;
    this.#withLink(ifindex, direction, (liveFd) => {
      if (liveFd !== undefined) {
        tcx.updateLink(liveFd, programFd);
        return;
      }
      const fd = tcx.createLink(programFd, ifindex, direction);
      const key = `${ifindex}-${direction}`;
      if (this.#dir === undefined) {
        const deadFd = this.#fds.get(key);
        if (deadFd !== undefined) sys.close(deadFd);
        this.#fds.set(key, fd);
        return;
      }
      try {
        // The link pinned there is dead. If the agent is killed between these calls, the new link ends
        // with it, and the next agent makes it again.
        mkdirSync(this.#dir, { recursive: true });
        removePath(unlinkSync, join(this.#dir, key));
        tcx.pin(fd, join(this.#dir, key));
      } finally {
        sys.close(fd);
      }
    });
  }

  drop(ifindex: number, direction: Direction): void {
    const key = `${ifindex}-${direction}`;
    const path = this.#dir === undefined ? undefined : join(this.#dir, key);
    const fd = path === undefined ? this.#fds.get(key) : tcx.openPinned(path);
    if (fd === undefined) return;
    this.#fds.delete(key);
    try {
      // Detach it explicitly: a link stays attached while anybody holds it.
      if (tcx.linkInfo(fd)?.ifindex) tcx.detachLink(fd);
    } finally {
      sys.close(fd);
    }
    if (path !== undefined) removePath(unlinkSync, path);
  }

  ahead(hook: Hook): string[] {
    try {
      const programs = tcx.queryPrograms(hook.ifindex, hook.direction);
      const at = programs.indexOf(hook.programId);
      return programs.slice(0, at < 0 ? programs.length : at).map((id) => `tcx program ${id}`);
    } catch (e) {
      // No tcx, no programs, or no device.
      if (isErrno(e, 'EINVAL', 'ENOENT', 'ENODEV')) return [];
      throw e;
    }
  }

  clear(): void {
    if (this.#dir !== undefined) removePath(rmdirSync, this.#dir);
  }

  /**
   * Calls `fn` with the fd of our link at a hook, or undefined if there is no live one. A pin may
   * outlive its device, and the kernel may reuse the index: the link's own ifindex decides (0: detached).
   */
  #withLink<T>(ifindex: number, direction: Direction, fn: (fd: number | undefined) => T): T {
    const key = `${ifindex}-${direction}`;
    const fd = this.#dir === undefined ? this.#fds.get(key) : tcx.openPinned(join(this.#dir, key));
    try {
      const info = fd === undefined ? undefined : tcx.linkInfo(fd);
      return fn(info?.ifindex === ifindex && info.direction === direction ? fd : undefined);
    } finally {
      if (fd !== undefined && this.#dir !== undefined) sys.close(fd);
    }
  }
}
