/** What a connection says of itself, and the first that a TCP stream says. */
import { type HelloFault, type Hello, readHello } from './hello.js';
import { type HttpFault, HttpStream } from './http.js';
import type { Header, HttpRequest } from './http-head.js';
import { NO_NAME } from './name.js';

/** What a connection says of itself: a TLS or QUIC hello, an HTTP/1 request, or something else. */
export type Said =
  /**
   * `serverName`: lower case; `?` if it is none, such as an address; absent: it names nobody. `hidden`: Encrypted
   * ClientHello that is real (bpf/ech.h): nobody knows whom it names.
   */
  | { readonly kind: 'tls'; readonly serverName?: string; readonly hidden?: true }
  | SaidRequest
  | { readonly kind: 'other' };

export interface SaidRequest {
  readonly kind: 'http';
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** As sent, with its port. */
  readonly host?: string;
  /** Names in lower case, in the order of the request. */
  readonly headers: readonly Header[];
}

export type FirstSaid =
  | { readonly state: 'more' }
  /** `length`: bytes of the stream that it takes; 0 for other protocols. */
  | { readonly state: 'said'; readonly said: Said; readonly length: number }
  | { readonly state: 'denied'; readonly why: HelloFault | HttpFault };

/** What a hello says. */
export function saidInHello({ serverName: name, oddName }: Hello): Said {
  const serverName = name ?? (oddName ? NO_NAME : undefined);
  return serverName === undefined ? { kind: 'tls' } : { kind: 'tls', serverName };
}

/** What a request says. */
export function saidInRequest({ method, path, host, headers }: HttpRequest): Said {
  return { kind: 'http', method, path, ...(host === undefined ? {} : { host }), headers };
}

/** The first that a client says on a TCP connection. @param stream its first bytes */
export function firstSaid(stream: Uint8Array): FirstSaid {
  const hello = readHello(stream);
  if (hello.state === 'more') return hello;
  if (hello.state === 'hello') return { state: 'said', said: saidInHello(hello), length: hello.length };
  if (hello.state === 'malformed') return { state: 'denied', why: hello.why };
  const [event] = new HttpStream().push(stream);
  switch (event?.kind) {
    case 'request':
      return { state: 'said', said: saidInRequest(event.request), length: event.end };
    case 'other':
      return { state: 'said', said: { kind: 'other' }, length: 0 };
    case 'denied':
      return { state: 'denied', why: event.why };
    default:
      return { state: 'more' };
  }
}
