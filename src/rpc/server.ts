/** The agent's gRPC server. Nothing listens on the network unless it is asked for, and then with mutual TLS. */
import type { FlowHub } from '../flow/hub.js';
import type { Logger } from '../log.js';
import { BaseServer } from './base.js';
import { egressHandlers } from './egress.js';
import { observerHandlers, peerHandlers } from './observer.js';
import { encodedOnce } from './once.js';
import { EGRESS, OBSERVER, PEER } from './proto.js';
import { FlowStreams } from './streams.js';
import type { AgentView } from './view.js';

export interface RpcServerOptions {
  hub: FlowHub;
  view: AgentView;
  log: Logger;
}

export class RpcServer extends BaseServer {
  readonly #streams: FlowStreams;

  constructor(opts: RpcServerOptions) {
    super(opts.log);
    this.#streams = new FlowStreams(opts.hub);
    this.add(encodedOnce(OBSERVER, 'GetFlows'), observerHandlers(opts, this.#streams));
    this.add(PEER, peerHandlers(opts));
    this.add(encodedOnce(EGRESS, 'GetFlows'), egressHandlers(opts, this.#streams));
  }

  protected override endStreams(): void {
    this.#streams.close();
  }
}
