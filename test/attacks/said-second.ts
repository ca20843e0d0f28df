import type { Attack } from './attack.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';
import { type Extension, makeHello, records, serverName } from '../said/make.js';

const NOTHING = Buffer.alloc(8);
const CHANGE = Buffer.from('140303000101', 'hex');
const EARLY: Extension = [42, Buffer.alloc(0)];
/** A HelloRetryRequest (RFC 8446, 4.1.3). */
const RETRY = Buffer.concat([
  Buffer.from('160303003a020000360303', 'hex'),
  Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex'),
  Buffer.from('00130100000e002b0002030400330002001700', 'hex'),
]);

export const attack: Attack = {
  name: 'said-second',
  tries: 'Says another server name in a second TLS hello, after the first one was allowed.',
  policies: () => [SAID_POLICY],
  async run(at) {
    const first = hello(GOOD, NOTHING);
    const begin = async () => {
      const line = await Line.open(at);
      await line.send([line.segment(line.seq, first)]);
      await line.answer({ ack: line.seq + first.length, data: RETRY });
      return { line, seq: line.seq + first.length };
    };
    for (const [what, before] of [
      ['at once', Buffer.alloc(0)],
      ['behind ChangeCipherSpec', CHANGE],
      ['behind two of them', Buffer.concat([CHANGE, CHANGE])],
      ['behind an alert', Buffer.from('15030300020150', 'hex')],
    ] as const) {
      for (const size of [1400, 3]) {
        const { line, seq } = await begin();
        const marker = at.forbid(`${what}, by ${size}`, (a) => what !== 'behind an alert' || a.frame.length === 0);
        const evil = Buffer.concat([before, hello(EVIL, marker)]);
        await line.send(line.pieces(seq, evil, Math.max(size, 8)));
      }
    }
    const hidden = await begin();
    // What says that no second hello comes never arrives, and the hello comes in its place.
    await hidden.line.send([
      hidden.line.segment(
        hidden.seq,
        Buffer.concat([CHANGE, Buffer.from('1703030008', 'hex'), NOTHING]),
        {},
        { ttl: 1 },
      ),
    ]);
    await hidden.line.send([
      hidden.line.segment(hidden.seq, Buffer.concat([CHANGE, hello(EVIL, at.forbid('in place of data'))])),
    ]);
    const joined = await Line.open(at);
    await joined.send([
      joined.segment(joined.seq, Buffer.concat([first, hello(EVIL, at.forbid('in the same segment'))])),
    ]);

    // Early data: the stream does not tell whether a second hello comes, the server does.
    const early = records(makeHello({ extensions: [EARLY, serverName(GOOD)] }));
    const line = await Line.open(at);
    const data = Buffer.from(`1703030008${'00'.repeat(8)}`, 'hex');
    await line.send([line.segment(line.seq, Buffer.concat([early, CHANGE, data]))]);
    const seq = line.seq + early.length + CHANGE.length + data.length;
    await line.answer({ ack: seq, data: RETRY });
    await line.send([line.segment(seq, hello(EVIL, at.forbid('after early data')))]);

    const good = await begin();
    const again = Buffer.concat([CHANGE, hello(GOOD, at.control('the same name again', 'wire'))]);
    await good.line.send([good.line.segment(good.seq, again)]);
  },
};
