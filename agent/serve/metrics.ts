/** The agent's status as Prometheus metrics, computed from the status at each scrape. */
import { Counter, Gauge, Registry } from 'prom-client';
import { LOST_AT } from '../../src/export/counts.js';
import type { AgentStatus } from '../../src/rpc/view.js';

const PREFIX = 'egress_agent_';

/** @param status called once for each scrape */
export function makeMetrics(status: () => AgentStatus): () => Promise<{ type: string; text: string }> {
  const registry = new Registry();
  const registers = [registry];
  const gauge = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Gauge({ name: PREFIX + name, help, labelNames, registers });
  const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) =>
    new Counter({ name: PREFIX + name, help, labelNames, registers });

  const info = gauge('info', 'Always 1; the version is a label.', 'version', 'node', 'mode');
  const endpoints = gauge('endpoints', 'Interfaces with hooks, by state.', 'state');
  const policies = gauge('policies', 'Policy objects, by state.', 'state');
  const problems = gauge('problems', 'Problems that status reports, by severity.', 'severity');
  const entries = gauge('map_entries', 'Entries of a BPF map.', 'map');
  const room = gauge('map_max_entries', 'Entries that a BPF map can hold.', 'map');
  const applied = gauge('policies_applied_timestamp_seconds', 'Time when policies were applied last.');
  const failing = gauge('policies_failing_seconds', 'Since when policies cannot be applied; 0: they can.');
  const stale = gauge('api_stale_seconds', 'Since when the API server cannot be followed; 0: it is followed.');
  const synced = gauge('api_synced', 'Whether every kind has been listed: 1 or 0.');
  const objects = gauge('api_objects', 'Objects that are followed, by kind.', 'kind');
  const memory = gauge('memory_resident_bytes', 'Memory of the agent.');
  const waiting = gauge('gate_waiting', 'Pods that the CNI gate is holding.');
  const flows = counter('flows_total', 'Flow records reported.');
  const share = gauge('flow_share_entries', 'Entries of the flow table that are guaranteed to each endpoint.');
  const over = gauge(
    'endpoints_over_flow_share',
    'Endpoints that have more entries in the flow table than their share.',
  );
  const notStored = counter(
    'flows_not_stored_total',
    'Flows that found no room in the table, including denied ones beyond a quarter of a share: each packet is judged again.',
  );
  const evicted = counter('flows_evicted_total', 'Flows that were replaced in the table by others.');
  const busy = counter(
    'flows_busy_total',
    'Changes of a flow that were lost because other CPUs held its entry for too long.',
  );
  const known = gauge('names', 'Names that pods have learned from DNS answers.');
  const resolvers = gauge('dns_servers', 'Trusted resolvers.');
  const nameRefused = counter('names_refused_total', 'Names and addresses that found no room.');
  const nameOverflow = counter('names_overflow_total', 'Addresses with more names than there is room for.');
  const untrusted = counter(
    'dns_answers_untrusted_total',
    'DNS answers of others than the trusted resolvers, or that nobody asked for.',
  );
  const edges = gauge('edges', 'Edges in the ledger: who talked to whom.');
  const edgesOverflow = counter('edges_overflow_total', 'Flows that found no edge of their own in the ledger.');
  const inspected = counter('said_inspected_total', 'Connections that were inspected for what they say.');
  const judged = counter('said_judged_total', 'TLS and QUIC hellos and HTTP requests that were judged.');
  const saidDenied = counter('said_denied_total', 'TLS and QUIC hellos and HTTP requests that were denied.');
  const pending = gauge('said_pending', 'Connections that have not said yet what decides about them.');
  const oversize = counter('said_oversize_total', 'Hellos and heads of requests that are larger than is kept.');
  const noEchRoom = counter('ech_without_room_total', 'Configurations of encrypted ClientHello that found no room.');
  const noBuffer = counter(
    'said_without_buffer_total',
    'Segments and datagrams that were dropped since no buffer was free.',
  );
  const audited = counter(
    'said_audited_total',
    'Hellos and requests that passed and that the audit verdict denies: names that are not verified, staged policies.',
  );
  const lost = counter('lost_events_total', 'Events lost, by where.', 'where');
  const drops = counter('dropped_packets_total', 'Packets dropped, by reason.', 'reason');
  const exported = counter('export_records_total', 'Records that a collector has taken.', 'to');
  const exportLost = counter(
    'export_lost_flows_total',
    'Flows that were not exported, by where they were lost.',
    'to',
    'where',
  );
  const reconnects = counter('export_reconnects_total', 'How often an export went on after a failure.', 'to');
  const queued = gauge('export_queued', 'Records that wait to be exported.', 'to');
  const exportFailing = gauge('export_failing_seconds', 'Since when an export fails; 0: it works.', 'to');
  const gate = counter('gate_pods_total', 'Pods that the CNI gate held, by result.', 'result');

  return async () => {
    const s = status();
    registry.resetMetrics();
    const since = (ms: number | undefined) => (ms === undefined ? 0 : Math.max(0, (Date.now() - ms) / 1000));
    info.set({ version: s.version, node: s.nodeName, mode: s.mode }, 1);
    for (const state of ['enforced', 'observed', 'missing']) {
      endpoints.set({ state }, s.endpoints.filter((e) => e.state === state).length);
    }
    policies.set({ state: 'in-force' }, s.policies.inForce);
    policies.set({ state: 'staged' }, s.policies.staged);
    policies.set({ state: 'refused' }, s.policies.refused);
    for (const severity of ['error', 'warning']) {
      problems.set({ severity }, s.policies.problems.filter((p) => p.severity === severity).length);
    }
    for (const m of s.maps) {
      entries.set({ map: m.name }, m.entries);
      room.set({ map: m.name }, m.max);
    }
    applied.set(s.staleness.appliedAt / 1000);
    failing.set(since(s.staleness.failingSince));
    if (s.cluster) {
      stale.set(since(s.cluster.staleSince));
      synced.set(s.cluster.synced ? 1 : 0);
      for (const k of s.cluster.kinds) objects.set({ kind: k.kind }, k.objects);
    }
    memory.set(process.memoryUsage.rss());
    flows.inc(s.flows.seen);
    share.set(s.flows.share);
    over.set(s.endpoints.filter((e) => e.flows > s.flows.share).length);
    notStored.inc(s.flows.notStored);
    evicted.inc(s.flows.evicted);
    busy.inc(s.flows.busy);
    lost.inc(
      { where: 'ring' },
      s.lost.ring.reduce((a, b) => a + b, 0),
    );
    lost.inc({ where: 'reader' }, s.lost.queue);
    lost.inc({ where: 'dns' }, s.names.dnsEventsLost);
    lost.inc({ where: 'said' }, s.said.eventsLost);
    edges.set(s.ledger.edges);
    edgesOverflow.inc(s.ledger.overflow);
    inspected.inc(s.said.inspected);
    judged.inc(s.said.judged);
    saidDenied.inc(s.said.denied);
    pending.set(s.said.pending);
    oversize.inc(s.said.oversize);
    noEchRoom.inc(s.said.echWithoutRoom);
    noBuffer.inc(s.said.withoutBuffer);
    audited.inc(s.said.audited);
    known.set(s.names.names);
    resolvers.set(s.names.resolvers.length);
    nameRefused.inc(s.names.refused);
    nameOverflow.inc(s.names.overflow);
    untrusted.inc(s.names.untrusted);
    // A counter that begins with its first event hides it from increase(): those that alerts ask for begin with 0.
    drops.inc({ reason: 'policy' }, 0);
    for (const [reason, n] of Object.entries(s.drops)) drops.inc({ reason }, n);
    const { exports = [] } = s;
    for (const [n, e] of exports.entries()) {
      // Two exports may go to one place, with other filters.
      const to = exports.findIndex((other) => other.target === e.target) === n ? e.target : `${e.target} ${n + 1}`;
      exported.inc({ to }, e.exported);
      for (const where of LOST_AT) exportLost.inc({ to, where }, e.lost[where] ?? 0);
      reconnects.inc({ to }, e.reconnects);
      queued.set({ to }, e.queued);
      exportFailing.set({ to }, since(e.failingSince));
    }
    if (s.gate) {
      waiting.set(s.gate.pending);
      gate.inc({ result: 'passed' }, s.gate.passed);
      gate.inc({ result: 'refused' }, s.gate.refused);
      gate.inc({ result: 'timed-out' }, s.gate.timedOut);
    }
    return { type: registry.contentType, text: await registry.metrics() };
  };
}
