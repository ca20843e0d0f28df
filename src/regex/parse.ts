/**
 * Reads the syntax of RE2 (github.com/google/re2/wiki/Syntax) with the flags that Envoy and Go use: Perl's
 * classes and escapes, `^` and `$` for the ends of the text. Where RE2 refuses a text it is refused here. Not supported
 * is what needs tables of Unicode, or knowledge of the characters around a place: classes `\p`, `(?i)` beyond ASCII,
 * `(?m)`, `\b`, `\B`, `\C`.
 */
import { folded, MAX_CHAR, negated, PERL, POSIX, type Ranges, ranges } from './ranges.js';
import { type Fault, type Node, regexFault } from './syntax.js';

/** In UTF-16 units. */
const MAX_TEXT = 4096;
/** Groups in groups. */
const MAX_DEPTH = 200;
/** RE2's limit for `{n,m}`, and for the product of those that are in one another. */
const MAX_REPEAT = 1000;

const CONTROLS: ReadonlyMap<string, number> = new Map([
  ['a', 7],
  ['f', 12],
  ['n', 10],
  ['r', 13],
  ['t', 9],
  ['v', 11],
]);

/** Escapes of other languages, and of RE2 if they are not supported. */
const FOREIGN_ESCAPES = [
  [/[bB]/y, 'word boundaries are not supported'],
  [/C/y, 'single bytes of characters are not supported'],
  [/[1-9gk]/y, 'RE2 has no backreferences'],
] as const;

/** What follows `(?` elsewhere. */
const FOREIGN_GROUPS = [
  [/<?[=!]/y, 'RE2 has no look-around'],
  [/>/y, 'RE2 has no atomic groups'],
  [/P[=>]/y, 'RE2 has no backreferences and no calls of groups'],
  [/\(/y, 'RE2 has no conditions'],
  [/#/y, 'RE2 has no comments'],
] as const;

/**
 * Reads a regular expression.
 * @param field path of the field that has it, for the error
 * @throws AgentError POLICY (TOO_LARGE: longer than 4,096) that names the position
 */
export function parseRegex(text: string, field: string): Node {
  if (text.length > MAX_TEXT)
    throw regexFault(text, field, `longer than ${MAX_TEXT} characters`, { code: 'TOO_LARGE' });
  return new Parser(text, field).whole();
}

interface Times {
  readonly min: number;
  readonly max: number;
}

class Parser {
  readonly #text: string;
  readonly #field: string;
  /** In UTF-16 units. */
  #at = 0;
  #fold = false;
  #dotAll = false;
  #depth = 0;
  readonly #names = new Set<string>();

  constructor(text: string, field: string) {
    this.#text = text;
    this.#field = field;
    const lone = text.search(/\p{Surrogate}/u);
    if (lone >= 0) throw this.#fault('half of a surrogate pair', { at: lone });
  }

  whole(): Node {
    const node = this.#options();
    if (this.#at < this.#text.length) throw this.#fault('")" without "("');
    return node;
  }

  /** Up to the end of the group, or of the text. */
  #options(): Node {
    const options: Node[] = [];
    let parts: Node[] = [];
    const end = () => options.push(parts.length === 1 ? parts[0]! : { kind: 'all', parts });
    // Whether a repetition ends here.
    let isRepeated = false;
    for (;;) {
      const at = this.#at;
      const char = this.#text[at];
      if (char === undefined || char === ')') {
        end();
        return options.length === 1 ? options[0]! : { kind: 'any', options };
      }
      const times = this.#times();
      if (times) {
        if (isRepeated)
          throw this.#fault(char === '+' ? 'RE2 has no possessive repetitions' : 'a repetition of a repetition', {
            at,
          });
        const last = parts.pop();
        if (!last) throw this.#fault(`nothing to repeat before "${char}"`, { at });
        parts.push(this.#repeat(last, times, at));
      } else if (this.#eat('|')) {
        end();
        parts = [];
      } else this.#part(char, parts);
      isRepeated = times !== undefined;
    }
  }

  /** Reads `*`, `+`, `?` or `{n,m}`, and a `?` behind it, which does not change what matches. */
  #times(): Times | undefined {
    const times = this.#greedyTimes();
    if (times) this.#eat('?');
    return times;
  }

  #greedyTimes(): Times | undefined {
    if (this.#eat('*')) return { min: 0, max: Infinity };
    if (this.#eat('+')) return { min: 1, max: Infinity };
    if (this.#eat('?')) return { min: 0, max: 1 };
    const at = this.#at;
    // Everything else in braces stands for itself, numbers with a leading zero too.
    const counted = this.#take(/\{(0|[1-9]\d*)(?:(,)(0|[1-9]\d*)?)?\}/y);
    if (!counted) return undefined;
    const [, least, comma, most] = counted;
    const min = Number(least);
    const max = most !== undefined ? Number(most) : comma ? Infinity : min;
    if (min > MAX_REPEAT || (max > MAX_REPEAT && max !== Infinity))
      throw this.#fault(`more than ${MAX_REPEAT} repetitions`, { at });
    if (max < min) throw this.#fault('the repetition has a maximum below its minimum', { at });
    return { min, max };
  }

  #repeat(node: Node, { min, max }: Times, at: number): Node {
    const repeat: Node = { kind: 'repeat', node, min, max };
    const isCounted = min > 1 || (max > 1 && max !== Infinity);
    if (isCounted && copies(repeat) > MAX_REPEAT)
      throw this.#fault(`repetitions in one another, more than ${MAX_REPEAT} together`, { at });
    return repeat;
  }

  /** Reads what can be repeated, or what only changes flags. */
  #part(char: string, parts: Node[]): void {
    if (char === '(') this.#group(parts);
    else if (char === '[') parts.push({ kind: 'set', ranges: this.#class() });
    else if (char === '\\') this.#escaped(parts);
    else if (this.#eat('^')) parts.push({ kind: 'begin' });
    else if (this.#eat('$')) parts.push({ kind: 'end' });
    else if (this.#eat('.')) parts.push({ kind: 'set', ranges: negated(this.#dotAll ? [] : [10, 10]) });
    else parts.push(this.#literal(this.#at, this.#char()));
  }

  #group(parts: Node[]): void {
    const open = this.#at++;
    const before = { fold: this.#fold, dotAll: this.#dotAll };
    if (this.#eat('?') && this.#groupKind(open) === 'flags') return;
    if (++this.#depth > MAX_DEPTH)
      throw this.#fault(`more than ${MAX_DEPTH} groups in one another`, { at: open, code: 'TOO_LARGE' });
    const node = this.#options();
    if (!this.#eat(')')) throw this.#fault('"(" without ")"', { at: open });
    this.#depth--;
    this.#fold = before.fold;
    this.#dotAll = before.dotAll;
    parts.push(node);
  }

  /** Reads what stands between `(?` and the content of the group. `flags`: there is no content. */
  #groupKind(open: number): 'group' | 'flags' {
    this.#refuse(FOREIGN_GROUPS, open);
    const named = this.#take(/P?<([^>]*)>/y);
    if (named) {
      const [, name = ''] = named;
      if (!/^\w+$/.test(name)) throw this.#fault(`"${name}" is no name of a group`, { at: open });
      if (this.#names.has(name)) throw this.#fault(`a second group of the name "${name}"`, { at: open });
      this.#names.add(name);
      return 'group';
    }
    const flags = this.#take(/([imsU]*)(?:-([imsU]+))?([:)])/y);
    if (!flags) throw this.#fault('no kind of group that RE2 knows', { at: open });
    const [, on = '', off = '', end] = flags;
    if (on.includes('m') && !off.includes('m'))
      throw this.#fault('(?m) is not supported', { at: open, hint: '^ and $ stand for the ends of the text' });
    const value = (flag: string, now: boolean) => !off.includes(flag) && (now || on.includes(flag));
    this.#fold = value('i', this.#fold);
    this.#dotAll = value('s', this.#dotAll);
    return end === ':' ? 'group' : 'flags';
  }

  /** An escape outside of a class. */
  #escaped(parts: Node[]): void {
    const at = this.#at;
    if (this.#take(/\\Q/y)) {
      while (this.#at < this.#text.length && !this.#take(/\\E/y)) parts.push(this.#literal(this.#at, this.#char()));
    } else if (this.#take(/\\A/y)) parts.push({ kind: 'begin' });
    else if (this.#take(/\\z/y)) parts.push({ kind: 'end' });
    else {
      const set = this.#perlClass();
      parts.push(set ? { kind: 'set', ranges: set } : this.#literal(at, this.#escape()));
    }
  }

  /** `\d`, `\D` and so on, if one is next. */
  #perlClass(): Ranges | undefined {
    const at = this.#at;
    const unicode = this.#take(/\\[pP](?:\{[^}]*\}|[^{])?/uy);
    if (unicode)
      throw this.#fault(`the Unicode class ${unicode[0]} is not supported`, {
        at,
        hint: 'write its characters, as in [0-9]',
      });
    const [, name] = this.#take(/\\([dswDSW])/y) ?? [];
    if (name === undefined) return undefined;
    return this.#named(PERL.get(name.toLowerCase())!, name !== name.toLowerCase());
  }

  /** The character that an escape stands for. */
  #escape(): number {
    const at = this.#at;
    const [, octal] = this.#take(/\\(0[0-7]{0,2}|[1-7][0-7]{1,2})/y) ?? [];
    if (octal !== undefined) return Number.parseInt(octal, 8);
    const hex = this.#take(/\\x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]+)\})/y);
    if (hex) {
      const code = Number.parseInt((hex[1] ?? hex[2])!, 16);
      if (code > MAX_CHAR) throw this.#fault('beyond U+10FFFF', { at });
      return code;
    }
    const [, char] = this.#take(/\\([afnrtv]|[\0-\x7f](?<![0-9A-Za-z]))/y) ?? [];
    if (char !== undefined) return CONTROLS.get(char) ?? char.charCodeAt(0);
    this.#at++;
    if (this.#at === this.#text.length) throw this.#fault('nothing behind "\\"', { at });
    this.#refuse(FOREIGN_ESCAPES, at);
    throw this.#fault(`RE2 has no escape \\${String.fromCodePoint(this.#char())}`, { at });
  }

  /** A class in brackets. */
  #class(): Ranges {
    const open = this.#at++;
    const isNegated = this.#eat('^');
    const pairs: number[] = [];
    for (let isFirst = true; isFirst || this.#text[this.#at] !== ']'; isFirst = false) {
      if (this.#at >= this.#text.length) throw this.#fault('"[" without "]"', { at: open });
      pairs.push(...(this.#posixClass() ?? this.#perlClass() ?? this.#range()));
    }
    this.#at++;
    return isNegated ? negated(ranges(pairs)) : ranges(pairs);
  }

  /** `[:alpha:]` or `[:^alpha:]`, if one is next. */
  #posixClass(): Ranges | undefined {
    const at = this.#at;
    const end = this.#text.startsWith('[:', at) ? this.#text.indexOf(':]', at + 2) : -1;
    if (end < 0) return undefined;
    const name = this.#text.slice(at + 2, end);
    const set = POSIX.get(name.replace(/^\^/, ''));
    if (!set) throw this.#fault(`[:${name}:] is no class of RE2`, { at });
    this.#at = end + 2;
    return this.#named(set, name.startsWith('^'));
  }

  /** A character of a class, or two with `-` between them. */
  #range(): Ranges {
    const at = this.#at;
    const lo = this.#classChar();
    const hi = this.#take(/-(?=[^\]])/y) ? this.#classChar() : lo;
    if (hi < lo) throw this.#fault('the range has its end before its start', { at });
    return this.#folded([lo, hi], at);
  }

  #classChar(): number {
    return this.#text[this.#at] === '\\' ? this.#escape() : this.#char();
  }

  /** @param at where it is written */
  #literal(at: number, char: number): Node {
    return { kind: 'set', ranges: this.#folded([char, char], at) };
  }

  /** @param range of characters that are written at a position */
  #folded(range: Ranges, at: number): Ranges {
    if (this.#fold && range[1]! > 0x7f) throw this.#fault('(?i) is supported for ASCII only', { at });
    return this.#fold ? folded(range) : range;
  }

  #named(set: Ranges, isNegated: boolean): Ranges {
    const all = this.#fold ? folded(set) : set;
    return isNegated ? negated(all) : all;
  }

  /** Reads one character. */
  #char(): number {
    const char = this.#text.codePointAt(this.#at)!;
    this.#at += char > 0xffff ? 2 : 1;
    return char;
  }

  #eat(char: string): boolean {
    const isNext = this.#text[this.#at] === char;
    if (isNext) this.#at++;
    return isNext;
  }

  /** Reads what a sticky expression matches, if it does. */
  #take(what: RegExp): RegExpExecArray | undefined {
    what.lastIndex = this.#at;
    const found = what.exec(this.#text) ?? undefined;
    this.#at += found?.[0].length ?? 0;
    return found;
  }

  /** @param at where the construct begins @throws if what is next is of another language */
  #refuse(foreign: readonly (readonly [RegExp, string])[], at: number): void {
    for (const [start, what] of foreign) if (this.#take(start)) throw this.#fault(what, { at });
  }

  #fault(what: string, { at = this.#at, ...fault }: Fault = {}) {
    return regexFault(this.#text, this.#field, what, { at: [...this.#text.slice(0, at)].length, ...fault });
  }
}

/** How often the most frequent character would be there if all counted repetitions were written out. */
function copies(node: Node): number {
  switch (node.kind) {
    case 'all':
      return Math.max(1, ...node.parts.map(copies));
    case 'any':
      return Math.max(1, ...node.options.map(copies));
    case 'repeat': {
      const times = node.max === Infinity ? node.min : node.max;
      return node.max === 0 ? 1 : Math.max(1, times) * copies(node.node);
    }
    default:
      return 1;
  }
}
