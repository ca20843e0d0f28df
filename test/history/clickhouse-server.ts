/** A ClickHouse server of the test's own, from Debian's package: its files are in a directory that goes with it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** With characters that an address has to escape. */
export const PASSWORD = 'p:w/d@1 %';

export class ClickhouseServer {
  readonly #dir: string;
  readonly port: number;
  #process: ChildProcess | undefined;

  static async start(): Promise<ClickhouseServer> {
    const server = new ClickhouseServer(await freePort());
    await server.start();
    return server;
  }

  private constructor(port: number) {
    this.port = port;
    const dir = (this.#dir = mkdtempSync(join(tmpdir(), 'egress-clickhouse-')));
    for (const name of ['data', 'tmp']) mkdirSync(join(dir, name));
    writeFileSync(
      join(dir, 'config.xml'),
      `<yandex><logger><level>error</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
      <http_port>${port}</http_port><path>${dir}/data/</path><tmp_path>${dir}/tmp/</tmp_path>
      <user_files_path>${dir}/tmp/</user_files_path><format_schema_path>${dir}/tmp/</format_schema_path>
      <users_config>users.xml</users_config><default_profile>default</default_profile>
      <default_database>default</default_database><mark_cache_size>67108864</mark_cache_size></yandex>`,
    );
    writeFileSync(
      join(dir, 'users.xml'),
      `<yandex><profiles><default></default></profiles><quotas><default></default></quotas><users><writer>
      <password>${PASSWORD}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
      <quota>default</quota></writer></users></yandex>`,
    );
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  async start(): Promise<void> {
    const args = [`--config-file=${join(this.#dir, 'config.xml')}`];
    this.#process = spawn('clickhouse-server', args, { stdio: 'ignore' });
    for (let left = 300; ; left--) {
      const answer = await fetch(`${this.url}/ping`).catch(() => undefined);
      if (answer?.ok) return;
      if (left === 0) throw new Error('clickhouse-server does not answer');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }

  /** Ends it at once, as a node that loses its power. Its files stay. */
  async kill(): Promise<void> {
    const ended = new Promise((resolve) => this.#process?.once('exit', resolve));
    this.#process?.kill('SIGKILL');
    await ended;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}
