/** Subscribers as nobody wants them: one reads a byte a second, one leaves in the middle of a message, others come and go. */
import { eitherSignal } from '../../src/either-signal.js';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { EGRESS } from '../../src/proto/load.js';
import { callHeaders, END_HEADERS, END_STREAM, frame, GREETING, message, TYPE } from './h2.js';

/** From the greeting to a GetFlows that follows, all of the past first. */
function subscription(): Buffer {
  const { path, requestSerialize } = EGRESS.GetFlows as NonNullable<(typeof EGRESS)['GetFlows']>;
  const request = requestSerialize({ follow: true, number: '1000' });
  return Buffer.concat([
    GREETING,
    frame(TYPE.headers, END_HEADERS, 1, callHeaders(path)),
    frame(TYPE.data, END_STREAM, 1, message(request)),
  ]);
}

/** One byte a second, until aborted. @returns bytes read */
export async function byteASecond(path: string, signal: AbortSignal): Promise<number> {
  let read = 0;
  const socket = connect({
    path,
    onread: {
      buffer: Buffer.alloc(1),
      callback: () => {
        read++;
        return false;
      },
    },
  });
  socket.on('error', () => {});
  socket.write(subscription());
  while (!signal.aborted) {
    await sleep(1000, undefined, { signal }).catch(() => {});
    socket.resume();
  }
  socket.destroy();
  return read;
}

/** Again and again until aborted: subscribes, and is gone once a few hundred bytes came. @returns how often */
export async function leaveMidMessage(path: string, signal: AbortSignal): Promise<number> {
  let left = 0;
  for (; !signal.aborted; left++) {
    const socket = connect(path);
    await new Promise<void>((resolve) => {
      let got = 0;
      socket.on('data', (data) => {
        got += data.length;
        if (got > 300) socket.destroy();
      });
      socket.on('error', () => {});
      socket.on('close', () => resolve());
      socket.write(subscription());
      setTimeout(() => socket.destroy(), 500);
    });
    await sleep(50);
  }
  return left;
}

/** Subscribers that stay for a moment. @returns how many */
export async function comeAndGo(path: string, signal: AbortSignal): Promise<number> {
  let came = 0;
  for (; !signal.aborted; came++) {
    const client = new AgentClient(path);
    const stop = eitherSignal([signal], 300);
    for await (const _ of client.getRecords({ follow: true, number: 20 }, stop.signal));
    stop.end();
    client.close();
    await sleep(100);
  }
  return came;
}
