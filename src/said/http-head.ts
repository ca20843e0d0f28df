/**
 * Heads of HTTP/1.0 and 1.1 requests, read strictly (RFC 9112, 2 to 6). What two servers could read in two ways is
 * refused, each with its own reason.
 */
import { isCanonicalPath } from './http-path.js';
import { isHost } from './name.js';

/** Bytes of a head, from the request line to the empty line that ends it. */
export const MAX_HEAD = 8 << 10;
/** The longest registered method has 18. */
export const MAX_METHOD = 32;

export type HeadFault =
  | 'head-too-large'
  | 'bare-lf'
  | 'bare-cr'
  | 'invalid-byte' // a control character, or a name that is no token
  | 'request-line' // not exactly "method SP target SP version CRLF"; white space or empty lines before it
  | 'version' // other than HTTP/1.0 and HTTP/1.1
  | 'target' // of a form that is none, or not this method's
  | 'path' // not canonical
  | 'obs-fold'
  | 'space-before-colon'
  | 'no-host' // in HTTP/1.1
  | 'two-hosts'
  | 'host' // no host, or another than that of the target
  | 'content-length' // several, or none that all read in the same way
  | 'transfer-encoding' // other than exactly `chunked`, or in HTTP/1.0
  | 'length-and-encoding'
  | 'connect'; // CONNECT with a body or an Upgrade

export type Header = readonly [name: string, value: string];

/** A request as rules see it. Texts have one byte a character. */
export interface HttpRequest {
  readonly method: string;
  /** As it was sent. */
  readonly target: string;
  readonly version: '1.0' | '1.1';
  /** Path and query; `*` for OPTIONS of the whole server; empty for CONNECT. */
  readonly path: string;
  /** Host and port as they were sent: of the target, if it has one, or of the Host header. */
  readonly host?: string;
  /** In their order, names in lower case, values without white space around them. */
  readonly headers: readonly Header[];
}

/** How the request goes on behind its head. */
export interface Framing {
  readonly body: { readonly kind: 'none' } | { readonly kind: 'length'; readonly length: number } | { kind: 'chunked' };
  /** Nothing may follow the request before the server's answer, which may switch to another protocol. */
  readonly awaits?: '101' | '2xx';
}

export interface RequestLine {
  readonly method: string;
  readonly target: string;
  readonly version: '1.0' | '1.1';
  readonly path: string;
  /** Host and port, in absolute-form and authority-form. */
  readonly authority?: string;
}

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** 15 digits are exact in every language. A sign, or zeros in front, are read in two ways. */
const LENGTH = /^(?:0|[1-9][0-9]{0,14})$/;

/** Whether a byte may stand in a token, of which methods and names of headers are made. */
export function isTokenByte(byte: number): boolean {
  return TOKEN.test(String.fromCharCode(byte));
}

/** Reads a request line. @param line without the LF that ends it */
export function readRequestLine(line: string): RequestLine | HeadFault {
  if (!line.endsWith('\r')) return 'bare-lf';
  const [method = '', target = '', protocol = '', ...rest] = line.slice(0, -1).split(' ');
  if (!TOKEN.test(method) || method.length > MAX_METHOD || target === '' || rest.length > 0) return 'request-line';
  if (/[\x00-\x1f\x7f]/.test(line.slice(0, -1))) return 'request-line';
  if (!/^HTTP\//i.test(protocol)) return 'request-line';
  if (protocol !== 'HTTP/1.0' && protocol !== 'HTTP/1.1') return 'version';
  const read = readTarget(method, target);
  return typeof read === 'string'
    ? read
    : { method, target, version: protocol === 'HTTP/1.0' ? '1.0' : '1.1', ...read };
}

function readTarget(method: string, target: string): { path: string; authority?: string } | HeadFault {
  if (method === 'CONNECT')
    return isHost(target) && /:[0-9]+$/.test(target) ? { path: '', authority: target } : 'target';
  if (target === '*') return method === 'OPTIONS' ? { path: '*' } : 'target';
  if (target.startsWith('/')) return isCanonicalPath(target) ? { path: target } : 'path';
  const absolute = /^http:\/\/([^/?]+)(.*)$/.exec(target);
  if (!absolute || !isHost(absolute[1]!)) return 'target';
  const [, authority, rest = ''] = absolute;
  const path = rest.startsWith('/') ? rest : `/${rest}`;
  return isCanonicalPath(path) ? { path, authority } : 'path';
}

/** Reads a line of the header. @param line without CRLF, not empty; its bytes are no control characters but tabs */
export function readHeaderLine(line: string): Header | HeadFault {
  if (/^[ \t]/.test(line)) return 'obs-fold';
  const colon = line.indexOf(':');
  const name = colon < 0 ? line : line.slice(0, colon);
  if (colon > 0 && TOKEN.test(name.replace(/[ \t]+$/, '')) && !TOKEN.test(name)) return 'space-before-colon';
  if (colon < 0 || !TOKEN.test(name)) return 'invalid-byte';
  return [name.toLowerCase(), line.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, '')];
}

/** What the lines of a head say together. */
export function readHead(
  line: RequestLine,
  headers: readonly Header[],
): { readonly request: HttpRequest; readonly framing: Framing } | HeadFault {
  const values = (name: string) => headers.filter(([n]) => n === name).map(([, value]) => value);
  const host = hostOf(line, values('host'));
  if (typeof host === 'string') return host;
  const framing = framingOf(line, values);
  if (typeof framing === 'string') return framing;
  const { method, target, version, path } = line;
  return { request: { method, target, version, path, ...host, headers }, framing };
}

/**
 * The authority of the target is what counts (RFC 9112, 3.2.2), and clients must repeat it in Host. Servers that look
 * at Host alone would take another one for the name: so they must be the same. To CONNECT many give no port in Host.
 */
function hostOf({ method, version, authority }: RequestLine, hosts: readonly string[]): { host?: string } | HeadFault {
  if (hosts.length > 1) return 'two-hosts';
  const [host] = hosts;
  if (host === undefined) {
    if (version === '1.1') return 'no-host';
    return authority === undefined ? {} : { host: authority };
  }
  if (!isHost(host)) return 'host';
  if (authority === undefined) return { host };
  const same = [authority, ...(method === 'CONNECT' ? [authority.replace(/:[0-9]+$/, '')] : [])];
  return same.some((text) => text.toLowerCase() === host.toLowerCase()) ? { host: authority } : 'host';
}

/** In Upgrade: protocols whose requests nobody would judge. Nothing passes in them: what follows is read as HTTP/1. */
const CARRIES_REQUESTS = /h2c|htt|tls/i;

function framingOf({ method, version }: RequestLine, values: (name: string) => string[]): Framing | HeadFault {
  const lengths = values('content-length');
  const encodings = values('transfer-encoding');
  if (lengths.length > 0 && encodings.length > 0) return 'length-and-encoding';
  if (lengths.length > 1 || (lengths.length === 1 && !LENGTH.test(lengths[0]!))) return 'content-length';
  if (encodings.length > 0 && (encodings.length > 1 || encodings[0] !== 'chunked' || version === '1.0'))
    return 'transfer-encoding';
  const length = Number(lengths[0] ?? 0);
  const protocols = values('upgrade');
  if (method === 'CONNECT' && (protocols.length > 0 || encodings.length > 0 || length > 0)) return 'connect';
  const body: Framing['body'] =
    encodings.length > 0 ? { kind: 'chunked' } : length > 0 ? { kind: 'length', length } : { kind: 'none' };
  if (method === 'CONNECT') return { body, awaits: '2xx' };
  const upgrades = protocols.length > 0 && !protocols.some((text) => CARRIES_REQUESTS.test(text));
  return upgrades ? { body, awaits: '101' } : { body };
}
