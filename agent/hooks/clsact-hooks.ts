/** Hooks as filters in a device's clsact qdisc. */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import * as clsact from './clsact.js';
import { DIRECTIONS, type Direction, type Hook, type HookKind, indicesIn, isErrno, removePath } from './hook-kind.js';
import { withNetlink } from '../netlink/netlink.js';

export class ClsactHooks implements HookKind {
  readonly #dir: string | undefined;
  /** Devices whose clsact this object made; used if nothing is pinned. */
  readonly #madeDevices = new Set<number>();

  /** `pinDir`: on a bpffs; undefined: marks of our qdiscs are kept in this object only. */
  constructor(pinDir: string | undefined) {
    this.#dir = pinDir === undefined ? undefined : join(pinDir, 'qdiscs');
  }

  devices(): number[] {
    return withNetlink(undefined, (nl) => {
      const ours = (i: number) => DIRECTIONS.some((d) => clsact.listFilters(nl, i, d).some((f) => f.ours));
      return [...new Set([...this.#markedDevices(), ...clsact.clsactDevices(nl).filter(ours)])];
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
      if (made) this.#setMark(ifindex, true);
      else if (this.#markedDevices().includes(ifindex)) {
        // A clsact without any filter of ours is not the one that we made: somebody removed that and made another.
        const ours = DIRECTIONS.some((d) => clsact.listFilters(nl, ifindex, d).some((f) => f.ours));
        if (!ours) this.#setMark(ifindex, false);
      }
      clsact.putFilter(nl, ifindex, direction, programFd);
    });
  }

  drop(ifindex: number, direction: Direction): void {
    withNetlink(undefined, (nl) => {
      try {
        clsact.removeFilters(nl, ifindex, direction);
        if (this.#markedDevices().includes(ifindex)) clsact.removeEmptyClsact(nl, ifindex);
      } catch (e) {
        if (!isErrno(e, 'ENODEV', 'ENOENT', 'EINVAL')) throw e;
      }
      if (clsact.ingressQdisc(nl, ifindex) === undefined) this.#setMark(ifindex, false);
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
    // The marks that remain are of qdiscs that others still use: leave those to them.
    for (const ifindex of this.#markedDevices()) this.#setMark(ifindex, false);
    removePath(rmdirSync, this.#dir);
  }

  /**
   * Marks a device's clsact as ours, or removes the mark. The kernel does not record who made a
   * qdisc, so an empty directory on the bpffs does: like the qdisc, it outlives the agent and
   * not a reboot. A clsact without a mark is never removed.
   */
  #setMark(ifindex: number, made: boolean): void {
    if (made) this.#madeDevices.add(ifindex);
    else this.#madeDevices.delete(ifindex);
    if (this.#dir === undefined) return;
    const path = join(this.#dir, String(ifindex));
    if (made) mkdirSync(path, { recursive: true });
    else removePath(rmdirSync, path);
  }

  #markedDevices(): number[] {
    return this.#dir === undefined ? [...this.#madeDevices] : indicesIn(this.#dir);
  }
}
