/** Whole flows in the history: the messages as the agents sent them. */
import { decode, encode } from '../proto/load.js';
import { millisOf } from '../edges/wire.js';
import type { GetRecordsResponse } from '../proto/messages.js';
import type { FlowRow } from './base/store.js';

const MESSAGE = 'egress.v1.GetFlowsResponse';

/** The row of a flow; undefined: it is about nodes or losses. */
export function flowRowOf(response: GetRecordsResponse): FlowRow | undefined {
  const { record, time, node_name = '' } = response;
  const ms = millisOf(time);
  if (!record || ms === undefined) return undefined;
  const { source, destination, verdict } = record.flow;
  return {
    ms,
    node: node_name,
    source: source?.namespace ?? '',
    destination: destination?.namespace ?? '',
    verdict: String(verdict ?? ''),
    message: encode(MESSAGE, response),
  };
}

/** The flow of a row. */
export function flowOfRow({ message }: FlowRow): GetRecordsResponse {
  return decode<GetRecordsResponse>(MESSAGE, message);
}
