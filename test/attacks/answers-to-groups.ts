import type { Attack } from './attack.js';
import { eth, IPV4, IPV6, ip, multicastMac, udp } from './craft.js';

export const attack: Attack = {
  name: 'answers-to-groups',
  tries: 'Answers, in the name of a group, what a denied neighbour says to everybody on the link.',
  styles: ['bridge'],
  async run(at) {
    const four = at.family === 4;
    const bad = at.bed.pod('bad-bridge');
    const from = at.address('bad-bridge');
    const to = await at.bed.macOf('bad-bridge');
    const groups = four
      ? ['224.0.0.251', '239.255.255.250', '10.244.2.255', '255.255.255.255']
      : ['ff02::fb', 'ff05::c'];
    const frames: Buffer[] = [];
    for (const group of groups) {
      const broadcast = group.endsWith('255');
      const [theirs, mine] = [at.port(), at.port()];
      const asks = { src: from, dst: group, ttl: 1 };
      const dst = broadcast ? 'ff:ff:ff:ff:ff:ff' : multicastMac(group);
      // As any host asks who is there: mDNS, SSDP, a broadcast.
      const question = eth({ src: to, dst }, four ? IPV4 : IPV6, ip(asks, udp(theirs, mine, Buffer.alloc(8))));
      await bad.host.call('frames', { frames: [question.toString('hex')] });
      await at.settle();
      const straight = at.forbid(`straight, as ${group}`);
      const around = at.forbid(`by the gateway, as ${group}`);
      const own = at.forbid(`as itself, asked at ${group}`);
      frames.push(
        at.frame(from, udp(mine, theirs, straight), { src: group }, { dst: to }),
        at.frame(from, udp(mine, theirs, around), { src: group }),
        at.frame(from, udp(mine, theirs, own), {}, { dst: to }),
      );
    }
    // What a bridge does not know where to send, everybody gets.
    const [theirs, mine] = [at.port(), at.port()];
    const other = at.address('good-bridge');
    const lost = ip({ src: from, dst: other }, udp(theirs, mine, Buffer.alloc(8)));
    const flooded = eth({ src: to, dst: '02:00:00:00:00:99' }, four ? IPV4 : IPV6, lost);
    await bad.host.call('frames', { frames: [flooded.toString('hex')] });
    await at.settle();
    const spoofed = at.forbid('as the pod that a flooded frame was for');
    frames.push(at.frame(from, udp(mine, theirs, spoofed), { src: other }, { dst: to }));
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    await at.send(frames);
  },
};
