import t from 'tap';
import { Recent } from '../../src/flow/event/recent.js';

const none = Buffer.alloc(0);

t.test('what is asked for stays, what is not goes; never more than two generations', async (t) => {
  let made = 0;
  const recent = new Recent<number, string>((key) => `${key} ${++made}`, 10, 1000);
  for (let key = 0; key < 1000; key++) {
    recent.get(-1, none, 0);
    recent.get(key, none, 0);
    t.ok(recent.size <= 20);
  }
  t.equal(recent.get(-1, none, 0), '-1 1', 'made once, for it was asked for all the time');
  t.equal(recent.get(5, none, 0), '5 1002', 'made again');
});

t.test('few entries, many look-ups: what nobody asks for goes as well', async (t) => {
  const recent = new Recent<number, number>((key) => key, 1000, 50);
  for (let key = 0; key < 20; key++) recent.get(key, none, 0);
  for (let n = 0; n < 100; n++) recent.get(1, none, 0);
  t.ok(recent.size <= 2);
});
