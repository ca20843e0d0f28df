/** New connections to servers, as attacks need them: at each call one. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

/** Resolves when connected, with TLS when its handshake is done. */
export type Dial = () => Promise<Socket>;

/** @param where a socket's path, or a port of this machine */
export function plain(where: string | number): Dial {
  return () => ready(() => (typeof where === 'string' ? connect(where) : connect(where, '127.0.0.1')), 'connect');
}

/** HTTP/2 over TLS, to a port of this machine. */
export function tls(port: number, servername: string, files: ConnectionOptions): Dial {
  const options = { host: '127.0.0.1', port, servername, ...files, ALPNProtocols: ['h2'] };
  return () => ready(() => connectTls(options), 'secureConnect');
}

function ready(open: () => Socket, event: 'connect' | 'secureConnect'): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = open();
    socket.once(event, () => resolve(socket));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed')));
  });
}
