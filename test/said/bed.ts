/** A pod whose connections are judged by what they say, segment by segment, through the hooks. */
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { RingReader } from '../../agent/events/ring.js';
import type { FlowEvent } from '../../src/flow/event/types.js';
import { SAID_EVENT_SIZE, SHORT_SAID_EVENT_SIZE } from '../../src/flow/event/said.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { PLAIN_IDS } from '../../src/ids.js';
import type { Ir, Rule } from '../../src/ir/types.js';
import { ACK, eth, IPV4, ip, PSH, RST, SYN, tcp } from '../attacks/craft.js';
import { snapshot } from '../bench/worlds.js';
import { Kernel, loadForTest } from '../engines/engine.js';

export const POD = '10.244.0.1';
export const SERVER = '192.0.2.80';
const SIZES = { flows: 8192, events: 1 << 20 };
const LINK = { src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' };

export type Line = Partial<Pick<Rule, 'action' | 'serverNames' | 'http' | 'peers' | 'ports' | 'log'>>;

/** One tier whose rules are these, and which denies otherwise. */
export function irOf(lines: readonly Line[], more: { staged?: boolean; defaultAction?: 'pass' | 'deny' } = {}): Ir {
  const ref = { dialect: 'test', kind: 'Test', namespace: 'default', name: 'p' };
  const staged = more.staged ?? false;
  const rules = lines.map(
    (line, index): Rule => ({
      ref: { policy: ref, index, tier: 'default', staged, action: line.action ?? 'allow' },
      action: 'allow',
      peers: null,
      ports: [{ protocol: 6, ports: [[443, 443]] }],
      ...line,
    }),
  );
  return {
    tiers: [
      {
        name: 'default',
        order: 0,
        defaultAction: more.defaultAction ?? 'deny',
        policies: [{ ref, staged, subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } }, rules }],
      },
    ],
  };
}

/** What became of a segment. */
export interface Fate {
  /** As it was sent, on its way. */
  passes: boolean;
  /** Of the segment that goes on in its place, if it goes on. */
  flags: number;
  seq: number;
  data: Buffer;
  /** Reasons of drops and denials, in order. */
  told: string[];
  events: FlowEvent[];
}

export class SaidBed {
  readonly kernel = new Kernel(loadForTest(SIZES), PLAIN_IDS);
  #port = 1024;
  readonly #said: RingReader;

  constructor(lines: readonly Line[], more: { staged?: boolean; defaultAction?: 'pass' | 'deny' } = {}) {
    const { maps } = this.kernel.programs;
    const content = {
      size: SAID_EVENT_SIZE,
      short: SHORT_SAID_EVENT_SIZE,
      lost: ENUMS.ea_counter.EA_COUNT_SAID_EVENTS_LOST,
    };
    this.#said = new RingReader(maps.said_events as BpfMap, maps.counters as BpfMap, content);
    this.rules(lines, more);
  }

  /** Puts other rules in force. */
  rules(lines: readonly Line[], more: { staged?: boolean; defaultAction?: 'pass' | 'deny' } = {}): void {
    const { kernel } = this;
    const binding = this.#binding;
    kernel.use({ ir: irOf(lines, more), snapshot: snapshot() });
    if (!binding) {
      this.#binding = kernel.binding('default/web');
      kernel.apply([this.#binding]);
    } else {
      kernel.apply([binding]);
    }
    if (!kernel.store.settled) kernel.store.tidy();
  }
  #binding: ReturnType<Kernel['binding']> | undefined;

  port(): number {
    this.#port = this.#port >= 65000 ? 1024 : this.#port + 1;
    return this.#port;
  }

  connect(dport = 443): Connection {
    const c = new Connection(this.kernel, this.port(), dport);
    c.open();
    return c;
  }

  /** The names that were told of since, with the verdicts on them. */
  names(): string[] {
    const out: string[] = [];
    const { fields } = STRUCTS.ea_said_event;
    this.#said.records((bytes, at) => {
      const length = bytes.readUInt16LE(at + fields.length.offset);
      const text = bytes.subarray(at + fields.text.offset, at + fields.text.offset + length).toString('latin1');
      const verdict = bytes[at + fields.verdict.offset] === ENUMS.ea_verdict.EA_VERDICT_DENY ? 'deny' : 'allow';
      out.push(`${text} ${verdict}`);
    });
    return out;
  }

  /** What was told since, as the bytes of struct ea_said_event. */
  told(): Buffer[] {
    const out: Buffer[] = [];
    this.#said.records((bytes, at) => out.push(Buffer.from(bytes.subarray(at, at + STRUCTS.ea_said_event.size))));
    return out;
  }

  /** Buffers that are held. */
  held(): number {
    const map = this.kernel.programs.maps.l7_holdings as BpfMap;
    const key = Buffer.alloc(4);
    key.writeUInt32LE(map.maxEntries - 1);
    return map.lookup(key)?.readInt32LE(0) ?? -1;
  }

  /** Forgets all connections, and gives their buffers back. */
  drop(): void {
    this.kernel.forget();
    for (const name of ['l7_memory', 'l7_holdings']) {
      const map = this.kernel.programs.maps[name] as BpfMap;
      const key = Buffer.alloc(4);
      const empty = Buffer.alloc(map.valueSize);
      for (let n = 0; n < map.maxEntries; n++) {
        key.writeUInt32LE(n);
        map.update(key, empty);
      }
    }
  }

  close(): void {
    this.kernel.close();
  }
}

/** A connection whose segments are given by hand; offsets count the bytes of its stream. */
export class Connection {
  /** Near the end of the number space, so that they wrap around. */
  readonly first = { fromPod: 0xffff_ff00, toPod: 0xffff_fff0 };

  constructor(
    readonly kernel: Kernel,
    readonly port: number,
    readonly dport: number,
  ) {}

  open(): void {
    this.send(-1, Buffer.alloc(0), { flags: SYN });
    this.receive(-1, Buffer.alloc(0), { flags: SYN | ACK, ack: 0 });
    this.send(0, Buffer.alloc(0), { flags: ACK });
  }

  #run(hook: 'fromPod' | 'toPod', frame: Buffer): Fate {
    this.kernel.forget('drop_notes');
    const { verdict, events, out } = this.kernel.run(frame, hook);
    const l4 = out.subarray(14 + 20);
    return {
      passes: verdict === 'allow',
      flags: l4[13] ?? 0,
      seq: (l4.readUInt32BE(4) - this.first[hook]) | 0,
      data: Buffer.from(l4.subarray(((l4[12] ?? 0) >> 4) * 4)),
      told: events.filter((e) => e.verdict === 'deny').map((e) => e.reason),
      events,
    };
  }

  /** A segment of the pod's. */
  send(
    at: number,
    payload: Buffer,
    f: { flags?: number; ack?: number; sum?: number; ttl?: number; more?: boolean; urgent?: number } = {},
  ): Fate {
    const seq = this.first.fromPod + at;
    const ack = this.first.toPod + (f.ack ?? 0);
    const l4 = tcp(this.port, this.dport, payload, { flags: f.flags ?? ACK | PSH, seq, ack });
    const packet = ip(
      { src: POD, dst: SERVER, ...(f.ttl ? { ttl: f.ttl } : {}), ...(f.more ? { more: true } : {}) },
      l4,
    );
    if (f.sum !== undefined) packet.writeUInt16BE(packet.readUInt16BE(36) ^ f.sum, 36);
    return this.#run('fromPod', eth(LINK, IPV4, packet));
  }

  /** A segment of the peer's. */
  receive(at: number, payload: Buffer, f: { flags?: number; ack?: number } = {}): Fate {
    const seq = this.first.toPod + at;
    const ack = this.first.fromPod + (f.ack ?? 0);
    const l4 = tcp(this.dport, this.port, payload, { flags: f.flags ?? ACK, seq, ack });
    return this.#run('toPod', eth(LINK, IPV4, ip({ src: SERVER, dst: POD }, l4)));
  }

  /** The peer has got so many bytes. */
  acknowledge(bytes: number): void {
    this.receive(0, Buffer.alloc(0), { ack: bytes });
  }

  /** Whether a segment is dropped or denied: what goes on, if anything, is a reset without data. */
  static isDenied(f: Fate): boolean {
    return !f.passes || ((f.flags & RST) !== 0 && f.data.length === 0);
  }
}
