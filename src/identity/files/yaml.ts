/**
 * Parses the text of a manifest file, YAML or JSON (which is YAML too). The text is split into documents first, so that
 * an invalid document does not affect the others, and only changed documents are parsed again.
 */
import { parseDocument } from 'yaml';
import type { Problem, Where } from '../../errors.js';
import { isRecord, type ParsedObject } from '../fields.js';

/** One document of a file. */
export interface ManifestDocument {
  readonly text: string;
  /** Index of the document, from 0. */
  readonly number: number;
  /** Line of the file at which `text` begins, from 1. */
  readonly line: number;
  readonly objects: readonly ParsedObject[];
  readonly problems: readonly Problem[];
  /** Whether it is invalid, so that its content is unknown. */
  readonly broken: boolean;
}

/**
 * Maximum number of aliases in a document (the yaml library counts them). Without it, a small file could expand to
 * gigabytes.
 */
const MAX_ALIASES = 100;
/** Maximum depth of nesting. Beyond some ten thousand levels the parser itself fails. */
const MAX_DEPTH = 256;
const MAX_INDENT = 512;
/** Maximum depth of `List`s inside of `List`s. */
const MAX_LISTS = 4;

/**
 * Parses a file.
 * @param before the documents that the file had before; those with unchanged text keep the identity of their objects
 */
export function parseManifest(
  file: string,
  text: string,
  before: readonly ManifestDocument[] = [],
): ManifestDocument[] {
  const known = new Map<string, ManifestDocument>();
  for (const d of before) if (!known.has(d.text)) known.set(d.text, d);
  return splitDocuments(text).map(({ text, line }, number) => {
    const where: Where = { file, document: number, line };
    const same = known.get(text);
    if (!same || same.problems.length > 0) return parseOne(text, where);
    known.delete(text); // a second copy of a document becomes a second object
    if (same.number === number && same.line === line) return same;
    const objects = same.objects.map((o) => ({
      object: o.object,
      where: { ...where, line: shift(o.where, same.line, line) },
    }));
    return { ...same, number, line, objects };
  });
}

function shift(where: Where, from: number, to: number): number {
  return (where.line ?? from) + to - from;
}

/**
 * Splits at the lines that begin with `---`: YAML 1.2 (9.1.2) forbids them inside a document. Comments and directives
 * before the first such line belong to the document after it.
 */
export function splitDocuments(text: string): { text: string; line: number }[] {
  const out: { text: string; line: number }[] = [];
  let start = 0;
  let startLine = 1;
  let line = 1;
  const body = text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
  for (let at = 0; at <= body.length; ) {
    const newline = body.indexOf('\n', at);
    const end = newline < 0 ? body.length : newline;
    if (at > start && body.startsWith('---', at) && (at + 3 >= end || /\s/.test(body.charAt(at + 3)))) {
      const chunk = body.slice(start, at);
      if (out.length > 0 || preamble(chunk, false).offset < chunk.length) {
        out.push({ text: chunk, line: startLine });
        start = at;
        startLine = line;
      }
    }
    if (newline < 0) break;
    at = newline + 1;
    line++;
  }
  const rest = body.slice(start);
  if (rest.trim() !== '' || out.length > 0) out.push({ text: rest, line: startLine });
  return out.flatMap(splitJson);
}

/**
 * Splits JSON documents that follow each other without a separator (kubectl's decoder treats a text that begins with a
 * brace as a stream of JSON).
 */
function splitJson({ text, line }: { text: string; line: number }): { text: string; line: number }[] {
  const out: { text: string; line: number }[] = [];
  let start = 0;
  let at = line;
  for (;;) {
    const end = jsonEnd(text, start);
    if (end === undefined || !/^\s*\{/.test(text.slice(end, end + 256))) break;
    // A YAML comment may contain braces, and then it is one invalid document instead of several.
    if (!isJson(text.slice(start, end))) break;
    out.push({ text: text.slice(start, end), line: at });
    at += countLines(text, start, end);
    start = end;
  }
  out.push({ text: text.slice(start), line: at });
  return out;
}

/**
 * Position behind the first JSON object of a text; undefined if it does not begin with a brace, or the brace is not
 * closed.
 */
function jsonEnd(text: string, from: number): number | undefined {
  let at = from + preamble(text.slice(from, from + 4096), true).offset;
  while (/\s/.test(text.charAt(at))) at++;
  if (text.charAt(at) !== '{') return undefined;
  for (let depth = 0, quoted = false; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if (quoted) {
      if (c === 92) at++;
      else if (c === 34) quoted = false;
    } else if (c === 34) quoted = true;
    else if (c === 123) depth++;
    else if (c === 125 && --depth === 0) return at + 1;
  }
  return undefined;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text.slice(preamble(text, true).offset));
    return true;
  } catch {
    return false;
  }
}

function countLines(text: string, from: number, to: number): number {
  let lines = 0;
  for (let at = text.indexOf('\n', from); at >= 0 && at < to; at = text.indexOf('\n', at + 1)) lines++;
  return lines;
}

function parseOne(text: string, where: Where): ManifestDocument {
  const base = { text, number: where.document ?? 0, line: where.line ?? 1 };
  const broken = (message: string, line?: number, hint?: string): ManifestDocument => {
    const problem: Problem = { severity: 'error', where: { ...where, line: line ?? where.line }, message, hint };
    return { ...base, objects: [], problems: [problem], broken: true };
  };
  let value: unknown;
  try {
    if (isTooDeep(text)) return broken(`is nested more than ${MAX_DEPTH} levels deep`);
    const document = parseDocument(text, { stringKeys: true, merge: true, logLevel: 'silent' });
    const error = document.errors[0];
    if (error) {
      const at = error.linePos?.[0];
      const message = (error.message.split('\n')[0] ?? '').replace(/ at line \d+, column \d+:?$/, '');
      return broken(`cannot be parsed as YAML: ${message}`, at && base.line + at.line - 1, 'correct the syntax');
    }
    value = document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (e) {
    return broken(`cannot be parsed as YAML: ${(e as Error).message}`);
  }
  if (value === null || value === undefined) return { ...base, objects: [], problems: [], broken: false };
  const objects: ParsedObject[] = [];
  const problems: Problem[] = [];
  unroll(value, { ...where, line: base.line + preamble(text, true).lines }, objects, problems, 0);
  return { ...base, objects, problems, broken: problems.length > 0 };
}

/** The objects of a document: one, or the items of a `List` (or `PodList`, `NetworkPolicyList` …). */
function unroll(value: unknown, where: Where, objects: ParsedObject[], problems: Problem[], depth: number): void {
  if (!isRecord(value)) {
    const what = depth === 0 ? 'a document' : 'an item of a List';
    problems.push({
      severity: 'error',
      where,
      message: `${what} must be a Kubernetes object, with apiVersion and kind`,
    });
    return;
  }
  const { kind, items, apiVersion } = value;
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) {
    objects.push({ object: value, where });
    return;
  }
  if (depth === MAX_LISTS) {
    problems.push({ severity: 'error', where, message: `Lists are nested more than ${MAX_LISTS} deep` });
    return;
  }
  for (const item of items) {
    // The items of a typed list need not repeat its kind and apiVersion.
    const typed =
      kind !== 'List' && isRecord(item) ? { apiVersion, kind: kind.slice(0, -'List'.length), ...item } : item;
    unroll(typed, where, objects, problems, depth + 1);
  }
}

/** The blank lines, comments, directives and (optionally) `---` markers at the beginning of a text. */
function preamble(text: string, markers: boolean): { offset: number; lines: number } {
  let offset = 0;
  let lines = 0;
  while (offset < text.length) {
    const newline = text.indexOf('\n', offset);
    const end = newline < 0 ? text.length : newline;
    const line = text.slice(offset, Math.min(end, offset + 256)).trim();
    const empty = line === '' || line.startsWith('#') || line.startsWith('%') || (markers && /^---(\s*#|$)/.test(line));
    if (!empty) break;
    offset = Math.min(end + 1, text.length);
    lines++;
  }
  return { offset, lines };
}

/**
 * A limit of nesting without a parser: the number of open brackets, and columns of indentation (with the `- ` and `? `
 * that nest on one line). Brackets in strings count too: no real file has 256 of them open.
 */
function isTooDeep(text: string): boolean {
  let open = 0;
  let column = 0; // indentation of the line so far; -1 behind it
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 10) {
      column = 0;
      continue;
    }
    if (column >= 0) {
      const next = text.charCodeAt(i + 1);
      const indicator = (c === 45 || c === 63 || c === 58) && (next === 32 || next === 9);
      column = c === 32 || c === 9 || indicator ? column + 1 : -1;
      if (column > MAX_INDENT) return true;
    }
    if (c === 91 || c === 123) {
      if (++open > MAX_DEPTH) return true;
    } else if (c === 93 || c === 125) {
      if (open > 0) open--;
    }
  }
  return false;
}
