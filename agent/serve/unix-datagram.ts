/** Datagrams to a unix socket such as /dev/log. */
import { closeSync } from 'node:fs';
import type { UnixDatagram } from '../../src/export/sinks/syslog-datagram.js';
import { sys } from '../kernel/libbpf/sys.js';

const AF_UNIX = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const MSG_NOSIGNAL = 0x4000;

/** @throws AgentError KERNEL if nobody listens there */
export function openUnixDatagram(path: string): UnixDatagram {
  const fd = sys.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const addr = Buffer.alloc(2 + Buffer.byteLength(path) + 1);
  addr.writeUInt16LE(AF_UNIX);
  addr.write(path, 2);
  try {
    sys.connect(fd, addr);
  } catch (e) {
    closeSync(fd);
    throw e;
  }
  return { send: (message) => sys.sendNow(fd, message, MSG_NOSIGNAL), close: () => closeSync(fd) };
}
