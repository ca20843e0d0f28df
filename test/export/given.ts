/** Flows, streams of flows, and a receiver of OTLP for the tests of exports. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';
import protobuf from 'protobufjs';
import { timestamp, toRecord } from '../../src/flow/hubble.js';
import type { Flow, FlowEvent } from '../../src/flow/event/types.js';
import { type Logger, makeLogger } from '../../src/log.js';
import type { FlowRecord, GetFlowsRequest, GetRecordsResponse } from '../../src/proto/messages.js';
import { parseExports, type ExportSpec } from '../../src/export/base/spec.js';
import { flow } from '../flow/flows.js';

export type FlowResponse = GetRecordsResponse & { record: FlowRecord };

/** A flow as a reader gets it. */
export function response(over: Partial<Flow> = {}, event: Partial<FlowEvent> = {}): FlowResponse {
  const made = flow(over, event);
  return { record: toRecord(made), node_name: made.nodeName, time: timestamp(made.timeNs) };
}

export async function spec(url: string): Promise<ExportSpec> {
  return (await parseExports([url]))[0] as ExportSpec;
}

/** A stream into which the test puts what is read. */
export class Stream {
  readonly requests: GetFlowsRequest[] = [];
  readonly #waiting: GetRecordsResponse[] = [];
  #wake: () => void = () => {};

  put(...items: GetRecordsResponse[]): void {
    this.#waiting.push(...items);
    this.#wake();
  }

  get isRead(): boolean {
    return this.#waiting.length === 0;
  }

  readonly source = async function* (
    this: Stream,
    request: GetFlowsRequest,
    signal: AbortSignal,
  ): AsyncGenerator<GetRecordsResponse> {
    this.requests.push(request);
    while (!signal.aborted) {
      const next = this.#waiting.shift();
      if (next) yield next;
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
          signal.addEventListener('abort', () => resolve());
        });
    }
  }.bind(this);
}

/** A log that the test can look at. */
export function memoryLog(): { log: Logger; lines: string[] } {
  const lines: string[] = [];
  return { log: makeLogger('debug', (line) => lines.push(line)), lines };
}

/** Waits until it is so. */
export async function until(what: string, test: () => boolean | Promise<boolean>, ms = 15_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await test())) {
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const PROTO = `syntax = "proto3";
message ExportLogsServiceRequest { repeated ResourceLogs resource_logs = 1; }
message ExportLogsServiceResponse { PartialSuccess partial_success = 1; }
message PartialSuccess { int64 rejected_log_records = 1; string error_message = 2; }
message ResourceLogs { Resource resource = 1; repeated ScopeLogs scope_logs = 2; string schema_url = 3; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeLogs { Scope scope = 1; repeated LogRecord log_records = 2; string schema_url = 3; }
message Scope { string name = 1; string version = 2; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4;
  ArrayValue array_value = 5; KeyValueList kvlist_value = 6; bytes bytes_value = 7; } }
message ArrayValue { repeated AnyValue values = 1; }
message KeyValueList { repeated KeyValue values = 1; }
message LogRecord { fixed64 time_unix_nano = 1; int32 severity_number = 2; string severity_text = 3; AnyValue body = 5;
  repeated KeyValue attributes = 6; uint32 dropped_attributes_count = 7; fixed32 flags = 8; bytes trace_id = 9; bytes span_id = 10;
  fixed64 observed_time_unix_nano = 11; string event_name = 12; }
`;
const { root } = protobuf.parse(PROTO);
const Request = root.lookupType('ExportLogsServiceRequest');
const Response = root.lookupType('ExportLogsServiceResponse');

interface KeyValue {
  key: string;
  value: Record<string, unknown>;
}

/** A log record as the receiver has understood it. */
export interface Received {
  resource: Record<string, unknown>;
  scope: { name: string; version: string };
  timeNs: bigint;
  severity: number;
  severityText: string;
  body: string;
  event: string;
  attributes: Record<string, unknown>;
}

/** Reads a request, by the published field numbers. */
export function readRequest(bytes: Uint8Array): Received[] {
  const request = Request.toObject(Request.decode(bytes), { longs: String, defaults: true }) as {
    resourceLogs: {
      resource: { attributes: KeyValue[] };
      scopeLogs: { scope: Received['scope']; logRecords: Record<string, never>[] }[];
    }[];
  };
  return request.resourceLogs.flatMap(({ resource, scopeLogs }) =>
    scopeLogs.flatMap(({ scope, logRecords }) =>
      logRecords.map((r) => ({
        resource: valuesOf(resource.attributes),
        scope,
        timeNs: BigInt(r.timeUnixNano as unknown as string),
        severity: r.severityNumber as unknown as number,
        severityText: r.severityText as unknown as string,
        body: readValue(r.body as unknown as KeyValue['value']) as string,
        event: r.eventName as unknown as string,
        attributes: valuesOf(r.attributes as unknown as KeyValue[]),
      })),
    ),
  );
}

/** An answer of a collector that has refused some. */
export function partial(rejectedLogRecords: number, errorMessage: string): Buffer {
  return Buffer.from(Response.encode({ partialSuccess: { rejectedLogRecords, errorMessage } }).finish());
}

function valuesOf(pairs: readonly KeyValue[]): Record<string, unknown> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, readValue(value)]));
}

function readValue(value: Record<string, unknown>): unknown {
  if (value.stringValue !== undefined) return value.stringValue;
  if (value.boolValue !== undefined) return value.boolValue;
  if (value.intValue !== undefined) return Number(value.intValue);
  if (value.doubleValue !== undefined) return value.doubleValue;
  const { values } = value.arrayValue as { values: Record<string, unknown>[] };
  return values.map(readValue);
}

/** What the receiver answers; undefined: nothing, ever. */
export type Answer = { status?: number; body?: Buffer; headers?: Record<string, string> } | undefined;

/** A receiver of OTLP over HTTP. */
export class Receiver {
  readonly records: Received[] = [];
  readonly headers: IncomingMessage['headers'][] = [];
  readonly urls: string[] = [];
  answer: (records: readonly Received[]) => Answer = () => ({});
  readonly #server;
  readonly #sockets = new Set<import('node:net').Socket>();

  private constructor(tls: { cert: Buffer; key: Buffer; ca?: Buffer; requestCert?: boolean } | undefined) {
    const handle = (request: IncomingMessage, response: ServerResponse) => void this.#handle(request, response);
    this.#server = tls ? createTlsServer({ ...tls, rejectUnauthorized: true }, handle) : createServer(handle);
    this.#server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(
    port = 0,
    tls?: { cert: Buffer; key: Buffer; ca?: Buffer; requestCert?: boolean },
  ): Promise<Receiver> {
    const receiver = new Receiver(tls);
    await new Promise<void>((resolve) => receiver.#server.listen(port, '127.0.0.1', resolve));
    return receiver;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const bytes = Buffer.concat(chunks);
    const records = readRequest(request.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes);
    this.headers.push(request.headers);
    this.urls.push(`${request.method} ${request.url}`);
    const answer = this.answer(records);
    if (!answer) return;
    const { status = 200, body = Buffer.alloc(0), headers = {} } = answer;
    if (status === 200) this.records.push(...records);
    response.writeHead(status, { 'content-type': 'application/x-protobuf', ...headers }).end(body);
  }
}
