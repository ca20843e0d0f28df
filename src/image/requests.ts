/**
 * HTTP requests as rows of a set. Each field that some rule asks for has its conditions; which of them hold makes the
 * class of the field, and each class has a row.
 */
import type { SaidRequest } from '../ir/packet.js';
import { requestMatches } from '../ir/said.js';
import type { HttpMatch } from '../ir/types.js';
import { allRow, clearBit, type Row } from './rows.js';
import type { PolicySet } from './types.js';

/** What a rule asks of one field of a request. */
export interface Condition {
  /** As a request that asks for nothing else. */
  readonly match: HttpMatch;
  /** The bits whose rules ask for it. */
  readonly bits: readonly number[];
}

/** A field that some rule of a set asks for, with all its conditions. */
export interface Field {
  /** `method`, `path`, `host`, or `header:` and the name of a header. */
  readonly name: string;
  readonly conditions: readonly Condition[];
}

const known = new WeakMap<PolicySet, readonly Field[]>();

/** The fields of requests that the rules of a set ask for, by name. */
export function requestFields(set: PolicySet): readonly Field[] {
  let fields = known.get(set);
  if (!fields) known.set(set, (fields = set.says ? fieldsOf(set) : []));
  return fields;
}

function fieldsOf(set: PolicySet): Field[] {
  const fields = new Map<string, Map<string, { match: HttpMatch; bits: number[] }>>();
  const add = (name: string, match: HttpMatch, bit: number) => {
    const conditions = fields.get(name) ?? new Map<string, { match: HttpMatch; bits: number[] }>();
    fields.set(name, conditions);
    const key = JSON.stringify(match);
    const condition = conditions.get(key) ?? { match, bits: [] };
    conditions.set(key, condition);
    condition.bits.push(bit);
  };
  set.rules.forEach(({ said }, bit) => {
    if (!said?.request) return;
    const { method, path, host, headers = [] } = said.request;
    if (method !== undefined) add('method', { method }, bit);
    if (path !== undefined) add('path', { path }, bit);
    if (host !== undefined) add('host', { host }, bit);
    for (const { name, value, not } of headers) {
      const header = { name, ...(value === undefined ? {} : { value }), ...(not ? { not } : {}) };
      add(`header:${name}`, { headers: [header] }, bit);
    }
  });
  return [...fields]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, conditions]) => ({ name, conditions: [...conditions.values()] }));
}

/** The row of a field: all rules but those that ask for a condition that does not hold. @param holds by condition */
export function fieldRow(set: PolicySet, { conditions }: Field, holds: (index: number) => boolean): Row {
  const row = allRow(set);
  conditions.forEach(({ bits }, i) => {
    if (!holds(i)) for (const bit of bits) clearBit(row, bit);
  });
  return row;
}

/** The rows of all fields of a request. */
export function requestRows(set: PolicySet, said: SaidRequest): Row[] {
  return requestFields(set).map((field) =>
    fieldRow(set, field, (i) => requestMatches(field.conditions[i]!.match, said)),
  );
}
