import type { Attack } from './attack.js';
import { ARP, arp, be16, udp } from './craft.js';

const EVERYBODY = 'ff:ff:ff:ff:ff:ff';

export const attack: Attack = {
  name: 'arp',
  tries: 'Speaks ARP in the gateway’s and neighbours’ names, and sends bytes of its own within and behind ARP.',
  families: [4],
  async run(at) {
    const link = at.me.link;
    const network = at.style === 'ptp' ? 1 : 2;
    const gateway = `10.244.${network}.1`;
    const neighbour = at.address('bad-near');
    const bad = await at.bed.macOf('bad-bridge');
    const frames: Buffer[] = [];
    // What is asked about needs no marker of eight bytes: six of a target's MAC, which nobody reads, tell it from others.
    const told = (
      variant: string,
      f: { op: number; ip: string; mac?: string; target?: string },
      dst = EVERYBODY,
      src = link.src,
    ) => {
      const marker = at.forbid(variant, () => true, 6);
      const targetMac = [...marker].map((b) => b.toString(16).padStart(2, '0')).join(':');
      const body = { operation: f.op, senderMac: f.mac ?? src, senderIp: f.ip, targetMac, targetIp: f.target ?? f.ip };
      frames.push(at.link(arp(body), { dst, src }, ARP));
    };
    for (const [name, ip] of [
      ['the gateway', gateway],
      ['a neighbour', neighbour],
      ['a governed neighbour', at.colluder.address(4)],
      ['the node', at.address('a')],
      ['a stranger', '198.51.100.7'],
      ['everybody', '255.255.255.255'],
    ] as const) {
      for (const dst of [EVERYBODY, bad]) {
        const where = dst === bad ? 'to a neighbour' : 'to everybody';
        told(`${name}’s address, gratuitous, ${where}`, { op: 1, ip }, dst);
        told(`${name}’s address, an answer, ${where}`, { op: 2, ip, target: neighbour }, dst);
        told(`${name}’s address, a question, ${where}`, { op: 1, ip, target: neighbour }, dst);
      }
    }
    told('its address at another MAC', { op: 2, ip: at.own, mac: bad, target: neighbour });
    told('its address at the gateway’s MAC', { op: 1, ip: at.own, mac: link.dst });
    told('from another MAC', { op: 1, ip: at.own, target: neighbour }, EVERYBODY, bad);
    for (const op of [0, 3, 4, 8, 9, 24, 65535]) told(`operation ${op}`, { op, ip: at.own, target: neighbour });
    // Bytes that are no part of ARP, to a neighbour that is denied.
    const ask = { senderMac: link.src, senderIp: at.own, targetIp: neighbour };
    for (const [name, length] of [
      ['as much as a frame holds', 1400],
      ['as padding', 18],
    ] as const) {
      const marker = at.forbid(`behind it, ${name}`);
      frames.push(at.link(arp(ask, Buffer.concat([marker, Buffer.alloc(length - 8)])), { dst: EVERYBODY }, ARP));
      frames.push(at.link(arp(ask, Buffer.concat([Buffer.alloc(length - 8), marker])), { dst: bad }, ARP));
    }
    const other = at.forbid('no ARP at all');
    frames.push(at.link(Buffer.concat([other, Buffer.alloc(40)]), { dst: bad }, ARP));
    for (const [name, head] of [
      ['of another link', be16(6, 0x0800, 0x0604, 1)],
      ['for IPv6', be16(1, 0x86dd, 0x0610, 1)],
      ['with long addresses', be16(1, 0x0800, 0x1410, 1)],
      ['with empty addresses', be16(1, 0x0800, 0, 1)],
    ] as const) {
      const marker = at.forbid(name);
      frames.push(at.link(Buffer.concat([head, marker, Buffer.alloc(40)]), { dst: bad }, ARP));
    }
    const short = at.forbid('cut short');
    frames.push(at.link(arp(ask).subarray(0, 14).fill(short, 6), { dst: EVERYBODY }, ARP));
    frames.push(at.frame(at.address('one'), udp(at.port(), 53, at.control('a datagram', 'wire'))));
    // An honest question about a neighbour is heard by all of the bridge; on its own link by the node alone.
    if (at.style === 'bridge') {
      const question = arp({ ...ask, targetIp: at.address('good-bridge') });
      at.control('an honest question', 'good-bridge', Buffer.from(question));
      frames.push(at.link(question, { dst: EVERYBODY }, ARP));
    }
    await at.send(frames);
    // Whom the neighbours believe by now: what they send to the gateway still goes there.
    const believed = await at.bed
      .pod('bad-bridge')
      .host.run('ip', ['-4', '-j', 'neigh', 'show', gateway], { check: false });
    const [entry] = JSON.parse(believed.stdout || '[]') as { lladdr?: string }[];
    if (entry?.lladdr === link.src) at.wrong(`a neighbour believes that ${gateway} is at the attacker’s MAC`);
  },
};
