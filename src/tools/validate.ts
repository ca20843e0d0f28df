/** Checks manifests without a cluster, for `egressctl validate`. */
import { readFileSync } from 'node:fs';
import { LineCounter, isMap, isNode, isSeq, parseDocument } from 'yaml';
import { DialectRegistry } from '../dialects/index.js';
import { AgentError, type Problem } from '../errors.js';
import { ManifestSource } from '../identity/files/manifests.js';
import { splitDocuments } from '../identity/files/yaml.js';
import { isDirectory, loadWorld } from './world.js';

/**
 * The problems in order of file, document and line, including warnings: see `severity`. A directory or file that cannot
 * be read is a problem too. Nothing is kept between calls.
 */
export function validatePath(path: string): Problem[] {
  try {
    return [...problemsIn(path)].map(withLine()).sort(byPlace);
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    return [{ severity: 'error', where: e.where, message: e.message, hint: e.hint }];
  }
}

function problemsIn(path: string): readonly Problem[] {
  // A directory is read like the agent does: a fault in one file does not prevent reading the others.
  if (!isDirectory(path)) return loadWorld([path]).problems;
  const source = new ManifestSource(path, { nodeName: '', ownNodeIps: () => [] });
  try {
    const snapshot = source.load();
    return [...snapshot.problems, ...new DialectRegistry().toIr(snapshot).problems];
  } finally {
    source.close();
  }
}

function byPlace(a: Problem, b: Problem): number {
  const file = (p: Problem) => p.where.file ?? '';
  if (file(a) !== file(b)) return file(a) < file(b) ? -1 : 1;
  return (a.where.document ?? 0) - (b.where.document ?? 0) || (a.where.line ?? 0) - (b.where.line ?? 0);
}

/** Replaces the line of a problem, which is that of its object, by that of its field, if the file can still be read. */
export function withLine(): (problem: Problem) => Problem {
  const texts = new Map<string, ReturnType<typeof splitDocuments>>();
  let open: { text: string; tree: Tree } | undefined; // consecutive problems are usually of the same document
  return (problem) => {
    const { file, document, field, object } = problem.where;
    if (file === undefined || document === undefined || !field) return problem;
    try {
      let documents = texts.get(file);
      if (!documents) texts.set(file, (documents = splitDocuments(readFileSync(file, 'utf8'))));
      const part = documents[document];
      if (!part) return problem;
      if (open?.text !== part.text) open = { text: part.text, tree: parseTree(part.text) };
      const line = fieldLine(open.tree, object, field);
      return line === undefined ? problem : { ...problem, where: { ...problem.where, line: part.line + line - 1 } };
    } catch {
      return problem; // the file has changed: the object's line must do
    }
  };
}

interface Tree {
  readonly contents: unknown;
  readonly counter: LineCounter;
}

function parseTree(text: string): Tree {
  const counter = new LineCounter();
  const { contents } = parseDocument(text, { lineCounter: counter, stringKeys: true, merge: true, logLevel: 'silent' });
  return { contents, counter };
}

/** The line in the document's text, from 1, of the deepest existing part of a path. */
function fieldLine({ contents, counter }: Tree, object: string | undefined, field: string): number | undefined {
  let node: unknown = findObject(contents, object);
  let offset: number | undefined;
  for (const part of splitPath(field)) {
    if (isMap(node)) {
      const pair = node.items.find((p) => String((p.key as { value?: unknown } | null)?.value ?? p.key) === part);
      if (!pair) break;
      if (isNode(pair.key)) offset = pair.key.range?.[0] ?? offset;
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(part)];
      if (isNode(node)) offset = node.range?.[0] ?? offset;
    } else {
      break;
    }
  }
  return offset === undefined ? undefined : counter.linePos(offset).line;
}

/** The document itself, or the item of its List with the problem's `Kind namespace/name`. */
function findObject(node: unknown, object: string | undefined): unknown {
  if (!isMap(node)) return node;
  const items = node.get('items');
  if (!isSeq(items) || !String(node.get('kind')).endsWith('List')) return node;
  const name = object?.slice(object.lastIndexOf('/') + 1).replace(/^\S+ /, '');
  for (const item of items.items) {
    const found = findObject(item, object);
    if (isMap(found) && String(found.getIn(['metadata', 'name'])) === name) return found;
  }
  return undefined;
}

/** Splits `spec.egress[0].to[1].podSelector.matchLabels["a/b"]` into keys and indices. */
function splitPath(field: string): string[] {
  const parts: string[] = [];
  for (const [, key, index, quoted] of field.matchAll(/([^.[\]]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/g)) {
    parts.push(quoted !== undefined ? (JSON.parse(quoted) as string) : ((index ?? key) as string));
  }
  return parts;
}
