/**
 * A process that serves the large cluster as an API server would: lists in pages, watches, discovery. Objects are kept as the
 * bytes that go out, so that it is the agent that is measured. Its parent tells it what happens to pods; it says when an
 * event went out.
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  backends,
  namespaceObject,
  nodeObject,
  podObject,
  type PodState,
  policyObject,
  serviceObject,
  sliceObject,
} from './cluster-objects.js';
import { NAMESPACES, NODES, PODS, podSpec, POLICIES, SERVICES } from './cluster-spec.js';

/** From the parent: what happens to a pod. */
export interface PodEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly index: number;
  readonly state: PodState;
}

/** To the parent. */
export type ServerNews =
  | { readonly kind: 'listening'; readonly port: number; readonly podBytes: number }
  /** Nanoseconds of CLOCK_MONOTONIC, before the first byte was written. */
  | { readonly kind: 'sent'; readonly at: string }
  /** The first list since the last watch ended, and how many watches are open. */
  | { readonly kind: 'listed'; readonly at: string };

interface Kind {
  readonly apiVersion: string;
  readonly kind: string;
  readonly objects: Map<string, Buffer>;
  readonly watches: Set<ServerResponse>;
}

let version = 1000;
let listed = false;

function kind(apiVersion: string, name: string, count: number, make: (n: number, version: number) => object): Kind {
  const objects = new Map<string, Buffer>();
  for (let n = 0; n < count; n++) objects.set(String(n), Buffer.from(JSON.stringify(make(n, ++version))));
  return { apiVersion, kind: name, objects, watches: new Set() };
}

const behind = backends();
const pods = kind('v1', 'Pod', PODS, podObject);
const kinds: Readonly<Record<string, Kind>> = {
  '/api/v1/pods': pods,
  '/api/v1/namespaces': kind('v1', 'Namespace', NAMESPACES, namespaceObject),
  '/api/v1/nodes': kind('v1', 'Node', NODES, nodeObject),
  '/api/v1/services': kind('v1', 'Service', SERVICES, serviceObject),
  '/apis/discovery.k8s.io/v1/endpointslices': kind('discovery.k8s.io/v1', 'EndpointSlice', SERVICES, (n, v) =>
    sliceObject(n, v, behind[n] ?? []),
  ),
  '/apis/networking.k8s.io/v1/networkpolicies': kind('networking.k8s.io/v1', 'NetworkPolicy', POLICIES, policyObject),
};

const discovery: Readonly<Record<string, object>> = {
  '/apis': {
    groups: ['discovery.k8s.io', 'networking.k8s.io'].map((name) => ({ name, versions: [{ version: 'v1' }] })),
  },
  '/apis/discovery.k8s.io/v1': resources('endpointslices', 'EndpointSlice'),
  '/apis/networking.k8s.io/v1': resources('networkpolicies', 'NetworkPolicy'),
};

function resources(name: string, kind: string): object {
  return { resources: [{ name, kind, namespaced: true, verbs: ['get', 'list', 'watch'] }] };
}

function list({ apiVersion, kind, objects }: Kind, query: URLSearchParams, response: ServerResponse): void {
  if (!listed) tell({ kind: 'listed', at: String(process.hrtime.bigint()) });
  listed = true;
  const from = Number(query.get('continue') ?? 0);
  const to = Math.min(from + Number(query.get('limit') ?? objects.size), objects.size);
  const token = to < objects.size ? `,"continue":"${to}"` : '';
  const parts: Buffer[] = [];
  let n = 0;
  for (const object of objects.values()) {
    if (n >= to) break;
    if (n++ < from) continue;
    if (parts.length > 0) parts.push(Buffer.from(','));
    parts.push(object);
  }
  const head = `{"kind":"${kind}List","apiVersion":"${apiVersion}","metadata":{"resourceVersion":"${version}"${token}},"items":[`;
  const body = Buffer.concat([Buffer.from(head), ...parts, Buffer.from(']}')]);
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
  response.end(body);
}

function watch(kind: Kind, response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'application/json' });
  response.flushHeaders();
  kind.watches.add(response);
  response.on('close', () => {
    kind.watches.delete(response);
    listed = false;
  });
}

function podEvent({ type, index, state }: PodEvent): void {
  const object = podObject(index, ++version, state);
  // The first pod of each name keeps its place in the list, its successors come last.
  const key = state.generation === undefined ? String(index) : podSpec(index, state.generation).name;
  if (type === 'DELETED') pods.objects.delete(key);
  else pods.objects.set(key, Buffer.from(JSON.stringify(object)));
  const line = Buffer.from(`${JSON.stringify({ type, object: { kind: 'Pod', apiVersion: 'v1', ...object } })}\n`);
  const at = process.hrtime.bigint();
  for (const response of pods.watches) response.write(line);
  tell({ kind: 'sent', at: String(at) });
}

function tell(news: ServerNews): void {
  process.send?.(news);
}

const server = createServer((request, response) => {
  const url = new URL(request.url ?? '/', 'http://server');
  const known = kinds[url.pathname];
  const found = discovery[url.pathname];
  if (known && url.searchParams.has('watch')) watch(known, response);
  else if (known) list(known, url.searchParams, response);
  else {
    response.writeHead(found ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(found ?? { kind: 'Status', code: 404, reason: 'NotFound', message: 'no such thing' }));
  }
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  const bytes = [...pods.objects.values()].reduce((sum, object) => sum + object.length, 0);
  tell({ kind: 'listening', port: (server.address() as AddressInfo).port, podBytes: bytes / PODS });
});
process.on('message', (event) => podEvent(event as PodEvent));
process.on('disconnect', () => process.exit(0));
