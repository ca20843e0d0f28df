/**
 * Follows all objects of one kind: lists them, then watches from the list's version on, for ever.
 *
 * 1. When a watch ends, another one continues from the last version seen. Only 410 (that version is too old), or a
 *   server that violates the protocol, lead to a new list.
 * 2. From time to time a list is read while the watch goes on (the audit), and compared. It repairs the loss of an
 *   event, whatever the cause.
 * 3. The view changes by single events and by whole lists, never by a part of a list. While the server cannot be
 *   followed, the view stays.
 *
 * `run` is the loop. Only `failed` decides what to do after an error.
 */
import { Backoff, pause } from './backoff.js';
import { KubeError } from '../client/client.js';
import { ofEvents } from '../client/keep.js';
import { listPages } from './list-pages.js';
import { type Changes, ListStore } from './list-store.js';
import { compareVersions, newerVersion } from './list-versions.js';
import { identity, parseEvent } from './watch-events.js';
import { type ReflectorCounts, type ReflectorOptions, withDefaults } from './watch-options.js';

export type { Changes } from './list-store.js';
export type { ReflectorCounts, ReflectorOptions } from './watch-options.js';

type Step = 'list' | 'watch';

/** Number of attempts with a server that cannot watch from a version that it gave (ERROR without a known code). */
const MAX_WATCH_ERRORS = 2;
/**
 * If a list is useless because the watch fails with 410 at once, the next list is delayed until a watch has lived this
 * many times `healthyMs`.
 */
const LIST_HEALTH = 30;
const MAX_PAGE = 10_000;
const MIN_PAGE = 10;

/** The list and watch loop of one kind. */
export class Reflector<T> {
  readonly #opts: Required<ReflectorOptions<T>>;
  readonly #store: ListStore<T>;
  readonly #closing = new AbortController();
  readonly #watchBackoff: Backoff;
  readonly #listBackoff: Backoff;
  readonly #counts: ReflectorCounts = { lists: 0, watches: 0, events: 0, errors: 0, malformed: 0, repairs: 0 };
  #pageSize: number;
  /** The version to watch from. */
  #version: string | undefined;
  #watching: AbortController | undefined;
  #watchErrors = 0;
  /** Time of the first of several consecutive 404s. */
  #unknownSince: number | undefined;
  #auditTimer: NodeJS.Timeout | undefined;
  #auditAt = Number.POSITIVE_INFINITY;
  #auditing: AbortController | undefined;
  #listing = false;
  #notified = false;
  #started = false;
  #staleSince: number | undefined;
  /** Time of the last data from the server, if a new attempt is made because it is silent. */
  #silentSince: number | undefined;
  #lastError: string | undefined;
  /** Whether a warning has been logged since the last healthy state. */
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

  /** Starts to list and watch. */
  start(): void {
    if (this.#started) return;
    this.#started = true;
    void this.#run();
  }

  /** Stops for good. The view stays as it is. */
  close(): void {
    this.#closing.abort();
    this.#watching?.abort();
    this.#auditing?.abort();
    clearTimeout(this.#auditTimer);
  }

  /** Whether a complete list has been stored at least once. */
  get synced(): boolean {
    return this.#store.complete;
  }

  /**
   * Time since which the API server cannot be followed, milliseconds since 1970; undefined while the watch is healthy.
   */
  get staleSince(): number | undefined {
    return this.#staleSince;
  }

  /** The reason; undefined while the watch is healthy. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  /** Number of objects. */
  get size(): number {
    return this.#store.size;
  }

  get counts(): Readonly<ReflectorCounts> {
    return this.#counts;
  }

  /**
   * The changes since the last `take`, by `namespace/name` or `name`; the first call after `synced` returns everything.
   */
  take(): Changes<T> {
    this.#notified = false;
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

  /** Replaces all objects by a new list. */
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

  /** Reads a whole list into the store. If it throws, the store is unchanged. */
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

  /** Runs one watch from the last version seen. @returns what to do after its end */
  async #watch(): Promise<Step> {
    const { client, path, query, keep, idleMs, healthyMs, now, random } = this.#opts;
    const watching = new AbortController();
    this.#watching = watching;
    this.#counts.watches++;
    let healthy: NodeJS.Timeout | undefined;
    let opened: number | undefined;
    let lastData = now();
    try {
      const lines = client.lines(path, {
        query: {
          ...query,
          watch: '1',
          allowWatchBookmarks: 'true',
          resourceVersion: this.#version ?? '',
          // Random, so that the nodes do not reconnect at the same moment.
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
        // We ended the watch. Events that are already read must not change the version, which has been set.
        if (watching.signal.aborted) break;
        lastData = now();
        this.#event(line);
        this.#healthy();
      }
    } catch (e) {
      if (!watching.signal.aborted) {
        if (!(e instanceof KubeError && e.reason === 'Idle')) throw e;
        // This is no error yet, but if the next attempt fails too, the view is stale since then.
        this.#silentSince ??= lastData;
      }
    } finally {
      clearTimeout(healthy);
      this.#watching = undefined;
      const livedMs = opened === undefined ? 0 : performance.now() - opened;
      if (livedMs >= healthyMs) this.#watchBackoff.reset();
      if (livedMs >= LIST_HEALTH * healthyMs) this.#listBackoff.reset();
    }
    if (watching.signal.aborted) return watching.signal.reason === 'list' ? 'list' : 'watch';
    // Avoids a tight loop with a server that ends each watch at once.
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
      // The events are out of order. If the connection ends now, events in transit are lost, so an audit is due soon.
      if (applied === 'older') this.#scheduleAudit(this.#auditDelay() / 10);
    } catch (e) {
      this.#cannotRead(event.id.key, e);
    }
    this.#version = newerVersion(this.#version, event.id.version);
  }

  /** Decides what to do after an error, and when. */
  #failed(error: KubeError, step: Step): { step: Step; waitMs: number } {
    this.#counts.errors++;
    if (error.reason === 'Malformed') this.#counts.malformed++;
    if (error.status !== 404) this.#unknownSince = undefined;
    const expired = error.status === 410 || error.reason === 'Expired' || error.reason === 'Gone';
    this.#stale(error, expired);
    if (step === 'list') {
      // The list took longer than the token is valid, or an answer was too large: other page sizes.
      if (expired) this.#pageSize = Math.min(this.#pageSize * 4, Math.max(MAX_PAGE, this.#opts.pageSize));
      if (error.reason === 'TooLarge') this.#pageSize = Math.max(MIN_PAGE, this.#pageSize >> 1);
      if (error.status === 404) return { step, waitMs: this.#unknown() };
      return { step, waitMs: this.#listBackoff.next(error.retryAfterMs) };
    }
    // In an accepted watch, the problem comes as an ERROR event. Some servers repeat it for ever.
    const odd = error.status === 400 || error.status === 500 || error.status === 504;
    if (odd) this.#watchErrors++;
    const relist =
      expired || error.reason === 'Malformed' || error.status === 404 || this.#watchErrors > MAX_WATCH_ERRORS;
    if (!relist) return { step: 'watch', waitMs: this.#watchBackoff.next(error.retryAfterMs) };
    this.#watchErrors = 0;
    return { step: 'list', waitMs: this.#listBackoff.next(error.retryAfterMs) };
  }

  /**
   * Handles a kind that the server does not know. The server may be starting, so the kind counts as deleted only if it
   * is still unknown at a later check. Then it has no objects.
   * @returns the delay until the next check
   */
  #unknown(): number {
    const { goneMs, now, backoff, random } = this.#opts;
    this.#unknownSince ??= now();
    if (now() - this.#unknownSince < goneMs) return goneMs;
    if (this.#store.beginList().end(undefined)) this.#changed();
    this.#store.forgetGraves();
    // The empty view is correct, so it is not stale.
    this.#staleSince = undefined;
    return backoff.capMs * (0.5 + random() / 2);
  }

  #stale(error: KubeError, expired: boolean): void {
    const { log, path, now } = this.#opts;
    const since = this.#silentSince ?? now();
    this.#staleSince ??= since;
    const fields = { path, status: error.status || undefined, reason: error.reason };
    // 410 is part of the protocol, and a repeated error is not news.
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
    if (this.#notified || this.#closing.signal.aborted) return;
    this.#notified = true;
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

  /** Schedules an audit, unless one is due earlier. */
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

  /** Reads a list while the watch goes on. If watching is impossible, only audits update the view. */
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
        // The server's storage was restored, so the watch would wait for versions that will not come for long.
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

  /** Ends the running watch. */
  #end(then: Step): void {
    this.#watching?.abort(then);
  }
}
