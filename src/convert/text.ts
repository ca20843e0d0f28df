/** Objects as YAML, the way they are printed, and back. */
import { Document } from 'yaml';
import { buildSnapshot } from '../identity/builder.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { parseManifest } from '../identity/yaml.js';

/** What is not plain text. */
const OTHER = /[^\x20-\x7e]/g;

/**
 * One YAML document, `---` included. Names come from others: with characters that could steer a terminal, or end a comment, it is JSON,
 * in which they are escaped.
 * @param comments one line each
 */
export function documentText(object: object, comments: readonly string[]): string {
  const head = comments.map((text) => `# ${escaped(text)}\n`).join('');
  const yaml = new Document(object, { aliasDuplicateObjects: false }).toString({ lineWidth: 0 });
  const plain = !yaml.split('\n').some((line) => escaped(line) !== line);
  // Outside of strings JSON has only line ends, of its indentation.
  const json = () => `${JSON.stringify(object, null, 2).split('\n').map(escaped).join('\n')}\n`;
  return `---\n${head}${plain ? yaml : json()}`;
}

function escaped(line: string): string {
  return line.replace(OTHER, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** The policies in a text, as egressctl and the agent read them; and what cannot be read of it. */
export function policiesIn(text: string): { policies: readonly RawPolicy[]; problems: readonly string[] } {
  const documents = parseManifest('converted.yaml', text);
  const problems = documents.flatMap((d) => d.problems);
  const objects = documents.flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [], problems });
  return { policies: snapshot.policies, problems: snapshot.problems.map((p) => p.message) };
}
