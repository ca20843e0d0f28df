/** The agent's side of the CNI gate: its socket, and its installation in the node's CNI configuration. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Logger } from '../../src/log.js';
import type { GateView } from '../../src/rpc/view.js';
import { GateInstaller } from './cni/install.js';
import { type GateHandler, GateServer } from './server.js';

const BINARY = fileURLToPath(new URL('../../gate/egress-gate', import.meta.url));

export interface GateFlags {
  /** Directories of the node's CNI programs and configurations, as the agent sees them. */
  binDir: string;
  confDir: string;
  /** Longest time for which a pod is held, seconds. */
  timeout: number;
  whenDown: 'open' | 'closed';
}

export class Gate {
  readonly #server: GateServer;
  readonly #socket: string;
  readonly #installer: GateInstaller | undefined;
  readonly #log: Logger;

  /** @throws AgentError USAGE if the plugin does not accept the socket's path */
  constructor(
    handler: GateHandler,
    options: { readonly runDir: string; readonly gate?: GateFlags | undefined },
    log: Logger,
  ) {
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

  /**
   * Opens the socket before installing the plugin that uses it. @throws AgentError AGENT if the socket cannot be made
   */
  async open(): Promise<void> {
    await this.#server.listen(this.#socket);
    try {
      this.#installer?.install();
    } catch (e) {
      // Also reported in status, and tried again with each change of the directory.
      this.#log.error(`the CNI gate is not installed: ${(e as Error).message}`);
    }
    this.#installer?.watch();
  }

  view(): GateView {
    const { passed, refused, timedOut } = this.#server.stats;
    const { installed, file, error } = this.#installer?.status() ?? { installed: false };
    return { installed, file, error, pending: this.#server.pending, passed, refused, timedOut };
  }

  /** Closes the socket. The plugin stays installed: it asks again until an agent answers, or its time is over. */
  close(): void {
    this.#installer?.close();
    void this.#server.close();
  }
}
