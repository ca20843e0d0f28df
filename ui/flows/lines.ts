/** What the table shows: single flows or edges, as lines. Made of what is visible alone, each time it is drawn. */
import { type Chip, LONGEST_VALUE } from '../../src/ui/wire/chips.js';
import type { FlowRow, Party, RuleName } from '../../src/ui/wire/messages.js';
import { encodeWhy, partyOf, whyOfEdge, whyOfFlow } from '../../src/ui/wire/why.js';
import { type Shown, shownVerdict } from '../parts/verdict.js';
import { PROTOCOLS } from '../parts/words.js';
import type { EdgeState } from '../state/store.js';

export interface Line {
  /** Of the flow or edge. */
  readonly id: number;
  readonly timeMs: number;
  readonly shown: Shown | 'logged';
  /** Why there is a line, if not for a verdict: `ended`, `dns`; empty: for a verdict. */
  readonly event: string;
  readonly from: End;
  readonly to: End;
  /** `:443/tcp` */
  readonly port: string;
  /** DNS name, Service, what was said. */
  readonly name: string;
  readonly rule: RuleName | undefined;
  /** Where there is no rule. */
  readonly reason: string;
  /** What staged policies would do, if that is something else. */
  readonly staged: string;
  readonly bytes: number;
  readonly connections: number;
  readonly node: string;
  readonly chips: LineChips;
}

export interface End {
  /** Shown dim, in front: `shop/`. */
  readonly before: string;
  readonly text: string;
  /** All of it, for those who ask. */
  readonly title: string;
}

/** The chips that a line offers, by column: the first is that of a click. */
export type LineChips = Readonly<Record<'from' | 'to' | 'port' | 'name' | 'verdict' | 'node', readonly Chip[]>>;

const EVENTS: Readonly<Record<string, string>> = {
  end: 'ended',
  dns: 'dns',
  said: 'said',
  drop: 'dropped',
  changed: 'changed',
};

export function lineOfFlow(f: FlowRow): Line {
  const { source, destination } = f;
  const [from, to] = [partyOf(source, f.node), partyOf(destination, f.node)];
  const port = destination.port > 0 ? `:${destination.port}` : '';
  const shown = f.event === 'log' ? 'logged' : shownVerdict(f.verdict, f.auditVerdict, f.reason);
  const name = f.detail || destination.names[0] || f.service;
  return {
    id: f.id,
    timeMs: f.timeMs,
    shown,
    event: EVENTS[f.event] ?? '',
    from: endOf(from, source.pod, source.ip),
    to:
      to.kind === 'name'
        ? { before: '', text: destination.ip, title: to.name }
        : endOf(to, destination.pod, destination.ip),
    port: f.protocol === '' ? port : `${port}/${f.protocol}`,
    name,
    rule: f.rule,
    reason: f.reason === 'none' ? '' : f.reason,
    staged: stagedText(f),
    bytes: f.bytes,
    connections: 1,
    node: f.node,
    chips: {
      from: endChips('from', from, source.pod, source.ip),
      to: endChips('to', to, destination.pod, destination.ip),
      port: portChips(destination.port, f.protocol),
      name: nameChips(f, destination.names),
      verdict: verdictChips(shown),
      node: f.node === '' || f.node.length > LONGEST_VALUE ? [] : [{ key: 'node-name', value: f.node }],
    },
  };
}

export function lineOfEdge({ info: e, lastMs, connections, bytes }: EdgeState): Line {
  const protocol = PROTOCOLS[e.protocol] ?? String(e.protocol);
  const isIcmp = e.protocol === 1 || e.protocol === 58;
  const port = isIcmp || e.port === 0 ? 0 : e.port;
  const shown = shownVerdict(e.verdict, e.auditVerdict, e.reason);
  const address = e.destination.kind === 'name' || e.destination.kind === 'service' ? e.address : '';
  return {
    id: e.id,
    timeMs: lastMs,
    shown,
    event: e.inbound ? 'inbound' : '',
    from: endOf(e.source, '', ''),
    to: endOf(e.destination, '', e.address),
    port: `${port > 0 ? `:${port}` : ''}/${protocol}`,
    name: e.service || address,
    rule: e.rule,
    reason: e.reason === 'none' ? '' : e.reason,
    staged: stagedText(e),
    bytes,
    connections,
    node: '',
    chips: {
      from: endChips('from', e.source, '', ''),
      to: endChips('to', e.destination, '', e.address),
      port: portChips(port, protocol),
      name: e.service === '' || e.service.length > LONGEST_VALUE ? [] : [{ key: 'to-service', value: e.service }],
      verdict: verdictChips(shown),
      node: [],
    },
  };
}

/** The text of the drawer's link. */
export function whyOf(row: FlowRow | EdgeState): string {
  return encodeWhy('info' in row ? whyOfEdge(row.info, row.lastMs) : whyOfFlow(row));
}

/** What an exclusion of the line may be, in the order in which it is offered. */
export function offers({ chips }: Line): Chip[] {
  const seen = new Set<string>();
  const { to, port, name, from, verdict, node } = chips;
  return [...to, ...port, ...name, ...from, ...verdict, ...node].filter(({ key, value }) => {
    const text = `${key}:${value}`;
    if (seen.has(text)) return false;
    seen.add(text);
    return true;
  });
}

function endOf(p: Party, pod: string, ip: string): End {
  switch (p.kind) {
    case 'workload': {
      const title = [`${p.workloadKind} ${p.namespace}/${p.name}`, pod && `pod ${pod}`, ip].filter(Boolean).join(', ');
      return { before: `${p.namespace}/`, text: p.name, title };
    }
    case 'service':
      return { before: `${p.namespace}/`, text: p.name, title: `Service ${p.namespace}/${p.name} ${ip}` };
    case 'node':
      return { before: 'node ', text: p.name, title: `node ${p.name} ${ip}` };
    case 'other':
      return { before: '', text: 'other', title: 'addresses that found no room of their own' };
    default:
      return { before: '', text: p.name, title: ip === '' || ip === p.name ? p.name : `${p.name} ${ip}` };
  }
}

function endChips(side: 'from' | 'to', p: Party, pod: string, ip: string): Chip[] {
  const chips: Chip[] = [];
  const add = (key: string, value: string) => {
    if (value !== '' && value.length <= LONGEST_VALUE) chips.push({ key: `${side}-${key}`, value });
  };
  if (p.kind === 'workload') {
    // Flows of a pod without a controller have no workload.
    if (pod === '' || p.workloadKind !== 'Pod') add('workload', `${p.workloadKind}/${p.name}`);
    add('pod', pod === '' ? '' : `${p.namespace}/${pod}`);
    add('namespace', p.namespace);
  }
  if (p.kind === 'name') add('fqdn', p.name);
  if (p.kind === 'service') add('service', `${p.namespace}/${p.name}`);
  add('ip', ip || (p.kind === 'address' ? p.name : ''));
  return chips;
}

function portChips(port: number, protocol: string): Chip[] {
  return [
    ...(port > 0 ? [{ key: 'to-port', value: String(port) }] : []),
    ...(protocol === '' ? [] : [{ key: 'protocol', value: protocol }]),
  ];
}

function nameChips(f: FlowRow, names: readonly string[]): Chip[] {
  const [name] = names;
  return [
    ...(name === undefined || name.length > LONGEST_VALUE ? [] : [{ key: 'to-fqdn', value: name }]),
    ...(f.service === '' || f.service.length > LONGEST_VALUE || /[\d\]]:\d+$/.test(f.service)
      ? []
      : [{ key: 'to-service', value: f.service }]),
    ...(f.event === 'dns' ? [{ key: 'protocol', value: 'dns' }] : []),
  ];
}

function verdictChips(shown: Line['shown']): Chip[] {
  if (shown === 'logged') return [{ key: 'verdict', value: 'TRACED' }];
  if (shown === 'would-deny') return [{ key: 'verdict', value: 'AUDIT' }];
  return [{ key: 'verdict', value: shown === 'denied' ? 'DENIED' : 'ALLOWED' }];
}

function stagedText({
  verdict,
  auditVerdict,
  auditRule,
}: Pick<FlowRow, 'verdict' | 'auditVerdict' | 'auditRule'>): string {
  if (auditVerdict === 'none' || auditVerdict === verdict) return '';
  return `${auditVerdict} ${auditRule?.text ?? ''}`.trim();
}
