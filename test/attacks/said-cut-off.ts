import type { Arrival, Attack } from './attack.js';
import { ACK, FIN, PSH } from './craft.js';
import { controlText, forbidText, REQUEST_POLICY, request, Line } from './line.js';

const ENDS = { flags: FIN | ACK | PSH };
const BARE = { flags: FIN | ACK };
const NOTHING = Buffer.alloc(0);

/** Whether it is a segment that ends its sender's side. */
const ends = ({ frame }: Arrival): boolean => {
  const six = frame.readUInt16BE(12) === 0x86dd;
  return ((frame[14 + (six ? 40 : ((frame[14] ?? 0) & 15) * 4) + 13] ?? 0) & FIN) !== 0;
};

export const attack: Attack = {
  name: 'said-cut-off',
  tries: 'Ends its side within the head of a request, which some servers take for the end of the head.',
  policies: () => [REQUEST_POLICY],
  async run(at) {
    // No rule allows it without a Host, or with the headers that have not come yet.
    const part = (text: string) => Buffer.from(`GET /evil?${text} HTTP/1.1\r\n`);
    const once = await Line.open(at);
    await once.send([once.segment(once.seq, part(forbidText(at, 'with its data', ends)), ENDS)]);
    const twice = await Line.open(at);
    const said = part(forbidText(at, 'with its last data', ends));
    await twice.send([twice.segment(twice.seq, said.subarray(0, 5)), twice.segment(twice.seq + 5, said.subarray(5))]);
    await twice.send([twice.segment(twice.seq + 5, said.subarray(5), ENDS)]);
    // The whole of it never arrives.
    const whole = await Line.open(at);
    const text = forbidText(at, 'with a part of what was judged', ends);
    const allowed = Buffer.from(`GET /ok HTTP/1.1\r\nX: ${text}\r\nHost: a\r\n\r\n`);
    await whole.send([whole.segment(whole.seq, allowed, {}, { ttl: 1 })]);
    await whole.send([whole.segment(whole.seq, allowed.subarray(0, allowed.indexOf('Host')), ENDS)]);
    // An end that carries nothing: its options carry the marker.
    const alone = await Line.open(at);
    const half = part('x');
    await alone.send([alone.segment(alone.seq, half)]);
    await alone.answer({ ack: alone.seq + half.length });
    const marker = at.forbid('by itself', ends);
    await alone.send([alone.segment(alone.seq + half.length, NOTHING, { ...BARE, options: option(marker) })]);
    const before = at.forbid('by itself, in the place of a part', ends);
    await alone.send([alone.segment(alone.seq + 8, NOTHING, { ...BARE, options: option(before) })]);

    const control = await Line.open(at);
    await control.send([control.segment(control.seq, request('/ok', controlText(at, 'behind a request')), ENDS)]);
    const later = await Line.open(at);
    await later.send([later.segment(later.seq, request('/ok'))]);
    const kept = at.control('by itself, behind a request', 'wire');
    await later.send([later.segment(later.seq + request('/ok').length, NOTHING, { ...BARE, options: option(kept) })]);
  },
};

/** Of an experimental kind (RFC 4727), 12 bytes. */
function option(marker: Buffer): Buffer {
  return Buffer.concat([Buffer.from([253, 10]), marker, Buffer.from([1, 1])]);
}
