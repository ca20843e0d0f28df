/** As much of an API server as finds agents: Secrets, pods, and ports forwarded over WebSockets. */
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { KubeConfig } from '@kubernetes/client-node';

type Json = Record<string, unknown>;

/** A port of a pod; a text: why it cannot be reached. */
type Target = number | string;

export class Api {
  /** By path. */
  readonly objects = new Map<string, Json>();
  /** By `namespace/pod`. */
  readonly targets = new Map<string, Target>();
  /** `METHOD /path` of all requests. */
  readonly seen: string[] = [];
  /** Paths that are forbidden. */
  readonly forbidden = new Set<string>();
  readonly #server = createServer((req, res) => void this.#serve(req, res));
  readonly #sockets = new Set<Duplex>();
  readonly #watches = new Set<ServerResponse>();
  #version = 1;

  async listen(): Promise<void> {
    this.#server.on('connection', (s: Socket) => this.#keep(s));
    this.#server.on('upgrade', (req: IncomingMessage, socket: Duplex) => this.#forward(req, socket));
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  get config(): KubeConfig {
    const config = new KubeConfig();
    config.loadFromClusterAndUser({ name: 'here', server: this.url, skipTLSVerify: false }, { name: 'me' });
    return config;
  }

  writeKubeconfig(file: string): void {
    const kubeconfig = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'here', cluster: { server: this.url, 'insecure-skip-tls-verify': true } }],
      users: [{ name: 'me', user: {} }],
      contexts: [{ name: 'here', context: { cluster: 'here', user: 'me' } }],
      'current-context': 'here',
    };
    writeFileSync(file, JSON.stringify(kubeconfig));
  }

  pod(
    namespace: string,
    name: string,
    opts: { node?: string; phase?: string; ip?: string; agent?: boolean; relay?: boolean; target?: Target } = {},
  ): void {
    const { node = '', phase = 'Running', ip = '127.0.0.1', agent = false, relay = false, target } = opts;
    const program = agent ? 'egress-agent' : relay ? 'egress-relay' : '';
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        namespace,
        name,
        uid: `uid-${name}`,
        resourceVersion: String(++this.#version),
        labels: program === '' ? {} : { 'app.kubernetes.io/name': program },
      },
      spec: { nodeName: node },
      status: { phase, podIP: ip },
    };
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    const type = this.objects.has(path) ? 'MODIFIED' : 'ADDED';
    this.objects.set(path, pod);
    if (target !== undefined) this.targets.set(`${namespace}/${name}`, target);
    this.#tell(type, pod);
  }

  remove(namespace: string, name: string): void {
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    const pod = this.objects.get(path);
    this.objects.delete(path);
    if (pod) {
      this.#tell('DELETED', {
        ...pod,
        metadata: { ...(pod.metadata as Json), resourceVersion: String(++this.#version) },
      });
    }
  }

  #tell(type: string, object: Json): void {
    for (const watch of this.#watches) watch.write(`${JSON.stringify({ type, object })}\n`);
  }

  #keep(socket: Duplex): void {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const { pathname: path, searchParams } = new URL(req.url ?? '/', this.url);
    const method = req.method ?? '';
    let text = '';
    for await (const chunk of req) text += chunk;
    this.seen.push(`${method} ${path}`);
    const answer = (status: number, body: unknown) => {
      res.writeHead(status, { 'content-type': 'application/json' });
      res.end(JSON.stringify(body));
    };
    const fault = (code: number, reason: string) =>
      answer(code, {
        kind: 'Status',
        apiVersion: 'v1',
        status: 'Failure',
        code,
        reason,
        message: `${path}: ${reason}`,
      });
    if (this.forbidden.has(path)) return fault(403, 'Forbidden');
    const isList = /\/(pods|secrets)$/.test(path);
    if (method === 'POST' && isList) {
      const object = JSON.parse(text) as Json & { metadata: { name: string } };
      const own = `${path}/${object.metadata.name}`;
      if (this.objects.has(own)) return fault(409, 'AlreadyExists');
      this.objects.set(own, object);
      return answer(201, object);
    }
    if (method === 'PUT') {
      if (!this.objects.has(path)) return fault(404, 'NotFound');
      this.objects.set(path, JSON.parse(text) as Json);
      return answer(200, this.objects.get(path));
    }
    if (!isList) {
      const object = this.objects.get(path);
      return object ? answer(200, object) : fault(404, 'NotFound');
    }
    if (searchParams.get('watch')) {
      res.writeHead(200, { 'content-type': 'application/json' });
      res.flushHeaders();
      this.#watches.add(res);
      res.on('close', () => this.#watches.delete(res));
      return;
    }
    const [key = '', value = ''] = (searchParams.get('labelSelector') ?? '').split('=');
    const items = [...this.objects].flatMap(([at, object]) => {
      const labels = ((object.metadata as Json)?.labels ?? {}) as Record<string, string>;
      return at.startsWith(`${path}/`) && (key === '' || labels[key] === value) ? [object] : [];
    });
    answer(200, { apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: String(this.#version) }, items });
  }

  /** v4.channel.k8s.io: the first byte of a message is the stream (0 data, 1 errors), each begins with the port. */
  #forward(req: IncomingMessage, socket: Duplex): void {
    this.#keep(socket);
    const path = new URL(req.url ?? '/', this.url).pathname;
    this.seen.push(`UPGRADE ${path}`);
    const [, namespace, name] = /\/namespaces\/([^/]+)\/pods\/([^/]+)\/portforward$/.exec(path) ?? [];
    const target = this.targets.get(`${namespace}/${name}`);
    if (target === undefined) {
      socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
      return;
    }
    const accept = createHash('sha1')
      .update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
      .digest('base64');
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: ${accept}\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n\r\n`,
    );
    const send = (stream: number, data: Buffer) => socket.write(frame(Buffer.concat([Buffer.from([stream]), data])));
    for (const stream of [0, 1]) send(stream, Buffer.from([0x95, 0x10]));
    if (typeof target === 'string') {
      send(1, Buffer.from(target));
      return;
    }
    const pod = connect(target, '127.0.0.1');
    this.#keep(pod);
    pod.on('data', (data) => send(0, data));
    pod.on('close', () => socket.end());
    socket.on('close', () => pod.destroy());
    unframe(socket, (data) => pod.write(data.subarray(1)));
  }
}

function frame(payload: Buffer): Buffer {
  const head =
    payload.length < 126 ? Buffer.from([0x82, payload.length]) : Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0]);
  if (head.length > 2) head.writeUInt32BE(payload.length, 6);
  return Buffer.concat([head, payload]);
}

/** RFC 6455: whole messages of a client, unmasked. */
function unframe(socket: Duplex, message: (data: Buffer) => void): void {
  let rest: Buffer = Buffer.alloc(0);
  socket.on('data', (data: Buffer) => {
    rest = Buffer.concat([rest, data]);
    for (;;) {
      if (rest.length < 2) return;
      const short = (rest[1] as number) & 0x7f;
      const at = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (rest.length < at + 4) return;
      const length = short < 126 ? short : short === 126 ? rest.readUInt16BE(2) : rest.readUInt32BE(6);
      if (rest.length < at + 4 + length) return;
      const mask = rest.subarray(at, at + 4);
      const body = Buffer.from(rest.subarray(at + 4, at + 4 + length));
      for (let i = 0; i < body.length; i++) body[i] = (body[i] as number) ^ (mask[i % 4] as number);
      const opcode = (rest[0] as number) & 0x0f;
      rest = rest.subarray(at + 4 + length);
      if (opcode === 8) socket.end();
      else if (opcode <= 2) message(body);
    }
  });
}
