/** The flows of an agent's own hub, as its readers over gRPC get them. */
import type { FlowHub } from '../flow/hub/hub.js';
import { timestamp, toOwnRecord } from '../flow/hubble.js';
import type { GetRecordsResponse } from '../proto/messages.js';
import { lostMessage } from '../rpc/observer.js';
import type { FlowSource } from './exporter.js';

export function hubSource(hub: FlowHub): FlowSource {
  const node_name = hub.nodeName;
  return async function* (request, signal): AsyncGenerator<GetRecordsResponse> {
    for await (const item of hub.read(request, signal)) {
      if ('flow' in item) {
        const { flow } = item;
        // Not kept with the flow: the hub holds thousands of them.
        yield { record: toOwnRecord(flow), node_name, time: timestamp(flow.timeNs) };
      } else {
        const { lost } = item;
        const whose = lost.pod === undefined ? {} : { lost_pod: lost.pod };
        yield { lost_events: lostMessage(item), ...whose, node_name, time: timestamp(lost.lastNs) };
      }
    }
  };
}
