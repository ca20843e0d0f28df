/**
 * Which resolvers are trusted: their answers, and nobody else's, let an endpoint reach what they name. By default the
 * cluster's DNS with what stands behind it, the node's DNS cache, and the node's own nameservers.
 */
import type { Problem } from '../../src/errors.js';
import type { Service, ServicePort, Snapshot } from '../../src/identity/snapshot.js';
import type { DnsServer } from '../maps/tables/service-filter.js';
import { DNS_PORT, type ServerSpec } from './spec.js';

/** A trusted resolver, and why it is one: `kube-system/kube-dns`, `resolv.conf` … */
export interface TrustedServer extends DnsServer {
  readonly source: string;
  /** Pods are told to ask it: a Service's own address, a nameserver; not a backend behind a Service. */
  readonly asked: boolean;
}

/** NodeLocal DNSCache's own address, unless its administrator has chosen another. */
const NODE_LOCAL_DNS = '169.254.20.10';
/** DNS Services of the usual distributions. Only administrators can write into these namespaces. */
const USUAL_SERVICES = [
  'kube-system/kube-dns',
  'kube-system/coredns',
  'kube-system/rke2-coredns-rke2-coredns',
  'openshift-dns/dns-default',
];
const USUAL_LABEL = ['k8s-app', 'kube-dns'] as const;
const SYSTEM_NAMESPACE = 'kube-system';

export interface Resolving {
  /** undefined: the default. */
  readonly specs: readonly ServerSpec[] | undefined;
  readonly snapshot: Pick<Snapshot, 'services' | 'ownNode'>;
  /** The node's nameservers. */
  readonly nameservers: readonly string[];
  /** Most that the map has room for. */
  readonly most: number;
}

/** The trusted resolvers, each once, and what is wrong with the option. */
export function resolveServers(inputs: Resolving): { servers: TrustedServer[]; problems: Problem[] } {
  const { specs, most } = inputs;
  const found = new Map<string, TrustedServer>();
  const problems: Problem[] = [];
  const add: Add = (ip, port, source, asked = true) => {
    const key = `${ip} ${port}`;
    if (!found.has(key)) found.set(key, { ip, port, source, asked });
  };
  if (specs === undefined) addDefaults(inputs, add);
  for (const spec of specs ?? []) addSpec(spec, inputs, add, problems);
  const servers = [...found.values()];
  if (servers.length > most) {
    problems.push(
      problem(`${servers.length} resolvers; the first ${most} are trusted`, 'name fewer with --dns-servers'),
    );
    servers.length = most;
  }
  return { servers, problems };
}

type Add = (ip: string, port: number, source: string, asked?: boolean) => void;

function addDefaults({ snapshot, nameservers }: Resolving, add: Add): void {
  const [label, value] = USUAL_LABEL;
  for (const [key, service] of snapshot.services) {
    const usual = USUAL_SERVICES.includes(key);
    // Whoever may write Services in a namespace of their own may give them any label.
    if (usual || (service.namespace === SYSTEM_NAMESPACE && service.labels[label] === value))
      addService(service, undefined, add);
  }
  add(NODE_LOCAL_DNS, DNS_PORT, 'NodeLocal DNSCache');
  for (const ip of snapshot.ownNode.dns ?? []) add(ip, DNS_PORT, 'NodeLocal DNSCache');
  for (const ip of nameservers) add(ip, DNS_PORT, 'resolv.conf');
}

function addSpec(spec: ServerSpec, { snapshot, nameservers }: Resolving, add: Add, problems: Problem[]): void {
  switch (spec.kind) {
    case 'address':
      add(spec.ip, spec.port, '--dns-servers');
      return;
    case 'resolv.conf':
      if (nameservers.length === 0)
        problems.push(problem("the node's resolv.conf names no resolver beyond its own loopback", 'name its address'));
      for (const ip of nameservers) add(ip, DNS_PORT, 'resolv.conf');
      return;
    case 'service': {
      const key = `${spec.namespace}/${spec.name}`;
      const service = snapshot.services.get(key);
      if (!service)
        problems.push(problem(`there is no Service ${key}`, 'its answers are not learned until it is there'));
      else if (!addService(service, spec.port, add))
        problems.push(problem(`Service ${key} has no port ${spec.port ?? 'for DNS'}`, 'name its port: NAME:PORT'));
      return;
    }
    default:
      spec satisfies never;
  }
}

/** Adds a Service's own addresses, and its backends with their ports. @returns false if it has no such port */
function addService(service: Service, port: number | undefined, add: Add): boolean {
  const source = `${service.namespace}/${service.name}`;
  const ports = service.ports.filter((p) => (port === undefined ? isDns(p) : p.port === port));
  for (const p of ports) {
    for (const vip of service.vips) add(vip, p.port, source);
    for (const backend of p.backends) add(backend.ip, backend.port, source, service.vips.length === 0);
  }
  return ports.length > 0;
}

/** Port 53, or one that is called `dns`, `dns-tcp` …; not the port of metrics. */
function isDns({ port, name }: ServicePort): boolean {
  return port === DNS_PORT || /^dns(-|$)/.test(name ?? '');
}

function problem(message: string, hint: string): Problem {
  return { severity: 'warning', where: { field: '--dns-servers' }, message, hint };
}
