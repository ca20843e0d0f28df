/**
 * What a connection says of itself, as users write it:
 *
 *   sni api.example.com                 a TLS or QUIC hello; `sni -` names no server
 *   http GET http://example.com/a?b     a request; without a host: `http GET /a`
 *   http GET http://example.com/ with X-Team: shop; Accept: text/html
 *   says other                          neither
 *   says ech                            a hello whose server name is encrypted
 */
import type { Said } from '../../src/ir/packet.js';
import { canonicalName } from '../../src/names/pattern.js';

const REQUEST = /^http (\S+) (?:http:\/\/([^\s/?#]+))?(\/\S*)?(?: with (.+))?$/;
const HEADER = /^([^\s:]+): ?(.*)$/;

/** undefined: it cannot be read. */
export function readSaid(text: string): Said | undefined {
  if (text === 'says other') return { kind: 'other' };
  if (text === 'says ech') return { kind: 'tls', hidden: true };
  const [, name] = /^sni (\S+)$/.exec(text) ?? [];
  if (name !== undefined) return name === '-' ? { kind: 'tls' } : { kind: 'tls', serverName: canonicalName(name) };
  const [, method, host, path, rest] = REQUEST.exec(text) ?? [];
  if (method === undefined || (host === undefined && path === undefined)) return undefined;
  const headers: [string, string][] = host === undefined ? [] : [['host', host]];
  for (const one of rest?.split('; ') ?? []) {
    const [, header, value] = HEADER.exec(one) ?? [];
    if (header === undefined || value === undefined) return undefined;
    headers.push([header.toLowerCase(), value]);
  }
  return { kind: 'http', method, path: path ?? '/', ...(host === undefined ? {} : { host }), headers };
}
