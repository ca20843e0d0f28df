import { type Extension, makeHello, records, serverName } from '../said/make.js';
import type { Attack } from './attack.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';

const EARLY: Extension = [42, Buffer.alloc(0)];
const CHANGE = Buffer.from('140303000101', 'hex');
/** Early data, or what looks like it. */
const data = (size: number): Buffer =>
  Buffer.concat([Buffer.from([23, 3, 3, size >> 8, size & 255]), Buffer.alloc(size)]);

export const attack: Attack = {
  name: 'said-early',
  tries: 'Says another server name in a second hello that it sends in advance, behind early data or a warning.',
  policies: () => [SAID_POLICY],
  async run(at) {
    const first = records(makeHello({ extensions: [EARLY, serverName(GOOD)] }));
    for (const [what, hello1, between] of [
      ['behind early data', first, data(8)],
      ['behind ChangeCipherSpec and early data', first, Buffer.concat([CHANGE, data(300), data(1)])],
      ['behind a warning', hello(GOOD, Buffer.alloc(8)), Buffer.from('1503030002015a', 'hex')],
      ['behind a warning and early data', first, Buffer.concat([Buffer.from('1503030002015a', 'hex'), data(8)])],
    ] as const) {
      for (const size of [1400, 50]) {
        const line = await Line.open(at);
        const evil = hello(EVIL, at.forbid(`${what}, by ${size}`));
        await line.send(line.pieces(line.seq, Buffer.concat([hello1, between, evil]), size));
      }
    }
    // More of it than is read.
    const line = await Line.open(at);
    const much = Buffer.concat([first, data(16000), data(4000)]);
    await line.send(
      line.pieces(line.seq, Buffer.concat([much, hello(EVIL, at.forbid('behind much early data'))]), 1400),
    );

    const control = await Line.open(at);
    const said = Buffer.concat([first, CHANGE, data(100)]);
    await control.send([control.segment(control.seq, said)]);
    const more = Buffer.concat([Buffer.from('1703030008', 'hex'), at.control('early data', 'wire')]);
    await control.send([control.segment(control.seq + said.length, more)]);
  },
};
