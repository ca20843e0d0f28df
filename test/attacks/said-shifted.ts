import type { Attack } from './attack.js';
import { controlText, forbidText, REQUEST_POLICY, request, Line } from './line.js';

const ASKS = ['Upgrade: websocket', 'Connection: Upgrade'];
const AGREES = Buffer.from('HTTP/1.1 101 Switching Protocols\r\n\r\n');
/** What a server says that does not agree, though it repeats what somebody chose. */
const REPEATS = Buffer.concat([Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n'), AGREES]);

export const attack: Attack = {
  name: 'said-shifted',
  tries: 'Lies in its acknowledgement about where the answer to a request to upgrade begins, so that its body counts.',
  policies: () => [REQUEST_POLICY],
  async run(at) {
    const up = request('/up', undefined, ...ASKS);
    const shift = REPEATS.length - AGREES.length;
    for (const [what, decoy, ack] of [
      ['in a segment that arrives', {}, 9001 + shift],
      ['in one that dies on its way', { ttl: 1 }, 9001 + shift],
      ['and is behind', {}, 9001 - 1000],
    ] as const) {
      const line = await Line.open(at);
      await line.send([line.segment(line.seq, up, { ack }, decoy)]);
      await line.send([line.segment(line.seq, up)]);
      await line.answer({ ack: line.seq + up.length, data: REPEATS });
      const evil = request('/evil', forbidText(at, `another request, when it lied ${what}`));
      await line.send([line.segment(line.seq + up.length, evil)]);
    }
    const line = await Line.open(at);
    await line.send([line.segment(line.seq, up.subarray(0, 30))]);
    await line.send([line.segment(line.seq + 30, up.subarray(30))]);
    await line.answer({ ack: line.seq + up.length, data: AGREES });
    const text = controlText(at, 'another protocol, where the server agrees');
    await line.send([line.segment(line.seq + up.length, Buffer.from(text))]);
  },
};
