/**
 * Compiles FlowFilters to a predicate, once per request. Values of one field are ORed, fields of one filter ANDed,
 * filters of a list ORed; the blacklist excludes. Tests read the Flow itself, so that no message is made for an
 * unwanted flow. Clients' regular expressions are run by RE2, so that no pattern takes exponential time.
 */
import { RE2JS } from 're2js';
import { AgentError } from '../../errors.js';
import { cidrContains, formatBytes16, tryParseAddr, tryParseCidr } from '../../net/addr.js';
import { parseProtocol } from '../../net/protocol.js';
import type { FlowFilter, TcpFlags } from '../../proto/messages.js';
import { type Kind, KINDS } from '../event/kind.js';
import { labelMatcher } from './label-filter.js';
import {
  direction,
  dropReason,
  eventSubType,
  eventType,
  hasPortFields,
  isOutgoing,
  isReply,
  partyTerms,
  TCP_FLAGS,
  verdictName,
} from '../names/terms.js';
import { urlOf } from '../event/said-text.js';
import type { Flow, Party, SaidInfo } from '../event/types.js';

type Test = (flow: Flow) => boolean;
type PartyOf = (flow: Flow) => Party;

/** Maximum number of values in a request, since each costs time for every flow. */
const MAX_VALUES = 1000;
/** Maximum length of a regular expression, since its automaton takes memory. */
const MAX_PATTERN = 4096;
/** Hubble's default name of the cluster. */
const CLUSTER = 'default';

const source: PartyOf = (f) => f.source;
const destination: PartyOf = (f) => f.destination;
const never: Test = () => false;

/**
 * Makes a predicate on flows. Without filters, every flow passes.
 *
 * Pods and Services are `namespace/prefix`. `namespace/` matches all of a namespace, `/prefix` any namespace, and a
 * bare `prefix` the namespace `default`, as in Hubble.
 * @throws AgentError USAGE naming the field
 */
export function compileFilter(
  whitelist: readonly FlowFilter[] | undefined,
  blacklist: readonly FlowFilter[] | undefined,
): Test {
  refuseTooMany([...(whitelist ?? []), ...(blacklist ?? [])]);
  const wanted = (whitelist ?? []).map((f, i) => compileOne(f, `whitelist[${i}]`));
  const unwanted = (blacklist ?? []).map((f, i) => compileOne(f, `blacklist[${i}]`));
  if (wanted.length === 0 && unwanted.length === 0) return () => true;
  return (flow) => (wanted.length === 0 || wanted.some((test) => test(flow))) && !unwanted.some((test) => test(flow));
}

/**
 * The kinds (event/kind.ts) that may pass, for rejecting records before a flow is made: 0 if no event of that kind
 * passes. undefined: any kind may.
 * @param whitelist in the form that compileFilter() accepts
 */
export function wantedKinds(whitelist: readonly FlowFilter[] | undefined): Uint8Array | undefined {
  if (whitelist === undefined || whitelist.length === 0) return undefined;
  const kinds = Uint8Array.from(KINDS, (e) => (whitelist.some((f) => mayPass(f, e)) ? 1 : 0));
  return kinds.includes(0) ? kinds : undefined;
}

function mayPass({ verdict, event_type }: FlowFilter, e: Kind): boolean {
  const some = <T>(values: readonly T[] | undefined, test: (value: T) => boolean) =>
    values === undefined || values.length === 0 || values.some(test);
  return some(verdict, (v) => verdictName(e) === v) && some(event_type, (v) => !v.type || eventType(e) === v.type);
}

/** The test of each field, by name. `never`: nothing of the kind is observed; its value is checked nevertheless. */
const FIELDS: {
  [K in keyof Required<FlowFilter>]: (value: NonNullable<FlowFilter[K]>[number], field: string) => Test;
} = {
  source_ip: (v, f) => ipTest(v, f, source),
  destination_ip: (v, f) => ipTest(v, f, destination),
  source_pod: (v, f) => nameTest(v, f, (flow) => podName(flow.source)),
  destination_pod: (v, f) => nameTest(v, f, (flow) => podName(flow.destination)),
  source_service: (v, f) => nameTest(v, f, (flow) => (isOutgoing(flow.event) ? undefined : flow.service)),
  destination_service: (v, f) => nameTest(v, f, (flow) => (isOutgoing(flow.event) ? flow.service : undefined)),
  verdict: (v) => (flow) => verdictName(flow.event) === v,
  event_type: (v) => (flow) =>
    (!v.type || eventType(flow.event) === v.type) && (!v.match_sub_type || eventSubType(flow) === (v.sub_type ?? 0)),
  source_label: (v, f) => labelTest(v, f, source),
  destination_label: (v, f) => labelTest(v, f, destination),
  protocol: protocolTest,
  source_port: (v, f) => portTest(v, f, source),
  destination_port: (v, f) => portTest(v, f, destination),
  reply: (v) => (flow) => isReply(flow.event) === v,
  source_identity: (v) => (flow) => partyTerms(flow.source, flow.nodeName).identity === v,
  destination_identity: (v) => (flow) => partyTerms(flow.destination, flow.nodeName).identity === v,
  tcp_flags: flagsTest,
  node_name: nodeTest,
  ip_version: (v) => {
    const family = v === 'IPv4' ? 4 : v === 'IPv6' ? 6 : 0;
    return (flow) => flow.event.family === family;
  },
  source_workload: (v) => workloadTest(v, source),
  destination_workload: (v) => workloadTest(v, destination),
  uuid: (v) => (flow) => flow.uuid === v,
  traffic_direction: (v) => (flow) => direction(flow.event) === v,
  drop_reason_desc: (v) => (flow) => dropReason(flow) === v,
  node_labels: (v, f) => {
    labelMatcher(v, f);
    return never;
  },
  source_fqdn: (v, f) => fqdnTest(v, f, (flow) => flow.sourceNames),
  destination_fqdn: (v, f) => fqdnTest(v, f, (flow) => flow.destinationNames),
  http_status_code: (v, f) => checked(v, f, /^[1-5](\d\d|\d?\+)$/, 'a status code such as 404, or a prefix such as 5+'),
  http_method: methodTest,
  http_path: (v, f) => requestTest(v, f, ({ path }) => pathOf(path)),
  http_url: (v, f) => requestTest(v, f, urlOf),
  server_name: serverNameTest,
  dns_query: queryTest,
};

function compileOne(filter: FlowFilter, where: string): Test {
  const tests: Test[] = [];
  for (const [name, make] of Object.entries(FIELDS)) {
    const values = filter[name as keyof FlowFilter] as unknown[] | undefined;
    if (values === undefined || values.length === 0) continue;
    if (values.length > MAX_VALUES) throw usage(`${where}.${name}`, `more than ${MAX_VALUES} values`);
    const some = values.map((v, i) => (make as (v: unknown, f: string) => Test)(v, `${where}.${name}[${i}]`));
    tests.push(some.length === 1 ? (some[0] as Test) : (flow) => some.some((test) => test(flow)));
  }
  return (flow) => tests.every((test) => test(flow));
}

function usage(field: string, message: string): AgentError {
  return new AgentError('USAGE', `${field}: ${message}`, { where: { field } });
}

function ipTest(value: string, field: string, of: PartyOf): Test {
  if (value.includes('/')) {
    const cidr = tryParseCidr(value);
    if (!cidr) throw usage(field, `"${value}" is not a CIDR`);
    return (flow) => {
      const addr = tryParseAddr(of(flow).ip);
      return addr !== undefined && cidrContains(cidr, addr);
    };
  }
  const wanted = tryParseAddr(value);
  if (!wanted) throw usage(field, `"${value}" is neither an address nor a CIDR`);
  const text = formatBytes16(wanted.bytes, wanted.family);
  return (flow) => of(flow).ip === text;
}

/** The pod in a message's endpoint; undefined for an endpoint without a namespace. */
function podName(party: Party): { namespace: string; name: string } | undefined {
  return party.namespace === '' ? undefined : { namespace: party.namespace, name: party.pod };
}

function nameTest(
  value: string,
  field: string,
  of: (flow: Flow) => { namespace: string; name: string } | undefined,
): Test {
  const slash = value.indexOf('/');
  const namespace = slash < 0 ? 'default' : value.slice(0, slash);
  const prefix = value.slice(slash + 1);
  if (prefix === '' && (slash < 0 || namespace === '')) throw usage(field, 'must be [namespace/][name]');
  return (flow) => {
    const found = of(flow);
    return found !== undefined && (namespace === '' || found.namespace === namespace) && found.name.startsWith(prefix);
  };
}

function labelTest(value: string, field: string, of: PartyOf): Test {
  const matches = labelMatcher(value, field);
  return (flow) => matches(partyTerms(of(flow), flow.nodeName).labels);
}

function protocolTest(value: string, field: string): Test {
  switch (value.toLowerCase()) {
    case 'icmp':
      return ({ event }) => event.family !== 0 && (event.protocol === 1 || event.protocol === 58);
    case 'icmpv4':
      return ({ event }) => event.family !== 0 && event.protocol === 1;
    case 'dns':
      return ({ dns }) => dns !== undefined;
    case 'http':
    case 'tls':
    case 'quic':
      return ({ said }) => said?.kind === value.toLowerCase();
    case 'kafka':
      return never;
  }
  const number = parseProtocol(value);
  if (number === undefined) throw usage(field, `"${value}" is no protocol`);
  return ({ event }) => event.family !== 0 && event.protocol === number;
}

function portTest(value: string, field: string, of: PartyOf): Test {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : Number.NaN;
  if (!(port <= 65535)) throw usage(field, `"${value}" is no port`);
  return (flow) => hasPortFields(flow.event) && of(flow).port === port;
}

/** Whether all of these flags are set, whatever else is set. */
function flagsTest(wanted: TcpFlags): Test {
  let mask = wanted.NS ? 256 : 0;
  for (const [name, bit] of TCP_FLAGS) if (wanted[name]) mask |= bit;
  return ({ event }) => event.protocol === 6 && (event.tcpFlags & mask) === mask;
}

function workloadTest(wanted: { name?: string; kind?: string }, of: PartyOf): Test {
  return (flow) => {
    const { workload } = of(flow);
    if (!workload) return false;
    return (!wanted.name || workload.name === wanted.name) && (!wanted.kind || workload.kind === wanted.kind);
  };
}

/** Hubble's patterns of names: `*` matches any number of letters, digits, dots and dashes. */
const FQDN_PATTERN = /^[-.0-9_a-z*]*[-0-9_a-z*]\.?$/i;

/** A test for `node`, `cluster/node` or `cluster/`, where `*` matches anything. */
function nodeTest(value: string, field: string): Test {
  const parts = value.split('/');
  const [cluster, node] = parts.length === 1 ? ['', value] : (parts as [string, string]);
  if (value === '' || parts.length > 2) throw usage(field, `"${value}" is not [cluster/]node`);
  const matchesCluster = namePattern(cluster, field);
  const matchesNode = namePattern(node, field);
  return matchesCluster(CLUSTER) ? (flow) => matchesNode(flow.nodeName) : never;
}

/** A test for a learned name. */
function fqdnTest(value: string, field: string, of: (flow: Flow) => readonly string[] | undefined): Test {
  const pattern = value.trim();
  if (pattern === '') throw usage(field, `"${value}" is not a name, in which * is for anything`);
  const matches = namePattern(pattern, field);
  return (flow) => of(flow)?.some(matches) ?? false;
}

/** A test for a name. An empty pattern matches any name. */
function namePattern(pattern: string, field: string): (name: string) => boolean {
  if (pattern === '') return () => true;
  checked(pattern, field, FQDN_PATTERN, 'a name, in which * is for anything');
  const literal = pattern.toLowerCase().replace(/\.$/, '').split('*').map(RE2JS.quote);
  const compiled = RE2JS.compile(literal.join('[-.0-9_a-z]*'));
  return (name) => compiled.matches(name.toLowerCase());
}

/** Refuses an invalid value. The test is one of a layer that is not observed: it matches nothing. */
function checked(value: string, field: string, shape: RegExp, what: string): Test {
  if (value.length > MAX_PATTERN || !shape.test(value.trim())) throw usage(field, `"${value}" is not ${what}`);
  return never;
}

/** A test of the method of an HTTP request, whatever its case. */
function methodTest(value: string, field: string): Test {
  checked(value, field, /^[!#$%&'*+\-.^`|~\w]+$/, 'a method');
  const wanted = value.trim().toUpperCase();
  return ({ said }) => said?.kind === 'http' && said.method.toUpperCase() === wanted;
}

/** A test of an HTTP request by a regular expression, which may match any part. */
function requestTest(value: string, field: string, of: (said: SaidInfo) => string): Test {
  const pattern = regex(value, field);
  return ({ said }) => said?.kind === 'http' && pattern.matcher(of(said)).find();
}

/** A path as Hubble's filters read it: without its query, and decoded. */
function pathOf(path: string): string {
  const [own = ''] = path.split('?');
  try {
    return decodeURIComponent(own);
  } catch {
    return own;
  }
}

/** A test of the server name in a TLS or QUIC hello. */
function serverNameTest(value: string, field: string): Test {
  const pattern = value.trim();
  if (pattern === '') throw usage(field, `"${value}" is not a name, in which * is for anything`);
  const matches = namePattern(pattern, field);
  return ({ said }) => said !== undefined && said.serverName !== '' && matches(said.serverName);
}

/** A test of the name in DNS queries and answers, with its final dot. */
function queryTest(value: string, field: string): Test {
  const pattern = regex(value, field);
  return ({ dns }) => dns?.isRead === true && pattern.matcher(`${dns.query}.`).find();
}

function regex(value: string, field: string): RE2JS {
  if (value.length > MAX_PATTERN) throw usage(field, `is longer than ${MAX_PATTERN} characters`);
  try {
    return RE2JS.compile(value);
  } catch (e) {
    throw usage(field, `"${value}" is not a regular expression (RE2): ${(e as Error).message}`);
  }
}

/**
 * Refuses too many values, counted over all filters and fields. Without it, a client could block the agent with a
 * megabyte of small filters while they are compiled.
 */
function refuseTooMany(filters: readonly object[]): void {
  let values = filters.length;
  for (const filter of filters) {
    for (const value of Object.values(filter)) if (Array.isArray(value)) values += value.length;
  }
  if (values > MAX_VALUES) {
    throw new AgentError('USAGE', `filters with ${values} values; at most ${MAX_VALUES} are looked at for each flow`);
  }
}
