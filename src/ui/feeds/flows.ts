/** Single flows for the pages that show them: a sample of at most 200 a second. */
import type { Filters } from '../../flow/filter/options.js';
import type { FlowRecord, GetFlowsRequest, GetRecordsResponse } from '../../proto/messages.js';

/** Rows a second at most. */
export const MOST_A_SECOND = 200;

/** The part of a client that is used. */
export interface RecordSource {
  getRecords(request: GetFlowsRequest, signal?: AbortSignal): AsyncIterable<GetRecordsResponse>;
}

/** What a second brought. */
export interface Sample {
  readonly records: readonly FlowRecord[];
  readonly seen: number;
  readonly lost: number;
  readonly past: boolean;
}

/**
 * The last flows, and then a sample each second.
 * @param last of what there is already
 */
export async function* sampleFlows(
  source: RecordSource,
  filters: Filters,
  last: number,
  signal: AbortSignal,
): AsyncGenerator<Sample> {
  const past: FlowRecord[] = [];
  if (last > 0)
    for await (const { record } of source.getRecords({ ...filters, number: last }, signal))
      if (record) past.push(record);
  yield { records: past, seen: past.length, lost: 0, past: true };
  let [records, seen, lost]: [FlowRecord[], number, number] = [[], 0, 0];
  let at = Date.now();
  for await (const { record, lost_events } of source.getRecords({ ...filters, follow: true }, signal)) {
    if (record) {
      seen++;
      if (records.length < MOST_A_SECOND) records.push(record);
    }
    lost += Number(lost_events?.num_events_lost ?? 0);
    if (Date.now() - at < 250) continue;
    yield { records, seen, lost, past: false };
    [records, seen, lost, at] = [[], 0, 0, Date.now()];
  }
}
