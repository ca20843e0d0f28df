/** Reads what a page asks for. Everything is checked: whoever has a session may send anything. */
import { CHIP_KEYS, type Chip, LONGEST_VALUE, MOST_CHIPS } from '../wire/chips.js';
import { type View, WINDOWS, type Window } from '../wire/messages.js';
import { HttpError } from './answers.js';

const MOST_NAMESPACES = 100;
const MOST_LAST = 5000;
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;

export type Body = Readonly<Record<string, unknown>>;

/** @throws HttpError 400 */
export function bodyOf(value: unknown): Body {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw bad('', 'the body must be an object');
  return value as Body;
}

/** A text of at most so many characters. @throws HttpError 400 */
export function textOf(body: Body, field: string, most: number, usual?: string): string {
  const value = body[field] ?? usual;
  if (typeof value !== 'string') throw bad(field, 'must be a text');
  if (value.length > most) throw bad(field, `has more than ${most} characters`);
  return value;
}

/** A whole number within bounds. @throws HttpError 400 */
export function numberOf(body: Body, field: string, least: number, most: number, usual?: number): number {
  const value = body[field] ?? usual;
  if (typeof value !== 'number' || !Number.isInteger(value) || value < least || value > most)
    throw bad(field, `must be a whole number from ${least} to ${most}`);
  return value;
}

export function flagOf(body: Body, field: string): boolean {
  const value = body[field] ?? false;
  if (typeof value !== 'boolean') throw bad(field, 'must be true or false');
  return value;
}

/** A list of texts. @throws HttpError 400 */
export function textsOf(body: Body, field: string, most: number, longest: number): string[] {
  const value = body[field] ?? [];
  if (!Array.isArray(value)) throw bad(field, 'must be a list');
  if (value.length > most) throw bad(field, `has more than ${most} elements`);
  return value.map((one, n) => textOf({ [`${field}[${n}]`]: one as unknown }, `${field}[${n}]`, longest));
}

export function namespacesOf(body: Body): string[] {
  const names = textsOf(body, 'namespaces', MOST_NAMESPACES, 63);
  const wrong = names.findIndex((name) => !NAMESPACE.test(name));
  if (wrong >= 0) throw bad(`namespaces[${wrong}]`, 'is no name of a namespace');
  return names;
}

export function windowOf(body: Body): Window {
  const window = body['window'] ?? 'live';
  if (!(WINDOWS as readonly unknown[]).includes(window)) throw bad('window', `must be one of ${WINDOWS.join(', ')}`);
  return window as Window;
}

/** @throws HttpError 400 */
export function viewOf(value: unknown): View {
  const body = bodyOf(value);
  const flows = body['flows'] === undefined ? undefined : bodyOf(body['flows']);
  return {
    window: windowOf(body),
    namespaces: namespacesOf(body),
    chips: chipsOf(body),
    edges: flagOf(body, 'edges'),
    ...(flows ? { flows: { last: numberOf(flows, 'last', 0, MOST_LAST, 500) } } : {}),
  };
}

function chipsOf(body: Body): Chip[] {
  const value = body['chips'] ?? [];
  if (!Array.isArray(value)) throw bad('chips', 'must be a list');
  if (value.length > MOST_CHIPS) throw bad('chips', `has more than ${MOST_CHIPS} elements`);
  return value.map((one, n) => {
    const chip = bodyOf(one);
    const key = textOf(chip, 'key', 50);
    if (!Object.hasOwn(CHIP_KEYS, key)) throw bad(`chips[${n}].key`, `there is no filter ${key}`);
    return { ...(flagOf(chip, 'not') ? { not: true } : {}), key, value: textOf(chip, 'value', LONGEST_VALUE) };
  });
}

function bad(field: string, message: string): HttpError {
  return new HttpError(400, field === '' ? message : `${field} ${message}`, field === '' ? {} : { field });
}
