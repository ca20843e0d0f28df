import { flood } from '../netns/flood.js';
import type { Attack } from './attack.js';
import { ip, SYN, tcp } from './craft.js';
import { AT4, BESIDE, beside, manyFlows, PORTS, TWICE } from './flood-bed.js';

const SENDERS = 250;

export const attack: Attack = {
  name: 'syn-flood',
  tries: 'Is called by many hosts outside that never go on, so that a neighbour’s connections are forgotten.',
  styles: ['ptp'],
  families: [4],
  alone: true,
  policies: () => BESIDE,
  async run(at) {
    const { bed } = at;
    const port = at.port();
    // It listens: who calls is answered, and not refused.
    await at.me.program("s = socket.socket(socket.AF_INET6); s.bind(('::', port)); s.listen(); kept[port] = s", {
      port,
    });
    at.after(() => at.me.program('kept.pop(port).close()', { port }));
    const packet = ip({ src: '198.51.100.1', dst: at.own }, tcp(1, port, Buffer.alloc(0), { flags: SYN }));
    const frame = await bed.outsideFrame(packet);
    const fields = [
      TWICE[4],
      { at: AT4.sport, ...PORTS, sums: [AT4.tcpSum] },
      { at: AT4.src + 2, first: 0x6401, many: SENDERS, sums: [AT4.tcpSum, AT4.sum] },
    ];
    await beside(at, () =>
      flood(bed.world.internet.netns, frame, fields, { count: 2 * manyFlows(at, 1.8), device: 'to-a' }),
    );
  },
};
