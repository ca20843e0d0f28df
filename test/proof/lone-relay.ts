/** The relay's program in front of one agent: for what strangers do to it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { RELAY_SERVER_NAME } from '../../src/relay/nodes/names.js';
import { AgentClient, type Remote } from '../../src/rpc/transport/client.js';
import { compiled, until } from '../netns/shell.js';
import { writeTls } from '../relay/world.js';
import type { LoneAgent } from './lone-agent.js';
import { freePort } from './ports.js';

export class LoneRelay {
  log = '';

  private constructor(
    readonly child: ChildProcess,
    readonly port: number,
    /** Where it is asked; it asks nobody for a certificate, as it is installed. */
    readonly remote: Remote,
  ) {}

  static async start(agent: LoneAgent): Promise<LoneRelay> {
    const port = await freePort();
    const dir = writeTls(join(agent.dir, 'relay'), agent.certificates.relay);
    const args = ['--agents', `127.0.0.1:${agent.grpc}`, '--tls-dir', dir, '--listen', `127.0.0.1:${port}`];
    const child = spawn(process.execPath, [join(compiled, 'src/relay/main.js'), ...args, '--log-level', 'warn'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const tls = agent.certificates.client;
    const remote = { address: `127.0.0.1:${port}`, name: 'relay', tls, serverName: RELAY_SERVER_NAME };
    const relay = new LoneRelay(child, port, remote);
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        relay.log = (relay.log + text).slice(-100_000);
      });
    }
    const client = new AgentClient(remote);
    try {
      await until('the relay answers for its agent', async () => (await client.policies()).policies?.[0], 60_000);
    } catch (e) {
      await relay.close();
      throw new Error(`${String(e)}\n${relay.log}`);
    } finally {
      client.close();
    }
    return relay;
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get alive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  async close(): Promise<void> {
    if (!this.alive) return;
    const gone = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGKILL');
    await gone;
  }
}
