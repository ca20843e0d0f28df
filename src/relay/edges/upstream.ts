/** Edges of all agents, for readers who ask for the same: their messages as they come, each ledger for itself. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { LedgerSource, LedgerSources } from '../../history/collector.js';
import type { Turns } from '../../history/turns.js';
import type { Logger } from '../../log.js';
import type { EdgesRequest } from '../../proto/edges.js';
import { joinMessages, readMessage, writeMessage } from './message.js';
import { Owners } from './owners.js';
import type { LiveReader } from './reader.js';

export interface UpstreamOptions {
  /** First delay before a lost agent is asked again, milliseconds; doubled up to 60 times as much. */
  retryMs: number;
  /** Time after which an agent that has said nothing is named, milliseconds. */
  openMs: number;
  /** Time after which the beginning is over, whoever is missing, milliseconds. What readers hold up does not count. */
  beginMs: number;
  /** Time that one reader may hold up the beginning of all, milliseconds. */
  holdUpMs: number;
  /** Bytes that may wait for one reader. */
  mostBytes: () => number;
}

/** Between two looks at who is missing, milliseconds. */
const LOOK_MS = { beginning: 200, after: 1000 };
/** Between two looks at readers that hold up the beginning, milliseconds. */
const PAUSE_MS = 20;
/** Messages of agents that are sent together: those of so many milliseconds, or of so many bytes. */
const TOGETHER = { ms: 50, bytes: 64 << 10 };

interface Following {
  readonly source: LedgerSource;
  readonly end: AbortController;
  /** Since when it is waited for, or has sent all of its rows; milliseconds of a clock that nobody sets. */
  sinceMs: number;
  /** It waits for its turn, has been asked, answers, has sent all of its rows, or is lost until it has done so again. */
  state: 'waiting' | 'asked' | 'answering' | 'current' | 'lost';
  ledger: number;
}

/** The streams of all agents for one request. */
export class Upstream {
  readonly readers: Set<LiveReader>;
  readonly #sources: LedgerSources;
  readonly #request: EdgesRequest;
  readonly #turns: Turns;
  readonly #log: Logger;
  readonly #opts: UpstreamOptions;
  readonly #begun: () => void;
  readonly #following = new Map<string, Following>();
  readonly #owners = new Owners();
  readonly #stop: () => void;
  #timer: NodeJS.Timeout | undefined;
  #startedMs = performance.now();
  #isOver = false;
  /** What readers have been told last. */
  #missing = '';
  /** Rows that no agent has been promised yet, while all are asked for the first time. */
  #rowsLeft: number;
  #notAsked = 0;
  #pause: Promise<void> | undefined;
  #together: Buffer[] = [];
  #bytesTogether = 0;
  #flushing: NodeJS.Timeout | undefined;
  /** The beginning is over: who joins now does not get all. */
  hasBegun = false;
  /** Rows were left out, and with them descriptions of edges. */
  isCut = false;
  /** A newer one has taken its readers over, and tells them who is missing. */
  isLeaving = false;

  /** @param begun called when the beginning is over */
  constructor(
    given: {
      sources: LedgerSources;
      request: EdgesRequest;
      readers: Set<LiveReader>;
      turns: Turns;
      log: Logger;
      begun: () => void;
    },
    opts: UpstreamOptions,
  ) {
    this.#sources = given.sources;
    this.readers = given.readers;
    this.#request = given.request;
    this.#turns = given.turns;
    this.#log = given.log;
    this.#begun = given.begun;
    this.#opts = opts;
    this.#rowsLeft = given.request.limit ?? 0;
    this.#stop = this.#sources.onChange(() => this.#update());
    this.#update();
    this.#look();
  }

  end(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stop();
    clearTimeout(this.#timer);
    clearTimeout(this.#flushing);
    for (const f of this.#following.values()) f.end.abort();
    this.#following.clear();
  }

  /**
   * Takes over the readers of an older one, which goes on until they have been told of all edges by it.
   * @param older whose beginning is over, and which left out nothing
   */
  adopt(older: Upstream): void {
    older.isLeaving = true;
    const gone = this.#owners.takeOver(older.#owners);
    const messages = [writeMessage({ caught_up: true, unavailable_nodes: this.#names() })];
    if (gone.length > 0) messages.unshift(writeMessage({ gone_ledgers: gone }));
    this.#flush();
    for (const reader of older.readers) {
      for (const message of messages) reader.add(message, this.#opts.mostBytes());
      this.readers.add(reader);
    }
  }

  /** Whether this one has told its readers of every edge that a newer one had described up to `graceMs` ago. */
  hasToldAllOf(newer: Upstream, graceMs: number): boolean {
    const now = performance.now();
    return [...newer.#following].every(([id, { state }]) => {
      const own = this.#following.get(id);
      return state !== 'current' || (own?.state === 'current' && now - own.sinceMs > graceMs);
    });
  }

  /** Follows agents that were added, and no longer those that are gone. Rows of these stay. */
  #update(): void {
    const now = new Map(this.#sources.list().map((source) => [source.id, source]));
    for (const [id, f] of this.#following) {
      if (now.has(id)) continue;
      this.#following.delete(id);
      f.end.abort();
    }
    for (const [id, source] of now) {
      if (this.#following.has(id)) continue;
      const f: Following = {
        ...{ source, end: new AbortController(), sinceMs: performance.now() },
        ...{ state: 'waiting' as const, ledger: 0 },
      };
      this.#following.set(id, f);
      this.#notAsked++;
      void this.#follow(f);
    }
  }

  async #follow(f: Following): Promise<void> {
    const { signal } = f.end;
    let retryMs = this.#opts.retryMs;
    let isFirst = true;
    while (!signal.aborted) {
      try {
        await this.#read(f, isFirst);
      } catch (e) {
        if (!signal.aborted && f.state !== 'lost')
          this.#log.debug('edges: an agent is lost', { node: f.source.name, why: (e as Error).message });
      }
      isFirst = false;
      if (signal.aborted) return;
      if (f.state === 'current') retryMs = this.#opts.retryMs;
      f.state = 'lost';
      this.#lookAtBeginning();
      // Many agents that come back at once are not asked at once.
      await sleep(retryMs * (0.5 + Math.random()), undefined, { signal }).catch(() => {});
      retryMs = Math.min(retryMs * 2, 60 * this.#opts.retryMs);
    }
  }

  /** One stream. */
  async #read(f: Following, isFirst: boolean): Promise<void> {
    const { signal } = f.end;
    const turn = await this.#turns.enter(signal);
    const share = this.#shareOf(isFirst);
    let rows = 0;
    try {
      if (isFirst) [f.state, f.sinceMs] = ['asked', performance.now()];
      const request = { ...this.#request, ...(share === undefined ? {} : { limit: share }) };
      for await (const bytes of f.source.edgeBytes(request, signal)) {
        if (signal.aborted) return;
        turn.heard();
        const message = readMessage(bytes);
        if (f.state === 'asked') f.state = 'answering';
        if (f.ledger !== message.ledger) this.#begins(f, message.ledger);
        this.isCut ||= message.more;
        this.#putSoon(message.bytes);
        rows += message.rows;
        if (message.caughtUp && f.state !== 'current') {
          f.state = 'current';
          f.sinceMs = performance.now();
          turn.leave();
          if (isFirst && share !== undefined) this.#rowsLeft += Math.max(share - rows, 0);
          this.#lookAtBeginning();
        }
        if (!this.hasBegun) await this.#room();
      }
    } finally {
      turn.leave();
    }
  }

  /** The rows that an agent is asked for; undefined: all. What those before it did not need is for those after it. */
  #shareOf(isFirst: boolean): number | undefined {
    const { limit = 0 } = this.#request;
    const others = isFirst ? Math.max(this.#notAsked--, 1) : this.#following.size;
    if (limit === 0) return undefined;
    if (!isFirst || this.hasBegun) return Math.max(Math.floor(limit / Math.max(this.#following.size, 1)), 1);
    const share = Math.max(Math.floor(this.#rowsLeft / others), 1);
    this.#rowsLeft = Math.max(this.#rowsLeft - share, 0);
    return share;
  }

  /** An agent speaks for a ledger. @throws Error if that is another node's */
  #begins(f: Following, ledger: number): void {
    const others = [...this.#following.values()].filter((other) => other !== f);
    const isOf = (name: string) => others.some((o) => o.source.name === name && o.ledger === ledger);
    const owner = this.#owners.of(ledger);
    if (owner !== undefined && owner !== f.source.name && isOf(owner)) {
      this.#log.warn('edges: two nodes have the same ledger; one of them is left out', {
        node: f.source.name,
        other: owner,
      });
      throw new Error(`its ledger is that of ${owner}`);
    }
    const gone = [this.#owners.begins(f.source.name, ledger), f.ledger].filter(
      (n) => n !== 0 && n !== ledger && !others.some((o) => o.ledger === n),
    );
    f.ledger = ledger;
    if (gone.length > 0) this.#put(writeMessage({ gone_ledgers: [...new Set(gone)] }));
  }

  /** With a thousand agents, it is the number of messages that costs, not their bytes: so they are sent together. */
  #putSoon(message: Buffer): void {
    if (this.#isOver) return;
    this.#together.push(message);
    this.#bytesTogether += message.length;
    if (this.#bytesTogether > TOGETHER.bytes) this.#flush();
    else this.#flushing ??= setTimeout(() => this.#flush(), TOGETHER.ms);
  }

  #flush(): void {
    clearTimeout(this.#flushing);
    this.#flushing = undefined;
    const messages = this.#together;
    this.#together = [];
    this.#bytesTogether = 0;
    if (messages.length > 0) this.#send(joinMessages(messages));
  }

  /** What readers are told by the relay is a message of its own. */
  #put(message: Buffer): void {
    this.#flush();
    this.#send(message);
  }

  #send(message: Buffer): void {
    if (this.#isOver) return;
    // While all begins, who does not keep up holds up the others instead of being ended.
    const most = this.hasBegun ? this.#opts.mostBytes() : Number.POSITIVE_INFINITY;
    for (const reader of this.readers) reader.add(message, most);
  }

  /** Resolves when every reader has room for more of the beginning. */
  #room(): Promise<void> | undefined {
    const most = this.#opts.mostBytes() / 2;
    const slow = () => [...this.readers].filter((reader) => reader.bytes > most && !reader.signal.aborted);
    if (!this.#pause && slow().length > 0)
      this.#pause = (async () => {
        let before = performance.now();
        for (let held = slow(); held.length > 0 && !this.#isOver && !this.hasBegun; held = slow()) {
          await sleep(PAUSE_MS);
          const ms = performance.now() - before;
          before += ms;
          this.#startedMs += ms;
          // What this process has itself been late is not theirs.
          for (const reader of held) reader.holdsUp(Math.min(ms, 2 * PAUSE_MS), this.#opts.holdUpMs);
        }
        this.#pause = undefined;
      })();
    return this.#pause;
  }

  /** The names of the nodes that do not answer, or have not sent all of their rows yet though they should have. */
  #names(): string[] {
    const names = new Set<string>();
    for (const f of this.#following.values()) if (this.#isMissing(f)) names.add(f.source.name);
    // An agent's pod that is replaced is another one on the same node.
    for (const f of this.#following.values()) if (f.state === 'current') names.delete(f.source.name);
    return [...names].sort();
  }

  #isMissing({ state, sinceMs }: Following): boolean {
    if (state === 'current') return false;
    if (state === 'lost') return true;
    if (performance.now() - sinceMs <= this.#opts.openMs) return false;
    // At the beginning, those that wait for their turn are waited for.
    return this.hasBegun || state === 'asked';
  }

  #look(): void {
    if (this.#isOver) return;
    this.#lookAtBeginning();
    if (this.hasBegun && !this.isLeaving) {
      const names = this.#names();
      if (names.join() !== this.#missing) this.#tell(names);
    }
    this.#timer = setTimeout(() => this.#look(), this.hasBegun ? LOOK_MS.after : LOOK_MS.beginning);
  }

  /** Ends the beginning when nobody is waited for any more. */
  #lookAtBeginning(): void {
    if (this.hasBegun || this.#isOver) return;
    const isLate = performance.now() - this.#startedMs > this.#opts.beginMs;
    if (!isLate) for (const f of this.#following.values()) if (f.state !== 'current' && !this.#isMissing(f)) return;
    this.hasBegun = true;
    this.#tell(this.#names());
    this.#begun();
  }

  #tell(names: string[]): void {
    this.#missing = names.join();
    this.#put(writeMessage({ caught_up: true, unavailable_nodes: names }));
  }
}
