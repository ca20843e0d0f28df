/** The agent's gRPC server. It listens on the network only if configured, and then with mutual TLS. */
import type { FlowHub } from '../flow/hub/hub.js';
import type { Logger } from '../log.js';
import { BaseServer } from './transport/base.js';
import { egressHandlers } from './egress.js';
import { FlowWriter } from './flow-writer.js';
import { observerHandlers, peerHandlers } from './observer.js';
import { encodedOnce } from './once.js';
import { EGRESS, OBSERVER, PEER } from '../proto/load.js';
import { AGENT_LIMITS, ownSamples } from './sample/own.js';
import { SampleStreams } from './sample/streams.js';
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
  readonly #samples: SampleStreams;

  constructor(opts: RpcServerOptions) {
    super(opts.log);
    this.#streams = new FlowStreams(opts.hub);
    const writer = new FlowWriter(opts.hub.nodeName);
    const parts = { ...opts, writer };
    const samples = ownSamples(opts.hub, (flow) => writer.record(flow));
    this.#samples = new SampleStreams(samples, AGENT_LIMITS);
    this.add(encodedOnce(OBSERVER, 'GetFlows'), observerHandlers(parts, this.#streams));
    this.add(PEER, peerHandlers(opts));
    this.add(encodedOnce(EGRESS, 'GetFlows', 'SampleFlows'), egressHandlers(parts, this.#streams, this.#samples));
  }

  protected override endStreams(): void {
    this.#streams.close();
    this.#samples.close();
  }
}
