/** An API server for policies: objects with versions, merge patches, preconditions, dry runs; and faults on demand. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { KubeClient } from '../../src/kube/client/client.js';

type Json = Record<string, unknown>;
interface Stored extends Json {
  metadata: {
    name: string;
    namespace?: string;
    resourceVersion: string;
    uid: string;
    annotations?: Json;
    managedFields?: unknown;
  };
}

const GROUPS: Readonly<Record<string, readonly (readonly [kind: string, plural: string, namespaced: boolean])[]>> = {
  'networking.k8s.io/v1': [['NetworkPolicy', 'networkpolicies', true]],
  'crd.projectcalico.org/v1': [
    ['NetworkPolicy', 'networkpolicies', true],
    ['StagedNetworkPolicy', 'stagednetworkpolicies', true],
    ['GlobalNetworkPolicy', 'globalnetworkpolicies', false],
    ['StagedGlobalNetworkPolicy', 'stagedglobalnetworkpolicies', false],
  ],
  'cilium.io/v2': [['CiliumNetworkPolicy', 'ciliumnetworkpolicies', true]],
};

export class ObjectsServer {
  /** By path. */
  readonly objects = new Map<string, Stored>();
  readonly events: Json[] = [];
  /** `VERB path` of all writes that were made. */
  readonly writes: string[] = [];
  /** The same of those that were only checked. */
  readonly checks: string[] = [];
  /** Who wrote last. */
  manager = '';
  /** Called before a write; a status refuses it. */
  refuse: (method: string, path: string) => number | undefined = () => undefined;
  #version = 10;
  readonly #server: Server;
  #client: KubeClient | undefined;

  private constructor() {
    this.#server = createServer((request, response) => void this.#answer(request, response));
  }

  static async start(): Promise<ObjectsServer> {
    const server = new ObjectsServer();
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get client(): KubeClient {
    const { port } = this.#server.address() as AddressInfo;
    const config = new KubeConfig();
    config.loadFromClusterAndUser(
      { name: 'x', server: `http://127.0.0.1:${port}`, skipTLSVerify: false },
      { name: 'me' },
    );
    return (this.#client = new KubeClient(config));
  }

  async stop(): Promise<void> {
    this.#client?.close();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  put(path: string, object: Json): Stored {
    const name = path.split('/').at(-1) as string;
    const namespace = /namespaces\/([^/]+)\/./.exec(path)?.[1];
    const before = this.objects.get(path);
    const metadata = {
      ...(object.metadata as object),
      name,
      ...(namespace ? { namespace } : {}),
      resourceVersion: String(++this.#version),
      uid: before?.metadata.uid ?? `uid-${this.#version}`,
    };
    const stored = { ...object, metadata } as Stored;
    this.objects.set(path, stored);
    return stored;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const url = new URL(request.url ?? '', 'http://x');
    const [status, body] = this.#result(request.method ?? '', url, text === '' ? {} : (JSON.parse(text) as Json));
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  }

  #result(method: string, { pathname: path, searchParams }: URL, body: Json): [number, Json] {
    if (path === '/apis') {
      const names = Object.keys(GROUPS).map((name) => name.split('/') as [string, string]);
      return [200, { groups: names.map(([name, version]) => ({ name, versions: [{ version }] })) }];
    }
    const kinds = GROUPS[path.replace('/apis/', '')];
    if (kinds) {
      const verbs = ['list', 'watch'];
      return [200, { resources: kinds.map(([kind, name, namespaced]) => ({ kind, name, namespaced, verbs })) }];
    }
    const known = this.objects.get(path);
    if (method === 'GET') return known ? [200, known] : fault(404, 'NotFound');
    const refused = this.refuse(method, path);
    if (refused !== undefined) return fault(refused, refused === 403 ? 'Forbidden' : 'Refused');
    if (path.endsWith('/events')) {
      this.events.push(body);
      return [201, body];
    }
    const dry = searchParams.get('dryRun') === 'All';
    (dry ? this.checks : this.writes).push(`${method} ${path}`);
    this.manager = searchParams.get('fieldManager') ?? '';
    const keep = (at: string, object: Json): Json => (dry ? object : this.put(at, object));
    if (method === 'POST') {
      const at = `${path}/${(body.metadata as { name: string }).name}`;
      return this.objects.has(at) ? fault(409, 'AlreadyExists') : [201, keep(at, body)];
    }
    if (!known) return fault(404, 'NotFound');
    const given = (method === 'DELETE' ? body.preconditions : body.metadata) as
      | { resourceVersion?: string }
      | undefined;
    if (given?.resourceVersion !== undefined && given.resourceVersion !== known.metadata.resourceVersion)
      return fault(409, 'Conflict');
    if (method === 'DELETE') {
      if (!dry) this.objects.delete(path);
      return [200, known];
    }
    if (method !== 'PUT') return [200, keep(path, merged(known, body) as Json)];
    // Whoever writes no managed fields keeps those that there are.
    const { managedFields } = known.metadata;
    const metadata = { ...(managedFields === undefined ? {} : { managedFields }), ...(body.metadata as object) };
    return [200, keep(path, { ...body, metadata })];
  }
}

function fault(code: number, reason: string): [number, Json] {
  return [code, { kind: 'Status', code, reason, message: reason }];
}

/** RFC 7386. */
function merged(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const out: Json = typeof target === 'object' && target !== null ? { ...(target as Json) } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete out[key];
    else out[key] = merged(out[key], value);
  }
  return out;
}
