/** bpf/quic.h by itself: Initial packets that node:crypto wrote are read as they were written, and nothing else is. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { TestObject } from './object.js';
import { crypto, initial, padding, V1, V2 } from './writer.js';

const object = new TestObject('quic');
t.teardown(() => object.close());
const run = object.program('read_datagram');
const stream = object.map('quic_stream');

t.test('x', async (t) => {
  const to = randomBytes(8);
  const hello = randomBytes(300);
  for (const version of [V1, V2]) {
    const packet = initial(crypto(0, hello), { to, version, padTo: 1200 });
    const r = run(packet, [1]);
    t.equal(r.retval, 0);
    t.same(r.cb.slice(1, 4), [0, 300, 300]);
    console.error(run(packet, [1], { repeat: 10000 }).durationNs, run(packet, [0], { repeat: 10000 }).durationNs);
  }
});
