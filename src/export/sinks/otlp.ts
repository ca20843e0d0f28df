/** Items as log records of OpenTelemetry. The SDK's own serializer writes them. */
import { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import type { ReadableLogRecord } from '@opentelemetry/sdk-logs';
import type { Timestamp } from '../../proto/messages.js';
import { VERSION } from '../../version.js';
import { type Facts, factsOf, lineOf, MOST_NAME, bounded } from '../base/facts.js';
import { type Fields, flowFields, lostFields, lostLine, sumFields, sumLine } from '../base/fields.js';
import type { FlowItem, Item } from '../base/item.js';
import { again, type Outcome, type Sink, whyOf } from '../base/sink.js';

/** Sends a serialized request. */
export interface OtlpTransport {
  /** @returns the answer's bytes, or why there is none. Never rejects */
  send(request: Uint8Array, signal: AbortSignal): Promise<OtlpAnswer>;
  close(): void;
}

export type OtlpAnswer =
  | { readonly kind: 'accepted'; readonly body: Uint8Array }
  | { readonly kind: 'refused'; readonly why: string }
  | { readonly kind: 'again'; readonly why: string; readonly afterMs?: number };

/** Records of a request, which then has about half a megabyte: collectors take 4 MiB, and more only if they are told. */
const BATCH = 512;
const BATCH_BYTES = 2 << 20;
const LINGER_MS = 1000;
/** Nodes whose Resource is kept. */
const NODES = 8192;
/** Times are 64-bit numbers of nanoseconds. */
const LATEST_S = 2 ** 33;
/** What a record takes beyond its text. */
const RECORD_BYTES = 512;

/** SeverityNumber of the logs data model; its appendix B maps syslog's Notice to INFO2. */
const SEVERITIES = { WARN: 13, NOTICE: 10, INFO: 9 } as const;
type Severity = keyof typeof SEVERITIES;

const SCOPE = { name: 'egress-agent', version: VERSION };
/** The attributes of semantic conventions for the workload of a pod, by its kind. */
const WORKLOADS: Readonly<Record<string, string>> = {
  Deployment: 'k8s.deployment.name',
  StatefulSet: 'k8s.statefulset.name',
  DaemonSet: 'k8s.daemonset.name',
  Job: 'k8s.job.name',
  CronJob: 'k8s.cronjob.name',
  ReplicaSet: 'k8s.replicaset.name',
};

export class OtlpSink implements Sink<ReadableLogRecord> {
  readonly most = BATCH;
  readonly mostBytes = BATCH_BYTES;
  readonly lingerMs = LINGER_MS;
  readonly #transport: OtlpTransport;
  readonly #resources = new Map<string, Resource>();

  constructor(transport: OtlpTransport) {
    this.#transport = transport;
  }

  encode(item: Item): ReadableLogRecord {
    switch (item.kind) {
      case 'flow':
        return this.#flow(item);
      case 'lost':
        return this.#record('egress.lost', 'WARN', lostLine(item), item.response, lostFields(item));
      case 'sum': {
        const { sum, node } = item;
        const severity = severityOf(sum.verdict, sum.auditVerdict);
        return this.#record(
          'egress.flows',
          severity,
          sumLine(item),
          { node_name: node, time: sum.last },
          sumFields(item),
        );
      }
    }
  }

  sizeOf({ attributes, body }: ReadableLogRecord): number {
    let size = RECORD_BYTES + 2 * String(body).length;
    for (const value of Object.values(attributes)) {
      if (typeof value === 'string') size += 2 * value.length;
      else if (Array.isArray(value)) for (const text of value) size += 2 * String(text).length;
    }
    return size;
  }

  async write(batch: readonly ReadableLogRecord[], signal: AbortSignal): Promise<Outcome> {
    let request: Uint8Array | undefined;
    try {
      request = ProtobufLogsSerializer.serializeRequest([...batch]);
    } catch (e) {
      // To try again would not help, and would hold what comes behind it.
      return { done: true, refused: batch.length, why: whyOf(e) };
    }
    if (!request) return { done: true, refused: batch.length, why: 'the request cannot be written' };
    const answer = await this.#transport.send(request, signal);
    if (answer.kind === 'again')
      return { ...again(answer.why), ...(answer.afterMs ? { afterMs: answer.afterMs } : {}) };
    if (answer.kind === 'refused') return { done: true, refused: batch.length, why: answer.why };
    return { done: true, ...rejected(answer.body) };
  }

  close(): void {
    this.#transport.close();
  }

  #flow(item: FlowItem): ReadableLogRecord {
    const { record } = item.response;
    const facts = factsOf(record);
    const severity = severityOf(record.verdict, record.audit_verdict);
    const fields = [...flowFields(item, facts), ...podFields(facts)];
    return this.#record('egress.flow', severity, lineOf(record, facts), item.response, fields);
  }

  #record(
    eventName: string,
    severityText: Severity,
    body: string,
    { node_name = '', time }: { node_name?: string; time?: Timestamp },
    fields: Fields,
  ): ReadableLogRecord {
    const seconds = Number(time?.seconds ?? 0);
    if (!(seconds >= 0 && seconds < LATEST_S)) throw new RangeError('its time is none of this century');
    return {
      hrTime: [seconds, time?.nanos ?? 0],
      hrTimeObserved: [Math.floor(Date.now() / 1000), (Date.now() % 1000) * 1e6],
      severityNumber: SEVERITIES[severityText],
      severityText,
      eventName,
      body,
      attributes: Object.fromEntries(fields) as ReadableLogRecord['attributes'],
      resource: this.#resource(node_name),
      instrumentationScope: SCOPE,
      droppedAttributesCount: 0,
    };
  }

  /** Records of one Resource are sent together, so there is one for each node. */
  #resource(node: string): Resource {
    let resource = this.#resources.get(node);
    if (resource) return resource;
    if (this.#resources.size >= NODES) this.#resources.clear();
    resource = resourceFromAttributes({
      'service.name': 'egress-agent',
      'service.version': VERSION,
      ...(node === '' ? {} : { 'k8s.node.name': bounded(node, MOST_NAME) }),
    });
    this.#resources.set(node, resource);
    return resource;
  }
}

function severityOf(verdict: string, auditVerdict: string | undefined): Severity {
  if (verdict === 'deny') return 'WARN';
  return auditVerdict === 'deny' ? 'NOTICE' : 'INFO';
}

/** The pod that the record is about, by the names of semantic conventions: who opened it, or to whom it was opened. */
function podFields({ source, destination, direction }: Facts): Fields {
  const { namespace, pod, workload, workloadKind } = direction === 'ingress' ? destination : source;
  const kind = WORKLOADS[workloadKind];
  return [
    ...(namespace === '' ? [] : ([['k8s.namespace.name', namespace]] as Fields)),
    ...(pod === '' ? [] : ([['k8s.pod.name', pod]] as Fields)),
    ...(kind === undefined || workload === '' ? [] : ([[kind, workload]] as Fields)),
  ];
}

/** What an answer says of records that were not taken. */
function rejected(body: Uint8Array): { refused: number; why?: string } {
  if (body.length === 0) return { refused: 0 };
  try {
    const { partialSuccess } = ProtobufLogsSerializer.deserializeResponse(body);
    const refused = Number(partialSuccess?.rejectedLogRecords ?? 0);
    const why = partialSuccess?.errorMessage;
    return Number.isSafeInteger(refused) && refused > 0
      ? { refused, ...(why ? { why: whyOf({ message: why }) } : {}) }
      : { refused: 0 };
  } catch {
    // Whoever answers 200 with something else has taken it, as far as can be known.
    return { refused: 0 };
  }
}
