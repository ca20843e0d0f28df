/**
 * Servers and clients of the quickstart's world, run inside its network namespaces.
 *
 *   traffic.js serve ADDRESS:PORT ...
 *   traffic.js call MILLISECONDS ADDRESS:PORT ...     one connection after the other, round and round
 */
import { createServer, connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const [mode, ...args] = process.argv.slice(2);

function target(text: string): { host: string; port: number } {
  const at = text.lastIndexOf(':');
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) };
}

/** Connects, sends a line, and waits for its echo, for 300 ms at most. egressctl shows the verdict. */
function call(to: { host: string; port: number }): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect(to, () => socket.write('hello\n'));
    socket.setTimeout(300, () => socket.destroy());
    socket.on('data', () => socket.end());
    socket.on('error', () => undefined);
    socket.on('close', () => resolve());
  });
}

if (mode === 'serve') {
  for (const { host, port } of args.map(target)) {
    createServer((socket) => socket.on('error', () => undefined).pipe(socket)).listen(port, host);
  }
} else if (mode === 'call') {
  const pause = Number(args.shift());
  for (;;) {
    for (const to of args.map(target)) {
      await call(to);
      await sleep(pause);
    }
  }
} else {
  console.error('usage: traffic.js serve ADDRESS:PORT ... | call MILLISECONDS ADDRESS:PORT ...');
  process.exitCode = 2;
}
