import { setTimeout as sleep } from 'node:timers/promises';
import { Host } from '../netns/host.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import type { Actor } from './bed.js';
import { eth, IPV4, IPV6, ip, udp, tcp } from './craft.js';

const NOTICE_MS = 400;
let made = 0;

const GONE = Symbol('gone');
/** In a cluster the interface of such a pod is closed: test/netns/identity.test.ts. */
const LIMIT = 'whoever writes the manifests';
const RELEASED = ['phase Failed', 'phase Succeeded', 'its object is gone'];

type Manifest = { metadata: Record<string, unknown>; status: Record<string, unknown>; spec: Record<string, unknown> };

async function podOf(at: At, named: boolean): Promise<Actor> {
  const { world, agent } = at.bed;
  const name = `ending-${++made}`;
  const host = named ? undefined : await Host.create(`${world.prefix}-e${made}`);
  const pod = await world.pod(name, { style: at.style, labels: { app: 'attacker' }, host });
  const actor = await at.bed.actor(pod);
  at.after(async () => {
    await actor.hands.close();
    await world.removePod(pod);
    await at.bed.agent.settled();
  });
  await agent.settled();
  await agent.enforced(`default/${name}`);
  return actor;
}

export const attack: Attack = {
  name: 'pods-that-end',
  tries:
    'Goes on sending when its object says that it has ended, is another one, or is gone, while its processes live.',
  async run(at) {
    const { world, agent } = at.bed;
    const type = at.family === 4 ? IPV4 : IPV6;
    const ways: readonly (readonly [string, (pod: Manifest) => unknown])[] = [
      ['phase Failed', (m) => (m.status.phase = 'Failed')],
      ['phase Succeeded', (m) => (m.status.phase = 'Succeeded')],
      ['terminating', (m) => (m.metadata.deletionTimestamp = '2026-01-01T00:00:00Z')],
      ['its object is gone', () => GONE],
      [
        'no address any more',
        (m) => {
          delete m.status.podIP;
          delete m.status.podIPs;
        },
      ],
      ['another UID', (m) => (m.metadata.uid = `uid-other-${made}`)],
    ];
    for (const [name, change] of at.short ? ways.slice(0, 4) : ways) {
      const one = await podOf(at, made % 2 === 0);
      const own = one.address(at.family);
      if (name === ways[0]?.[0]) {
        const control = at.control('while it runs', 'wire');
        await at.send(
          [eth(one.link, type, ip({ src: own, dst: at.address('one') }, udp(at.port(), 53, control)))],
          {},
          one,
        );
      }
      if (change(one.pod.manifest as Manifest) === GONE) world.pods.delete(`default/${one.pod.name}`);
      world.writeCluster();
      await agent.settled();
      await sleep(NOTICE_MS);
      const frames: Buffer[] = [];
      for (const to of at.denied) {
        const marker = RELEASED.includes(name)
          ? at.measure(`${name}, to ${to}`, LIMIT)
          : at.forbid(`${name}, to ${to}`);
        for (const l4 of [udp(at.port(), 8080, marker), tcp(at.port(), 8080, marker)])
          frames.push(eth(one.link, type, ip({ src: own, dst: at.address(to) }, l4)));
      }
      await at.send(frames, {}, one);
    }
  },
};
