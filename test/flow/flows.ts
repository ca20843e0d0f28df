/** Events, flows and a small cluster for the tests of src/flow. */
import type { Flow, FlowEvent, Party } from '../../src/flow/event/types.js';
import type { Node, Pod, Service, Snapshot } from '../../src/identity/snapshot.js';
import type { RuleRef } from '../../src/ir/types.js';

export const SECOND = 1_000_000_000n;
/** Wall clock minus CLOCK_MONOTONIC of all flows here, nanoseconds. */
export const LEAD = 1_700_000_000n * SECOND;

/** A TCP SYN that a pod (endpoint 1, 10.0.0.1) sends to 192.0.2.1:443, allowed by no policy. */
export function event(over: Partial<FlowEvent> = {}): FlowEvent {
  return {
    timeNs: 100e9,
    type: 'verdict',
    verdict: 'allow',
    auditVerdict: 'none',
    reason: 'no-policy',
    hook: 'from-pod',
    rule: 0,
    auditRule: 0,
    set: 0,
    endpoint: 1,
    ifindex: 7,
    family: 4,
    local: '10.0.0.1',
    remote: '192.0.2.1',
    localPort: 40000,
    remotePort: 443,
    protocol: 6,
    inbound: false,
    postDnat: false,
    isReply: false,
    service: '',
    servicePort: 0,
    tcpFlags: 2,
    packetsOut: 1,
    bytesOut: 60,
    packetsIn: 0,
    bytesIn: 0,
    drops: 0,
    createdNs: 100e9,
    length: 60,
    ethertype: 0x0800,
    macSource: '',
    macDestination: '',
    name: 0,
    nameIncarnation: 0,
    ...over,
  };
}

export const WEB: Party = {
  ip: '10.0.0.1',
  port: 40000,
  kind: 'pod',
  namespace: 'shop',
  pod: 'web-1',
  labels: { app: 'web', tier: 'front' },
  workload: { kind: 'Deployment', name: 'web' },
  node: 'node-a',
};

export const WORLD: Party = { ip: '192.0.2.1', port: 443, kind: 'world', namespace: '', pod: '', labels: {} };

export function flow(over: Partial<Flow> = {}, e: Partial<FlowEvent> = {}): Flow {
  const made = event(e);
  return {
    uuid: '00000000-0000-8000-8000-000000000001',
    timeNs: BigInt(made.timeNs) + LEAD,
    event: made,
    source: WEB,
    destination: WORLD,
    nodeName: 'node-a',
    ...over,
  };
}

/** The n-th of a series: one every `stepNs`, told apart by its source port. */
export function numbered(n: number, stepNs = 1e6, over: Partial<FlowEvent> = {}): Flow {
  const timeNs = 100e9 + n * stepNs;
  return flow({ source: { ...WEB, port: n } }, { timeNs, localPort: n, ...over });
}

export function rule(over: Partial<RuleRef> = {}): RuleRef {
  return {
    policy: { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' },
    index: 2,
    tier: 'networkpolicy',
    staged: false,
    action: 'allow',
    ...over,
  };
}

export function pod(namespace: string, name: string, ip: string, over: Partial<Pod> = {}): Pod {
  return {
    uid: `uid-${namespace}-${name}`,
    namespace,
    name,
    labels: { app: name },
    annotations: {},
    ips: ip === '' ? [] : [ip],
    nodeName: 'node-a',
    serviceAccount: 'default',
    hostNetwork: false,
    ended: false,
    ports: [],
    ...over,
  };
}

export function service(namespace: string, name: string, vip: string, over: Partial<Service> = {}): Service {
  const ports = [{ protocol: 6, port: 80, backends: [] }];
  return { namespace, name, labels: { svc: name }, vips: [vip], ports, ...over };
}

export function snapshot(
  pods: readonly Pod[],
  services: readonly Service[] = [],
  nodes: readonly Node[] = [],
): Snapshot {
  return {
    pods: new Map(pods.map((p) => [`${p.namespace}/${p.name}`, p])),
    namespaces: new Map(),
    nodes: new Map(nodes.map((n) => [n.name, n])),
    services: new Map(services.map((s) => [`${s.namespace}/${s.name}`, s])),
    policies: [],
    ownNode: { name: 'node-a', ips: ['172.16.0.1'] },
    problems: [],
  };
}
