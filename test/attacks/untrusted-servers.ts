import { setTimeout as sleep } from 'node:timers/promises';
import { cnpNames, egressPolicy, toServer } from '../netns/policies.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { OPEN, RESOLVER } from './bed.js';
import { extension, fragments, ip, sealed, type Transport, udp } from './craft.js';
import { A, AAAA, answer, query } from './dns.js';

const STEP_MS = 15;
let names = 0;

/** Packets that say that they are from the server, in ways in which their port may not be seen. */
const WAYS: readonly { how: string; families?: readonly number[]; make: (f: Fields, l4: Transport) => Buffer[] }[] = [
  { how: 'plainly', make: (f, l4) => [ip(f, l4)] },
  { how: 'in fragments', make: (f, l4) => fragments({ ...f, id: f.id }, l4, [0, 24]) },
  {
    how: 'its ports in the second fragment',
    families: [6],
    make(f, l4) {
      const whole = Buffer.concat([Buffer.from([17, 0]), extension(0).subarray(2), sealed(f.src, f.dst, l4)]);
      const piece = (from: number, to: number) =>
        ip({ ...f, offset: from, more: to < whole.length }, { protocol: 60, asIs: whole.subarray(from, to) });
      return [piece(0, 8), piece(8, whole.length)];
    },
  },
  {
    how: 'behind many headers',
    families: [6],
    make: (f, l4) => [ip({ ...f, extensions: Array.from({ length: 9 }, () => [60, extension(0)] as const) }, l4)],
  },
];

interface Fields {
  src: string;
  dst: string;
  id: number;
}

interface Forgery {
  server: string;
  what: string;
  way: (typeof WAYS)[number];
  /** Brings the packets on their way. */
  send: (packets: readonly Buffer[]) => Promise<unknown>;
}

/** The attacker asks, somebody answers, and the attacker uses the address. */
async function forge(at: At, { server, what, way, send }: Forgery): Promise<void> {
  const n = ++names;
  const name = `h${n}.good.test`;
  const type = at.family === 4 ? A : AAAA;
  const address = at.family === 4 ? `198.51.100.${n % 250}` : `2001:db8:51::1:${(n % 250).toString(16)}`;
  const [id, port] = [1000 + n, at.port()];
  await at.send([at.frame(server, udp(port, 53, query({ id, name, type })))]);
  await sleep(STEP_MS);
  await send(way.make({ src: server, dst: at.own, id }, udp(53, port, answer({ id, name, type, address }))));
  await sleep(STEP_MS);
  const marker = at.forbid(what);
  await at.send([at.frame(address, udp(at.port(), 8080, marker))]);
}

export const attack: Attack = {
  name: 'untrusted-servers',
  tries:
    'Asks servers that a filter of queries lets it ask without naming them: its own, or its neighbour in their name.',
  policies: () => [
    cnpNames('attacker-names', 'attacker', ['*.good.test'], ['0.0.0.0/0', '::/0']),
    egressPolicy('attacker', 'attacker', [toServer('one', 'udp/53')]),
  ],
  async run(at) {
    const { actors } = at.bed;
    const called = `bad-${at.style}`;
    const free = actors.get(called) ?? (await at.bed.actor(at.bed.pod(called)));
    actors.set(called, free); // the bed lets go of its hands
    const [trusted, judged] = [RESOLVER[at.family], OPEN[at.family]];
    const [plain] = WAYS as [(typeof WAYS)[number]];
    const outside = async (packets: readonly Buffer[]) => {
      for (const packet of packets) await at.bed.fromInternet(at.own, packet);
    };
    await forge(at, { server: judged, what: 'by a server of its own that it may ask', way: plain, send: outside });
    const links = [
      ['by the gateway', free.link.dst],
      ...(at.style === 'bridge' ? [['straight', at.me.link.src] as const] : []),
    ] as const;
    for (const way of WAYS.filter(({ families }) => families?.includes(at.family) ?? true)) {
      for (const [link, dst] of links) {
        const send = (packets: readonly Buffer[]) =>
          at.send(
            packets.map((packet) => at.link(packet, { ...free.link, dst })),
            {},
            free,
          );
        for (const [who, server] of [
          ['a trusted resolver', trusted],
          ['a server that it may ask', judged],
        ] as const)
          await forge(at, { server, what: `in the name of ${who}, ${way.how}, ${link}`, way, send });
      }
    }
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire')))]);
  },
};
