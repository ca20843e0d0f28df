/** OTLP over HTTP/1.1 (http/protobuf). */
import {
  type Agent,
  type ClientRequest,
  Agent as HttpAgent,
  type IncomingMessage,
  request as httpRequest,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { WRITE_MS, whyOf } from '../base/sink.js';
import type { OtlpSpec } from '../base/spec.js';
import { VERSION } from '../../version.js';
import { headersOf, tlsOptions } from './files.js';
import type { OtlpAnswer, OtlpTransport } from './otlp.js';

const compressed = promisify(gzip);
/** Answers are longer only if something else than a collector gives them. */
const MOST_ANSWER = 65_536;
/** Codes after which the same request may be sent again, as the specification has them. */
const RETRYABLE = [429, 502, 503, 504];
const LONGEST_RETRY_AFTER_S = 300;

export class OtlpHttp implements OtlpTransport {
  readonly #spec: OtlpSpec;
  #agent: Agent | undefined;
  #headers: Record<string, string> | undefined;

  constructor(spec: OtlpSpec) {
    this.#spec = spec;
  }

  async send(body: Uint8Array, signal: AbortSignal): Promise<OtlpAnswer> {
    try {
      const { gzip: isCompressed } = this.#spec;
      const bytes = isCompressed ? await compressed(body) : Buffer.from(body.buffer, body.byteOffset, body.length);
      const answer = await this.#post(bytes, signal);
      if (answer.kind !== 'accepted') this.#forget();
      return answer;
    } catch (e) {
      this.#forget();
      return { kind: 'again', why: whyOf(e) };
    }
  }

  close(): void {
    this.#forget();
  }

  /** Files with certificates and headers may have changed: they are read again with the next connection. */
  #forget(): void {
    this.#agent?.destroy();
    this.#agent = undefined;
    this.#headers = undefined;
  }

  #post(body: Buffer, signal: AbortSignal): Promise<OtlpAnswer> {
    const { secure, host, port, path, tls, gzip: isCompressed } = this.#spec;
    this.#headers ??= headersOf(this.#spec);
    this.#agent ??= secure
      ? new HttpsAgent({ keepAlive: true, maxSockets: 1, ...tlsOptions(tls, host) })
      : new HttpAgent({ keepAlive: true, maxSockets: 1 });
    const headers = {
      'user-agent': `egress-agent/${VERSION}`,
      ...this.#headers,
      'content-type': 'application/x-protobuf',
      'content-length': body.length,
      ...(isCompressed ? { 'content-encoding': 'gzip' } : {}),
    };
    return new Promise((resolve, reject) => {
      // A deadline for the whole: one that sends a byte now and then must not hold the export.
      const late = setTimeout(() => request.destroy(new Error(`no answer within ${WRITE_MS / 1000} s`)), WRITE_MS);
      const options = { method: 'POST', host, port, path, headers, agent: this.#agent as Agent, signal };
      const request: ClientRequest = (secure ? httpsRequest : httpRequest)(options, (response) => {
        read(response)
          .then(resolve, reject)
          .finally(() => clearTimeout(late));
      });
      request.on('error', (e) => {
        clearTimeout(late);
        reject(e);
      });
      request.end(body);
    });
  }
}

async function read(response: IncomingMessage): Promise<OtlpAnswer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > MOST_ANSWER) {
      response.destroy();
      break;
    }
    chunks.push(chunk as Buffer);
  }
  const { statusCode = 0, statusMessage = '' } = response;
  const body = Buffer.concat(chunks);
  if (statusCode >= 200 && statusCode < 300) return { kind: 'accepted', body };
  const why = whyOf({ message: `HTTP ${statusCode} ${statusMessage}`.trim() });
  if (!RETRYABLE.includes(statusCode)) return { kind: 'refused', why };
  const seconds = Number(response.headers['retry-after']);
  return seconds > 0
    ? { kind: 'again', why, afterMs: 1000 * Math.min(seconds, LONGEST_RETRY_AFTER_S) }
    : { kind: 'again', why };
}
