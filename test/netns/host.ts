/** One network namespace with a probe in it that makes and answers traffic (probe.py). */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { type Output, root, run } from './shell.js';

export type Proto = 'tcp' | 'udp' | 'sctp' | 'icmp';

/** What became of a request; `result` is `ok` or the name of what went wrong. */
export interface Reply {
  result: 'ok' | 'timeout' | 'refused' | 'reset' | 'unreachable' | 'prohibited' | (string & {});
  /** Who answered, and the address and port that it saw the request come from. */
  server?: string;
  seen?: string;
  seenPort?: number;
  text?: string;
  [more: string]: unknown;
}

export interface RequestOptions {
  proto?: Proto;
  /** Seconds. Allowed requests end at once: the default only bounds a failing test. */
  timeout?: number;
  data?: string;
  sport?: number;
}

/** How long a request waits that is expected to be dropped, in seconds. */
export const DROP_WAIT = 0.4;

export const PROBE = join(root, 'test/netns/probe.py');

export class Host {
  readonly #probe: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  #next = 1;
  #closed = false;

  /**
   * @param netns name under /run/netns, or the path of a namespace
   * @param probe command that runs probe.py, if not simply in the namespace
   */
  constructor(
    readonly netns: string,
    probe: readonly string[] = ['nsenter', `--net=/run/netns/${netns}`, 'python3', '-B', PROBE],
  ) {
    this.#probe = spawn(probe[0] as string, probe.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#probe.stdin.on('error', () => undefined);
    createInterface({ input: this.#probe.stdout }).on('line', (line) => {
      const reply = JSON.parse(line) as Reply & { id: number };
      const waiting = this.#waiting.get(reply.id);
      this.#waiting.delete(reply.id);
      if (reply.result === 'broken') waiting?.reject(new Error(`probe in ${netns}: ${String(reply.error)}`));
      else waiting?.resolve(reply);
    });
    this.#probe.on('close', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`the probe in ${netns} has ended`));
      this.#waiting.clear();
    });
  }

  /** Makes the namespace, with its loopback up, and a probe in it. */
  static async create(netns: string): Promise<Host> {
    await run('ip', ['netns', 'add', netns]);
    await run('ip', ['-n', netns, 'link', 'set', 'lo', 'up']);
    return new Host(netns);
  }

  /** One operation of probe.py. */
  call(op: string, args: Record<string, unknown> = {}): Promise<Reply> {
    if (this.#closed) return Promise.reject(new Error(`${this.netns} is closed`));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#probe.stdin.write(`${JSON.stringify({ id, op, ...args })}\n`);
    });
  }

  /** Connects, says one thing, hears the answer, closes. ICMP: an echo. */
  request(dst: string, port: number, opts: RequestOptions = {}): Promise<Reply> {
    return this.call('request', { dst, port, ...opts });
  }

  /** Opens a connection that stays: `say` over it until `close`. */
  async open(dst: string, port: number, opts: RequestOptions = {}): Promise<Connection> {
    const { data: _, ...rest } = opts;
    const reply = await this.call('open', { dst, port, ...rest });
    if (reply.result !== 'ok') throw new Error(`${this.netns} → ${dst}:${port}: ${reply.result}`);
    return new Connection(this, reply.handle as number, reply.port as number);
  }

  /** An echo server that answers with its name and the peer that it sees. */
  async listen(addr: string, port: number, proto: Proto, name: string): Promise<{ count: () => Promise<number> }> {
    const reply = await this.call('listen', { addr, port, proto, name });
    if (reply.result !== 'ok') throw new Error(`${this.netns}: listen on ${addr}:${port}/${proto}: ${reply.result}`);
    return { count: async () => (await this.call('count', { handle: reply.handle })).count as number };
  }

  /** Requests one after the other until `stop`, which tells how many came to what. */
  async load(dst: string, port: number, opts: RequestOptions & { pause?: number } = {}): Promise<Load> {
    const reply = await this.call('load', { dst, port, ...opts });
    return new Load(this, reply.handle as number);
  }

  /** Records frames at a device until closed: `in <hex>` and `out <hex>`, link-layer header first. */
  async sniff(device = 'eth0'): Promise<{ frames: () => Promise<string[]>; close: () => Promise<unknown> }> {
    const { handle } = await this.call('sniff', { device });
    return {
      frames: async () => (await this.call('sniffed', { handle })).frames as string[],
      close: () => this.call('close', { handle }),
    };
  }

  /** Runs a command in the namespace; unlike `ip netns exec`, with the mounts of the caller. */
  run(command: string, args: readonly string[], opts: { input?: string; check?: boolean } = {}): Promise<Output> {
    const path = this.netns.startsWith('/') ? this.netns : `/run/netns/${this.netns}`;
    return run('nsenter', [`--net=${path}`, command, ...args], opts);
  }

  /** Lines for `ip -batch`, without the leading `ip`. */
  ip(lines: readonly string[]): Promise<Output> {
    return this.run('ip', ['-batch', '-'], { input: lines.join('\n') });
  }

  /** Ends the probe and removes the namespace. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#probe.kill('SIGKILL');
    if (!this.netns.startsWith('/')) await run('ip', ['netns', 'del', this.netns], { check: false });
  }
}

export class Connection {
  constructor(
    readonly host: Host,
    readonly handle: number,
    readonly port: number,
  ) {}

  say(data = 'hello', timeout = 5): Promise<Reply> {
    return this.host.call('say', { handle: this.handle, data, timeout });
  }

  close(opts: { reset?: boolean } = {}): Promise<Reply> {
    return this.host.call('close', { handle: this.handle, ...opts });
  }
}

export class Load {
  constructor(
    readonly host: Host,
    readonly handle: number,
  ) {}

  async results(): Promise<Record<string, number>> {
    return (await this.host.call('results', { handle: this.handle })).results as Record<string, number>;
  }

  /** Ends after the request under way. */
  async stop(): Promise<Record<string, number>> {
    await this.host.call('close', { handle: this.handle });
    return this.results();
  }
}
