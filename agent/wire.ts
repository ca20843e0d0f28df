import { join } from 'node:path';
import { Compiler } from '../src/compile/index.js';
import { DialectRegistry } from '../src/dialects/index.js';
import { DNS_EVENT_SIZE } from '../src/flow/event/dns.js';
import { SAID_EVENT_SIZE, SHORT_SAID_EVENT_SIZE } from '../src/flow/event/said.js';
import { Intake } from '../src/flow/intake.js';
import { keyedIds } from '../src/ids.js';
import { ENUMS } from '../src/image/layout.gen.js';
import { PolicyEvents } from '../src/kube/events.js';
import type { Logger } from '../src/log.js';
import { AfterPass } from './after-pass.js';
import type { Closing } from './closing.js';
import { BOUND_FILE } from './endpoints/binding/bound.js';
import { ENDPOINTS_FILE, EndpointIds } from './endpoints/ids.js';
import { EndpointResolver, isHidden } from './endpoints/resolver.js';
import { ReleasedAddresses } from './events/released-addresses.js';
import { LossReport } from './events/loss-report.js';
import { RECORD_STRIDE, RingReader } from './events/ring.js';
import { Shares } from './events/shares.js';
import { FlowSweeper } from './events/sweeper.js';
import { PodGate } from './gate/pod-gate.js';
import { Attacher, type Seeding } from './hooks/attach.js';
import { Seeder, SeedProgram } from './hooks/seed.js';
import { LedgerKeeper } from './ledger/keeper.js';
import type { KernelClock } from './kernel/clock.js';
import type { Kernel } from './load.js';
import { nodeKey } from './maps/books/node-key.js';
import { KernelMapStore } from './maps/store.js';
import { MapCounter } from './maps/tables/counter.js';
import type { AgentOptions } from './options.js';
import { Reconciler } from './reconciler.js';
import { Learning } from './resolvers/learning.js';
import { AGES_FILE } from './serve/ages.js';
import { FlowRoom } from './serve/flow-room.js';
import { NamesServer } from './serve/names.js';
import { PolicyServer } from './serve/policies.js';
import type { StatusParts } from './serve/status.js';
import type { PolicySource } from './source.js';

/** Maps whose entries the store does not count. */
const COUNTED = ['endpoints_more', 'sources', 'drop_notes', 'event_shares'];
/** How far the watch of namespaces may lag behind the watches of policies, milliseconds. */
const DELETION_HOLD_MS = 300;

export interface WireInputs {
  readonly options: AgentOptions;
  readonly source: PolicySource;
  /** The node's own addresses, which the source asks for at each load. */
  readonly ownIps: { value: readonly string[] };
  readonly kernel: Kernel;
  readonly log: Logger;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
}

/** The parts of an agent, connected to each other. */
export interface Parts extends StatusParts {
  readonly source: PolicySource;
  readonly reconciler: Reconciler;
  readonly saidRing: RingReader;
  readonly clock: KernelClock;
  readonly podGate: PodGate;
  readonly policyServer: PolicyServer;
  readonly losses: LossReport;
  readonly after: AfterPass;
}

/** Connects the parts as in the figure of ARCHITECTURE.md: policies go down, events come up. Puts nothing in force. */
export function wire(inputs: WireInputs, closing: Closing): Parts {
  const { options, source, kernel, log, startedAt } = inputs;
  const names = new Learning(kernel, options, log);
  closing.add(() => names.close());
  const common = { nodeName: options.nodeName, stride: RECORD_STRIDE, names: names.texts };
  const nowNs = () => Number(kernel.time.nanos());
  const secret = nodeKey(options.runDir);
  if (secret.fresh) log.info('ids are made with a new key');
  const keeper = new LedgerKeeper({ ...common, runDir: options.runDir, table: kernel.table, nowNs, log });
  closing.add(() => keeper.close());
  const intake = new Intake({ ...common, resolvers: names.seen, edges: keeper.counter });
  const peers = new ReleasedAddresses(nowNs);
  const down = wirePolicies(inputs, secret, intake, peers, names, closing);
  const { hub } = intake;
  const ring = new RingReader(kernel.map('events'), kernel.map('counters'));
  const { EA_COUNT_DNS_EVENTS_LOST, EA_COUNT_SAID_EVENTS_LOST } = ENUMS.ea_counter;
  const dnsRing = new RingReader(kernel.map('dns_events'), kernel.map('counters'), {
    size: DNS_EVENT_SIZE,
    lost: EA_COUNT_DNS_EVENTS_LOST,
  });
  const saidRing = new RingReader(kernel.map('said_events'), kernel.map('counters'), {
    size: SAID_EVENT_SIZE,
    short: SHORT_SAID_EVENT_SIZE,
    lost: EA_COUNT_SAID_EVENTS_LOST,
  });
  const shares = new Shares(kernel.map('event_shares'));
  const losses = new LossReport(ring, shares, hub, log);
  const sweeper = new FlowSweeper(
    kernel.table,
    kernel.time.hz,
    (key, value) => intake.ended(key, value, nowNs()),
    peers,
  );
  const counter = new MapCounter(COUNTED.map(kernel.map));
  const counters = kernel.map('counters');
  const room = new FlowRoom(kernel.table, counters, (ifindex) => down.store.slotOf(ifindex));
  const namesServer = new NamesServer(names, () => down.reconciler.state);
  const up = {
    dnsRing,
    saidRing,
    names,
    namesServer,
    intake,
    hub,
    ring,
    shares,
    losses,
    sweeper,
    room,
    counter,
    counters,
    clock: kernel.time,
    keeper,
  };
  return { options, source, startedAt, ...down, ...up };
}

function wirePolicies(
  { options, source, ownIps, kernel, log }: WireInputs,
  secret: ReturnType<typeof nodeKey>,
  intake: Intake,
  peers: ReleasedAddresses,
  names: Learning,
  closing: Closing,
): Pick<Parts, 'attacher' | 'store' | 'reconciler' | 'seeder' | 'podGate' | 'policyServer' | 'after'> {
  const inCluster = source.mode === 'cluster';
  const store = new KernelMapStore(kernel.maps, {
    statePath: join(options.runDir, 'journal'),
    reject: options.denyResponse === 'reject',
    ids: keyedIds(secret.key),
  });
  closing.add(() => store.close());
  const ids = new EndpointIds(store.ids, store.endpointIds, join(options.runDir, ENDPOINTS_FILE));
  // With new endpoint ids, the flows in the kernel's table are not found any more: every pod must be seeded again.
  const fresh = kernel.fresh || (secret.fresh && !ids.remembered);
  if (kernel.fresh && kernel.older.exist)
    log.info('the agent before had maps of another shape: what pods learned of names is forgotten');
  const attacher = new Attacher({ mode: options.attachMode, pinDir: options.pinDir, fresh });
  const seeder = new Seeder({
    seeds: new SeedProgram(kernel.programs.seed),
    older: (endpoints) => kernel.older.answered(endpoints),
    log,
  });
  const resolver = new EndpointResolver({
    nodeName: options.nodeName,
    uplinks: options.uplinks,
    annotations: !inCluster,
    unassigned: !inCluster,
    starting: inCluster,
    ids,
    checkNextHop: options.checkNextHop,
    allowEncapsulation: options.allowEncapsulation ?? false,
    statePath: join(options.runDir, BOUND_FILE),
    unknownInterfaces: options.unknownInterfaces,
    ...(inCluster ? { cniCacheDir: options.cniCacheDir } : {}),
    hooked: () => new Set(attacher.attached()),
  });
  const podGate = new PodGate({ claims: resolver.claims, attacher, schedule: () => reconciler.schedule() });
  names.foundEndpoints(store.endpointIds);
  const events = source.client && new PolicyEvents({ client: source.client, nodeName: options.nodeName, log });
  const hearing = { verifyNames: options.verifyNames, quic: options.quic };
  const policyServer = new PolicyServer(hearing, join(options.runDir, AGES_FILE));
  closing.add(() => policyServer.close());
  const after = new AfterPass({
    programs: kernel,
    store,
    attacher,
    intake,
    peers,
    names,
    podGate,
    policyServer,
    events,
    log,
  });
  const reconciler: Reconciler = new Reconciler(
    {
      source,
      registry: new DialectRegistry({ ...hearing, ...(inCluster ? { holdMs: DELETION_HOLD_MS } : {}) }),
      resolver,
      compiler: new Compiler(store.ids),
      store,
      attacher,
      programs: kernel.programs,
      seeding: seedingOf(seeder, log),
      log,
    },
    ownIps,
    (state) => after.applied(state),
  );
  closing.add(() => reconciler.close());
  closing.add(() => events?.close());
  return { attacher, store, reconciler, seeder, podGate, policyServer, after };
}

/** Seeding for all endpoints except pods whose namespace can no longer be entered. */
function seedingOf(seeder: Seeder, log: Logger): Seeding {
  return {
    prepare: (endpoints) => {
      const seed = seeder.prepare(endpoints.filter((e) => !isHidden(e)));
      return (endpoint) => {
        if (!isHidden(endpoint)) return seed(endpoint);
        log.warn('the namespace of a pod cannot be entered: its open connections are unknown', {
          endpoint: endpoint.key,
        });
      };
    },
  };
}
