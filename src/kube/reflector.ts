/**
 * Follows all objects of one kind: a list, then a watch from the list's version on, for ever.
 *
 * 1. What ends a watch leads to another one, from the last version seen. Only 410 (that version is too old), or a server that
 *    does not speak the protocol, lead to a new list.
 * 2. From time to time a list is taken while the watch goes on (the audit), and compared: an event that was lost
 *    is made good then, however it was lost.
 * 3. The view changes by single events and by whole lists, never by a part of one. While the server cannot be followed, it stays.
 *
 * `run` is the loop; what to do after an error is decided in `failed` alone.
 */
import { Backoff, pause } from './backoff.js';
import { KubeError } from './client.js';
import { ofEvents } from './keep.js';
import { listPages } from './list-pages.js';
import { type Changes, ListStore } from './list-store.js';
import { compareVersions, newerVersion } from './list-versions.js';
import { identity, parseEvent } from './watch-events.js';
import { type ReflectorCounts, type ReflectorOptions, withDefaults } from './watch-options.js';

export type { Changes } from './list-store.js';
export type { ReflectorCounts, ReflectorOptions } from './watch-options.js';

type Step = 'list' | 'watch';

/** A server that cannot watch from the version that it gave (ERROR without a code we know) gets so many tries. */
const MAX_WATCH_ERRORS = 2;
/** A list that led to nothing (410 on the watch at once) is not repeated quickly until a watch has lived for so many `healthyMs`. */
const LIST_HEALTH = 30;
const MAX_PAGE = 10_000;
const MIN_PAGE = 10;

export class Reflector<T> {
  readonly #opts: Required<ReflectorOptions<T>>;
  readonly #store: ListStore<T>;
  readonly #closing = new AbortController();
  readonly #watchBackoff: Backoff;
  readonly #listBackoff: Backoff;
  readonly #counts: ReflectorCounts = { lists: 0, watches: 0, events: 0, errors: 0, malformed: 0, repairs: 0 };
  #pageSize: number;
  /** Where to watch from. */
  #version: string | undefined;
  #watching: AbortController | undefined;
  #watchErrors = 0;
  /** The first of the 404s in a row. */
  #unknownSince: number | undefined;
  #auditTimer: NodeJS.Timeout | undefined;
  #auditAt = Number.POSITIVE_INFINITY;
  #auditing: AbortController | undefined;
  #listing = false;
  #told = false;
  #started = false;
  #staleSince: number | undefined;
  /** When the server was last heard of, if its silence is why it is asked again. */
  #silentSince: number | undefined;
  #lastError: string | undefined;
  /** The log has said that something is wrong. */
  #warned = false;
  #unreadable: string | undefined;

  constructor(opts: ReflectorOptions<T>) {
    this.#opts = withDefaults(opts);
    this.#pageSize = this.#opts.pageSize;
    this.#store = new ListStore(this.#opts.read);
    const backoff = { ...this.#opts.backoff, random: this.#opts.random };
    this.#watchBackoff = new Backoff(backoff);
    this.#listBackoff = new Backoff(backoff);
  }

  /** Begins to list and watch. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#run();
  }

  /** Ends for good. The view stays as it is. */
  close(): void {
    this.#closing.abort();
    this.#watching?.abort();
    this.#auditing?.abort();
    clearTimeout(this.#auditTimer);
  }

  /** A complete list has been taken in at least once. */
  get synced(): boolean {
    return this.#store.complete;
  }

  /** Wall clock, ms since 1970, since when the API server cannot be followed; undefined while the watch is healthy. */
  get staleSince(): number | undefined {
    return this.#staleSince;
  }

  /** Why; undefined while the watch is healthy. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** Objects held now. */
  get size(): number {
    return this.#store.size;
  }

  get counts(): Readonly<ReflectorCounts> {
    return this.#counts;
  }

  /** What changed since the last `take`, by `namespace/name` or `name`; everything at the first one after `synced`. */
  take(): Changes<T> {
    this.#told = false;
    return this.#store.take();
  }

  async #run(): Promise<void> {
    let step: Step = 'list';
    while (!this.#closing.signal.aborted) {
      try {
        if (step === 'list') await this.#list();
        step = 'watch';
        step = await this.#watch();
      } catch (e) {
        if (this.#closing.signal.aborted) return;
        const error = e instanceof KubeError ? e : new KubeError(0, 'Internal', String((e as Error)?.stack ?? e));
        const next = this.#failed(error, step);
        step = next.step;
        await pause(next.waitMs, this.#closing.signal);
      }
    }
  }

  /** Takes the place of everything that is held. */
  async #list(): Promise<void> {
    this.#auditing?.abort();
    this.#listing = true;
    const { version } = await this.#takeList(this.#closing.signal).finally(() => {
      this.#listing = false;
    });
    this.#store.forgetGraves();
    this.#version = version;
    this.#scheduleAudit(this.#auditDelay());
  }

  /** A whole list into the store; nothing of it where this throws. */
  async #takeList(signal: AbortSignal): Promise<{ version: string; changed: boolean }> {
    this.#counts.lists++;
    const list = this.#store.beginList();
    try {
      const { client, path, query, keep } = this.#opts;
      const version = await listPages({
        client,
        path,
        query,
        keep: keep === true ? undefined : keep,
        pageSize: this.#pageSize,
        signal,
        each: (object) => {
          const id = identity(object);
          if (!id) throw new KubeError(0, 'Malformed', `list of ${path}: an item without name or resourceVersion`);
          try {
            list.add(id, object);
          } catch (e) {
            this.#cannotRead(id.key, e);
            list.keep(id.key);
          }
        },
      });
      signal.throwIfAborted();
      this.#unknownSince = undefined;
      const changed = list.end(version);
      if (changed) this.#changed();
      return { version, changed };
    } catch (e) {
      list.abandon();
      throw e;
    }
  }

  /** One watch, from the last version seen. @returns what to do when it has ended */
  async #watch(): Promise<Step> {
    const { client, path, query, keep, idleMs, healthyMs, now, random } = this.#opts;
    const watching = new AbortController();
    this.#watching = watching;
    this.#counts.watches++;
    let healthy: NodeJS.Timeout | undefined;
    let opened: number | undefined;
    let heard = now();
    try {
      const lines = client.lines(path, {
        query: {
          ...query,
          watch: '1',
          allowWatchBookmarks: 'true',
          resourceVersion: this.#version ?? '',
          // Not all nodes at the same moment.
          timeoutSeconds: String(300 + Math.floor(random() * 300)),
        },
        signal: watching.signal,
        ...(keep === true ? {} : { keep: ofEvents(keep) }),
        idleMs,
        onOpen: () => {
          opened = performance.now();
          healthy = setTimeout(() => this.#healthy(), healthyMs);
        },
      });
      for await (const line of lines) {
        // Ended by us; what was read already must not move the version that was set.
        if (watching.signal.aborted) break;
        heard = now();
        this.#event(line);
        this.#healthy();
      }
    } catch (e) {
      if (!watching.signal.aborted) {
        if (!(e instanceof KubeError && e.reason === 'Idle')) throw e;
        // Nothing is wrong yet: if the next try fails too, this is since when.
        this.#silentSince ??= heard;
      }
    } finally {
      clearTimeout(healthy);
      this.#watching = undefined;
      const livedMs = opened === undefined ? 0 : performance.now() - opened;
      if (livedMs >= healthyMs) this.#watchBackoff.reset();
      if (livedMs >= LIST_HEALTH * healthyMs) this.#listBackoff.reset();
    }
    if (watching.signal.aborted) return watching.signal.reason === 'list' ? 'list' : 'watch';
    // A server that ends each watch at once must not be asked in a tight loop.
    const livedMs = opened === undefined ? 0 : performance.now() - opened;
    if (livedMs < healthyMs) await pause(this.#watchBackoff.next(), this.#closing.signal);
    return 'watch';
  }

  #event(line: unknown): void {
    const event = parseEvent(line);
    this.#watchErrors = 0;
    if (event.type === 'BOOKMARK') {
      this.#version = newerVersion(this.#version, event.version);
      return;
    }
    this.#counts.events++;
    try {
      const applied = this.#store.apply(event);
      if (applied === 'changed') this.#changed();
      // Out of order: if the connection ends now, what is still under way is lost.
      if (applied === 'older') this.#scheduleAudit(this.#auditDelay() / 10);
    } catch (e) {
      this.#cannotRead(event.id.key, e);
    }
    this.#version = newerVersion(this.#version, event.id.version);
  }

  /** What to do after an error, and when. */
  #failed(error: KubeError, step: Step): { step: Step; waitMs: number } {
    this.#counts.errors++;
    if (error.reason === 'Malformed') this.#counts.malformed++;
    if (error.status !== 404) this.#unknownSince = undefined;
    const expired = error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone';
    this.#stale(error, expired);
    if (step === 'list') {
      // Too slow for the life of a token, or too large for one answer: other pages.
      if (expired) this.#pageSize = Math.min(this.#pageSize * 4, Math.max(MAX_PAGE, this.#opts.pageSize));
      if (error.reason === 'TooLarge') this.#pageSize = Math.max(MIN_PAGE, this.#pageSize >> 1);
      if (error.status === 404) return { step, waitMs: this.#unknown() };
      return { step, waitMs: this.#listBackoff.next(error.retryAfterMs) };
    }
    // In a watch that was accepted an ERROR event says what is wrong; some servers say so for ever.
    const odd = error.status === 400 || error.status === 500 || error.status === 504;
    if (odd) this.#watchErrors++;
    const relist =
      expired || error.reason === 'Malformed' || error.status === 404 || this.#watchErrors > MAX_WATCH_ERRORS;
    if (!relist) return { step: 'watch', waitMs: this.#watchBackoff.next(error.retryAfterMs) };
    this.#watchErrors = 0;
    return { step: 'list', waitMs: this.#listBackoff.next(error.retryAfterMs) };
  }

  /**
   * The server does not know the kind. It may be about to start: only a second look, later, counts. Then there are no such objects.
   * @returns how long to wait for the next look
   */
  #unknown(): number {
    const { goneMs, now, backoff, random } = this.#opts;
    this.#unknownSince ??= now();
    if (now() - this.#unknownSince < goneMs) return goneMs;
    if (this.#store.beginList().end(undefined)) this.#changed();
    this.#store.forgetGraves();
    // What the view says is true, so it is not stale.
    this.#staleSince = undefined;
    return backoff.capMs * (0.5 + random() / 2);
  }

  #stale(error: KubeError, expired: boolean): void {
    const { log, path, now } = this.#opts;
    const since = this.#silentSince ?? now();
    this.#staleSince ??= since;
    const fields = { path, status: error.status || undefined, reason: error.reason };
    // 410 is part of the protocol; the same error again is no news.
    if (expired || error.message === this.#lastError) log.debug(error.message, fields);
    else {
      log.warn(error.message, fields);
      this.#warned = true;
    }
    this.#lastError = error.message;
  }

  #healthy(): void {
    this.#silentSince = undefined;
    if (this.#warned) this.#opts.log.info('the API server is followed again', { path: this.#opts.path });
    this.#warned = false;
    this.#lastError = undefined;
    this.#staleSince = undefined;
  }

  #changed(): void {
    if (this.#told || this.#closing.signal.aborted) return;
    this.#told = true;
    this.#opts.onChange();
  }

  #cannotRead(key: string, e: unknown): void {
    this.#counts.malformed++;
    const { log, path } = this.#opts;
    const message = `${key} cannot be read: ${(e as Error)?.message ?? e}`;
    if (message !== this.#unreadable) log.error(message, { path });
    this.#unreadable = message;
  }

  #auditDelay(): number {
    return this.#opts.auditMs * (0.8 + 0.4 * this.#opts.random());
  }

  /** Earlier than it is due already, or never mind. */
  #scheduleAudit(inMs: number): void {
    const at = performance.now() + inMs;
    if (this.#closing.signal.aborted || at >= this.#auditAt) return;
    clearTimeout(this.#auditTimer);
    this.#auditAt = at;
    this.#auditTimer = setTimeout(() => {
      this.#auditAt = Number.POSITIVE_INFINITY;
      void this.#audit().finally(() => this.#scheduleAudit(this.#auditDelay()));
    }, inMs);
  }

  /** A list beside the watch. Where the watch cannot be had, this is what still moves the view. */
  async #audit(): Promise<void> {
    if (this.#listing) return;
    const auditing = new AbortController();
    this.#auditing = auditing;
    const before = this.#version;
    const events = this.#counts.events;
    try {
      const { version, changed } = await this.#takeList(auditing.signal);
      if (changed && this.#counts.events === events) this.#counts.repairs++;
      const wentBack = (compareVersions(version, before) ?? 0) < 0;
      if (wentBack) {
        // Its storage was restored: the watch waits for versions that will not come for long.
        this.#store.forgetGraves();
        this.#version = version;
        this.#end('watch');
      } else if (this.#watching === undefined || compareVersions(version, this.#version) !== undefined) {
        this.#version = newerVersion(this.#version, version);
      }
    } catch (e) {
      if (auditing.signal.aborted || this.#closing.signal.aborted) return;
      const { log, path } = this.#opts;
      log.debug(`audit: ${(e as Error).message}`, { path });
      if (e instanceof KubeError && e.status === 404) this.#end('list');
    } finally {
      if (this.#auditing === auditing) this.#auditing = undefined;
    }
  }

  /** Ends the watch that is under way. */
  #end(then: Step): void {
    this.#watching?.abort(then);
  }
}
