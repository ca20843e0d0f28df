/** Samples of the agent's own flows. */
import type { FlowHub } from '../../flow/hub/hub.js';
import { toOwnRecord } from '../../flow/hubble.js';
import type { Flow } from '../../flow/event/types.js';
import type { RuleRef } from '../../ir/types.js';
import { encode } from '../../proto/load.js';
import type { FlowRecord, HubbleFlow } from '../../proto/messages.js';
import { mostBytes } from './query.js';
import type { SampleLimits, SampleSource } from './streams.js';
import { recordIn, SAMPLE, type SampleRecord } from './wire.js';

/** As for GetFlows: more callers than this are a bug somewhere. */
export const AGENT_LIMITS: SampleLimits = { callers: 128, samples: () => 128 };
/** Flows a second that are made for the filter of one sample, and for those of all. */
const EXAMINED = { each: 20_000, all: 50_000 };
/** Characters of labels from which on a record goes without them, and most bytes of a record. */
const MOST_LABELS = 6 << 10;
const MOST_RECORD = 32 << 10;

/** Samples a hub. @param written the GetFlowsResponse of a flow; undefined: it is encoded here */
export function ownSamples(hub: FlowHub, written: (flow: Flow) => Buffer | undefined): SampleSource {
  let filtered = 0;
  const keep = (flow: Flow) => recordOf(flow, written);
  return {
    start: ({ wants, perSecond }, put, fail) => {
      const isFiltered = wants.passes !== undefined;
      if (isFiltered) filtered++;
      const sampler = hub.sample({
        wants,
        most: perSecond,
        mostBytes: mostBytes(perSecond),
        keep,
        fail,
        put: ({ sampled, ...counts }) => put({ records: sampled, ...counts, unavailable: [] }),
        examine: () => Math.min(EXAMINED.each, EXAMINED.all / filtered),
      });
      return () => {
        if (isFiltered) filtered--;
        sampler.end();
      };
    },
    past: async ({ wants, last }, signal) => {
      const found: { bytes: Buffer; timeNs: bigint }[] = [];
      let room = mostBytes(last);
      const take = (flow: Flow) => {
        const bytes = keep(flow);
        if (!bytes) return true;
        room -= bytes.length;
        if (room >= 0) found.push({ bytes, timeNs: flow.timeNs });
        return room >= 0;
      };
      const next = await hub.latest(wants, last, take, signal);
      // Nearly in order: several processors write events.
      const records = found.reverse().sort((a, b) => Number(a.timeNs - b.timeNs));
      return { records, unavailable: [], has: ({ number = next }: SampleRecord) => number < next };
    },
  };
}

function recordOf(flow: Flow, written: (flow: Flow) => Buffer | undefined): Buffer | undefined {
  if (labelsOf(flow) > MOST_LABELS) return withinLimit(encode(SAMPLE, { records: [withoutLabels(toOwnRecord(flow))] }));
  const response = written(flow);
  return withinLimit(response ? recordIn(response) : encode(SAMPLE, { records: [toOwnRecord(flow)] }));
}

function withinLimit(bytes: Buffer): Buffer | undefined {
  return bytes.length <= MOST_RECORD ? bytes : undefined;
}

const sizes = new WeakMap<object, number>();

function labelsOf({ source, destination, rule, auditRule }: Flow): number {
  const of = (ref: RuleRef | undefined) => sizeOf(ref?.policy.labels);
  return sizeOf(source.labels) + sizeOf(destination.labels) + of(rule) + of(auditRule);
}

/** Characters of labels, computed once for each pod and policy. */
function sizeOf(labels: Readonly<Record<string, string>> | undefined): number {
  if (!labels) return 0;
  let size = sizes.get(labels);
  if (size === undefined) {
    size = 0;
    for (const [name, value] of Object.entries(labels)) size += name.length + value.length;
    sizes.set(labels, size);
  }
  return size;
}

/** Whoever may write labels cannot hide flows by them: the flow is shown without. */
function withoutLabels(record: FlowRecord): FlowRecord {
  const { flow } = record;
  const bare: HubbleFlow = { ...flow };
  for (const side of ['source', 'destination'] as const) if (flow[side]) bare[side] = { ...flow[side], labels: [] };
  for (const field of ['egress_denied_by', 'egress_allowed_by'] as const) {
    const policies = flow[field];
    if (policies) bare[field] = policies.map((policy) => ({ ...policy, labels: [] }));
  }
  return { ...record, flow: bare };
}
