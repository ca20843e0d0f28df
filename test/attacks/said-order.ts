import type { Attack } from './attack.js';
import { ACK, PSH, RST, SYN } from './craft.js';
import { EVIL, GOOD, hello, SAID_POLICY, Line } from './line.js';

const URG = 32;
const NOTHING = Buffer.alloc(8);

export const attack: Attack = {
  name: 'said-order',
  tries: 'Says another server name out of order, before the handshake, in a SYN, as urgent data, in fragments.',
  policies: () => [SAID_POLICY],
  async run(at) {
    const evil = (what: string) => hello(EVIL, at.forbid(what));
    const order = await Line.open(at);
    const late = evil('its second half first');
    await order.send([
      order.segment(order.seq + 60, late.subarray(60)),
      order.segment(order.seq, late.subarray(0, 60)),
    ]);
    const far = hello(GOOD, NOTHING);
    await order.send([order.segment(order.seq + far.length, evil('behind a hello that comes later'))]);

    const early = await Line.closed(at);
    await early.send([early.segment(early.seq, evil('without a handshake'))]);
    await early.send([early.segment(early.seq - 1, Buffer.alloc(0), { flags: SYN })]);
    await early.send([early.segment(early.seq, evil('before the server has accepted it'))]);
    await early.answer({ flags: SYN | ACK, seq: 9000, ack: early.seq + 5 });
    await early.send([early.segment(early.seq, evil('when the server has accepted another one'))]);

    for (const [what, flags] of [
      ['SYN', SYN],
      ['SYN and PSH', SYN | PSH],
      ['SYN and ACK', SYN | ACK],
      ['SYN and RST', SYN | RST],
    ] as const) {
      const line = await Line.closed(at);
      await line.send([line.segment(line.seq - 1, evil(`in a ${what}`), { flags })]);
      await line.send([line.segment(line.seq - 1, hello(GOOD, at.forbid(`an allowed one in a ${what}`)), { flags })]);
    }
    for (const flags of [URG | ACK, URG | ACK | PSH]) {
      const line = await Line.open(at);
      await line.send([line.segment(line.seq, evil('as urgent data'), { flags })]);
    }
    // The second SYN is another connection's: what the first said does not count.
    const twice = await Line.open(at);
    await twice.send([twice.segment(twice.seq, far)]);
    await twice.answer({ ack: twice.seq + far.length });
    await twice.send([twice.segment(twice.seq + far.length, Buffer.from([23, 3, 3, 0, 1, 0]))]);
    await twice.answer({ ack: twice.seq + far.length + 6 });
    await twice.handshake(500_001);
    await twice.send([twice.segment(500_001, evil('after a second SYN'))]);
    await twice.send([twice.segment(twice.seq + far.length + 6, at.forbid('on the first one, after that'))]);
    // The last data of a flow that was reset begins no other one.
    const reset = await Line.open(at);
    await reset.send([
      reset.segment(reset.seq, far),
      reset.segment(reset.seq + far.length, Buffer.alloc(0), { flags: RST }),
    ]);
    await reset.send([reset.segment(reset.seq + far.length, evil('after a reset'))]);

    const fragmented = await Line.open(at);
    const whole = evil('in fragments');
    await fragmented.send([
      fragmented.segment(fragmented.seq, whole.subarray(0, 64 - 20), {}, { more: true, id: 77 }),
      fragmented.segment(fragmented.seq, whole, {}, { offset: 64, id: 77 }),
    ]);

    const control = await Line.open(at);
    const said = hello(GOOD, at.control('in order, at last', 'wire'));
    await control.send([control.segment(control.seq + 60, said.subarray(60))]);
    await control.send([
      control.segment(control.seq, said.subarray(0, 60)),
      control.segment(control.seq + 60, said.subarray(60)),
    ]);
  },
};
