import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { eth, IPV4, IPV6, ip, tcp, udp } from './craft.js';

let made = 0;

export const attack: Attack = {
  name: 'no-address-yet',
  tries: 'Starts before its object shows an address, and goes through Services, in its own name and in others’.',
  async run(at) {
    const { world, agent } = at.bed;
    const type = at.family === 4 ? IPV4 : IPV6;
    const name = `young-${++made}`;
    const pod = await world.podNamespace(name, { style: at.style, labels: { app: 'attacker' } });
    const manifest = pod.manifest as { status: Record<string, unknown> };
    delete manifest.status.podIP;
    delete manifest.status.podIPs;
    world.pods.set(`default/${name}`, pod);
    world.writeCluster();
    const one = await at.bed.actor(pod);
    at.after(async () => {
      await one.hands.close();
      await world.removePod(pod);
      await agent.settled();
    });
    await agent.settled();
    await sleep(800);
    const frames: Buffer[] = [];
    const sources = [
      one.address(at.family),
      at.address('good-near'),
      at.family === 4 ? '198.51.100.7' : '2001:db8:ffff::7',
    ];
    for (const [n, src] of sources.entries()) {
      const who = ['in its own name', 'as a pod', 'as a stranger'][n] as string;
      for (let i = 0; i < 12; i++) {
        const marker = at.forbid(`${who}, to a Service`, at.atDenied);
        for (const l4 of [udp(at.port(), 80, marker), tcp(at.port(), 80, marker)])
          frames.push(eth(one.link, type, ip({ src, dst: at.address('some') }, l4)));
      }
      for (const to of at.denied)
        frames.push(
          eth(one.link, type, ip({ src, dst: at.address(to) }, udp(at.port(), 8080, at.forbid(`${who}, to ${to}`)))),
        );
      if (n > 0)
        frames.push(
          eth(one.link, type, ip({ src, dst: at.address('one') }, udp(at.port(), 53, at.forbid(`${who}, to one`)))),
        );
    }
    await at.send(frames, {}, one);
    await at.send([at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire')))]);
  },
};
