import { records } from '../said/make.js';
import type { Attack } from './attack.js';
import { EVIL, GOOD, hello, Line, SAID_POLICY } from './line.js';

const NOTHING = Buffer.alloc(8);
const CHANGE = Buffer.from('140303000101', 'hex');
const WARNING = Buffer.from('1503030002015a', 'hex');
/** A record of a handshake, which may be encrypted to who does not look closer. */
const sealed = (begin: string): Buffer =>
  Buffer.concat([Buffer.from(`1603030028${begin}`, 'hex'), Buffer.alloc(40 - begin.length / 2, 5)]);
/** The message of a hello, cut into records. */
const cut = (marker: Buffer, ...sizes: number[]): Buffer => records(hello(EVIL, marker).subarray(5), sizes);
const data = (bytes: Buffer): Buffer => Buffer.concat([Buffer.from([23, 3, 3, 0, bytes.length]), bytes]);

export const attack: Attack = {
  name: 'said-sealed',
  tries: 'Says another server name behind a ChangeCipherSpec, as if its hello were the Finished of a resumed session.',
  policies: () => [SAID_POLICY],
  async run(at) {
    const first = hello(GOOD, NOTHING);
    const begin = async () => {
      const line = await Line.open(at);
      await line.send([line.segment(line.seq, first)]);
      await line.answer({ ack: line.seq + first.length, data: Buffer.from('160303003a02', 'hex') });
      return { line, seq: line.seq + first.length };
    };
    const ways: [what: string, make: (marker: Buffer) => Buffer][] = [
      ['in one record', (marker) => hello(EVIL, marker)],
      ['in two records', (marker) => cut(marker, 40)],
      ['in many records', (marker) => cut(marker, 1, 1, 40, 10)],
      ['behind a record that looks encrypted', (marker) => Buffer.concat([sealed('01ffffff'), hello(EVIL, marker)])],
      ['in the rest of a hello that is too long', (marker) => Buffer.concat([sealed('01004000'), hello(EVIL, marker)])],
      ['behind a warning', (marker) => Buffer.concat([sealed('01000400'), WARNING, hello(EVIL, marker)])],
      ['behind another ChangeCipherSpec', (marker) => Buffer.concat([sealed('01000400'), CHANGE, hello(EVIL, marker)])],
    ];
    for (const [what, make] of ways) {
      for (const size of [1400, 40]) {
        const { line, seq } = await begin();
        const evil = make(at.forbid(`${what}, by ${size}`));
        await line.send(line.pieces(seq, Buffer.concat([CHANGE, evil]), size));
      }
    }
    // Larger than what is kept, but whole: the name stands behind.
    const large = await begin();
    const message = hello(EVIL, at.forbid('a large one'), [], 16_000);
    await large.line.send(large.line.pieces(large.seq, Buffer.concat([CHANGE, message]), 1400));

    const finished = Buffer.concat([CHANGE, sealed('01ffffff')]);
    // The data that tells that it was encrypted never arrives, and the hello goes on in its place.
    const decoy = await begin();
    await decoy.line.send([decoy.line.segment(decoy.seq, finished)]);
    const behind = decoy.seq + finished.length;
    await decoy.line.send([decoy.line.segment(behind, data(NOTHING), {}, { ttl: 1 })]);
    await decoy.line.send([decoy.line.segment(behind, hello(EVIL, at.forbid('in place of data')))]);

    const { line, seq } = await begin();
    await line.send([line.segment(seq, finished)]);
    await line.answer({ ack: seq + finished.length });
    await line.send([line.segment(seq + finished.length, data(at.control('data behind a Finished', 'wire')))]);
  },
};
