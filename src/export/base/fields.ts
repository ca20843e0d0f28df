/** The fields of exported records by name, for OTLP and syslog: the most important first. docs/export.md lists them. */
import { type Facts, MOST_NAME, MOST_TEXT, type Side, bounded, saidServer } from './facts.js';
import { urlOf } from '../../flow/event/said-text.js';
import type { FlowRecord } from '../../proto/messages.js';
import type { FlowItem, LostItem, SumItem, SumSide } from './item.js';

export type FieldValue = string | number | boolean | readonly string[];
export type Fields = [name: string, value: FieldValue][];

/** Collects fields; empty text, 0, false and empty lists are left out. */
function collect(pairs: readonly (readonly [string, FieldValue | undefined])[]): Fields {
  const fields: Fields = [];
  for (const [name, value] of pairs) {
    if (value === undefined || value === '' || value === 0 || value === false) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    fields.push([name, value]);
  }
  return fields;
}

/** The fields of a flow. */
export function flowFields({ response, sample }: FlowItem, facts: Facts): Fields {
  const r = response.record;
  const { source, destination } = facts;
  const count = (n: FlowRecord['drops']) => Number(n ?? 0);
  return collect([
    ['egress.verdict', r.verdict],
    ['source.address', source.ip],
    ['source.port', source.port],
    ['destination.address', destination.ip],
    ['destination.port', destination.port],
    ['network.transport', facts.protocol],
    ['egress.event', r.event],
    ['egress.rule', facts.rule],
    ['egress.reason', bounded(r.reason, MOST_NAME)],
    ...sideFields('source', source),
    ...sideFields('destination', destination),
    ['egress.audit.verdict', r.audit_verdict],
    ['egress.audit.rule', facts.auditRule],
    ['egress.direction', facts.direction],
    ...saidFields(r),
    ...dnsFields(r),
    ['egress.bytes_out', count(r.bytes_out)],
    ['egress.bytes_in', count(r.bytes_in)],
    ['egress.packets_out', count(r.packets_out)],
    ['egress.packets_in', count(r.packets_in)],
    ['egress.drops', count(r.drops)],
    ['egress.duration_ns', r.event === 'end' ? count(r.duration_ns) : 0],
    ['egress.sample', sample > 1 ? sample : 0],
    ['egress.uuid', bounded(r.flow.uuid, MOST_NAME)],
  ]);
}

function sideFields(side: string, s: Side): [string, FieldValue][] {
  return [
    [`egress.${side}.namespace`, s.namespace],
    [`egress.${side}.pod`, s.pod],
    [`egress.${side}.workload`, s.workload === '' ? '' : `${s.workloadKind}/${s.workload}`],
    [`egress.${side}.names`, s.names],
    [`egress.${side}.service`, s.service],
    [`egress.${side}.node`, s.isNode],
  ];
}

function saidFields({ said }: FlowRecord): [string, FieldValue][] {
  if (!said) return [];
  const url = said.kind === 'http' ? urlOf({ host: said.host ?? '', path: said.path ?? '' }) : '';
  return [
    ['network.protocol.name', bounded(said.kind, MOST_NAME)],
    ['tls.client.server_name', said.kind === 'http' ? '' : saidServer(said)],
    ['http.request.method', bounded(said.method, MOST_NAME)],
    ['url.full', bounded(url, MOST_TEXT)],
  ];
}

function dnsFields({ flow }: FlowRecord): [string, FieldValue][] {
  const dns = flow.l7?.dns;
  if (!dns) return [];
  return [
    ['network.protocol.name', 'dns'],
    ['dns.question.name', bounded(dns.query, MOST_NAME)],
    ['egress.dns.type', bounded(dns.qtypes?.[0], MOST_NAME)],
    ['egress.dns.rcode', dns.rcode ?? 0],
    ['dns.answers', (dns.ips ?? []).slice(0, 16).map((ip) => bounded(ip, MOST_NAME))],
  ];
}

/** The fields of a sum. */
export function sumFields({ sum, windowMs }: SumItem): Fields {
  return collect([
    ['egress.verdict', sum.verdict],
    ['egress.event', sum.event],
    ['egress.flows', sum.flows],
    ['destination.address', sum.destination.ip],
    ['destination.port', sum.port],
    ['network.transport', sum.protocol],
    ['egress.rule', sum.rule],
    ['egress.reason', sum.reason],
    ['source.address', sum.source.ip],
    ...sumSideFields('source', sum.source),
    ...sumSideFields('destination', sum.destination),
    ['egress.audit.verdict', sum.auditVerdict],
    ['egress.audit.rule', sum.auditRule],
    ['egress.direction', sum.direction],
    ['egress.bytes_out', sum.bytesOut],
    ['egress.bytes_in', sum.bytesIn],
    ['egress.packets_out', sum.packetsOut],
    ['egress.packets_in', sum.packetsIn],
    ['egress.drops', sum.drops],
    ['egress.window_seconds', windowMs / 1000],
    ['egress.other', sum.isOther],
  ]);
}

function sumSideFields(side: string, s: SumSide): [string, FieldValue][] {
  return [
    [`egress.${side}.namespace`, s.namespace],
    [`egress.${side}.workload`, s.workload === '' ? '' : `${s.workloadKind}/${s.workload}`],
    [`egress.${side}.names`, s.name === '' ? [] : [s.name]],
  ];
}

const LOST_AT: Readonly<Record<string, string>> = {
  PERF_EVENT_RING_BUFFER: 'ring',
  HUBBLE_RING_BUFFER: 'reader',
  OBSERVER_EVENTS_QUEUE: 'export',
};

/** The fields of a notice. */
export function lostFields({ response: { lost_events: lost, lost_pod } }: LostItem): Fields {
  return collect([
    ['egress.lost.flows', Number(lost?.num_events_lost ?? 0)],
    ['egress.lost.where', LOST_AT[lost?.source ?? ''] ?? 'unknown'],
    ['egress.lost.pod', bounded(lost_pod, 2 * MOST_NAME)],
  ]);
}

/** A sum as one line: `12 flows: shop/Deployment/web -> api.example.com:443/tcp allow np/shop/web#1`. */
export function sumLine({ sum }: SumItem): string {
  if (sum.isOther) return `${sum.flows} other flows ${sum.verdict} (${sum.event})`;
  const place = (s: SumSide) =>
    s.name || (s.workload === '' ? s.ip || 'unknown' : `${s.namespace}/${s.workloadKind}/${s.workload}`);
  const port = sum.port > 0 ? `:${sum.port}/${sum.protocol}` : sum.protocol === '' ? '' : ` ${sum.protocol}`;
  const many = `${sum.flows} flow${sum.flows === 1 ? '' : 's'}`;
  return `${many}: ${place(sum.source)} -> ${place(sum.destination)}${port} ${sum.verdict} ${sum.rule || sum.reason} (${sum.event})`;
}

/** A notice as one line. */
export function lostLine(item: LostItem): string {
  const { num_events_lost: count = 0, source = '' } = item.response.lost_events ?? {};
  const why = { ring: 'the kernel had no room for them', reader: 'they were read too slowly' }[LOST_AT[source] ?? ''];
  return `${count} flows lost: ${why ?? 'the collector did not take them in time'}`;
}
