/** Options of `egressctl flows` → GetFlowsRequest. Filters are named as `hubble observe` names them. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { AgentError } from '../errors.js';
import type { FlowFilter, GetFlowsRequest, TcpFlags, Timestamp, VerdictName } from '../rpc/messages.js';

export const VERDICTS = ['FORWARDED', 'DROPPED', 'AUDIT', 'TRACED'] as const;
const VERDICT_WORDS: Readonly<Record<string, VerdictName>> = { ALLOWED: 'FORWARDED', DENIED: 'DROPPED' };
export const PROTOCOLS = ['tcp', 'udp', 'sctp', 'icmp', 'icmpv4', 'icmpv6'] as const;
const TYPES: Readonly<Record<string, number>> = { drop: 1, trace: 4, 'policy-verdict': 5 };
const TCP_FLAGS: readonly (keyof TcpFlags)[] = ['FIN', 'SYN', 'RST', 'PSH', 'ACK', 'URG', 'ECE', 'CWR', 'NS'];
export const DEFAULT_LAST = 20;

type List = Record<string, unknown[]>;

/**
 * One filter under construction. An option for either side (`--pod`) stands for two filters, one for each side; what
 * is common to both is in both.
 */
class FilterBuilder {
  readonly common: List = {};
  readonly source: List = {};
  readonly destination: List = {};

  filters(): FlowFilter[] {
    const sides = [this.source, this.destination].filter((s) => Object.keys(s).length > 0);
    const all = sides.length === 0 ? [this.common] : sides.map((s) => ({ ...this.common, ...s }));
    return all.filter((f) => Object.keys(f).length > 0) as FlowFilter[];
  }
}

function add(list: List, field: string, value: unknown): void {
  const values = list[field];
  if (values) values.push(value);
  else list[field] = [value];
}

/** Collects the filters in the order of the command line: `--not` turns the next one. */
export class FilterOptions {
  readonly #wanted = new FilterBuilder();
  readonly #unwanted: FilterBuilder[] = [];
  #not = false;

  /** Declares the options. */
  declare(command: Command): void {
    const either = (flags: string, about: string, field: string, make: (v: string) => unknown) =>
      this.#option(command, flags, about, (b, v) => {
        add(b.source, `source_${field}`, make(v));
        add(b.destination, `destination_${field}`, make(v));
      });
    const one = (flags: string, about: string, field: string, make: (v: string) => unknown) =>
      this.#option(command, flags, about, (b, v) => add(b.common, field, make(v)));
    const sides = (
      name: string,
      value: string,
      about: string,
      field: string,
      make: (v: string) => unknown,
      short = '',
    ) => {
      either(`${short}--${name} <${value}>`, `${about}, on either side`, field, make);
      one(`--from-${name} <${value}>`, `${about} of the source`, `source_${field}`, make);
      one(`--to-${name} <${value}>`, `${about} of the destination`, `destination_${field}`, make);
    };
    command.addOption(
      new Option('--not', 'turn the next filter: leave out what it matches')
        .argParser(() => true)
        .default(undefined, ''),
    );
    command.on('option:not', () => {
      this.#not = true;
    });
    const text = (v: string) => v;
    sides('namespace', 'ns', 'namespace', 'pod', (v) => `${v}/`, '-n, ');
    sides('pod', '[ns/]name', 'pod, by the beginning of its name; without a namespace: in default', 'pod', text);
    sides('ip', 'ip|cidr', 'address or CIDR', 'ip', text);
    sides('port', 'port', 'port', 'port', text);
    sides('label', 'selector', 'label selector, e.g. app=web', 'label', text, '-l, ');
    sides('service', '[ns/]name', 'Service', 'service', text);
    sides('workload', '[kind/]name', 'workload', 'workload', (v) => {
      const slash = v.indexOf('/');
      return slash < 0 ? { name: v } : { kind: v.slice(0, slash), name: v.slice(slash + 1) };
    });
    sides('identity', 'number', 'identity', 'identity', integer);
    one('--protocol <name>', `protocol: ${PROTOCOLS.join(', ')}`, 'protocol', text);
    one('--verdict <verdict>', `verdict: ${VERDICTS.join(', ')} (ALLOWED and DENIED will do)`, 'verdict', (v) => {
      const name = VERDICT_WORDS[v.toUpperCase()] ?? v.toUpperCase();
      if (!(VERDICTS as readonly string[]).includes(name))
        throw new InvalidArgumentError(`It is one of ${VERDICTS.join(', ')}.`);
      return name;
    });
    one('-t, --type <type>', `event type: ${Object.keys(TYPES).join(', ')}`, 'event_type', (v) => {
      const type = TYPES[v];
      if (type === undefined) throw new InvalidArgumentError(`It is one of ${Object.keys(TYPES).join(', ')}.`);
      return { type };
    });
    one('--tcp-flags <flags>', 'TCP flags, e.g. syn,ack', 'tcp_flags', (v) => {
      const names = v.toUpperCase().split(',') as (keyof TcpFlags)[];
      const unknown = names.find((n) => !TCP_FLAGS.includes(n));
      if (unknown !== undefined) throw new InvalidArgumentError(`${unknown} is no TCP flag.`);
      return Object.fromEntries(names.map((n) => [n, true]));
    });
    one('--traffic-direction <direction>', 'ingress or egress', 'traffic_direction', (v) => {
      if (!['INGRESS', 'EGRESS'].includes(v.toUpperCase())) throw new InvalidArgumentError('It is ingress or egress.');
      return v.toUpperCase();
    });
    one('--drop-reason-desc <reason>', 'drop reason, e.g. POLICY_DENIED', 'drop_reason_desc', (v) => v.toUpperCase());
    one('--node-name <name>', 'node, with * for anything', 'node_name', text);
    one('--ip-version <version>', '4 or 6', 'ip_version', (v) => {
      if (v !== '4' && v !== '6') throw new InvalidArgumentError('It is 4 or 6.');
      return v === '4' ? 'IPv4' : 'IPv6';
    });
    one('--reply <true|false>', 'replies alone, or none', 'reply', (v) => v !== 'false');
    one('--uuid <uuid>', 'one flow event', 'uuid', text);
  }

  request(): Pick<GetFlowsRequest, 'whitelist' | 'blacklist'> {
    if (this.#not) throw new AgentError('USAGE', '--not stands before the filter that it turns');
    return { whitelist: this.#wanted.filters(), blacklist: this.#unwanted.flatMap((b) => b.filters()) };
  }

  #option(command: Command, flags: string, about: string, take: (b: FilterBuilder, value: string) => void): void {
    command.addOption(
      new Option(flags, about).argParser((value: string) => {
        if (this.#not) {
          this.#not = false;
          const turned = new FilterBuilder();
          this.#unwanted.push(turned);
          take(turned, value);
        } else {
          take(this.#wanted, value);
        }
        return value;
      }),
    );
  }
}

function integer(v: string): number {
  if (!/^\d+$/.test(v)) throw new InvalidArgumentError('It is a number.');
  return Number(v);
}

/** `5m`, `1h30m`, `now`, or RFC 3339 → a point in time. @throws InvalidArgumentError */
export function parseTime(text: string, now: number = Date.now()): Timestamp {
  let ms: number;
  const parts = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text);
  if (text === 'now') ms = now;
  else if (text !== '' && parts) {
    const [d, h, m, s] = parts.slice(1).map((v) => Number(v ?? 0)) as [number, number, number, number];
    ms = now - (((d * 24 + h) * 60 + m) * 60 + s) * 1000;
  } else ms = Date.parse(text);
  if (Number.isNaN(ms))
    throw new InvalidArgumentError('It is a duration (5m, 1h30m) or a time (2026-01-31T12:00:00Z).');
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

/** A number of flows; `all` is what the protocol calls 2^64 − 1. @throws InvalidArgumentError */
export function parseCount(text: string): string {
  if (text === 'all') return '18446744073709551615';
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('It is a number, or all.');
  return text;
}
