/** Initial packets behind others in a datagram: servers read them, so none passes that was not judged. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { ALLOWS, DENIES, FlowBed, hello, nameOf, part, VERDICT, whole } from './flow-bed.js';
import { opaque, TYPES, V1, V2 } from './writer.js';

const bed = new FlowBed();
t.teardown(() => bed.close());

const SHORT = Buffer.alloc(60, 0x45);
const UNKNOWN = Buffer.from('c0ff00001d00000100', 'hex');
const { pass, hold, deny, unreadable } = VERDICT;

t.test('an Initial packet behind another one, in a datagram of an open flow', async (t) => {
  for (const version of [V1, V2])
    for (const type of [TYPES.handshake, TYPES.zeroRtt]) {
      const [to, flow, said] = [randomBytes(8), bed.flow(), hello(DENIES, 900)];
      const [first, second] = [part(said, 0, 500, { to, version }), part(said, 500, 900, { to, version })];
      const front = opaque(type, to, { version });
      const between = opaque(TYPES.handshake, to, { version });
      for (const [what, packets, want] of [
        ['a hello', [whole(hello(ALLOWS), { to: randomBytes(8), version })], pass],
        ['the rest of another one', [front, second], unreadable],
        ['all of it', [front, whole(said, { to, version })], unreadable],
        ['not next to it', [front, between, between, second], unreadable],
        ['behind more packets than are read', [...Array<Buffer>(9).fill(between), second], unreadable],
        ['behind a short header, where none can be', [front, SHORT, second], pass],
        ['no Initial packet', [front, between, SHORT], pass],
        ['padding', [front, Buffer.alloc(30)], pass],
        ['the beginning', [first], pass],
        ['the rest', [front, second], type === TYPES.zeroRtt ? hold : unreadable],
        ['behind another version', [UNKNOWN, second], VERDICT.version],
        ['as it is', [second], deny],
      ] as const)
        t.equal(nameOf(flow.send(Buffer.concat(packets)).verdict), nameOf(want), what);
    }
});
