/**
 * Services with the backends of each port, as kube-proxy sees them: from EndpointSlices; if there are none, from
 * Endpoints; if there are none either, from the pods that the selector finds, for manifests that no controller has
 * completed.
 */
import { tryCanonicalAddr } from '../net/addr.js';
import type { Field } from './fields.js';
import { readProtocol } from './objects.js';
import type { Backend, Pod, Service, ServicePort } from './snapshot.js';

/** A Service object. It is parsed once and resolved whenever its backends change. */
export interface ServiceSpec {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Whether kube-proxy ignores it. Then nothing is translated, and it has neither vips nor node ports. */
  readonly passedOver: boolean;
  /** Whether kube-proxy may choose only backends on this node. */
  readonly local: boolean;
  readonly vips: readonly string[];
  readonly external?: readonly string[];
  readonly created?: string;
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly publishNotReady: boolean;
  readonly ports: readonly {
    readonly name?: string;
    readonly protocol: number;
    readonly port: number;
    readonly nodePort?: number;
    readonly target: number | string;
  }[];
}

/**
 * Addresses with the same ports: a slice, or a subset of Endpoints. They are not expanded to pairs, since a Service
 * needs only a few ports of possibly thousands.
 */
export interface EndpointGroup {
  readonly ports: readonly EndpointPort[];
  readonly endpoints: readonly Endpoint[];
  /** Whether kube-proxy ignores it. */
  readonly passedOver: boolean;
}

interface EndpointPort {
  /** Name of the Service's port; empty if it has none. */
  readonly name: string;
  readonly protocol: number;
  readonly number: number;
}

interface Endpoint {
  readonly ip: string;
  readonly state: 'ready' | 'draining' | 'not-ready';
}

/** Labels of objects that kube-proxy ignores: Services, slices and Endpoints alike. */
const PASSED_OVER = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];

function isPassedOver(root: Field): boolean {
  const labels = root.at('metadata').at('labels');
  return PASSED_OVER.some((label) => labels.at(label).value !== undefined);
}

/** Parses an address like kube-proxy: leading zeros are ignored (they do not make a number octal). */
function readSloppyAddress(field: Field): string | undefined {
  const text = field.string();
  if (text === undefined || text === '') return undefined;
  const plain = text.replace(/(?<![0-9a-f])0+(?=[0-9a-f])/gi, '');
  return tryCanonicalAddr(plain) ?? field.problem(`${JSON.stringify(text)} is not an IP address`);
}

/** @returns undefined for ExternalName, which is a DNS name, not an address */
export function readService(root: Field, namespace: string, name: string): ServiceSpec | undefined {
  const spec = root.at('spec');
  if (spec.at('type').string() === 'ExternalName') return undefined;
  const passedOver = !hasClusterIp(spec) || isPassedOver(root);
  const ports: ServiceSpec['ports'][number][] = [];
  for (const entry of spec.at('ports').items()) {
    const port = entry.at('port').integer(1, 65535);
    const protocol = readProtocol(entry.at('protocol'));
    if (port === undefined || protocol === undefined) continue;
    const nodePort = entry.at('nodePort').integer(0, 65535);
    const target = entry.at('targetPort');
    ports.push({
      name: entry.at('name').string(),
      protocol,
      port,
      nodePort: passedOver || nodePort === 0 ? undefined : nodePort,
      target: typeof target.value === 'string' ? target.value : (target.integer(1, 65535) ?? port),
    });
  }
  const selector = spec.at('selector');
  const policies = [spec.at('internalTrafficPolicy').string(), spec.at('externalTrafficPolicy').string()];
  const { vips, external } = passedOver ? NO_VIPS : readVips(root);
  const created = root.at('metadata').at('creationTimestamp').string();
  return {
    namespace,
    name,
    labels: root.at('metadata').at('labels').stringMap(),
    passedOver,
    local: policies.includes('Local'),
    vips,
    ...(external.length > 0 ? { external } : {}),
    ...(created === undefined ? {} : { created }),
    selector: selector.present ? selector.stringMap() : undefined,
    publishNotReady: spec.at('publishNotReadyAddresses').boolean() ?? false,
    ports,
  };
}

/**
 * Whether it has a cluster IP. Without one, kube-proxy ignores its other addresses too. A manifest may have it in
 * either field.
 */
function hasClusterIp(spec: Field): boolean {
  const first = spec.at('clusterIPs').first()?.value;
  const ip = spec.at('clusterIP').value || first;
  return ip !== undefined && ip !== null && ip !== '' && ip !== 'None';
}

const NO_VIPS = { vips: [], external: [] } as const;

/** Cluster, external and load-balancer addresses; `external`: the latter two. */
function readVips(root: Field): { vips: readonly string[]; external: readonly string[] } {
  const spec = root.at('spec');
  const vips = new Set<string>();
  const add = (field: Field) => {
    const ip = readSloppyAddress(field);
    if (ip !== undefined) vips.add(ip);
  };
  for (const field of [spec.at('clusterIP'), ...spec.at('clusterIPs').items()]) if (field.value !== 'None') add(field);
  const cluster = vips.size;
  for (const field of spec.at('externalIPs').items()) add(field);
  for (const ingress of root.at('status').at('loadBalancer').at('ingress').items()) {
    // With ipMode Proxy, the load balancer is an ordinary destination that kube-proxy does not translate.
    if (ingress.at('ipMode').string() !== 'Proxy') add(ingress.at('ip'));
  }
  return { vips: [...vips], external: [...vips].slice(cluster) };
}

/** discovery.k8s.io/v1. Missing conditions have kube-proxy's defaults: ready, serving, not terminating. */
export function readEndpointSlice(root: Field): EndpointGroup[] {
  if (root.at('addressType').string() === 'FQDN') return [];
  const endpoints: Endpoint[] = [];
  for (const endpoint of root.at('endpoints').items()) {
    // All addresses of an endpoint are the same pod; kube-proxy uses only the first.
    const first = endpoint.at('addresses').first();
    const ip = first && readSloppyAddress(first);
    if (ip === undefined) continue;
    const conditions = endpoint.at('conditions');
    const ready = conditions.at('ready').boolean() ?? true;
    const serving = conditions.at('serving').boolean() ?? true;
    const terminating = conditions.at('terminating').boolean() ?? false;
    endpoints.push({ ip, state: ready ? 'ready' : serving && terminating ? 'draining' : 'not-ready' });
  }
  return [{ ports: readEndpointPorts(root.at('ports')), endpoints, passedOver: isPassedOver(root) }];
}

/** v1 Endpoints, the predecessor of EndpointSlices. */
export function readEndpoints(root: Field): EndpointGroup[] {
  const passedOver = isPassedOver(root);
  return root
    .at('subsets')
    .items()
    .map((subset) => {
      const endpoints: Endpoint[] = [];
      for (const address of subset.at('addresses').items()) {
        const ip = readSloppyAddress(address.at('ip'));
        if (ip !== undefined) endpoints.push({ ip, state: 'ready' });
      }
      return { ports: readEndpointPorts(subset.at('ports')), endpoints, passedOver };
    });
}

function readEndpointPorts(list: Field): EndpointPort[] {
  const out = new Map<string, EndpointPort>();
  for (const entry of list.items()) {
    const number = entry.at('port').integer(1, 65535);
    const protocol = readProtocol(entry.at('protocol'));
    if (number === undefined || protocol === undefined) continue;
    const name = entry.at('name').string() ?? '';
    out.set(`${name}|${protocol}|${number}`, { name, protocol, number });
  }
  return [...out.values()];
}

/** @param groups of all slices of the Service; undefined if its endpoints are not listed */
export function resolveService(
  spec: ServiceSpec,
  groups: readonly EndpointGroup[] | undefined,
  podsOf: () => readonly Pod[],
  notReady: ReadonlySet<string>,
): Service {
  const listed = groups && listedBackends(spec, groups);
  const ports = spec.ports.map((port): ServicePort => {
    const { target: _, ...shown } = port;
    const backends = listed
      ? (listed.get(portKey(port)) ?? [])
      : sortBackends(selectedBackends(spec, port, podsOf(), notReady));
    return { ...shown, backends };
  });
  const { namespace, name, labels, vips, external, created } = spec;
  return {
    ...{ namespace, name, labels, vips, ports },
    ...(external === undefined ? {} : { external }),
    ...(created === undefined ? {} : { created }),
  };
}

function portKey(port: { readonly name?: string; readonly protocol: number }): string {
  return `${port.name ?? ''}|${port.protocol}`;
}

/** The listed backends of the Service's own ports. */
function listedBackends(spec: ServiceSpec, groups: readonly EndpointGroup[]): Map<string, Backend[]> {
  const found = new Map<string, { group: EndpointGroup; number: number }[]>();
  for (const port of spec.ports) found.set(portKey(port), []);
  for (const group of groups) {
    // Slices of a headless Service have such a label. They do not apply to the Service's own addresses, but policies
    // may refer to them.
    if (group.passedOver && !spec.passedOver) continue;
    for (const port of group.ports) found.get(portKey(port))?.push({ group, number: port.number });
  }
  const out = new Map<string, Backend[]>();
  for (const [key, places] of found) {
    const ready: Backend[] = [];
    const draining: Backend[] = [];
    for (const { group, number } of places) {
      for (const { ip, state } of group.endpoints) {
        if (state === 'ready') ready.push({ ip, port: number });
        else if (state === 'draining') draining.push({ ip, port: number });
      }
    }
    // kube-proxy uses ready backends; if there are none, those that still serve while they terminate (KEP-1669). If it
    // may choose only backends on this node, there may be no ready one here although others exist elsewhere.
    out.set(key, sortBackends(spec.local ? [...ready, ...draining] : ready.length > 0 ? ready : draining));
  }
  return out;
}

/**
 * The backends that the endpoint slice controller would find: the pods' first address of each family, and the target
 * port of each pod.
 */
function selectedBackends(
  spec: ServiceSpec,
  port: ServiceSpec['ports'][number],
  pods: readonly Pod[],
  notReady: ReadonlySet<string>,
): Backend[] {
  const selector = Object.entries(spec.selector ?? {});
  if (selector.length === 0) return [];
  const out: Backend[] = [];
  for (const pod of pods) {
    if (!selector.every(([key, value]) => Object.hasOwn(pod.labels, key) && pod.labels[key] === value)) continue;
    if (!spec.publishNotReady && notReady.has(`${pod.namespace}/${pod.name}`)) continue;
    const number =
      typeof port.target === 'number'
        ? port.target
        : pod.ports.find((p) => p.name === port.target && p.protocol === port.protocol)?.port;
    if (number === undefined) continue;
    for (const ip of pod.ips) out.push({ ip, port: number });
  }
  return out;
}

function sortBackends(backends: readonly Backend[]): Backend[] {
  const byKey = new Map(backends.map((b) => [`${b.ip}|${b.port}`, b]));
  return [...byKey.values()].sort((a, b) => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : a.port - b.port));
}
