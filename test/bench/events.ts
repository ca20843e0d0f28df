/** Events: how many a second one core takes from the ring, with nobody who reads them, with one who reads all, and with one who is sent them; none lost at 100,000 a second. */
import { RECORD_STRIDE, RingReader } from '../../agent/events/ring.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { EdgeCounter } from '../../src/edges/counter.js';
import { Ledger } from '../../src/edges/ledger.js';
import { Intake } from '../../src/flow/intake.js';
import type { Flow } from '../../src/flow/event/types.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { FlowWriter } from '../../src/rpc/flow-writer.js';
import { emitter } from '../bpf/emitter.js';
import { loadForTest } from '../engines/engine.js';
import { atLeast, atMost, median, progress, type Result } from './result.js';
import { snapshot } from './worlds.js';

const ROUNDS = 60;
/** Events of a round; the ring holds twice as many. */
const BURST = 20_000;
/** As the agent's drain takes them. */
const BATCH = 1024;
const STEADY_SECONDS = 3;
const RATE = 100_000;
const TICK_MS = 100;

export async function events(): Promise<Result[]> {
  const programs = loadForTest({ events: 8 << 20 });
  try {
    const map = programs.maps.events as BpfMap;
    const ring = new RingReader(map, programs.maps.counters as BpfMap);
    const emit = emitter(map, STRUCTS.ea_event.size);
    const event = oneEvent();
    const common = { nodeName: 'n', stride: RECORD_STRIDE };
    // As in an agent: the ledger counts each event.
    const counter = new EdgeCounter(Ledger.fresh(Date.now()), common);
    const intake = new Intake({ ...common, edges: counter });
    const endpoints = new Map([[1, { pod: 'default/web', uid: 'u' }]]);
    intake.learn({ snapshot: snapshot(), rules: new Map(), endpoints });
    counter.tick(performance.now());
    const take = () => ring.runs((buf, at, count) => intake.add(buf, at, count), BATCH);

    const unread = await rate(emit, event, async () => {
      while (take() === BATCH);
    });
    progress(`nobody reads: ${Math.round(unread)} events a second`);

    const readBy = async (taken: (flow: Flow) => void): Promise<number> => {
      const stop = new AbortController();
      const reader = (async () => {
        for await (const item of intake.hub.read({ follow: true }, stop.signal)) if ('flow' in item) taken(item.flow);
      })();
      const perSecond = await rate(emit, event, async () => {
        for (let n = BATCH; n === BATCH; ) {
          n = take();
          await new Promise((resolve) => setImmediate(resolve));
        }
      });
      stop.abort();
      await reader;
      return perSecond;
    };
    let got = 0;
    const read = await readBy(() => got++);
    progress(`one reader: ${Math.round(read)} events a second`);

    const writer = new FlowWriter('n');
    let bytes = 0;
    let encoded = 0;
    const served = await readBy((flow) => {
      const record = writer.record(flow);
      if (record) encoded++;
      bytes += record?.length ?? 0;
    });
    progress(`one reader of records: ${Math.round(served)} events a second`);

    // Steadily: written every few milliseconds, read on the agent's own timer.
    let written = 0;
    let taken = 0;
    const all = () => {
      for (let n = BATCH; n === BATCH; taken += n) n = take();
    };
    const timer = setInterval(all, TICK_MS);
    const start = performance.now();
    while (performance.now() - start < STEADY_SECONDS * 1000) {
      const due = Math.floor(((performance.now() - start) / 1000) * RATE);
      if (due > written) {
        emit.testRun(event, { repeat: due - written });
        written = due;
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    clearInterval(timer);
    all();
    return [
      atLeast('events taken from the ring', unread, '/s', 'kept for whoever asks, on one core', 1_200_000),
      atLeast(
        'events read',
        read,
        '/s',
        `by one reader of everything, with names; it got ${got}, on one core`,
        1_200_000,
      ),
      atLeast(
        'events encoded',
        served,
        '/s',
        `as the records that egressctl reads, ${Math.round(bytes / encoded)} bytes each; ${encoded} of them, on one core`,
        150_000,
      ),
      atMost(
        'events lost at 100,000 a second',
        written - taken,
        'lost',
        `${written} written in ${STEADY_SECONDS} s`,
        0,
      ),
    ];
  } finally {
    programs.close();
  }
}

/** What the kernel writes of a connection's first packet. */
function oneEvent(): Buffer {
  const { fields } = STRUCTS.ea_event;
  const key = STRUCTS.ea_flow_key.fields;
  const flow = fields.flow.offset;
  // The emitter takes it for a packet: with room for its link layer.
  const event = Buffer.alloc(STRUCTS.ea_event.size + 14);
  const now = process.hrtime.bigint();
  for (const name of ['time_ns', 'created_ns'] as const) event.writeBigUInt64LE(now, fields[name].offset);
  event[fields.type.offset] = 1;
  event[fields.verdict.offset] = 1;
  event[fields.family.offset] = 4;
  Buffer.from('00000000000000000000ffff0af40001', 'hex').copy(event, flow + key.local.offset);
  Buffer.from('00000000000000000000ffffcb00710a', 'hex').copy(event, flow + key.remote.offset);
  event.writeUInt16BE(40000, flow + key.local_port.offset);
  event.writeUInt16BE(443, flow + key.remote_port.offset);
  event.writeUInt32LE(1, flow + key.endpoint.offset);
  event[flow + key.protocol.offset] = 6;
  return event;
}

/** Events a second of this process's own processor time: the middle of the rounds. */
async function rate(emit: ReturnType<typeof emitter>, event: Buffer, takeAll: () => Promise<void>): Promise<number> {
  const rates: number[] = [];
  for (let i = 0; i < ROUNDS; i++) {
    emit.testRun(event, { repeat: BURST });
    const before = process.cpuUsage();
    await takeAll();
    const { user, system } = process.cpuUsage(before);
    rates.push(BURST / ((user + system) / 1e6));
  }
  return median(rates);
}
