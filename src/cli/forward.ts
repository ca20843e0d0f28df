/** A port of a pod on this machine, through the API server: what `kubectl port-forward` does. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { type KubeConfig, PortForward } from '@kubernetes/client-node';

/** Of an error that the other side sends. */
const MAX_ERROR = 500;

export class Forward {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #lastError: string | undefined;

  /** Each connection to the local port is a stream of its own to the pod's. */
  static async open(config: KubeConfig, pod: { namespace: string; name: string }, port: number): Promise<Forward> {
    const forward = new Forward(new PortForward(config), pod, port);
    await new Promise<void>((resolve, reject) => {
      forward.#server.once('error', reject);
      forward.#server.listen(0, '127.0.0.1', resolve);
    });
    return forward;
  }

  private constructor(forwarder: PortForward, pod: { namespace: string; name: string }, port: number) {
    this.#server = createServer((socket) => void this.#connect(forwarder, pod, port, socket));
  }

  /** `127.0.0.1:PORT` */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Why the last connection did not come up. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #connect(
    forwarder: PortForward,
    { namespace, name }: { namespace: string; name: string },
    port: number,
    socket: Socket,
  ): Promise<void> {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    socket.setNoDelay(true);
    // Said by kubelet when nothing listens in the pod; the connection is useless after it.
    const errors = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        const text = chunk.toString('utf8').trim();
        if (text !== '') {
          this.#lastError = plain(text, port);
          socket.destroy();
        }
        done();
      },
    });
    try {
      const made = await forwarder.portForward(namespace, name, [port], socket, errors, socket);
      const stream = typeof made === 'function' ? made() : made;
      if (!stream) return;
      stream.on('close', () => socket.destroy());
      stream.on('error', (e: Error) => {
        this.#lastError = e.message;
        socket.destroy();
      });
      // Not close(): it would wait for the other side's word, and the program with it.
      socket.on('close', () => stream.terminate());
      if (socket.destroyed) stream.terminate();
    } catch (e) {
      // The library rejects with the event of a WebSocket: https://websockets.spec.whatwg.org has no reason in it.
      const { message, error } = e as { message?: string; error?: Error };
      this.#lastError = (message || error?.message || String(e)).slice(0, MAX_ERROR);
      socket.destroy();
    }
  }
}

/** kubelet's words, or what they mean. */
function plain(text: string, port: number): string {
  if (!/connection refused/i.test(text)) return text.slice(0, MAX_ERROR);
  return `nothing listens on its port ${port}; after an installation its certificates take a minute to arrive, and without the part tls there are none`;
}
