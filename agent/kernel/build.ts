/**
 * The BPF object for this node: compiled with clang and cached by content. A node without
 * clang uses the object that was built with the agent.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { clangFlags } from '../../src/net/clang.js';

export interface BuildOptions {
  /** Directory with egress.bpf.c, its headers and flags.txt. */
  bpfDir: string;
  cacheDir: string;
  /** Object to fall back to. */
  shipped: string;
  /** Compiler to try; by default $CLANG or `clang`. */
  clang?: string;
}

export interface BuildResult {
  path: string;
  how: 'compiled' | 'cached' | 'shipped';
}

/**
 * Finds or compiles the object.
 * @throws AgentError BUILD if the sources do not compile, or there is neither clang nor an object
 */
export function build(opts: BuildOptions): BuildResult {
  const clang = opts.clang ?? process.env.CLANG ?? 'clang';
  const version = clangVersion(clang);
  if (version === undefined || !existsSync(join(opts.bpfDir, 'egress.bpf.c'))) {
    if (existsSync(opts.shipped)) return { path: opts.shipped, how: 'shipped' };
    throw new AgentError('BUILD', `there is neither a C compiler (${clang}) nor a built object (${opts.shipped})`, {
      hint: 'install clang, or run npm run build where there is one',
    });
  }
  const flags = clangFlags(opts.bpfDir);
  const path = join(opts.cacheDir, `egress-${digest(opts.bpfDir, flags, version)}.o`);
  if (existsSync(path)) return { path, how: 'cached' };
  compile(clang, flags, join(opts.bpfDir, 'egress.bpf.c'), path);
  return { path, how: 'compiled' };
}

/** Compiles into a temporary file and renames it: an interrupted build leaves no incomplete object. */
export function compile(clang: string, flags: readonly string[], source: string, output: string): void {
  const dir = join(output, '..');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const temporary = `${output}.${process.pid}`;
  try {
    execFileSync(clang, [...flags, '-c', source, '-o', temporary], { stdio: ['ignore', 'ignore', 'pipe'] });
    renameSync(temporary, output);
  } catch (e) {
    const message = String((e as { stderr?: Buffer }).stderr ?? (e as Error).message).trim();
    const first = message.split('\n').find((l) => l.includes('error:')) ?? message.split('\n')[0] ?? '';
    throw new AgentError('BUILD', `${clang} does not compile ${source}: ${first}`, { cause: message });
  } finally {
    rmSync(temporary, { force: true });
  }
}

function clangVersion(clang: string): string | undefined {
  try {
    return execFileSync(clang, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
}

/** Hash of what the object depends on: sources, flags and compiler. */
function digest(bpfDir: string, flags: readonly string[], version: string): string {
  const hash = createHash('sha256').update(flags.join('\0')).update(version);
  for (const name of readdirSync(bpfDir).sort()) {
    if (/\.[ch]$/.test(name)) hash.update(`\0${name}\0`).update(readFileSync(join(bpfDir, name)));
  }
  return hash.digest('hex').slice(0, 16);
}
