/**
 * HTTP requests as rows of a set. Each field that some rule asks for is walked by one table or a few, which tell which of
 * the rules' conditions hold; each such combination is a class of its own, with a row. The kernel runs the same program
 * (bpf/http_rules.h).
 */
import { AgentError } from '../errors.js';
import type { SaidRequest } from '../ir/packet.js';
import type { HttpMatch } from '../ir/types.js';
import { combine } from '../regex/combine.js';
import { type Dfa, settle } from '../regex/dfa.js';
import { tableOf } from '../regex/match.js';
import { allRow, clearBit, type Row } from './bits.js';
import type { PolicySet, SetRule } from './types.js';

/** Steps of a program, at most (EA_HTTP_STEPS): each is a walk and a row. */
const MAX_STEPS = 32;
/** The id of the first class of a set's requests. The ids below are fixed ones (enum ea_class), those far above hashes. */
export const FIRST_REQUEST_CLASS = 16;
/** The first id behind those that a program may use. */
export const END_REQUEST_CLASSES = 2 ** 20;

/** One walk over a field. */
export interface RequestStep {
  readonly field: 'method' | 'path' | 'host' | 'header';
  /** Of a header, in lower case. */
  readonly name?: string;
  readonly table: Dfa;
  /** The last state of the table that no byte of the field leaves. */
  readonly settled: number;
  /** By set of the table: the class of a field for which it holds. */
  readonly ids: readonly number[];
  /** The class of a request without the field. */
  readonly absent: number;
}

/** What a set asks of requests. */
export interface RequestProgram {
  readonly steps: readonly RequestStep[];
  /** Class id → the rules that are left. */
  readonly rows: ReadonlyMap<number, Row>;
  /** Whether some rule asks for the host by patterns of names, too. */
  readonly hosts: boolean;
}

/** What some rules ask of one field. */
interface Condition {
  readonly field: RequestStep['field'];
  readonly name?: string;
  /** Absent: any value. */
  readonly regex?: string;
  readonly not: boolean;
  readonly bits: number[];
}

const programs = new WeakMap<readonly SetRule[], RequestProgram>();

/**
 * The program of a set: of no steps if no rule asks for requests.
 * @throws AgentError TOO_LARGE if the regular expressions need more tables than a program has steps; POLICY
 */
export function requestProgram(set: Pick<PolicySet, 'rules' | 'large'>): RequestProgram {
  let program = programs.get(set.rules);
  if (!program) programs.set(set.rules, (program = programOf(set)));
  return program;
}

/** Matches any value, of any bytes. */
const ANY: Dfa = {
  classes: 1,
  classOf: new Uint8Array(256),
  next: Uint16Array.of(0, 1),
  start: 1,
  accepts: Uint16Array.of(0, 1),
  sets: [[], [0]],
};

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);
const VISIBLE = range(0x21, 0x7e);
/** The bytes that a field can have where a request is not refused: src/said/http.ts. */
const BYTES_OF: Readonly<Record<RequestStep['field'], readonly number[]>> = {
  method: VISIBLE,
  path: VISIBLE,
  host: VISIBLE,
  header: [0x09, ...range(0x20, 0x7e), ...range(0x80, 0xff)],
};

function programOf(set: Pick<PolicySet, 'rules' | 'large'>): RequestProgram {
  const steps: RequestStep[] = [];
  const rows = new Map<number, Row>();
  let next = FIRST_REQUEST_CLASS;
  for (const conditions of fieldsOf(set.rules)) {
    const { field, name } = conditions[0]!;
    const { tables, refused } = combine(conditions.map(({ regex }) => (regex === undefined ? ANY : tableOf(regex))));
    if (refused.length > 0 || steps.length + tables.length > MAX_STEPS) {
      const what = name === undefined ? `${field}s of requests` : `the header ${name}`;
      throw new AgentError('TOO_LARGE', `the regular expressions for ${what} need too many tables together`, {
        hint: `the one that found no room: ${conditions[refused[0] ?? 0]!.regex}`,
      });
    }
    for (const combined of tables) {
      const { table, settled } = settle(combined, BYTES_OF[field]);
      const own = new Set(table.sets.flat());
      /** @param met the regular expressions of the table that match */
      const classFor = (met: readonly number[]) => {
        const row = allRow(set);
        for (const index of own) {
          const { not, bits } = conditions[index]!;
          if (met.includes(index) === not) for (const bit of bits) clearBit(row, bit);
        }
        rows.set(next, row);
        return next++;
      };
      const ids = table.sets.map((met) => classFor(met));
      // A request without a host has an empty one.
      const absent = field === 'header' ? classFor([]) : ids[table.accepts[table.start]!]!;
      steps.push({ field, ...(name === undefined ? {} : { name }), table, settled, ids, absent });
    }
  }
  if (next > END_REQUEST_CLASSES) throw new AgentError('TOO_LARGE', 'the rules for requests have too many classes');
  return { steps, rows, hosts: set.rules.some(({ said }) => said?.hosts !== undefined) };
}

/** The conditions of all rules by field, in a fixed order. */
function fieldsOf(rules: readonly SetRule[]): Condition[][] {
  const fields = new Map<string, Map<string, Condition>>();
  const add = (condition: Omit<Condition, 'bits'>, bit: number) => {
    const { field, name = '', regex, not } = condition;
    const key = `${field}:${name}`;
    let some = fields.get(key);
    if (!some) fields.set(key, (some = new Map()));
    const text = JSON.stringify([regex, not]);
    let known = some.get(text);
    if (!known) some.set(text, (known = { ...condition, bits: [] }));
    known.bits.push(bit);
  };
  rules.forEach(({ said }, bit) => {
    for (const condition of said?.request ? conditionsOf(said.request) : []) add(condition, bit);
  });
  return [...fields].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, some]) => [...some.values()]);
}

function conditionsOf({ method, path, host, headers = [] }: HttpMatch): Omit<Condition, 'bits'>[] {
  const plain = { method, path, host };
  return [
    ...(['method', 'path', 'host'] as const).flatMap((field) => {
      const regex = plain[field];
      return regex === undefined ? [] : [{ field, regex, not: false }];
    }),
    ...headers.map(({ name, value, not }) => ({
      ...{ field: 'header' as const, name, not: not === true },
      ...(value === undefined ? {} : { regex: value }),
    })),
  ];
}

/** The rows that count for a request, as the kernel finds them. */
export function requestRows(set: PolicySet, said: SaidRequest): Row[] {
  const { steps, rows } = requestProgram(set);
  return steps.map((step) => rows.get(classOf(step, said)) as Row);
}

function classOf({ field, name, table, ids, absent }: RequestStep, said: SaidRequest): number {
  const text = field === 'header' ? headerOf(said, name) : said[field];
  if (text === undefined) return absent;
  const { accepts, classes, classOf: byteClass, next } = table;
  let state = table.start;
  for (const byte of Buffer.from(text)) state = next[state * classes + byteClass[byte]!]!;
  return ids[accepts[state]!]!;
}

/** Several lines of one name are one value (RFC 9110, 5.3). */
function headerOf({ headers }: SaidRequest, name: string | undefined): string | undefined {
  const lines = headers.filter(([one]) => one === name).map(([, value]) => value);
  return lines.length === 0 ? undefined : lines.join(',');
}
