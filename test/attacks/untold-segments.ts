import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { cnpNames, egressPolicy, toHosts } from '../netns/policies.js';
import type { At } from './at.js';
import type { Attack } from './attack.js';
import { OPEN, RESOLVER } from './bed.js';
import { ACK, be32, FIN, ip, PSH, RST, SYN, tcp } from './craft.js';

const STEP_MS = 15;
/** Events of one reason come once a second. */
const TOLD_MS = 1500;

/** Both ends of a connection by hand. */
class Connection {
  readonly port: number;
  readonly seq = randomBytes(4).readUInt32BE() >>> 1;
  readonly ack = randomBytes(4).readUInt32BE() >>> 1;

  constructor(
    readonly at: At,
    readonly to: string,
  ) {
    this.port = at.port();
  }

  async open(): Promise<void> {
    const { at, port } = this;
    const table = at.family === 4 ? 'iptables' : 'ip6tables';
    const rule = ['-p', 'tcp', '--tcp-flags', 'RST', 'RST', '--sport', String(port), '-j', 'DROP'];
    await at.me.pod.host.run(table, ['-w', '-I', 'OUTPUT', ...rule]);
    at.after(() => at.me.pod.host.run(table, ['-w', '-D', 'OUTPUT', ...rule], { check: false }));
    await this.send(SYN, -1);
    await this.receive(SYN | ACK, -1);
    await this.send(ACK);
  }

  async send(flags: number, seq = 0, data: Buffer = Buffer.alloc(0), ack = 0): Promise<void> {
    const fields = { flags, seq: this.seq + seq, ack: flags & ACK ? this.ack + ack : 0 };
    await this.at.send([this.at.frame(this.to, tcp(this.port, 53, data, fields))]);
    await sleep(STEP_MS);
  }

  async receive(flags: number, seq = 0, data: Buffer = Buffer.alloc(0), ack = 0): Promise<void> {
    const segment = tcp(53, this.port, data, { flags, seq: this.ack + seq, ack: this.seq + ack });
    await this.at.bed.fromInternet(this.at.own, ip({ src: this.to, dst: this.at.own }, segment));
    await sleep(STEP_MS);
  }
}

export const attack: Attack = {
  name: 'untold-segments',
  tries: 'Sends segments to resolvers that are dropped without a word, and has some come.',
  policies: () => [
    egressPolicy('attacker', 'attacker', [toHosts(Object.values(RESOLVER), 'tcp/53')]),
    {
      ...cnpNames('attacker-queries', 'attacker', [], []),
      spec: {
        endpointSelector: { matchLabels: { app: 'attacker' } },
        egress: [
          {
            toCIDR: [`${OPEN[4]}/32`, `${OPEN[6]}/128`],
            toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '*.good.test' }] } }],
          },
        ],
      },
    },
  ],
  async run(at) {
    const { bed } = at;
    // A segment that passes is seen; one that does not is counted, and told of with a reason.
    const drops = async () =>
      Object.values((await bed.agent.status()).drops).reduce((sum: number, n) => sum + Number(n), 0);
    const told = async (what: string, work: () => Promise<unknown>) => {
      const [before, since] = [await drops(), bed.agent.flows.length];
      await work();
      await sleep(TOLD_MS);
      if ((await drops()) === before) at.wrong(`${what}: no drop is counted`);
      if (!bed.agent.flows.slice(since).some((f) => f.verdict === 'deny')) at.wrong(`${what}: no event tells of it`);
    };
    const resolver = RESOLVER[at.family];
    const many = new Connection(at, resolver);
    await many.open();
    await told('a segment with more messages than are read', () => many.send(ACK | PSH, 0, Buffer.alloc(300)));
    const elsewhere = new Connection(at, resolver);
    await elsewhere.open();
    // It is not followed any more from here on.
    await elsewhere.receive(ACK | PSH, 0, Buffer.alloc(300));
    await sleep(TOLD_MS);
    await told('an answer from before the stream', () => elsewhere.receive(ACK | PSH, -5000, Buffer.alloc(10)));

    // Whatever carries nothing passes a filter of queries, also where the flow ends with it.
    for (const [what, flags] of [
      ['a reset', RST | ACK],
      ['the last acknowledgement', ACK],
    ] as const) {
      const c = new Connection(at, OPEN[at.family]);
      await c.open();
      if (flags === ACK) {
        await c.send(FIN | ACK);
        await c.receive(FIN | ACK, 0, Buffer.alloc(0), 1);
      }
      await c.send(flags, 1, Buffer.alloc(0), 1);
      at.control(`${what}, past a filter`, 'wire', be32(c.seq + 1, c.ack + 1));
    }
  },
};
