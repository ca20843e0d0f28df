/** What is exported: flows, sums of flows, and notices of what was lost. */
import type { FlowRecord, GetRecordsResponse, Timestamp } from '../../proto/messages.js';

/** A flow, as a reader of the agent or the relay gets it. */
export interface FlowItem {
  readonly kind: 'flow';
  readonly response: GetRecordsResponse & { readonly record: FlowRecord };
  /** It stands for so many flows: 1 unless it was sampled. */
  readonly sample: number;
}

/** Flows that are missing: in the stream (`ring`, `reader`), or because this export was too slow (`export`). */
export interface LostItem {
  readonly kind: 'lost';
  readonly response: GetRecordsResponse;
}

/** One end of a sum. What is unknown is empty. */
export interface SumSide {
  readonly namespace: string;
  readonly workloadKind: string;
  readonly workload: string;
  /** DNS name. */
  readonly name: string;
  /** Only where there is neither workload nor name. */
  readonly ip: string;
}

/** What the flows of one sum have in common. */
export interface SumKey {
  readonly source: SumSide;
  readonly destination: SumSide;
  /** Of the destination; 0: the protocol has none. */
  readonly port: number;
  readonly protocol: string;
  readonly direction: string;
  readonly event: string;
  readonly verdict: string;
  readonly auditVerdict: string;
  readonly reason: string;
  readonly rule: string;
  readonly auditRule: string;
}

/** All flows of one key in one window. */
export interface Sum extends SumKey {
  /** The flows of all keys for which there was no room. Only event and verdict are those of all of them. */
  readonly isOther: boolean;
  first: Timestamp;
  last: Timestamp;
  flows: number;
  packetsOut: number;
  bytesOut: number;
  packetsIn: number;
  bytesIn: number;
  drops: number;
}

export interface SumItem {
  readonly kind: 'sum';
  readonly sum: Sum;
  readonly windowMs: number;
  /** Node of the export, empty for several. */
  readonly node: string;
}

export type Item = FlowItem | LostItem | SumItem;

/** Number of flows that are lost where an item is lost. A notice stands for none: what it tells is counted already. */
export function weightOf(item: Item): number {
  if (item.kind === 'sum') return item.sum.flows;
  return item.kind === 'flow' ? 1 : 0;
}

/** Number of lost flows of which an item tells. */
export function toldBy(item: Item): number {
  return item.kind === 'lost' ? Number(item.response.lost_events?.num_events_lost ?? 0) : 0;
}

/** A notice. @param count number of flows @param source where they were lost, as proto/flow names it */
export function lostItem(
  count: number,
  source: NonNullable<GetRecordsResponse['lost_events']>['source'],
  node: string,
  [first, last]: readonly [Timestamp, Timestamp],
): LostItem {
  const response = {
    lost_events: { source, num_events_lost: count, first, last },
    ...(node === '' ? {} : { node_name: node }),
    time: last,
  };
  return { kind: 'lost', response };
}
