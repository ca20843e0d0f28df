import t from 'tap';
import { ReleasedAddresses } from '../../agent/events/released-addresses.js';
import { parseAddr } from '../../src/net/addr.js';
import { pod, snapshotOf } from '../policy/world.js';

const key = (ip: string) => Buffer.from(parseAddr(ip).bytes);
const pods = (...docs: string[]) => snapshotOf(docs.join('')).pods;

t.test('an address that its pod has left is looked for in what began before', async (t) => {
  let now = 100;
  const peers = new ReleasedAddresses(() => now);
  const [one, two] = [pod('default/one', ['10.1.0.1', 'fd00::1'], {}), pod('default/two', ['10.1.0.2'], {})];
  peers.update(pods(one, two));
  t.notOk(peers.hasReleased, 'who comes has left nothing');
  now = 200;
  peers.update(pods(two));
  t.ok(peers.isReleased(key('10.1.0.1'), 0, 150));
  t.ok(peers.isReleased(key('fd00::1'), 0, 199));
  t.notOk(peers.isReleased(key('10.1.0.1'), 0, 201), 'what the next one has opened is its own');
  t.notOk(peers.isReleased(key('10.1.0.2'), 0, 150), 'who is there keeps its own');
  peers.endPass();
  t.ok(peers.hasReleased, 'a pass may have been under way');
  peers.endPass();
  t.notOk(peers.hasReleased);
});

t.test('another pod of the same name, and one that ended, have left theirs', async (t) => {
  const peers = new ReleasedAddresses(() => 100);
  peers.update(pods(pod('default/one', ['10.1.0.1'], {})));
  peers.update(pods(pod('default/one', ['10.1.0.3'], {})));
  t.ok(peers.isReleased(key('10.1.0.1'), 0, 50));
  t.notOk(peers.isReleased(key('10.1.0.3'), 0, 50));
});
