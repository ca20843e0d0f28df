/** The tables of learned names in user space: what is read of them, what is freed, and what stays. */
import t from 'tap';
import { NameTexts } from '../../agent/names/texts.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { NameBed } from './name-bed.js';

const { EA_NAME_VALID, EA_NAME_LEAVING, EA_NAME_NEXT } = ENUMS.ea_name_state;
const { EA_NAME_ASKED, EA_NAME_SEEDED } = ENUMS.ea_name_flags;

t.test('names are read with their addresses', async (t) => {
  const bed = new NameBed();
  bed.name(3, 'api.example.com', { incarnation: 7, learned: 11, answered: 12, expires: 40, flags: EA_NAME_ASKED });
  bed.name(4, 'cdn.example.net', { flags: EA_NAME_SEEDED, resolver: 'fd00::53' });
  bed.name(5, 'api.example.com', { endpoint: 2 });
  bed.page(9, '203.0.113.1', [
    { name: 3, incarnation: 7, expires: 40 },
    { name: 4, alias: true },
  ]);
  bed.page(10, '2001:db8::1', [{ name: 3, incarnation: 7, expires: 30, ttl: 5 }]);
  bed.page(11, '203.0.113.1', [{ name: 5 }], { endpoint: 2 });
  bed.page(12, '203.0.113.2', [{ name: 3, incarnation: 6 }]);

  const { names, more } = bed.table.list({ endpoints: new Set([1]), limit: 10, addresses: 10 });
  t.equal(more, false);
  t.same(names[0], {
    slot: 3,
    incarnation: 7,
    endpoint: 1,
    text: 'api.example.com',
    asked: true,
    seeded: false,
    learnedS: 11,
    answeredS: 12,
    expiresS: 40,
    resolver: '10.96.0.10',
    resolverPort: 53,
    addresses: [
      { ip: '203.0.113.1', alias: false, expiresS: 40, ttlS: 30 },
      { ip: '2001:db8::1', alias: false, expiresS: 30, ttlS: 5 },
    ],
  });
  t.match(names[1], { text: 'cdn.example.net', asked: false, seeded: true, resolver: 'fd00::53' });
  t.same(bed.texts(), ['api.example.com', 'cdn.example.net', 'api.example.com']);
  t.match(bed.table.list({ limit: 1, addresses: 1 }), { names: { length: 1 }, more: true }, 'there are more');

  const at = bed.table.list({ ip: '203.0.113.1', limit: 10, addresses: 10 }).names;
  t.same(
    at.map((n) => n.slot),
    [3, 4, 5],
  );
  t.same(
    bed.table.list({ ip: '203.0.113.2', limit: 10, addresses: 10 }).names,
    [],
    'a link to an earlier use of the slot',
  );
  t.same(Object.fromEntries(bed.table.learnedBy(1)), {
    '203.0.113.1': [{ name: 'api.example.com' }, { name: 'cdn.example.net', alias: true }],
    '2001:db8::1': [{ name: 'api.example.com' }],
  });
  t.same(
    [...bed.table.texts()],
    [
      [1, new Set(['api.example.com', 'cdn.example.net'])],
      [2, new Set(['api.example.com'])],
    ],
  );
});

t.test('what is being changed is not read', async (t) => {
  const bed = new NameBed();
  bed.name(0, 'a.example');
  bed.memory.names.writeUInt32LE(bed.nameState(0) & ~EA_NAME_VALID, 0);
  t.same(bed.texts(), []);
  t.equal(bed.table.text(0, 1), undefined);
  bed.memory.names.writeUInt32LE(EA_NAME_NEXT + EA_NAME_VALID + EA_NAME_LEAVING, 0);
  t.equal(bed.table.text(0, 1), 'a.example', 'a name that is leaving is still one');
  t.equal(bed.table.text(0, 2), undefined);
  t.equal(bed.table.text(1_000_000, 1), undefined);
  t.equal(bed.table.at(1_000_000), undefined);
});

t.test('a name is freed when its time is over', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'old.example', { expires: 50 });
  bed.name(2, 'new.example', { expires: 51 });
  bed.page(1, '192.0.2.1', [
    { name: 1, expires: 50 },
    { name: 2, expires: 51 },
  ]);
  bed.page(2, '192.0.2.2', [{ name: 1, expires: 40 }]);
  t.same(bed.sweeper.sweep(39), { names: 0, links: 0, pages: 0 });
  t.same(bed.sweeper.sweep(50), { names: 1, links: 2, pages: 1 });
  t.same(bed.freed, ['old.example']);
  t.same(bed.texts(), ['new.example']);
  t.same(bed.addresses('new.example'), ['192.0.2.1']);
  t.equal(bed.nameTag(1), 0);
  t.equal(bed.nameState(1), 2 * EA_NAME_NEXT, 'the next incarnation, and free');
  t.match(bed.table.holdings(1), { names: 1, pages: 1 });
  t.same(bed.sweeper.sweep(51), { names: 1, links: 1, pages: 1 });
  t.match(bed.table.holdings(1), { names: 0, pages: 0 });
});

t.test('an address of a name that goes on is freed by itself', async (t) => {
  const bed = new NameBed();
  bed.name(1, 's3.example', { expires: 100 });
  bed.page(1, '192.0.2.1', [{ name: 1, expires: 50 }]);
  bed.page(2, '192.0.2.2', [{ name: 1, expires: 100 }]);
  t.same(bed.sweeper.sweep(50), { names: 0, links: 1, pages: 1 });
  t.same(bed.addresses('s3.example'), ['192.0.2.2']);
});

t.test('a name keeps all of its addresses while a flow uses one', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'pool.example', { expires: 50 });
  bed.name(2, 'other.example', { expires: 50 });
  bed.name(3, 'pool.example', { endpoint: 2, expires: 50 });
  for (const [i, ip] of ['192.0.2.1', '192.0.2.2', '2001:db8::3'].entries())
    bed.page(1 + i, ip, [{ name: 1, expires: 30 + i }]);
  bed.page(4, '192.0.2.4', [{ name: 2, expires: 50 }]);
  bed.page(5, '192.0.2.2', [{ name: 3, expires: 50 }], { endpoint: 2 });
  const flow = bed.flow('192.0.2.2');
  // None of these uses an address of the endpoint's.
  bed.flow('192.0.2.4', { verdict: ENUMS.ea_verdict.EA_VERDICT_DENY });
  bed.flow('192.0.2.4', { flags: ENUMS.ea_flow_flags.EA_FLOW_INBOUND });
  bed.flow('192.0.2.4', { tcpState: ENUMS.ea_tcp_state.EA_TCP_CLOSED });
  bed.flow('192.0.2.4', { kind: ENUMS.ea_kind.EA_KIND_PENDING });
  bed.flow('192.0.2.4', { endpoint: 3 });
  t.same(bed.sweeper.sweep(60), { names: 2, links: 2, pages: 2 });
  t.same(bed.freed.sort(), ['other.example', 'pool.example']);
  t.same(bed.addresses('pool.example'), ['192.0.2.1', '192.0.2.2', '2001:db8::3']);
  bed.endFlow(flow);
  t.same(bed.sweeper.sweep(61), { names: 1, links: 3, pages: 3 });
  t.same(bed.texts(), []);
});

t.test('a link to a name that was replaced is dead', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'second.example', { incarnation: 2, expires: 100 });
  bed.page(1, '192.0.2.1', [
    { name: 1, incarnation: 1 },
    { name: 1, incarnation: 2 },
  ]);
  bed.page(2, '192.0.2.2', [{ name: 1, incarnation: 1 }]);
  t.same(bed.sweeper.sweep(5), { names: 0, links: 2, pages: 1 });
  t.same(bed.addresses('second.example'), ['192.0.2.1']);
});

t.test('the first page of an address stays while there are further ones', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'a.example', { expires: 10 });
  bed.name(2, 'b.example', { expires: 20 });
  bed.page(1, '192.0.2.1', [{ name: 1, expires: 10 }]);
  bed.page(2, '192.0.2.1', [{ name: 2, expires: 20 }], { page: 1 });
  t.same(bed.sweeper.sweep(10), { names: 1, links: 1, pages: 0 });
  t.same(bed.sweeper.sweep(20), { names: 1, links: 1, pages: 2 });
  t.equal(bed.pageTag(1), 0);
  t.equal(bed.pageTag(2), 0);
  t.match(bed.table.holdings(1), { names: 0, pages: 0 });
});

t.test('what removed endpoints left is freed, after a while', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'a.example', { expires: 1000 });
  bed.name(2, 'b.example', { endpoint: 2, expires: 1000 });
  bed.page(1, '192.0.2.1', [{ name: 1, expires: 1000 }]);
  bed.flow('192.0.2.1');
  t.same(bed.sweeper.sweep(5), { names: 0, links: 0, pages: 0 }, 'nothing is known of endpoints');
  bed.endpoints = new Set([2]);
  t.same(bed.sweeper.sweep(6), { names: 0, links: 0, pages: 0 });
  bed.endpoints = new Set([1, 2]);
  t.same(bed.sweeper.sweep(30), { names: 0, links: 0, pages: 0 }, 'it is back');
  bed.endpoints = new Set([2]);
  t.same(bed.sweeper.sweep(40), { names: 0, links: 0, pages: 0 });
  t.same(bed.sweeper.sweep(70), { names: 1, links: 0, pages: 0 });
  t.same(bed.sweeper.sweep(71), { names: 0, links: 1, pages: 1 }, 'its addresses, with the next pass');
  t.same(bed.texts(), ['b.example']);
});

t.test('wrong counts are corrected, and tags that were left over', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'a.example', { expires: 1000 });
  bed.hold(1, 'names', 5);
  bed.hold(2, 'pages', 3);
  // An agent was killed between the state and the tag.
  bed.memory.names.writeUInt32LE(2 * EA_NAME_NEXT, 0);
  bed.memory.nameBuckets.writeUInt32LE(99, 4);
  for (let i = 0; i < 4; i++) bed.sweeper.sweep(5);
  t.equal(bed.table.holdings(1).names, 1);
  t.equal(bed.nameTag(0), 0);
  t.same(bed.sweeper.entries, { names: 1, pages: 0 });
});

t.test('a program that renews at the same time wins', async (t) => {
  const bed = new NameBed();
  bed.name(1, 'a.example', { expires: 10 });
  // The program writes the expiry after the pass has read it, and before it is freed.
  const { memory } = bed;
  const sweeper = bed.sweeper as unknown as { sweep: (now: number) => object };
  const gather = bed.flows.tag.bind(bed.flows);
  bed.flows.tag = (slot) => {
    memory.names.writeUInt32LE(500, STRUCTS.ea_name.size + STRUCTS.ea_name.fields.expires_s.offset);
    return gather(slot);
  };
  t.same(sweeper.sweep(20), { names: 0, links: 0, pages: 0 });
  t.equal(bed.nameState(1), EA_NAME_NEXT + EA_NAME_VALID, 'it does not stay LEAVING');
});

t.test('texts of names outlive their slots', async (t) => {
  const bed = new NameBed();
  const texts = new NameTexts({ table: bed.table, mayKnow: () => true, sleptS: () => 0, most: 3 });
  bed.name(1, 'a.example');
  bed.name(2, 'b.example');
  texts.note(1, 1);
  bed.name(1, 'c.example', { incarnation: 2 });
  t.equal(texts.text(1, 1), 'a.example', 'the event noted it');
  t.equal(texts.text(1, 2), 'c.example');
  t.equal(texts.text(2, 5), undefined);
  texts.freed(2, 1, 'b.example');
  bed.name(2, 'd.example', { incarnation: 2 });
  t.equal(texts.text(2, 1), 'b.example');
  texts.note(1, 2);
  texts.note(2, 2);
  t.equal(texts.text(1, 1), undefined, 'the oldest is forgotten');
  t.equal(texts.text(2, 1), 'b.example');
});
