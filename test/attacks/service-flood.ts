import { flood } from '../netns/flood.js';
import type { Attack } from './attack.js';
import { BESIDE, beside, forgetfulTracking, PORTS, servicePackets } from './flood-bed.js';

export const attack: Attack = {
  name: 'service-flood',
  tries: 'Asks Services, with allowed backends on another node and with denied ones, from all of its ports.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    await forgetfulTracking(at);
    const packets = ['all', 'none'].flatMap((name) => servicePackets(at, name));
    await beside(at, async () => {
      for (const { frame, fields } of packets)
        await flood(at.me.pod.host.netns, frame, fields, { count: 2 * PORTS.many });
    });
  },
};
