/** The CNI gate as the agent runs it: its socket, and its place in the node's CNI configuration. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../src/log.js';
import type { GateView } from '../src/rpc/view.js';
import { GateInstaller } from './gate/install.js';
import { type GateHandler, GateServer } from './gate/server.js';
import type { AgentOptions } from './options.js';

const BINARY = fileURLToPath(new URL('../gate/egress-gate', import.meta.url));

export class Gate {
  readonly #server: GateServer;
  readonly #socket: string;
  readonly #installer: GateInstaller | undefined;
  readonly #log: Logger;

  /** @throws AgentError USAGE where the socket's path is none that the plugin takes */
  constructor(handler: GateHandler, options: Pick<AgentOptions, 'runDir' | 'gate'>, log: Logger) {
    this.#log = log;
    this.#server = new GateServer(handler, log);
    // The run directory is mounted at the same path as on the node.
    this.#socket = join(options.runDir, 'gate.sock');
    const { gate } = options;
    this.#installer =
      gate &&
      new GateInstaller(
        {
          binDir: gate.binDir,
          confDir: gate.confDir,
          socket: this.#socket,
          timeoutSeconds: gate.timeout,
          whenAgentDown: gate.whenDown,
          binary: BINARY,
        },
        log,
      );
  }

  /** The socket first: a plugin that is there finds somebody. @throws AgentError AGENT where the socket cannot be made */
  async open(): Promise<void> {
    await this.#server.listen(this.#socket);
    try {
      this.#installer?.install();
    } catch (e) {
      // Told in status too, and tried again with each change of the directory.
      this.#log.error(`the CNI gate is not installed: ${(e as Error).message}`);
    }
    this.#installer?.watch();
  }

  view(): GateView {
    const { passed, refused, timedOut } = this.#server.stats;
    const { installed, file, error } = this.#installer?.status() ?? { installed: false };
    return { installed, file, error, pending: this.#server.pending, passed, refused, timedOut };
  }

  /** The plugin stays installed: it asks again until an agent is back, or its time is up. */
  close(): void {
    this.#installer?.close();
    void this.#server.close();
  }
}
