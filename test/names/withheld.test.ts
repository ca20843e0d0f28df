/** Records that are withheld (--https-records), where no rule judges queries: what cannot be read does not pass. */
import t from 'tap';
import { nameSettings, NAME_DEFAULTS } from '../../agent/names/settings.js';
import { fragments, tcp as tcpSegment, udp } from '../attacks/craft.js';
import { DnsBed, RESOLVER, withLength } from './bed.js';
import { encodeMessage, FLAGS, TYPES } from './wire.js';

const bed = new DnsBed();
t.teardown(() => bed.close());
const { names } = bed.kernel.programs;
const withhold = (httpsRecords: 'allow' | 'strip' | 'deny') =>
  names.configure(nameSettings({ ...NAME_DEFAULTS, httpsRecords }, 2));
const query = (type: number = TYPES.HTTPS) =>
  encodeMessage({ id: 1, flags: 0x0100, questions: [{ name: 'api.example.com', type }] });
const LINKS = {
  4: Buffer.from('0200000000020200000000010800', 'hex'),
  6: Buffer.from('02000000000202000000000186dd', 'hex'),
};

function send(packet: Buffer): { passes: boolean; told: string[] } {
  bed.kernel.forget();
  const { verdict, events } = bed.kernel.run(Buffer.concat([LINKS[(packet[0] ?? 0) >> 4 === 4 ? 4 : 6], packet]));
  return { passes: verdict === 'allow', told: events.filter((e) => e.verdict === 'deny').map((e) => e.reason) };
}

const REFUSED = { passes: false, told: ['unreadable-query'] };
const PASSES = { passes: true, told: [] };

for (const dst of [RESOLVER, '2001:db8::53']) {
  const src = bed.address(dst);
  t.test(`to ${dst}`, async (t) => {
    t.teardown(() => withhold('allow'));
    for (const mode of ['allow', 'strip', 'deny'] as const) {
      withhold(mode);
      const expected = mode === 'allow' ? PASSES : REFUSED;
      for (const [cut, what] of [
        [8, 'a header alone'],
        [24, 'within the question'],
      ] as const) {
        const [first] = fragments({ src, dst, id: 7 }, udp(bed.port(), 53, query()), [0, cut]) as [Buffer];
        t.same(send(first), expected, `${mode}: ${what}`);
        const [elsewhere] = fragments({ src, dst, id: 7 }, udp(bed.port(), 5353, query()), [0, cut]) as [Buffer];
        t.same(send(elsewhere), PASSES, `${mode}: to another port`);
      }
      const segment = tcpSegment(bed.port(), 53, withLength(query()), { flags: FLAGS.ACK, seq: 1, ack: 1 });
      const [part] = fragments({ src, dst, id: 8 }, segment, [0, 24]) as [Buffer];
      t.equal(send(part).passes, mode === 'allow', `${mode}: a segment in fragments`);
      const c = bed.connect(dst);
      bed.kernel.forget();
      t.equal(c.segment('fromPod', 0, withLength(query())), mode === 'allow', `${mode}: whose beginning nobody saw`);
      t.ok(c.segment('fromPod', 0, Buffer.alloc(0)), 'without data');
    }
  });
}

t.test('the rest of such a datagram', async (t) => {
  withhold('strip');
  t.teardown(() => withhold('allow'));
  const pieces = fragments({ src: bed.address(RESOLVER), dst: RESOLVER, id: 9 }, udp(bed.port(), 53, query()), [0, 24]);
  const verdicts = pieces.map((piece) => bed.kernel.run(Buffer.concat([LINKS[4], piece])).verdict);
  t.same(verdicts, ['deny', 'deny']);
});

t.test('a query over several segments', async (t) => {
  withhold('strip');
  t.teardown(() => withhold('allow'));
  for (const [type, passes] of [
    [TYPES.HTTPS, false],
    [TYPES.A, true],
  ] as const) {
    const c = bed.connect();
    const message = withLength(query(type));
    t.ok(c.segment('fromPod', 0, message.subarray(0, 9)));
    const out = c.sent(9, message.subarray(9));
    t.equal(out.equals(message.subarray(9)), passes, 'its last part');
  }
});
