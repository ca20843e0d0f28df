import fc from '../seeded.js';
import t from 'tap';
import { decodeEvent, EVENT_SIZE, parties } from '../../src/flow/event/decode.js';
import { compileFilter, wantedKinds } from '../../src/flow/filter/filter.js';
import type { HubItem } from '../../src/flow/hub/hub.js';
import { Intake } from '../../src/flow/intake.js';
import { eventKind, KINDS } from '../../src/flow/event/kind.js';
import type { Flow } from '../../src/flow/event/types.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import type { FlowFilter } from '../../src/proto/messages.js';
import { parseAddr } from '../../src/net/addr.js';
import { flow, LEAD, pod, rule, SECOND, snapshot } from './flows.js';
import { never } from './hubs.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const RULE = 7;

class Bench {
  readonly clock = { mono: 1000e9, wall: LEAD + BigInt(1000e9) };
  readonly intake = new Intake({
    nodeName: 'node-a',
    stride: EVENT_SIZE,
    monoNs: () => this.clock.mono,
    wallClock: () => this.clock.wall,
  });

  /** A pod of this name has the address that events go to, and the rule this number. */
  learn(name: string, index: number): void {
    this.intake.learn({
      snapshot: snapshot([pod('shop', 'web', '10.0.0.1'), pod('data', name, '10.0.0.2')]),
      rules: new Map([[RULE, rule({ index })]]),
      endpoints: new Map([[1, { pod: 'shop/web', uid: 'uid-shop-web' }]]),
    });
  }

  event(): void {
    const b = Buffer.from(new ArrayBuffer(EVENT_SIZE));
    for (const name of ['time_ns', 'created_ns'] as const) b.writeBigUInt64LE(BigInt(this.clock.mono), E[name].offset);
    b.writeBigUInt64LE(BigInt(RULE), E.rule.offset);
    b[E.type.offset] = ENUMS.ea_event_type.EA_EVENT_VERDICT;
    b[E.verdict.offset] = ENUMS.ea_verdict.EA_VERDICT_ALLOW;
    b[E.family.offset] = 4;
    b.set(parseAddr('10.0.0.1').bytes, E.flow.offset + K.local.offset);
    b.set(parseAddr('10.0.0.2').bytes, E.flow.offset + K.remote.offset);
    b.writeUInt32LE(1, E.flow.offset + K.endpoint.offset);
    b[E.flow.offset + K.protocol.offset] = 6;
    this.intake.add(b, 0, 1);
    b.fill(0);
  }

  pass(seconds: number): void {
    this.clock.mono += seconds * 1e9;
    this.clock.wall += BigInt(seconds) * SECOND;
  }

  /** As a reader of the latest asks: these become flows before those that came earlier. */
  async last(): Promise<void> {
    for await (const item of this.intake.hub.read({ number: 2 }, never())) if ('lost' in item) throw new Error('lost');
  }

  async flows(): Promise<Flow[]> {
    const items: HubItem[] = [];
    for await (const item of this.intake.hub.read({}, never())) items.push(item);
    return items.flatMap((i) => ('flow' in i ? [i.flow] : []));
  }
}

t.test(
  'names, rules and the time of day are those of the time when an event came, not when it is asked for',
  async (t) => {
    const b = new Bench();
    b.intake.tick();
    b.learn('db-0', 1);
    b.event();
    b.pass(60);
    b.learn('db-1', 2);
    b.event();
    b.clock.wall += 3600n * SECOND;
    b.intake.tick();
    b.event();
    b.pass(7200);
    b.learn('db-2', 3);
    const seen = (await b.flows()).map((f) => [f.destination.pod, f.rule?.index, f.timeNs - LEAD]);
    t.same(seen, [
      ['db-0', 1, 1000n * SECOND],
      ['db-1', 2, 1060n * SECOND],
      ['db-1', 2, 4660n * SECOND],
    ]);
  },
);

t.test('uuids are in the order of the events, whichever is asked for first', async (t) => {
  const b = new Bench();
  b.learn('db-0', 1);
  for (let i = 0; i < 5; i++) b.event();
  await b.last();
  const uuids = (await b.flows()).map((f) => f.uuid);
  t.same(uuids, uuids.toSorted());
  t.equal(new Set(uuids).size, 5);
});

t.test('a flow that fell silent is one of them', async (t) => {
  const b = new Bench();
  b.learn('db-0', 1);
  const key = Buffer.alloc(STRUCTS.ea_flow_key.size);
  const value = Buffer.alloc(STRUCTS.ea_flow.size);
  const V = STRUCTS.ea_flow.fields;
  key.set(parseAddr('10.0.0.1').bytes, K.local.offset);
  key.set(parseAddr('10.0.0.2').bytes, K.remote.offset);
  key.writeUInt32LE(1, K.endpoint.offset);
  key[K.protocol.offset] = 17;
  value[V.verdict.offset] = ENUMS.ea_verdict.EA_VERDICT_ALLOW;
  value.writeBigUInt64LE(BigInt(RULE), V.rule.offset);
  value.writeBigUInt64LE(5n, V.packets_out.offset);
  value.writeBigUInt64LE(9n, V.drops.offset);
  value.writeBigUInt64LE(4n, V.drops_reported.offset);
  b.intake.ended(key, value, b.clock.mono);
  key.fill(0);
  value.fill(0);
  b.learn('db-1', 2);
  const [end] = await b.flows();
  t.match(end, {
    source: { namespace: 'shop', pod: 'web' },
    destination: { namespace: 'data', pod: 'db-0' },
    rule: { index: 1 },
    event: { type: 'end', verdict: 'allow', packetsOut: 5, drops: 5, protocol: 17, hook: 'from-pod' },
  });
});

t.test('events between the same two have one number, others have others', async (t) => {
  const b = Buffer.alloc(EVENT_SIZE + 16, 1);
  const at = 8;
  const flow = at + E.flow.offset;
  const now = (created: number) => {
    b.writeBigUInt64LE(BigInt(1000e9), at + E.time_ns.offset);
    b.writeBigUInt64LE(BigInt(created), at + E.created_ns.offset);
    return parties(b, at);
  };
  const first = now(1000e9);
  t.ok(first >= 0);
  b.writeUInt16BE(9, flow + K.local_port.offset);
  b.writeUInt16BE(9, flow + K.remote_port.offset);
  t.equal(now(995e9), first, 'the same two by other ports');
  t.equal(now(985e9), -1, 'an old flow');
  const seen = new Set([first]);
  for (const field of [K.local, K.remote, K.endpoint]) {
    for (let i = 0; i < field.size; i++) {
      for (let bit = 1; bit < 256; bit *= 2) {
        b[flow + field.offset + i] = 1 ^ bit;
        seen.add(now(1000e9));
      }
      b[flow + field.offset + i] = 1;
    }
  }
  t.equal(seen.size, 1 + 36 * 8);
  b[at + E.family.offset] = 0;
  t.equal(now(1000e9), -1, 'no addresses');
});

t.test('an event’s kind says no more than the event', async (t) => {
  const b = Buffer.alloc(EVENT_SIZE);
  for (let type = 0; type < 10; type++)
    for (let verdict = 0; verdict < 10; verdict++)
      for (let audit = 0; audit < 10; audit++) {
        b[E.type.offset] = type;
        b[E.verdict.offset] = verdict;
        b[E.audit_verdict.offset] = audit;
        const n = eventKind(b, 0);
        const known = type < 8 && verdict < 8 && audit < 8;
        if (known !== n >= 0) t.fail(`${type}, ${verdict}, ${audit}: ${n}`);
        const { type: ofType, verdict: ofVerdict, auditVerdict } = decodeEvent(b, 0);
        if (known && JSON.stringify(KINDS[n]) !== JSON.stringify({ type: ofType, verdict: ofVerdict, auditVerdict }))
          t.fail(`${type}, ${verdict}, ${audit}: ${JSON.stringify(KINDS[n])}`);
      }
  t.equal(wantedKinds(undefined), undefined);
  t.equal(wantedKinds([{ source_port: ['1'] }]), undefined, 'nothing that it tells');
  t.ok(wantedKinds([{ verdict: ['DROPPED'] }])?.includes(1));
});

t.test('no filter’s kinds refuse what the filter lets pass', async (t) => {
  const filter: fc.Arbitrary<FlowFilter> = fc.record(
    {
      verdict: fc.array(fc.constantFrom('FORWARDED', 'DROPPED', 'AUDIT', 'TRACED', 'VERDICT_UNKNOWN', 'ERROR'), {
        maxLength: 2,
      }) as fc.Arbitrary<NonNullable<FlowFilter['verdict']>>,
      event_type: fc.array(
        fc.record({ type: fc.constantFrom(0, 1, 4, 5), match_sub_type: fc.boolean(), sub_type: fc.constant(0) }),
        { maxLength: 2 },
      ) as fc.Arbitrary<NonNullable<FlowFilter['event_type']>>,
      source_port: fc.constantFrom<string[]>([], ['40000'], ['1']),
    },
    { requiredKeys: [] },
  );
  let refused = 0;
  fc.assert(
    fc.property(fc.array(filter, { maxLength: 3 }), (whitelist) => {
      const passes = compileFilter(whitelist, []);
      const kinds = wantedKinds(whitelist);
      for (const [n, kind] of KINDS.entries()) {
        if (kinds?.[n] !== 0) continue;
        refused++;
        if (passes(flow({}, kind))) throw new Error(`${JSON.stringify(kind)} would pass`);
      }
    }),
    { numRuns: 500 },
  );
  t.ok(refused > 1000, `${refused} refused`);
});

t.test('a flow says what it said, whatever is written behind it', async (t) => {
  const b = new Bench();
  b.learn('db-0', 1);
  const told = Buffer.from(new ArrayBuffer(EVENT_SIZE));
  told[E.family.offset] = 4;
  told[E.flow.offset + K.protocol.offset] = 6;
  let written = 0;
  const write = (count: number) => {
    for (let i = 0; i < count; i++) {
      told.writeUInt16BE(written++ % 60_000, E.flow.offset + K.local_port.offset);
      b.intake.add(told, 0, 1);
    }
  };
  const kept = new Map<number, Flow>();
  let read = 0;
  const stop = new AbortController();
  const reader = (async () => {
    for await (const item of b.intake.hub.read({ follow: true }, stop.signal)) {
      // Their events are decoded late, from the bytes that are there by then.
      if ('flow' in item && ++read % 3 === 0) kept.set(read - 1, item.flow);
    }
  })();
  for (const count of [1, 1, 200, 7000, 3, 129, 5000, 1, 4000, 8000, 64, 8191, 10]) {
    write(count);
    await new Promise((resolve) => setImmediate(resolve));
  }
  stop.abort();
  await reader;
  t.equal(read, written);
  t.same(
    [...kept].filter(([n, flow]) => flow.event.localPort !== n % 60_000).map(([n]) => n),
    [],
  );
  t.equal(kept.size, Math.floor(written / 3));
});

t.test('the name of an event is noted as it comes, also of the end of a flow', async (t) => {
  const noted: string[] = [];
  const names = {
    note: (slot: number, incarnation: number) => noted.push(`${slot}/${incarnation}`),
    text: (slot: number) => `name-${slot}.example`,
    known: () => [],
  };
  const stride = EVENT_SIZE + 8;
  const intake = new Intake({ nodeName: 'node-a', stride, names });
  const buf = Buffer.from(new ArrayBuffer(3 * stride));
  for (const [i, incarnation] of [4, 0, 5].entries()) {
    const at = i * stride;
    buf.writeUInt32LE(10 + i, at + E.name.offset);
    buf.writeUInt32LE(incarnation, at + E.name_incarnation.offset);
    buf[at + E.family.offset] = 4;
  }
  intake.add(buf, 0, 3);
  t.same(noted, ['10/4', '12/5']);

  const key = Buffer.alloc(STRUCTS.ea_flow_key.size);
  const value = Buffer.alloc(STRUCTS.ea_flow.size);
  const { extra, tcp_state } = STRUCTS.ea_flow.fields;
  value.writeUInt32LE(20, extra.offset);
  value.writeUInt32LE(6, extra.offset + 4);
  intake.ended(key, value, 5e9);
  t.same(noted.slice(2), ['20/6']);
  value[tcp_state.offset] = ENUMS.ea_tcp_state.EA_TCP_INSPECT;
  intake.ended(key, value, 5e9);
  t.equal(noted.length, 3, 'the state of a DNS connection is no name');

  const found: unknown[] = [];
  for await (const item of intake.hub.read({}, never()))
    if ('flow' in item) found.push(item.flow.destinationNames?.[0]);
  t.same(found, ['name-10.example', undefined, 'name-12.example', 'name-20.example', undefined]);
});

t.test('resolvers that pods ask are seen with the first event of a flow', async (t) => {
  const asked: string[] = [];
  const resolvers = {
    asked: (endpoint: number, ip: string) => asked.push(`${endpoint} ${ip}`),
    untrusted: () => t.fail('no answer'),
  };
  const intake = new Intake({ nodeName: 'node-a', stride: EVENT_SIZE, resolvers });
  const key = E.flow.offset;
  const event = (over: Partial<Record<'type' | 'verdict' | 'flags' | 'port' | 'protocol', number>>): Buffer => {
    const b = Buffer.from(new ArrayBuffer(EVENT_SIZE));
    b[E.type.offset] = over.type ?? ENUMS.ea_event_type.EA_EVENT_VERDICT;
    b[E.verdict.offset] = over.verdict ?? ENUMS.ea_verdict.EA_VERDICT_ALLOW;
    b[E.flow_flags.offset] = over.flags ?? 0;
    b[E.family.offset] = 4;
    b.set(parseAddr('8.8.8.8').bytes, key + K.remote.offset);
    b.writeUInt16BE(over.port ?? 53, key + K.remote_port.offset);
    b.writeUInt32LE(5, key + K.endpoint.offset);
    b[key + K.protocol.offset] = over.protocol ?? 17;
    return b;
  };
  intake.add(event({}), 0, 1);
  intake.add(event({ protocol: 6 }), 0, 1);
  t.same(asked, ['5 8.8.8.8', '5 8.8.8.8']);
  for (const other of [
    { type: ENUMS.ea_event_type.EA_EVENT_END },
    { verdict: ENUMS.ea_verdict.EA_VERDICT_DENY },
    { flags: ENUMS.ea_flow_flags.EA_FLOW_INBOUND },
    { port: 443 },
    { protocol: 1 },
  ])
    intake.add(event(other), 0, 1);
  t.equal(asked.length, 2, 'no other event');
});
