/** What a connection is to say, as users write it: a server name, or a request such as `GET http://host/path`. */
import { AgentError } from '../errors.js';
import { HttpStream } from './http.js';
import { saidName } from './name.js';
import { type Said, saidInRequest } from './said.js';

/** A request in parts. The host stands with its port, the path with its query. */
export interface GivenRequest {
  readonly method: string;
  /** Empty: the request names none, as HTTP/1.0 may. */
  readonly host: string;
  /** Empty: that of CONNECT, which has none; otherwise `/`. */
  readonly path: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** The text for a hello that names no server. */
export const NO_NAME = '-';

/** @param name of the server; NO_NAME or empty: the hello names none @throws AgentError USAGE */
export function helloSaying(name: string): Said {
  if (name === NO_NAME || name === '') return { kind: 'tls' };
  const serverName = saidName(name);
  if (serverName === undefined)
    throw new AgentError('USAGE', `${name} is no server name`, {
      hint: `an address, and a name with a final dot, count as none: write ${NO_NAME}`,
    });
  return { kind: 'tls', serverName };
}

/**
 * The request of such a text, read as strictly as those of connections are.
 * @param text `GET http://host:port/path?query`, `GET /path` without a host, `CONNECT host:port`
 * @param headers `Name: value`
 * @throws AgentError USAGE
 */
export function requestSaying(text: string, headers: readonly string[] = []): Said {
  const [, method = '', target = ''] = /^(\S+) +(\S+)$/.exec(text.trim()) ?? [];
  const fail = (why: string, hint: string) => new AgentError('USAGE', `${text}: ${why}`, { hint });
  const [, scheme, authority = '', rest = ''] = /^([A-Za-z]+):\/\/([^/?]*)(.*)$/.exec(target) ?? [];
  if (target === '') throw fail('no request', 'for example GET http://api.example.com/v1?q=1');
  if (scheme !== undefined && scheme.toLowerCase() !== 'http')
    throw fail(`${scheme} is not http`, 'what TLS hides is not judged: its server name is');
  if (scheme !== undefined && authority === '')
    throw fail('names no host', 'write GET /path for a request without one');
  const parts = { method, headers: headers.map(readHeader) };
  if (method === 'CONNECT') return requestOf({ ...parts, host: target, path: '' });
  if (scheme === undefined) return requestOf({ ...parts, host: '', path: target });
  return requestOf({ ...parts, host: authority, path: rest.startsWith('/') ? rest : `/${rest}` });
}

/** The same of its parts. @throws AgentError USAGE if such a request would be denied because it is ambiguous */
export function requestOf({ method, host, path, headers }: GivenRequest): Said {
  const target = method === 'CONNECT' ? host : path || '/';
  const hosts = host === '' ? [] : [`Host: ${host}`];
  const lines = [
    `${method} ${target} HTTP/1.${host === '' ? 0 : 1}`,
    ...hosts,
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  const shown = `${method} ${host === '' || method === 'CONNECT' ? target : `http://${host}${target}`}`;
  if (lines.some((line) => /[^\t -~]/.test(line)))
    throw new AgentError('USAGE', `${shown}: only printable ASCII can be judged here`);
  const [event] = new HttpStream().push(Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'));
  if (event?.kind === 'request') return saidInRequest(event.request);
  throw new AgentError(
    'USAGE',
    `${shown}: ${event?.kind === 'denied' ? `ambiguous (${event.why})` : 'no HTTP/1 request'}`,
    {
      hint: 'where requests decide, such a one is denied as unreadable-request',
    },
  );
}

function readHeader(text: string): readonly [string, string] {
  const [, name, value = ''] = /^([^\s:]+):\s*(.*)$/.exec(text) ?? [];
  if (name === undefined) throw new AgentError('USAGE', `${text} is no header`, { hint: 'for example X-Team: shop' });
  return [name, value.trim()];
}
