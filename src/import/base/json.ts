/** A JSON parser that knows on which line each value stands. */
import { AgentError } from '../../errors.js';

export type JsonValue = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

export interface Json {
  readonly value: JsonValue;
  /** From 1. */
  readonly line: number;
}

const MAX_DEPTH = 64;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
// Everything up to the quote that ends it; an escape is two characters.
const STRING = /"(?:[^"\\\u0000-\u001f]|\\.)*"/y;

/** @throws AgentError MANIFEST with file and line */
export function parseJson(file: string, text: string): Json {
  return new Parser(file, text).document();
}

class Parser {
  readonly #file: string;
  readonly #text: string;
  #at = 0;
  #line = 1;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  document(): Json {
    const json = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail('has something behind its JSON value');
    return json;
  }

  #fail(message: string): never {
    const where = { file: this.#file, line: this.#line };
    throw new AgentError('MANIFEST', `${this.#file}:${this.#line} cannot be read as JSON: ${message}`, { where });
  }

  #space(): void {
    for (; this.#at < this.#text.length; this.#at++) {
      const c = this.#text.charCodeAt(this.#at);
      if (c === 10) this.#line++;
      else if (c !== 32 && c !== 9 && c !== 13) return;
    }
  }

  #value(depth: number): Json {
    if (depth > MAX_DEPTH) this.#fail(`is nested more than ${MAX_DEPTH} levels deep`);
    this.#space();
    const line = this.#line;
    switch (this.#text[this.#at]) {
      case undefined:
        return this.#fail('ends too early');
      case '{':
        return { value: this.#object(depth), line };
      case '[':
        return { value: this.#array(depth), line };
      case '"':
        return { value: this.#string(), line };
      default:
        return { value: this.#word(), line };
    }
  }

  #object(depth: number): ReadonlyMap<string, Json> {
    const map = new Map<string, Json>();
    this.#at++;
    if (this.#ends('}')) return map;
    for (;;) {
      this.#space();
      if (this.#text[this.#at] !== '"') this.#fail('a key is missing');
      const key = this.#string();
      // The last one would count for most programs, and the first for others.
      if (map.has(key)) this.#fail(`${JSON.stringify(key.slice(0, 40))} is there twice`);
      this.#space();
      if (this.#text[this.#at] !== ':') this.#fail('a colon is missing');
      this.#at++;
      map.set(key, this.#value(depth + 1));
      if (this.#ends('}')) return map;
      this.#comma();
    }
  }

  #array(depth: number): readonly Json[] {
    const list: Json[] = [];
    this.#at++;
    if (this.#ends(']')) return list;
    for (;;) {
      list.push(this.#value(depth + 1));
      if (this.#ends(']')) return list;
      this.#comma();
    }
  }

  #ends(bracket: string): boolean {
    this.#space();
    if (this.#text[this.#at] !== bracket) return false;
    this.#at++;
    return true;
  }

  #comma(): void {
    if (this.#text[this.#at] !== ',') this.#fail('a comma is missing');
    this.#at++;
  }

  #string(): string {
    STRING.lastIndex = this.#at;
    const found = STRING.exec(this.#text)?.[0];
    if (found === undefined) this.#fail('a string does not end');
    this.#at += found.length;
    try {
      return JSON.parse(found) as string;
    } catch {
      return this.#fail('a string has an invalid escape');
    }
  }

  #word(): null | boolean | number {
    for (const [word, value] of [
      ['true', true],
      ['false', false],
      ['null', null],
    ] as const) {
      if (!this.#text.startsWith(word, this.#at)) continue;
      this.#at += word.length;
      return value;
    }
    NUMBER.lastIndex = this.#at;
    const found = NUMBER.exec(this.#text)?.[0];
    if (found === undefined) return this.#fail(`${JSON.stringify(this.#text[this.#at])} begins no value`);
    this.#at += found.length;
    return Number(found);
  }
}

const NOWHERE = new Map<string, Json>();

/** The fields of an object; none if it is something else. */
export function fieldsOf(json: Json | undefined): ReadonlyMap<string, Json> {
  return json?.value instanceof Map ? (json.value as ReadonlyMap<string, Json>) : NOWHERE;
}

/** The items of a list; undefined if it is something else. */
export function itemsOf(json: Json | undefined): readonly Json[] | undefined {
  return Array.isArray(json?.value) ? (json.value as readonly Json[]) : undefined;
}

export function textOf(json: Json | undefined): string | undefined {
  return typeof json?.value === 'string' ? json.value : undefined;
}

/** Every object in it that a test accepts; not those inside of such an object. In order of the text. */
export function objectsIn(json: Json, test: (fields: ReadonlyMap<string, Json>) => boolean): Json[] {
  if (json.value instanceof Map) {
    const fields = json.value as ReadonlyMap<string, Json>;
    return test(fields) ? [json] : [...fields.values()].flatMap((one) => objectsIn(one, test));
  }
  return (itemsOf(json) ?? []).flatMap((one) => (typeof one.value === 'object' ? objectsIn(one, test) : []));
}
