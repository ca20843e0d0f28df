/** Translates what toPorts says of layer 7: serverNames and rules.http (pkg/policy/api/l4.go, http.go). */
import type { HttpHeader, HttpMatch } from '../../ir/types.js';
import { literal } from '../../regex/literal.js';
import { ciliumServerName } from '../base/names.js';
import { checkRegex, isToken } from '../base/requests.js';
import type { Context } from './context.js';

/** PortRuleHTTP. */
export interface HttpSpec {
  readonly path?: string;
  readonly method?: string;
  readonly host?: string;
  readonly headers?: readonly string[];
  readonly headerMatches?: readonly HeaderSpec[];
}

interface HeaderSpec {
  readonly name: string;
  readonly value?: string;
  readonly secret?: { readonly namespace?: string; readonly name?: string };
  readonly mismatch?: '' | 'LOG' | 'ADD' | 'DELETE' | 'REPLACE';
}

/** What the requests of a rule must be, and which of those that pass are to be told of. */
export interface Requests {
  readonly http: readonly HttpMatch[];
  readonly logged: readonly HttpMatch[];
}

/** The patterns of server names that a hello may have. */
export function serverPatterns(names: readonly string[], path: string, { report }: Context): readonly string[] {
  return [...new Set(names.flatMap((name, i) => ciliumServerName(name, `${path}[${i}]`, report) ?? []))];
}

/** The requests that rules.http means: any of its entries. An empty entry means every request. */
export function readRequests(entries: readonly HttpSpec[], path: string, context: Context): Requests {
  const read = entries.map((entry, i) => readRequest(entry, `${path}[${i}]`, context));
  return { http: read.map(({ match }) => match), logged: read.flatMap(({ logged }) => logged) };
}

function readRequest(spec: HttpSpec, path: string, context: Context): { match: HttpMatch; logged: HttpMatch[] } {
  const field = (name: 'method' | 'path' | 'host') => {
    const text = spec[name];
    // As with an absent field: PortRuleHTTP does not tell them apart.
    if (text === undefined || text === '') return {};
    return checkRegex(text, `${path}.${name}`, context.report) ? { [name]: text } : {};
  };
  const fields = { ...field('method'), ...field('path'), ...field('host') };
  const headers = (spec.headers ?? []).flatMap((text, i) => readHeader(text, `${path}.headers[${i}]`, context) ?? []);
  const logged: HttpHeader[] = [];
  (spec.headerMatches ?? []).forEach((one, i) => {
    const header = readHeaderMatch(one, `${path}.headerMatches[${i}]`, context);
    if (header) (one.mismatch === 'LOG' ? logged : headers).push(header);
  });
  const withHeaders = (more: readonly HttpHeader[]): HttpMatch => {
    const all = [...headers, ...more];
    return { ...fields, ...(all.length > 0 ? { headers: all } : {}) };
  };
  return { match: withHeaders([]), logged: logged.map((header) => withHeaders([{ ...header, not: true }])) };
}

/** `Name`, or `Name: value`. Cilium cuts at the first space (pkg/envoy, getHTTPRule), and takes the rest as it is. */
function readHeader(text: string, field: string, { report }: Context): HttpHeader | undefined {
  const at = text.indexOf(' ');
  const name = (at < 0 ? text : text.slice(0, at)).replace(/:+$/, '');
  if (isToken(name)) return { name: name.toLowerCase(), ...(at < 0 ? {} : { value: literal(text.slice(at + 1)) }) };
  const hint = 'write "Name" if it must be there, or "Name: value"';
  report({ severity: 'error', field, message: `${JSON.stringify(text)} names no header`, hint });
  return undefined;
}

/** An empty value is none: the header must be there. */
function readHeaderMatch(spec: HeaderSpec, path: string, { report }: Context): HttpHeader | undefined {
  const { name, value = '', secret, mismatch = '' } = spec;
  const error = (field: string, message: string, hint: string) =>
    report({ severity: 'error', field: `${path}.${field}`, message, hint });
  if (!isToken(name)) error('name', `${JSON.stringify(name)} names no header`, 'write the name without a colon');
  if (mismatch !== '' && mismatch !== 'LOG')
    error('mismatch', `${mismatch} would change requests, which pass as they are`, 'remove it, or write LOG');
  if (secret !== undefined) {
    if (value === '') error('secret', 'is not read: no request would have its value', 'write the value as value');
    else {
      const message = 'is not read: the value beside it counts, which Cilium takes if there is no such Secret';
      report({ severity: 'warning', field: `${path}.secret`, message, hint: 'remove it' });
    }
  }
  return { name: name.toLowerCase(), ...(value === '' ? {} : { value: literal(value) }) };
}
