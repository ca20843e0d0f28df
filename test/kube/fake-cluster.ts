/**
 * An API server with several kinds, as the source of a cluster meets it: discovery of what it has, lists, watches. It behaves well, but
 * may be away, slow to answer, or forbid a kind; what else may go wrong with one kind is FakeServer's.
 */
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeClient, type KubeObject } from '../../src/kube/client/client.js';

interface Served {
  readonly apiVersion: string;
  readonly kind: string;
  readonly path: string;
  readonly objects: Map<string, KubeObject>;
  readonly watches: Set<ServerResponse>;
  readonly history: { version: number; line: string }[];
  /** Status of every answer, instead of the answer. */
  refused?: number;
}

const CRD = 'apiextensions.k8s.io/v1 CustomResourceDefinition';

/** What every cluster has. */
const USUAL = [
  ...['v1 Namespace namespaces', 'v1 Node nodes', 'v1 Service services', 'v1 Pod pods', 'v1 Endpoints endpoints'],
  ...['networking.k8s.io/v1 NetworkPolicy networkpolicies', `${CRD} customresourcedefinitions`],
];

export class FakeCluster {
  readonly #kinds = new Map<string, Served>();
  /** `GET /path`, `WATCH /path`. */
  readonly seen: string[] = [];
  /** Bodies of POST requests, by path. */
  readonly posted: { path: string; body: Record<string, unknown> }[] = [];
  /** Answers to POST, one after the other; then 201. */
  readonly answers: { status: number; reason?: string; message?: string }[] = [];
  /** Milliseconds before discovery is answered. */
  slowDiscovery = 0;
  #version = 1000;
  #uids = 0;
  #server: Server | undefined;
  #port = 0;
  readonly #clients: KubeClient[] = [];

  /** @param kinds beyond the usual: `group/version Kind plural` */
  async start(kinds: readonly string[] = ['discovery.k8s.io/v1 EndpointSlice endpointslices']): Promise<this> {
    for (const kind of [...USUAL, ...kinds]) this.serve(kind);
    await this.listen();
    return this;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  client(): KubeClient {
    const config = new KubeConfig();
    config.loadFromClusterAndUser({ name: 'fake', server: this.url, skipTLSVerify: false }, { name: 'nobody' });
    const client = new KubeClient(config);
    this.#clients.push(client);
    return client;
  }

  /** Another kind: `group/version Kind plural`. */
  serve(text: string): void {
    const [apiVersion = '', kind = '', plural = ''] = text.split(' ');
    const path = `${apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`}/${plural}`;
    this.#kinds.set(`${apiVersion} ${kind}`, {
      apiVersion,
      kind,
      path,
      objects: new Map(),
      watches: new Set(),
      history: [],
    });
  }

  /** The kind is gone with its objects. */
  unserve(name: string): void {
    for (const watch of this.#kinds.get(name)?.watches ?? []) watch.end();
    this.#kinds.delete(name);
  }

  /** Answers every request for the kind so; undefined: no longer. */
  refuse(name: string, status: number | undefined): void {
    const kind = this.#kind(name);
    if (status === undefined) delete kind.refused;
    else kind.refused = status;
    for (const watch of kind.watches) watch.destroy();
  }

  /** A CRD with its kind, as the API server has it once it is established. */
  addCrd(text: string): void {
    const [apiVersion = '', , plural = ''] = text.split(' ');
    const [group, version] = apiVersion.split('/');
    this.serve(text);
    const spec = { group, versions: [{ name: version, served: true }] };
    this.put(CRD, { metadata: { name: `${plural}.${group}` }, spec, status: established });
  }

  removeCrd(text: string): void {
    const [apiVersion = '', kind = '', plural = ''] = text.split(' ');
    this.unserve(`${apiVersion} ${kind}`);
    this.delete(CRD, `${plural}.${apiVersion.split('/')[0]}`);
  }

  /** Creates or replaces; metadata.uid stays unless told. */
  put(name: string, object: KubeObject): void {
    const { apiVersion, kind, objects } = this.#kind(name);
    const key = keyOf(object);
    const before = objects.get(key);
    const uid = object.metadata?.uid ?? before?.metadata?.uid ?? `uid-${++this.#uids}`;
    const metadata = { ...object.metadata, uid, resourceVersion: String(++this.#version) };
    const whole = { ...object, metadata };
    objects.set(key, whole);
    this.#tell(name, before ? 'MODIFIED' : 'ADDED', { apiVersion, kind, ...whole });
  }

  delete(name: string, key: string): void {
    const { apiVersion, kind, objects } = this.#kind(name);
    const object = objects.get(key);
    if (!object) return;
    objects.delete(key);
    const metadata = { ...object.metadata, resourceVersion: String(++this.#version) };
    this.#tell(name, 'DELETED', { apiVersion, kind, ...object, metadata });
  }

  /** Nobody listens until `listen`; what changes meanwhile is in the lists then. */
  async hangUp(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  }

  async listen(): Promise<void> {
    const server = createServer((request, response) => {
      response.on('error', () => {});
      let body = '';
      request.on('data', (chunk) => {
        body += chunk;
      });
      request.on('end', () => void this.#serve(request.method ?? '', request.url ?? '/', body, response));
    });
    await new Promise<void>((resolve, reject) => {
      server.on('error', reject);
      server.listen(this.#port, '127.0.0.1', resolve);
    });
    this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await this.hangUp();
  }

  #kind(name: string): Served {
    const kind = this.#kinds.get(name);
    if (!kind) throw new Error(`${name} is not served`);
    return kind;
  }

  #tell(name: string, type: string, object: KubeObject): void {
    const { watches, history } = this.#kind(name);
    const line = `${JSON.stringify({ type, object })}\n`;
    history.push({ version: this.#version, line });
    for (const watch of watches) watch.write(line);
  }

  async #serve(method: string, target: string, body: string, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(target, 'http://x');
    this.seen.push(`${searchParams.has('watch') ? 'WATCH' : method} ${pathname}`);
    if (method === 'POST') {
      this.posted.push({ path: pathname, body: JSON.parse(body) as Record<string, unknown> });
      const { status, reason, message } = this.answers.shift() ?? { status: 201 };
      return answer(response, status, { kind: 'Status', reason, message });
    }
    const discovered = this.#discovery(pathname);
    if (discovered) {
      // What is served now is what the answer says, however late it comes.
      if (this.slowDiscovery > 0) await sleep(this.slowDiscovery);
      return answer(response, 200, discovered);
    }
    const kind = [...this.#kinds.values()].find((k) => k.path === pathname);
    if (!kind) return answer(response, 404, { kind: 'Status', reason: 'NotFound', message: 'no such kind' });
    if (kind.refused !== undefined) return answer(response, kind.refused, { kind: 'Status', message: 'refused' });
    if (!searchParams.has('watch')) return this.#list(kind, response);
    const since = Number(searchParams.get('resourceVersion'));
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    kind.watches.add(response);
    response.on('close', () => kind.watches.delete(response));
    for (const { version, line } of kind.history) if (version > since) response.write(line);
  }

  #list({ apiVersion, kind, objects }: Served, response: ServerResponse): void {
    const metadata = { resourceVersion: String(this.#version) };
    answer(response, 200, { apiVersion, kind: `${kind}List`, metadata, items: [...objects.values()] });
  }

  #discovery(path: string): object | undefined {
    const groupVersions = [...new Set([...this.#kinds.values()].map((k) => k.apiVersion))];
    if (path === '/apis') {
      const groups = new Map<string, { version: string }[]>();
      for (const gv of groupVersions.filter((v) => v.includes('/'))) {
        const [group = '', version = ''] = gv.split('/');
        groups.set(group, [...(groups.get(group) ?? []), { version }]);
      }
      return { kind: 'APIGroupList', groups: [...groups].map(([name, versions]) => ({ name, versions })) };
    }
    const asked = groupVersions.find((gv) => path === (gv.includes('/') ? `/apis/${gv}` : `/api/${gv}`));
    if (asked === undefined) return undefined;
    const resources = [...this.#kinds.values()]
      .filter((k) => k.apiVersion === asked)
      .map(({ kind, path: at }) => {
        const name = at.slice(at.lastIndexOf('/') + 1);
        return { name, kind, namespaced: true, verbs: ['get', 'list', 'watch'] };
      });
    return { kind: 'APIResourceList', groupVersion: asked, resources };
  }
}

const established = { conditions: [{ type: 'Established', status: 'True' }] };

function keyOf({ metadata }: KubeObject): string {
  return metadata?.namespace === undefined ? `${metadata?.name}` : `${metadata.namespace}/${metadata.name}`;
}

function answer(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
