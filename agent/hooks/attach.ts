/**
 * Attaches the programs to the tc hooks of devices, as tcx links or clsact filters, checks that
 * they stay attached, and detaches them without touching the programs of others.
 */
import { AgentError, type Problem } from '../../src/errors.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { ClsactHooks } from './clsact-hooks.js';
import type { Bindings, PodBinding } from '../endpoints/resolver.js';
import { DIRECTIONS, type Direction, type Hook, type HookKind } from './hook-kind.js';
import { withNetlink } from '../netlink/netlink.js';
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
  /** The flows of an earlier agent's hooks are in maps that this agent does not use: every pod is seeded again. */
  fresh?: boolean;
}

/** Enters the connections that endpoints have before their attachment into the flow table (agent/hooks/seed.ts). */
export interface Seeding {
  /** Reads the connections of all these endpoints; the returned function seeds one of them. */
  prepare(endpoints: readonly EndpointBinding[]): (endpoint: EndpointBinding) => void;
}

/** The state of one hook, from check(). */
export interface HookState {
  readonly ifindex: number;
  readonly ifname: string;
  readonly direction: Direction;
  /** `restored`: the hook was missing and is attached again. `gone`: the device no longer exists. */
  readonly state: 'ok' | 'restored' | 'gone' | 'failed';
  /**
   * Programs of others that run before ours: one that does not return TC_ACT_UNSPEC
   * (TCX_NEXT) lets packets pass without a verdict. They are reported, and not removed.
   */
  readonly ahead: readonly string[];
  readonly error?: string;
}

export class Attacher {
  /** The kind of new hooks; hooks of the other kind are replaced when their device is attached. */
  readonly mode: 'tcx' | 'tc';
  readonly #fresh: boolean;
  readonly #tcx: HookKind;
  readonly #clsact: HookKind;
  readonly #hooks = new Map<string, Hook>();
  /** Pods attached by this process, by the index of the device. */
  readonly #pods = new Map<number, { id: number; uid: string }>();
  /** Devices that closeDevice() closed and that have not been attached as an endpoint since. */
  readonly #closed = new Set<number>();
  /** Devices with hooks of an earlier agent that this one has not handled yet; listed once. */
  #inheritedDevices: Set<number> | undefined;

  /** Throws KERNEL if `tcx` is asked for and the kernel has none, or if BPF is not permitted. */
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

  get #activeKind(): HookKind {
    return this.mode === 'tcx' ? this.#tcx : this.#clsact;
  }

  get #otherKind(): HookKind {
    return this.mode === 'tcx' ? this.#clsact : this.#tcx;
  }

  /**
   * Attaches bound endpoints that are not attached yet, and replaces the programs that an earlier
   * agent attached. The endpoints' map entries must be written before. A failure at one device
   * becomes a Problem; the others go on.
   * @param guarded a policy governs the node
   */
  attachAll(bindings: Bindings, programs: HookPrograms, seeding: Seeding, guarded = false): Problem[] {
    const problems: Problem[] = [];
    const attempt = (b: EndpointBinding, attach: () => void): boolean => {
      try {
        attach();
        return true;
      } catch (e) {
        if (!(e instanceof AgentError)) throw e;
        const object = `${b.kind === 'pod' ? 'Pod' : 'uplink'} ${b.key}`;
        const message = `${b.ifname}: ${e.message}`;
        problems.push({ severity: 'error', where: { object }, message, hint: e.hint });
        return false;
      }
    };
    // THE ORDER. Each step is a precondition of the next:
    //  1. Delivery hooks (tc egress, to_pod) of all pods: from now on they record connections that peers open.
    //  2. Seeding of the connections that peers opened before. One opened between 1 and 2 is found by both; seeding
    //     keeps existing entries. Once for all pods: the evidence is the node's conntrack table, which is large.
    //  3. Judging hooks (tc ingress, from_pod): a packet without a flow now belongs to a connection that the pod opens.
    // Judging first would drop replies; seeding first would miss connections opened meanwhile.
    const unseeded = bindings.pods.filter((pod) => !this.#isSeeded(pod));
    const withDelivery = bindings.pods.filter((pod) => attempt(pod, () => this.attach(pod, 'egress', programs.toPod)));
    const seed = seeding.prepare(unseeded.filter((pod) => withDelivery.includes(pod)));
    for (const pod of withDelivery) {
      attempt(pod, () => {
        if (unseeded.includes(pod)) seed(pod);
        this.attach(pod, 'ingress', programs.fromPod);
        this.#recordPod(pod);
      });
    }
    for (const uplink of bindings.uplinks) {
      attempt(uplink, () => {
        if (guarded) this.guard(uplink, programs, seeding);
        this.attach(uplink, 'egress', programs.uplink);
      });
    }
    return problems;
  }

  /** Whether the pod's open connections are in the flow table already. */
  #isSeeded({ ifindex, id }: PodBinding): boolean {
    const attachedPod = this.#pods.get(ifindex);
    return attachedPod
      ? attachedPod.id === id
      : !this.#fresh && !this.#closed.has(ifindex) && this.has(ifindex, 'ingress');
  }

  #recordPod({ ifindex, id, uid }: EndpointBinding): void {
    this.#pods.set(ifindex, { id, uid });
    this.#closed.delete(ifindex);
  }

  /**
   * Closes a device of unknown owner: the judging program drops all packets of a device without an endpoint. Takes as
   * few calls as possible, since packets pass until the last one. The device stays closed until release(), or until it
   * is attached as an endpoint. Throws KERNEL.
   */
  closeDevice(device: { ifindex: number; ifname: string }, programs: HookPrograms): void {
    const { ifindex, ifname } = device;
    const { fd } = programs.fromPod;
    const hook: Hook = { ifindex, ifname, direction: 'ingress', programFd: fd, programId: 0 };
    this.#activeKind.put(hook);
    this.#hooks.set(`${ifindex}/ingress`, { ...hook, programId: programId(fd) });
    this.#closed.add(ifindex);
  }

  /** Opens a device if closeDevice() closed it. Throws KERNEL. */
  reopenDevice(ifindex: number): void {
    if (this.#closed.has(ifindex)) this.unguard(ifindex);
    this.#closed.delete(ifindex);
  }

  /** Opens the devices of closeDevice() that are no endpoints. `judged`: devices whose ingress is. Throws KERNEL. */
  release(judged: ReadonlySet<number>): void {
    for (const ifindex of this.#closed) {
      // Not detach(): an uplink keeps its egress hook.
      if (!judged.has(ifindex)) this.unguard(ifindex);
      this.#closed.delete(ifindex);
    }
  }

  /** Hooks both directions of an interface whose pod is not known yet. Throws KERNEL. */
  attachStarting(endpoint: EndpointBinding, programs: HookPrograms): void {
    this.attach(endpoint, 'egress', programs.toPod);
    this.attach(endpoint, 'ingress', programs.fromPod);
    this.#recordPod(endpoint);
  }

  /**
   * Prepares an uplink for a policy on the node: its ingress hook records connections that peers open to the node, and
   * those opened before are seeded. Call it before the policy is in force. Throws KERNEL.
   */
  guard(uplink: EndpointBinding, programs: HookPrograms, seeding: Seeding): void {
    const wasClosed = this.#closed.delete(uplink.ifindex);
    if (this.hooked(uplink.ifindex, 'ingress') && !wasClosed) return;
    const seeded = !this.#fresh && !wasClosed && this.has(uplink.ifindex, 'ingress');
    this.attach(uplink, 'ingress', programs.uplinkIn);
    if (!seeded) seeding.prepare([uplink])(uplink);
  }

  /** Detaches the ingress hook of a device: of an uplink, when no policy governs the node any more. Throws KERNEL. */
  unguard(ifindex: number): void {
    if (!this.has(ifindex, 'ingress')) return;
    this.#tcx.drop(ifindex, 'ingress');
    this.#clsact.drop(ifindex, 'ingress');
    this.#hooks.delete(`${ifindex}/ingress`);
  }

  /**
   * Detaches devices that are no longer bound, also those that an earlier agent attached. A pod
   * that exists but cannot be bound just now keeps its hooks. Call it before the endpoints' map
   * entries are removed. Returns the devices' indices. Throws KERNEL.
   */
  detachStale(bindings: Bindings): number[] {
    const bound = new Set(bindings.all.map((b) => b.ifindex));
    const out: number[] = [];
    this.#inheritedDevices ??= new Set(this.attached());
    for (const ifindex of new Set([...this.#inheritedDevices, ...[...this.#hooks.values()].map((h) => h.ifindex)])) {
      // Closed devices are opened last (release), after everything else is in place.
      if (bound.has(ifindex) || this.#closed.has(ifindex)) continue;
      const pod = this.#pods.get(ifindex);
      // The pod of an earlier agent's hook is unknown: while any pod is unbound, the hook may belong to it.
      if (pod ? bindings.unbound.has(pod.uid) : bindings.unbound.size > 0) continue;
      this.detach(ifindex);
      out.push(ifindex);
    }
    return out;
  }

  /** Indices, ascending, of the devices with a hook of this agent or an earlier one. Throws KERNEL. */
  attached(): number[] {
    const out = new Set([...this.#hooks.values()].map((h) => h.ifindex));
    for (const kind of [this.#tcx, this.#clsact]) for (const ifindex of kind.devices()) out.add(ifindex);
    return [...out].sort((a, b) => a - b);
  }

  /** Whether this process attached a hook there; check() reports whether it still exists. No system call. */
  hooked(ifindex: number, direction: Direction): boolean {
    return this.#hooks.has(`${ifindex}/${direction}`);
  }

  /** Whether the device has a hook of this agent or an earlier one. Throws KERNEL. */
  has(ifindex: number, direction: Direction): boolean {
    return this.#tcx.has(ifindex, direction) || this.#clsact.has(ifindex, direction);
  }

  /**
   * Attaches a program to a hook, or replaces ours there in one step. A hook of ours of the
   * other kind (the mode was changed) is removed after that: a few packets are judged twice,
   * and every packet at least once. Throws KERNEL.
   */
  attach(device: { ifindex: number; ifname: string }, direction: Direction, program: Program): void {
    const { ifindex, ifname } = device;
    const hook: Hook = { ifindex, ifname, direction, programFd: program.fd, programId: programId(program.fd) };
    if (!this.#activeKind.inPlace(hook)) this.#activeKind.put(hook);
    this.#hooks.set(`${ifindex}/${direction}`, hook);
    this.#otherKind.drop(ifindex, direction);
  }

  /**
   * Checks every hook of this process and restores missing ones. Call it on `tc` and `link`
   * events, and periodically (the end of a tcx link raises no event). A hook's failure is in its
   * state; throws KERNEL if the devices cannot be listed.
   */
  check(): HookState[] {
    const links = withNetlink(undefined, (nl) => new Set(nl.links().map((l) => l.ifindex)));
    return [...this.#hooks.values()].map((hook) => {
      const { ifindex, ifname, direction } = hook;
      const location = { ifindex, ifname, direction };
      try {
        if (!links.has(ifindex)) {
          this.detach(ifindex);
          return { ...location, state: 'gone', ahead: [] };
        }
        const inPlace = this.#activeKind.inPlace(hook);
        if (!inPlace) this.#activeKind.put(hook);
        return { ...location, state: inPlace ? 'ok' : 'restored', ahead: this.#ahead(hook) };
      } catch (e) {
        return { ...location, state: 'failed', ahead: [], error: (e as Error).message };
      }
    });
  }

  /** Programs of others that run before ours: the kernel runs all tcx links before any clsact filter. */
  #ahead(hook: Hook): string[] {
    return this.mode === 'tcx' ? this.#tcx.ahead(hook) : [...this.#tcx.ahead(hook), ...this.#clsact.ahead(hook)];
  }

  /** Detaches our hooks of both kinds from a device, which need not exist any more; others' stay. Throws KERNEL. */
  detach(ifindex: number): void {
    // Judging (ingress) first: without the delivery hook it would drop the replies of new connections.
    for (const direction of DIRECTIONS) {
      this.#tcx.drop(ifindex, direction);
      this.#clsact.drop(ifindex, direction);
      this.#hooks.delete(`${ifindex}/${direction}`);
    }
    this.#pods.delete(ifindex);
    this.#closed.delete(ifindex);
    this.#inheritedDevices?.delete(ifindex);
  }

  /** Removes all hooks of this agent and earlier ones, and the pin directories. Throws KERNEL. */
  detachAll(): void {
    for (const ifindex of this.attached()) this.detach(ifindex);
    this.#tcx.clear();
    this.#clsact.clear();
  }
}
