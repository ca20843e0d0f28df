/**
 * An agent whose every text was chosen by somebody who means harm: to a page that shows it, to a table that is saved,
 * to a terminal. A real server tells them, as whoever may name pods, labels, policies and DNS records makes agents do; and
 * as a node that was taken over could, where an honest agent would not.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dayOf, DAY_MS } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import type { Flow } from '../../src/flow/event/types.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import type { Pod, RawPolicy, Service, Snapshot } from '../../src/identity/snapshot.js';
import { makeLogger } from '../../src/log.js';
import type { RuleRef } from '../../src/ir/types.js';
import type { PolicyObjectMessage } from '../../src/proto/edges.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { AgentView, LearnedView } from '../../src/rpc/view.js';
import { flow, pod, service } from '../flow/flows.js';
import { makeEdge } from '../edges/given.js';
import { viewOfGiven } from './view.js';

/** In a page: true if something that was only to be shown has run. */
export const HAS_RUN = 'globalThis.__hasRun !== undefined';
const RUN = 'globalThis.__hasRun=1';

/** By what they are. */
export const TEXTS: Readonly<Record<string, string>> = {
  image: `<img src=x onerror="${RUN}">`,
  attribute: `"><script>${RUN}</script>`,
  'single quotes': `' onmouseover='${RUN}' x='`,
  'end of a script': `</script><script>${RUN}</script>`,
  'end of a style': `</style></title></textarea><svg onload="${RUN}">`,
  comment: `--><iframe srcdoc="<script>parent.${RUN}</script>">`,
  'JavaScript URL': `javascript:${RUN}`,
  'data URL': `data:text/html,<script>opener.${RUN}</script>`,
  'other host': '//evil.example/x?<base href=//evil.example/>',
  path: '../../../../etc/passwd%00?a=b#c&d;e',
  template: `\${${RUN}}{{constructor.constructor("${RUN}")()}}<%= 7*7 %>`,
  'style expression': `red;background:url(//evil.example/${'x'.repeat(20)})}*{display:none`,
  'right to left': 'web\u202Egnp.lave\u202C\u2066\u2067\u200F',
  invisible: 'we\u200Bb\uFEFF\u00AD\u2028\u2029\u0085',
  combining: `w${'\u0301\u0489'.repeat(300)}eb`,
  'ANSI escapes': '\u001B[2J\u001B[31mred\u001B]8;;http://evil.example\u0007link\u001B]8;;\u0007\u009B31m',
  NUL: 'a\u0000b',
  'line breaks': 'one\r\ntwo\nthree\ttab\u000B\f\b',
  'lone surrogates': 'a\uD800b\uDC00c',
  emoji: '\u{1F468}\u200D\u{1F469}\u200D\u{1F467}\u{1F3F4}\u{E0067}\u{E007F}',
  formula: '=HYPERLINK("http://evil.example","x")',
  'formula with plus': "+1+cmd|' /C calc'!A0",
  'formula with minus': "-2+3+cmd|' /C calc'!A0",
  'formula with at': "@SUM(1+9)*cmd|' /C calc'!A0",
  'formula after a tab': '\t=1+1',
  separators: 'a,b;"c"|d\'e\\f',
  'prototype of objects': '__proto__',
  constructor: 'constructor',
  'method of objects': 'toString',
  undefined: 'undefined',
  'number not a number': 'NaN',
  blank: ' ',
  long: `long-${'x'.repeat(100_000)}`,
  'long without breaks': `<b>${'\u{1F600}'.repeat(5000)}`,
};
const ALL = Object.values(TEXTS);

/** Longer than names may be, with what a parser of YAML must not follow. */
const YAML = `a: &a ["lol","lol"]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]
js: !!js/function 'function(){ ${RUN} }'
__proto__: {polluted: true}
html: "</code></pre><img src=x onerror='${RUN}'>"
url: javascript:${RUN}
tabs: "\t\u001B[31m"
${'# a comment that goes on and on\n'.repeat(6000)}`;

export interface Hostile {
  readonly socket: string;
  /** Tells each text once more in a flow of its own, and counts one more connection of each edge. */
  again(): void;
  stop(): Promise<void>;
}

/** Starts the server. */
export async function startHostile(): Promise<Hostile> {
  const dir = mkdtempSync(join(tmpdir(), 'ui-hostile-'));
  const socket = join(dir, 'agent.sock');
  const snapshot = snapshotOf();
  const ledger = Ledger.fresh(Date.now() - 10 * DAY_MS);
  const hub = new FlowHub({ nodeName: TEXTS.image as string });
  const { learned, names } = namesOf();
  const pods = [...snapshot.pods.keys()];
  const view = viewOfGiven({ snapshot, edges: ledger, hub, dir, learned, names, pods, status: statusPart() });
  const again = () => {
    ALL.forEach((text, n) => {
      for (const f of flowsOf(text, n)) hub.publish(f);
      countEdges(ledger, text, n, Date.now());
    });
  };
  ALL.forEach((text, n) => {
    for (let day = dayOf(Date.now()) - 5; day < dayOf(Date.now()); day++) countEdges(ledger, text, n, day * DAY_MS + 1);
  });
  again();
  const server = new RpcServer({ hub, view: { ...view, ...lies(view) }, log: makeLogger('error', () => {}) });
  await server.listen(socket);
  return {
    socket,
    again,
    stop: async () => {
      view.close();
      await server.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** What an honest agent would not say: policies whose texts are no policies, verdicts and kinds that do not exist. */
function lies(view: AgentView): Pick<AgentView, 'policyObjects' | 'recommend' | 'preview'> {
  return {
    policyObjects: async (request) => {
      const { objects = [] } = await view.policyObjects(request);
      return { objects: [...objects, ...ALL.map(lyingObject)] };
    },
    recommend: async () => ({
      json: JSON.stringify({ workloads: ALL.map((name) => ({ name, [name]: name })) }),
      yaml: YAML,
    }),
    preview: async () => ({
      edges: ALL.map((text, n) => ({
        edge: {
          source: party(text),
          destination: party(text),
          service: text,
          verdict: text,
          reason: text,
          address: text,
          port: n,
        },
        connections: n,
        was: text,
        is: text,
        was_rule: text,
        is_rule: text,
      })),
      judged: ALL.length,
      opened: 1,
      closed: 1,
      unknown: 0,
      diff: ALL.join('\n'),
      problems: ALL.map((text) => ({
        severity: text,
        file: text,
        object: text,
        field: text,
        message: text,
        hint: text,
        text,
      })),
    }),
  };
}

function lyingObject(text: string): PolicyObjectMessage {
  const policy = { kind: text, namespace: text, name: text, dialect: text, tier: text };
  return {
    ...{ kind: text, api_version: text, namespace: text, name: text, dialect: text, tier: text, tier_default: text },
    ...{ tier_order: Number.NaN, place: -1, pods: 2 ** 31, state: text, generation: '18446744073709551615' },
    problems: [{ severity: text, file: text, object: text, field: text, message: text, hint: text, text }],
    rules: [{ ...policy, index: -7, action: text, rule_name: text, text } as never],
    yaml: `${text}\n${YAML}`,
  };
}

const party = (text: string) => ({ kind: text, namespace: text, workload_kind: text, name: text });

function ruleOf(text: string): RuleRef {
  const policy = { dialect: text, kind: text, namespace: text, name: text, labels: { [text]: text } };
  return { policy, index: 3, name: text, tier: text, staged: false, action: 'allow' };
}

/** From a workload of this name, through everything that has a name. */
function countEdges(ledger: Ledger, text: string, n: number, timeMs: number): void {
  const source = { kind: 'workload', namespace: text, workloadKind: text, name: text } as const;
  const [kind] = [(['workload', 'name', 'service', 'node', 'address'] as const)[n % 5]];
  const inside = kind === 'workload' || kind === 'service';
  const verdict = (['allow', 'deny', 'partial', 'none'] as const)[n % 4] ?? 'none';
  const rule = { ref: ruleOf(text), generation: n + 1 };
  const edges = [
    { source, destination: { kind: kind ?? 'name', namespace: inside ? text : '', workloadKind: '', name: text } },
    {
      source: { ...source, namespace: 'shop', workloadKind: 'Deployment' },
      destination: { ...source, namespace: 'data' },
    },
    {
      inbound: true,
      source: { kind: 'name' as const, namespace: '', workloadKind: '', name: text },
      destination: source,
    },
  ];
  for (const ends of edges) {
    const more = { service: `${text}/${text}`, servicePort: 80, reason: text, address: text, verdict };
    const audit = { auditVerdict: 'deny' as const, auditRule: rule };
    const { id: _, ...edge } = makeEdge({ ...ends, ...more, rule, ...audit });
    const slot = ledger.slotOf(edge);
    if (slot !== undefined) ledger.count(slot, timeMs, 1, 1000, verdict === 'deny' ? 1 : 0);
  }
}

let uuids = 0;

function flowsOf(text: string, n: number): Flow[] {
  const uuid = `00000000-0000-8000-8000-${String(++uuids).padStart(12, '0')}`;
  const timeNs = BigInt(Date.now()) * 1_000_000n;
  const workload = { kind: text, name: text };
  const side = { namespace: text, pod: text, labels: { [text]: text, app: text }, workload, node: text };
  const rule = ruleOf(text);
  const common: Partial<Flow> = {
    ...{ uuid, timeNs, nodeName: text, rule, auditRule: rule, service: { namespace: text, name: text } },
    source: { ...side, ip: '10.0.0.1', port: 40_000 + n, kind: 'pod' },
    destination: { ...side, ip: '192.0.2.1', port: 443, kind: n % 2 === 0 ? 'pod' : 'world' },
    destinationNames: [text],
  };
  const verdict = n % 3 === 0 ? 'deny' : 'allow';
  const event = {
    verdict,
    auditVerdict: 'deny',
    reason: text,
    macSource: text,
    timeNs: Number(process.hrtime.bigint()),
  } as const;
  const dns = {
    ...{ query: text, isRead: true, queryType: text, isAnswer: n % 2 === 0, rcode: 0, ips: [text] },
    ...{ cnames: [text], ttl: 1, recordTypes: [text], latencyNs: 1 },
  };
  const said = { kind: 'http', serverName: text, method: text, host: text, path: text, isCut: false } as const;
  return [
    flow(common, event),
    flow({ ...common, dns }, { ...event, type: 'dns' }),
    flow({ ...common, said }, { ...event, type: 'said' }),
  ];
}

function snapshotOf(): Snapshot {
  const pods = new Map<string, Pod>();
  const services = new Map<string, Service>();
  const policies: RawPolicy[] = [];
  ALL.forEach((text, n) => {
    const labels = { [text]: text, app: text };
    const workload = { kind: text, name: text };
    pods.set(
      `${text}/${text}`,
      pod(text, text, `10.1.0.${n + 1}`, { labels, annotations: labels, workload, nodeName: text }),
    );
    services.set(`${text}/${text}`, service(text, text, `10.96.0.${n + 1}`, { labels }));
    policies.push(...policiesOf(text));
  });
  pods.set('shop/web', pod('shop', 'web', '10.1.1.1'));
  const spaces = [...ALL, 'shop'].map(
    (name) => [name, { name, labels: { [name]: name }, annotations: {}, terminating: false }] as const,
  );
  const nodes = ALL.map((name, n) => [name, { name, labels: { [name]: name }, ips: [`172.16.0.${n + 1}`] }] as const);
  return {
    ...{ pods, services, policies, namespaces: new Map(spaces), nodes: new Map(nodes) },
    ownNode: { name: 'node-a', ips: [] },
    problems: ALL.map((text) => ({
      severity: 'warning',
      where: { file: text, object: text, field: text },
      message: text,
      hint: text,
    })),
  };
}

function policiesOf(text: string): RawPolicy[] {
  const raw = (apiVersion: string, kind: string, namespace: string | undefined, spec: object): RawPolicy => {
    const metadata = { name: text, ...(namespace === undefined ? {} : { namespace }), annotations: { [text]: text } };
    const where = { file: `/manifests/${text}.yaml`, object: `${kind} ${text}` };
    const object = { apiVersion, kind, metadata, spec };
    return { apiVersion, kind, name: text, ...(namespace === undefined ? {} : { namespace }), object, where };
  };
  const types = { podSelector: {}, policyTypes: ['Egress'] };
  return [
    raw('networking.k8s.io/v1', 'NetworkPolicy', 'shop', {
      ...types,
      egress: [{ to: [{ ipBlock: { cidr: '192.0.2.0/24' } }] }],
    }),
    raw('networking.k8s.io/v1', 'NetworkPolicy', text, {
      ...types,
      egress: [{ to: [{ ipBlock: { cidr: text } }], [text]: text }],
    }),
    raw('cilium.io/v2', 'CiliumNetworkPolicy', text, {
      description: text,
      endpointSelector: {},
      egress: [{ toFQDNs: [{ matchPattern: text }] }],
    }),
    raw('projectcalico.org/v3', 'GlobalNetworkPolicy', undefined, {
      tier: text,
      selector: text,
      types: ['Egress'],
      egress: [{ action: text, metadata: { annotations: { [text]: text } } }],
    }),
  ];
}

function namesOf() {
  const names = ALL.map(
    (text, n): LearnedView => ({
      ...{ pod: `${text}/${text}`, name: text, asked: true, seeded: false, resolver: text, rules: [ruleOf(text)] },
      ...{ learnedAt: Date.now(), answeredAt: Date.now(), expiresAt: Date.now() + 60_000 },
      addresses: [{ ip: `192.0.2.${n}`, alias: false, expiresAt: Date.now(), ttl: 30 }],
    }),
  );
  const learned = new Map([['shop/web', new Map(ALL.map((name, n) => [`192.0.2.${n}`, [{ name }]] as const))]]);
  return { names, learned };
}

function statusPart(): object {
  const text = ALL.slice(0, 12).join(' ');
  return {
    ...{ version: text, source: text },
    hooks: { attached: 1, expected: 2, problems: ALL },
    maps: ALL.map((name) => ({ name, entries: 1, max: 2 })),
    drops: Object.fromEntries(ALL.map((name) => [name, 3])),
    staleness: { appliedAt: Date.now(), failingSince: Date.now(), lastError: text },
    exports: ALL.map((target) => ({
      ...{
        target,
        exported: 1,
        lost: { [target]: 2 },
        leftOut: 0,
        summed: 0,
        reconnects: 0,
        queued: 0,
        queuedBytes: 0,
      },
      ...{ failingSince: undefined, lastError: target },
    })),
  };
}
