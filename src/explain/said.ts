/** What connections say, and what rules ask of it, in plain English. */
import { describePatterns } from '../names/describe.js';
import type { Said } from '../ir/packet.js';
import { type Heard, heardBy, saidMatches } from '../ir/said.js';
import type { HttpHeader, HttpMatch, Rule } from '../ir/types.js';

/** Describes what a connection says: `TLS or QUIC for api.example.com`, `the request GET http://api.example.com/v1`. */
export function describeSaid(said: Said): string {
  switch (said.kind) {
    case 'tls':
      if (said.hidden) return 'TLS or QUIC whose server name is encrypted';
      return said.serverName === undefined ? 'TLS or QUIC without a server name' : `TLS or QUIC for ${said.serverName}`;
    case 'http': {
      const { method, host, path } = said;
      if (method === 'CONNECT') return `the request CONNECT ${host ?? ''}`;
      return `the request ${method} ${host === undefined ? path : `http://${host}${path}`}`;
    }
    case 'other':
      return 'neither TLS, QUIC nor HTTP/1';
    default:
      return said satisfies never;
  }
}

/** Entries that a description lists. */
const LISTED = 8;

/** Describes HTTP entries: `GET /v1/.* of api\.example\.com with x-team: shop, or any request`. */
export function describeHttp(http: readonly HttpMatch[]): string {
  const more = http.length > LISTED ? `, or ${http.length - LISTED} more` : '';
  return http.length === 0 ? 'none' : `${http.slice(0, LISTED).map(describeMatch).join(', or ')}${more}`;
}

function describeMatch({ method, path, host, headers = [] }: HttpMatch): string {
  const parts = [
    ...(method === undefined && path === undefined
      ? ['any request']
      : [method ?? 'any method', ...(path === undefined ? [] : [path])]),
    ...(host === undefined ? [] : [`of ${host}`]),
    ...headers.map(describeHeader),
  ];
  return parts.join(' ');
}

function describeHeader({ name, value, not }: HttpHeader): string {
  return `${not ? 'without' : 'with'} ${name}${value === undefined ? '' : `: ${value}`}`;
}

/** Where no rule's match would change the verdict. */
const UNHEARD = ', but what it says decides nothing here: it is not read';

/** Why a rule with `serverNames` or `http` matches what is said, or does not: the end of a sentence about the rule. */
export function whySaid(rule: Rule, all: Heard | undefined, protocol: number): string {
  if (all === undefined) return UNHEARD;
  const heard = heardBy(rule, all, protocol);
  if (heard === 'nothing' && typeof all === 'object' && all.kind === 'tls' && all.hidden && rule.quic !== 'reject')
    return `, but it is ${describeSaid(all)}`;
  if (heard === 'nothing')
    return typeof all === 'object' ? ', but it is QUIC, which is refused here' : ', but nothing is said yet';
  if (heard === 'met') return '; what it says comes later, and is judged then';
  const met = saidMatches(rule, heard);
  return `${met ? ' and' : ', but'} it is ${describeSaid(heard)}${met ? '' : `, not ${describeAsked(rule)}`}`;
}

/** What a rule asks a connection to say. */
export function describeAsked({ serverNames, http, quic }: Pick<Rule, 'serverNames' | 'http' | 'quic'>): string {
  const hello = quic === 'reject' ? 'TLS' : 'TLS or QUIC';
  const names = serverNames === undefined ? [] : [`${hello} for ${describePatterns(serverNames)}`];
  return [...names, ...(http === undefined ? [] : [`an HTTP request: ${describeHttp(http)}`])].join(', or ');
}

/** Why an address that was learned for a peer's names is not meant: the connection does not ask for one of them. */
export function whyUnverified(rule: Rule, all: Heard | undefined, protocol: number): string {
  if (all === undefined) return UNHEARD;
  const heard = heardBy(rule, all, protocol);
  if (heard === 'nothing' || heard === 'met') return ', but nothing is said yet';
  return `, but it is ${describeSaid(heard)}: it must ask for one of these names`;
}
