/**
 * A client of TCP that sends what it is told, part by part. Says in one line of JSON what came back.
 *
 *   node raw-client.js '{"host": …}'
 */
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Talk {
  host: string;
  port: number;
  /** Bytes as Latin-1. A part goes out when something came back after the one before, or after `pause` milliseconds. */
  parts: string[];
  pause?: number;
}

export interface Heard {
  /** Everything that came back, as Latin-1. */
  text: string;
  /** How it ended: `end`, the code of an error, or `open` if it has not within two seconds after the last part. */
  end: string;
  /** Milliseconds from the last part that was sent. */
  ms: number;
}

const { host, port, parts, pause = 300 } = JSON.parse(process.argv[2] as string) as Talk;
let [text, sentAt] = ['', performance.now()];
let came = (): void => undefined;
function end(how: string): void {
  const heard: Heard = { text, end: how, ms: performance.now() - sentAt };
  console.log(JSON.stringify(heard));
  process.exit();
}
const socket = connect({ host, port, noDelay: true }, async () => {
  for (const part of parts) {
    const answer = new Promise<void>((resolve) => {
      came = resolve;
    });
    sentAt = performance.now();
    socket.write(Buffer.from(part, 'latin1'));
    await Promise.race([answer, sleep(pause)]);
  }
  await sleep(2000);
  end('open');
});
socket.on('data', (data) => {
  text += data.toString('latin1');
  came();
});
socket.on('end', () => end('end'));
socket.on('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
