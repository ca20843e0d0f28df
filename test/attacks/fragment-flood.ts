import { flood } from '../netns/flood.js';
import { type Pod, servers } from '../netns/world.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { eth, fragments, IPV4, udp } from './craft.js';
import { AT4, BESIDE, beside } from './flood-bed.js';

const IDS = 65_536;
/** Bytes: for all of them. */
const REASSEMBLY = 2 ** 28;
/** A datagram of the neighbour's whose pieces come seconds apart. */
const ALLOWED_PORT = 7101;

export const attack: Attack = {
  name: 'fragment-flood',
  tries:
    'Sends first fragments of so many datagrams that those of a neighbour’s are forgotten, and its last ones dropped.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const one = at.address('one');
    const frame = at.link(
      fragments({ src: at.own, dst: one, id: 1 }, udp(9000, 53, Buffer.alloc(64)), [0, 32])[0] as Buffer,
    );
    const ids = { at: AT4.id, many: IDS, sums: [AT4.sum] };
    // What a kernel has room for to put datagrams together is one for all: neither the node's nor the receiver's is to be the judge.
    for (const host of [at.bed.world.node, at.bed.world.internet])
      await host.run('sysctl', ['-qw', `net.ipv4.ipfrag_high_thresh=${REASSEMBLY}`]);
    await beside(at, async (neighbour) => {
      const [first, last] = await pieces(at, neighbour);
      const arrived = await whole(neighbour);
      await neighbour.host.call('frames', { frames: [first.toString('hex')] });
      await flood(at.me.pod.host.netns, frame, [ids, { at: AT4.sport, first: 9000, many: 4 }], { count: 4 * IDS });
      await neighbour.host.call('frames', { frames: [last.toString('hex')] });
      if (!(await arrived())) at.wrong('a neighbour’s datagram in two pieces does not arrive');
    });
  },
};

async function pieces(at: At, neighbour: Pod): Promise<[Buffer, Buffer]> {
  const { macSource, macDestination } = await at.bed.world.macs(neighbour);
  const fields = { src: neighbour.ip4, dst: servers.one.ip4, id: 4711 };
  const both = fragments(fields, udp(9009, ALLOWED_PORT, Buffer.from('in pieces'.padEnd(64))), [0, 32]);
  return both.map((packet) => eth({ src: macSource, dst: macDestination }, IPV4, packet)) as [Buffer, Buffer];
}

/** Whether a datagram is answered, as seen where the neighbour's frames are. */
async function whole(neighbour: Pod): Promise<() => Promise<boolean>> {
  const sniffer = await neighbour.host.sniff();
  const answer = Buffer.from('in pieces').toString('hex');
  return async () => {
    for (let i = 0; i < 20; i++) {
      if ((await sniffer.frames()).some((f) => f.startsWith('in ') && f.includes(answer))) return true;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return false;
  };
}
