/**
 * Services with what stands behind each of their ports, as kube-proxy sees it:
 * EndpointSlices; without any, Endpoints; without those, the pods that the selector
 * finds, for manifests that no controller has completed.
 */
import type { Field } from './fields.js';
import { readAddress, readProtocol } from './objects.js';
import type { Backend, Pod, Service, ServicePort } from './snapshot.js';

/** A Service object, read once and resolved as often as what stands behind it changes. */
export interface ServiceSpec {
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly vips: readonly string[];
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

/** One address of a slice or Endpoints object under one of its port names. */
export interface EndpointEntry {
  /** Name of the Service's port; empty if it has none. */
  readonly port: string;
  readonly protocol: number;
  readonly ip: string;
  readonly number: number;
  readonly state: 'ready' | 'draining' | 'not-ready';
}

/** @returns undefined for ExternalName: it is a DNS name, not an address */
export function readService(root: Field, namespace: string, name: string): ServiceSpec | undefined {
  const spec = root.at('spec');
  if (spec.at('type').string() === 'ExternalName') return undefined;
  const vips = new Set<string>();
  for (const field of [spec.at('clusterIP'), ...spec.at('clusterIPs').items()]) {
    if (field.value === 'None') continue;
    const ip = readAddress(field);
    if (ip) vips.add(ip);
  }
  for (const field of spec.at('externalIPs').items()) {
    const ip = readAddress(field);
    if (ip) vips.add(ip);
  }
  for (const ingress of root.at('status').at('loadBalancer').at('ingress').items()) {
    // ipMode Proxy: the load balancer is an ordinary destination, kube-proxy does not translate it.
    if (ingress.at('ipMode').string() === 'Proxy') continue;
    const ip = readAddress(ingress.at('ip'));
    if (ip) vips.add(ip);
  }
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
      nodePort: nodePort === 0 ? undefined : nodePort,
      target: typeof target.value === 'string' ? target.value : (target.integer(1, 65535) ?? port),
    });
  }
  const selector = spec.at('selector');
  return {
    namespace,
    name,
    labels: root.at('metadata').at('labels').stringMap(),
    vips: [...vips],
    selector: selector.present ? selector.stringMap() : undefined,
    publishNotReady: spec.at('publishNotReadyAddresses').boolean() ?? false,
    ports,
  };
}

/** discovery.k8s.io/v1. Conditions that are absent mean ready (its own rule). */
export function readEndpointSlice(root: Field): EndpointEntry[] {
  if (root.at('addressType').string() === 'FQDN') return [];
  const out: EndpointEntry[] = [];
  const ports = readEndpointPorts(root.at('ports'));
  for (const endpoint of root.at('endpoints').items()) {
    const conditions = endpoint.at('conditions');
    const ready = conditions.at('ready').boolean() ?? true;
    const serving = conditions.at('serving').boolean() ?? ready;
    const terminating = conditions.at('terminating').boolean() ?? false;
    const state = ready ? 'ready' : serving && terminating ? 'draining' : 'not-ready';
    // The addresses of one endpoint are the same thing; kube-proxy uses the first only.
    const ip = endpoint.at('addresses').items().map(readAddress)[0];
    if (ip) for (const p of ports) out.push({ ...p, ip, state });
  }
  return out;
}

/** v1 Endpoints: what was there before slices. */
export function readEndpoints(root: Field): EndpointEntry[] {
  const out: EndpointEntry[] = [];
  for (const subset of root.at('subsets').items()) {
    const ports = readEndpointPorts(subset.at('ports'));
    for (const address of subset.at('addresses').items()) {
      const ip = readAddress(address.at('ip'));
      if (ip) for (const p of ports) out.push({ ...p, ip, state: 'ready' });
    }
  }
  return out;
}

function readEndpointPorts(list: Field): { port: string; protocol: number; number: number }[] {
  const out: { port: string; protocol: number; number: number }[] = [];
  for (const entry of list.items()) {
    const number = entry.at('port').integer(1, 65535);
    const protocol = readProtocol(entry.at('protocol'));
    if (number === undefined || protocol === undefined) continue;
    out.push({ port: entry.at('name').string() ?? '', protocol, number });
  }
  return out;
}

/** @param entries of all slices of the Service; undefined if nothing lists its endpoints */
export function resolveService(
  spec: ServiceSpec,
  entries: readonly EndpointEntry[] | undefined,
  podsOf: () => readonly Pod[],
  notReady: ReadonlySet<string>,
): Service {
  const ports = spec.ports.map((port): ServicePort => {
    const found =
      entries === undefined
        ? selectedBackends(spec, port, podsOf(), notReady)
        : listedBackends(entries.filter((e) => e.port === (port.name ?? '') && e.protocol === port.protocol));
    const { target: _, ...shown } = port;
    return { ...shown, backends: sortBackends(found) };
  });
  return { namespace: spec.namespace, name: spec.name, labels: spec.labels, vips: spec.vips, ports };
}

/** kube-proxy: the ready ones; if there is none, those that still serve while they terminate (KEP-1669). */
function listedBackends(entries: readonly EndpointEntry[]): Backend[] {
  const ready = entries.filter((e) => e.state === 'ready');
  const used = ready.length > 0 ? ready : entries.filter((e) => e.state === 'draining');
  return used.map((e) => ({ ip: e.ip, port: e.number }));
}

/** What the endpoint slice controller would find: the pods' first address of each family, the target port of each pod. */
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
