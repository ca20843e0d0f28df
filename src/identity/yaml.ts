/**
 * Text of a manifest file → parsed objects. Documents are split before they are parsed, so
 * that one broken document does not take its neighbours along, and one changed document
 * among thousands is the only one that is parsed again.
 */
import { parseDocument } from 'yaml';
import type { Problem, Where } from '../errors.js';
import { isRecord, type ParsedObject } from './fields.js';

/** One document of a file. */
export interface ManifestDocument {
  readonly text: string;
  /** 0-based. */
  readonly number: number;
  /** 1-based line of the file on which `text` begins. */
  readonly line: number;
  readonly objects: readonly ParsedObject[];
  readonly problems: readonly Problem[];
  /** Could not be parsed: what it held is unknown. */
  readonly broken: boolean;
}

/** Aliases that one document may resolve: anything but a bomb has far fewer (the yaml library counts them). */
const MAX_ALIASES = 100;
/** Nesting that no manifest needs; beyond some ten thousand levels the parser itself breaks down. */
const MAX_DEPTH = 256;
const MAX_INDENT = 512;
/** Lists in lists in lists. */
const MAX_LISTS = 4;

/**
 * @param before the documents that the file had last time: those whose text is still there
 *   keep the identity of their objects
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
    known.delete(text); // a second copy of a document is a second object
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
 * Cuts at the lines that begin with `---`: YAML 1.2 (9.1.2) forbids them anywhere inside a document.
 * Comments and directives before the first such line belong to the document after it.
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
  return out;
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

/** Objects of a document: one, or the items of a `List` (or `PodList`, `NetworkPolicyList` …). */
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
    // The items of a typed list need not repeat what the list says.
    const typed =
      kind !== 'List' && isRecord(item) ? { apiVersion, kind: kind.slice(0, -'List'.length), ...item } : item;
    unroll(typed, where, objects, problems, depth + 1);
  }
}

/** The blank lines, comments, directives and (if asked) `---` markers with which a text begins. */
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
 * A bound on nesting that needs no parser: brackets that stand open, and columns of indentation
 * (with the `- ` and `? ` that nest on one line). Brackets in strings count too: no one has 256 of them open.
 */
function isTooDeep(text: string): boolean {
  let open = 0;
  let column = 0; // length of the line's indentation; -1 after it
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
