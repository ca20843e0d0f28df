/**
 * The composition root: the figure of ARCHITECTURE.md, put together.
 *
 *   source → Snapshot → IR → Image → maps             (reconciler: after each change)
 *   ring → hub                                        (a timer: an event wakes no thread)
 *   hub → FlowEvent → Flow → gRPC                     (on request)
 */
import { join } from 'node:path';
import type { EdgeFeed } from '../src/edges/query.js';
import { AgentError } from '../src/errors.js';
import { parseExports } from '../src/export/base/spec.js';
import { Exports } from '../src/export/exports.js';
import { hubSource } from '../src/export/hub.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import { senderOf } from '../src/ir/sender.js';
import type { Logger } from '../src/log.js';
import type {
  PolicyObjectsRequest,
  PolicyObjectsResponse,
  PreviewRequest,
  PreviewResponse,
  RecommendRequest,
  RecommendResponse,
} from '../src/proto/edges.js';
import { RpcServer } from '../src/rpc/server.js';
import type { AgentExplanation, AgentView, ExplainQuery, LearnedView, NamesQuery } from '../src/rpc/view.js';
import { VERSION } from '../src/version.js';
import { Closing } from './closing.js';
import type { Drain } from './events/drain.js';
import type { InForceState } from './endpoints/in-force.js';
import { closeNewLinks, followChanges, startTimers } from './follow.js';
import { Gate } from './gate/gate.js';
import { DirectoryLock } from './kernel/lock.js';
import { loadPrograms } from './load.js';
import type { AgentOptions } from './options.js';
import { explainQuery } from './serve/explain.js';
import { HttpServer } from './serve/http.js';
import { makeMetrics } from './serve/metrics.js';
import { agentStatus, policyStatus } from './serve/status.js';
import { openUnixDatagram } from './serve/unix-datagram.js';
import { openSource } from './source.js';
import { type Parts, wire } from './wire.js';

/** Milliseconds for what is still to be exported when the agent ends. */
const EXPORT_END_MS = 5000;

export class Agent implements AgentView {
  readonly #options: AgentOptions;
  readonly #log: Logger;
  readonly #closing: Closing;
  readonly #startedAt = Date.now();
  #parts!: Parts;
  #server: RpcServer | undefined;
  #exports: Exports | undefined;
  #drain: Drain | undefined;
  #started = false;

  private constructor(options: AgentOptions, log: Logger) {
    this.#options = options;
    this.#log = log;
    this.#closing = new Closing(log);
  }

  /**
   * Loads the programs, enforces the source's policies, and follows their changes from then on.
   * Resolves when the socket answers. With manifests the first pass is over by then; a cluster may need longer.
   * @throws AgentError; the policies that were in force before stay in force
   */
  static async start(options: AgentOptions, log: Logger): Promise<Agent> {
    const agent = new Agent(options, log);
    try {
      await agent.#run();
    } catch (e) {
      await agent.stop();
      throw e;
    }
    return agent;
  }

  async #run(): Promise<void> {
    const [options, log, closing] = [this.#options, this.#log, this.#closing];
    const exports = await parseExports(options.exports ?? []);
    closing.holdLock(DirectoryLock.run(options.runDir));
    const socket = join(options.runDir, 'agent.sock');
    await RpcServer.refuseIfServed(socket);

    // The source comes first: a directory that cannot be read must fail before anything in the kernel changes.
    const ownIps = { value: [] as readonly string[] };
    const source = await openSource(options, () => ownIps.value, log);
    closing.add(() => source.close());
    const kernel = loadPrograms(options, log, closing);
    const parts = wire({ options, source, ownIps, kernel, log, startedAt: this.#startedAt }, closing);
    this.#parts = parts;

    // Before the first event is read, so that none is missing.
    const { hub } = parts;
    const { nodeName: node } = options;
    this.#exports = await Exports.start({ specs: exports, source: hubSource(hub), node, log, openUnixDatagram });
    parts.exports = this.#exports;
    closeNewLinks(parts, closing);
    // Until the first pass, the policies of an earlier agent stay in force. Without an earlier agent, pods are not
    // judged.
    if (source.synced && !parts.reconciler.pass())
      log.error('the first pass failed; trying again with each change and every 30 s');
    await this.#serve(socket);
    const drain = startTimers(parts, log, closing);
    this.#drain = drain;
    followChanges(parts, options, closing);
    closing.add(() => drain.finish());

    this.#started = true;
    log.info(source.synced ? 'ready' : 'started; waiting for the cluster', {
      version: VERSION,
      node: options.nodeName,
      socket,
      attach: parts.attacher.mode,
    });
  }

  status() {
    return agentStatus(this.#parts);
  }

  policies() {
    return policyStatus(this.#parts.reconciler.state, this.#parts.reconciler.problems);
  }

  snapshot(): Snapshot {
    return this.#inForce().snapshot;
  }

  explain(query: ExplainQuery): AgentExplanation {
    const { ir, snapshot } = this.#inForce();
    if (!senderOf(snapshot, query.from)) throw new AgentError('USAGE', `there is no pod ${query.from}`);
    return explainQuery(query, ir, snapshot, this.#parts.namesServer);
  }

  names(query: NamesQuery): Promise<{ names: LearnedView[]; more: boolean }> {
    return this.#parts.namesServer.list(query);
  }

  get edges(): EdgeFeed {
    return this.#parts.keeper.ledger;
  }

  policyObjects(request: PolicyObjectsRequest): Promise<PolicyObjectsResponse> {
    return this.#parts.policyServer.objects(request, this.#inForce());
  }

  preview(request: PreviewRequest): Promise<PreviewResponse> {
    return this.#parts.policyServer.preview(request, this.#inForce(), this.edges);
  }

  async recommend(request: RecommendRequest): Promise<RecommendResponse> {
    return this.#parts.policyServer.recommend(request, this.#inForce(), this.edges);
  }

  /** Ends the work of this process. Programs, maps and links stay in the kernel and go on enforcing. */
  async stop(): Promise<void> {
    // Exports end first, with what the ring still holds; the agent goes on meanwhile.
    this.#drain?.finish();
    await this.#exports?.close(EXPORT_END_MS);
    this.#closing.close();
    await this.#server?.close();
    this.#closing.release();
  }

  #inForce(): InForceState {
    const state = this.#parts.reconciler.state;
    if (!state) throw new AgentError('AGENT', 'no policies are in force yet', { hint: 'egressctl status says why' });
    return state;
  }

  /** Opens the servers: gRPC for readers of flows, the CNI gate's socket, HTTP for probes and metrics. */
  async #serve(socket: string): Promise<void> {
    const { listen, tlsDir, httpListen } = this.#options;
    const { hub, source } = this.#parts;
    this.#server = new RpcServer({ hub, view: this, log: this.#log });
    await this.#server.listen(socket);
    if (listen !== undefined) await this.#server.listenTls(listen, tlsDir);
    if (source.mode === 'cluster') await this.#openGate();
    if (httpListen !== undefined) await this.#openHttp(httpListen);
  }

  /** Opens the gate's socket and, if the options ask for it, installs the plugin in the node's CNI configuration. */
  async #openGate(): Promise<void> {
    const gate = new Gate(this.#parts.podGate, this.#options, this.#log);
    this.#parts.gate = gate;
    this.#closing.add(() => gate.close());
    await gate.open();
  }

  async #openHttp(address: string): Promise<void> {
    const { reconciler, source } = this.#parts;
    const http = new HttpServer({
      startingReason: () => (this.#started ? undefined : 'starting'),
      notReadyReason: () => {
        if (!source.synced) return 'the cluster is not known yet';
        if (!reconciler.state) return 'no policies are in force yet';
        return reconciler.failingSince === undefined ? undefined : 'policies cannot be applied: see egressctl status';
      },
      metrics: makeMetrics(() => this.status()),
    });
    await http.listen(address);
    this.#closing.add(() => http.close());
  }
}
