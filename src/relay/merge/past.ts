/** The most recent flows of several nodes, for a caller of SampleFlows who begins. */
import { eitherSignal } from '../../either-signal.js';
import { setMaxListeners } from 'node:events';
import { mostBytes } from '../../rpc/sample/query.js';
import type { SamplePast, SampleSource } from '../../rpc/sample/streams.js';
import { compareTimes, type RecordTime, readSample, timeOfRecord, uuidOfRecord } from '../../rpc/sample/wire.js';
import type { SampleNode, SampleNodes } from '../nodes/nodes.js';

/** Nodes that are asked at the same time for one caller, and callers at the same time. Others wait. */
const NODES = 16;
const CALLERS = 3;
/** Least that a node is asked for, and how much more than its part, since nodes have more and fewer flows. */
const LEAST = 20;
const MORE = 4;

interface PastRecord {
  bytes: Buffer;
  time: RecordTime;
}

/** @param patienceMs milliseconds that a node has for its answer */
export function pastOf(nodes: SampleNodes, patienceMs: number): SampleSource['past'] {
  let running = 0;
  const waiting = new Set<() => void>();
  return async (query, signal): Promise<SamplePast> => {
    while (running >= CALLERS && !signal.aborted) {
      let wake = () => {};
      await new Promise<void>((resolve) => {
        waiting.add((wake = resolve));
        signal.addEventListener('abort', wake);
      });
      waiting.delete(wake);
      signal.removeEventListener('abort', wake);
    }
    running++;
    const end = new AbortController();
    // Each node that is asked listens to it.
    setMaxListeners(NODES, end.signal);
    const stop = () => end.abort();
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    try {
      const all = [...nodes.list()];
      const last = Math.min(query.last, Math.max(LEAST, Math.ceil((MORE * query.last) / Math.max(all.length, 1))));
      const newest = new Newest(query.last, mostBytes(query.last));
      const unavailable: string[] = [];
      const askNext = async () => {
        for (let node = all.pop(); node && !signal.aborted; node = all.pop()) {
          try {
            for (const bytes of await ask(node, { ...query.request, per_second: 1, last }, end.signal, patienceMs))
              newest.add(bytes);
          } catch {
            unavailable.push(node.name);
          }
        }
      };
      await Promise.all(Array.from({ length: NODES }, askNext));
      const records = newest.take();
      const uuids = new Set(records.map(({ bytes }) => uuidOfRecord(bytes)));
      return { records, unavailable: unavailable.sort(), has: ({ bytes }) => uuids.has(uuidOfRecord(bytes)) };
    } finally {
      signal.removeEventListener('abort', stop);
      running--;
      const [next] = waiting;
      if (next) waiting.delete(next);
      next?.();
    }
  };
}

/** The records of a node's past. @throws Error if it does not answer */
async function ask(
  node: SampleNode,
  request: Parameters<SampleNode['sampleBytes']>[0],
  signal: AbortSignal,
  patienceMs: number,
): Promise<Buffer[]> {
  const end = eitherSignal([signal], patienceMs);
  try {
    for await (const bytes of node.sampleBytes(request, end.signal)) return readSample(bytes).records;
    throw new Error('no answer');
  } finally {
    end.end();
  }
}

/** The newest of the records that are added, bounded in number and bytes. */
class Newest {
  readonly #most: number;
  readonly #mostBytes: number;
  #records: PastRecord[] = [];
  #bytes = 0;

  constructor(most: number, mostBytes: number) {
    this.#most = most;
    this.#mostBytes = mostBytes;
  }

  add(record: Buffer): void {
    this.#records.push({ bytes: Buffer.from(record), time: timeOfRecord(record) });
    this.#bytes += record.length;
    if (this.#records.length > this.#most * 2 || this.#bytes > this.#mostBytes * 2) this.#cut();
  }

  /** Oldest first. */
  take(): PastRecord[] {
    this.#cut();
    return this.#records.reverse();
  }

  /** Leaves the newest, newest first. */
  #cut(): void {
    this.#records.sort((a, b) => compareTimes(b.time, a.time));
    let bytes = 0;
    let count = 0;
    for (const record of this.#records) {
      if (count === this.#most || bytes + record.bytes.length > this.#mostBytes) break;
      bytes += record.bytes.length;
      count++;
    }
    this.#records.length = count;
    this.#bytes = bytes;
  }
}
