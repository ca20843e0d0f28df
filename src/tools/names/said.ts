/** Kinds of what connections say, as rules tell them apart. */
import type { Said, SaidRequest } from '../../ir/packet.js';
import { asksForSaid } from '../../ir/said.js';
import type { HttpMatch, Rule } from '../../ir/types.js';
import { distinctNames } from '../../names/samples.js';
import { combine } from '../../regex/combine.js';
import { faultOf, tableOf } from '../../regex/match.js';
import { witnesses } from '../../regex/samples.js';
import { namesIn } from './kinds.js';

/** Most texts of one field, and most requests. */
const MAX_TEXTS = 32;
const MAX_REQUESTS = 256;

/**
 * Examples of what a connection may say: no name, neither TLS nor HTTP, a name for each combination of patterns that
 * some name meets, a request for each entry of a rule, and the same requests with each field as other entries tell its
 * texts apart. None if no rule asks.
 */
export function saidKinds(rules: readonly Rule[]): readonly Said[] {
  const asking = rules.filter(asksForSaid);
  if (asking.length === 0) return [];
  const verified = asking.flatMap(({ peers }) => namesIn(peers).filter(({ verify }) => verify));
  const patterns = [...asking.flatMap(({ serverNames = [] }) => serverNames), ...verified.flatMap((p) => p.patterns)];
  const names = [...new Set([...distinctNames(patterns), STRANGE])].filter((name) => name !== '');
  return [
    { kind: 'other' },
    { kind: 'tls' },
    ...names.map((serverName): Said => ({ kind: 'tls', serverName })),
    ...requests(
      asking.flatMap(({ http = [] }) => http),
      names,
    ),
  ];
}

/** What hardly any rule asks for. */
const STRANGE = 'other.example';
const STRANGE_METHODS = ['OTHER'];
const STRANGE_PATHS = ['/other'];

/** Texts of the fields, one for each combination of regular expressions that some text meets. */
type Texts = Readonly<Record<'method' | 'path' | 'host', readonly string[]>> & {
  readonly headers: ReadonlyMap<string, readonly string[]>;
};

function requests(matches: readonly HttpMatch[], names: readonly string[]): SaidRequest[] {
  const texts: Texts = {
    method: [...textsOf(matches.map(({ method }) => method)), ...STRANGE_METHODS],
    path: [...textsOf(matches.map(({ path }) => path)), ...STRANGE_PATHS],
    host: [...textsOf(matches.map(({ host }) => host)), ...names],
    headers: new Map(
      matches
        .flatMap(({ headers = [] }) => headers)
        .map(({ name }, _, all) => [name, textsOf(all.map((one) => (one.name === name ? one.value : undefined)))]),
    ),
  };
  const out = new Map<string, SaidRequest>();
  const add = (request: SaidRequest) => {
    if (out.size < MAX_REQUESTS) out.set(JSON.stringify(request), request);
  };
  const own = [request('GET', '/', undefined, []), ...matches.map(exampleOf)];
  for (const one of own) add(one);
  for (const { method, path, host, headers } of own) {
    for (const text of texts.method) if (text !== '') add(request(text, path, host, headers));
    for (const text of texts.path) if (text !== '') add(request(method, text, host, headers));
    for (const text of texts.host) add(request(method, path, text === '' ? undefined : text, headers));
    for (const [name, values] of texts.headers) {
      const others = headers.filter(([other]) => other !== name);
      for (const value of values) add(request(method, path, host, [...others, [name, value]]));
      add(request(method, path, host, others));
    }
  }
  return [...out.values()];
}

function request(method: string, path: string, host: string | undefined, headers: SaidRequest['headers']): SaidRequest {
  return { kind: 'http', method, path, ...(host === undefined ? {} : { host }), headers };
}

/** A request that the entry matches, where there is one. */
function exampleOf({ method, path, host, headers = [] }: HttpMatch): SaidRequest {
  const text = (regex: string | undefined, other: string) => (regex === undefined ? other : (matching(regex) ?? other));
  const lines = headers.filter(({ not }) => !not).map(({ name, value }) => [name, text(value, '')] as const);
  return request(text(method, 'GET'), text(path, '/'), host === undefined ? undefined : matching(host), lines);
}

function matching(regex: string): string | undefined {
  if (faultOf(regex) !== undefined) return undefined;
  return [...witnesses(tableOf(regex))].find(([set]) => set !== 0)?.[1];
}

function textsOf(regexes: readonly (string | undefined)[]): readonly string[] {
  const known = [...new Set(regexes)].filter((one) => one !== undefined && faultOf(one) === undefined) as string[];
  const { tables } = combine(known.map(tableOf));
  return [...new Set(tables.flatMap((table) => [...witnesses(table).values()]))].slice(0, MAX_TEXTS);
}
