/**
 * Runs the compiled tests, two files at a time; each file is a tap program. Prints a line for each file when it ends,
 * the failures in full, and as the last line `N passed, N failed` (assertions). Complete outputs are in
 * dist/test-output.
 *
 *   node dist/scripts/run-tests.js [part of a path ...]
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const dist = fileURLToPath(new URL('..', import.meta.url));
const outputDir = join(dist, 'test-output');
const JOBS = 2;
const FILE_LIMIT_MS = 15 * 60_000;
const PROGRESS_MS = 30_000;
/** Directories of long tests, which run first, so that none runs alone at the end. */
const LONG_FIRST = ['containers', 'fuzz', 'netns', 'sequences'];

interface Result {
  file: string;
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
}

function find(dir: string): string[] {
  return (
    readdirSync(dir, { withFileTypes: true, recursive: true })
      .filter((e) => e.isFile() && e.name.endsWith('.test.js'))
      .map((e) => join(e.parentPath, e.name))
      // Skips compiled files whose source was deleted.
      .filter((file) => existsSync(join(dist, '..', relative(dist, file).replace(/\.js$/, '.ts'))))
      .sort()
  );
}

/** Position in LONG_FIRST, or the end. */
function rank(file: string): number {
  const at = LONG_FIRST.findIndex((dir) => file.includes(`/test/${dir}/`));
  return at < 0 ? LONG_FIRST.length : at;
}

/** The failed test points of a TAP stream, with their diagnostics and indentation. */
function failures(tap: string): string {
  const output: string[] = [];
  let inFailure = false;
  for (const line of tap.split('\n')) {
    if (/^\s*not ok\b/.test(line)) inFailure = true;
    else if (/^\s*(ok\b|# Subtest|1\.\.)/.test(line)) inFailure = false;
    if (inFailure) output.push(`    ${line}`);
  }
  return output.slice(0, 120).join('\n');
}

/** tap's closing comment: `# { total: 4, pass: 3, fail: 1 }`. */
function counts(tap: string): Record<string, number> | undefined {
  const last = [...tap.matchAll(/^# \{ (.*total: \d+.*) \}$/gm)].at(-1)?.[1];
  if (last === undefined) return undefined;
  return Object.fromEntries(last.split(', ').map((pair) => [pair.split(': ')[0], Number(pair.split(': ')[1])]));
}

const running = new Map<string, { child: ChildProcess; start: number; tail: () => string }>();

function runFile(path: string): Promise<Result> {
  const file = relative(dist, path);
  const start = Date.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--enable-source-maps', path], {
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TAP: '1', TAP_TIMEOUT: String(FILE_LIMIT_MS / 1000) },
    });
    let tap = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      tap += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    const limit = setTimeout(() => {
      errors += `stopped after ${FILE_LIMIT_MS / 60_000} minutes\n`;
      killGroup(child);
    }, FILE_LIMIT_MS);
    running.set(file, { child, start, tail: () => tap.trimEnd().split('\n').at(-1)?.trim().slice(0, 80) ?? '' });
    child.on('close', (code) => {
      clearTimeout(limit);
      running.delete(file);
      const seconds = (Date.now() - start) / 1000;
      const n = counts(tap);
      const passed = n?.pass ?? 0;
      // A file without a final count, or with an exit status other than 0, has failed too.
      const failed = Math.max(n ? (n.fail ?? 0) : 1, code === 0 ? 0 : 1);
      const skipped = (n?.skip ?? 0) + (n?.todo ?? 0);
      writeFileSync(join(outputDir, `${file.replaceAll('/', '_')}.tap`), `${tap}\n--- stderr\n${errors}`);
      console.log(
        `${failed ? '✗' : '✓'} ${file.replace(/\.js$/, '')}: ${passed} passed` +
          `${failed ? `, ${failed} failed` : ''}${skipped ? `, ${skipped} skipped` : ''} (${seconds.toFixed(1)} s)`,
      );
      if (failed) {
        console.log(failures(tap) || `    ended with status ${code}; its last lines:\n${tap.slice(-2000)}`);
        if (errors) console.log(errors.slice(-4000).replace(/^/gm, '    | '));
      }
      resolve({ file, passed, failed, skipped, seconds });
    });
  });
}

function killGroup(child: ChildProcess): void {
  try {
    if (child.pid) process.kill(-child.pid, 'SIGKILL');
  } catch {
    // The process has ended already.
  }
}

const patterns = process.argv.slice(2);
const files = find(join(dist, 'test'))
  .filter((file) => patterns.length === 0 || patterns.some((part) => relative(dist, file).includes(part)))
  .sort((a, b) => rank(a) - rank(b));
mkdirSync(outputDir, { recursive: true });
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    for (const { child } of running.values()) killGroup(child);
    process.exit(1);
  });
}
const progressTimer = setInterval(() => {
  for (const [file, { start, tail }] of running) {
    const seconds = Math.round((Date.now() - start) / 1000);
    if (seconds * 1000 >= PROGRESS_MS) console.log(`… ${file}: ${seconds} s, at: ${tail()}`);
  }
}, PROGRESS_MS);

const startMs = Date.now();
const queue = [...files];
const results: Result[] = [];
await Promise.all(
  Array.from({ length: JOBS }, async () => {
    for (let path = queue.shift(); path !== undefined; path = queue.shift()) results.push(await runFile(path));
  }),
);
clearInterval(progressTimer);

const sum = (key: 'passed' | 'failed' | 'skipped'): number => results.reduce((n, r) => n + r[key], 0);
const failedFiles = results.filter((r) => r.failed > 0).map((r) => r.file);
// No test at all is a failure too: the pattern is wrong, or the build is empty.
const failed = results.length === 0 ? 1 : sum('failed');
console.log(`\n${results.length} files in ${((Date.now() - startMs) / 1000).toFixed(0)} s`);
if (sum('skipped') > 0) console.log(`${sum('skipped')} skipped`);
if (failedFiles.length > 0) console.log(`failed: ${failedFiles.join(' ')}`);
process.exitCode = failed > 0 ? 1 : 0;
console.log(`${sum('passed')} passed, ${failed} failed`);
