/** The way of an object through the agent, in this process. */
import { Compiler } from '../../src/compile/index.js';
import { DialectRegistry } from '../../src/dialects/index.js';
import { AgentError } from '../../src/errors.js';
import type { Entry } from '../../src/identity/entry.js';
import { kindInfo } from '../../src/identity/kinds.js';
import { LiveSnapshot } from '../../src/identity/live.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { KubeObject } from '../../src/kube/client/client.js';
import { EntryReader } from '../../src/kube/read.js';
import type { KernelMapStore } from '../../agent/maps/store.js';

/** An agent without its sources: objects go in, maps are written. */
export class Pipeline {
  private readonly live: LiveSnapshot;
  private readonly reader = new EntryReader();
  private readonly registry = new DialectRegistry();
  private readonly compiler = new Compiler();
  private store: KernelMapStore | undefined;
  private bindings: readonly EndpointBinding[] = [];
  /** What it came to. */
  size = '';

  /** @param local `namespace/name` of the pods of this node */
  constructor(
    node: string,
    private readonly local: readonly string[],
  ) {
    this.live = new LiveSnapshot(node);
  }

  /** @returns milliseconds for each part */
  take(objects: readonly Record<string, unknown>[]): { read: number; ir: number; image: number; maps: number } {
    const start = performance.now();
    const kinds = new Map<string, Map<string, Entry>>();
    for (const object of objects as KubeObject[]) {
      const entry = this.reader.read(object);
      const kind = `${entry.apiVersion} ${entry.kind}`;
      const held = kinds.get(kind);
      if (held) held.set(entry.key, entry);
      else kinds.set(kind, new Map([[entry.key, entry]]));
    }
    for (const [kind, changed] of kinds) {
      const [apiVersion, name] = kind.split(' ') as [string, string];
      const section = kindInfo(apiVersion, name)?.section;
      if (!section) throw new AgentError('INTERNAL', `the benchmark made a ${kind}`);
      this.live.apply(kind, section, { changed });
    }
    const snapshot = this.live.snapshot([]);
    const read = performance.now();
    const { ir, problems } = this.registry.toIr(snapshot);
    const [first] = problems;
    if (first) throw new AgentError('INTERNAL', `a problem in the benchmark's policies: ${JSON.stringify(first)}`);
    const understood = performance.now();
    const image = this.compiler.compile(ir, snapshot, this.local);
    const compiled = performance.now();
    if (image.refused.size > 0)
      throw new AgentError('INTERNAL', [...image.refused.values()].map((r) => r.reason).join());
    this.store?.apply(image, this.bindings);
    const end = performance.now();
    const rules = Math.max(...[...image.sets.values()].map((s) => s.rules.length));
    this.size = `${image.sets.size} sets of up to ${rules} rules, ${image.classes.size} classes`;
    return { read: read - start, ir: understood - read, image: compiled - understood, maps: end - compiled };
  }

  /** From now on what is taken is written to maps, too. */
  into(store: KernelMapStore, bindings: readonly EndpointBinding[] = []): void {
    this.store = store;
    this.bindings = bindings;
  }
}
