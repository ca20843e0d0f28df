/** Answers in IP fragments: the first becomes a truncated answer, so that the client asks over TCP; the others are dropped. */
import t, { type Test } from 'tap';
import type { FlowEvent } from '../../src/flow/event/types.js';
import { fragments, type IpFields, udp } from '../attacks/craft.js';
import { checksum } from '../netns/frames.js';
import { DnsBed, RESOLVER } from './bed.js';
import { a, addressBytes, be16, be32, encodeMessage, TYPES } from './wire.js';

const bed = new DnsBed();
t.teardown(() => bed.close());

const RESOLVERS = { 4: RESOLVER, 6: '2001:db8::53' } as const;
const NAME = 'Many.Example.com';
const questions = [{ name: NAME, type: TYPES.A }];
const query = (id: number) => encodeMessage({ id, flags: 0x0100, questions });
const answers = Array.from({ length: 100 }, (_, i) => a(NAME, `192.0.2.${i}`));
const whole = (id: number, flags = 0x85a0) => encodeMessage({ id, flags, questions, answers });

const ETHERNET = {
  4: Buffer.from('0200000000010200000000020800', 'hex'),
  6: Buffer.from('02000000000102000000000286dd', 'hex'),
};
/** Over an interface that is nobody's: what has come in by none is the node's own. */
const CAME = 77;

interface Outcome {
  passes: boolean;
  out: Buffer;
  events: FlowEvent[];
}

function deliver(packet: Buffer): Outcome {
  const family = packet[0] === undefined || packet[0] >> 4 === 4 ? 4 : 6;
  const frame = Buffer.concat([ETHERNET[family], packet]);
  const { verdict, events, out } = bed.kernel.run(frame, 'toPod', CAME);
  return { passes: verdict === 'allow', out: Buffer.from(out.subarray(14)), events };
}

/** The pieces of a message from the resolver, cut at these bytes of the datagram. */
function pieces(family: 4 | 6, message: Buffer, dport: number, cuts: readonly number[], more: Partial<IpFields> = {}) {
  const src = RESOLVERS[family];
  return fragments({ src, dst: bed.address(src), id: dport, ...more }, udp(53, dport, message), cuts);
}

/** Header and datagram of a whole packet, whose sums are right. */
function opened(t: Test, family: 4 | 6, packet: Buffer): { message: Buffer; ports: number[] } {
  const header = family === 4 ? 20 : 40;
  const l4 = packet.subarray(header);
  if (family === 4) {
    t.equal(checksum(packet.subarray(0, 20)), 0, "the header's sum");
    t.equal(packet.readUInt16BE(2), packet.length, 'its length');
    t.equal(packet.readUInt16BE(6) & 0x3fff, 0, 'it is no fragment');
    t.equal(packet[0], 0x45);
  } else {
    t.equal(packet.readUInt16BE(4), l4.length, 'its length');
    t.equal(packet[6], 17, 'it is no fragment');
  }
  const src = RESOLVERS[family];
  const pseudo = [addressBytes(src), addressBytes(bed.address(src)), be32(l4.length), be32(17)];
  t.equal(checksum(Buffer.concat([...pseudo, l4])), 0, "the datagram's sum");
  t.equal(l4.readUInt16BE(4), l4.length);
  return { message: l4.subarray(8), ports: [l4.readUInt16BE(0), l4.readUInt16BE(2)] };
}

const reasons = (events: readonly FlowEvent[]) => events.filter((e) => e.verdict === 'deny').map((e) => e.reason);

for (const family of [4, 6] as const) {
  t.test(`IPv${family}`, async (t) => {
    bed.forget();
    t.beforeEach(() => bed.kernel.forget());
    const asked = (id: number) => {
      const port = bed.port();
      t.ok(bed.send(query(id), port, RESOLVERS[family]));
      return port;
    };

    for (const [how, more] of [
      ['plain', {}],
      [
        'with options',
        family === 4 ? { options: Buffer.alloc(8, 1) } : { extensions: [[60, Buffer.alloc(8)]] as const },
      ],
    ] as const) {
      await t.test(how, async (t) => {
        const port = asked(700);
        const [first, ...rest] = pieces(family, whole(700), port, [0, 1176, 1472], more);
        const { passes, out, events } = deliver(first as Buffer);
        t.ok(passes);
        t.same(reasons(events), []);
        const { message, ports } = opened(t, family, out);
        t.same(ports, [53, port]);
        t.same(message, encodeMessage({ id: 700, flags: 0x8780, questions }), 'TC, no records, not authenticated');
        for (const later of rest) t.notOk(deliver(later).passes, 'the others do not pass');
        t.same(bed.learned(), []);
      });
    }

    await t.test('what is told of a later fragment', async (t) => {
      const port = asked(1);
      const [first, later] = pieces(family, whole(1), port, [0, 800]) as [Buffer, Buffer];
      deliver(first);
      t.same(reasons(deliver(later).events), ['fragment']);
    });

    await t.test('a question that ends with the fragment', async (t) => {
      const name = 'x'.repeat(63);
      const one = [{ name: `${name}.${name.slice(0, 39)}`, type: TYPES.A }];
      const message = encodeMessage({ id: 3, questions: one, answers, compress: false });
      const end = 8 + 12 + 105 + 4;
      const port = bed.port();
      bed.send(encodeMessage({ id: 3, flags: 0x0100, questions: one }), port, RESOLVERS[family]);
      for (const [cut, passes] of [
        [(end >> 3) * 8, end % 8 === 0],
        [((end + 7) >> 3) * 8, true],
      ] as const) {
        const [first] = pieces(family, message, port, [0, cut], { id: cut }) as [Buffer];
        t.equal(deliver(first).passes, passes, `${cut} of ${end} bytes`);
      }
    });

    await t.test('what cannot be answered', async (t) => {
      const port = asked(5);
      for (const [what, message, cut] of [
        ['within its header', whole(5), 16],
        ['within its question', whole(5), 32],
        ['without a question', encodeMessage({ id: 5, answers }), 800],
        ['with two', encodeMessage({ id: 5, questions: [...questions, ...questions], answers }), 800],
        ['with a malformed name', Buffer.concat([be16(5, 0x8180, 1, 9, 0, 0), Buffer.alloc(900, 0xc0)]), 800],
      ] as const) {
        bed.kernel.forget();
        t.ok(bed.send(query(5), port, RESOLVERS[family]));
        const [first, later] = pieces(family, message, port, [0, cut]) as [Buffer, Buffer];
        const outcome = deliver(first);
        t.notOk(outcome.passes, what);
        t.same(reasons(outcome.events), ['unreadable-answer'], what);
        t.notOk(deliver(later).passes, 'nor does the rest');
      }
    });

    await t.test('what nobody asked for stays as it is', async (t) => {
      const port = asked(6);
      for (const message of [whole(7), encodeMessage({ id: 6, questions: [{ name: 'other', type: 1 }], answers })]) {
        for (const piece of pieces(family, message, port, [0, 800])) {
          const { passes, out } = deliver(piece);
          t.ok(passes);
          t.same(out, piece);
        }
      }
      const [first] = pieces(family, whole(6), port + 1, [0, 800]) as [Buffer];
      t.same(deliver(first).out, first, 'to another port');
    });

    await t.test('another datagram with the same id', async (t) => {
      const port = asked(8);
      const [first, later] = pieces(family, whole(8), port, [0, 800], { id: 99 }) as [Buffer, Buffer];
      deliver(first);
      t.notOk(deliver(later).passes);
      for (const piece of pieces(family, whole(9), port, [0, 800], { id: 99 })) t.ok(deliver(piece).passes);
    });
  });
}
