/** Agents that say what a test gives them, and callers that read as slowly as a test wants, without a network. */
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { dayOf } from '../../src/edges/edge.js';
import { EdgeBook } from '../../src/edges/book.js';
import { edgeMessage } from '../../src/edges/wire.js';
import type { LedgerSource, LedgerSources } from '../../src/history/collector.js';
import type { EdgesRequest, EdgesResponse } from '../../src/proto/edges.js';
import { decode, encode } from '../../src/proto/load.js';
import { makeEdge, outside, workload } from '../edges/given.js';

const MESSAGE = 'egress.v1.EdgesResponse';

function edgeOf(n: number) {
  return makeEdge({ source: workload('shop/web'), destination: outside(`edge-${n}`, 'name') });
}

interface SourceOptions {
  /** Before the first answer, milliseconds. */
  holdMs?: number;
  /** Bytes of each edge's reason. */
  padding?: number;
  silent?: Set<number>;
  wrong?: Set<number>;
}

/** Agents, each with a ledger whose edges are numbers. */
export class Sources implements LedgerSources {
  readonly silent: Set<number>;
  readonly wrong: Set<number>;
  readonly #opts: SourceOptions;
  readonly #list: LedgerSource[];
  /** Of each agent: edge → connections. */
  readonly #said: Map<number, number>[];
  readonly #streams = new Set<{ of: number; put(rows: number[]): void; cut(): void }>();
  opened = 0;
  /** First answers that were read at the same time. */
  most = 0;
  #beginning = 0;

  constructor(agents: number, opts: SourceOptions = {}) {
    this.#opts = opts;
    this.silent = opts.silent ?? new Set();
    this.wrong = opts.wrong ?? new Set();
    this.#said = Array.from({ length: agents }, () => new Map());
    this.#list = this.#said.map((_, of) => ({
      id: `${of}`,
      name: `node-${of}`,
      edgeBytes: (request: EdgesRequest, signal: AbortSignal) => this.#read(of, request, signal),
    }));
  }

  get open(): number {
    return this.#streams.size;
  }

  list(): readonly LedgerSource[] {
    return this.#list;
  }

  onChange(): () => void {
    return () => {};
  }

  /** An agent has seen a connection on each of these edges. */
  say(of: number, rows: number[]): void {
    const said = this.#said[of] as Map<number, number>;
    for (const n of rows) said.set(n, (said.get(n) ?? 0) + 1);
    for (const stream of this.#streams) if (stream.of === of) stream.put(rows);
  }

  /** Ends all streams. */
  cut(): void {
    for (const stream of this.#streams) stream.cut();
  }

  async *#read(of: number, { limit = 0 }: EdgesRequest, signal: AbortSignal): AsyncGenerator<Buffer> {
    const queue: number[][] = [];
    let wake = () => {};
    let isCut = false;
    const put = (rows: number[]) => {
      queue.push(rows);
      wake();
    };
    const cut = () => {
      isCut = true;
      wake();
    };
    const stream = { of, put, cut };
    this.#streams.add(stream);
    this.opened++;
    signal.addEventListener('abort', () => wake());
    const more = () =>
      new Promise<void>((resolve) => {
        wake = resolve;
        if (signal.aborted) resolve();
      });
    try {
      this.most = Math.max(this.most, ++this.#beginning);
      await sleep(this.#opts.holdMs ?? 0);
      this.#beginning--;
      while (this.silent.has(of) && !isCut && !signal.aborted) await more();
      if (this.wrong.has(of)) yield Buffer.from([0x08, 5, 0x32, 1, 0x80]);
      const described = new Set<number>();
      const all = [...(this.#said[of] as Map<number, number>).keys()];
      const first = limit > 0 ? all.slice(0, limit) : all;
      for (const n of first) yield this.#message(of, [n], described);
      yield encode(MESSAGE, { ledger: of + 1, caught_up: true, more: first.length < all.length });
      while (!isCut && !signal.aborted) {
        const rows = queue.shift();
        if (rows) yield this.#message(of, rows, described);
        else await more();
      }
    } finally {
      this.#streams.delete(stream);
    }
  }

  #message(of: number, rows: number[], described: Set<number>): Buffer {
    const fresh = rows.filter((n) => !described.has(n));
    for (const n of fresh) described.add(n);
    const said = this.#said[of] as Map<number, number>;
    const day = dayOf(Date.now());
    const each = <T>(value: T) => rows.map(() => value);
    const message: EdgesResponse = {
      ...{ ledger: of + 1, node_name: `node-${of}` },
      edges: fresh.map((n) => ({ ...edgeMessage(edgeOf(n)), reason: 'x'.repeat(this.#opts.padding ?? 0) })),
      ...{ id: rows.map((n) => edgeOf(n).id), day: each(day), first_ms: each(1), last_ms: each(2) },
      ...{ connections: rows.map((n) => said.get(n) ?? 0), bytes: each(0), drops: each(0), hours: each(1) },
    };
    return encode(MESSAGE, message);
  }
}

/** A call of Edges whose caller may stop to read. */
export class SlowCall {
  readonly got: EdgesResponse[] = [];
  readonly book = new EdgeBook();
  /** Nothing is taken any more. */
  isStuck = false;
  fault: { code: number; details: string } | undefined;
  readonly #emitter: EventEmitter & { cancelled?: boolean };

  constructor(request: EdgesRequest) {
    const emitter = Object.assign(new EventEmitter(), {
      request,
      cancelled: false,
      sendMetadata: () => {},
      end: () => {},
      write: (bytes: Buffer) => {
        const m = decode<EdgesResponse>(MESSAGE, bytes);
        this.got.push(m, ...(m.parts ?? []));
        this.book.add(m);
        return !this.isStuck;
      },
    });
    emitter.on('error', (e) => {
      this.fault = e;
    });
    this.#emitter = emitter;
  }

  get server(): never {
    return this.#emitter as never;
  }

  get caughtUp(): number {
    return this.got.filter((m) => m.caught_up).length;
  }

  get unavailable(): readonly string[] {
    return this.book.unavailable;
  }

  get more(): boolean {
    return this.book.isCut;
  }

  get rows(): number {
    return this.got.reduce((sum, m) => sum + (m.id?.length ?? 0), 0);
  }

  /** Connections on an edge, of all agents. */
  sum(n: number): number {
    const found = this.book.histories().find((h) => h.edge.destination.name === `edge-${n}`);
    return found?.days.reduce((sum, d) => sum + d.connections, 0) ?? 0;
  }

  leave(): void {
    this.#emitter.cancelled = true;
    this.#emitter.emit('cancelled');
  }
}
