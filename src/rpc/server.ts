/** The agent's gRPC server. It listens on the network only if configured, and then with mutual TLS. */
import type { FlowHub } from '../flow/hub/hub.js';
import type { Logger } from '../log.js';
import { BaseServer } from './transport/base.js';
import { egressHandlers } from './egress.js';
import { FlowWriter } from './flow-writer.js';
import { observerHandlers, peerHandlers } from './observer.js';
import { encodedOnce } from './once.js';
import { EGRESS, OBSERVER, PEER } from '../proto/load.js';
import { FlowStreams } from './streams.js';
import type { AgentView } from './view.js';

export interface RpcServerOptions {
  hub: FlowHub;
  view: AgentView;
  log: Logger;
}

/** The server of one agent. */
export class RpcServer extends BaseServer {
  readonly #streams: FlowStreams;

  constructor(opts: RpcServerOptions) {
    super(opts.log);
    this.#streams = new FlowStreams(opts.hub);
    const parts = { ...opts, writer: new FlowWriter(opts.hub.nodeName) };
    this.add(encodedOnce(OBSERVER, 'GetFlows'), observerHandlers(parts, this.#streams));
    this.add(PEER, peerHandlers(opts));
    this.add(encodedOnce(EGRESS, 'GetFlows'), egressHandlers(parts, this.#streams));
  }

  protected override endStreams(): void {
    this.#streams.close();
  }
}
