/** OTLP over gRPC. The request's bytes are the same as over HTTP. */
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js';
import { WRITE_MS, whyOf } from '../base/sink.js';
import type { OtlpSpec } from '../base/spec.js';
import { VERSION } from '../../version.js';
import { headersOf, tlsOptions } from './files.js';
import type { OtlpAnswer, OtlpTransport } from './otlp.js';

const METHOD = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';
/** Codes after which the same request may be sent again, as the specification has them. */
const RETRYABLE: readonly number[] = [
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.RESOURCE_EXHAUSTED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
];
const MOST_ANSWER = 65_536;

export class OtlpGrpc implements OtlpTransport {
  readonly #spec: OtlpSpec;
  #client: Client | undefined;
  #metadata = new Metadata();

  constructor(spec: OtlpSpec) {
    this.#spec = spec;
  }

  async send(request: Uint8Array, signal: AbortSignal): Promise<OtlpAnswer> {
    try {
      return { kind: 'accepted', body: await this.#call(Buffer.from(request), signal) };
    } catch (e) {
      this.close();
      const { code } = e as ServiceError;
      return { kind: code === undefined || RETRYABLE.includes(code) ? 'again' : 'refused', why: whyOf(e) };
    }
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  #call(request: Buffer, signal: AbortSignal): Promise<Buffer> {
    this.#client ??= this.#connect();
    const client = this.#client;
    const deadline = Date.now() + WRITE_MS;
    return new Promise((resolve, reject) => {
      const same = (bytes: Buffer) => bytes;
      const call = client.makeUnaryRequest(METHOD, same, same, request, this.#metadata, { deadline }, (e, answer) => {
        signal.removeEventListener('abort', cancel);
        if (e) reject(e);
        else resolve(answer ?? Buffer.alloc(0));
      });
      const cancel = () => call.cancel();
      signal.addEventListener('abort', cancel);
      if (signal.aborted) cancel();
    });
  }

  #connect(): Client {
    const { host, port, secure, tls, gzip } = this.#spec;
    const metadata = new Metadata();
    for (const [name, value] of Object.entries(headersOf(this.#spec))) metadata.set(name, value);
    this.#metadata = metadata;
    const { ca = null, key = null, cert = null, servername } = tlsOptions(tls, host);
    const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
    return new Client(address, secure ? credentials.createSsl(ca, key, cert) : credentials.createInsecure(), {
      'grpc.primary_user_agent': `egress-agent/${VERSION}`,
      'grpc.enable_http_proxy': 0,
      'grpc.max_receive_message_length': MOST_ANSWER,
      ...(gzip ? { 'grpc.default_compression_algorithm': 2 } : {}),
      ...(tls.serverName === undefined || servername === undefined
        ? {}
        : { 'grpc.ssl_target_name_override': servername, 'grpc.default_authority': servername }),
    });
  }
}
