import type { Attack } from './attack.js';
import { controlText, forbidText, REQUEST_POLICY, request, Line } from './line.js';

const AGREES = Buffer.from('HTTP/1.1 101 Switching Protocols\r\n\r\n');
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export const attack: Attack = {
  name: 'said-other-protocols',
  tries: 'Asks for a protocol that carries requests in another form, which a server grants; then sends others in it.',
  policies: () => [REQUEST_POLICY],
  async run(at) {
    const open = async (...headers: string[]) => {
      const up = request('/up', undefined, 'Connection: Upgrade, HTTP2-Settings', ...headers);
      const line = await Line.open(at);
      await line.send([line.segment(line.seq, up)]);
      await line.answer({ ack: line.seq + up.length, data: AGREES });
      return { line, seq: line.seq + up.length };
    };
    for (const [what, ...headers] of [
      ['h2c', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA'],
      ['h2c in a list', 'Upgrade: websocket, H2C'],
      ['h2c in a line of its own', 'Upgrade: h2c', 'Upgrade: websocket'],
      ['TLS', 'Upgrade: TLS/1.2'],
    ] as const) {
      const { line, seq } = await open(...headers);
      const text = Buffer.from(forbidText(at, what));
      await line.send([line.segment(seq, Buffer.concat([PREFACE, text]))]);
      await line.send([line.segment(seq + PREFACE.length, text)]);
    }
    const { line, seq } = await open('Upgrade: websocket');
    await line.send([line.segment(seq, Buffer.from(controlText(at, 'what carries no requests')))]);
  },
};
