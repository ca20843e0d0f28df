/** What connections say, as the bytes that a client sends. */
import type { Said } from '../../src/ir/packet.js';
import { encodeHello, makeHello, records, serverName } from '../said/make.js';
import { outer } from '../said/make-ech.js';

/** Neither a hello nor a request. */
const OTHER = Buffer.from('SSH-2.0-x\r\n');

/** One whose name is hidden is real to a pod that is closed to ECH (Kernel.judge). */
const hello = ({ serverName: name, hidden }: Extract<Said, { kind: 'tls' }>): Buffer =>
  makeHello({ extensions: [...(hidden ? [outer(7)] : []), ...(name === undefined ? [] : [serverName(name)])] });

let connections = 0;

/** The first datagram that says this, over UDP: a hello in one of QUIC, of a connection of its own. */
export function datagram(said: Said): Buffer {
  if (said.kind !== 'tls') return OTHER;
  const id = Buffer.alloc(8);
  id.writeUInt32BE(++connections);
  return encodeHello(hello(said), id)[0] as Buffer;
}

/** The bytes of a connection over TCP that says this. */
export function speech(said: Said): Buffer {
  switch (said.kind) {
    case 'other':
      return OTHER;
    case 'tls':
      return records(hello(said));
    case 'http': {
      // Only version 1.0 may go without a host.
      const version = said.host === undefined ? '1.0' : '1.1';
      const lines = [
        `${said.method} ${said.path} HTTP/${version}`,
        ...(said.host === undefined ? [] : [`Host: ${said.host}`]),
        ...said.headers
          .filter(([name]) => name !== 'host' || said.host === undefined)
          .map(([name, value]) => `${name}: ${value}`),
      ];
      return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
    }
    default:
      return said satisfies never;
  }
}
