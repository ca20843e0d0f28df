/**
 * An agent without a kernel, for the bench of the web UI: a real server on a socket, with a real ledger, hub and
 * policies; only its events are made here.
 *
 *   node dist/test/bench/ui-agent.js SOCKET [--edges 5000]
 *
 * Prints `ready`, and obeys lines on its standard input; each is answered with one line of JSON:
 *   rate N      from now on N flow events a second, every other one the end of a flow
 *   deny-one    one connection that nobody has seen before is denied; answers when, and what it was
 *   stats       what was produced, and what there is
 * It ends with its standard input.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { RECORD_STRIDE } from '../../agent/events/ring.js';
import { EdgeCounter } from '../../src/edges/counter.js';
import { DAY_MS, type DayRow, dayOf, KEPT_DAYS } from '../../src/edges/edge.js';
import { Ledger, LEDGER_EDGES } from '../../src/edges/ledger.js';
import { Intake } from '../../src/flow/intake.js';
import type { NameSource } from '../../src/flow/names/enrich.js';
import { toIr } from '../../src/dialects/index.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { Packet, Verdict } from '../../src/ir/packet.js';
import { rulesById } from '../../src/ir/names.js';
import { makeLogger } from '../../src/log.js';
import { parseAddr } from '../../src/net/addr.js';
import { RpcServer } from '../../src/rpc/server.js';
import { Judge } from '../../src/tools/judge.js';
import { viewOfGiven } from '../ui/view.js';
import { clusterSnapshot, NODE, senders, sequence, type Talk, talks } from './ui-cluster.js';

const { EA_EVENT_VERDICT, EA_EVENT_END } = ENUMS.ea_event_type;
const { fields: E, size: EVENT } = STRUCTS.ea_event;
const { fields: K } = STRUCTS.ea_flow_key;
/** As the agent's drain takes them. */
const BATCH = 1024;
const TICK_MS = 10;
const DRAIN_MS = 100;
/** Days of edges that a ledger has room for, with some to spare. */
const MOST_DAYS = 120_000;

class UiAgent {
  readonly #snapshot = clusterSnapshot();
  readonly #judge: Judge;
  readonly #ledger: Ledger;
  readonly #counter: EdgeCounter;
  readonly #intake: Intake;
  readonly #endpoints: Map<number, { pod: string; uid: string }>;
  readonly #endpointOf: Map<string, number>;
  readonly #names = new Map<string, readonly string[]>();
  readonly #templates: Buffer[] = [];
  readonly #batch = Buffer.alloc(BATCH * RECORD_STRIDE);
  readonly #random = sequence(11);
  #rate = 0;
  #produced = 0;
  #owed = 0;
  #at = performance.now();
  #drainedAt = 0;
  #port = 0;
  #denied = 0;

  constructor(edges: number) {
    const { ir } = toIr(this.#snapshot);
    this.#judge = new Judge({ ir, snapshot: this.#snapshot }, senders());
    this.#endpoints = new Map(
      senders().map((pod, n) => [n + 1, { pod, uid: this.#snapshot.pods.get(pod)?.uid ?? '' }] as const),
    );
    this.#endpointOf = new Map([...this.#endpoints].map(([id, { pod }]) => [pod, id]));
    // With room for all, since a ledger that is nearly full has only an equal share for each workload.
    const most = Math.max(LEDGER_EDGES, Math.ceil(edges * 1.5));
    this.#ledger = Ledger.fresh(Date.now() - (KEPT_DAYS - 1) * DAY_MS, most);
    const names: NameSource = {
      note: () => {},
      text: () => undefined,
      known: (_, ip) => this.#names.get(ip) ?? [],
    };
    const common = { nodeName: NODE, stride: RECORD_STRIDE, names };
    this.#counter = new EdgeCounter(this.#ledger, common);
    this.#intake = new Intake({ ...common, edges: this.#counter });
    this.#intake.learn({ snapshot: this.#snapshot, rules: rulesById(ir), endpoints: this.#endpoints });
    for (const talk of talks(edges)) this.#templates.push(this.#templateOf(talk));
    this.#fillPast(edges);
  }

  get edges(): number {
    return this.#ledger.size;
  }

  async serve(socket: string, dir: string): Promise<() => Promise<void>> {
    const { hub } = this.#intake;
    const pods = [...this.#endpoints.values()].map(({ pod }) => pod);
    const view = viewOfGiven({ snapshot: this.#snapshot, edges: this.#ledger, hub, dir, pods });
    const server = new RpcServer({ hub, view, log: makeLogger('error') });
    await server.listen(socket);
    const timers = [setInterval(() => this.#produce(), TICK_MS), setInterval(() => hub.examinePending(), 1000)];
    return async () => {
      for (const timer of timers) clearInterval(timer);
      view.close();
      await server.close();
    };
  }

  /** Obeys a line. */
  obey(line: string): object {
    const [word, number] = line.trim().split(/\s+/);
    if (word === 'rate' && /^\d{1,7}$/.test(number ?? '')) {
      this.#rate = Number(number);
      this.#owed = 0;
      this.#at = performance.now();
      return { rate: this.#rate };
    }
    if (word === 'deny-one') return this.#denyOne();
    if (word === 'stats') {
      const { heapUsed, rss } = process.memoryUsage();
      return { produced: this.#produced, edges: this.#ledger.size, heapUsed, rss, ...this.#intake.hub.stats() };
    }
    return { error: `${line}: not one of rate N, deny-one, stats` };
  }

  /** Makes what is due since the last time. Some edges are met far more often than others. */
  #produce(): void {
    const now = performance.now();
    this.#owed += ((now - this.#at) / 1000) * this.#rate;
    this.#at = now;
    // An agent that was stopped for a while has lost what its ring did not hold.
    this.#owed = Math.min(this.#owed, this.#rate);
    if (now - this.#drainedAt >= DRAIN_MS) {
      this.#drainedAt = now;
      this.#counter.tick(now);
    }
    while (this.#owed >= 1) {
      const size = Math.min(BATCH, Math.floor(this.#owed));
      for (let i = 0; i < size; i++) {
        const edge = Math.floor(this.#random() ** 3 * this.#templates.length);
        this.#write(i * RECORD_STRIDE, this.#templates[edge] as Buffer, this.#produced++ % 2 === 0);
      }
      this.#intake.add(this.#batch, 0, size);
      this.#owed -= size;
    }
  }

  /** A connection to an address of which nobody has heard, to a port that no rule allows. */
  #denyOne(): object {
    const n = this.#denied++;
    const all = senders();
    const from = all[(n * 37) % all.length] as string;
    const talk: Talk = { from, to: `198.19.${(n >> 8) & 255}.${n & 255}`, port: 9999, protocol: 6 };
    const template = this.#templateOf(talk);
    this.#counter.tick(performance.now());
    this.#write(0, template, true);
    const at = performance.timeOrigin + performance.now();
    this.#intake.add(this.#batch, 0, 1);
    return { denied: { at, ...talk } };
  }

  /** What the kernel would write of a packet of this connection, but for its time and port. */
  #templateOf(talk: Talk): Buffer {
    const { from, to, port, protocol, name } = talk;
    if (name !== undefined) this.#names.set(to, [name]);
    const packet: Packet = { from, to, port, protocol };
    const verdict = name === undefined ? this.#judge.any(packet) : this.#judge.address(packet, [{ name }]);
    const event = Buffer.alloc(EVENT);
    const flow = E.flow.offset;
    const pod = this.#snapshot.pods.get(from);
    Buffer.from(parseAddr(pod?.ips[0] as string).bytes).copy(event, flow + K.local.offset);
    Buffer.from(parseAddr(to).bytes).copy(event, flow + K.remote.offset);
    event.writeUInt16BE(port, flow + K.remote_port.offset);
    event.writeUInt32LE(this.#endpointOf.get(from) as number, flow + K.endpoint.offset);
    event[flow + K.protocol.offset] = protocol;
    event[E.family.offset] = 4;
    event[E.hook.offset] = ENUMS.ea_hook.EA_HOOK_FROM_POD;
    event.writeUInt16LE(0x0800, E.ethertype.offset);
    writeVerdict(event, verdict);
    return event;
  }

  #write(at: number, template: Buffer, begins: boolean): void {
    const batch = this.#batch;
    template.copy(batch, at);
    const now = process.hrtime.bigint();
    batch.writeBigUInt64LE(now, at + E.time_ns.offset);
    batch.writeBigUInt64LE(begins ? now : now - 20_000_000n, at + E.created_ns.offset);
    this.#port = (this.#port + 1) % 28_000;
    batch.writeUInt16BE(32_768 + this.#port, at + E.flow.offset + K.local_port.offset);
    const isDenied = template[E.verdict.offset] === ENUMS.ea_verdict.EA_VERDICT_DENY;
    batch[at + E.type.offset] = begins || isDenied ? EA_EVENT_VERDICT : EA_EVENT_END;
    if (isDenied) batch.writeBigUInt64LE(1n, at + E.drops.offset);
    else if (!begins) {
      batch.writeBigUInt64LE(4n, at + E.packets_out.offset);
      batch.writeBigUInt64LE(700n, at + E.bytes_out.offset);
      batch.writeBigUInt64LE(5n, at + E.packets_in.offset);
      batch.writeBigUInt64LE(5200n, at + E.bytes_in.offset);
    }
  }

  /** Each connection was met today, and on some of the days before. */
  #fillPast(edges: number): void {
    for (let at = 0; at < this.#templates.length; at += BATCH) {
      this.#counter.tick(performance.now());
      const size = Math.min(BATCH, this.#templates.length - at);
      for (let i = 0; i < size; i++) this.#write(i * RECORD_STRIDE, this.#templates[at + i] as Buffer, true);
      this.#counter.events(this.#batch, 0, size);
    }
    const today = dayOf(Date.now());
    const share = Math.min(0.7, MOST_DAYS / (edges * (KEPT_DAYS - 1)));
    for (const { edge } of this.#ledger.histories({})) {
      const days: DayRow[] = [];
      for (let day = today - KEPT_DAYS + 1; day < today; day++) {
        if (this.#random() >= share) continue;
        const connections = 1 + Math.floor(this.#random() ** 4 * 20_000);
        const isDenied = edge.verdict === 'deny';
        const firstMs = day * DAY_MS + Math.floor(this.#random() * 8 * 3_600_000);
        const lastMs = firstMs + Math.floor(this.#random() * 15 * 3_600_000);
        const [first, last] = [firstMs, lastMs].map((ms) => Math.floor((ms % DAY_MS) / 3_600_000)) as [number, number];
        const hours = (1 << first) | (1 << last);
        const [bytes, drops] = isDenied ? [0, connections * 3] : [connections * 5900, 0];
        days.push({ day, firstMs, lastMs, connections, bytes, drops, hours });
      }
      if (!this.#ledger.restore(edge, days)) throw new Error('the ledger is full');
    }
  }
}

function writeVerdict(event: Buffer, { verdict, rule, audit }: Verdict): void {
  const { EA_VERDICT_ALLOW: allow, EA_VERDICT_DENY: deny, EA_VERDICT_PARTIAL: partial } = ENUMS.ea_verdict;
  const { EA_REASON_RULE, EA_REASON_NO_POLICY, EA_REASON_NONE } = ENUMS.ea_reason;
  event[E.verdict.offset] = { allow, deny, partial }[verdict];
  event[E.reason.offset] = verdict === 'partial' ? EA_REASON_NONE : rule === 0 ? EA_REASON_NO_POLICY : EA_REASON_RULE;
  event.writeBigUInt64LE(BigInt(rule), E.rule.offset);
  if (!audit) return;
  event[E.audit_verdict.offset] = { allow, deny }[audit.verdict];
  event.writeBigUInt64LE(BigInt(audit.rule), E.audit_rule.offset);
}

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { edges: { type: 'string', default: '5000' } },
});
const [socket] = positionals;
if (socket === undefined || !/^\d{1,6}$/.test(values.edges)) {
  console.error('usage: ui-agent SOCKET [--edges N]');
  process.exit(2);
}
const dir = mkdtempSync(join(tmpdir(), 'bench-ui-agent-'));
process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
const agent = new UiAgent(Number(values.edges));
if (agent.edges !== Number(values.edges)) throw new Error(`the ledger has ${agent.edges} edges`);
const close = await agent.serve(socket, dir);
console.log('ready');
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => console.log(JSON.stringify(agent.obey(line))));
lines.once('close', () => {
  void close().then(() => process.exit());
});
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => lines.close());
