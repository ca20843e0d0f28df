import t from 'tap';
import { parseAddress, parseDefaultRoute, parseLink } from '../../agent/netlink/netlink.js';
import {
  attrNested,
  attrString,
  attrU32,
  message,
  parseAttrs,
  parseError,
  parseMessages,
  stringOf,
  u32Of,
} from '../../agent/netlink/nlmsg.js';
import { AgentError } from '../../src/errors.js';

t.test('written and read again', async (t) => {
  const header = Buffer.alloc(16);
  header.writeInt32LE(7, 4);
  const info = attrNested(18, attrString(1, 'vxlan'));
  const bytes = message(16, 2, 9, [header, attrString(3, 'abc'), attrU32(5, 12), info]);
  const [m, ...more] = parseMessages(Buffer.concat([bytes, bytes]));
  t.equal(more.length, 1);
  t.match(m, { type: 16, flags: 2, seq: 9 });
  t.match(m && parseLink(m), { ifindex: 7, name: 'abc', iflink: 12, kind: 'vxlan', netnsid: undefined });
});

t.test('lengths that lie', async (t) => {
  t.same(parseMessages(Buffer.alloc(15)), [], 'less than a header');
  for (const length of [0, 15, 17, 0xffffffff]) {
    const b = Buffer.alloc(16);
    b.writeUInt32LE(length, 0);
    t.throws(() => parseMessages(b), AgentError);
  }
  t.equal(parseAttrs(Buffer.from([3, 0, 1, 0]), 0).size, 0, 'shorter than its own header');
  t.equal(parseAttrs(Buffer.from([9, 0, 1, 0, 1, 2, 3, 4]), 0).size, 0, 'longer than the buffer');
  t.equal(parseAttrs(Buffer.from([5, 0, 1, 0, 1]), 0).get(1)?.length, 1, 'the last without its padding');
  t.equal(u32Of(Buffer.alloc(3)), undefined);
  t.equal(stringOf(Buffer.from('ab')), 'ab', 'no NUL');
});

t.test('random bytes break nothing', async (t) => {
  const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 1e6);
  t.comment(`FUZZ_SEED=${seed}`);
  let state = seed || 1;
  const random = (n: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state % n;
  };
  for (let i = 0; i < 20000; i++) {
    const body = Buffer.from(Array.from({ length: random(96) }, () => (random(4) === 0 ? random(256) : random(24))));
    const m = { type: random(64), flags: random(2048), seq: 0, body };
    parseLink(m);
    parseAddress(m);
    parseDefaultRoute(m);
    parseError({ ...m, type: 2 });
    try {
      parseMessages(body);
    } catch (e) {
      if (!(e instanceof AgentError)) throw e;
    }
  }
  t.pass();
});
