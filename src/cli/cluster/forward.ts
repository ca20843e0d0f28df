/** Forwards a local port to a port of a pod through the API server, as `kubectl port-forward` does. */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { type KubeConfig, PortForward } from '@kubernetes/client-node';

/** Maximum length of an error message from the other side, in characters. */
const MAX_ERROR_LENGTH = 500;

/** The pod at the other end. */
export interface ForwardPod {
  namespace: string;
  name: string;
}

/** A forwarded port. close() ends it with all its connections. */
export class Forward {
  readonly #server: Server;
  #pod: ForwardPod;
  readonly #sockets = new Set<Socket>();
  #lastError: string | undefined;

  /** Opens a local port. Each connection to it becomes a stream of its own to the pod. */
  static async open(config: KubeConfig, pod: ForwardPod, port: number): Promise<Forward> {
    const forward = new Forward(new PortForward(config), pod, port);
    await new Promise<void>((resolve, reject) => {
      forward.#server.once('error', reject);
      forward.#server.listen(0, '127.0.0.1', resolve);
    });
    return forward;
  }

  private constructor(forwarder: PortForward, pod: ForwardPod, port: number) {
    this.#pod = pod;
    this.#server = createServer((socket) => void this.#connect(forwarder, this.#pod, port, socket));
  }

  /** Leads new connections to another pod, which has taken the place of the one before. Open ones are ended. */
  leadTo(pod: ForwardPod): void {
    if (pod.namespace === this.#pod.namespace && pod.name === this.#pod.name) return;
    this.#pod = pod;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** `127.0.0.1:PORT` */
  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The reason why the last connection failed. */
  get lastError(): string | undefined {
    return this.#lastError;
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  async #connect(forwarder: PortForward, { namespace, name }: ForwardPod, port: number, socket: Socket): Promise<void> {
    this.#sockets.add(socket);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('error', () => {});
    socket.setNoDelay(true);
    // kubelet sends an error when nothing listens in the pod. The connection is unusable after it.
    const errors = new Writable({
      write: (chunk: Buffer, _encoding, done) => {
        const text = chunk.toString('utf8').trim();
        if (text !== '') {
          this.#lastError = explained(text, port);
          socket.destroy();
        }
        done();
      },
    });
    try {
      const result = await forwarder.portForward(namespace, name, [port], socket, errors, socket);
      const stream = typeof result === 'function' ? result() : result;
      if (!stream) return;
      stream.on('close', () => socket.destroy());
      stream.on('error', (e: Error) => {
        this.#lastError = e.message;
        socket.destroy();
      });
      // Not close(): it waits for the other side's close frame and would keep the program running.
      socket.on('close', () => stream.terminate());
      if (socket.destroyed) stream.terminate();
    } catch (e) {
      // The library rejects with a WebSocket event, which carries no reason (https://websockets.spec.whatwg.org).
      const { message, error } = e as { message?: string; error?: Error };
      this.#lastError = (message || error?.message || String(e)).slice(0, MAX_ERROR_LENGTH);
      socket.destroy();
    }
  }
}

/** Replaces kubelet's "connection refused" by an explanation, and truncates other messages. */
function explained(text: string, port: number): string {
  if (!/connection refused/i.test(text)) return text.slice(0, MAX_ERROR_LENGTH);
  return `nothing listens on its port ${port}; certificates arrive up to a minute after an installation, and not at all without the part tls`;
}
