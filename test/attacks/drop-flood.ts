import { flood } from '../netns/flood.js';
import { until } from '../netns/shell.js';
import type { Attack } from './attack.js';
import { eth, IPV4, ip, raw, udp } from './craft.js';
import { AT4, BESIDE, beside } from './flood-bed.js';

const EACH = 150_000;

export const attack: Attack = {
  name: 'drop-flood',
  tries:
    'Sends what is dropped without a flow, in each way that it knows, so that a neighbour’s drops are not told of.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const { bed } = at;
    const one = at.address('one');
    const body = udp(1, 53, Buffer.alloc(8));
    const frames = [
      at.frame(one, body, { src: '198.51.100.9' }), // a foreign source
      at.frame(one, body, {}, { src: '02:00:00:00:00:99' }), // a foreign MAC
      at.frame(one, body, { length: 4000 }), // longer than it is
      at.frame(at.address('two'), raw(99, Buffer.alloc(8)), { offset: 1480 }), // a later fragment
      at.link(Buffer.alloc(40), {}, 0x1234), // no protocol
    ];
    const drops = async () => {
      for (const frame of frames)
        await flood(at.me.pod.host.netns, frame, [{ at: AT4.id, many: 60_000 }], { count: EACH });
    };
    await beside(at, drops, async (neighbour) => {
      // The neighbour sends one such packet.
      const { macSource, macDestination } = await bed.world.macs(neighbour);
      const foreign = ip({ src: '198.51.100.9', dst: one }, body);
      const bytes = eth({ src: macSource, dst: macDestination }, IPV4, foreign);
      await neighbour.host.call('frames', { frames: [bytes.toString('hex')] });
      const told = () => bed.agent.flows.find((f) => f.type === 'drop' && f.reason.startsWith('spoofed'));
      await until('a neighbour’s drop is told of', told, 5000).catch(() =>
        at.wrong('a neighbour’s drop is not told of'),
      );
    });
  },
};
