import type { Attack } from './attack.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';

/** How a hello is cut: bytes in a segment; bytes in its records but the last; bytes of a key share before the name. */
const CUTS: readonly (readonly [string, number, readonly number[], number])[] = [
  ['whole', 1400, [], 0],
  ['in two segments, the name in the second', 600, [], 1216],
  ['in segments of two bytes', 2, [], 0],
  ['in segments of one byte', 1, [], 0],
  ['in records of one byte', 1400, Array(60).fill(1), 0],
  ['all but one byte in the first record', 1400, [150], 0],
  ['in records and segments of odd sizes', 7, [3, 5, 11, 40], 0],
  ['of 8 KiB', 1400, [], 8000],
];

export const attack: Attack = {
  name: 'said-cuts',
  tries: 'Cuts a TLS hello so that no segment or record has the name of the server in it.',
  policies: () => [SAID_POLICY],
  async run(at) {
    for (const [how, size, sizes, share] of at.short ? CUTS.slice(0, 5) : CUTS) {
      const names = how === 'whole' ? [EVIL, 'aa.good.test.evil.test', 'good.test', undefined] : [EVIL];
      for (const name of names) {
        const bad = await Line.open(at);
        const marker = at.forbid(`${name ?? 'no name'}, ${how}`);
        // The marker stands at the end: it is in the last segments, which complete the hello.
        await bad.send(bad.pieces(bad.seq, hello(name, marker, sizes, share), Math.max(size, 8)));
        const again = Buffer.concat([hello(name, Buffer.alloc(8), sizes, share), at.forbid(`behind ${how}`)]);
        const behind = await Line.open(at);
        await behind.send(behind.pieces(behind.seq, again, size));
        await behind.send([behind.segment(behind.seq + again.length - 8, again.subarray(-8))]);
      }
      const good = await Line.open(at);
      const bytes = hello(GOOD, Buffer.alloc(8), sizes, share);
      const data = Buffer.concat([Buffer.from([23, 3, 3, 0, 8]), at.control(how, 'wire')]);
      await good.send(good.pieces(good.seq, bytes, size));
      await good.send([good.segment(good.seq + bytes.length, data)]);
    }
  },
};
