/**
 * Interfaces ↔ hooks. Puts the programs at the tc hooks of devices, as tcx links or as
 * clsact filters, keeps them there, and takes them away without touching what others have.
 */
import { AgentError, type Problem } from '../src/errors.js';
import type { EndpointBinding } from '../src/image/store.js';
import { ClsactHooks } from './clsact-hooks.js';
import type { Bindings, PodBinding } from './endpoints.js';
import { DIRECTIONS, type Direction, type Hook, type HookKind } from './hook-kind.js';
import { withNetlink } from './netlink.js';
import { probeTcx, programId } from './tcx.js';
import { TcxHooks } from './tcx-hooks.js';

export type AttachMode = 'auto' | 'tcx' | 'tc';

/** A loaded program, as the loader gives it. */
export interface Program {
  readonly fd: number;
}

export interface HookPrograms {
  readonly fromPod: Program;
  readonly toPod: Program;
  readonly uplink: Program;
  readonly uplinkIn: Program;
}

export interface AttachOptions {
  /** `auto`: tcx where the kernel has it. */
  mode?: AttachMode;
  /** Directory on a bpffs; undefined: links live and end with this object (tests). */
  pinDir?: string;
  /** What an earlier agent's hooks know is in maps that this one does not use: every pod is seeded again. */
  fresh?: boolean;
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

export class Attacher {
  /** What is used for new hooks; hooks of the other kind are replaced as they are met. */
  readonly mode: 'tcx' | 'tc';
  readonly #fresh: boolean;
  readonly #tcx: HookKind;
  readonly #clsact: HookKind;
  readonly #hooks = new Map<string, Hook>();
  /** Pods attached by this process, by the index of the device. */
  readonly #pods = new Map<number, { id: number; uid: string }>();
  /** Devices with hooks of an earlier agent that this one has not met yet; looked for once. */
  #inherited: Set<number> | undefined;

  /** Throws KERNEL where `tcx` is asked for and the kernel has none, or where BPF is not permitted. */
  constructor(opts: AttachOptions = {}) {
    const mode = opts.mode ?? 'auto';
    if (mode === 'tc') this.mode = 'tc';
    else if (probeTcx()) this.mode = 'tcx';
    else if (mode === 'auto') this.mode = 'tc';
    else throw new AgentError('KERNEL', 'this kernel has no tcx', { errno: 'EINVAL', hint: 'use mode auto or tc' });
    this.#fresh = opts.fresh ?? false;
    this.#tcx = new TcxHooks(opts.pinDir);
    this.#clsact = new ClsactHooks(opts.pinDir);
  }

  get #used(): HookKind {
    return this.mode === 'tcx' ? this.#tcx : this.#clsact;
  }

  get #unused(): HookKind {
    return this.mode === 'tcx' ? this.#clsact : this.#tcx;
  }

  /**
   * Attaches what is bound and not attached yet, replaces the programs of what an earlier
   * agent attached. The endpoints' map entries must be written before. A device that
   * refuses is a Problem; the others go on. `seed` fills in an endpoint's connections.
   * @param guarded a policy governs the node
   */
  attachAll(
    bindings: Bindings,
    programs: HookPrograms,
    seed: (endpoint: EndpointBinding) => void,
    guarded = false,
  ): Problem[] {
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
    for (const uplink of bindings.uplinks) {
      attempt(uplink, () => {
        if (guarded) this.guard(uplink, programs, () => seed(uplink));
        this.attach(uplink, 'egress', programs.uplink);
      });
    }
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
    const seeded = known ? known.id === pod.id : !this.#fresh && this.has(pod.ifindex, 'ingress');
    this.attach(pod, 'egress', programs.toPod);
    if (!seeded) seed();
    this.attach(pod, 'ingress', programs.fromPod);
    this.#pods.set(pod.ifindex, { id: pod.id, uid: pod.uid });
  }

  /** Hooks both directions of an interface whose pod is not known yet. Throws KERNEL. */
  attachStarting(endpoint: EndpointBinding, programs: HookPrograms): void {
    this.attach(endpoint, 'egress', programs.toPod);
    this.attach(endpoint, 'ingress', programs.fromPod);
    this.#pods.set(endpoint.ifindex, { id: endpoint.id, uid: endpoint.uid });
  }

  /**
   * Before a policy governs the node: from now on each connection opened to it is noted, as attachPod() does for a pod, and what was
   * opened before is seeded. Throws KERNEL.
   */
  guard(uplink: EndpointBinding, programs: HookPrograms, seed: () => void): void {
    if (this.hooked(uplink.ifindex, 'ingress')) return;
    const seeded = !this.#fresh && this.has(uplink.ifindex, 'ingress');
    this.attach(uplink, 'ingress', programs.uplinkIn);
    if (!seeded) seed();
  }

  /** No policy governs the node any more. Throws KERNEL. */
  unguard(ifindex: number): void {
    if (!this.has(ifindex, 'ingress')) return;
    this.#tcx.drop(ifindex, 'ingress');
    this.#clsact.drop(ifindex, 'ingress');
    this.#hooks.delete(`${ifindex}/ingress`);
  }

  /**
   * Detaches devices that are not bound any more, also those that an earlier agent attached. A
   * pod that is there but cannot be bound just now keeps its hooks. Call it before the
   * endpoints' map entries are removed. Returns the devices' indices.
   */
  detachStale(bindings: Bindings): number[] {
    const bound = new Set(bindings.all.map((b) => b.ifindex));
    const out: number[] = [];
    this.#inherited ??= new Set(this.attached());
    for (const ifindex of new Set([...this.#inherited, ...[...this.#hooks.values()].map((h) => h.ifindex)])) {
      if (bound.has(ifindex)) continue;
      const pod = this.#pods.get(ifindex);
      // Whose an earlier agent's hook is, is not known: as long as a pod is missing it may be that one's.
      if (pod ? bindings.unbound.has(pod.uid) : bindings.unbound.size > 0) continue;
      this.detach(ifindex);
      out.push(ifindex);
    }
    return out;
  }

  /** Indices of the devices that have a hook of ours, by this process or one before it. Throws KERNEL. */
  attached(): number[] {
    const out = new Set([...this.#hooks.values()].map((h) => h.ifindex));
    for (const kind of [this.#tcx, this.#clsact]) for (const ifindex of kind.devices()) out.add(ifindex);
    return [...out].sort((a, b) => a - b);
  }

  /** Whether this process put a hook there; what became of it, check() says. No system call. */
  hooked(ifindex: number, direction: Direction): boolean {
    return this.#hooks.has(`${ifindex}/${direction}`);
  }

  /** Whether a hook of ours is there, by this process or one before it. Throws KERNEL. */
  has(ifindex: number, direction: Direction): boolean {
    return this.#tcx.has(ifindex, direction) || this.#clsact.has(ifindex, direction);
  }

  /**
   * Puts a program at a hook; where one of ours is, it is replaced in one step. A hook
   * of ours of the other kind (the mode was changed) is removed once the new one is there:
   * a few packets are judged twice, none is not judged. Throws KERNEL.
   */
  attach(device: { ifindex: number; ifname: string }, direction: Direction, program: Program): void {
    const { ifindex, ifname } = device;
    const hook: Hook = { ifindex, ifname, direction, programFd: program.fd, programId: programId(program.fd) };
    if (!this.#used.inPlace(hook)) this.#used.put(hook);
    this.#hooks.set(`${ifindex}/${direction}`, hook);
    this.#unused.drop(ifindex, direction);
  }

  /**
   * Looks at every hook of this process and puts back what is gone. Call it on `tc` and `link`
   * events and now and then (a tcx link's end raises no event). A hook's fault is in its
   * state; throws KERNEL where the devices cannot be listed.
   */
  check(): HookState[] {
    const links = withNetlink(undefined, (nl) => new Set(nl.links().map((l) => l.ifindex)));
    return [...this.#hooks.values()].map((hook) => {
      const { ifindex, ifname, direction } = hook;
      const here = { ifindex, ifname, direction };
      try {
        if (!links.has(ifindex)) {
          this.detach(ifindex);
          return { ...here, state: 'gone', ahead: [] };
        }
        const there = this.#used.inPlace(hook);
        if (!there) this.#used.put(hook);
        return { ...here, state: there ? 'ok' : 'restored', ahead: this.#ahead(hook) };
      } catch (e) {
        return { ...here, state: 'failed', ahead: [], error: (e as Error).message };
      }
    });
  }

  /** All of tcx runs before any of clsact. */
  #ahead(hook: Hook): string[] {
    return this.mode === 'tcx' ? this.#tcx.ahead(hook) : [...this.#tcx.ahead(hook), ...this.#clsact.ahead(hook)];
  }

  /** Takes our hooks off a device, of either kind; others' stay. A device that has gone is fine. Throws KERNEL. */
  detach(ifindex: number): void {
    // Judging (ingress) first: a packet must not meet a judge that no longer hears of new connections.
    for (const direction of DIRECTIONS) {
      this.#tcx.drop(ifindex, direction);
      this.#clsact.drop(ifindex, direction);
      this.#hooks.delete(`${ifindex}/${direction}`);
    }
    this.#pods.delete(ifindex);
    this.#inherited?.delete(ifindex);
  }

  /** Removes every hook of ours, also those of agents before this one, and the directories. Throws KERNEL. */
  detachAll(): void {
    for (const ifindex of this.attached()) this.detach(ifindex);
    this.#tcx.clear();
    this.#clsact.clear();
  }
}
