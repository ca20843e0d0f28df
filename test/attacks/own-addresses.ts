import { setTimeout as sleep } from 'node:timers/promises';
import { Host } from '../netns/host.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { Actor } from './bed.js';
import { eth, type IpFields, IPV4, IPV6, ip, tcp, udp } from './craft.js';

/** Long enough for the agent to have seen what happened in the pod’s namespace, and acted. */
const NOTICE_MS = 500;
let made = 0;

/** A pod that the agent finds by its address alone: nothing names its namespace. */
async function podByAddress(at: At, app: string): Promise<Actor> {
  const { world, agent } = at.bed;
  const name = `${app}-by-address-${++made}`;
  const host = await Host.create(`${world.prefix}-x${made}`);
  const pod = await world.pod(name, { style: at.style, labels: { app }, host });
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
  name: 'own-addresses',
  tries:
    'Takes its own addresses away, takes its neighbours’, changes its MAC, so that it is somebody else, or nobody.',
  async run(at) {
    const type = at.family === 4 ? IPV4 : IPV6;
    const frames = async (who: Actor, variant: string, fields: Partial<IpFields> = {}, link = who.link) => {
      const all: Buffer[] = [];
      for (const to of at.denied) {
        const dst = at.address(to);
        const marker = at.forbid(`${variant}, to ${to}`);
        for (const l4 of [udp(at.port(), 8080, marker), tcp(at.port(), 8080, marker)])
          all.push(eth(link, type, ip({ src: who.address(at.family), dst, ...fields }, l4)));
      }
      await at.send(all, {}, who);
    };
    const run = (who: Actor, ...args: string[]) => who.pod.host.run('ip', args, { check: false });
    const width = at.family === 4 ? 32 : 128;

    /** The node hears of the pod’s interface when the pod takes it down, and looks again. */
    const noticed = async (who: Actor) => {
      await run(who, 'link', 'set', 'eth0', 'down');
      await run(who, 'link', 'set', 'eth0', 'up');
      await sleep(NOTICE_MS);
    };

    const one = await podByAddress(at, 'attacker');
    const control = at.control('while it has its addresses', 'wire');
    await at.send(
      [eth(one.link, type, ip({ src: one.address(at.family), dst: at.address('one') }, udp(at.port(), 53, control)))],
      {},
      one,
    );
    await run(one, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
    await frames(one, 'just when its addresses are gone');
    await noticed(one);
    await frames(one, 'after its addresses are gone');
    if (at.short) return;

    // A neighbour's address beside its own, then in place of it.
    const two = await podByAddress(at, 'attacker');
    const free = await podByAddress(at, 'free');
    const theirs = free.address(at.family);
    await run(two, 'addr', 'add', `${theirs}/${width}`, 'dev', 'eth0', 'nodad');
    await noticed(two);
    await frames(two, 'with a free neighbour’s address');
    await frames(two, 'under a free neighbour’s address', { src: theirs });
    await run(two, 'addr', 'del', `${two.address(at.family)}/${width}`, 'dev', 'eth0');
    await run(two, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
    await run(two, 'addr', 'add', `${theirs}/${width}`, 'dev', 'eth0', 'nodad');
    await noticed(two);
    await frames(two, 'with a free neighbour’s address only');
    await frames(two, 'under a free neighbour’s address only', { src: theirs });

    // Another MAC, name and state of its interface.
    const three = await podByAddress(at, 'attacker');
    await run(three, 'link', 'set', 'eth0', 'address', '02:00:00:00:77:01');
    await frames(three, 'from another MAC', {}, { ...three.link, src: '02:00:00:00:77:01' });
    await noticed(three);
    await frames(three, 'from another MAC, after a while', {}, { ...three.link, src: '02:00:00:00:77:01' });
    await run(three, 'link', 'set', 'eth0', 'down');
    await run(three, 'link', 'set', 'eth0', 'name', 'lan9');
    await run(three, 'link', 'set', 'lan9', 'up');
    await sleep(NOTICE_MS);
    const renamed: Buffer[] = [];
    for (const to of at.denied)
      renamed.push(
        eth(
          { ...three.link, src: '02:00:00:00:77:01' },
          type,
          ip(
            { src: three.address(at.family), dst: at.address(to) },
            udp(at.port(), 8080, at.forbid(`under another name, to ${to}`)),
          ),
        ),
      );
    await at.send(renamed, { device: 'lan9' }, three);

    // A new agent finds things as they are by now; the attackers' own are put in no other place than where they were.
    if (at.family === 6 || at.style === 'bridge') return;
    const four = await podByAddress(at, 'attacker');
    const away = await Host.create(`${at.bed.world.prefix}-away${made}`);
    at.after(() => away.close());
    await run(four, 'addr', 'flush', 'dev', 'eth0', 'scope', 'global');
    await at.bed.restart();
    await frames(one, 'a new agent, without addresses since long');
    await frames(four, 'a new agent, without addresses');
    await frames(two, 'a new agent, with a neighbour’s address');
    await frames(two, 'a new agent, under a neighbour’s address', { src: theirs });
    // Its interface in another namespace, where nobody looks for it.
    await run(four, 'link', 'set', 'eth0', 'netns', away.netns);
    const elsewhere = new Actor({ ...four.pod, host: away }, four.link);
    at.after(() => elsewhere.hands.close());
    await away.run('ip', ['link', 'set', 'eth0', 'up']);
    await sleep(NOTICE_MS);
    await frames(elsewhere, 'its interface in another namespace');
    await at.bed.restart();
    await frames(elsewhere, 'its interface in another namespace, and a new agent');
  },
};
