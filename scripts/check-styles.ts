/**
 * npm run check: that no part of the web page dresses another one. scripts/build-ui.ts keeps the styles of most screens to
 * their own elements. Of those that are shown together (`board.css` and `editor.css`), and of those of all pages, no two
 * may begin selectors with the same class: `.facts` may be everybody's, `.graph .facts` is not.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const places = new Map<string, Set<string>>();

/** The selectors of a file, with those within @media and the like. */
function selectorsOf(text: string): string[] {
  const found: string[] = [];
  const open: boolean[] = [];
  // Strings and comments of our styles have no braces.
  for (const [, before = '', mark] of text.replace(/\/\*[\s\S]*?\*\//g, '').matchAll(/([^{};]*)([{};])/g)) {
    if (mark === '{') {
      const isRule = !before.trim().startsWith('@');
      if (isRule && !open.includes(true)) found.push(...before.split(/,(?![^(]*\))/).map((one) => one.trim()));
      // The steps of an animation are no selectors.
      open.push(isRule || /^@(keyframes|font-face|property)/.test(before.trim()));
    } else if (mark === '}') open.pop();
  }
  return found;
}

const files = readdirSync(join(root, 'ui/style'), { recursive: true, encoding: 'utf8' }).filter((f) =>
  f.endsWith('.css'),
);
for (const file of files) {
  for (const selector of selectorsOf(readFileSync(join(root, 'ui/style', file), 'utf8'))) {
    const [, first] = /^[\w-]*\.([\w-]+)/.exec(selector) ?? [];
    if (first !== undefined) places.set(first, (places.get(first) ?? new Set()).add(file));
  }
}

/** Files that are of one part: `graph-panel.css` is the graph's. */
const partOf = (file: string) => (file.startsWith('screens/') ? (basename(file, '.css').split('-')[0] as string) : '');
/** Parts that are never shown together. */
const APART = [
  ['graph', 'board', 'recommend'],
  ['graph', 'board', 'status'],
  ['graph', 'editor', 'recommend'],
  ['graph', 'editor', 'status'],
  ['flows', 'board', 'recommend'],
  ['flows', 'editor', 'status'],
];
for (const [name, where] of places) {
  const parts = [...new Set([...where].map(partOf))];
  if (parts.length < 2 || APART.some((apart) => parts.every((part) => apart.includes(part)))) continue;
  console.error(
    `.${name} begins selectors of ${[...where].sort().join(', ')}: one of them dresses the other's elements`,
  );
  process.exitCode = 1;
}
