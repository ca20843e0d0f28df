/**
 * Bundles the web page, ui/, into a directory: index.html, scripts and styles with a hash of their content in their
 * names, each compressed. What only the editor needs is a bundle of its own, which the page loads when it is opened.
 *   node dist/scripts/build-ui.js DIRECTORY
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { build, type Plugin } from 'esbuild';

const root = fileURLToPath(new URL('../..', import.meta.url));
const out = process.argv[2] ?? join(root, 'dist/ui');

/**
 * Styles of a screen reach the elements of that screen alone, although all are loaded at once. `:where` leaves the order of
 * rules as it is. What is not here begins each selector with a class of its own.
 */
const SHOWN_ON: Readonly<Record<string, readonly string[]>> = {
  'graph.css': ['graph'],
  'graph-panel.css': ['graph'],
  'board.css': ['policies'],
  'editor.css': ['policies'],
  // The pieces of both have the same look.
  'recommend.css': ['recommend', 'status'],
  'status.css': ['status'],
};

const stylesOfScreens: Plugin = {
  name: 'styles of screens',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\/ui\/style\/screens\/[\w-]+\.css$/ }, ({ path }) => {
      const text = readFileSync(path, 'utf8');
      const screens = SHOWN_ON[basename(path)]?.map((screen) => `[data-screen=${screen}]`).join(', ');
      return { contents: screens === undefined ? text : `:where(${screens}) {\n${text}\n}\n`, loader: 'css' };
    }),
};

rmSync(out, { recursive: true, force: true });
mkdirSync(out, { recursive: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: { app: 'ui/main.tsx', layout: 'ui/graph/layout-worker.ts', style: 'ui/style/main.css' },
  outdir: out,
  bundle: true,
  splitting: true,
  format: 'esm',
  target: 'es2022',
  supported: { nesting: false },
  plugins: [stylesOfScreens],
  minify: true,
  entryNames: '[name]-[hash]',
  chunkNames: 'chunk-[hash]',
  jsx: 'automatic',
  jsxImportSource: 'preact',
  metafile: true,
  legalComments: 'none',
  logLevel: 'warning',
});

/** The file that was made of an entry. */
function madeOf(entry: string): string {
  const found = Object.entries(metafile.outputs).find(([, o]) => o.entryPoint === entry);
  if (!found) throw new Error(`nothing was made of ${entry}`);
  return basename(found[0]);
}

const shell = readFileSync(join(root, 'ui/index.html'), 'utf8')
  .replace('{app}', madeOf('ui/main.tsx'))
  .replace('{style}', madeOf('ui/style/main.css'))
  .replace('{layout}', madeOf('ui/graph/layout-worker.ts'));
writeFileSync(join(out, 'index.html'), shell);
writeFileSync(join(out, 'icon.svg'), readFileSync(join(root, 'ui/icon.svg')));
for (const name of readdirSync(out)) {
  const bytes = readFileSync(join(out, name));
  writeFileSync(join(out, `${name}.gz`), gzipSync(bytes, { level: 9 }));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  writeFileSync(join(out, `${name}.br`), brotliCompressSync(bytes, { params }));
}
