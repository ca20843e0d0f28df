/** An agent process without a network of its own: for what is asked of its sockets. It sees no packet. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import type { TlsFiles } from '../../src/rpc/transport/tls.js';
import { compiled, run, until } from '../netns/shell.js';
import { writeTls } from '../relay/world.js';
import { freePort } from './ports.js';

/** A policy each; their list is the longest answer there is. */
const POLICIES = 300;

export class LoneAgent {
  log = '';

  private constructor(
    readonly dir: string,
    readonly pins: string,
    readonly child: ChildProcess,
    readonly grpc: number,
    readonly http: number,
    readonly certificates: { client: TlsFiles; relay: TlsFiles },
  ) {}

  static async start(): Promise<LoneAgent> {
    await run('sh', ['-c', 'mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf']);
    const dir = mkdtempSync(join(tmpdir(), 'egress-agent-proof-'));
    const pins = `/sys/fs/bpf/${dir.split('/').at(-1)}`;
    const manifests = join(dir, 'manifests');
    mkdirSync(manifests);
    const policies = Array.from({ length: POLICIES }, (_, i) => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { namespace: 'default', name: `p${i}` },
      spec: {
        podSelector: {},
        policyTypes: ['Egress'],
        egress: [{ to: [{ ipBlock: { cidr: `10.${i % 250}.0.0/16` } }] }],
      },
    }));
    writeFileSync(join(manifests, 'policies.yaml'), policies.map((p) => JSON.stringify(p)).join('\n---\n'));
    const [grpc, http] = [await freePort(), await freePort()];
    const certificates = await makeCertificates('egress-system', 2);
    const tls = writeTls(join(dir, 'tls'), certificates.agent);
    const args = ['--manifests', manifests, '--run-dir', join(dir, 'run'), '--pin-dir', pins, '--node-name', 'alone'];
    const listen = ['--listen', `127.0.0.1:${grpc}`, '--tls-dir', tls, '--http-listen', `127.0.0.1:${http}`];
    const child = spawn(
      process.execPath,
      [join(compiled, 'agent/main.js'), ...args, ...listen, '--uplink', 'no-such-device', '--log-level', 'warn'],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    const agent = new LoneAgent(dir, pins, child, grpc, http, certificates);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        agent.log = (agent.log + text).slice(-100_000);
      });
    }
    const client = new AgentClient(agent.socket);
    try {
      await until('the agent answers', () => client.status(), 90_000);
    } catch (e) {
      await agent.close();
      throw new Error(`${String(e)}\n${agent.log}`);
    } finally {
      client.close();
    }
    return agent;
  }

  get socket(): string {
    return join(this.dir, 'run/agent.sock');
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Kills it, and removes what it leaves. */
  async close(): Promise<void> {
    if (this.alive) {
      const gone = new Promise((resolve) => this.child.once('close', resolve));
      this.child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.dir, { recursive: true, force: true });
    rmSync(this.pins, { recursive: true, force: true });
  }
}
