/** The ledger of edges: flows a second that one agent counts, on top of all that it does with events; and its memory. */
import { RECORD_STRIDE } from '../../agent/events/ring.js';
import { EdgeCounter } from '../../src/edges/counter.js';
import { Ledger, LEDGER_EDGES } from '../../src/edges/ledger.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { atLeast, atMost, median, progress, type Result } from './result.js';
import { snapshot } from './worlds.js';

/** Pods of the node, and what each calls: together as many edges as a ledger holds. */
const PODS = 100;
const CALLED = LEDGER_EDGES / PODS;
/** Events of a batch, as the agent's drain takes them. */
const BATCH = 1024;
const ROUNDS = 40;
const FLOWS_A_ROUND = 51_200;
const MIB = 1 << 20;
const TICK_MS = 100;

export async function ledger(): Promise<Result[]> {
  const base = snapshot();
  const pod = base.pods.get('default/web');
  if (!pod) throw new Error('the world has no pod');
  const pods = new Map(
    Array.from({ length: PODS }, (_, n) => {
      const name = `web-${n}-6d4b8c7f9d-x${n}`;
      const ips = [`10.244.0.${n + 1}`];
      const workload = { kind: 'Deployment', name: `web-${n}` };
      return [`default/${name}`, { ...pod, name, uid: `u${n}`, ips, workload }] as const;
    }),
  );
  const endpoints = new Map([...pods].map(([key, { uid }], n) => [n + 1, { pod: key, uid }]));
  const known = { snapshot: { ...base, pods }, rules: new Map(), endpoints };

  const before = used();
  const kept = Ledger.fresh(Date.now());
  const counter = new EdgeCounter(kept, { nodeName: 'n', stride: RECORD_STRIDE });
  counter.learn(known);
  const batch = Buffer.alloc(BATCH * RECORD_STRIDE);
  for (let n = 0; n < LEDGER_EDGES; n += BATCH) {
    // The time passes in which a pod may make so many edges.
    counter.tick(n * 1000);
    const size = Math.min(BATCH, LEDGER_EDGES - n);
    for (let i = 0; i < size; i++) writeEvent(batch, i * RECORD_STRIDE, n + i, true);
    counter.events(batch, 0, size);
  }
  const memory = used() - before;
  if (kept.size !== LEDGER_EDGES) throw new Error(`the ledger has ${kept.size} edges`);
  progress(`${kept.size} edges: ${(memory / MIB).toFixed(1)} MiB`);

  const rates: number[] = [];
  let clock = 1e9;
  for (let round = 0; round < ROUNDS; round++) {
    const batches = Array.from({ length: (2 * FLOWS_A_ROUND) / BATCH }, () => {
      const one = Buffer.alloc(BATCH * RECORD_STRIDE);
      for (let i = 0; i < BATCH; i += 2) {
        const edge = skewed();
        writeEvent(one, i * RECORD_STRIDE, edge, true);
        writeEvent(one, (i + 1) * RECORD_STRIDE, edge, false);
      }
      return one;
    });
    const start = process.cpuUsage();
    for (const [n, one] of batches.entries()) {
      if (n % 30 === 0) counter.tick((clock += TICK_MS));
      counter.events(one, 0, BATCH);
    }
    const { user, system } = process.cpuUsage(start);
    rates.push(FLOWS_A_ROUND / ((user + system) / 1e6));
  }
  const perSecond = median(rates);
  return [
    atLeast(
      'flows counted in the ledger',
      perSecond,
      '/s',
      `begin and end of each, of ${PODS} pods that call ${CALLED} destinations each, on one core`,
      300_000,
    ),
    atMost('memory of a full ledger', memory / MIB, 'MiB', `${LEDGER_EDGES} edges, with what finds them`, 24),
  ];
}

/** Some edges are met far more often than others. */
function skewed(): number {
  return Math.floor(Math.random() ** 3 * LEDGER_EDGES);
}

function used(): number {
  for (let i = 0; i < 3; i++) globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

/** What the kernel writes of a connection's first packet, or of its end. */
function writeEvent(buf: Buffer, at: number, edge: number, isFirst: boolean): void {
  const { fields } = STRUCTS.ea_event;
  const key = STRUCTS.ea_flow_key.fields;
  const flow = at + fields.flow.offset;
  const pod = edge % PODS;
  const called = Math.floor(edge / PODS);
  const now = Number(process.hrtime.bigint());
  for (const name of ['time_ns', 'created_ns'] as const) {
    buf.writeUInt32LE(now % 2 ** 32, at + fields[name].offset);
    buf.writeUInt32LE(Math.floor(now / 2 ** 32), at + fields[name].offset + 4);
  }
  const { EA_EVENT_VERDICT, EA_EVENT_END } = ENUMS.ea_event_type;
  buf[at + fields.type.offset] = isFirst ? EA_EVENT_VERDICT : EA_EVENT_END;
  buf[at + fields.verdict.offset] = 1;
  buf[at + fields.family.offset] = 4;
  buf.writeUInt32LE(1500, at + fields.bytes_out.offset);
  buf.writeUInt32BE(0xffff, flow + key.local.offset + 8);
  buf.writeUInt32BE(0x0af40001 + pod, flow + key.local.offset + 12);
  buf.writeUInt32BE(0xffff, flow + key.remote.offset + 8);
  buf.writeUInt32BE(0xcb007100 + called, flow + key.remote.offset + 12);
  buf.writeUInt16BE(20_000 + (now % 40_000), flow + key.local_port.offset);
  buf.writeUInt16BE(443, flow + key.remote_port.offset);
  buf.writeUInt32LE(pod + 1, flow + key.endpoint.offset);
  buf[flow + key.protocol.offset] = 6;
}
