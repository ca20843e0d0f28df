/** The compiled CNI plugin, run as a container runtime runs it, and a directory for its socket. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { compiled } from '../netns/shell.js';

/** GATE_PLUGIN: another build of it, for example one with sanitizers. */
export const PLUGIN = process.env.GATE_PLUGIN ?? join(compiled, 'gate/egress-gate');

export const PREV_RESULT = {
  cniVersion: '0.4.0',
  interfaces: [
    { name: 'vethhost', mac: '02:00:00:00:00:01' },
    { name: 'eth0', mac: '02:00:00:00:00:AA', sandbox: '/var/run/netns/cni-1' },
  ],
  ips: [{ version: '4', interface: 1, address: '10.202.0.7/24', gateway: '10.202.0.1' }],
  dns: {},
};

export interface Run {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
  ms: number;
}

export interface Call {
  command?: string;
  /** Members over those of a usual configuration; undefined takes one away. */
  conf?: Record<string, unknown>;
  /** In place of a configuration. */
  input?: string | Buffer;
  /** Over the usual variables. */
  env?: Record<string, string | undefined>;
  program?: string;
}

export function plugin(socket: string, call: Call = {}): Promise<Run> {
  const conf = {
    cniVersion: '0.4.0',
    name: 'pods',
    type: 'egress-gate',
    socket,
    prevResult: PREV_RESULT,
    ...call.conf,
  };
  const env = {
    CNI_COMMAND: call.command ?? 'ADD',
    CNI_CONTAINERID: 'c0ffee',
    CNI_NETNS: '/var/run/netns/cni-1',
    CNI_IFNAME: 'eth0',
    CNI_PATH: '/opt/cni/bin',
    CNI_ARGS:
      'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=11111111-2222-3333-4444-555555555555',
    ...call.env,
  };
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(call.program ?? PLUGIN, [], { env, stdio: ['pipe', 'pipe', 'pipe'], timeout: 30_000 });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.stdin.on('error', () => undefined); // it did not want to read all of it
    child.on('error', reject);
    child.on('close', (status, signal) => {
      resolve({ status, signal, stdout, stderr, ms: performance.now() - start });
    });
    child.stdin.end(call.input ?? JSON.stringify(conf));
  });
}

export function temporaryDirectory(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'egress-gate-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}
