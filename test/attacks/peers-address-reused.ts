import { setTimeout as sleep } from 'node:timers/promises';
import type { Attack } from './attack.js';
import { ACK, ip, IPV4, IPV6, SYN, tcp, udp } from './craft.js';

type Manifest = { metadata: Record<string, unknown> };
let made = 0;

export const attack: Attack = {
  name: 'peers-address-reused',
  tries: 'Goes on answering a peer that is gone, until a denied pod has its address.',
  async run(at) {
    const { world, agent } = at.bed;
    const type = at.family === 4 ? IPV4 : IPV6;
    const name = `reused-${++made}-far`;
    const pod = await world.pod(name, { node: 'b', labels: { app: 'good' } });
    at.after(async () => {
      await world.removePod(pod);
      await agent.settled();
    });
    await at.bed.watch(`bad-${name}`, pod.host.netns, ['eth0']);
    await agent.settled();
    const theirs = at.family === 4 ? pod.ip4 : pod.ip6;
    const [one, two] = [at.port(), at.port()];
    const from = { src: theirs, dst: at.own };
    for (const l4 of [udp(7001, one, Buffer.alloc(8)), tcp(7002, two, Buffer.alloc(0), { flags: SYN })])
      await pod.host.call('frames', { frames: [await at.bed.frameOf(name, ip(from, l4), type)] });
    await at.settle();
    await at.send([
      at.frame(theirs, udp(one, 7001, at.control('answers', `bad-${name}`))),
      at.frame(theirs, tcp(two, 7002, at.control('answers', `bad-${name}`), { flags: SYN | ACK, ack: 1001 })),
    ]);
    await at.settle();
    // Another pod, of another name, in its place.
    const manifest = pod.manifest as Manifest;
    world.pods.delete(`default/${name}`);
    world.writeCluster();
    await agent.settled();
    await sleep(300);
    manifest.metadata.name = `later-${name}`;
    manifest.metadata.uid = `uid-later-${name}`;
    manifest.metadata.labels = { app: 'bad' };
    world.pods.set(`default/${name}`, pod);
    world.writeCluster();
    await agent.settled();
    await sleep(2500);
    await at.send([
      at.frame(theirs, udp(at.port(), 8080, at.forbid('a new flow'))),
      at.frame(theirs, udp(one, 7001, at.forbid('UDP, an answer to who was there before'))),
      at.frame(
        theirs,
        tcp(two, 7002, at.forbid('TCP, an answer to who was there before'), { flags: ACK, seq: 1001, ack: 1001 }),
      ),
    ]);
  },
};
