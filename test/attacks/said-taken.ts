import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { At } from './at.js';
import type { Attack } from './attack.js';
import type { Actor } from './bed.js';
import { controlText, forbidText, Line, request, SAID_POLICY } from './line.js';

/** A buffer that is held for longer may be taken. */
const OLD_MS = 10_500;
/** More than an endpoint may hold. */
const LINES = 140;
const AT_ONCE = 20;

/** The attacker’s neighbour, as one who sends. */
class Neighbour extends At {
  override get me(): Actor {
    return this.colluder;
  }
}

/** An upload of which the peer never has all at once, and the middle of which is lost. @returns what sends it again */
async function upload(at: At, head: string, framing: Buffer): Promise<(data: Buffer) => Promise<void>> {
  const line = await Line.open(at, 80);
  const first = Buffer.concat([
    Buffer.from(`POST /ok HTTP/1.1\r\nHost: a\r\n${head}\r\n\r\n`),
    framing,
    Buffer.alloc(500),
  ]);
  const lost = line.seq + first.length;
  await line.send([line.segment(line.seq, first)]);
  await line.send(line.pieces(lost, Buffer.alloc(4000), 1000));
  await line.answer({ ack: lost });
  return (data) => line.send([line.segment(lost, data)]);
}

const SAME_FOR = (app: string): object => ({
  ...SAID_POLICY,
  metadata: { name: `${app}-says`, namespace: 'default' },
  spec: { ...SAID_POLICY.spec, endpointSelector: { matchLabels: { app } } },
});

export const attack: Attack = {
  name: 'said-taken',
  tries: 'Holds all the memory for what connections say that it can get, so that a neighbour’s uploads lose theirs.',
  styles: ['ptp'],
  alone: true,
  policies: () => [SAME_FOR('attacker'), SAME_FOR('colluder')],
  async run(at) {
    const neighbour = new Neighbour(at.bed, at.style, at.family, at.short);
    at.after(() => neighbour.cleanUp());
    const uploads = {
      'of known length': await upload(neighbour, 'Content-Length: 100000', Buffer.alloc(0)),
      'in chunks': await upload(neighbour, 'Transfer-Encoding: chunked', Buffer.from('ffff\r\n')),
    };
    const lines: Line[] = [];
    while (lines.length < LINES)
      lines.push(...(await Promise.all(Array.from({ length: AT_ONCE }, () => Line.open(at, 80)))));
    await sleep(OLD_MS);
    const begun = request('/ok').subarray(0, 12);
    for (const line of lines) await at.send([line.segment(line.seq, begun)]);
    for (const [what, again] of Object.entries(uploads)) {
      const marker = randomBytes(8);
      await again(Buffer.concat([marker, Buffer.alloc(992)]));
      await sleep(100);
      if ((await at.bed.find([marker])).length === 0) at.wrong(`a neighbour’s upload ${what} cannot go on`);
    }
    for (const [path, text] of [
      ['/evil', forbidText(at, 'what is denied')],
      ['/ok', controlText(at, 'what is allowed')],
    ] as const) {
      const line = await Line.open(neighbour, 80);
      await line.send([line.segment(line.seq, request(path, text))]);
    }
  },
};
