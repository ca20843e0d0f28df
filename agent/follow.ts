import type { Logger } from '../src/log.js';
import type { Closing } from './closing.js';
import { cacheDirs } from './endpoints/evidence/cni-cache.js';
import { DirectoryWatcher, NetnsWatcher } from './endpoints/watcher.js';
import { Drain } from './events/drain.js';
import { LinkAlarm } from './netlink/link-alarm.js';
import { NetworkEvents } from './netlink/network-events.js';
import type { AgentOptions } from './options.js';
import type { Parts } from './wire.js';

/**
 * Period of reading the ring, milliseconds. At 100,000 events a second, 10,000 wait by then; the ring holds 30,000.
 * A shorter period costs the node's workload more than it gains: each reading displaces its CPU caches.
 */
const RING_MS = 100;
/** DNS messages that are read from their ring in one period: at most so much time is spent on them. */
const DNS_MESSAGES = 512;
/** The same of what connections say. */
const SAID_EVENTS = 1024;
/** Period of recording the namespaces of unread events (of the last hour), and of checking the wall clock for a step. */
const INTAKE_TICK_MS = 1000;
/** Period of sweeping one slice of the flow table. */
const SWEEP_MS = 250;
/** Period of counting one slice of another map: all maps take a dozen seconds, and a minute if they are full. */
const COUNT_MS = 1000;
const HOOK_CHECK_MS = 30_000;
const VERIFY_MS = 300_000;
const LOSS_MS = 1000;
/** Period of freeing the names whose time is over. */
const NAMES_MS = 1000;
/** Period of saving since when policies are as they are. */
const AGES_MS = 10_000;
/** Period of reading the node's resolv.conf. */
const RESOLV_CONF_MS = 30_000;

/**
 * Closes new interfaces until a pass has judged them. Call it before the first pass, so that interfaces that appear
 * during that pass are closed after it; and before followChanges(), so that LinkAlarm handles SIGIO before
 * NetworkEvents.
 */
export function closeNewLinks({ reconciler }: Parts, closing: Closing): void {
  const alarm = new LinkAlarm({
    appeared: (link) => reconciler.appeared(link),
    disappeared: (ifindex) => reconciler.disappeared(ifindex),
  });
  closing.add(() => alarm.close());
}

/** Starts the periodic work. @returns the reader of the ring */
export function startTimers(parts: Parts, log: Logger, closing: Closing): Drain {
  const { reconciler, store, ring, dnsRing, saidRing, intake, sweeper, counter, clock, losses, after, names } = parts;
  const { keeper, policyServer } = parts;
  const drain = new Drain(ring, intake);
  closing.every(RING_MS, () => {
    if (reconciler.state) keeper.known();
    keeper.tick();
    drain.run();
  });
  closing.every(RING_MS, () => dnsRing.records((buf, at) => intake.dns(buf, at), DNS_MESSAGES));
  closing.every(RING_MS, () => saidRing.records((buf, at) => intake.said(buf, at), SAID_EVENTS));
  closing.every(INTAKE_TICK_MS, () => intake.tick());
  closing.every(SWEEP_MS, () => sweeper.sweep(() => clock.estimatedJiffies()));
  closing.every(COUNT_MS, () => counter.tick());
  closing.every(LOSS_MS, () => losses.report(after.endpoints));
  closing.every(AGES_MS, () => policyServer.save());
  closing.every(NAMES_MS, () => names.sweep());
  closing.every(RESOLV_CONF_MS, () => names.trusted.recheck());
  closing.every(HOOK_CHECK_MS, () => {
    reconciler.check();
    // Catches changes that raised no event, and retries what failed in the last pass.
    reconciler.schedule();
  });
  closing.every(VERIFY_MS, () => {
    for (const difference of store.verify(true))
      log.error('a map differed from the policies and was repaired', { difference });
  });
  return drain;
}

/** Schedules a pass after each change of links, of namespaces, of the CNIs' results and of the source. */
export function followChanges({ reconciler, source }: Parts, options: AgentOptions, closing: Closing): void {
  const network = new NetworkEvents((events) => {
    if (events.has('tc') || events.has('link') || events.has('lost')) reconciler.check();
    if (events.has('link') || events.has('address') || events.has('route') || events.has('lost')) reconciler.schedule();
  });
  closing.add(() => network.close());
  const schedule = () => reconciler.schedule();
  const resultDirs = source.mode === 'cluster' ? cacheDirs(options.cniCacheDir) : [];
  const watchers = [new NetnsWatcher(schedule), ...resultDirs.map((dir) => new DirectoryWatcher(schedule, dir))];
  closing.add(() => watchers.forEach((w) => w.close()));
  source.watch(() => reconciler.schedule(false));
}
