/**
 * Expected verdicts: a table in YAML, judged by the reference.
 *
 *   manifests: policies            # or a list of directories and files, relative to this file
 *   tests:
 *   - shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#0]
 *   - {name: no SSH, from: shop/web, to: shop/db, port: 22, expect: deny, rule: 'np/shop/web#default'}
 *   - {from: shop/web, to: svc/shop/api, port: 80, expect: allow}
 *   - shop/web → svc/kube-system/kube-dns:53/udp query api.example.com: allow
 *   - shop/web → api.example.com:443/tcp: allow
 *   - shop/web → 203.0.113.10:443/tcp sni api.example.com: allow
 *   - shop/web → 203.0.113.10:80/tcp http GET http://api.example.com/v1: allow
 *   names:                         # what pods learned from DNS answers
 *     shop/web: {api.example.com: [203.0.113.10]}
 */
import { dirname, resolve } from 'node:path';
import { parse, YAMLParseError } from 'yaml';
import type { Hearing } from '../dialects/hearing.js';
import { compileSchema, shapeFaults } from '../dialects/base/schema.js';
import { AgentError, type Problem } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import type { Learned, Packet, Verdict } from '../ir/packet.js';
import { explain, type Explanation } from '../explain/explain.js';
import { formatRule, ruleKey, rulesById } from '../ir/names.js';
import { outcomeOf } from '../ir/outcome.js';
import { onNode, parseSender, senderOf, viewOf } from '../ir/sender.js';
import type { RuleRef } from '../ir/types.js';
import { canonicalName } from '../names/pattern.js';
import { helloSaying, requestSaying } from '../said/given.js';
import { addressesOf, readLearned } from './names/learned.js';
import { withLine } from './validate.js';
import { expectSchema, rowSchema } from './expect.schema.js';
import type { World } from './packets.js';
import { destinationsOf, parsePort, type Port } from './target.js';
import { type LoadedWorld, loadWorld, readText } from './world.js';

interface RowSpec {
  readonly name?: string;
  readonly from: string;
  readonly to: string;
  readonly port?: number | string;
  readonly query?: string;
  readonly sni?: string;
  readonly http?: string;
  readonly headers?: readonly string[];
  readonly expect: Verdict['verdict'];
  readonly rule?: string;
  readonly audit?: Verdict['verdict'];
}

/** The result of a row. */
export interface RowResult {
  readonly row: number;
  readonly line?: number;
  /** The row's text, or its name. */
  readonly name: string;
  readonly ok: boolean;
  /** Such as `allow [np/shop/web#0]`. */
  readonly expected: string;
  readonly actual: string;
  readonly packet: Packet;
  /** For a failed row: what decided, and why the expected rule did not. */
  readonly why: readonly string[];
}

export interface FileResult {
  readonly file: string;
  readonly rows: readonly RowResult[];
  /** Problems of the file itself. Rows that cannot be read are not judged. */
  readonly problems: readonly Problem[];
  /** Problems of the manifests. */
  readonly manifests: readonly Problem[];
}

const validateFile = compileSchema(expectSchema);
const validateRow = compileSchema(rowSchema);

/**
 * Judges every row of a file. Whatever cannot be read is a problem, not an exception.
 * @param hearing as the agent's options say it
 */
export function runFile(file: string, hearing: Partial<Hearing> = {}): FileResult {
  const problems: Problem[] = [];
  const place = withLine();
  const fault = (field: string, message: string, hint?: string) =>
    problems.push(place({ severity: 'error', where: { file, document: 0, field }, message, hint }));
  try {
    const table = readTable(file, fault);
    if (!table) return { file, rows: [], problems: problems.map(withoutDocument), manifests: [] };
    const world = loadWorld(
      table.manifests.map((path) => resolve(dirname(file), path)),
      hearing,
    );
    const learned = readLearned(table.names, (at, message, hint) => fault(at ? `names.${at}` : 'names', message, hint));
    const rows: RowResult[] = [];
    table.tests.forEach((test, row) => {
      const field = `tests[${row}]`;
      const spec = readRow(test, field, fault);
      const line = place({ severity: 'error', where: { file, document: 0, field }, message: '' }).where.line;
      if (spec)
        rows.push(
          ...judgeRow({ ...world, learned }, spec, { row, line }, (at, message, hint) =>
            fault(at ? `${field}.${at}` : field, message, hint),
          ),
        );
    });
    return { file, rows, problems: problems.map(withoutDocument), manifests: world.problems };
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    problems.push({ severity: 'error', where: { file, ...e.where }, message: e.message, hint: e.hint });
    return { file, rows: [], problems: problems.map(withoutDocument), manifests: [] };
  }
}

/** Removes the number of the document, since there is only one. */
function withoutDocument(problem: Problem): Problem {
  const { document: _, ...where } = problem.where;
  return { ...problem, where };
}

type FaultAt = (field: string, message: string, hint?: string) => void;

interface Table {
  readonly manifests: readonly string[];
  readonly names: unknown;
  readonly tests: readonly unknown[];
}

function readTable(file: string, fault: FaultAt): Table | undefined {
  let content: unknown;
  try {
    content = parse(readText(file), { maxAliasCount: 100 });
  } catch (e) {
    if (!(e instanceof YAMLParseError)) throw e;
    const line = e.linePos?.[0].line;
    throw new AgentError('MANIFEST', `cannot be parsed as YAML: ${e.message.split('\n')[0]}`, {
      where: { file, line },
    });
  }
  const faults = shapeFaults(validateFile, content);
  for (const f of faults) fault(f.field, f.message, f.hint);
  if (faults.length > 0) return undefined;
  const { manifests, names = {}, tests } = content as Omit<Table, 'manifests'> & { manifests: string | string[] };
  return { manifests: [manifests].flat(), names, tests };
}

/** `shop/web → 1.2.3.4:443/tcp: allow [np/shop/web#0] audit deny`; the arrow may be `->`. */
const SHORT = /^(\S+)\s+(?:→|->)\s+(.+?):\s+(\S+)(?:\s+\[([^\]]+)\])?(?:\s+audit\s+(\S+))?\s*$/;
/** `1.2.3.4`, `[fd00::1]` or `shop/api`, followed by `:443/tcp`, `:443`, `/gre` or `/icmp 8/0`; then ` query NAME`, ` sni NAME` or ` http GET URL`. */
const SHORT_TO =
  /^(\[[^\]]+\]|[^:\s]+?)(?::(\S+)|\/((?:icmp|icmpv6)\s+\S+))?(?:\s+(query|sni)\s+(\S+)|\s+(http)\s+(\S+\s+\S+))?$/i;

function readRow(test: unknown, field: string, fault: FaultAt): RowSpec | undefined {
  const entries = isRecord(test) ? Object.entries(test) : [];
  const text =
    typeof test === 'string'
      ? test
      : entries.length === 1 && /→|->/.test(entries[0]?.[0] ?? '')
        ? `${entries[0]?.[0]}: ${entries[0]?.[1]}`
        : undefined;
  let spec: unknown = test;
  if (text !== undefined) {
    const [, from, target = '', expected, rule, audit] = SHORT.exec(text) ?? [];
    const [, bare, port, icmp, what, name, isHttp, request] = SHORT_TO.exec(target) ?? [];
    if (from === undefined || bare === undefined) {
      fault(field, `is no row: ${text}`, 'for example: shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#0]');
      return undefined;
    }
    const place = splitProtocol(bare.replace(/^\[|\]$/g, ''));
    const asked = isHttp ? { http: request } : what ? { [what.toLowerCase()]: name } : {};
    const parts = { from, to: place.to, port: port ?? icmp ?? place.protocol, ...asked, expect: expected, rule, audit };
    spec = Object.fromEntries(Object.entries(parts).filter(([, v]) => v !== undefined));
  }
  const faults = shapeFaults(validateRow, spec);
  for (const f of faults)
    fault(
      text !== undefined || f.field === '' ? field : `${field}.${f.field}`,
      text !== undefined && f.field ? `${f.field}: ${f.message}` : f.message,
      f.hint,
    );
  return faults.length > 0 ? undefined : (spec as RowSpec);
}

/** Splits `1.2.3.4/gre`. A name behind an address is a protocol; a name behind a namespace is a pod. */
function splitProtocol(text: string): { to: string; protocol?: string } {
  const [, to, protocol] = /^([0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*)\/([a-z]\w*)$/i.exec(text) ?? [];
  return to === undefined ? { to: text } : { to, protocol };
}

function judgeRow(
  { ir, snapshot, learned }: LoadedWorld & { readonly learned: Learned },
  spec: RowSpec,
  at: { row: number; line?: number },
  fault: FaultAt,
): RowResult[] {
  const { from, node } = parseSender(spec.from);
  const sender = node !== undefined && !snapshot.nodes.has(node) ? undefined : senderOf(snapshot, from);
  if (!sender) {
    const hint = 'write namespace/name of a pod that the manifests have, or @node/NAME';
    fault('from', `there is no ${node === undefined ? `pod ${from}` : `node ${node}`}`, hint);
    return [];
  }
  try {
    const port: Port = parsePort(spec.port, spec.to, snapshot);
    const world: World = { ir, snapshot: node === undefined ? viewOf(snapshot, from) : onNode(snapshot, node) };
    const asked = askedIn(spec);
    const to = spec.to.includes(':') ? `[${spec.to}]` : spec.to;
    const name = spec.name ?? `${spec.from} → ${to}${port.text}${asked}`;
    const query = spec.query === undefined ? {} : { query: canonicalName(spec.query) };
    const said = saidIn(spec, port.protocol);
    const byName = addressesOf(learned, from, spec.to);
    const expected = shown(spec.expect, spec.rule, spec.audit);
    const places = byName.length > 0 ? byName : destinationsOf(spec.to, snapshot);
    const results = places.map((to): RowResult => {
      const packet = { from, to, protocol: port.protocol, port: port.port, ...query, ...said };
      const verdict = outcomeOf(world.ir, world.snapshot, packet, learned);
      const ref = rulesById(ir).get(verdict.rule);
      const rule = ref && ruleKey(ref);
      const ok =
        verdict.verdict === spec.expect &&
        (spec.rule === undefined || (ref !== undefined && isCalled(ref, spec.rule))) &&
        (spec.audit === undefined || spec.audit === (verdict.audit ?? verdict).verdict);
      const why = ok ? [] : reasons(explain(world.ir, world.snapshot, packet, learned), spec);
      const audit = spec.audit === undefined ? undefined : (verdict.audit ?? verdict).verdict;
      return { ...at, name, ok, expected, actual: shown(verdict.verdict, rule, audit), packet, why };
    });
    // A pod or Service with several addresses is one row, which holds if it holds for each address.
    const failed = results.find((r) => !r.ok);
    return [failed ?? (results[0] as RowResult)];
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    fault(e.where.field ?? '', e.message, e.hint);
    return [];
  }
}

function askedIn({ query, sni, http }: RowSpec): string {
  if (query !== undefined) return ` query ${query}`;
  if (sni !== undefined) return ` sni ${sni}`;
  return http === undefined ? '' : ` http ${http}`;
}

/** @throws AgentError USAGE */
function saidIn({ query, sni, http, headers }: RowSpec, protocol: number): Pick<Packet, 'said'> {
  const fail = (field: string, message: string) => new AgentError('USAGE', message, { where: { field } });
  if ([query, sni, http].filter((one) => one !== undefined).length > 1)
    throw fail(http === undefined ? 'sni' : 'http', 'of query, sni and http there can be one');
  if (headers !== undefined && http === undefined) throw fail('headers', 'are those of http, which is missing');
  if (sni !== undefined && protocol !== TCP && protocol !== UDP)
    throw fail('sni', 'TLS is spoken over TCP, and QUIC over UDP');
  if (http !== undefined && protocol !== TCP) throw fail('http', 'HTTP/1 is spoken over TCP');
  const field = http === undefined ? 'sni' : 'http';
  try {
    if (http !== undefined) return { said: requestSaying(http, headers) };
    return sni === undefined ? {} : { said: helloSaying(sni) };
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    throw new AgentError('USAGE', e.message, { where: { field }, hint: e.hint });
  }
}

const [TCP, UDP] = [6, 17];

function shown(verdict: string, rule: string | undefined, audit: string | undefined): string {
  return `${verdict}${rule === undefined ? '' : ` [${rule}]`}${audit === undefined ? '' : ` audit ${audit}`}`;
}

/** Whether a row names the rule, by its key or in the form of flows and explain. */
function isCalled(ref: RuleRef, rule: string | undefined): boolean {
  return rule === ruleKey(ref) || rule === formatRule(ref);
}

/** The reasons: what decided, and why the rule in the row did not. */
function reasons(explanation: Explanation, spec: RowSpec): string[] {
  const out = [explanation.summary];
  const target = explanation.targets[0];
  if (!target) return out;
  const rules = target.tiers.flatMap((tier) => [...tier.policies.flatMap((p) => p.rules), ...tier.always]);
  const line = (r: (typeof rules)[number]) => `${r.rule} ${r.text}: ${r.why}`;
  const decided = rules.find((r) => r.result === 'decides');
  if (decided) out.push(line(decided));
  if (spec.rule === undefined || (decided && isCalled(decided.ref, spec.rule))) return out;
  const wanted = rules.find((r) => isCalled(r.ref, spec.rule));
  const policy = target.tiers.flatMap((tier) => tier.policies).find((p) => spec.rule?.startsWith(`${p.policy}#`));
  if (wanted) out.push(line(wanted));
  else if (policy) out.push(`${policy.policy}: ${policy.why}`);
  else out.push(`there is no rule ${spec.rule}`);
  return out;
}
