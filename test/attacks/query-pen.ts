import { setTimeout as sleep } from 'node:timers/promises';
import { cnpNames, egressPolicy, toServer } from '../netns/policies.js';
import type { At } from './at.js';
import type { Arrival, Attack } from './attack.js';
import { RESOLVER } from './bed.js';
import { CHECKSUMS, vnetHeader, written } from './checksum-pen.js';
import { ACK, ip, PSH, SYN, tcp, type Transport, udp } from './craft.js';
import { A, framed, query } from './dns.js';

const STEP_MS = 15;
const HEADER = 12;

/** What two bytes of an allowed query become, how far behind the message's beginning, and how that is seen in a message. */
const PENS: readonly { what: string; at: number; value: number; seen: (message: Buffer) => boolean }[] = [
  // A name may begin `[2]aa[4]good…`: its bytes and the lengths of its labels are written alike.
  { what: 'another name', at: HEADER + 5, value: 0x6f6c, seen: (m) => m.includes('gold') },
  { what: 'another kind of request', at: 2, value: 5 << 11, seen: (m) => (m.readUInt16BE(2) & 0x7800) === 5 << 11 },
  { what: 'two questions', at: 4, value: 2, seen: (m) => m.readUInt16BE(4) === 2 },
  { what: 'a zone transfer', at: HEADER + 14, value: 252, seen: (m) => m.readUInt16BE(HEADER + 14) === 252 },
];

/** `aa.good.test` as a question, a marker, and two bytes of ink. */
function message(marker: Buffer): Buffer {
  return Buffer.concat([query({ id: 7, name: 'aa.good.test', type: A }), marker, Buffer.alloc(2)]);
}

/** A connection to the resolver by hand. @returns its port */
async function connect(at: At): Promise<number> {
  const [to, port] = [RESOLVER[at.family], at.port()];
  const table = at.family === 4 ? 'iptables' : 'ip6tables';
  const rule = ['-p', 'tcp', '--tcp-flags', 'RST', 'RST', '--sport', String(port), '-j', 'DROP'];
  await at.me.pod.host.run(table, ['-w', '-I', 'OUTPUT', ...rule]);
  at.after(() => at.me.pod.host.run(table, ['-w', '-D', 'OUTPUT', ...rule], { check: false }));
  await at.send([at.frame(to, tcp(port, 53, Buffer.alloc(0), { flags: SYN, seq: 1000 }))]);
  await sleep(STEP_MS);
  const synAck = tcp(53, port, Buffer.alloc(0), { flags: SYN | ACK, seq: 9000, ack: 1001 });
  await at.bed.fromInternet(at.own, ip({ src: to, dst: at.own }, synAck));
  await sleep(STEP_MS);
  await at.send([at.frame(to, tcp(port, 53, Buffer.alloc(0), { flags: ACK, seq: 1001, ack: 9001 }))]);
  return port;
}

export const attack: Attack = {
  name: 'query-pen',
  tries: 'Has the kernel fill in a checksum where the name of a DNS query stood, after that was judged.',
  policies: () => [
    {
      ...cnpNames('attacker-queries', 'attacker', [], []),
      spec: {
        endpointSelector: { matchLabels: { app: 'attacker' } },
        egress: [
          {
            toCIDR: [`${RESOLVER[4]}/32`, `${RESOLVER[6]}/128`],
            toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '**.good.test' }] } }],
          },
        ],
      },
    },
    egressPolicy('attacker', 'attacker', [toServer('one', 'udp/53')]),
  ],
  async run(at) {
    await at.bed.nodeProgram(CHECKSUMS, { device: 'eth0', on: 0 });
    at.after(() => at.bed.nodeProgram(CHECKSUMS, { device: 'eth0', on: 1 }));
    const to = RESOLVER[at.family];
    const l4 = 14 + (at.family === 4 ? 20 : 40);
    const segment = (port: number, data: Buffer): Transport =>
      tcp(port, 53, data, { flags: ACK | PSH, seq: 1001, ack: 9001 });
    for (const how of ['datagram', 'segment'] as const) {
      const begin = l4 + (how === 'datagram' ? 8 : 22);
      const frame = async (marker: Buffer) =>
        how === 'datagram'
          ? at.frame(to, udp(at.port(), 53, message(marker)))
          : at.frame(to, segment(await connect(at), framed(message(marker))));
      for (const { what, at: place, value, seen } of PENS) {
        for (const [from, start] of [
          ['from the header', l4],
          ['from the message', begin],
        ] as const) {
          const arrives = (a: Arrival) => a.frame.length > begin + 30 && seen(a.frame.subarray(begin));
          const marker = at.forbid(`${what}, in a ${how}, ${from}`, arrives);
          await at.send([written(await frame(marker), start, begin + place, value)], { vnet: true });
        }
      }
      // What ordinary sockets ask for passes.
      const control = await frame(at.control(`a query in a ${how}, with the checksum that it has`, 'wire'));
      const own = vnetHeader({ flags: 1, start: l4, offset: how === 'datagram' ? 6 : 16 });
      await at.send([Buffer.concat([own, control])], { vnet: true });
    }
  },
};
