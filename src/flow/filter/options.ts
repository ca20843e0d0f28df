/** The options that filter flows, as a GetFlowsRequest. They have the names of `hubble observe`. */
import type { MethodDefinition } from '@grpc/grpc-js';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { AgentError } from '../../errors.js';
import type { FlowFilter, GetFlowsRequest, TcpFlags, VerdictName } from '../../proto/messages.js';
import { FilterBuilder, type Side } from './builder.js';

export const VERDICTS = ['FORWARDED', 'DROPPED', 'AUDIT', 'TRACED'] as const;
const VERDICT_WORDS: Readonly<Record<string, VerdictName>> = { ALLOWED: 'FORWARDED', DENIED: 'DROPPED' };
export const PROTOCOLS = ['tcp', 'udp', 'sctp', 'icmp', 'icmpv4', 'icmpv6', 'dns', 'http', 'tls', 'quic'] as const;
const TYPES: Readonly<Record<string, number>> = { drop: 1, trace: 4, 'policy-verdict': 5, l7: 129 };
export const EVENT_TYPES = Object.keys(TYPES);
const TCP_FLAGS: readonly (keyof TcpFlags)[] = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR', 'NS'];

export type Filters = Required<Pick<GetFlowsRequest, 'whitelist' | 'blacklist'>>;

/** Collects the filters in the order of the command line. `--not` negates only the filter that follows it. */
export class FilterOptions {
  readonly #allowlist = new FilterBuilder();
  readonly #denylist: FilterBuilder[] = [];
  /** FlowFilters as text: parsing them needs the protobuf messages, which are loaded only if there are any. */
  readonly #raw: { readonly list: 'whitelist' | 'blacklist'; readonly flags: string; readonly text: string }[] = [];
  #not = false;

  /** Adds the filter options to a command. */
  declare(command: Command): void {
    const either = (flags: string, about: string, field: string, make: (v: string) => unknown) =>
      this.#option(command, flags, about, (b, v) => b.either(field, make(v)));
    const one = (flags: string, about: string, field: string, make: (v: string) => unknown) =>
      this.#option(command, flags, about, (b, v) => b.common(field, make(v)));
    const namespace = (flags: string, about: string, of: Side | 'either') =>
      this.#option(command, flags, about, (b, v) => b.namespace(of, v));
    const sides = (
      name: string,
      value: string,
      about: string,
      field: string,
      make: (v: string) => unknown,
      short = '',
    ) => {
      either(`${short}--${name} <${value}>`, `${about} of either side`, field, make);
      one(`--from-${name} <${value}>`, `${about} of the source`, `source_${field}`, make);
      one(`--to-${name} <${value}>`, `${about} of the destination`, `destination_${field}`, make);
    };
    command.addOption(
      new Option('--not', 'negate the next filter: exclude the flows that it matches')
        .argParser(() => true)
        .default(undefined, ''),
    );
    command.on('option:not', () => {
      if (this.#not) throw new AgentError('USAGE', '--not twice: give it once before each filter that it negates');
      this.#not = true;
    });
    const text = (v: string) => v;
    namespace('-n, --namespace <ns>', 'namespace of either side', 'either');
    namespace('--from-namespace <ns>', 'namespace of the source', 'source');
    namespace('--to-namespace <ns>', 'namespace of the destination', 'destination');
    sides('pod', '[ns/]name', 'pod', 'pod', text);
    sides('ip', 'ip|cidr', 'address or CIDR', 'ip', text);
    sides('port', 'port', 'port', 'port', text);
    sides('label', 'selector', 'label selector', 'label', text, '-l, ');
    sides('service', '[ns/]name', 'Service', 'service', text);
    sides('fqdn', 'pattern', 'DNS name, * matches any characters', 'fqdn', text);
    sides('workload', '[kind/]name', 'workload', 'workload', (v) => {
      const slash = v.indexOf('/');
      return slash < 0 ? { name: v } : { kind: v.slice(0, slash), name: v.slice(slash + 1) };
    });
    sides('identity', 'number', 'identity number', 'identity', integer);
    one('--protocol <name>', `protocol: ${PROTOCOLS.join(', ')}`, 'protocol', text);
    one('--verdict <verdict>', `verdict: ${VERDICTS.join(', ')} (or ALLOWED, DENIED)`, 'verdict', (v) => {
      const name = VERDICT_WORDS[v.toUpperCase()] ?? v.toUpperCase();
      if (!(VERDICTS as readonly string[]).includes(name))
        throw new InvalidArgumentError(`It is one of ${VERDICTS.join(', ')}.`);
      return name;
    });
    one('-t, --type <type>', `event type: ${EVENT_TYPES.join(', ')}`, 'event_type', (v) => {
      const type = TYPES[v];
      if (type === undefined) throw new InvalidArgumentError(`It is one of ${EVENT_TYPES.join(', ')}.`);
      return { type };
    });
    one('--dns-query <regex>', 'name in a DNS query or answer (RE2), with its final dot', 'dns_query', text);
    one('--server-name <pattern>', 'server name of a TLS or QUIC hello, * matches any characters', 'server_name', text);
    one('--http-method <method>', 'method of an HTTP request', 'http_method', text);
    one('--http-path <regex>', 'path of an HTTP request without its query (RE2)', 'http_path', text);
    one('--http-url <regex>', 'URL of an HTTP request (RE2)', 'http_url', text);
    one('--tcp-flags <flags>', 'TCP flags, e.g. syn,ack', 'tcp_flags', (v) => {
      const names = v.toUpperCase().split(',') as (keyof TcpFlags)[];
      const unknown = names.find((n) => !TCP_FLAGS.includes(n));
      if (unknown !== undefined) throw new InvalidArgumentError(`${unknown} is not a TCP flag.`);
      return Object.fromEntries(names.map((n) => [n, true]));
    });
    one('--traffic-direction <direction>', 'direction: ingress, egress', 'traffic_direction', (v) => {
      if (!['INGRESS', 'EGRESS'].includes(v.toUpperCase())) throw new InvalidArgumentError('It is ingress or egress.');
      return v.toUpperCase();
    });
    one('--drop-reason-desc <reason>', 'drop reason, e.g. POLICY_DENIED', 'drop_reason_desc', (v) => v.toUpperCase());
    one('--node-name <name>', 'name of the node, * matches any characters', 'node_name', text);
    one('--ip-version <version>', 'IP version: 4, 6', 'ip_version', (v) => {
      if (v !== '4' && v !== '6') throw new InvalidArgumentError('It is 4 or 6.');
      return v === '4' ? 'IPv4' : 'IPv6';
    });
    one('--reply <true|false>', 'true: only replies, false: no replies', 'reply', (v) => v !== 'false');
    one('--uuid <uuid>', 'UUID of a flow event', 'uuid', text);
    for (const [name, list, about] of [
      ['allowlist', 'whitelist', 'print the flows that match'],
      ['denylist', 'blacklist', 'exclude the flows that match'],
    ] as const) {
      const flags = `--${name} <json>`;
      command.addOption(
        new Option(flags, `${about} a FlowFilter in JSON`).argParser((text) => {
          this.#raw.push({ list, flags, text });
          return text;
        }),
      );
    }
  }

  /**
   * The filters of the request.
   * @param command ends with an error if a FlowFilter cannot be parsed
   * @throws AgentError USAGE if options cannot be combined
   */
  async request(command: Command): Promise<Filters> {
    if (this.#not) throw new AgentError('USAGE', '--not must precede the filter that it negates');
    const whitelist = this.#allowlist.filters();
    const blacklist = this.#denylist.flatMap((b) => b.filters());
    for (const { list, flags, text } of this.#raw) {
      const filter = await parseFilter(text).catch((e: Error) =>
        // In the words of commander, which has parsed the other options.
        command.error(`error: option '${flags}' argument '${text}' is invalid. It is not a FlowFilter: ${e.message}.`, {
          code: 'commander.invalidArgument',
        }),
      );
      (list === 'whitelist' ? whitelist : blacklist).push(filter);
    }
    return { whitelist, blacklist };
  }

  #option(command: Command, flags: string, about: string, take: (b: FilterBuilder, value: string) => void): void {
    const option = new Option(flags, about);
    command.addOption(
      option.argParser((value: string) => {
        const builder = this.#not ? new FilterBuilder() : this.#allowlist;
        if (this.#not) this.#denylist.push(builder);
        this.#not = false;
        builder.use(option.name());
        take(builder, value);
        return value;
      }),
    );
  }
}

function integer(v: string): number {
  if (!/^\d+$/.test(v)) throw new InvalidArgumentError('It is a number.');
  return Number(v);
}

/** Parses a filter in the form of `--print-raw-filters`. Unknown fields and invalid values are errors. */
async function parseFilter(text: string): Promise<FlowFilter> {
  const { OBSERVER } = await import('../../proto/load.js');
  const filter = JSON.parse(text) as FlowFilter;
  const { requestSerialize, requestDeserialize } = OBSERVER.GetFlows as MethodDefinition<GetFlowsRequest, unknown>;
  const kept = requestDeserialize(requestSerialize({ whitelist: [filter] })).whitelist?.[0];
  for (const [field, values] of Object.entries(filter)) {
    if (!Array.isArray(values)) throw new Error(`${field} is not a list`);
    const known = kept?.[field as keyof FlowFilter] as unknown[] | undefined;
    const same = (v: unknown, i: number) => typeof v === 'object' || v === known?.[i];
    if (known?.length !== values.length || !values.every(same))
      throw new Error(`the field ${field} is unknown or has an invalid value`);
  }
  return filter;
}
