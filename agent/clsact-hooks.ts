/** Hooks as filters in a device's clsact qdisc. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import * as clsact from './clsact.js';
import { DIRECTIONS, type Direction, type Hook, type HookKind, indicesIn, isErrno, removePath } from './hook-kind.js';
import { withNetlink } from './netlink.js';

export class ClsactHooks implements HookKind {
  readonly #dir: string | undefined;
  /** Devices whose clsact we made, where nothing is pinned. */
  readonly #made = new Set<number>();

  /** `pinDir`: on a bpffs; undefined: who made a qdisc is remembered by this object alone. */
  constructor(pinDir: string | undefined) {
    this.#dir = pinDir === undefined ? undefined : join(pinDir, 'qdiscs');
  }

  devices(): number[] {
    return withNetlink(undefined, (nl) => {
      const ours = (i: number) => DIRECTIONS.some((d) => clsact.listFilters(nl, i, d).some((f) => f.ours));
      return [...new Set([...this.#marked(), ...clsact.clsactDevices(nl).filter(ours)])];
    });
  }

  has(ifindex: number, direction: Direction): boolean {
    return withNetlink(undefined, (nl) => clsact.listFilters(nl, ifindex, direction).some((f) => f.ours));
  }

  inPlace(hook: Hook): boolean {
    return withNetlink(undefined, (nl) =>
      clsact.listFilters(nl, hook.ifindex, hook.direction).some((f) => f.ours && f.programId === hook.programId),
    );
  }

  put(hook: Hook): void {
    const { ifindex, ifname, direction, programFd } = hook;
    withNetlink(undefined, (nl) => {
      const made = clsact.ensureClsact(nl, ifindex, ifname);
      if (made) this.#mark(ifindex, true);
      else if (this.#marked().includes(ifindex)) {
        // A clsact without any filter of ours is not the one that we made: that went, and somebody has made another.
        const ours = DIRECTIONS.some((d) => clsact.listFilters(nl, ifindex, d).some((f) => f.ours));
        if (!ours) this.#mark(ifindex, false);
      }
      clsact.putFilter(nl, ifindex, direction, programFd);
    });
  }

  drop(ifindex: number, direction: Direction): void {
    withNetlink(undefined, (nl) => {
      try {
        clsact.removeFilters(nl, ifindex, direction);
        if (this.#marked().includes(ifindex)) clsact.removeEmptyClsact(nl, ifindex);
      } catch (e) {
        if (!isErrno(e, 'ENODEV', 'ENOENT', 'EINVAL')) throw e;
      }
      if (clsact.ingressQdisc(nl, ifindex) === undefined) this.#mark(ifindex, false);
    });
  }

  ahead(hook: Hook): string[] {
    const filters = withNetlink(undefined, (nl) => clsact.listFilters(nl, hook.ifindex, hook.direction));
    const at = filters.findIndex((f) => f.ours);
    return filters
      .slice(0, at < 0 ? filters.length : at)
      .map((f) => `${f.kind} filter, priority ${f.priority} ${f.name}`.trimEnd());
  }

  clear(): void {
    if (this.#dir === undefined) return;
    // Marks of qdiscs that others still use: theirs now.
    for (const ifindex of this.#marked()) this.#mark(ifindex, false);
    removePath(rmdirSync, this.#dir);
  }

  /**
   * Who made a clsact is nowhere in the kernel. An empty directory on the bpffs says that we
   * did: like the device it outlives the agent and not the machine. A clsact without that mark stays.
   */
  #mark(ifindex: number, made: boolean): void {
    if (made) this.#made.add(ifindex);
    else this.#made.delete(ifindex);
    if (this.#dir === undefined) return;
    const path = join(this.#dir, String(ifindex));
    if (made) mkdirSync(path, { recursive: true });
    else removePath(rmdirSync, path);
  }

  #marked(): number[] {
    return this.#dir === undefined ? [...this.#made] : indicesIn(this.#dir);
  }
}
