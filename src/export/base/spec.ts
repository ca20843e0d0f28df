/** `--export URL`: where flows go, which, and in what form. */
import { isAbsolute } from 'node:path';
import { AgentError } from '../../errors.js';
import type { Filters } from '../../flow/filter/options.js';
import { parseFilterWords } from './words.js';

/** Files with certificates, in PEM. They are read again for each connection. */
export interface TlsFiles {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Name that the server's certificate must have, in place of its host. */
  readonly serverName?: string;
}

export interface OtlpSpec {
  readonly kind: 'otlp';
  readonly transport: 'http' | 'grpc';
  readonly secure: boolean;
  readonly host: string;
  readonly port: number;
  /** Of HTTP. */
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  /** File with more of them, one `Name: value` a line: read again for each connection. */
  readonly headersFile?: string;
  readonly gzip: boolean;
  readonly tls: TlsFiles;
}

export interface FileSpec {
  readonly kind: 'jsonl';
  readonly path: string;
  /** Bytes after which the file is rotated, and number of older files that are kept. */
  readonly rotateBytes: number;
  readonly keep: number;
}

export interface StdoutSpec {
  readonly kind: 'stdout';
}

export interface SyslogSpec {
  readonly kind: 'syslog';
  readonly transport: 'udp' | 'tcp' | 'tls' | 'unix';
  readonly host: string;
  readonly port: number;
  /** Of a unix socket. */
  readonly path: string;
  readonly facility: number;
  /** Private enterprise number of the structured data. */
  readonly enterprise: number;
  /** Longest message in bytes. */
  readonly most: number;
  readonly tls: TlsFiles;
}

export interface ExportSpec {
  /** The URL without parameters, which may be secret. */
  readonly target: string;
  readonly sink: OtlpSpec | FileSpec | StdoutSpec | SyslogSpec;
  readonly filters: Filters;
  /** Length of the windows of sums, in milliseconds; absent: each flow is exported. */
  readonly aggregateMs?: number;
  /** One of so many allowed, and denied, flows is exported. */
  readonly sample: number;
  readonly sampleDenied: number;
  /** Number of records that wait, at most. */
  readonly queue: number;
}

/** Number of exports of one process. Each costs CPU for every flow. */
const MOST_EXPORTS = 8;
const MIB = 1 << 20;
const DEFAULT_QUEUE = 8192;
/** RFC 5612: the number for documentation. The project has none of its own. */
const DOCUMENTATION_PEN = 32473;
const FACILITIES: Readonly<Record<string, number>> = {
  kern: 0,
  user: 1,
  daemon: 3,
  auth: 4,
  authpriv: 10,
  audit: 13,
  ...Object.fromEntries(Array.from({ length: 8 }, (_, n) => [`local${n}`, 16 + n])),
};
/** RFC 5426 asks receivers for 2048; rsyslog takes 8 KiB by default. */
const SYSLOG_MOST = { udp: 2048, unix: 8192, tcp: 8192, tls: 8192 } as const;

/** The parameters of one URL. Each is asked for once; those that nobody asked for are errors. */
class Parameters {
  readonly #values = new Map<string, string>();
  readonly #of: string;

  constructor(query: string, of: string) {
    this.#of = of;
    for (const [name, value] of new URLSearchParams(query)) {
      if (this.#values.has(name)) this.refuse(name, 'is given twice');
      this.#values.set(name, value);
    }
  }

  refuse(name: string, message: string, hint?: string): never {
    throw new AgentError('USAGE', `--export ${this.#of}: ${name}: ${message}`, {
      where: { field: name },
      ...(hint === undefined ? {} : { hint }),
    });
  }

  text(name: string): string | undefined {
    const value = this.#values.get(name);
    this.#values.delete(name);
    if (value === '') this.refuse(name, 'is empty');
    return value;
  }

  parsed<T>(name: string, example: string, parse: (text: string) => T | undefined, otherwise: T): T {
    const text = this.text(name);
    if (text === undefined) return otherwise;
    // Not the value itself: it may be a secret that stands behind a wrong name.
    return parse(text) ?? this.refuse(name, `is not valid: for example ${name}=${example}`);
  }

  number(name: string, least: number, most: number, otherwise: number): number {
    const parse = (text: string) => {
      const n = /^\d{1,9}$/.test(text) ? Number(text) : -1;
      return n >= least && n <= most ? n : undefined;
    };
    const text = this.text(name);
    if (text === undefined) return otherwise;
    return parse(text) ?? this.refuse(name, `is not a number from ${least} to ${most}`);
  }

  /** An absolute path of a file. */
  file(name: string): string | undefined {
    const path = this.text(name);
    if (path !== undefined && !isAbsolute(path)) this.refuse(name, 'is not an absolute path');
    return path;
  }

  headers(): [string, string][] {
    const found: [string, string][] = [];
    for (const [name, value] of this.#values) {
      if (!name.startsWith('header.')) continue;
      const header = parseHeader(name.slice('header.'.length), value);
      if (!header) this.refuse(name, 'is not a header of HTTP');
      found.push(header);
      this.#values.delete(name);
    }
    return found;
  }

  /** Refuses what was not asked for. */
  end(): void {
    const [unknown] = this.#values.keys();
    if (unknown !== undefined)
      this.refuse(unknown, 'there is no such parameter of this kind of export', 'see docs/export.md');
  }
}

/** A header's name in lower case, with its value; undefined if it is none. */
export function parseHeader(name: string, value: string): [string, string] | undefined {
  const lower = name.trim().toLowerCase();
  if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(lower) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) return undefined;
  // Those belong to the request itself.
  if (['content-length', 'content-type', 'content-encoding', 'transfer-encoding', 'connection', 'host'].includes(lower))
    return undefined;
  return [lower, value.trim()];
}

/** `30s`, `5m`, `1h`: from a second to a day, in milliseconds. */
function parseWindow(text: string): number | undefined {
  const [, n, unit] = /^(\d{1,5})([smh])$/.exec(text) ?? [];
  const ms = Number(n) * ({ s: 1000, m: 60_000, h: 3_600_000 }[unit ?? ''] ?? 0);
  return ms >= 1000 && ms <= 86_400_000 ? ms : undefined;
}

/** `1/100` */
function parseSample(text: string): number | undefined {
  const [, n] = /^1\/(\d{1,7})$/.exec(text) ?? [];
  return n !== undefined && Number(n) >= 1 ? Number(n) : undefined;
}

/** `100MiB`, `1GiB`, `500000`: from 64 KiB to 1 TiB, in bytes. */
function parseSize(text: string): number | undefined {
  const [, n, unit = ''] = /^(\d{1,15})(KiB|MiB|GiB)?$/.exec(text) ?? [];
  const bytes = Number(n) * ({ '': 1, KiB: 1024, MiB: MIB, GiB: 1024 * MIB }[unit] ?? 0);
  return bytes >= 65_536 && bytes <= 2 ** 40 ? bytes : undefined;
}

/**
 * Parses the values of `--export`.
 * @throws AgentError USAGE, naming the parameter
 */
export async function parseExports(urls: readonly string[]): Promise<ExportSpec[]> {
  if (urls.length > MOST_EXPORTS)
    throw new AgentError('USAGE', `--export is given ${urls.length} times: ${MOST_EXPORTS} at most`);
  const specs: ExportSpec[] = [];
  for (const url of urls) specs.push(await parseExport(url));
  const paths = specs.map(({ sink }) => (sink.kind === 'jsonl' ? sink.path : sink.kind));
  for (const [i, path] of paths.entries()) {
    if ((path.startsWith('/') || path === 'stdout') && paths.indexOf(path) !== i)
      throw new AgentError('USAGE', `two exports go to ${path}`);
  }
  return specs;
}

async function parseExport(text: string): Promise<ExportSpec> {
  const [bare = '', ...rest] = text.split('?');
  // Whatever is in front of an @ may be a password.
  const target = bare.replace(/\/\/[^/@]*@/, '//…@');
  const params = new Parameters(rest.join('?'), target);
  let url: URL;
  try {
    url = new URL(bare);
  } catch {
    throw new AgentError('USAGE', `--export ${target}: not a URL`, { hint: 'for example otlp+http://collector:4318' });
  }
  if (url.username !== '' || url.password !== '')
    throw new AgentError('USAGE', `--export ${target}: no user belongs into the URL`, {
      hint: 'give headers-file=, with an authorization header',
    });
  if (url.hash !== '') throw new AgentError('USAGE', `--export ${target}: no # belongs into the URL: write %23`);
  const sink = sinkOf(url, target, params);
  const words = params.text('filter');
  const filters =
    words === undefined
      ? { whitelist: [], blacklist: [] }
      : await parseFilterWords(words).catch((e: AgentError) => params.refuse('filter', e.message, e.hint));
  const aggregateMs = params.parsed<number | undefined>('aggregate', '60s', parseWindow, undefined);
  const sample = params.parsed('sample', '1/100', parseSample, 1);
  const sampleDenied = params.parsed('sample-denied', '1/10', parseSample, 1);
  const queue = params.number('queue', 64, 131_072, DEFAULT_QUEUE);
  params.end();
  if (aggregateMs !== undefined && (sample > 1 || sampleDenied > 1))
    params.refuse('aggregate', 'a sum counts every flow: it cannot be combined with sample=');
  return { target, sink, filters, ...(aggregateMs === undefined ? {} : { aggregateMs }), sample, sampleDenied, queue };
}

function sinkOf(url: URL, target: string, params: Parameters): ExportSpec['sink'] {
  const scheme = url.protocol.slice(0, -1);
  switch (scheme) {
    case 'otlp+http':
    case 'otlp+https':
    case 'otlp+grpc':
    case 'otlp+grpcs':
      return otlpOf(url, scheme, target, params);
    case 'jsonl':
      return fileOf(url, target, params);
    case 'syslog+udp':
    case 'syslog+tcp':
    case 'syslog+tls':
    case 'syslog+unix':
      return syslogOf(url, scheme, target, params);
    default:
      throw new AgentError('USAGE', `--export ${target}: unknown kind of export`, {
        hint: 'otlp+http, otlp+https, otlp+grpc, otlp+grpcs, jsonl, syslog+udp, syslog+tcp, syslog+tls, syslog+unix',
      });
  }
}

function otlpOf(url: URL, scheme: string, target: string, params: Parameters): OtlpSpec {
  const transport = scheme.startsWith('otlp+http') ? 'http' : 'grpc';
  const secure = scheme.endsWith('s');
  const path = url.pathname === '' || url.pathname === '/' ? '/v1/logs' : url.pathname;
  if (transport === 'grpc' && path !== '/v1/logs')
    throw new AgentError('USAGE', `--export ${target}: gRPC has no path`);
  const headersFile = params.file('headers-file');
  return {
    kind: 'otlp',
    transport,
    secure,
    ...hostOf(url, target, transport === 'http' ? 4318 : 4317),
    path,
    headers: params.headers(),
    ...(headersFile === undefined ? {} : { headersFile }),
    gzip: params.parsed('gzip', 'on', onOff, false),
    tls: secure ? tlsOf(params) : {},
  };
}

function fileOf(url: URL, target: string, params: Parameters): FileSpec | StdoutSpec {
  if (url.host === '' && url.pathname === '-') return { kind: 'stdout' };
  const path = decodeURIComponent(url.pathname);
  if (url.host !== '' || !isAbsolute(path) || path.endsWith('/') || path.includes('\0'))
    throw new AgentError('USAGE', `--export ${target}: not an absolute path`, {
      hint: 'jsonl:///var/log/egress/flows.jsonl, or jsonl:- for standard output',
    });
  return {
    kind: 'jsonl',
    path,
    rotateBytes: params.parsed('rotate', '100MiB', parseSize, 100 * MIB),
    keep: params.number('keep', 1, 100, 5),
  };
}

function syslogOf(url: URL, scheme: string, target: string, params: Parameters): SyslogSpec {
  const transport = scheme.slice('syslog+'.length) as SyslogSpec['transport'];
  const path = decodeURIComponent(url.pathname);
  if (transport === 'unix' && (url.host !== '' || !isAbsolute(path) || Buffer.byteLength(path) > 107))
    throw new AgentError('USAGE', `--export ${target}: not an absolute path of a socket`, {
      hint: 'for example syslog+unix:///dev/log',
    });
  if (transport !== 'unix' && path !== '' && path !== '/')
    throw new AgentError('USAGE', `--export ${target}: syslog has no path`);
  const place =
    transport === 'unix'
      ? { host: '', port: 0, path }
      : { ...hostOf(url, target, { udp: 514, tcp: 601, tls: 6514 }[transport]), path: '' };
  return {
    kind: 'syslog',
    transport,
    ...place,
    facility: params.parsed('facility', 'local0', (name) => FACILITIES[name], FACILITIES.daemon as number),
    enterprise: params.number('enterprise', 1, 999_999_999, DOCUMENTATION_PEN),
    most: params.number('max', 480, 8192, SYSLOG_MOST[transport]),
    tls: transport === 'tls' ? tlsOf(params) : {},
  };
}

function tlsOf(params: Parameters): TlsFiles {
  const [ca, cert, key] = [params.file('ca'), params.file('cert'), params.file('key')];
  if ((cert === undefined) !== (key === undefined))
    params.refuse(cert === undefined ? 'cert' : 'key', 'cert= and key= belong together');
  const serverName = params.text('server-name');
  return {
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(serverName === undefined ? {} : { serverName }),
  };
}

function hostOf(url: URL, target: string, port: number): { host: string; port: number } {
  const host = decodeURIComponent(url.hostname).replace(/^\[(.*)\]$/, '$1');
  if (!/^[\w.:%-]+$/.test(host)) throw new AgentError('USAGE', `--export ${target}: no host`);
  return { host, port: url.port === '' ? port : Number(url.port) };
}

function onOff(text: string): boolean | undefined {
  return text === 'on' ? true : text === 'off' ? false : undefined;
}
