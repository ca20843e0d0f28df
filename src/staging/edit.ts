/**
 * Edits an object in the text of a manifest, and nothing else of it: comments, quotes and the order of keys stay. What
 * is changed is cut out of the text and put into it at the places that the parser names; the result is parsed again, and
 * must be what was wanted.
 */
import { isDeepStrictEqual } from 'node:util';
import { isCollection, isMap, isNode, isPair, isScalar, isSeq, type Pair, parseDocument, type YAMLMap } from 'yaml';
import { AgentError } from '../errors.js';
import { isRecord } from '../identity/fields.js';
import { splitDocuments } from '../identity/files/yaml.js';
import { annotationsIn, type PlainObject, sameObject } from './forms.js';

/** A change of an object: fields to be set to a text, to be taken away, and annotations. */
export interface Edit {
  /** Path of a field that exists → its new text. */
  readonly set: readonly (readonly [path: readonly string[], value: string])[];
  readonly remove: readonly (readonly string[])[];
  /** null takes an annotation away. */
  readonly annotations: Readonly<Record<string, string | null>>;
}

interface Splice {
  readonly from: number;
  readonly to: number;
  readonly text: string;
}

/**
 * The text of a file with one of its objects edited; undefined: the file does not have the object.
 * @param wanted the object as it should be
 * @throws AgentError MANIFEST if the object is there, and cannot be edited as text
 */
export function editText(text: string, object: PlainObject, edit: Edit, wanted: PlainObject): string | undefined {
  const mark = text.charCodeAt(0) === 0xfeff ? text.slice(0, 1) : '';
  const parts = splitDocuments(text);
  for (const [n, part] of parts.entries()) {
    const edited = editDocument(part.text, object, edit, wanted);
    if (edited === undefined) continue;
    return mark + [...parts.slice(0, n), { text: edited }, ...parts.slice(n + 1)].map((p) => p.text).join('');
  }
  return undefined;
}

function editDocument(text: string, object: PlainObject, edit: Edit, wanted: PlainObject): string | undefined {
  const node = objectNode(text, object);
  if (!node) return undefined;
  // From the end, so that the places of the others stay true.
  const splices = splicesOf(text, node, edit);
  const edited = splices
    .sort((a, b) => b.from - a.from)
    .reduce((t, { from, to, text: put }) => t.slice(0, from) + put + t.slice(to), text);
  const found = objectNode(edited, wanted)?.toJS(parse(edited)) as PlainObject | undefined;
  if (found && isDeepStrictEqual(plain(found), plain(wanted))) return edited;
  throw new AgentError('MANIFEST', 'it cannot be edited as text: it is written in an unusual way', {
    hint: 'anchors, aliases and merged keys in metadata must be edited by hand',
  });
}

function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function parse(text: string) {
  return parseDocument(text, { stringKeys: true, merge: true, logLevel: 'silent' });
}

function objectNode(text: string, object: PlainObject): YAMLMap | undefined {
  const document = parse(text);
  if (document.errors.length > 0) return undefined;
  return find(document.contents, (map) => {
    const value: unknown = map.toJS(document, { maxAliasCount: 100 });
    return isRecord(value) && sameObject(value, object);
  });
}

/** The object itself, or the item of a List. */
function find(node: unknown, is: (map: YAMLMap) => boolean): YAMLMap | undefined {
  if (!isMap(node)) return undefined;
  const items = node.get('items');
  if (isSeq(items) && String(node.get('kind')).endsWith('List')) {
    for (const item of items.items) {
      const found = find(item, is);
      if (found) return found;
    }
    return undefined;
  }
  return is(node as YAMLMap) ? (node as YAMLMap) : undefined;
}

function splicesOf(text: string, node: YAMLMap, { set, remove, annotations }: Edit): Splice[] {
  const out: Splice[] = [];
  for (const [path, value] of set) {
    const at = node.getIn(path, true);
    if (isScalar(at) && at.range)
      out.push({ from: at.range[0], to: at.range[1], text: like(text, at.range[0], value) });
  }
  for (const path of remove) out.push(...removal(text, node.getIn(path.slice(0, -1), true), [path.at(-1) as string]));
  out.push(...annotationSplices(text, node, annotations));
  return out;
}

/** The value in the quotes that the old one has. */
function like(text: string, from: number, value: string): string {
  const quote = text.charAt(from);
  return quote === '"' || quote === "'" ? `${quote}${value}${quote}` : value;
}

function annotationSplices(text: string, node: YAMLMap, changes: Edit['annotations']): Splice[] {
  const metadata = node.get('metadata', true);
  if (!isMap(metadata)) return [];
  const holder = metadata as YAMLMap;
  const existing = holder.get('annotations', true);
  const own = isMap(existing) ? (existing as YAMLMap) : undefined;
  const gone = Object.keys(changes).filter((key) => changes[key] === null && own?.has(key));
  const added = Object.entries(changes).flatMap(([key, value]) => (value === null ? [] : [[key, value] as const]));
  const fresh = added.filter(([key]) => !own?.has(key));
  const out: Splice[] = [];
  for (const [key, value] of added) {
    const at = own?.get(key, true);
    if (isScalar(at) && at.range) out.push({ from: at.range[0], to: at.range[1], text: quoted(value) });
  }
  if (own && own.items.length > 0) {
    if (gone.length === own.items.length && fresh.length === 0) return removal(text, holder, ['annotations']);
    return [...out, ...removal(text, own, gone), ...insertion(text, own, fresh)];
  }
  if (fresh.length === 0) return out;
  // `annotations: {}`, or null, gives way.
  const cut = holder.has('annotations') ? removal(text, holder, ['annotations']) : [];
  const first = holder.items.find((pair) => keyText(pair) !== 'annotations');
  if (!first) return out;
  return [...out, ...cut, whole(text, holder, first, fresh)];
}

type Entries = readonly (readonly [key: string, value: string])[];

/** Annotations where there were none, before the first of the metadata's keys. */
function whole(text: string, holder: YAMLMap, first: Pair, entries: Entries): Splice {
  const at = startOf(first);
  if (holder.flow) {
    const inner = entries.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`).join(', ');
    return { from: at, to: at, text: `"annotations": {${inner}}, ` };
  }
  const [indent, end] = [indentAt(text, at), lineEnd(text)];
  const lines = entries.map(([key, value]) => `${indent}  ${key}: ${quoted(value)}${end}`);
  return { from: at, to: at, text: `annotations:${end}${lines.join('')}${indent}` };
}

/** More annotations, before the first. */
function insertion(text: string, own: YAMLMap, entries: Entries): Splice[] {
  if (entries.length === 0) return [];
  const at = startOf(own.items[0] as Pair);
  if (own.flow) {
    const inner = entries.map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}, `).join('');
    return [{ from: at, to: at, text: inner }];
  }
  const [indent, end] = [indentAt(text, at), lineEnd(text)];
  return [
    { from: at, to: at, text: entries.map(([key, value]) => `${key}: ${quoted(value)}${end}${indent}`).join('') },
  ];
}

/** Takes pairs of a map away: whole lines of a block, or what is between two commas. */
function removal(text: string, node: unknown, keys: readonly string[]): Splice[] {
  if (!isMap(node)) return [];
  const map = node as YAMLMap;
  return keys.flatMap((key): Splice[] => {
    const at = map.items.findIndex((pair) => keyText(pair) === key);
    const pair = map.items[at];
    if (!pair) return [];
    const next = map.items[at + 1];
    if (map.flow) {
      const before = map.items[at - 1];
      if (next) return [{ from: startOf(pair), to: startOf(next), text: '' }];
      return [{ from: before ? endOf(before) : startOf(pair), to: endOf(pair), text: '' }];
    }
    const from = lineStart(text, startOf(pair));
    // The first pair of an item of a list begins behind its dash.
    const isBehindDash = text.slice(from, startOf(pair)).trim() !== '';
    if (isBehindDash) return next ? [{ from: startOf(pair), to: startOf(next), text: '' }] : [];
    return [{ from, to: nextLine(text, endOf(pair)), text: '' }];
  });
}

function keyText(pair: Pair<unknown, unknown>): string {
  return String(isScalar(pair.key) ? pair.key.value : pair.key);
}

function startOf({ key }: Pair<unknown, unknown>): number {
  return isNode(key) ? (key.range?.[0] ?? 0) : 0;
}

/** The end of a pair's value, without the comments and blank lines behind it. */
function endOf(pair: Pair<unknown, unknown>): number {
  const { value, key } = pair;
  const last = isCollection(value) && !value.flow && value.items.length > 0 ? value.items.at(-1) : undefined;
  if (isPair(last)) return endOf(last);
  if (isNode(last)) return last.range?.[1] ?? 0;
  const node = isNode(value) ? value : key;
  return isNode(node) ? (node.range?.[1] ?? 0) : 0;
}

function lineStart(text: string, at: number): number {
  return text.lastIndexOf('\n', at - 1) + 1;
}

function nextLine(text: string, at: number): number {
  // A block scalar ends behind its line already.
  if (at > 0 && text.charAt(at - 1) === '\n') return at;
  const newline = text.indexOf('\n', at);
  return newline < 0 ? text.length : newline + 1;
}

/** The columns before a place, as spaces: a dash counts as one. */
function indentAt(text: string, at: number): string {
  return ' '.repeat(at - lineStart(text, at));
}

function lineEnd(text: string): string {
  return text.includes('\r\n') ? '\r\n' : '\n';
}

/** Our annotations hold words, or times: those begin with a digit and must be in quotes. */
function quoted(value: string): string {
  return /^[a-z]+$/.test(value) ? value : JSON.stringify(value);
}

/** The object after an edit. */
export function edited(object: PlainObject, { set, remove, annotations }: Edit): PlainObject {
  const copy = structuredClone(object) as Record<string, unknown>;
  const parentOf = (path: readonly string[]) =>
    path.slice(0, -1).reduce<unknown>((value, key) => (isRecord(value) ? value[key] : undefined), copy);
  for (const [path, value] of set) {
    const parent = parentOf(path);
    if (isRecord(parent)) parent[path.at(-1) as string] = value;
  }
  for (const path of remove) {
    const parent = parentOf(path);
    if (isRecord(parent)) delete parent[path.at(-1) as string];
  }
  const now = { ...annotationsIn(copy), ...annotations };
  const kept = Object.fromEntries(Object.entries(now).filter(([, value]) => value !== null));
  const metadata = isRecord(copy.metadata) ? copy.metadata : {};
  const touched = Object.keys(annotations).length > 0;
  if (!touched) return copy;
  const { annotations: _, ...rest } = metadata;
  return { ...copy, metadata: Object.keys(kept).length > 0 ? { ...rest, annotations: kept } : rest };
}
