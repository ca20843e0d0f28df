import { randomBytes } from 'node:crypto';
import { encodeHello, makeHello, serverName } from '../said/make.js';
import type { Attack } from './attack.js';
import { udp } from './craft.js';
import { EVIL, FRONT, GOOD } from './line.js';

/** The attacker may say `*.good.test` to the front in QUIC. */
const POLICY = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'attacker-says-in-quic', namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app: 'attacker' } },
    egress: [
      {
        toCIDR: [`${FRONT[4]}/32`, `${FRONT[6]}/128`],
        toPorts: [{ ports: [{ port: '443', protocol: 'ANY' }], serverNames: ['*.good.test'] }],
      },
    ],
  },
} as const;

const ZERO_RTT = 0xd0;
const HANDSHAKE = 0xe0;

/** A packet that servers pass over, since they have no keys for it yet; it carries a marker. */
function front(first: number, to: Buffer, marker: Buffer): Buffer {
  const sealed = Buffer.concat([marker, Buffer.alloc(32, 9)]);
  return Buffer.concat([
    Buffer.from([first, 0, 0, 0, 1, to.length]),
    to,
    Buffer.from([0, 0x40, sealed.length]),
    sealed,
  ]);
}

/** A hello in two datagrams. */
function parts(name: string, to: Buffer): [Buffer, Buffer] {
  const whole = makeHello({ extensions: [serverName(name), [21, Buffer.alloc(600)]] });
  const half = whole.length >> 1;
  return encodeHello(whole, to, [[[0, half]], [[half, whole.length]]], { padTo: 1200 }) as [Buffer, Buffer];
}

export const attack: Attack = {
  name: 'said-behind',
  tries: 'Says another server name in QUIC behind a packet that is not read, where an allowed name was said before.',
  policies: () => [POLICY],
  async run(at) {
    const open = async () => {
      const port = at.port();
      const send = (...datagrams: Buffer[]) =>
        at.send(datagrams.map((data) => at.frame(FRONT[at.family], udp(port, 443, data))));
      await send(...parts(GOOD, randomBytes(8)));
      return send;
    };
    for (const [what, first] of [
      ['a handshake', HANDSHAKE],
      ['early data', ZERO_RTT],
    ] as const) {
      for (const order of ['before', 'behind'] as const) {
        const [send, to] = [await open(), randomBytes(8)];
        const [begin, rest] = parts(EVIL, to);
        const marker = at.forbid(`the rest behind ${what}, ${order} its beginning`);
        const hidden = Buffer.concat([front(first, to, marker), rest]);
        await send(...(order === 'before' ? [hidden, begin] : [begin, hidden]));
      }
    }
    const send = await open();
    await send(
      Buffer.concat([front(HANDSHAKE, randomBytes(8), at.control('a handshake alone', 'wire')), Buffer.alloc(20)]),
    );
  },
};
