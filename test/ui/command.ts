/** `egressctl ui` as a process of its own, for tests and benches: its link, and sessions without a browser. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { join } from 'node:path';
import { compiled } from '../netns/shell.js';
import { pageHeaders, remember } from './page-keys.js';

const PROGRAM = join(compiled, 'src/cli/main.js');

export class UiCommand {
  /** `name=value`; undefined: nobody has signed in. */
  #cookie: string | undefined;

  private constructor(
    readonly child: ChildProcessByStdio<null, Readable, null>,
    /** With its one-time token: good for one browser. */
    readonly link: string,
  ) {}

  /** Returns when it serves. @param socket of an agent @param args more options of the command */
  static async start(socket: string, ...args: string[]): Promise<UiCommand> {
    const child = spawn(process.execPath, [PROGRAM, '--socket', socket, 'ui', '--no-open', ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) return new UiCommand(child, line);
    throw new Error('egressctl ui did not start');
  }

  /** `http://127.0.0.1:4711` */
  get url(): string {
    return new URL(this.link).origin;
  }

  /** Uses the link up, the first time. @returns a cookie of its session, which any number of pages may have */
  async cookie(): Promise<string> {
    this.#cookie ??= await this.#signIn();
    return this.#cookie;
  }

  /** A request as the page makes it. @param signal ends it, and its answer */
  async post(call: string, body: unknown, signal?: AbortSignal): Promise<Response> {
    const headers = {
      'content-type': 'application/json',
      origin: this.url,
      cookie: await this.cookie(),
      ...pageHeaders(await this.cookie()),
    };
    const more = signal ? { signal } : {};
    return await fetch(`${this.url}/api/${call}`, { method: 'POST', headers, body: JSON.stringify(body), ...more });
  }

  /** Returns when it has ended. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('close', resolve));
    this.child.kill('SIGTERM');
    await ended;
  }

  async #signIn(): Promise<string> {
    const token = new URLSearchParams(new URL(this.link).hash.slice(1)).get('token');
    const headers = { 'content-type': 'application/json', origin: this.url };
    const answer = await fetch(`${this.url}/api/login`, { method: 'POST', headers, body: JSON.stringify({ token }) });
    const [cookie] = answer.headers.getSetCookie();
    const text = await answer.text();
    if (cookie === undefined) throw new Error(`no session: ${text}`);
    return remember(cookie, text);
  }
}
