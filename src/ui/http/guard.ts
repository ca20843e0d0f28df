/** What is checked of every request before anything else, and the headers of every answer. */
import type { IncomingMessage, ServerResponse } from 'node:http';

/**
 * No script, style or connection but our own; no frame around us. CodeMirror's styles are constructed in a shadow root,
 * which no policy for styles restricts. Trusted Types: the page has no way to make HTML or scripts of text.
 */
const CSP = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "worker-src 'self'",
  "frame-ancestors 'none'",
  "base-uri 'none'",
  "form-action 'none'",
  "require-trusted-types-for 'script'",
  'trusted-types egress-worker',
  'report-uri /api/csp',
].join('; ');

/** Sets the headers of every answer. */
export function secureHeaders(response: ServerResponse): void {
  response.setHeader('Content-Security-Policy', CSP);
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.setHeader('Referrer-Policy', 'no-referrer');
  response.setHeader('Cross-Origin-Opener-Policy', 'same-origin');
  response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
  response.setHeader('Permissions-Policy', 'camera=(), geolocation=(), microphone=()');
  response.setHeader('Cache-Control', 'no-store');
}

/** The names of a server, and how it is reached. */
export interface Names {
  /** Values of Host in lower case: `localhost:4711`; without a port: with any. */
  readonly hosts: ReadonlySet<string>;
  /** Whether it speaks TLS itself. If not, something before it may. */
  readonly tls: boolean;
}

/**
 * Why a request is refused; undefined: it is not. A name that leads to this address by the DNS of somebody else is no
 * name of ours (rebinding), and pages of others may not post here.
 */
export function refusal(request: IncomingMessage, { hosts, tls }: Names): string | undefined {
  const host = request.headers.host?.toLowerCase() ?? '';
  if (!hosts.has(host) && !hosts.has(host.replace(/:\d{1,5}$/, ''))) return 'this is not the name of this server';
  const { origin } = request.headers;
  // A page that came without TLS may be anybody's on the way.
  const isOwn = origin === undefined || origin === `https://${host}` || (!tls && origin === `http://${host}`);
  const site = request.headers['sec-fetch-site'];
  const isRead = request.method === 'GET' || request.method === 'HEAD';
  if (!isRead) {
    if (origin === undefined || !isOwn) return 'requests of other pages are not served';
    if (site !== undefined && site !== 'same-origin') return 'requests of other pages are not served';
  } else if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    // A link on another page may lead here; nothing else of it may.
    const isLink = request.headers['sec-fetch-mode'] === 'navigate' && request.headers['sec-fetch-dest'] === 'document';
    if (!isLink) return 'requests of other pages are not served';
  } else if (!isOwn) return 'requests of other pages are not served';
  return undefined;
}
