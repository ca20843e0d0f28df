/** Objects as YAML, the way they are printed, and back. */
import { Document } from 'yaml';
import { buildSnapshot } from '../identity/builder.js';
import type { RawPolicy } from '../identity/snapshot.js';
import { parseManifest } from '../identity/yaml.js';

/** What is not plain text: ends of lines apart. */
const OTHER = /[^\x20-\x7e]/g;

/**
 * One YAML document, `---` included. Names come from others: with characters that could steer a terminal, or end a comment, it is JSON,
 * in which they are escaped.
 * @param comments one line each
 */
export function documentText(object: object, comments: readonly string[]): string {
  const head = comments.map((text) => `# ${escaped(text)}\n`).join('');
  const yaml = new Document(object, { aliasDuplicateObjects: false }).toString({ lineWidth: 0 });
  const body = yaml.replaceAll('\n', '').match(OTHER) ? `${escaped(JSON.stringify(object, null, 2))}\n` : yaml;
  return `---\n${head}${body}`;
}

function escaped(text: string): string {
  return text.replace(OTHER, (c) =>
    c === '\n' && text.includes('{\n') ? c : `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** The policies in a text, as egressctl and the agent read them; and what cannot be read of it. */
export function policiesIn(text: string): { policies: readonly RawPolicy[]; problems: readonly string[] } {
  const documents = parseManifest('converted.yaml', text);
  const problems = documents.flatMap((d) => d.problems);
  const objects = documents.flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: '', ownNodeIps: [], problems });
  return { policies: snapshot.policies, problems: snapshot.problems.map((p) => p.message) };
}
