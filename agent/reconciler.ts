/**
 * Makes the node equal to what the manifests say. One pass at a time; whatever changes
 * meanwhile asks for one more. The order inside a pass:
 *
 *   1. detach what is no longer bound   (its entry must not go before its hooks)
 *   2. apply the Image to the maps      (an endpoint's set is there before its hooks)
 *   3. attach what is newly bound       (from its first packet on, a pod is judged)
 */
import { type AgentError, formatProblem, type Problem } from '../src/errors.js';
import type { Compiler } from '../src/compile/index.js';
import { sameToPolicies } from '../src/compile/world.js';
import type { DialectRegistry } from '../src/dialects/index.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import { sizeOf } from '../src/image/edited.js';
import type { ApplyResult, EndpointBinding } from '../src/image/store.js';
import type { Image } from '../src/image/types.js';
import { matchWorkload } from '../src/ir/match.js';
import { NODE_SENDER } from '../src/ir/sender.js';
import type { Ir } from '../src/ir/types.js';
import type { Logger } from '../src/log.js';
import type { Attacher, HookPrograms, HookState } from './attach.js';
import type { Bindings, EndpointResolver } from './endpoints.js';
import type { KernelMapStore } from './map-store.js';

export interface ReconcilerParts {
  readonly source: { load(): Snapshot; readonly synced: boolean };
  readonly registry: DialectRegistry;
  readonly resolver: EndpointResolver;
  readonly compiler: Compiler;
  readonly store: KernelMapStore;
  readonly attacher: Attacher;
  readonly programs: HookPrograms;
  /** Writes the connections that were open before an endpoint's hooks. */
  readonly seed: (endpoint: EndpointBinding) => void;
  readonly log: Logger;
}

/** What is in force, complete and consistent: replaced as a whole after each pass. */
export interface InForceState {
  readonly snapshot: Snapshot;
  readonly ir: Ir;
  readonly image: Image;
  readonly bindings: Bindings;
  /** Bound now, or bound before and only out of sight. */
  readonly endpoints: readonly EndpointBinding[];
  readonly problems: readonly Problem[];
  readonly lastApply: ApplyResult;
  /** Wall clock of the pass, milliseconds since 1970. */
  readonly appliedAt: number;
}

interface Placed {
  readonly bindings: Bindings;
  /** Interfaces that are closed until their pods are known. */
  readonly starting: readonly EndpointBinding[];
  readonly endpoints: readonly EndpointBinding[];
  /** `namespace/name` of the pods to judge; NODE_SENDER too, where there are uplinks to judge it at. */
  readonly local: readonly string[];
  readonly closed: readonly string[];
}

/** After what an update left could not be removed. */
const TIDY_AGAIN_MS = 1000;

export class Reconciler {
  private current: InForceState | undefined;
  private hooks: readonly HookState[] = [];
  private readonly attached = new Set<string>();
  private attachProblems: readonly Problem[] = [];
  private shown = new Set<string>();
  private timer: NodeJS.Timeout | undefined;
  private again: NodeJS.Timeout | undefined;
  private failure: Problem | undefined;
  private closed = false;
  private network = true;
  private last: Placed | undefined;
  /** All of this has its hooks, and nothing else has. */
  private hooked: Placed | undefined;

  /** A policy governs the node; undefined: not looked yet, an earlier agent may have hooks for one. */
  private guarded: boolean | undefined;

  /** Since when passes fail, milliseconds since 1970; undefined while they succeed. */
  failingSince: number | undefined;

  constructor(
    private readonly parts: ReconcilerParts,
    private readonly ownIps: { value: readonly string[] },
    private readonly onApplied: (state: InForceState) => void = () => {},
  ) {}

  get state(): InForceState | undefined {
    return this.current;
  }

  /** Hooks as last looked at by check(). */
  get hookStates(): readonly HookState[] {
    return this.hooks;
  }

  get problems(): readonly Problem[] {
    return [...(this.current?.problems ?? []), ...this.attachProblems, ...(this.failure ? [this.failure] : [])];
  }

  /** Asks for a pass after what is going on now. @param network links, addresses or namespaces may be other ones */
  schedule(network = true): void {
    this.network ||= network;
    if (this.timer || this.closed) return;
    this.timer = setTimeout(() => {
      this.timer = undefined;
      this.pass();
    }, 0);
  }

  /** One pass, now. A fault is logged and shown in status; the last complete policy stays in force. */
  pass(): boolean {
    // A cluster that is not known yet is no failure: what was in force before stays.
    if (!this.parts.source.synced) return false;
    try {
      this.reconcile();
      if (this.failingSince !== undefined) this.parts.log.info('policies are applied again');
      this.failingSince = undefined;
      this.failure = undefined;
      return true;
    } catch (e) {
      const error = e as AgentError;
      this.failingSince ??= Date.now();
      this.failure = { severity: 'error', where: error.where ?? {}, message: error.message, hint: error.hint };
      this.parts.log.error(
        `policies not applied, the last complete ones stay in force: ${formatProblem(this.failure)}`,
      );
      if (error.where === undefined) this.parts.log.debug(error.stack ?? '');
      return false;
    }
  }

  /** Looks whether all hooks are where they were put, and puts back what is gone. */
  check(): void {
    const before = new Map(this.hooks.map((h) => [`${h.ifindex}/${h.direction}`, h]));
    this.hooks = this.parts.attacher.check();
    for (const h of this.hooks) {
      const fields = { interface: h.ifname, hook: h.direction, error: h.error };
      if (h.state === 'restored') this.parts.log.warn('a hook was gone and is back', fields);
      if (h.state === 'failed') this.parts.log.error('a hook is gone and cannot be put back', fields);
      if (h.state === 'gone') this.forgetHooks(h.ifindex);
      const ahead = h.ahead.join(', ');
      if (ahead !== '' && before.get(`${h.ifindex}/${h.direction}`)?.ahead.join(', ') !== ahead) {
        this.parts.log.warn('programs of others run before ours: what they let pass is not judged', {
          ...fields,
          ahead,
        });
      }
    }
    if (this.hooks.some((h) => h.state === 'gone')) this.schedule();
  }

  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    clearTimeout(this.again);
  }

  private reconcile(): void {
    const { source, registry, resolver, compiler, store, attacher, programs, seed } = this.parts;
    let snapshot = source.load();
    const network = this.network || this.failingSince !== undefined;
    const bindings = resolver.resolve(snapshot, network);
    this.network = false;
    // Much of what a cluster tells changes nothing here.
    if (!network && this.current?.snapshot === snapshot && this.current.bindings === bindings) return;
    if (bindings.ownIps.join() !== this.ownIps.value.join()) {
      // The node's own addresses are part of the snapshot: take them in before anything is judged by them.
      this.ownIps.value = bindings.ownIps;
      snapshot = source.load();
    }
    const { ir, problems, againMs } = registry.toIr(snapshot);
    clearTimeout(this.again);
    if (againMs !== undefined) this.again = setTimeout(() => this.schedule(), againMs + 1);
    const placed = this.placed(ir, snapshot, bindings);
    const { starting, endpoints, local, closed } = placed;
    const hooked = this.hooked === placed;
    // Most of what becomes of a pod elsewhere is told before it has its address.
    if (!network && hooked && this.current?.ir === ir && sameToPolicies(this.current.snapshot, snapshot)) {
      this.current = { ...this.current, snapshot };
      return;
    }
    const image = compiler.compile(ir, snapshot, local, closed);

    const stale = hooked ? [] : attacher.detachStale({ ...bindings, all: endpoints });
    for (const ifindex of stale) this.forgetHooks(ifindex);
    // A set that is refused, and one that cannot be built, close: who answers must be known before.
    const guarded = (image.endpoints.get(NODE_SENDER) ?? 0) !== 0;
    for (const uplink of guarded ? bindings.uplinks : []) {
      if (this.attached.has(attachKey(uplink))) attacher.guard(uplink, programs, () => seed(uplink));
    }
    const lastApply = store.apply(image, endpoints);
    if (!guarded && this.guarded !== false) for (const { ifindex } of bindings.uplinks) attacher.unguard(ifindex);
    this.guarded = guarded;
    const before = this.current;
    const onlyPods = before?.ir === ir && before.bindings === bindings && before.image.sets === image.sets;
    if (lastApply.written + lastApply.deleted > 0) {
      // Pods of other nodes come and go all the time: only what else changed is news.
      this.parts.log[onlyPods ? 'debug' : 'info']('policies applied', {
        pods: endpoints.filter((b) => b.kind === 'pod').length,
        sets: image.sets.size,
        destinations: sizeOf(image.destinations4) + sizeOf(image.destinations6),
        written: lastApply.written,
        deleted: lastApply.deleted,
        ms: Math.round(lastApply.millis),
      });
    }
    const isNew = (b: EndpointBinding) => !hooked && !this.attached.has(attachKey(b));
    const fresh = { ...bindings, pods: bindings.pods.filter(isNew), uplinks: bindings.uplinks.filter(isNew) };
    if (fresh.pods.length + fresh.uplinks.length > 0) {
      this.attachProblems = attacher.attachAll(fresh, programs, seed, guarded);
      const failed = new Set(this.attachProblems.map((p) => p.where.object));
      for (const b of [...fresh.pods, ...fresh.uplinks]) {
        const object = `${b.kind === 'pod' ? 'Pod' : 'uplink'} ${b.key}`;
        if (failed.has(object)) continue;
        this.attached.add(attachKey(b));
        this.parts.log.info('attached', { endpoint: b.key, interface: b.ifname, mode: attacher.mode });
      }
    }
    for (const b of starting) {
      if (this.attached.has(attachKey(b))) continue;
      // Nothing is seeded: it is the first that this namespace sees of the network.
      attacher.attachStarting(b, programs);
      this.attached.add(attachKey(b));
      this.parts.log.info('an interface is closed until its pod is known', { interface: b.ifname });
    }
    this.hooked = this.attachProblems.length === 0 ? placed : undefined;
    const refused = [...image.refused].map(
      ([key, reason]): Problem => ({
        severity: 'error',
        where: { object: key === NODE_SENDER ? `Node ${snapshot.ownNode.name}` : `Pod ${key}` },
        message: `its policy set is refused: ${reason}`,
        hint: 'its last complete set stays in force; use fewer rules, or wider ones',
      }),
    );
    const all = [...snapshot.problems, ...problems, ...bindings.problems, ...refused];
    this.current = { snapshot, ir, image, bindings, endpoints, problems: all, lastApply, appliedAt: Date.now() };
    this.report([...all, ...this.attachProblems]);
    store.tidyLater().catch((e: unknown) => {
      this.parts.log.error('what is left of the last policies cannot be removed', { error: (e as Error).message });
      // Not at once: what failed may go on failing.
      clearTimeout(this.again);
      if (!this.closed) this.again = setTimeout(() => this.schedule(), TIDY_AGAIN_MS);
    });
    this.onApplied(this.current);
  }

  private forgetHooks(ifindex: number): void {
    for (const key of this.attached) if (key.startsWith(`${ifindex}/`)) this.attached.delete(key);
    this.hooked = undefined;
  }

  /** What is to be judged where; the same while the bindings are, and nothing waits for its pod. */
  private placed(ir: Ir, snapshot: Snapshot, bindings: Bindings): Placed {
    if (this.last?.bindings === bindings && bindings.starting.length === 0) return this.last;
    const starting = isolatedAtStart(ir, snapshot, bindings);
    const endpoints = [...this.withUnseen(bindings), ...starting];
    const closed = starting.map((b) => b.key);
    const pods = endpoints.filter((b) => b.kind === 'pod').map((b) => b.key);
    const local = [...new Set(pods)].filter((key) => !closed.includes(key));
    if (bindings.uplinks.length > 0) local.push(NODE_SENDER);
    this.last = { bindings, starting, endpoints, local, closed };
    return this.last;
  }

  /** A pod that is there but cannot be bound just now keeps its hooks, and so its entry and its set; not its interface's ghost. */
  private withUnseen(bindings: Bindings): EndpointBinding[] {
    const seen = new Set(bindings.all.map((b) => b.ifindex));
    const unseen = (this.current?.endpoints ?? []).filter(
      (b) => bindings.unbound.has(b.uid) && !seen.has(b.ifindex) && bindings.present.has(b.ifindex),
    );
    return [...bindings.all, ...unseen];
  }

  /** Each problem once, when it appears. */
  private report(problems: readonly Problem[]): void {
    const now = new Set<string>();
    for (const p of problems) {
      const text = formatProblem(p);
      if (!this.shown.has(text) && !now.has(text)) this.parts.log[p.severity === 'error' ? 'error' : 'warn'](text);
      now.add(text);
    }
    this.shown = now;
  }
}

/**
 * Interfaces whose pods are not known yet are closed while one of the pods that wait for theirs is isolated by a policy:
 * it may be that one's.
 */
function isolatedAtStart(ir: Ir, snapshot: Snapshot, { starting, waiting }: Bindings): readonly EndpointBinding[] {
  if (starting.length === 0) return [];
  const isolated = waiting.some((pod) =>
    ir.tiers.some((tier) => tier.policies.some((p) => !p.staged && matchWorkload(p.subject, pod, snapshot))),
  );
  return isolated ? starting : [];
}

const attachKeys = new WeakMap<EndpointBinding, string>();

function attachKey(b: EndpointBinding): string {
  let key = attachKeys.get(b);
  if (key === undefined) attachKeys.set(b, (key = `${b.ifindex}/${b.uid}/${b.id}`));
  return key;
}
