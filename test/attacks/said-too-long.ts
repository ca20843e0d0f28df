import { makeHello, records, serverName } from '../said/make.js';
import type { Attack } from './attack.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';

/** What is read of a hello. */
const MOST = 16384;
const HEADERS = 10;

/** A hello in two records, of `length` bytes with their headers; the second one has `last` bytes. */
function long(name: string, marker: Buffer, length: number, last: number): Buffer {
  const make = (share: number) =>
    makeHello({ extensions: [[51, Buffer.alloc(share)], serverName(name), [21, marker], [22, Buffer.alloc(8)]] });
  const message = make(length - HEADERS - make(0).length);
  return records(message, [message.length - last]);
}

export const attack: Attack = {
  name: 'said-too-long',
  tries: 'Says another server name in a hello, or behind one, whose end is just beyond what is read of it.',
  policies: () => [SAID_POLICY],
  async run(at) {
    const send = async (bytes: Buffer, size = 1400) => {
      const line = await Line.open(at);
      await line.send(line.pieces(line.seq, bytes, size));
    };
    // The header of the second record is not whole, or not there, where the reading ends.
    for (const [length, last] of [
      [MOST + 5, 1],
      [MOST + 5, 3],
      [MOST + 5, 4],
      [MOST + 4, 4],
      [MOST + 1, 1],
    ] as const) {
      // The marker stands behind the name: it is in the segment that makes the hello whole.
      const marker = at.forbid(`${length} bytes, ${last} of them in the second record`);
      await send(long(EVIL, marker, length, last));
    }
    // The first hello ends where the reading does, or a ChangeCipherSpec behind it.
    const change = Buffer.from('140303000101', 'hex');
    for (const [what, behind] of [
      ['at once', Buffer.alloc(0)],
      ['behind ChangeCipherSpec', change],
    ] as const) {
      const first = Buffer.concat([long(GOOD, Buffer.alloc(8), MOST - behind.length, 20), behind]);
      const marker = at.forbid(`a second hello where the reading ends, ${what}`);
      await send(Buffer.concat([first, hello(EVIL, marker)]));
    }
    await send(long(GOOD, at.control('all of it is read', 'wire'), MOST, 20));
  },
};
