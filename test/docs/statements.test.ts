/** What documents and comments say of the code, where a machine can compare the two. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { REASONS } from '../../src/flow/event/decode.js';
import { root } from '../netns/shell.js';
import { documents, read } from './markdown.js';

const ROOMS = ['agent', 'bpf', 'src', 'test'];
/** Of packets that pass without a flow: nobody is told of them. */
const NEVER_TOLD = ['none', 'related', 'link'];
/** Files of others, files that a run makes, and those that ARCHITECTURE.md plans. */
const NOT_HERE = [
  /^bpf\/bpf_\w+\.[ch]$/,
  /^bpf\/(dns|tls|http)\.h$/,
  /^test\/bench\/NAME\.bpf\.c$/,
  /^test\/fuzz\/captures\.h$/,
];

function sources(room: string): string[] {
  return readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|h|c)$/.test(file))
    .map((file) => join(room, file));
}

t.test('a file that a comment or a document names is there', (t) => {
  for (const file of [...documents(), ...ROOMS.flatMap(sources)]) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const [name] of text.matchAll(/(?<![\w./-])(agent|bpf|src|test)\/[\w./-]+\.(ts|h|c)\b/g)) {
      if (NOT_HERE.some((other) => other.test(name)) || existsSync(join(root, name))) continue;
      t.fail(`${file} names ${name}`);
    }
  }
  t.end();
});

t.test('docs/operations.md has each reason, and no other', (t) => {
  const table = read('docs/operations.md').split('## Reasons')[1]?.split('\n## ')[0] ?? '';
  const rows = [...table.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) =>
    [...(cell as string).matchAll(/`([\w-]+)`/g)].map(([, name]) => name as string),
  );
  t.same(rows.sort(), REASONS.filter((name) => name && !NEVER_TOLD.includes(name)).sort());
  t.end();
});

t.test('each item of a list has a line of its own', (t) => {
  for (const file of documents()) {
    const prose = read(file).replace(/```[\s\S]*?```/g, '');
    t.notMatch(prose, /^[^|\n]+ - \*\*/m, file);
  }
  t.end();
});
