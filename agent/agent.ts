/**
 * The composition root: the figure of ARCHITECTURE.md, put together.
 *
 *   source → Snapshot → IR → Image → maps             (reconciler: when something changed)
 *   ring → FlowEvent → Flow → hub → gRPC              (a timer: nobody is woken for an event)
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Compiler } from '../src/compile/index.js';
import { DialectRegistry } from '../src/dialects/index.js';
import { AgentError } from '../src/errors.js';
import { decodeEvent, decodeFlowEnd, EVENT_SIZE, eventTime } from '../src/flow/decode.js';
import { Enricher, type Known } from '../src/flow/enrich.js';
import { FlowHub } from '../src/flow/hub.js';
import type { Snapshot } from '../src/identity/snapshot.js';
import type { EndpointBinding } from '../src/image/store.js';
import { PolicyEvents } from '../src/kube/events.js';
import { explain, type Explanation } from '../src/ir/explain.js';
import { senderOf } from '../src/ir/sender.js';
import type { Logger } from '../src/log.js';
import { tryCanonicalAddr } from '../src/net/addr.js';
import { RpcServer } from '../src/rpc/server.js';
import type { AgentView, ExplainQuery } from '../src/rpc/view.js';
import { Attacher } from './attach.js';
import { build } from './build.js';
import { KernelClock } from './clock.js';
import { EndpointResolver } from './endpoints.js';
import { FlowSweeper } from './flow-sweeper.js';
import { load } from './loader.js';
import { KernelMapStore } from './map-store.js';
import { NetnsWatcher } from './netns.js';
import { NetworkEvents } from './network-events.js';
import { HttpServer } from './http.js';
import { MapCounter } from './map-counter.js';
import { makeMetrics } from './metrics.js';
import type { AgentOptions } from './options.js';
import { PodGate } from './pod-gate.js';
import { Gate } from './gate.js';
import { openSource } from './source.js';
import { type InForceState, Reconciler } from './reconciler.js';
import { RingReader } from './ring.js';
import { seedEndpoint } from './seed.js';
import { agentStatus, policyProblems, policyStatus, type StatusParts, VERSION } from './status.js';

/**
 * Looks at the ring this often: at 100,000 events a second 10,000 wait then, of the 30,000 that it holds. More often costs
 * the node's own work more than it gives: each look takes its caches.
 */
const RING_MS = 100;
/** Events read before other work has its turn: fewer than the hub keeps, so that quick readers miss none. */
const RING_BATCH = 2048;
/** Records that nobody reads become flows all the same, while the clocks are what they were. */
const SETTLE_MS = 5000;
/** One slice of 4,096 flows each time. */
const SWEEP_MS = 250;
/** One slice of another map: all are counted within a dozen seconds, were they full within a minute. */
const COUNT_MS = 1000;
/** Maps whose entries the store has no count of. */
const COUNTED = ['endpoints_more', 'sources', 'accepted', 'pending', 'fragments', 'drop_notes'];
const CHECK_MS = 30_000;
const VERIFY_MS = 300_000;
const LOSS_MS = 1000;
/** What a namespace's own watch may lag behind that of its policies. */
const DELETION_HOLD_MS = 300;

/** Where the sources of the BPF programs and the built object are, in a checkout and in a build. */
function paths(): { bpfDir: string; shipped: string } {
  const dist = fileURLToPath(new URL('..', import.meta.url));
  return { bpfDir: join(dist, '../bpf'), shipped: join(dist, 'bpf/egress.bpf.o') };
}

export class Agent implements AgentView {
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly closers: (() => void)[] = [];
  private readonly startedAt = Date.now();
  private parts!: StatusParts;
  private server!: RpcServer;
  private lostBefore: number[] = [];
  private started = false;
  private strangersGone = false;
  private tookOver = false;

  private constructor(
    private readonly options: AgentOptions,
    private readonly log: Logger,
  ) {}

  /**
   * Loads the programs, enforces what the source says, and follows it from then on.
   * Resolves when the socket answers; with manifests the first pass is done then, a cluster may need longer.
   * @throws AgentError; whatever was in force before stays in force
   */
  static async start(options: AgentOptions, log: Logger): Promise<Agent> {
    const agent = new Agent(options, log);
    try {
      await agent.run();
    } catch (e) {
      await agent.stop();
      throw e;
    }
    return agent;
  }

  private async run(): Promise<void> {
    const { options, log } = this;
    mkdirSync(options.runDir, { recursive: true, mode: 0o750 });
    const socket = join(options.runDir, 'agent.sock');
    await RpcServer.refuseIfServed(socket);

    // The source first: a directory that cannot be read must not cost anything.
    const ownIps = { value: [] as readonly string[] };
    const source = await openSource(options, () => ownIps.value, log);
    this.closers.push(() => source.close());

    const built = build({ ...paths(), cacheDir: join(options.runDir, 'bpf') });
    log.info('programs', { how: built.how, object: built.path });
    const programs = load({
      objectPath: built.path,
      pinDir: options.pinDir,
      sizes: options.mapSizes,
      logDir: options.runDir,
    });
    this.closers.push(() => programs.close());
    const map = (name: string) => {
      const found = programs.maps[name];
      if (!found) throw new AgentError('LAYOUT', `the object has no map ${name}`);
      return found;
    };
    const clock = new KernelClock(programs.programs.clock);

    const enricher = new Enricher({ nodeName: options.nodeName });
    const hub = new FlowHub({
      nodeName: options.nodeName,
      records: { size: EVENT_SIZE, timeNs: eventTime, flow: (buf, at) => enricher.enrich(decodeEvent(buf, at)) },
    });
    const store = new KernelMapStore(programs.maps, {
      statePath: join(options.runDir, 'journal'),
      reject: options.denyResponse === 'reject',
    });
    this.closers.push(() => store.close());
    const recovered = new Map(store.recoveredRules);
    const attacher = new Attacher({ mode: options.attachMode, pinDir: options.pinDir, fresh: programs.fresh });
    const seedMaps = { flows: map('flows'), accepted: map('accepted') };
    const inCluster = source.mode === 'cluster';
    const resolver = new EndpointResolver({
      nodeName: options.nodeName,
      uplinks: options.uplinks,
      annotations: !inCluster,
      unassigned: !inCluster,
      starting: inCluster,
    });
    const podGate = new PodGate({ claims: resolver.claims, attacher, schedule: () => reconciler.schedule() });
    const events = source.client && new PolicyEvents({ client: source.client, nodeName: options.nodeName, log });
    let placed: { of: readonly EndpointBinding[]; endpoints: Known['endpoints'] } = { of: [], endpoints: new Map() };
    const reconciler: Reconciler = new Reconciler(
      {
        source,
        registry: new DialectRegistry(inCluster ? { holdMs: DELETION_HOLD_MS } : {}),
        resolver,
        compiler: new Compiler(),
        store,
        attacher,
        programs: programs.programs,
        seed: (endpoint) => {
          const found = seedEndpoint(seedMaps, endpoint, { nanos: clock.nanos(), jiffies: clock.jiffies() });
          if (found > 0) log.debug('connections opened before', { endpoint: endpoint.key, connections: found });
        },
        log,
      },
      ownIps,
      (state) => {
        if (state.endpoints !== placed.of) {
          const known = state.endpoints.map((b) => [b.id, { pod: b.kind === 'pod' ? b.key : '', uid: b.uid }] as const);
          placed = { of: state.endpoints, endpoints: new Map(known) };
        }
        const { endpoints } = placed;
        const rules = recovered.size > 0 ? new Map([...recovered, ...state.image.rules]) : state.image.rules;
        // What was sent before has the names that it had before.
        hub.settle();
        enricher.update({ snapshot: state.snapshot, rules, endpoints });
        if (!this.tookOver) programs.dropOthers();
        this.tookOver = true;
        podGate.passed(state);
        events?.report(policyProblems(state));
        this.forgetStrangers(state);
      },
    );
    this.closers.push(() => reconciler.close());
    this.closers.push(() => events?.close());

    const ring = new RingReader(map('events'), map('counters'));
    this.lostBefore = ring.lost();
    const sweeper = new FlowSweeper(map('flows'), map('accepted'), clock.hz, (key, value) => {
      hub.publish(enricher.enrich(decodeFlowEnd(key, value, Number(clock.nanos()), 0)));
    });
    const counter = new MapCounter(COUNTED.map(map));
    this.parts = {
      options,
      source,
      attacher,
      store,
      reconciler,
      ring,
      sweeper,
      counter,
      hub,
      counters: map('counters'),
      startedAt: this.startedAt,
    };

    // Until the first pass what an agent before this one left stays in force; without one, pods are not judged.
    if (source.synced && !reconciler.pass())
      log.error('the first pass failed; trying again with each change and every 30 s');
    this.server = new RpcServer({ hub, view: this, log });
    await this.server.listen(socket);
    if (options.listen !== undefined) await this.server.listenTls(options.listen, options.tlsDir);
    if (inCluster) await this.openGate(podGate);
    if (options.httpListen !== undefined) await this.openHttp(options.httpListen);

    let again = false;
    const drain = () => {
      const n = ring.records((buf, at) => hub.note(buf, at), RING_BATCH);
      if (n < RING_BATCH || again) return;
      // More is waiting; readers of the hub have their turn in between.
      again = true;
      setImmediate(() => {
        again = false;
        drain();
      });
    };
    this.every(RING_MS, drain);
    this.every(SETTLE_MS, () => hub.settle());
    this.every(SWEEP_MS, () => sweeper.tick(Number(clock.jiffies())));
    this.every(COUNT_MS, () => counter.tick());
    this.every(LOSS_MS, () => this.reportLosses());
    this.every(CHECK_MS, () => {
      reconciler.check();
      // Whatever no event told; and one more try where the last failed.
      reconciler.schedule();
    });
    this.every(VERIFY_MS, () => {
      for (const difference of store.verify(true))
        log.error('a map differed from the policies and was mended', { difference });
    });
    const network = new NetworkEvents((events) => {
      if (events.has('tc') || events.has('link') || events.has('lost')) reconciler.check();
      if (events.has('link') || events.has('address') || events.has('route') || events.has('lost'))
        reconciler.schedule();
    });
    this.closers.push(() => network.close());
    const namespaces = new NetnsWatcher(() => reconciler.schedule());
    this.closers.push(() => namespaces.close());
    source.watch(() => reconciler.schedule(false));
    this.closers.push(() => void drain());
    this.started = true;
    log.info(source.synced ? 'ready' : 'started; waiting for the cluster', {
      version: VERSION,
      node: options.nodeName,
      socket,
      attach: attacher.mode,
    });
  }

  status() {
    return agentStatus(this.parts);
  }

  policies() {
    return policyStatus(this.parts.reconciler.state, this.parts.reconciler.problems);
  }

  snapshot(): Snapshot {
    return this.inForce().snapshot;
  }

  explain(query: ExplainQuery): Explanation {
    const { ir, snapshot } = this.inForce();
    if (!senderOf(snapshot, query.from)) throw new AgentError('USAGE', `there is no pod ${query.from}`);
    let to = tryCanonicalAddr(query.to);
    if (to === undefined) {
      const pod = snapshot.pods.get(query.to);
      if (!pod) throw new AgentError('USAGE', `${query.to} is neither an address nor a pod (namespace/name)`);
      to = pod.ips[0];
      if (to === undefined) throw new AgentError('USAGE', `pod ${query.to} has no address yet`);
    }
    return explain(ir, snapshot, { from: query.from, to, port: query.port, protocol: query.protocol });
  }

  /** Ends what this process does; programs, maps and links stay, and with them the enforcement. */
  async stop(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    for (const close of this.closers.reverse()) {
      try {
        close();
      } catch (e) {
        this.log.debug((e as Error).message);
      }
    }
    this.closers.length = 0;
    await this.server?.close();
  }

  private inForce(): InForceState {
    const state = this.parts.reconciler.state;
    if (!state) throw new AgentError('AGENT', 'no policies are in force yet', { hint: 'egressctl status says why' });
    return state;
  }

  /** A fault in one of these is logged; the agent goes on. */
  private every(ms: number, what: () => unknown): void {
    let failing = false;
    const timer = setInterval(() => {
      try {
        what();
        failing = false;
      } catch (e) {
        if (!failing) this.log.error((e as Error).message);
        failing = true;
      }
    }, ms);
    this.timers.push(timer);
  }

  /** The gate's socket; and, where it is to be installed, the plugin in the node's CNI configuration. */
  private async openGate(handler: PodGate): Promise<void> {
    const { options, log } = this;
    const gate = new Gate(handler, options, log);
    this.parts.gate = gate;
    this.closers.push(() => gate.close());
    await gate.open();
  }

  private async openHttp(address: string): Promise<void> {
    const { reconciler, source } = this.parts;
    const http = new HttpServer({
      starting: () => (this.started ? undefined : 'starting'),
      notReady: () => {
        if (!source.synced) return 'the cluster is not known yet';
        if (!reconciler.state) return 'no policies are in force yet';
        return reconciler.failingSince === undefined ? undefined : 'policies cannot be applied: see egressctl status';
      },
      metrics: makeMetrics(() => this.status()),
    });
    await http.listen(address);
    this.closers.push(() => http.close());
  }

  /** Once, when every pod of the node has been found. */
  private forgetStrangers({ bindings }: InForceState): void {
    const { store, attacher } = this.parts;
    if (this.strangersGone || bindings.unbound.size > 0) return;
    this.strangersGone = true;
    const dropped = store.dropStrangers(new Set(attacher.attached()));
    if (dropped > 0) this.log.info('entries of interfaces that are gone were removed', { entries: dropped });
  }

  private reportLosses(): void {
    const { ring, hub } = this.parts;
    const now = ring.lost();
    let total = 0;
    now.forEach((count, cpu) => {
      const more = count - (this.lostBefore[cpu] ?? 0);
      if (more <= 0) return;
      total += more;
      hub.lostInRing(more, cpu);
    });
    if (total > 0) this.log.warn('events were lost: the ring was full', { events: total });
    this.lostBefore = now;
  }
}
