/** A connection by hand, from the attacker to a server that nobody is: its answers are made up outside. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Extension, makeHello, records, serverName } from '../said/make.js';
import type { At } from './at.js';
import type { Arrival } from './attack.js';
import { ACK, type IpFields, ip, PSH, SYN, tcp } from './craft.js';

/** A server to which only some server names may be sent; nobody is there. */
export const FRONT = { 4: '203.0.113.60', 6: '2001:db8:100::60' } as const;

const STEP_MS = 15;
/** Where the attacker's kernel has been told to send no resets. */
const QUIET = new WeakSet<At>();

/** The attacker may say `*.good.test` to the front on port 443, and ask for `/ok` on port 80. */
export const SAID_POLICY = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'attacker-says', namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app: 'attacker' } },
    egress: [
      {
        toCIDR: [`${FRONT[4]}/32`, `${FRONT[6]}/128`],
        toPorts: [
          { ports: [{ port: '443', protocol: 'TCP' }], serverNames: ['*.good.test'] },
          { ports: [{ port: '80', protocol: 'TCP' }], rules: { http: [{ path: '/ok' }] } },
        ],
      },
    ],
  },
} as const;

/** The attacker may send requests for `/ok` and `/up` to the front, on the same port, or say `*.good.test` in TLS. */
export const REQUEST_POLICY = {
  ...SAID_POLICY,
  spec: {
    ...SAID_POLICY.spec,
    egress: [
      ...SAID_POLICY.spec.egress,
      {
        toCIDR: [`${FRONT[4]}/32`, `${FRONT[6]}/128`],
        toPorts: [
          {
            ports: [{ port: '443', protocol: 'TCP' }],
            rules: { http: [{ method: 'GET', path: '/ok', host: 'a' }, { path: '/up' }] },
          },
        ],
      },
    ],
  },
} as const;

/** The head of a request; the last header may carry a marker. */
export function request(path: string, text = '0123456789abcdef', ...headers: string[]): Buffer {
  return Buffer.from([`GET ${path} HTTP/1.1`, 'Host: a', ...headers, `X: ${text}`, '', ''].join('\r\n'));
}

/** Markers that may stand in a header. */
export function forbidText(at: At, variant: string, counts: (arrival: Arrival) => boolean = () => true): string {
  const text = randomBytes(8).toString('hex');
  at.forbidden.push({ marker: Buffer.from(text), variant: `${at.style} v${at.family} ${variant}`, counts });
  return text;
}
export function controlText(at: At, variant: string): string {
  const text = randomBytes(8).toString('hex');
  at.control(variant, 'wire', Buffer.from(text));
  return text;
}

/** A hello that names a server and carries a marker behind the name. */
export function hello(name: string | undefined, marker: Buffer, sizes: readonly number[] = [], share = 0): Buffer {
  const extensions: Extension[] = [
    [51, Buffer.alloc(share, 9)],
    ...(name === undefined ? [] : [serverName(name)]),
    [21, marker],
  ];
  return records(makeHello({ extensions }), sizes);
}

export const GOOD = 'aa.good.test';
export const EVIL = 'aa.evil.test';

export class Line {
  readonly to: string;
  readonly port: number;
  /** Of the first byte behind the SYN. */
  readonly seq = 1001;

  private constructor(
    readonly at: At,
    readonly dport: number,
  ) {
    this.to = FRONT[at.family];
    this.port = at.port();
  }

  /** After its handshake. */
  static async open(at: At, dport = 443): Promise<Line> {
    const line = await Line.closed(at, dport);
    await line.handshake();
    return line;
  }

  /** Before it; the attacker's own kernel does not reset what it knows nothing of. */
  static async closed(at: At, dport = 443): Promise<Line> {
    const line = new Line(at, dport);
    if (QUIET.has(at)) return line;
    QUIET.add(at);
    const table = at.family === 4 ? 'iptables' : 'ip6tables';
    const rule = ['-p', 'tcp', '--tcp-flags', 'RST', 'RST', '-d', line.to, '-j', 'DROP'];
    await at.me.pod.host.run(table, ['-w', '-I', 'OUTPUT', ...rule]);
    at.after(() => at.me.pod.host.run(table, ['-w', '-D', 'OUTPUT', ...rule], { check: false }));
    return line;
  }

  async handshake(seq = this.seq): Promise<void> {
    await this.send([this.segment(seq - 1, Buffer.alloc(0), { flags: SYN })]);
    await this.answer({ flags: SYN | ACK, seq: 9000, ack: seq });
    await this.send([this.segment(seq, Buffer.alloc(0), { flags: ACK })]);
  }

  /** A segment of the attacker's, as a frame. */
  segment(
    seq: number,
    data: Buffer,
    { flags = ACK | PSH, ack = 9001, options }: { flags?: number; ack?: number; options?: Buffer } = {},
    fields: Partial<IpFields> = {},
  ): Buffer {
    const acks = (flags & ACK) !== 0 ? { ack } : {};
    return this.at.frame(
      this.to,
      tcp(this.port, this.dport, data, { flags, seq, ...acks, ...(options ? { options } : {}) }),
      fields,
    );
  }

  /** The same in pieces. */
  pieces(seq: number, data: Buffer, size: number): Buffer[] {
    const out: Buffer[] = [];
    for (let at = 0; at < data.length; at += size) out.push(this.segment(seq + at, data.subarray(at, at + size)));
    return out;
  }

  async send(frames: readonly Buffer[], opts: Record<string, unknown> = {}): Promise<void> {
    await this.at.send(frames, opts);
    await sleep(STEP_MS);
  }

  /** What comes from the server. */
  async answer(f: { flags?: number; seq?: number; ack: number; data?: Buffer }): Promise<void> {
    const { at, to, port, dport } = this;
    const l4 = tcp(dport, port, f.data ?? Buffer.alloc(0), { flags: f.flags ?? ACK, seq: f.seq ?? 9001, ack: f.ack });
    await at.bed.fromInternet(at.own, ip({ src: to, dst: at.own }, l4));
    await sleep(STEP_MS);
  }
}
