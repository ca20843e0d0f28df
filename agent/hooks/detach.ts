import { existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../src/log.js';
import { RpcServer } from '../../src/rpc/server.js';
import { Attacher } from './attach.js';
import { BOUND_FILE } from '../endpoints/binding/bound.js';
import { ENDPOINTS_FILE } from '../endpoints/ids.js';
import { uninstallGate } from '../gate/cni/install.js';
import { removePath } from './hook-kind.js';
import { DirectoryLock, LOCK_FILE } from '../kernel/lock.js';
import { LEDGER_FILES } from '../ledger/file.js';
import { KEY_FILE } from '../maps/books/node-key.js';

export interface DetachOptions {
  readonly runDir: string;
  readonly pinDir: string;
  /** Where the CNI gate may be installed. */
  readonly gate?: { readonly binDir: string; readonly confDir: string } | undefined;
}

/**
 * Removes everything that agents left on the node: hooks, then maps, then files. Pods are not judged from then on.
 * @throws AgentError AGENT while an agent is running
 */
export async function detach(options: DetachOptions, log: Logger): Promise<void> {
  // In the same order as an agent: one that starts meanwhile finds both locks held, or holds both.
  const locks = [DirectoryLock.run(options.runDir)];
  try {
    if (existsSync(options.pinDir)) locks.push(DirectoryLock.pins(options.pinDir));
    await removeAll(options, log);
  } finally {
    for (const lock of locks) lock.release();
  }
}

async function removeAll(options: DetachOptions, log: Logger): Promise<void> {
  const socket = join(options.runDir, 'agent.sock');
  await RpcServer.refuseIfServed(socket);
  // The gate first: a pod that starts from here on must not wait for an agent that will not answer.
  if (options.gate) uninstallGate(options.gate, log);
  new Attacher({ pinDir: options.pinDir }).detachAll();
  // By name: a directory given by mistake keeps its other files.
  const { runDir, pinDir } = options;
  const journal = join(runDir, 'journal');
  for (const path of [
    join(pinDir, 'maps'),
    join(journal, 'sets'),
    join(journal, 'classes'),
    socket,
    join(runDir, 'gate.sock'),
    ...[BOUND_FILE, ENDPOINTS_FILE, KEY_FILE].flatMap((name) => [join(runDir, name), join(runDir, `${name}.new`)]),
    ...['policy-ages', 'policy-ages.new', ...LEDGER_FILES].map((name) => join(runDir, name)),
    join(runDir, LOCK_FILE),
  ]) {
    rmSync(path, { recursive: true, force: true });
  }
  for (const name of listDir(runDir)) if (/^verifier-\w+\.log$/.test(name)) rmSync(join(runDir, name));
  const cache = join(runDir, 'bpf');
  for (const name of listDir(cache)) if (/^egress-[0-9a-f]{16}\.o$/.test(name)) rmSync(join(cache, name));
  for (const dir of [journal, cache, pinDir, runDir]) removePath(rmdirSync, dir);
  log.info('detached', { pins: options.pinDir, run: options.runDir });
}

function listDir(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch {
    return [];
  }
}
