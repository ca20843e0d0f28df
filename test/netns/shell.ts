/** Commands and conditions: what every test world needs from the machine it runs on. */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export interface Output {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end. Rejects when it fails, unless `check` is false. */
export function run(
  command: string,
  args: readonly string[],
  opts: { input?: string; check?: boolean; env?: Record<string, string> } = {},
): Promise<Output> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...opts.env } });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => undefined); // the command did not want its input; its status tells
    child.on('error', reject);
    child.on('close', (code) => {
      const status = code ?? -1;
      if (status !== 0 && opts.check !== false) {
        reject(new Error(`${command} ${args.join(' ')}: status ${status}\n${stderr}${stdout}`));
      } else {
        resolve({ status, stdout, stderr });
      }
    });
    child.stdin.end(opts.input ?? '');
  });
}

/**
 * Waits until the condition holds, which it says by a value that is neither false nor undefined.
 * An error that the condition throws counts as "not yet", and is shown if time runs out.
 */
export async function until<T>(
  what: string,
  condition: () => Promise<T | undefined | false> | T | undefined | false,
  timeoutMs = 60_000,
): Promise<T> {
  const end = Date.now() + timeoutMs;
  for (let pause = 2; ; pause = Math.min(pause * 1.5, 50)) {
    let trouble: unknown = '';
    try {
      const value = await condition();
      if (value !== false && value !== undefined) return value;
    } catch (error) {
      trouble = error;
    }
    if (Date.now() > end) throw new Error(`waited ${timeoutMs} ms in vain until ${what}. ${String(trouble)}`);
    await sleep(pause);
  }
}

/** The top of the source tree, wherever the compiled tests lie. */
export const root = ((): string => {
  for (let dir = dirname(fileURLToPath(import.meta.url)); dir !== '/'; dir = dirname(dir)) {
    if (existsSync(join(dir, 'test/netns/probe.py'))) return dir;
  }
  return process.cwd();
})();

/** Where the compiled agent lies: beside the compiled tests. */
export const compiled = join(dirname(fileURLToPath(import.meta.url)), '../..');

/** Builds a C program of the tests. @param source below the top of the tree, as `test/proof/hammer.c` @returns its path */
export async function buildC(source: string): Promise<string> {
  const path = join(
    compiled,
    source
      .replace(/\.c$/, '')
      .replace(/^test\//, '')
      .replaceAll('/', '-'),
  );
  mkdirSync(compiled, { recursive: true });
  const fresh = `${path}.${process.pid}`;
  await run('gcc', ['-O2', '-Wall', '-Wextra', '-o', fresh, join(root, source)]);
  renameSync(fresh, path);
  return path;
}
