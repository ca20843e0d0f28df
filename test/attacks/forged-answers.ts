import { cnpNames, egressPolicy, toHosts, toServer } from '../netns/policies.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { type Actor, OPEN, RESOLVER } from './bed.js';
import { ACK, fragments, ip, PSH, SYN, tcp, type Transport, udp } from './craft.js';
import { A, AAAA, type Answer, answer, framed, query } from './dns.js';
import { setTimeout as sleep } from 'node:timers/promises';

/** Long enough for a frame to be on its way through the node. */
const STEP_MS = 15;
let addresses = 0;
let names = 0;

/** One forgery: an answer that, if it were believed, would open an address of its own. */
class Forgery {
  readonly #at: At;
  readonly variant: string;
  readonly resolver: string;
  readonly address: string;
  readonly name = `n${++names}.good.test`;
  readonly id = 1 + Math.floor(Math.random() * 65000);
  readonly port: number;

  constructor(at: At, variant: string) {
    const n = 1 + (addresses++ % 250);
    this.#at = at;
    this.variant = variant;
    this.resolver = RESOLVER[at.family];
    this.address = at.family === 4 ? `198.51.100.${n}` : `2001:db8:51::${n.toString(16)}`;
    this.port = at.port();
  }

  get type(): number {
    return this.#at.family === 4 ? A : AAAA;
  }

  /** The attacker asks. */
  async ask(over: { to?: string; name?: string; type?: number } = {}): Promise<void> {
    const message = query({ id: this.id, name: over.name ?? this.name, type: over.type ?? this.type });
    await this.#at.send([this.#at.frame(over.to ?? this.resolver, udp(this.port, 53, message))]);
    await sleep(STEP_MS);
  }

  message(over: Partial<Answer> = {}): Buffer {
    return answer({ id: this.id, name: this.name, type: this.type, address: this.address, ...over });
  }

  /** An answer as a packet, from the resolver unless said otherwise. */
  packet(over: Partial<Answer & { src: string; sport: number; dport: number }> = {}): Buffer {
    const { src = this.resolver, sport = 53, dport = this.port, ...fields } = over;
    return ip({ src, dst: this.#at.own }, udp(sport, dport, this.message(fields)));
  }

  outside(packet: Buffer): Promise<void> {
    return this.#at.bed.fromInternet(this.#at.own, packet);
  }

  /** The attacker sends to the address: it must not arrive. */
  async use(): Promise<void> {
    await sleep(STEP_MS);
    const marker = this.#at.forbid(this.variant);
    await this.#at.send([
      this.#at.frame(this.address, udp(this.#at.port(), 8080, marker)),
      this.#at.frame(this.address, tcp(this.#at.port(), 8080, marker)),
    ]);
  }
}

/** A connection to the resolver by hand, both ends, up to the query. */
async function connect(at: At, f: Forgery): Promise<{ seq: number; segment: (l4: Buffer, seq?: number) => Transport }> {
  const [mine, theirs] = [1000, 9000];
  const out = (flags: number, seq: number, ack: number, data: Buffer = Buffer.alloc(0)) =>
    at.send([at.frame(f.resolver, tcp(f.port, 53, data, { flags, seq, ack }))]);
  // The attacker's own stack knows nothing of the connection, and would end it.
  const table = at.family === 4 ? 'iptables' : 'ip6tables';
  const rule = ['-p', 'tcp', '--tcp-flags', 'RST', 'RST', '--sport', String(f.port), '-j', 'DROP'];
  await at.me.pod.host.run(table, ['-w', '-I', 'OUTPUT', ...rule]);
  at.after(() => at.me.pod.host.run(table, ['-w', '-D', 'OUTPUT', ...rule], { check: false }));
  await out(SYN, mine, 0);
  await sleep(STEP_MS);
  const synAck = tcp(53, f.port, Buffer.alloc(0), { flags: SYN | ACK, seq: theirs, ack: mine + 1 });
  await f.outside(ip({ src: f.resolver, dst: at.own }, synAck));
  await sleep(STEP_MS);
  const asked = framed(query({ id: f.id, name: f.name, type: f.type }));
  await out(ACK, mine + 1, theirs + 1);
  await out(ACK | PSH, mine + 1, theirs + 1, asked);
  await sleep(STEP_MS);
  const ack = mine + 1 + asked.length;
  return {
    seq: theirs + 1,
    segment: (data, seq = theirs + 1) => tcp(53, f.port, data, { flags: ACK | PSH, seq, ack }),
  };
}

/** Pods beside the attacker, and how their frames reach it: by the gateway, and straight where there is a bridge. */
function neighbours(at: At, free: Actor) {
  return [
    { who: 'a neighbour', actor: at.colluder },
    { who: 'a neighbour without policies', actor: free },
  ].flatMap(({ who, actor }) => [
    {
      who: `${who}, by the gateway`,
      send: (packet: Buffer) => at.send([at.link(packet, actor.link)], {}, actor),
    },
    ...(at.style === 'bridge'
      ? [
          {
            who: `${who}, straight`,
            send: (packet: Buffer) => at.send([at.link(packet, { ...actor.link, dst: at.me.link.src })], {}, actor),
          },
        ]
      : []),
  ]);
}

export const attack: Attack = {
  name: 'forged-answers',
  tries:
    'Has answers come that its resolver never gave: from elsewhere, unasked, with wrong ids, from neighbours, into a stream.',
  policies: () => [
    cnpNames('attacker-names', 'attacker', ['*.good.test'], Object.values(RESOLVER)),
    egressPolicy('attacker', 'attacker', [toServer('one', 'udp/53'), toHosts(Object.values(OPEN))]),
    cnpNames('colluder', 'colluder', ['*.good.test'], Object.values(RESOLVER)),
  ],
  async run(at) {
    const forge = async (variant: string, work: (f: Forgery) => Promise<unknown>) => {
      const f = new Forgery(at, variant);
      await work(f);
      await f.use();
    };
    const open = OPEN[at.family];
    await forge('never asked, never answered', async () => undefined);
    await forge('from a resolver of its own', async (f) => {
      await f.ask({ to: open });
      await f.outside(f.packet({ src: open }));
    });
    await forge('asked elsewhere, answered by the resolver', async (f) => {
      await f.ask({ to: open });
      await f.outside(f.packet());
    });
    await forge('asked of the resolver, answered from elsewhere', async (f) => {
      await f.ask();
      await f.outside(f.packet({ src: open }));
    });
    await forge('unasked', (f) => f.outside(f.packet()));
    for (const [variant, over] of [
      ['another id', (f: Forgery) => ({ id: f.id ^ 1 })],
      ['to another port', (f: Forgery) => ({ dport: f.port + 1 })],
      ['from another port', () => ({ sport: 5353 })],
      ['of another name', () => ({ name: 'b.good.test' })],
      ['of another type', () => ({ type: 16 })],
      ['of a name without a link to the question', () => ({ owner: 'c.good.test' })],
      ['that is a query', () => ({ flags: 0x0100 })],
      ['that is a failure', () => ({ flags: 0x8182 })],
      ['that says the name does not exist', () => ({ flags: 0x8183 })],
      ['of another kind of request', () => ({ flags: 0xa980 })],
    ] as const) {
      await forge(`an answer ${variant}`, async (f) => {
        await f.ask();
        await f.outside(f.packet(over(f)));
      });
    }
    await forge('a name that is denied, with an alias to one that is allowed', async (f) => {
      await f.ask({ name: 'x.bad.test' });
      await f.outside(f.packet({ name: 'x.bad.test', owner: f.name, alias: true }));
    });
    for (const [variant, cut, order] of [
      ['in fragments', 24, 1],
      ['in fragments, the question in the first', 48, 1],
      ['in fragments, the first one last', 48, -1],
    ] as const) {
      await forge(`an answer ${variant}`, async (f) => {
        await f.ask();
        const pieces = fragments({ src: f.resolver, dst: at.own, id: f.id }, udp(53, f.port, f.message()), [0, cut]);
        for (const piece of order > 0 ? pieces : pieces.reverse()) await f.outside(piece);
      });
    }
    await forge('an answer that it sends to itself', async (f) => {
      await f.ask();
      await at.send([at.link(f.packet())]);
    });
    await forge('an answer to its neighbour', async (f) => {
      const { colluder } = at;
      const message = query({ id: f.id, name: f.name, type: f.type });
      const src = colluder.address(at.family);
      await at.send([at.link(ip({ src, dst: f.resolver }, udp(f.port, 53, message)), colluder.link)], {}, colluder);
      await sleep(STEP_MS);
      await f.outside(ip({ src: f.resolver, dst: src }, udp(53, f.port, f.message())));
    });
    const { actors } = at.bed;
    const called = `bad-${at.style}`;
    const free = actors.get(called) ?? (await at.bed.actor(at.bed.pod(called)));
    actors.set(called, free); // the bed lets go of its hands
    for (const { who, send } of neighbours(at, free)) {
      await forge(`in the resolver's name, from ${who}`, async (f) => {
        await f.ask();
        await send(f.packet());
      });
      await forge(`into a stream, from ${who}`, async (f) => {
        const { segment } = await connect(at, f);
        await send(ip({ src: f.resolver, dst: at.own }, segment(framed(f.message()))));
      });
      await forge(`a whole connection that ${who} answers`, async (f) => {
        await at.send([at.frame(f.resolver, tcp(f.port, 53, Buffer.alloc(0), { flags: SYN, seq: 1000 }))]);
        await sleep(STEP_MS);
        const reply = (data: Buffer, flags: number, seq: number, ack: number) =>
          send(ip({ src: f.resolver, dst: at.own }, tcp(53, f.port, data, { flags, seq, ack })));
        await reply(Buffer.alloc(0), SYN | ACK, 9000, 1001);
        await sleep(STEP_MS);
        const asked = framed(query({ id: f.id, name: f.name, type: f.type }));
        await at.send([at.frame(f.resolver, tcp(f.port, 53, asked, { flags: ACK | PSH, seq: 1001, ack: 9001 }))]);
        await sleep(STEP_MS);
        await reply(framed(f.message()), ACK | PSH, 9001, 1001 + asked.length);
      });
    }
    await forge('into a stream, from its middle', async (f) => {
      const { segment, seq } = await connect(at, f);
      await f.outside(ip({ src: f.resolver, dst: at.own }, segment(framed(f.message()), seq + 20)));
    });
    await forge('into a stream whose beginning nobody saw', async (f) => {
      const asked = framed(query({ id: f.id, name: f.name, type: f.type }));
      await at.send([at.frame(f.resolver, tcp(f.port, 53, asked, { flags: ACK | PSH, seq: 5000, ack: 7000 }))]);
      await sleep(STEP_MS);
      const data = tcp(53, f.port, framed(f.message()), { flags: ACK | PSH, seq: 7000, ack: 5000 + asked.length });
      await f.outside(ip({ src: f.resolver, dst: at.own }, data));
    });

    // What is genuine opens, by datagram and by stream: the forgeries are not refused for being ill-made.
    const datagram = new Forgery(at, '');
    await datagram.ask();
    await datagram.outside(datagram.packet());
    const stream = new Forgery(at, '');
    const { segment } = await connect(at, stream);
    await stream.outside(ip({ src: stream.resolver, dst: at.own }, segment(framed(stream.message()))));
    await sleep(STEP_MS);
    for (const [how, f] of [
      ['by datagram', datagram],
      ['by stream', stream],
    ] as const)
      await at.send([at.frame(f.address, udp(at.port(), 8080, at.control(`what was answered ${how}`, 'wire')))]);
  },
};
