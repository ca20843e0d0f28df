import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeObject } from '../../src/kube/client/client.js';
import { compareVersions } from '../../src/kube/reflector/list-versions.js';
import { Reflector, type ReflectorOptions } from '../../src/kube/reflector/reflector.js';
import { makeLogger } from '../../src/log.js';
import { type FakeServer, identityOf } from './fake-server.js';

const PATIENCE_MS = 10_000;

/** A user of the reflector, who looks when told and keeps the books. */
export class Viewer {
  readonly view = new Map<string, KubeObject>();
  readonly wrong: string[] = [];
  readonly log: string[] = [];
  readonly reflector: Reflector<KubeObject>;
  takes = 0;
  /** The newest version that was seen of each key. */
  readonly #newest = new Map<string, string>();

  constructor(
    readonly server: FakeServer,
    readonly always: readonly string[] = [],
    opts: Partial<ReflectorOptions<KubeObject>> = {},
  ) {
    this.reflector = new Reflector<KubeObject>({
      client: server.client(),
      path: server.path,
      read: (object) => object,
      onChange: () => setImmediate(() => this.look()),
      log: makeLogger('debug', (l) => this.log.push(l)),
      pageSize: 3,
      auditMs: 60,
      idleMs: 80,
      backoff: { baseMs: 2, capMs: 15 },
      healthyMs: 5,
      goneMs: 20,
      ...opts,
    });
    this.reflector.start();
  }

  look(): void {
    const changes = this.reflector.take();
    this.takes++;
    if ('all' in changes && this.view.size > 0) this.wrong.push('everything came a second time');
    for (const [key, object] of 'all' in changes ? changes.all : changes.changed) {
      if (!object) {
        this.view.delete(key);
        continue;
      }
      const version = object.metadata?.resourceVersion as string;
      if (object.kind !== 'Pod' || object.apiVersion !== 'v1') this.wrong.push(`${key} is a ${object.kind}`);
      if (!this.server.everHad.has(identityOf(key, object))) this.wrong.push(`${key} never was ${version}`);
      if ((compareVersions(version, this.#newest.get(key)) ?? 1) <= 0) {
        this.wrong.push(`${key} went back to ${version} from ${this.#newest.get(key)}`);
      }
      this.#newest.set(key, version);
      this.view.set(key, object);
    }
    if (!this.reflector.synced) return;
    for (const key of this.always) if (!this.view.has(key)) this.wrong.push(`${key} is missing`);
  }

  /** What differs from the server; empty: nothing. */
  difference(): string {
    const of = (objects: ReadonlyMap<string, KubeObject>) => [...objects].map(([k, o]) => identityOf(k, o)).sort();
    const [mine, theirs] = [of(this.view), of(this.server.objects)];
    const only = (a: string[], b: string[]) => a.filter((x) => !b.includes(x)).join(', ');
    if (!this.reflector.synced) return 'not synced';
    return mine.join() === theirs.join() ? '' : `only here: ${only(mine, theirs)}; only there: ${only(theirs, mine)}`;
  }

  async equal(): Promise<string> {
    return until(() => this.difference() === '').then(
      () => '',
      () => `${this.difference()}\n${this.log.slice(-30).join('')}`,
    );
  }

  close(): void {
    this.reflector.close();
  }
}

export async function until(condition: () => boolean, ms = PATIENCE_MS): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not in ${ms} ms: ${condition}`);
    await sleep(2);
  }
}
