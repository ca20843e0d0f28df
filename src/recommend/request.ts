/** Requests for recommendations, as they come from outside: checked, with bounds. */
import {
  DAY_MS,
  dayOf,
  type DayRow,
  type Edge,
  type EdgeHistory,
  type EdgeParty,
  type PartyKind,
} from '../edges/edge.js';
import type { EdgeFeed } from '../edges/query.js';
import { edgeHistoryOf } from '../edges/wire.js';
import { AgentError } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import type { Snapshot } from '../identity/snapshot.js';
import { tryCanonicalAddr, tryParseCidr } from '../net/addr.js';
import { hasPorts } from '../net/protocol.js';
import type { RecommendRequest, RecommendResponse } from '../proto/edges.js';
import { LANGUAGES, type Language } from './base/names.js';
import type { Network, PortRange, RecommendOptions } from './base/types.js';
import { recommend } from './index.js';

/** Characters of the options, elements of each of their lists, and characters of each text of an edge. */
const MOST_OPTIONS = 1 << 20;
const MOST_LISTED = 50_000;
const MOST_TEXT = 1024;

export const USUAL: Omit<RecommendOptions, 'language'> = {
  ...{ minDays: 2, holdOut: 0.3, networks: [], ranges: [], clusterCidrs: [], withDenied: false, resolvers: [] },
};

/** The options that a request has in JSON. */
export type MoreOptions = Partial<Omit<RecommendOptions, 'language' | 'workloads' | 'namespaces'>> & {
  /** The evidence is what the request has, even if that is nothing. */
  readonly given?: boolean;
};

/** A question for answer(): what an agent gives to another thread. */
export interface RecommendQuestion {
  readonly request: RecommendRequest;
  /** The agent's own evidence, in place of that of the request. */
  readonly own?: Pick<EdgeFeed, 'beganMs' | 'overflow'> & { readonly histories: readonly EdgeHistory[] };
  readonly snapshot: Snapshot;
}

/** @throws AgentError USAGE */
export function answer({ request, own, snapshot }: RecommendQuestion): RecommendResponse {
  const { options } = readRequest(request);
  const evidence = withoutFuture(own?.histories ?? checked((request.evidence ?? []).map(edgeHistoryOf)));
  const began = own && options.beganMs === undefined ? { beganMs: own.beganMs } : {};
  const result = recommend(evidence, snapshot, { ...options, ...began });
  const warnings = [...result.warnings, ...(own ? overflowWarnings(own.overflow) : [])];
  const yaml = result.workloads.map((one) => one.yaml).join('');
  return { json: JSON.stringify({ ...result, warnings }), yaml };
}

/**
 * The evidence without days that are yet to come, of a node whose clock was wrong: the window would end with them.
 * @param nowMs milliseconds since 1970
 */
export function withoutFuture(histories: readonly EdgeHistory[], nowMs: number = Date.now()): readonly EdgeHistory[] {
  const last = dayOf(nowMs + DAY_MS);
  if (!histories.some(({ days }) => days.some(({ day }) => day > last))) return histories;
  return histories.map(({ edge, days }) => ({ edge, days: days.filter(({ day }) => day <= last) }));
}

/** @param overflow flows that found no room in a ledger */
export function overflowWarnings(overflow: number): string[] {
  return overflow > 0 ? [`${overflow} flows found no room in the ledger: nobody knows what they were`] : [];
}

/** What a request asks for. @throws AgentError USAGE */
export function readRequest(request: RecommendRequest): { options: RecommendOptions; given: boolean } {
  const { workloads, namespaces, dialect = '' } = request;
  const language = dialect === '' ? 'networkpolicy' : dialect;
  if (!(LANGUAGES as readonly string[]).includes(language))
    throw fault('dialect', `${JSON.stringify(language)} is none of ${LANGUAGES.join(', ')}`);
  for (const name of workloads ?? [])
    if (!/^[^/]+\/[^/]+$/.test(name)) throw fault('workloads', `${JSON.stringify(name)} is not NAMESPACE/NAME`);
  const { given, ...more } = readOptions(request.options);
  const options: RecommendOptions = {
    ...USUAL,
    ...more,
    language: language as Language,
    ...(workloads?.length ? { workloads } : {}),
    ...(namespaces?.length ? { namespaces } : {}),
  };
  return { options, given: given ?? (request.evidence?.length ?? 0) > 0 };
}

function readOptions(text = ''): MoreOptions {
  if (text === '') return {};
  if (text.length > MOST_OPTIONS) throw fault('options', `more than ${MOST_OPTIONS} characters`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw fault('options', (e as Error).message);
  }
  if (!isRecord(value)) throw fault('options', 'is no object');
  const out: Record<string, unknown> = {};
  for (const [key, one] of Object.entries(value)) {
    const read = Object.hasOwn(READERS, key) ? READERS[key as keyof typeof READERS] : undefined;
    if (!read) throw fault(`options.${key}`, 'is not known');
    const found = read(one);
    if (found === undefined) throw fault(`options.${key}`, `${JSON.stringify(one)?.slice(0, 100)} is not valid`);
    out[key] = found;
  }
  return out;
}

const READERS = {
  given: boolean,
  brief: boolean,
  withDenied: boolean,
  sinceMs: number(0, 8.64e15),
  untilMs: number(0, 8.64e15),
  beganMs: number(0, 8.64e15),
  minDays: number(1, 366),
  holdOut: number(0, 0.9),
  without: list(text),
  also: list(text),
  except: list((one) => (typeof one === 'string' ? one : undefined)),
  resolvers: list((one) => (typeof one === 'string' ? tryCanonicalAddr(one) : undefined)),
  clusterCidrs: list((one) => (typeof one === 'string' ? tryParseCidr(one)?.text : undefined)),
  networks: list((one): Network | undefined => {
    if (!isRecord(one) || typeof one.name !== 'string' || typeof one.cidr !== 'string') return undefined;
    const cidr = tryParseCidr(one.cidr)?.text;
    return cidr === undefined || one.name.length > 100 ? undefined : { name: one.name, cidr };
  }),
  ranges: list((one): PortRange | undefined => {
    if (!isRecord(one)) return undefined;
    const [lo, hi, protocol] = [port(one.lo), port(one.hi), number(0, 255)(one.protocol)];
    if (lo === undefined || hi === undefined || protocol === undefined || lo > hi || !hasPorts(protocol))
      return undefined;
    return { lo, hi, protocol };
  }),
} satisfies Record<string, (value: unknown) => unknown>;

function boolean(value: unknown): boolean | undefined {
  return typeof value === 'boolean' ? value : undefined;
}

function number(least: number, most: number): (value: unknown) => number | undefined {
  return (value) => (typeof value === 'number' && value >= least && value <= most ? value : undefined);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value.length <= 3 * MOST_TEXT ? value : undefined;
}

function port(value: unknown): number | undefined {
  return Number.isInteger(value) ? number(1, 65535)(value) : undefined;
}

function list<T>(read: (one: unknown) => T | undefined): (value: unknown) => T[] | undefined {
  return (value) => {
    if (!Array.isArray(value) || value.length > MOST_LISTED) return undefined;
    const out = value.map(read);
    return out.includes(undefined) ? undefined : (out as T[]);
  };
}

/** What is wrong with a field of a request, or with the evidence. */
export function fault(field: string, message: string): AgentError {
  return new AgentError('USAGE', `${field}: ${message}`, { where: { field } });
}

const KINDS: ReadonlySet<PartyKind> = new Set(['workload', 'node', 'name', 'address', 'service', 'other']);
const VERDICTS: ReadonlySet<string> = new Set(['allow', 'deny', 'partial', 'none']);
const LAST_DAY = Date.UTC(2200, 0, 1) / DAY_MS;

/** Evidence that was written by somebody else. @throws AgentError USAGE if it is none */
export function checked(histories: readonly EdgeHistory[]): readonly EdgeHistory[] {
  for (const { edge, days } of histories) {
    if (!isEdge(edge)) throw fault('evidence', `${JSON.stringify(edge).slice(0, 200)} is no edge`);
    const bad = days.find((row) => !isRow(row));
    if (bad) throw fault('evidence', `${JSON.stringify(bad).slice(0, 200)} is no day of an edge`);
  }
  return histories;
}

function isEdge({
  source,
  destination,
  service,
  servicePort,
  port,
  protocol,
  verdict,
  address,
  reason,
}: Edge): boolean {
  const texts = [service, address, reason];
  return (
    isParty(source) &&
    isParty(destination) &&
    texts.every(isText) &&
    VERDICTS.has(verdict) &&
    isWithin(servicePort, 65535) &&
    isWithin(port, 65535) &&
    isWithin(protocol, 255)
  );
}

function isParty({ kind, namespace, workloadKind, name }: EdgeParty): boolean {
  return KINDS.has(kind) && [namespace, workloadKind, name].every(isText);
}

function isRow({ day, firstMs, lastMs, connections, bytes, drops }: DayRow): boolean {
  const most = Number.MAX_SAFE_INTEGER;
  return isWithin(day, LAST_DAY) && [firstMs, lastMs, connections, bytes, drops].every((n) => n >= 0 && n <= most);
}

function isText(value: unknown): boolean {
  return typeof value === 'string' && value.length <= MOST_TEXT;
}

function isWithin(value: number, most: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= most;
}
