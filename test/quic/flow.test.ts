/** bpf/quic_flow.h by itself: which datagrams of a flow pass, before and after its hello. */
import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { ALLOWS, ALSO_ALLOWS, DENIES, FlowBed, type Flow, hello, nameOf, part, VERDICT, whole } from './flow-bed.js';
import { open, packetAt } from './reference.js';
import { twoKeys } from './two-keys.js';
import { ack, crypto, initial, keysOf, opaque, padding, ping, TYPES, V1, V2 } from './writer.js';

const bed = new FlowBed();
t.teardown(() => bed.close());

const SHORT = Buffer.alloc(60, 0x45);
const id = (size = 8): Buffer => randomBytes(size);
const zeroRtt = (to: Buffer): Buffer => opaque(TYPES.zeroRtt, to);
const handshake = (to: Buffer): Buffer => opaque(TYPES.handshake, to);

/** Sends one packet after the other, and compares what becomes of each. */
function expect(
  t: Test,
  flow: Flow,
  steps: readonly (readonly [what: string, packet: Buffer | Buffer[], want: number])[],
) {
  for (const [what, packet, want] of steps) {
    const { verdict } = flow.send(...(Array.isArray(packet) ? packet : [packet]));
    t.equal(nameOf(verdict), nameOf(want), what);
  }
}
const { pass, hold, saysOther, deny, unreadable, version, tooLarge, lost, noRoom } = VERDICT;

t.test('a hello that is allowed opens the flow', async (t) => {
  for (const version of [V1, V2]) {
    const [to, server] = [id(), id(5)];
    const keys = keysOf(version, to);
    const said = hello(ALLOWS);
    const flow = bed.flow();
    const first = flow.send(whole(said, { to, version, padTo: 1200 }));
    t.same(first, { verdict: pass, judged: true, rule: ALLOWS });
    t.same(bed.judged, said.subarray(0, 60));
    expect(t, flow, [
      ['the same again', whole(said, { to, version, number: 1 }), pass],
      ['a part of it', part(said, 20, 200, { to, version, number: 2 }), pass],
      ['early data', opaque(TYPES.zeroRtt, to, { version }), pass],
      ['to the id that the server chose', initial(ack(0), { to: server, keys, version, number: 3 }), pass],
      ['the hello to that id', whole(said, { to: server, keys, version, number: 4 }), pass],
      [
        'an acknowledgement, and a handshake behind it',
        Buffer.concat([
          initial(ack(1), { to: server, keys, version, number: 5 }),
          opaque(TYPES.handshake, server, { version }),
          SHORT,
        ]),
        pass,
      ],
      ['data', SHORT, pass],
    ] as const);
    t.notOk(flow.holds(), 'nothing is kept');
    t.equal(flow.send(Buffer.alloc(0)).verdict, pass);
  }
});

t.test('a handshake ends what is remembered, where all of it was judged', async (t) => {
  const [to, flow, said] = [id(), bed.flow(), hello(ALLOWS)];
  flow.send(whole(said, { to }));
  t.ok(flow.holds());
  expect(t, flow, [
    ['half of a second hello', part(Buffer.concat([said, hello(ALLOWS)]), 300, 400, { to }), pass],
    ['a handshake', handshake(to), pass],
  ]);
  t.ok(flow.holds());
  const next = bed.flow();
  next.send(whole(said, { to: id() }));
  t.equal(next.send(handshake(id())).verdict, pass);
  t.notOk(next.holds());
});

t.test('a hello that is denied', async (t) => {
  const [to, flow] = [id(), bed.flow()];
  t.same(flow.send(whole(hello(DENIES), { to, padTo: 1200 })), { verdict: deny, judged: true, rule: DENIES });
  t.notOk(flow.holds());
  expect(t, flow, [
    ['again', whole(hello(DENIES), { to }), deny],
    ['a short header', SHORT, saysOther],
    ['early data', zeroRtt(to), hold],
    ['a handshake', handshake(to), hold],
    ['another connection', whole(hello(ALLOWS), { to: id() }), pass],
    ['data of it', SHORT, pass],
    ['one that is denied, among its data', whole(hello(DENIES), { to: id() }), deny],
    ['data', SHORT, pass],
  ]);
});

t.test('parts pass, in any order, and the last one decides', async (t) => {
  for (const rule of [ALLOWS, DENIES])
    for (const cuts of [
      [0, 1200, 2100],
      [1200, 0, 2100],
      [0, 1, 2, 3, 4, 5, 6, 700, 1400, 2100],
      [700, 1400, 5, 0, 2100],
    ]) {
      const [to, flow, said] = [id(), bed.flow(), hello(rule, 2100)];
      const starts = cuts.slice(0, -1);
      const sorted = [...cuts].sort((a, b) => a - b);
      const parts = starts.map((from) =>
        part(said, from, sorted[sorted.indexOf(from) + 1] as number, { to, padTo: 1200 }),
      );
      for (const [i, datagram] of parts.entries()) {
        const last = i === parts.length - 1;
        t.same(flow.send(datagram), {
          verdict: last && rule === DENIES ? deny : pass,
          judged: last,
          rule: last ? rule : 0,
        });
        if (last) continue;
        expect(t, flow, [
          ['data', SHORT, hold],
          ['early data', zeroRtt(to), hold],
          ['a handshake', handshake(to), hold],
          ['nothing', initial(Buffer.concat([ping(), padding(9)]), { to }), pass],
          ['the same, and more behind it', Buffer.concat([datagram, zeroRtt(to)]), hold],
        ]);
      }
      t.equal(flow.send(SHORT).verdict, rule === DENIES ? saysOther : pass);
    }
});

t.test('what stands behind a hello passes with it, or does not', async (t) => {
  const [to, flow, said] = [id(), bed.flow(), hello(ALLOWS, 900)];
  expect(t, flow, [
    ['a part', Buffer.concat([part(said, 0, 500, { to }), zeroRtt(to)]), hold],
    ['which is remembered: the rest', Buffer.concat([part(said, 500, 900, { to }), zeroRtt(to)]), pass],
    ['and comes again', Buffer.concat([part(said, 0, 500, { to }), zeroRtt(to)]), pass],
  ]);
  const denied = bed.flow();
  t.equal(denied.send(Buffer.concat([whole(hello(DENIES), { to: id() }), Buffer.alloc(700)])).verdict, deny);
  t.equal(bed.flow().send(Buffer.concat([whole(said, { to: id() }), Buffer.alloc(700)])).verdict, pass, 'zeros');
});

t.test('what is said once is not said otherwise', async (t) => {
  const [to, flow, said] = [id(), bed.flow(), hello(ALLOWS, 900)];
  const other = Buffer.from(said);
  other[700] = (other[700] as number) ^ 1;
  expect(t, flow, [
    ['a part', part(said, 600, 900, { to }), pass],
    ['the other', whole(other, { to }), unreadable],
    ['the same', whole(said, { to }), pass],
    ['the other, after the verdict', whole(other, { to }), unreadable],
    ['another rule', part(Buffer.concat([said.subarray(0, 4), Buffer.from([DENIES])]), 4, 5, { to }), unreadable],
    ['a wrong tag', initial(ack(0), { to, spoilTag: true }), unreadable],
    ['the keys of nobody', initial(ack(0), { to: id(), keys: keysOf(V1, id()) }), unreadable],
    ['data', SHORT, pass],
  ]);
});

t.test('a second hello, after a HelloRetryRequest', async (t) => {
  for (const [rule, want] of [
    [ALLOWS, pass],
    [ALSO_ALLOWS, deny],
    [DENIES, deny],
  ] as const) {
    const [to, server, flow, first] = [id(), id(), bed.flow(), hello(ALLOWS)];
    const said = Buffer.concat([first, hello(rule, 500), hello(ALLOWS)]);
    const opts = { to: server, keys: keysOf(V1, to) };
    expect(t, flow, [
      ['the first', whole(first, { to }), pass],
      ['half of the second', part(said, 300, 500, opts), pass],
      ['all of it', part(said, 300, 800, opts), want],
    ]);
    if (want === pass) t.equal(flow.send(part(said, 800, 1100, opts)).verdict, unreadable, 'there is no third');
  }
  const both = Buffer.concat([hello(ALLOWS), hello(DENIES)]);
  t.equal(bed.flow().send(whole(both, { to: id() })).verdict, deny, 'both at once');
});

t.test('what begins otherwise', async (t) => {
  const [to, said] = [id(), hello(ALLOWS)];
  const vn = Buffer.from('c000000000080001020304050607', 'hex');
  const unknown = Buffer.from('c0ff00001d080001020304050607', 'hex');
  for (const [what, packet, want, later = want] of [
    ['a short header: it has moved here, or is no QUIC', SHORT, saysOther, pass],
    ['no QUIC', Buffer.from('16fefd0000', 'hex'), saysOther, pass],
    ['nothing', Buffer.alloc(0), saysOther, pass],
    ['early data', zeroRtt(to), hold, pass],
    ['a handshake', handshake(to), hold, pass],
    ['a Retry', opaque(TYPES.retry, to), unreadable],
    ['version 0', Buffer.concat([vn, Buffer.alloc(1200)]), version],
    ['an unknown version', Buffer.concat([unknown, Buffer.alloc(1200)]), version],
    ['what cannot be one: NTP, for example', unknown, saysOther, pass],
    ['what cannot be version 0', vn, saysOther, pass],
    ['an id that is too short', whole(said, { to: id(7) }), unreadable],
    ['none', whole(said, { to: Buffer.alloc(0) }), unreadable],
    ['no hello', initial(Buffer.from([6, 0, 5, 2, 0, 0, 1, 9]), { to: id() }), unreadable],
    ['a hello that is too large', initial(Buffer.from([6, 0, 4, 1, 0, 0x3f, 0xfd]), { to: id() }), tooLarge],
    ['a wrong tag', initial(ack(0), { to: id(), spoilTag: true }), unreadable],
  ] as const) {
    t.equal(nameOf(bed.flow().send(packet).verdict), nameOf(want), what);
    const open = bed.flow();
    open.send(whole(said, { to: id() }));
    t.equal(nameOf(open.send(packet).verdict), nameOf(later), `${what}, after a hello`);
  }
  t.equal(
    bed.flow().send(initial(Buffer.from([6, 0, 4, 1, 0, 0x3f, 0xfc]), { to: id() })).verdict,
    pass,
    'the largest',
  );
});

t.test('one connection after the other, on the same ports', async (t) => {
  const [one, two, flow] = [id(), id(), bed.flow()];
  const [first, second] = [hello(ALLOWS, 700), hello(DENIES, 700)];
  expect(t, flow, [
    ['the first', whole(first, { to: one }), pass],
    ['a part of another', part(second, 0, 300, { to: two }), pass],
    ['data of the first', SHORT, pass],
    ['early data may be the other’s', zeroRtt(two), hold],
    ['the rest', part(second, 300, 700, { to: two }), deny],
    ['the rest again: its beginning is forgotten', part(second, 300, 700, { to: two }), lost],
    ['all of it', whole(second, { to: two }), lost],
    ['the first again: it is forgotten', whole(first, { to: one }), lost],
    ['a Retry: the same hello to another id', whole(first, { to: id(12), token: Buffer.alloc(40, 7) }), pass],
    ['another version', whole(hello(ALLOWS), { to: id(), version: V2 }), pass],
  ]);
  const moved = bed.flow();
  const to = id();
  expect(t, moved, [
    ['a part in version 1', part(first, 0, 300, { to }), pass],
    ['the rest in version 2, as the server asked for', part(first, 300, 700, { to, version: V2 }), pass],
    ['both in version 1', whole(first, { to }), pass],
    ['others', whole(second, { to, version: V2 }), unreadable],
  ]);
});

t.test('parts do not come together where nobody has seen both', async (t) => {
  const said = hello(DENIES, 700);
  const begin = (to: Buffer, flow = bed.flow()) => {
    t.equal(flow.send(part(said, 0, 300, { to })).verdict, pass);
    return flow;
  };
  const rest = (to: Buffer) => part(said, 300, 700, { to });
  let to = id();
  begin(to);
  t.equal(bed.flow().send(rest(to)).verdict, lost, 'on another flow');
  t.equal(bed.flow().send(whole(hello(ALLOWS, 700), { to })).verdict, lost, 'something else');
  t.equal(bed.flow(2).send(rest(to)).verdict, pass, 'another endpoint knows nothing of it');
  to = id();
  let flow = begin(to);
  flow.lose();
  t.equal(flow.send(rest(to)).verdict, lost, 'after the buffer was taken away');
  to = id();
  flow = begin(to);
  flow.forget();
  t.equal(flow.send(rest(to)).verdict, lost, 'after the entry was');
  to = id();
  flow = begin(to);
  t.equal(flow.send(whole(hello(ALLOWS), { to: id() })).verdict, pass);
  t.equal(flow.send(rest(to)).verdict, lost, 'after another connection');
  to = id();
  flow = begin(to);
  const server = id();
  flow.receive(
    opaque(TYPES.initial, id(), { from: server, rest: Buffer.concat([Buffer.from([0, 0x40, 30]), id(30)]) }),
  );
  flow.receive(opaque(TYPES.handshake, id(), { from: server }));
  t.equal(bed.flow().send(whole(hello(ALLOWS), { to: server })).verdict, lost, 'to an id that the server chose');
});

t.test('a packet that is valid under two keys is refused', async (t) => {
  const [first, server] = [id(), id()];
  const [said, flow] = [hello(ALLOWS, 700), bed.flow()];
  const packet = twoKeys(server, first, 10, (random) => {
    said.writeUInt32LE(random, 500);
    return crypto(500, said.subarray(500));
  });
  for (const of of [first, server])
    t.equal(open(packetAt(packet), keysOf(V1, of)).length, 205, 'as it is under the keys of both');
  t.equal(flow.send(part(said, 0, 500, { to: first })).verdict, pass);
  t.equal(flow.send(packet).verdict, unreadable);
  const nothing = initial(ping(), { to: server, keys: keysOf(V1, first) });
  t.equal(flow.send(Buffer.concat([nothing, packet])).verdict, unreadable, 'behind another');
  t.equal(
    flow.send(part(said, 500, 700, { to: server, keys: keysOf(V1, first) })).verdict,
    pass,
    'but one that is not',
  );
});

t.test('notes live for a minute, and for less than three', async (t) => {
  const said = hello(ALLOWS, 700);
  const to = id();
  const endpoint = 77;
  t.equal(bed.flow(endpoint).send(part(said, 0, 300, { to })).verdict, pass);
  bed.ageNotes(endpoint, 1);
  t.equal(bed.flow(endpoint).send(part(said, 0, 300, { to })).verdict, lost);
  bed.ageNotes(endpoint, 1);
  t.equal(bed.flow(endpoint).send(part(said, 0, 300, { to })).verdict, pass);
  const waits = bed.flow(endpoint);
  const other = id();
  t.equal(waits.send(part(said, 0, 300, { to: other })).verdict, pass);
  for (let minute = 0; minute < 4; minute++) {
    bed.ageNotes(endpoint, 1);
    t.equal(waits.send(initial(ping(), { to: other })).verdict, pass);
  }
  t.equal(bed.flow(endpoint).send(part(said, 0, 300, { to: other })).verdict, lost, 'who keeps the server waiting');
  bed.ageNotes(endpoint, 5);
  t.equal(bed.flow(endpoint).send(part(said, 0, 300, { to })).verdict, pass);
});

/** Fills an endpoint's notes. @returns false if a minute ended meanwhile, in units of the notes' */
function fillNotes(t: Test, many: number): boolean {
  const { minute } = bed;
  const said = hello(ALLOWS, 700);
  const flow = bed.flow(many);
  const begin = (to: Buffer, on = flow) => on.send(part(said, 0, 300, { to })).verdict;
  const ids = Array.from({ length: 700 }, () => id());
  const full = ids.filter((to) => begin(to) !== pass).length;
  const found = ids.filter((to) => begin(to) !== lost).length;
  const last = bed.flow(many);
  const counted = bed.notes(many, 5400 - 20);
  const more = Array.from({ length: 20 }, () => begin(id(), last));
  const answers = Array.from({ length: 20 }, () => begin(id(), last));
  if (bed.minute !== minute) return false;
  t.ok(full <= 1, `${full} of ${ids.length} look noted already`);
  t.ok(counted >= 699 && counted <= 700, `${counted} are counted`);
  t.ok(found <= 1, `all are found but the last one, which the flow knows: ${found}`);
  t.ok(more.filter((v) => v !== pass).length <= 1, 'there is room for more');
  t.ok(
    answers.every((v) => v === noRoom || v === lost),
    'then no part passes any more',
  );
  t.equal(begin(id(), bed.flow(many + 1)), pass, 'of others they do');
  bed.ageNotes(many, 1);
  t.equal(begin(id(), last), pass, 'and a minute later, they do too');
  return true;
}

t.test('an endpoint’s notes have room, and no more than it', async (t) => {
  bed.freeAll();
  for (let many = 501; many < 520; many += 2) if (fillNotes(t, many)) return;
  t.fail('minutes end too fast');
});

t.test('an endpoint holds as many buffers as are free, and gets those that are old', async (t) => {
  bed.freeAll();
  const said = hello(ALLOWS, 700);
  const begin = (endpoint: number, n: number) =>
    Array.from({ length: n }, () => bed.flow(endpoint).send(part(said, 0, 300, { to: id() })).verdict);
  const flood = begin(3001, 300);
  t.same([...new Set(flood)], [pass, noRoom]);
  t.equal(bed.holders().get(3001), 64);
  begin(3002, 100);
  t.equal(bed.holders().get(3002), 32);
  t.ok(
    begin(3003, 16).every((v) => v === pass),
    'there is room for others',
  );
  bed.age();
  t.ok(
    begin(3004, 60).every((v) => v === pass),
    'and for all, after a while',
  );
});

t.test('several datagrams in one packet', async (t) => {
  const [to, said] = [id(), hello(ALLOWS, 2100)];
  const two = [part(said, 0, 1150, { to, padTo: 1200 }), part(said, 1150, 2100, { to, padTo: 1200 })];
  const flow = bed.flow();
  t.same(flow.send(...two), { verdict: pass, judged: true, rule: ALLOWS });
  const denied = hello(DENIES, 2100);
  const next = id();
  const others = [0, 1050].map((from) => part(denied, from, from + 1050, { to: next, padTo: 1200 }));
  t.equal(flow.send(...others).verdict, deny);
  const data = Array.from({ length: 20 }, () => SHORT);
  t.equal(flow.send(...data, SHORT.subarray(0, 20)).verdict, pass);
  t.notOk(bed.hasLongHeader(data));
  const bad = whole(hello(DENIES, 100), { to: id() });
  const same = Array.from({ length: 9 }, () => Buffer.alloc(bad.length, 0x45));
  t.ok(bed.hasLongHeader([...same, bad]), 'a long header among short ones');
  t.equal(flow.send(...same, bad).verdict, deny, 'is judged');
  t.equal(bed.flow().send(whole(said.subarray(0, 300), { to: id() }), SHORT).verdict, hold);
  t.ok(bed.hasLongHeader([bad]));
  t.notOk(bed.hasLongHeader([SHORT]));
  t.notOk(bed.hasLongHeader([Buffer.alloc(0)]));
});

t.test('rows are given to those who use them', async (t) => {
  const { minute } = bed;
  const take = (endpoint: number, at = minute) => bed.row(Buffer.alloc(1), [0, endpoint, at]).retval;
  const mine = new Map(Array.from({ length: 400 }, (_, n) => [1000 + 3 * n, take(1000 + 3 * n)]));
  t.equal(new Set(mine.values()).size, 400, 'each has its own');
  for (const [endpoint, row] of mine) if (take(endpoint) !== row) t.fail(`${endpoint} has another row now`);
  let refused = 0;
  for (let n = 0; n < 300; n++) if (take(10_000 + n) === 0) refused++;
  t.ok(refused >= 188, `${refused} find none`);
  for (const [endpoint, row] of mine) if (take(endpoint) !== row) t.fail(`${endpoint} has another row now`);
  t.not(take(20_000, minute + 2), 0, 'who was silent for two minutes has none any more');
});
