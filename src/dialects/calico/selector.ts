/**
 * Parses Calico's selector language to a tree. The grammar is that of libcalico-go/lib/selector (tokenizer and parser):
 *
 *   or   = and { "||" and }                    lowest precedence
 *   and  = not { "&&" not }
 *   not  = { "!" } term
 *   term = "(" or ")" | "all()" | "global()" | "has(" label ")" | label operator
 *   operator = ("==" | "!=" | "contains" | "starts with" | "ends with") string
 *            | ["not"] "in" "{" [string {"," string} [","]] "}"
 *
 * Strings are quoted with ' or " and have no escapes. Blanks are spaces and tabs: a line break is an error in Calico, and
 * here. An empty selector matches everything.
 */

export type Selector =
  | { readonly op: 'all' | 'global' }
  | { readonly op: 'has'; readonly key: string }
  | { readonly op: 'eq' | 'ne' | 'contains' | 'starts' | 'ends'; readonly key: string; readonly value: string }
  | { readonly op: 'in' | 'notin'; readonly key: string; readonly values: readonly string[] }
  | { readonly op: 'not'; readonly of: Selector }
  | { readonly op: 'and' | 'or'; readonly of: readonly Selector[] };

export interface SelectorError {
  readonly message: string;
  /** Index of the character at which the error is, from 0. */
  readonly position: number;
}

/** Maximum length. Calico's newer CRDs accept 1,024 characters, the older ones any number. */
const MAX_LENGTH = 8192;
/** Maximum depth of nested parentheses: far more than anyone writes, far less than the stack holds. */
const MAX_DEPTH = 100;

/** Parses a selector. Returns the error instead of throwing it. */
export function parseSelector(text: string): Selector | SelectorError {
  if (text.length > MAX_LENGTH) return { message: `is longer than ${MAX_LENGTH} characters`, position: MAX_LENGTH };
  try {
    return new Parser(text).parse();
  } catch (error) {
    if (error instanceof Unexpected) return { message: error.message, position: error.position };
    throw error;
  }
}

export function isSelectorError(parsed: Selector | SelectorError): parsed is SelectorError {
  return 'position' in parsed;
}

class Unexpected extends Error {
  constructor(
    message: string,
    readonly position: number,
  ) {
    super(message);
  }
}

const LABEL = /[a-zA-Z0-9_./-]{1,512}/y;

class Parser {
  readonly #text: string;
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Selector {
    this.#blanks();
    if (this.#at === this.#text.length) return { op: 'all' };
    const selector = this.#or();
    if (this.#at < this.#text.length) this.#fail(`unexpected ${this.#here()}`);
    return selector;
  }

  #or(): Selector {
    return this.#list('or', '||', () => this.#list('and', '&&', () => this.#not()));
  }

  #list(op: 'and' | 'or', between: string, one: () => Selector): Selector {
    const of = [one()];
    while (this.#take(between)) of.push(one());
    return of.length === 1 ? (of[0] as Selector) : { op, of };
  }

  #not(): Selector {
    let negated = false;
    while (this.#take('!')) negated = !negated;
    const of = this.#term();
    return negated ? { op: 'not', of } : of;
  }

  #term(): Selector {
    if (this.#take('(')) {
      if (++this.#depth > MAX_DEPTH) this.#fail(`more than ${MAX_DEPTH} parentheses inside one another`);
      const inner = this.#or();
      this.#expect(')');
      this.#depth--;
      return inner;
    }
    if (this.#take('has(')) {
      const key = this.#label();
      this.#expect(')');
      return { op: 'has', key };
    }
    for (const op of ['all', 'global'] as const) {
      if (!this.#take(`${op}(`)) continue;
      this.#expect(')');
      return { op };
    }
    return this.#comparison(this.#label());
  }

  /** Operators need no blanks around them: `a startswith'b'`. */
  #comparison(key: string): Selector {
    if (this.#take('==')) return { op: 'eq', key, value: this.#string() };
    if (this.#take('!=')) return { op: 'ne', key, value: this.#string() };
    if (this.#take('contains')) return { op: 'contains', key, value: this.#string() };
    for (const [word, op] of [
      ['starts', 'starts'],
      ['ends', 'ends'],
    ] as const) {
      if (!this.#take(word)) continue;
      this.#expect('with');
      return { op, key, value: this.#string() };
    }
    if (this.#take('not')) {
      this.#expect('in');
      return { op: 'notin', key, values: this.#set() };
    }
    if (this.#take('in')) return { op: 'in', key, values: this.#set() };
    return this.#fail(`expected an operator after label ${key}, found ${this.#here()}`);
  }

  #set(): string[] {
    this.#expect('{');
    const values: string[] = [];
    while (this.#text[this.#at] === '"' || this.#text[this.#at] === "'") {
      values.push(this.#string());
      if (!this.#take(',')) break;
    }
    this.#expect('}');
    return values;
  }

  #string(): string {
    const quote = this.#text[this.#at];
    if (quote !== '"' && quote !== "'") this.#fail(`expected a string in quotes, found ${this.#here()}`);
    const end = this.#text.indexOf(quote as string, this.#at + 1);
    if (end < 0) this.#fail('a string without its closing quote');
    const value = this.#text.slice(this.#at + 1, end);
    this.#at = end + 1;
    this.#blanks();
    return value;
  }

  #label(): string {
    LABEL.lastIndex = this.#at;
    const found = LABEL.exec(this.#text)?.[0];
    if (found === undefined) return this.#fail(`expected a label, found ${this.#here()}`);
    this.#at += found.length;
    this.#blanks();
    return found;
  }

  /** If the text is at the current position, skips it and the blanks behind it. */
  #take(text: string): boolean {
    if (!this.#text.startsWith(text, this.#at)) return false;
    this.#at += text.length;
    this.#blanks();
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) this.#fail(`expected ${text}, found ${this.#here()}`);
  }

  #blanks(): void {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at++;
  }

  #here(): string {
    return this.#at < this.#text.length
      ? JSON.stringify(this.#text.slice(this.#at, this.#at + 1))
      : 'the end of the selector';
  }

  #fail(message: string): never {
    throw new Unexpected(message, this.#at);
  }
}
