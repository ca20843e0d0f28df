/** Formats objects as YAML, and parses them again. */
import { Document, isNode } from 'yaml';
import { buildSnapshot } from '../identity/builder.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { parseManifest } from '../identity/files/yaml.js';

/** Comments before a part of an object. */
export interface Note {
  /** Of the part in the object: `['spec', 'egress', 0]`. */
  readonly path: readonly (string | number)[];
  /** One line each. */
  readonly lines: readonly string[];
}

/** Characters that are not printable ASCII. */
const OTHER = /[^\x20-\x7e]/g;

/**
 * One YAML document, including `---`. Names are untrusted: if they contain characters that could control a terminal or
 * end a comment, the document is JSON, in which such characters are escaped.
 * @param comments one line each
 * @param notes comments before parts of the object; in JSON they stand before all of it
 */
export function documentText(object: object, comments: readonly string[], notes: readonly Note[] = []): string {
  const commented = (lines: readonly string[]) => lines.map((text) => `# ${escaped(text)}\n`).join('');
  // kubectl reads YAML 1.1, in which `off` and `yes` without quotes are no text.
  const document = new Document(object, { aliasDuplicateObjects: false, compat: 'yaml-1.1' });
  for (const { path, lines } of notes) {
    const node = document.getIn(path, true);
    if (isNode(node)) node.commentBefore = lines.map((text) => ` ${escaped(text)}`).join('\n');
  }
  const yaml = document.toString({ lineWidth: 0 });
  const plain = !yaml.split('\n').some((line) => escaped(line) !== line);
  // Outside of strings, the only control characters of JSON are the line ends of its indentation.
  const json = () => `${JSON.stringify(object, null, 2).split('\n').map(escaped).join('\n')}\n`;
  if (plain) return `---\n${commented(comments)}${yaml}`;
  return `---\n${commented([...comments, ...notes.flatMap(({ lines }) => lines)])}${json()}`;
}

function escaped(line: string): string {
  return line.replace(OTHER, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The policies in a text, parsed like egressctl and the agent do, and the problems. */
export function policiesIn(text: string): { policies: readonly RawPolicy[]; problems: readonly string[] } {
  const documents = parseManifest('converted.yaml', text);
  const problems = documents.flatMap((d) => d.problems);
  const objects = documents.flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [], problems });
  return { policies: snapshot.policies, problems: snapshot.problems.map((p) => p.message) };
}
