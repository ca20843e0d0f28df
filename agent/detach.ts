import { readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../src/log.js';
import { RpcServer } from '../src/rpc/server.js';
import { Attacher } from './attach.js';
import { uninstallGate } from './gate/install.js';
import { removePath } from './hook-kind.js';

export interface DetachOptions {
  readonly runDir: string;
  readonly pinDir: string;
  /** Where the CNI gate may be installed. */
  readonly gate?: { readonly binDir: string; readonly confDir: string } | undefined;
}

/**
 * Removes every trace: hooks, then maps, then files. Packets pass unjudged from here on.
 * @throws AgentError AGENT while an agent is running
 */
export async function detach(options: DetachOptions, log: Logger): Promise<void> {
  const socket = join(options.runDir, 'agent.sock');
  await RpcServer.refuseIfServed(socket);
  // The gate first: a pod that starts from here on must not wait for an agent that does not come back.
  if (options.gate) uninstallGate(options.gate, log);
  new Attacher({ pinDir: options.pinDir }).detachAll();
  // What is ours, by name: a directory given by mistake keeps what else is in it.
  const { runDir, pinDir } = options;
  const journal = join(runDir, 'journal');
  for (const path of [
    join(pinDir, 'maps'),
    join(journal, 'sets'),
    join(journal, 'classes'),
    socket,
    join(runDir, 'gate.sock'),
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
