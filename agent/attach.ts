/**
 * Interfaces ↔ hooks. Puts the programs at the tc hooks of devices, as tcx links or as
 * clsact filters, keeps them there, and takes them away without touching what others have.
 */
import { mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError, type Problem } from '../src/errors.js';
import type { EndpointBinding } from '../src/image/store.js';
import type { Direction } from './clsact.js';
import * as clsact from './clsact.js';
import type { Bindings, PodBinding } from './endpoints.js';
import { sys } from './libbpf/sys.js';
import { type NetlinkSocket, withNetlink } from './netlink.js';
import * as tcx from './tcx.js';

export type AttachMode = 'auto' | 'tcx' | 'tc';

/** A loaded program, as the loader gives it. */
export interface Program {
  readonly fd: number;
}

export interface HookPrograms {
  readonly fromPod: Program;
  readonly toPod: Program;
  readonly uplink: Program;
}

export interface AttachOptions {
  /** `auto`: tcx where the kernel has it. */
  mode?: AttachMode;
  /** Directory on a bpffs; undefined: links live and end with this object (tests). */
  pinDir?: string;
}

/** One hook as check() found it. */
export interface HookState {
  readonly ifindex: number;
  readonly ifname: string;
  readonly direction: Direction;
  /** `restored`: ours was gone and is back. `gone`: the device is. */
  readonly state: 'ok' | 'restored' | 'gone' | 'failed';
  /**
   * Programs of others that run before ours: one that does not return TC_ACT_UNSPEC
   * (TCX_NEXT) lets packets pass unjudged. Reported, not fought.
   */
  readonly ahead: readonly string[];
  readonly error?: string;
}

interface Hook {
  readonly ifindex: number;
  readonly ifname: string;
  readonly direction: Direction;
  readonly programFd: number;
  readonly programId: number;
  /** Only where nothing is pinned. */
  linkFd?: number;
}

const DIRECTIONS = ['ingress', 'egress'] as const;

function isErrno(e: unknown, ...names: string[]): boolean {
  return e instanceof AgentError && names.includes(e.errno ?? '');
}

/** The numbers that the names in a directory begin with; empty where it is missing. */
function indicesIn(dir: string): number[] {
  try {
    return [...new Set(readdirSync(dir).map((name) => Number.parseInt(name, 10)))].filter((n) => n > 0);
  } catch {
    return [];
  }
}

function removeFile(remove: (path: string) => void, path: string): void {
  try {
    remove(path);
  } catch (e) {
    const code = (e as NodeJS.ErrnoException).code;
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY') throw e;
  }
}

export class Attacher {
  /** What is used for new hooks; hooks of the other kind are replaced as they are met. */
  readonly mode: 'tcx' | 'tc';
  readonly #pinDir: string | undefined;
  readonly #hooks = new Map<string, Hook>();
  /** Endpoint id by ifindex of the pods attached by this process. */
  readonly #pods = new Map<number, { id: number; uid: string }>();
  /** Devices whose clsact we made, where nothing is pinned. */
  readonly #madeClsact = new Set<number>();

  /** Throws KERNEL where `tcx` is asked for and the kernel has none, or where BPF is not permitted. */
  constructor(opts: AttachOptions = {}) {
    const mode = opts.mode ?? 'auto';
    if (mode === 'tc') this.mode = 'tc';
    else if (tcx.probeTcx()) this.mode = 'tcx';
    else if (mode === 'auto') this.mode = 'tc';
    else throw new AgentError('KERNEL', 'this kernel has no tcx', { errno: 'EINVAL', hint: 'use mode auto or tc' });
    this.#pinDir = opts.pinDir;
    if (this.#pinDir !== undefined) {
      mkdirSync(join(this.#pinDir, 'links'), { recursive: true });
      mkdirSync(join(this.#pinDir, 'qdiscs'), { recursive: true });
    }
  }

  /**
   * Attaches what is bound and not attached yet, replaces the programs of what an earlier
   * agent attached. The endpoints' map entries must be written before. A device that
   * refuses is a Problem; the others go on. `seed` fills in a pod's connections.
   */
  attachAll(bindings: Bindings, programs: HookPrograms, seed: (pod: PodBinding) => void): Problem[] {
    const problems: Problem[] = [];
    const attempt = (b: EndpointBinding, attach: () => void) => {
      try {
        attach();
      } catch (e) {
        if (!(e instanceof AgentError)) throw e;
        const object = `${b.kind === 'pod' ? 'Pod' : 'uplink'} ${b.key}`;
        const message = `${b.ifname}: ${e.message}`;
        problems.push({ severity: 'error', where: { object }, message, hint: e.hint });
      }
    };
    for (const pod of bindings.pods) attempt(pod, () => this.attachPod(pod, programs, () => seed(pod)));
    for (const uplink of bindings.uplinks) attempt(uplink, () => this.attachUplink(uplink, programs));
    return problems;
  }

  /** Hooks both directions of a pod's veth. Throws KERNEL; what was attached before the fault stays. */
  attachPod(pod: PodBinding, programs: HookPrograms, seed: () => void): void {
    // THE ORDER. Each step makes the next one right:
    //  1. delivery (tc egress, to_pod): from now on each connection opened to the pod is noted.
    //  2. seed: connections opened before that are taken from the pod's sockets. One opened
    //     between 1 and 2 is in both; entries that are there already are left alone.
    //  3. judging (tc ingress, from_pod): whatever it sees now and does not know was opened by the pod.
    // Judging first would drop replies; seeding first would miss what is opened meanwhile.
    const known = this.#pods.get(pod.ifindex);
    const seeded = known ? known.id === pod.id : this.has(pod.ifindex, 'ingress');
    this.attach(pod, 'egress', programs.toPod);
    if (!seeded) seed();
    this.attach(pod, 'ingress', programs.fromPod);
    this.#pods.set(pod.ifindex, { id: pod.id, uid: pod.uid });
  }

  /** Hooks tc egress of an uplink. Throws KERNEL. */
  attachUplink(uplink: EndpointBinding, programs: HookPrograms): void {
    this.attach(uplink, 'egress', programs.uplink);
  }

  /**
   * Detaches devices that are not bound any more, also those that an earlier agent attached. A
   * pod that is there but cannot be bound just now keeps its hooks. Call it before the
   * endpoints' map entries are removed. Returns the devices' indices.
   */
  detachStale(bindings: Bindings): number[] {
    const bound = new Set(bindings.all.map((b) => b.ifindex));
    const out: number[] = [];
    for (const ifindex of this.attached()) {
      if (bound.has(ifindex)) continue;
      const pod = this.#pods.get(ifindex);
      // Whose an earlier agent's hook is, is not known: as long as a pod is missing it may be that one's.
      if (pod ? bindings.unbound.has(pod.uid) : bindings.unbound.size > 0) continue;
      this.detach(ifindex);
      out.push(ifindex);
    }
    return out;
  }

  /** Indices of the devices that have a hook of ours, by this process or one before it. */
  attached(): number[] {
    const out = new Set([...this.#hooks.values()].map((h) => h.ifindex));
    if (this.#pinDir !== undefined) {
      for (const i of indicesIn(join(this.#pinDir, 'links'))) out.add(i);
    }
    withNetlink(undefined, (nl) => {
      for (const i of this.#withFilters(nl)) out.add(i);
    });
    return [...out].sort((a, b) => a - b);
  }

  #withFilters(nl: NetlinkSocket): number[] {
    return clsact
      .clsactDevices(nl)
      .filter((i) => DIRECTIONS.some((d) => clsact.listFilters(nl, i, d).some((f) => f.ours)));
  }

  /** Whether a hook of ours is there, by this process or one before it. Throws KERNEL. */
  has(ifindex: number, direction: Direction): boolean {
    const fd = this.#openLink(ifindex, direction);
    if (fd !== undefined) {
      this.#closeLink(ifindex, direction, fd);
      return true;
    }
    return withNetlink(undefined, (nl) => clsact.listFilters(nl, ifindex, direction).some((f) => f.ours));
  }

  /**
   * Puts a program at a hook; where one of ours is, it is replaced in one step. A hook
   * of ours of the other kind (the mode was changed) is removed once the new one is there:
   * a few packets are judged twice, none is not judged. Throws KERNEL.
   */
  attach(device: { ifindex: number; ifname: string }, direction: Direction, program: Program): void {
    const { ifindex, ifname } = device;
    const key = `${ifindex}/${direction}`;
    const before = this.#hooks.get(key);
    const id = tcx.programId(program.fd);
    if (before && before.programId === id && this.#inPlace(before)) return;
    const hook: Hook = { ifindex, ifname, direction, programFd: program.fd, programId: id, linkFd: before?.linkFd };
    this.#hooks.set(key, hook);
    this.#put(hook);
    if (this.mode === 'tcx') this.#dropClsact(ifindex, direction);
    else this.#dropLink(ifindex, direction);
  }

  #put(hook: Hook): void {
    if (this.mode === 'tcx') this.#putLink(hook);
    else this.#putFilter(hook);
  }

  /** Ours is there, with the right program. */
  #inPlace(hook: Hook): boolean {
    if (this.mode === 'tc') {
      const { ifindex, direction } = hook;
      return withNetlink(undefined, (nl) =>
        clsact.listFilters(nl, ifindex, direction).some((f) => f.ours && f.programId === hook.programId),
      );
    }
    const fd = this.#openLink(hook.ifindex, hook.direction);
    if (fd === undefined) return false;
    try {
      return tcx.linkInfo(fd)?.programId === hook.programId;
    } finally {
      this.#closeLink(hook.ifindex, hook.direction, fd);
    }
  }

  #linkPath(ifindex: number, direction: Direction): string | undefined {
    return this.#pinDir === undefined ? undefined : join(this.#pinDir, 'links', `${ifindex}-${direction}`);
  }

  /**
   * Our link at a hook, if it is alive. A pin may outlive its device, and the index may name
   * another one by now: the link itself says where it is (0: nowhere any more).
   */
  #openLink(ifindex: number, direction: Direction): number | undefined {
    const path = this.#linkPath(ifindex, direction);
    const fd = path === undefined ? this.#hooks.get(`${ifindex}/${direction}`)?.linkFd : tcx.openPinned(path);
    if (fd === undefined) return undefined;
    const info = tcx.linkInfo(fd);
    if (info?.ifindex === ifindex && info.direction === direction) return fd;
    this.#closeLink(ifindex, direction, fd);
    return undefined;
  }

  /** Closes what #openLink gave; not the link that nothing but its fd holds. */
  #closeLink(ifindex: number, direction: Direction, fd: number): void {
    if (this.#hooks.get(`${ifindex}/${direction}`)?.linkFd !== fd) sys.close(fd);
  }

  #putLink(hook: Hook): void {
    const { ifindex, direction } = hook;
    const there = this.#openLink(ifindex, direction);
    if (there !== undefined) {
      try {
        tcx.updateLink(there, hook.programFd);
        return;
      } finally {
        this.#closeLink(ifindex, direction, there);
      }
    }
    const path = this.#linkPath(ifindex, direction);
    const fd = tcx.createLink(hook.programFd, ifindex, direction);
    if (path === undefined) {
      if (hook.linkFd !== undefined) sys.close(hook.linkFd);
      hook.linkFd = fd;
      return;
    }
    try {
      // What is pinned there is dead. Killed between these calls, the new link ends with us
      // and the next agent makes it again.
      removeFile(unlinkSync, path);
      tcx.pin(fd, path);
    } finally {
      sys.close(fd);
    }
  }

  #dropLink(ifindex: number, direction: Direction): void {
    const path = this.#linkPath(ifindex, direction);
    const hook = this.#hooks.get(`${ifindex}/${direction}`);
    const fd = path === undefined ? hook?.linkFd : tcx.openPinned(path);
    if (fd === undefined) return;
    // By force: a link lives on while anybody holds it.
    try {
      if (tcx.linkInfo(fd)?.ifindex) tcx.detachLink(fd);
    } finally {
      sys.close(fd);
    }
    if (hook) hook.linkFd = undefined;
    if (path !== undefined) removeFile(unlinkSync, path);
  }

  #putFilter(hook: Hook): void {
    withNetlink(undefined, (nl) => {
      if (clsact.ensureClsact(nl, hook.ifindex, hook.ifname)) this.#markClsact(hook.ifindex, true);
      clsact.putFilter(nl, hook.ifindex, hook.direction, hook.programFd);
    });
  }

  #dropClsact(ifindex: number, direction: Direction): void {
    withNetlink(undefined, (nl) => {
      try {
        clsact.removeFilters(nl, ifindex, direction);
        if (this.#isMarked(ifindex)) clsact.removeEmptyClsact(nl, ifindex);
      } catch (e) {
        if (!isErrno(e, 'ENODEV', 'ENOENT', 'EINVAL')) throw e;
      }
      if (clsact.ingressQdisc(nl, ifindex) === undefined) this.#markClsact(ifindex, false);
    });
  }

  /**
   * Who made a clsact is nowhere in the kernel. An empty directory on the bpffs says that we
   * did: like the device it outlives the agent and not the machine. A clsact without that mark stays.
   */
  #markClsact(ifindex: number, made: boolean): void {
    if (made) this.#madeClsact.add(ifindex);
    else this.#madeClsact.delete(ifindex);
    if (this.#pinDir === undefined) return;
    const path = join(this.#pinDir, 'qdiscs', String(ifindex));
    if (made) mkdirSync(path, { recursive: true });
    else removeFile(rmdirSync, path);
  }

  #isMarked(ifindex: number): boolean {
    if (this.#pinDir === undefined) return this.#madeClsact.has(ifindex);
    return indicesIn(join(this.#pinDir, 'qdiscs')).includes(ifindex);
  }

  /**
   * Looks at every hook of this process and puts back what is gone. Call it on `tc` and `link`
   * events and now and then (a tcx link's end raises no event). Does not throw for a single hook.
   */
  check(): HookState[] {
    return withNetlink(undefined, (nl) => {
      const links = new Set(nl.links().map((l) => l.ifindex));
      return [...this.#hooks.values()].map((hook): HookState => {
        const { ifindex, ifname, direction } = hook;
        const as = (state: HookState['state'], error?: string): HookState => {
          const ahead = state === 'gone' ? [] : this.#ahead(nl, hook);
          return { ifindex, ifname, direction, state, ahead, error };
        };
        if (!links.has(ifindex)) {
          this.detach(ifindex);
          return as('gone');
        }
        try {
          if (this.#inPlace(hook)) return as('ok');
          // Our filter went with a clsact that somebody has made anew: theirs now.
          if (this.mode === 'tc' && clsact.ingressQdisc(nl, ifindex)) this.#forgetClsactOf(nl, ifindex);
          this.#put(hook);
          return as('restored');
        } catch (e) {
          return as('failed', (e as Error).message);
        }
      });
    });
  }

  /** With our other filter still in it, the qdisc is the one that we made. */
  #forgetClsactOf(nl: NetlinkSocket, ifindex: number): void {
    if (!DIRECTIONS.some((d) => clsact.listFilters(nl, ifindex, d).some((f) => f.ours))) this.#markClsact(ifindex, false);
  }

  #ahead(nl: NetlinkSocket, hook: Hook): string[] {
    const { ifindex, direction, programId } = hook;
    let programs: number[] = [];
    try {
      programs = tcx.queryPrograms(ifindex, direction);
    } catch (e) {
      if (!isErrno(e, 'EINVAL', 'ENOENT', 'ENODEV')) throw e;
    }
    // All of tcx runs before any of clsact.
    const at = this.mode === 'tcx' ? programs.indexOf(programId) : programs.length;
    const ahead = programs.slice(0, Math.max(at, 0)).map((id) => `tcx program ${id}`);
    if (this.mode === 'tcx') return ahead;
    const filters = clsact.listFilters(nl, ifindex, direction);
    const before = filters.slice(0, Math.max(filters.findIndex((f) => f.ours), 0));
    return [...ahead, ...before.map((f) => `${f.kind} filter, priority ${f.priority} ${f.name}`.trimEnd())];
  }

  /** Takes our hooks off a device, of either kind; others' stay. A device that has gone is fine. Throws KERNEL. */
  detach(ifindex: number): void {
    // Judging first: a packet must not meet a judge that no longer hears of new connections.
    for (const direction of DIRECTIONS) {
      this.#dropLink(ifindex, direction);
      this.#dropClsact(ifindex, direction);
      this.#hooks.delete(`${ifindex}/${direction}`);
    }
    this.#pods.delete(ifindex);
  }

  /** Removes every hook of ours, also those of agents before this one, and the directories. Throws KERNEL. */
  detachAll(): void {
    for (const ifindex of this.attached()) this.detach(ifindex);
    if (this.#pinDir === undefined) return;
    for (const ifindex of indicesIn(join(this.#pinDir, 'qdiscs'))) this.detach(ifindex);
    removeFile(rmdirSync, join(this.#pinDir, 'links'));
    removeFile(rmdirSync, join(this.#pinDir, 'qdiscs'));
  }
}
