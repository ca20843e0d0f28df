/** Single flows for the pages that show them: a sample of each second, read once however many pages show the same. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Filters } from '../../flow/filter/options.js';
import type {
  FlowRecord,
  GetFlowsRequest,
  GetRecordsResponse,
  SampleFlowsRequest,
  SampleFlowsResponse,
} from '../../proto/messages.js';
import type { FlowRow } from '../wire/messages.js';
import { flowRow } from './flow-row.js';

/** Rows a second at most. */
const MOST_A_SECOND = 200;
/** Pauses before a lost stream is opened again, milliseconds. */
const PAUSE = { first: 500, most: 5000 };

/** The part of a client that is used. */
export interface RecordSource {
  getRecords(request: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse>;
  sampleFlows(request: SampleFlowsRequest, signal?: AbortSignal): AsyncIterable<SampleFlowsResponse>;
}

/** What a second brought. */
export interface Sample {
  /** Ascending time; numbers ascend within a feed. */
  readonly flows: readonly FlowRow[];
  readonly seen: number;
  readonly lost: number;
}

/** The samples of one filter, for all pages that have it. */
export class FlowFeed {
  readonly #source: RecordSource;
  readonly #filters: Filters;
  readonly #ending = new AbortController();
  readonly #listeners = new Set<(sample: Sample | undefined) => void>();
  #next = 1;
  /** Why there are no samples; empty: there are. */
  trouble = '';

  constructor(source: RecordSource, filters: Filters) {
    this.#source = source;
    this.#filters = filters;
    void this.#run();
  }

  /** @param listener called with each sample; undefined: `trouble` has changed */
  onSample(listener: (sample: Sample | undefined) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The most recent flows that match, at most so many, ascending. @throws AgentError AGENT */
  async past(last: number, signal: AbortSignal): Promise<FlowRow[]> {
    const records: FlowRecord[] = [];
    if (last === 0) return [];
    for await (const { record } of this.#source.getRecords({ ...this.#filters, number: last }, signal))
      if (record) records.push(record);
    return this.#rows(records);
  }

  end(): void {
    this.#ending.abort();
  }

  #rows(records: readonly FlowRecord[]): FlowRow[] {
    return records.map((record) => flowRow(record, this.#next++));
  }

  #tell(sample: Sample | undefined): void {
    for (const listener of this.#listeners) listener(sample);
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    let pause = PAUSE.first;
    while (!signal.aborted) {
      try {
        const request = { ...this.#filters, per_second: MOST_A_SECOND };
        for await (const { records = [], seen = 0, lost = 0, past } of this.#source.sampleFlows(request, signal)) {
          if (this.trouble !== '') {
            this.trouble = '';
            this.#tell(undefined);
          }
          pause = PAUSE.first;
          if (!past) this.#tell({ flows: this.#rows(records), seen: Number(seen), lost: Number(lost) });
        }
        this.trouble = 'the stream of flows has ended';
      } catch (e) {
        this.trouble = (e as Error).message;
      }
      if (signal.aborted) return;
      this.#tell(undefined);
      await sleep(pause * (0.5 + Math.random()), undefined, { signal }).catch(() => {});
      pause = Math.min(pause * 2, PAUSE.most);
    }
  }
}
