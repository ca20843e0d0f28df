/**
 * FlowFilter → a predicate, compiled once for each request. Values of one field are ORed, fields of one filter ANDed,
 * filters of a list ORed; the blacklist takes away. Client's regular expressions are RE2: no pattern can take long.
 */
import { RE2JS } from 're2js';
import { AgentError } from '../errors.js';
import { cidrContains, formatBytes16, tryParseAddr, tryParseCidr } from '../net/addr.js';
import { parseProtocol } from '../net/protocol.js';
import type { FlowFilter, HubbleEndpoint, HubbleFlow, TcpFlags } from '../rpc/messages.js';
import { toHubble } from './hubble.js';
import { labelMatcher } from './label-filter.js';
import type { Flow } from './types.js';

type Test = (flow: HubbleFlow) => boolean;

/** A request with more is refused: each costs something for every flow. */
const MAX_VALUES = 1000;

/** @throws AgentError USAGE naming the field */
export function compileFilter(
  whitelist: readonly FlowFilter[] | undefined,
  blacklist: readonly FlowFilter[] | undefined,
): (flow: Flow) => boolean {
  const wanted = (whitelist ?? []).map((f, i) => compileOne(f, `whitelist[${i}]`));
  const unwanted = (blacklist ?? []).map((f, i) => compileOne(f, `blacklist[${i}]`));
  if (wanted.length === 0 && unwanted.length === 0) return () => true;
  return (flow) => {
    const message = toHubble(flow);
    if (wanted.length > 0 && !wanted.some((test) => test(message))) return false;
    return !unwanted.some((test) => test(message));
  };
}

/** How each field is tested, by its name. `never`: of layers that are not seen; the value is checked all the same. */
const FIELDS: { [K in keyof Required<FlowFilter>]: (value: NonNullable<FlowFilter[K]>[number], field: string) => Test } = {
  source_ip: (v, f) => ipTest(v, f, (m) => m.IP?.source),
  destination_ip: (v, f) => ipTest(v, f, (m) => m.IP?.destination),
  source_pod: (v, f) => nameTest(v, f, (m) => podOf(m.source)),
  destination_pod: (v, f) => nameTest(v, f, (m) => podOf(m.destination)),
  source_service: (v, f) => nameTest(v, f, (m) => m.source_service),
  destination_service: (v, f) => nameTest(v, f, (m) => m.destination_service),
  verdict: (v) => (m) => m.verdict === v,
  event_type: (v) => (m) =>
    m.event_type?.type === (v.type ?? 0) && (!v.match_sub_type || m.event_type?.sub_type === (v.sub_type ?? 0)),
  source_label: (v, f) => labelTest(v, f, (m) => m.source),
  destination_label: (v, f) => labelTest(v, f, (m) => m.destination),
  protocol: protocolTest,
  source_port: (v, f) => portTest(v, f, (m) => portsOf(m)?.source_port),
  destination_port: (v, f) => portTest(v, f, (m) => portsOf(m)?.destination_port),
  reply: (v) => (m) => (m.is_reply?.value ?? false) === v,
  source_identity: (v) => (m) => m.source?.identity === v,
  destination_identity: (v) => (m) => m.destination?.identity === v,
  tcp_flags: (v) => (m) => flagsMatch(v, m.l4?.TCP?.flags),
  node_name: (v, f) => nodeTest(v, f),
  ip_version: (v) => (m) => (m.IP?.ipVersion ?? 'IP_NOT_USED') === v,
  source_workload: (v) => (m) => workloadMatch(v, m.source),
  destination_workload: (v) => (m) => workloadMatch(v, m.destination),
  uuid: (v) => (m) => m.uuid === v,
  traffic_direction: (v) => (m) => m.traffic_direction === v,
  drop_reason_desc: (v) => (m) => m.drop_reason_desc === v,
  node_labels: (v, f) => {
    labelMatcher(v, f);
    return never;
  },
  source_fqdn: (v, f) => regexChecked(v, f),
  destination_fqdn: (v, f) => regexChecked(v, f),
  dns_query: (v, f) => regexChecked(v, f),
  http_path: (v, f) => regexChecked(v, f),
  http_status_code: () => never,
  http_method: () => never,
};

const never: Test = () => false;

function compileOne(filter: FlowFilter, where: string): Test {
  const tests: Test[] = [];
  for (const [name, make] of Object.entries(FIELDS)) {
    const values = filter[name as keyof FlowFilter] as unknown[] | undefined;
    if (values === undefined || values.length === 0) continue;
    if (values.length > MAX_VALUES) throw usage(`${where}.${name}`, `more than ${MAX_VALUES} values`);
    const some = values.map((v, i) => (make as (v: unknown, f: string) => Test)(v, `${where}.${name}[${i}]`));
    tests.push(some.length === 1 ? (some[0] as Test) : (m) => some.some((t) => t(m)));
  }
  return (m) => tests.every((t) => t(m));
}

function usage(field: string, message: string): AgentError {
  return new AgentError('USAGE', `${field}: ${message}`, { where: { field } });
}

function ipTest(value: string, field: string, of: (m: HubbleFlow) => string | undefined): Test {
  if (value.includes('/')) {
    const cidr = tryParseCidr(value);
    if (!cidr) throw usage(field, `"${value}" is not a CIDR`);
    return (m) => {
      const addr = tryParseAddr(of(m) ?? '');
      return addr !== undefined && cidrContains(cidr, addr);
    };
  }
  const wanted = tryParseAddr(value);
  if (!wanted) throw usage(field, `"${value}" is neither an address nor a CIDR`);
  const text = formatBytes16(wanted.bytes, wanted.family);
  return (m) => of(m) === text;
}

function podOf(e: HubbleEndpoint | undefined): { namespace: string; name: string } | undefined {
  return e?.pod_name === undefined ? undefined : { namespace: e.namespace ?? '', name: e.pod_name };
}

/** `namespace/prefix`, `namespace/`, or `prefix` in any namespace. */
function nameTest(
  value: string,
  field: string,
  of: (m: HubbleFlow) => { namespace: string; name: string } | undefined,
): Test {
  const slash = value.indexOf('/');
  const namespace = slash < 0 ? '' : value.slice(0, slash);
  const prefix = value.slice(slash + 1);
  if (namespace === '' && prefix === '') throw usage(field, 'is empty');
  return (m) => {
    const found = of(m);
    return found !== undefined && (namespace === '' || found.namespace === namespace) && found.name.startsWith(prefix);
  };
}

function labelTest(value: string, field: string, of: (m: HubbleFlow) => HubbleEndpoint | undefined): Test {
  const matches = labelMatcher(value, field);
  return (m) => matches(of(m)?.labels ?? []);
}

function protocolTest(value: string, field: string): Test {
  const name = value.toLowerCase();
  switch (name) {
    case 'tcp':
      return (m) => m.l4?.TCP !== undefined;
    case 'udp':
      return (m) => m.l4?.UDP !== undefined;
    case 'sctp':
      return (m) => m.l4?.SCTP !== undefined;
    case 'icmp':
      return (m) => m.l4?.ICMPv4 !== undefined || m.l4?.ICMPv6 !== undefined;
    case 'icmpv4':
      return (m) => m.l4?.ICMPv4 !== undefined;
    case 'icmpv6':
      return (m) => m.l4?.ICMPv6 !== undefined;
    case 'http':
    case 'dns':
    case 'kafka':
      return never;
  }
  const number = parseProtocol(value);
  if (number === undefined) throw usage(field, `"${value}" is no protocol`);
  return (m) => m.l4 === undefined && m.Summary?.toLowerCase() === name;
}

function portsOf(m: HubbleFlow): { source_port?: number; destination_port?: number } | undefined {
  return m.l4?.TCP ?? m.l4?.UDP ?? m.l4?.SCTP;
}

function portTest(value: string, field: string, of: (m: HubbleFlow) => number | undefined): Test {
  const port = /^\d{1,5}$/.test(value) ? Number(value) : Number.NaN;
  if (!(port <= 65535)) throw usage(field, `"${value}" is no port`);
  return (m) => of(m) === port;
}

function flagsMatch(wanted: TcpFlags, found: TcpFlags | undefined): boolean {
  if (!found) return false;
  return (Object.keys(wanted) as (keyof TcpFlags)[]).every((flag) => !wanted[flag] || found[flag]);
}

function workloadMatch(wanted: { name?: string; kind?: string }, e: HubbleEndpoint | undefined): boolean {
  return (e?.workloads ?? []).some(
    (w) => (!wanted.name || w.name === wanted.name) && (!wanted.kind || w.kind === wanted.kind),
  );
}

/** `node`, `cluster/node`, with `*` for anything. */
function nodeTest(value: string, field: string): Test {
  const name = value.slice(value.indexOf('/') + 1);
  if (value === '') throw usage(field, 'is empty');
  if (name === '') return () => true;
  const pattern = RE2JS.compile(`^${name.split('*').map(RE2JS.quote).join('.*')}$`);
  return (m) => pattern.matcher(m.node_name ?? '').find();
}

/** Names and paths of layers above are not seen yet: a filter on them matches nothing, a faulty one is refused. */
function regexChecked(value: string, field: string): Test {
  try {
    RE2JS.compile(value);
  } catch (e) {
    throw usage(field, `"${value}" is not a regular expression (RE2): ${(e as Error).message}`);
  }
  return never;
}
