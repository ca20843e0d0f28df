/** Events: how many a second one core reads, decodes, names and keeps; and none lost at 100,000 a second. */
import { RingReader } from '../../agent/ring.js';
import type { BpfMap } from '../../agent/libbpf/map.js';
import { Enricher } from '../../src/flow/enrich.js';
import { FlowHub } from '../../src/flow/hub.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { emitter } from '../bpf/emitter.js';
import { loadForTest } from '../engines/engine.js';
import { atLeast, atMost, progress, type Result } from './result.js';
import { snapshot } from './worlds.js';

const ROUNDS = 40;
const STEADY_SECONDS = 3;
const RATE = 100_000;
const TICK_MS = 100;

export async function events(): Promise<Result[]> {
  const programs = loadForTest();
  const big = loadForTest({ events: 8 << 20 });
  try {
    const map = big.maps.events as BpfMap;
    const reader = new RingReader(map, big.maps.counters as BpfMap);
    const emit = emitter(map, STRUCTS.ea_event.size);
    const { fields } = STRUCTS.ea_event;
    const event = Buffer.alloc(STRUCTS.ea_event.size + 14);
    event[fields.type.offset] = 1;
    event[fields.verdict.offset] = 1;
    event[fields.family.offset] = 4;
    Buffer.from('00000000000000000000ffff0af40001', 'hex').copy(event, fields.flow.offset);
    Buffer.from('00000000000000000000ffffcb00710a', 'hex').copy(event, fields.flow.offset + 16);
    const hub = new FlowHub({ nodeName: 'n' });
    const enricher = new Enricher({ nodeName: 'n' });
    enricher.update({ snapshot: snapshot(), rules: new Map(), endpoints: new Map() });
    const publish = (max?: number) => reader.drain((e) => hub.publish(enricher.enrich(e)), max);

    let read = 0;
    let seconds = 0;
    for (let i = 0; i < ROUNDS; i++) {
      emit.testRun(event, { repeat: 20_000 });
      const start = performance.now();
      read += publish();
      seconds += (performance.now() - start) / 1000;
    }
    progress(`${Math.round(read / seconds)} events a second`);

    // Steadily: written every few milliseconds, read on the agent's own timer.
    let written = 0;
    let got = 0;
    const timer = setInterval(() => (got += publish()), TICK_MS);
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
    for (let n = 1; n > 0; ) got += n = publish();
    return [
      atLeast('events read from the ring', read / seconds, '/s', 'decoded, named and kept, on one core', 400_000),
      atMost('events lost at 100,000 a second', written - got, 'lost', `${written} written in ${STEADY_SECONDS} s`, 0),
    ];
  } finally {
    programs.close();
    big.close();
  }
}
