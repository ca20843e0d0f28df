/**
 * Brings the node into the state that the source describes. One pass runs at a time; a change
 * during a pass schedules another. The order inside a pass:
 *
 *   1. detach interfaces that are no longer bound   (an entry must not be removed before its hooks)
 *   2. apply the Image to the maps                  (an endpoint's set is in force before its hooks)
 *   3. attach interfaces that are newly bound       (a pod is judged from its first packet on)
 */
import { AgentError, formatProblem, type Problem } from '../src/errors.js';
import type { Compiler } from '../src/compile/index.js';
import { sameToPolicies } from '../src/compile/atoms/world.js';
import type { DialectRegistry } from '../src/dialects/index.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import { sizeOf } from '../src/image/edited.js';
import { SetFault } from '../src/image/fault.js';
import type { ApplyResult, EndpointBinding } from '../src/image/store.js';
import type { Image } from '../src/image/types.js';
import { NODE_SENDER } from '../src/ir/sender.js';
import type { Ir } from '../src/ir/types.js';
import type { Logger } from '../src/log.js';
import type { Attacher, HookPrograms, HookState, Seeding } from './hooks/attach.js';
import type { Bindings, EndpointResolver } from './endpoints/resolver.js';
import type { Link } from './netlink/netlink.js';
import type { KernelMapStore } from './maps/store.js';
import type { InForceState } from './endpoints/in-force.js';
import { type Placement, place } from './endpoints/placed.js';
import { refusedProblems } from './refused.js';
import { closeUnjudged } from './hooks/unjudged.js';

export interface ReconcilerParts {
  readonly source: { load(): Snapshot; readonly synced: boolean };
  readonly registry: DialectRegistry;
  readonly resolver: EndpointResolver;
  readonly compiler: Compiler;
  readonly store: KernelMapStore;
  readonly attacher: Attacher;
  readonly programs: HookPrograms;
  /** Writes the connections that were open before an endpoint's hooks. */
  readonly seeding: Seeding;
  readonly log: Logger;
}

/** Pause before the next pass when an update's leftovers could not be removed, milliseconds. */
const TIDY_RETRY_MS = 1000;
/** Pause after a failed pass, and its upper limit when passes keep failing: it doubles. Milliseconds. */
const PASS_RETRY_MS = 1000;
const PASS_RETRY_MAX_MS = 30_000;
/** Pause before refused sets are tried again, and its upper limit: it doubles, as a try may cost much. Milliseconds. */
const REFUSED_RETRY_MS = 60_000;
const REFUSED_RETRY_MAX_MS = 600_000;

export class Reconciler {
  readonly #parts: ReconcilerParts;
  readonly #ownIps: { value: readonly string[] };
  readonly #onApplied: (state: InForceState) => void;
  #current: InForceState | undefined;
  #hooks: readonly HookState[] = [];
  readonly #attached = new Set<string>();
  #attachProblems: readonly Problem[] = [];
  #reported = new Set<string>();
  #nextPass: NodeJS.Timeout | undefined;
  #laterPass: NodeJS.Timeout | undefined;
  #failure: Problem | undefined;
  #failures = 0;
  #retryPass: NodeJS.Timeout | undefined;
  /** Last try of refused sets, milliseconds since 1970. */
  #refusedTriedAt = 0;
  #refusedWaitMs = REFUSED_RETRY_MS;
  #closed = false;
  #networkChanged = true;
  #lastPlacement: Placement | undefined;
  /** The last snapshot as the source gave it, and completed by the node's devices. */
  #completed: { readonly source: Snapshot; readonly snapshot: Snapshot } | undefined;
  /** The placement whose endpoints all have their hooks, while no other device has any. */
  #hookedPlacement: Placement | undefined;
  /** Indices of existing devices that a pass, or appeared(), has handled. */
  readonly #handledLinks = new Set<number>();
  /** Whether a policy governs the node; undefined before the first pass, as an earlier agent may have guarded it. */
  #nodeGuarded: boolean | undefined;
  /** Since when passes fail, milliseconds since 1970; undefined while they succeed. */
  failingSince: number | undefined;

  constructor(
    parts: ReconcilerParts,
    ownIps: { value: readonly string[] },
    onApplied: (state: InForceState) => void = () => {},
  ) {
    this.#parts = parts;
    this.#ownIps = ownIps;
    this.#onApplied = onApplied;
  }

  get state(): InForceState | undefined {
    return this.#current;
  }

  /** The hooks' states at the last check(). */
  get hookStates(): readonly HookState[] {
    return this.#hooks;
  }

  get problems(): readonly Problem[] {
    return [...(this.#current?.problems ?? []), ...this.#attachProblems, ...(this.#failure ? [this.#failure] : [])];
  }

  /** Schedules a pass after the running code. @param network links, addresses or namespaces may have changed */
  schedule(network = true): void {
    this.#networkChanged ||= network;
    if (this.#nextPass || this.#closed) return;
    this.#nextPass = setTimeout(() => {
      this.#nextPass = undefined;
      this.pass();
    }, 0);
  }

  /** Runs one pass, now. A fault is logged and shown in status; the last complete policies stay in force. */
  pass(): boolean {
    // A cluster that is not synced yet is no failure: the policies in force stay.
    if (!this.#parts.source.synced) return false;
    try {
      this.#reconcile();
      if (this.failingSince !== undefined) this.#parts.log.info('policies are applied again');
      this.failingSince = undefined;
      this.#failure = undefined;
      this.#failures = 0;
      return true;
    } catch (e) {
      const error = e as AgentError;
      this.failingSince ??= Date.now();
      this.#failure = { severity: 'error', where: error.where ?? {}, message: error.message, hint: error.hint };
      this.#parts.log.error(
        `policies not applied, the last complete ones stay in force: ${formatProblem(this.#failure)}`,
      );
      if (error.where === undefined) this.#parts.log.debug(error.stack ?? '');
      // The cause may disappear soon, and its disappearance raises no event.
      const wait = Math.min(PASS_RETRY_MS * 2 ** this.#failures++, PASS_RETRY_MAX_MS);
      clearTimeout(this.#retryPass);
      if (!this.#closed) this.#retryPass = setTimeout(() => this.schedule(), wait);
      return false;
    }
  }

  /**
   * Handles a new interface (LinkAlarm): closes one that no pass has handled, until the next pass finds its owner.
   * Otherwise an isolated pod could create a second veth and send past its policy. Only veths lead into other
   * namespaces, and only an isolated pod has something to evade.
   */
  appeared(link: Link): void {
    if (
      link.kind !== 'veth' ||
      this.#handledLinks.has(link.ifindex) ||
      !this.#current ||
      this.#current.image.sets.size === 0
    )
      return;
    this.#handledLinks.add(link.ifindex);
    try {
      this.#parts.attacher.closeDevice({ ifindex: link.ifindex, ifname: link.name }, this.#parts.programs);
    } catch (e) {
      // The interface may have been removed meanwhile. The pass reports any other cause.
      this.#parts.log.debug('a new interface cannot be closed', { interface: link.name, error: (e as Error).message });
    }
    this.schedule();
  }

  /** Forgets a removed interface: the kernel may give its index to another. */
  disappeared(ifindex: number): void {
    this.#handledLinks.delete(ifindex);
  }

  /** Checks that all hooks are in place, and restores those that are missing. */
  check(): void {
    const previous = new Map(this.#hooks.map((h) => [`${h.ifindex}/${h.direction}`, h]));
    this.#hooks = this.#parts.attacher.check();
    for (const h of this.#hooks) {
      const fields = { interface: h.ifname, hook: h.direction, error: h.error };
      if (h.state === 'restored') this.#parts.log.warn('a hook was missing and is restored', fields);
      if (h.state === 'failed') this.#parts.log.error('a hook is missing and cannot be restored', fields);
      if (h.state === 'gone') this.#forgetHooks(h.ifindex);
      const ahead = h.ahead.join(', ');
      if (ahead !== '' && previous.get(`${h.ifindex}/${h.direction}`)?.ahead.join(', ') !== ahead) {
        this.#parts.log.warn('programs of others run before ours: packets that they accept are not judged', {
          ...fields,
          ahead,
        });
      }
    }
    if (this.#hooks.some((h) => h.state === 'gone')) this.schedule();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#nextPass);
    clearTimeout(this.#laterPass);
    clearTimeout(this.#retryPass);
  }

  #reconcile(): void {
    const { source, registry, resolver, store, attacher, programs, seeding } = this.#parts;
    let snapshot = source.load();
    const retried = this.#retryRefused();
    const network = this.#networkChanged || this.failingSince !== undefined || retried;
    const bindings = resolver.resolve(snapshot, network);
    this.#networkChanged = false;
    for (const ifindex of bindings.present) this.#handledLinks.add(ifindex);
    // Most of a cluster's events change nothing on this node.
    const sameSnapshot = this.#completed?.source === snapshot && this.#completed.snapshot === this.#current?.snapshot;
    if (!network && sameSnapshot && this.#current?.bindings === bindings) return;
    if (bindings.ownIps.join() !== this.#ownIps.value.join()) {
      // The node's own addresses are part of the snapshot: load it again before it is compiled.
      this.#ownIps.value = bindings.ownIps;
      snapshot = source.load();
    }
    snapshot = this.#withDevices(snapshot, bindings);
    const { ir, problems, againMs } = registry.toIr(snapshot);
    clearTimeout(this.#laterPass);
    if (againMs !== undefined) this.#laterPass = setTimeout(() => this.schedule(), againMs + 1);
    const placement = this.#placed(ir, snapshot, bindings);
    const { starting, endpoints } = placement;
    const hooked = this.#hookedPlacement === placement;
    // Most events of a pod of another node come before it has an address, and change no policy.
    if (!network && hooked && this.#current?.ir === ir && sameToPolicies(this.#current.snapshot, snapshot)) {
      this.#current = { ...this.#current, snapshot };
      return;
    }
    const faults: Problem[] = [];
    /** Runs a step for one device. Its failure becomes a problem; the other devices go on. */
    const attempt = (object: string, step: () => void) => {
      try {
        step();
      } catch (e) {
        if (!(e instanceof AgentError)) throw e;
        faults.push({ severity: 'error', where: { object }, message: e.message, hint: e.hint });
      }
    };
    const node = `Node ${snapshot.ownNode.name}`;
    attempt(node, () => {
      const stale = hooked ? [] : attacher.detachStale({ ...bindings, all: endpoints });
      for (const ifindex of stale) this.#forgetHooks(ifindex);
    });
    const { image, lastApply } = this.#enforce(ir, snapshot, placement, () => {
      // Before the set is in force, so that the node's answers pass. If this fails, they are dropped; nothing opens.
      for (const uplink of bindings.uplinks) {
        if (!this.#attached.has(attachKey(uplink))) continue;
        attempt(`uplink ${uplink.key}`, () => attacher.guard(uplink, programs, seeding));
      }
    });
    const guarded = isGuarded(image);
    if (!guarded && this.#nodeGuarded !== false) {
      for (const { ifindex, key } of bindings.uplinks) attempt(`uplink ${key}`, () => attacher.unguard(ifindex));
    }
    this.#nodeGuarded = guarded;
    const previous = this.#current;
    const onlyPods = previous?.ir === ir && previous.bindings === bindings && previous.image.sets === image.sets;
    if (lastApply.written + lastApply.deleted > 0) {
      // Pods of other nodes come and go all the time: only other changes are worth an info line.
      this.#parts.log[onlyPods ? 'debug' : 'info']('policies applied', {
        pods: endpoints.filter((b) => b.kind === 'pod').length,
        sets: image.sets.size,
        destinations: sizeOf(image.destinations4) + sizeOf(image.destinations6),
        written: lastApply.written,
        deleted: lastApply.deleted,
        ms: Math.round(lastApply.millis),
      });
    }
    const isNew = (b: EndpointBinding) => !hooked && !this.#attached.has(attachKey(b));
    const fresh = { ...bindings, pods: bindings.pods.filter(isNew), uplinks: bindings.uplinks.filter(isNew) };
    if (fresh.pods.length + fresh.uplinks.length > 0) {
      const problems = attacher.attachAll(fresh, programs, seeding, guarded);
      faults.push(...problems);
      const failed = new Set(problems.map((p) => p.where.object));
      for (const b of [...fresh.pods, ...fresh.uplinks]) {
        const object = `${b.kind === 'pod' ? 'Pod' : 'uplink'} ${b.key}`;
        if (failed.has(object)) continue;
        this.#attached.add(attachKey(b));
        this.#parts.log.info('attached', { endpoint: b.key, interface: b.ifname, mode: attacher.mode });
      }
    }
    for (const b of starting) {
      if (this.#attached.has(attachKey(b))) continue;
      attempt(`interface ${b.ifname}`, () => {
        // Nothing to seed: this is the first interface of a new namespace, so it has no connections yet.
        attacher.attachStarting(b, programs);
        this.#attached.add(attachKey(b));
        this.#parts.log.info('an interface of an unknown pod is closed', { interface: b.ifname, as: b.key });
      });
    }
    attempt(node, () => attacher.release(new Set(endpoints.filter((b) => b.kind === 'pod').map((b) => b.ifindex))));
    this.#attachProblems = faults;
    this.#hookedPlacement = faults.length === 0 ? placement : undefined;
    const allProblems = [...snapshot.problems, ...problems, ...bindings.problems, ...refusedProblems(image, snapshot)];
    this.#current = {
      snapshot,
      ir,
      image,
      bindings,
      endpoints,
      problems: allProblems,
      lastApply,
      appliedAt: Date.now(),
    };
    this.#report([...allProblems, ...this.#attachProblems]);
    store.tidyLater().catch((e: unknown) => {
      this.#parts.log.error('leftovers of the last policies cannot be removed', { error: (e as Error).message });
      // Not at once: the same failure may repeat.
      clearTimeout(this.#laterPass);
      if (!this.#closed) this.#laterPass = setTimeout(() => this.schedule(), TIDY_RETRY_MS);
    });
    this.#onApplied(this.#current);
  }

  /** The source's snapshot, completed by what the node's devices show; the same object while both are unchanged. */
  #withDevices(source: Snapshot, { tunnels, broadcasts, dns, beside }: Bindings): Snapshot {
    const last = this.#completed?.snapshot;
    const own = last?.ownNode;
    const unchanged =
      last?.tunnels === tunnels &&
      own?.broadcasts?.join() === broadcasts.join() &&
      own.dns?.join() === dns.join() &&
      own.beside?.join() === beside.join();
    if (this.#completed?.source === source && unchanged) return this.#completed.snapshot;
    const snapshot = { ...source, tunnels, ownNode: { ...source.ownNode, broadcasts, dns, beside } };
    this.#completed = { source, snapshot };
    return snapshot;
  }

  /**
   * Compiles and applies. A set that cannot be put in force is left out, and the others go on. If nothing can be
   * applied, pods without hooks that a policy selects are closed; the next successful pass takes them over.
   * @param guard called before a policy governs the node
   */
  #enforce(
    ir: Ir,
    snapshot: Snapshot,
    { local, closed, endpoints }: Placement,
    guard: () => void,
  ): { image: Image; lastApply: ApplyResult } {
    const { compiler, store } = this.#parts;
    for (;;) {
      const image = compiler.compile(ir, snapshot, local, closed);
      if (isGuarded(image)) guard();
      try {
        return { image, lastApply: store.apply(image, endpoints) };
      } catch (e) {
        if (!(e instanceof SetFault) || !compiler.refuse(e)) {
          closeUnjudged(this.#parts, endpoints, image);
          throw e;
        }
        this.#refusedTriedAt = Date.now();
      }
    }
  }

  /** Takes refused sets into the next compilation, when their pause is over. @returns whether there were any */
  #retryRefused(): boolean {
    const now = Date.now();
    if (now - this.#refusedTriedAt < this.#refusedWaitMs) return false;
    this.#refusedTriedAt = now;
    const hasRefused = this.#parts.compiler.retry();
    this.#refusedWaitMs = hasRefused ? Math.min(this.#refusedWaitMs * 2, REFUSED_RETRY_MAX_MS) : REFUSED_RETRY_MS;
    return hasRefused;
  }

  #forgetHooks(ifindex: number): void {
    for (const key of this.#attached) if (key.startsWith(`${ifindex}/`)) this.#attached.delete(key);
    this.#hookedPlacement = undefined;
  }

  /** The endpoints to judge; the same object while the bindings are unchanged and no interface waits for its pod. */
  #placed(ir: Ir, snapshot: Snapshot, bindings: Bindings): Placement {
    if (this.#lastPlacement?.bindings === bindings && bindings.starting.length === 0) return this.#lastPlacement;
    this.#lastPlacement = place(ir, snapshot, bindings, this.#parts.resolver.local, this.#current?.endpoints ?? []);
    return this.#lastPlacement;
  }

  /** Logs each problem once, when it appears. */
  #report(problems: readonly Problem[]): void {
    const current = new Set<string>();
    for (const p of problems) {
      const text = formatProblem(p);
      if (!this.#reported.has(text) && !current.has(text))
        this.#parts.log[p.severity === 'error' ? 'error' : 'warn'](text);
      current.add(text);
    }
    this.#reported = current;
  }
}

/** Whether a policy governs the node, also one that is refused. */
function isGuarded(image: Image): boolean {
  return (image.endpoints.get(NODE_SENDER) ?? 0) !== 0;
}

const attachKeys = new WeakMap<EndpointBinding, string>();

function attachKey(b: EndpointBinding): string {
  let key = attachKeys.get(b);
  if (key === undefined) attachKeys.set(b, (key = `${b.ifindex}/${b.uid}/${b.id}`));
  return key;
}
