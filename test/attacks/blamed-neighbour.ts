import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { tcp, udp } from './craft.js';

export const attack: Attack = {
  name: 'blamed-neighbour',
  tries: 'Has itself denied behind a host port, so that the answer stands in the log as a packet of its neighbour’s.',
  styles: ['ptp'],
  async run(at) {
    const { bed } = at;
    const victim = bed.pod('attacker-bridge');
    const theirs = at.family === 4 ? victim.ip4 : victim.ip6;
    const since = bed.agent.flows.length;
    for (const proto of ['udp', 'tcp'])
      at.after(await bed.translate(at.family, at.address('a'), proto, 8401, theirs, 8080));
    await at.send([
      at.frame(at.address('a'), udp(at.port(), 8401, Buffer.alloc(64))),
      at.frame(at.address('a'), tcp(at.port(), 8401, Buffer.alloc(0))),
    ]);
    await sleep(500);
    for (const f of bed.agent.flows.slice(since))
      if (f.local.ip === theirs && f.verdict === 'deny')
        at.wrong(`the log says that the neighbour sent: ${f.protocol} to ${f.remote.ip} ${f.reason}`);
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire')))]);
  },
};
