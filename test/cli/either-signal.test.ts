/** Signals that are sent with the first of several, also after the garbage collector has run. */
import t from 'tap';
import { eitherSignal } from '../../src/either-signal.js';

t.test('the first of them, or the time, sends it', async (t) => {
  const [a, b] = [new AbortController(), new AbortController()];
  const both = eitherSignal([a.signal, b.signal]);
  t.equal(both.signal.aborted, false);
  b.abort();
  t.equal(both.signal.aborted, true);
  both.end();
  t.equal(eitherSignal([b.signal]).signal.aborted, true, 'one that was sent before');
  const timed = eitherSignal([a.signal], 20);
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.equal(timed.signal.aborted, true);
  const ended = eitherSignal([a.signal], 20);
  ended.end();
  a.abort();
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.equal(ended.signal.aborted, false, 'who has let go is not told');
});
