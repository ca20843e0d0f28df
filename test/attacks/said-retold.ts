import type { At } from './at.js';
import type { Attack } from './attack.js';
import { ACK, ip, PSH, tcp } from './craft.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';

/** A hello with a marker of the same length as another one. */
const like = (name: string, marker: Buffer) => hello(name, marker);
const NOTHING = Buffer.alloc(8);

/** Decoys: segments with an allowed hello, none of which arrives at a server. */
const DECOYS: readonly (readonly [string, (line: Line) => Buffer])[] = [
  ['dies on its way', (line) => line.segment(line.seq, like(GOOD, NOTHING), {}, { ttl: 1 })],
  ['has a wrong checksum', (line) => spoiled(line.segment(line.seq, like(GOOD, NOTHING)), line.at)],
  ['acknowledges what was never sent', (line) => line.segment(line.seq, like(GOOD, NOTHING), { ack: 77_777_777 })],
  ['has no ACK', (line) => line.segment(line.seq, like(GOOD, NOTHING), { flags: PSH })],
  ['is what arrives', (line) => line.segment(line.seq, like(GOOD, NOTHING))],
];

function spoiled(frame: Buffer, at: At): Buffer {
  const sum = 14 + (at.family === 4 ? 20 : 40) + 16;
  frame.writeUInt16BE(frame.readUInt16BE(sum) ^ 0x5555, sum);
  return frame;
}

export const attack: Attack = {
  name: 'said-retold',
  tries: 'Says an allowed server name in a segment that never arrives, and then others in its place.',
  policies: () => [SAID_POLICY],
  async run(at) {
    for (const [how, decoy] of DECOYS) {
      const line = await Line.open(at);
      const evil = (what: string) => like(EVIL, at.forbid(`after one that ${how}: ${what}`));
      await line.send([decoy(line)]);
      await line.send([line.segment(line.seq, evil('in its place'))]);
      const half = evil('from its middle on');
      await line.send([line.segment(line.seq + 60, half.subarray(60))]);
      await line.send(line.pieces(line.seq, evil('in pieces'), 50));
      await line.answer({ ack: line.seq + 40 });
      await line.send([line.segment(line.seq, evil('when a part was acknowledged'))]);
      await line.answer({ ack: line.seq + 1_000_000 });
      await line.send([line.segment(line.seq, evil('when more was acknowledged than was sent'))]);
      // A neighbour acknowledges it in the server's name.
      const forged = tcp(443, line.port, NOTHING.subarray(8), { flags: ACK, seq: 9001, ack: line.seq + half.length });
      const { colluder } = at;
      await at.send([at.link(ip({ src: line.to, dst: at.own }, forged), colluder.link)], {}, colluder);
      await at.settle();
      await line.send([line.segment(line.seq, evil('when a neighbour acknowledged it'))]);
    }
    // Between two parts of a hello.
    const line = await Line.open(at);
    const [good, evil] = [like(GOOD, NOTHING), like(EVIL, at.forbid('the second part of another hello'))];
    await line.send([line.segment(line.seq, good.subarray(0, 60), {}, { ttl: 1 })]);
    await line.send([line.segment(line.seq + 60, good.subarray(60), {}, { ttl: 1 })]);
    await line.send([line.segment(line.seq, evil.subarray(0, 60)), line.segment(line.seq + 60, evil.subarray(60))]);

    const control = await Line.open(at);
    const said = like(GOOD, at.control('the same bytes again', 'wire'));
    await control.send([control.segment(control.seq, said, {}, { ttl: 1 })]);
    await control.send([control.segment(control.seq, said.subarray(0, 70))]);
    await control.send([control.segment(control.seq, said)]);
  },
};
