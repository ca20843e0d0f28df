/** The tables of names as programs fill them, and as user space reads and frees them. */
import t, { type Test } from 'tap';
import { AddressesInUse } from '../../agent/names/in-use.js';
import { teach } from '../../agent/names/learn.js';
import { NameSweeper } from '../../agent/names/sweeper.js';
import { NameTable } from '../../agent/names/table.js';
import { NameTexts } from '../../agent/names/texts.js';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';
import { loadForTest } from '../engines/engine.js';

const { EA_NAME_ASKED, EA_NAME_SEEDED } = ENUMS.ea_name_flags;
const EP = STRUCTS.ea_endpoint;
const [WEB, DB] = [
  { endpoint: 0x89abcdef, ifindex: 7 },
  { endpoint: 5, ifindex: 8 },
];

function start(t: Test, names = 1024) {
  const programs = loadForTest({ flows: 4096, events: 65536, names, name_pages: 2 * names });
  t.teardown(() => programs.close());
  programs.names.configure({ ttlMin: 10, ttlExtra: 30, flags: 0, cpus: 2 });
  const freed: string[] = [];
  const table = new NameTable(programs.names);
  const sweeper = new NameSweeper({
    memory: programs.names,
    inUse: new AddressesInUse(programs.table),
    endpoints: () => undefined,
    onFreed: (_slot, _incarnation, text) => freed.push(text),
  });
  const learn = (of: typeof WEB, name: string, address: string, ttl = 60, over: object = {}) =>
    teach(programs.all.learn as BpfProgram, { ...of, name, address, ttl, flags: EA_NAME_ASKED, ...over });
  const at = (of: typeof WEB, ip: string) =>
    table.namesOf(of.endpoint, Buffer.from(parseAddr(ip).bytes), 100).map((n) => n.text);
  return { programs, table, sweeper, freed, learn, at, now: sys.bootSeconds() };
}

t.test('what was learned is read, by name and by address', async (t) => {
  const { table, learn, at, now } = start(t);
  const resolver = { address: 'fd00::53', port: 5353 };
  t.equal(learn(WEB, 'api.example.com', '203.0.113.1', 60, { resolver }), 'learned');
  t.equal(learn(WEB, 'api.example.com', '2001:db8::1', 5), 'learned');
  t.equal(learn(WEB, 'cdn.example.net', '203.0.113.1', 60, { alias: true, flags: EA_NAME_SEEDED }), 'learned');
  t.equal(learn(DB, 'api.example.com', '203.0.113.1'), 'learned');
  const own = table.list({ endpoints: new Set([WEB.endpoint]), limit: 9, addresses: 9 }).names;
  const api = own.find((n) => n.text === 'api.example.com');
  t.equal(own.length, 2);
  t.match(api, { text: 'api.example.com', asked: true, seeded: false, endpoint: WEB.endpoint });
  t.same(api?.addresses.map((a) => a.ip).sort(), ['2001:db8::1', '203.0.113.1']);
  t.ok((api?.learnedS ?? 0) >= now && (api?.learnedS ?? 0) <= now + 5);
  t.ok((api?.expiresS ?? 0) >= now + 90, 'the TTL, and what is added to it');
  t.same(at(WEB, '203.0.113.1'), ['api.example.com', 'cdn.example.net']);
  t.same(at(WEB, '2001:db8::1'), ['api.example.com']);
  t.same(at(DB, '203.0.113.1'), ['api.example.com']);
  t.same(at(DB, '2001:db8::1'), []);
  t.match(table.holdings(WEB.ifindex), { names: 2, pages: 2 });
});

t.test('an address with more names than a page holds', async (t) => {
  const { table, sweeper, learn, at, now } = start(t);
  const names = Array.from({ length: 40 }, (_, i) => `n${i}.example.com`);
  for (const [i, name] of names.entries()) t.equal(learn(WEB, name, '203.0.113.1', i < 30 ? 1 : 1000), 'learned');
  t.same(at(WEB, '203.0.113.1').sort(), [...names].sort());
  t.equal(table.holdings(WEB.ifindex).pages, 20);
  t.match(sweeper.sweep(now + 100), { names: 30 });
  t.same(at(WEB, '203.0.113.1').sort(), names.slice(30).sort(), 'those in deeper pages are still found');
  t.equal(learn(WEB, 'another.example.com', '203.0.113.1'), 'learned');
  t.ok(at(WEB, '203.0.113.1').includes('another.example.com'));
  sweeper.sweep(now + 5000);
  t.match(table.holdings(WEB.ifindex), { names: 0, pages: 0 });
});

t.test('what is freed can be learned again, over and over', async (t) => {
  const { table, sweeper, freed, learn, at, now } = start(t, 64);
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 20; i++)
      if (learn(WEB, `r${round}-${i}.example.com`, `203.0.113.${i}`, 1) !== 'learned') t.fail(`${round} ${i}`);
    const names = at(WEB, '203.0.113.3');
    t.same(names, [`r${round}-3.example.com`], `round ${round}`);
    sweeper.sweep(now + 1000);
  }
  t.equal(freed.length, 400);
  sweeper.sweep(now + 1001);
  t.match(table.holdings(WEB.ifindex), { names: 0, pages: 0 });
  t.same(sweeper.entries, { names: 0, pages: 0 });
});

t.test('programs and user space agree on what everybody holds, also when there is no room', async (t) => {
  const { table, sweeper, learn, now } = start(t, 64);
  let learned = 0;
  for (let i = 0; i < 500; i++)
    if (learn(i % 2 ? WEB : DB, `n${i}.example.com`, `203.0.${i >> 8}.${i & 255}`) === 'learned') learned++;
  t.ok(learned > 100);
  sweeper.sweep(now);
  const { names } = table.list({ limit: 1000, addresses: 1000 });
  t.equal(sweeper.entries.names, names.length);
  t.equal(table.holdings(WEB.ifindex).names + table.holdings(DB.ifindex).names, names.length);
  t.equal(table.holdings(WEB.ifindex).pages + table.holdings(DB.ifindex).pages, sweeper.entries.pages);
});

t.test('long names have the room of short ones, and cost a neighbour within its share none of its own', async (t) => {
  const { programs, table, learn, at } = start(t, 1024);
  const endpoints = programs.maps.endpoints?.mmap() as Buffer;
  for (const { ifindex } of [WEB, DB]) endpoints.writeUInt32LE(ifindex, ifindex * EP.size + EP.fields.ifindex.offset);
  const long = (i: number, zone: string) =>
    `${`${i}-`.padEnd(60, 'l')}.${'m'.repeat(60)}.${'n'.repeat(60)}.${zone}.example`;
  const own = Array.from({ length: table.memory.nameShare }, (_, i) => long(i, 'own'));
  for (const [i, name] of own.entries()) learn(DB, name, `203.0.113.${i}`);
  for (let i = 0; i < 4000; i++) learn(WEB, long(i, 'flood'), `198.18.${i >> 8}.${i & 255}`, 600);
  t.same(
    own.flatMap((_, i) => at(DB, `203.0.113.${i}`)),
    own,
    'all that it knew',
  );
  const later = Array.from({ length: 8 }, (_, i) => learn(DB, long(i, 'own'), `203.0.114.${i}`));
  t.same([...new Set(later)], ['learned'], 'and it learns more addresses');
});

t.test('the names of an address, for a flow that no rule asked for names', async (t) => {
  const { table, sweeper, learn, now } = start(t);
  const texts = new NameTexts({ table, mayKnow: (id) => sweeper.mayKnow(id), sleptS: () => 0 });
  learn(WEB, 'api.example.com', '203.0.113.1');
  learn(WEB, 'cdn.example.net', '203.0.113.1', 60, { alias: true });
  const later = (now + 10) * 1e9;
  t.same(texts.known(WEB.endpoint, '203.0.113.1', later), [], 'before the first pass nobody is known to know anything');
  sweeper.sweep(now);
  t.same(texts.known(WEB.endpoint, '203.0.113.1', later), ['api.example.com', 'cdn.example.net']);
  t.same(texts.known(WEB.endpoint, '203.0.113.2', later), []);
  t.same(texts.known(DB.endpoint, '203.0.113.1', later), []);
  t.same(texts.known(WEB.endpoint, '203.0.113.1', (now - 10) * 1e9), [], 'an event from before');
});

t.test('texts of every length and of every byte that a pattern may have', async (t) => {
  const { table, learn, at } = start(t, 4096);
  const every = 'abcdefghijklmnopqrstuvwxyz0123456789-_.';
  const wrong: string[] = [];
  const texts = Array.from({ length: 254 }, (_, length) =>
    Array.from({ length }, (_, i) => every[(i * 7 + length * 5 + (i % 3)) % every.length]).join(''),
  );
  for (const [length, text] of texts.entries()) {
    learn(WEB, text, `203.0.113.${length}`);
    if (at(WEB, `203.0.113.${length}`)[0] !== text) wrong.push(text);
  }
  t.same(wrong, []);
  const { names } = table.holdings(WEB.ifindex);
  t.equal(names, texts.length);
  for (const [length, text] of texts.entries()) learn(WEB, text, `203.0.113.${length}`);
  t.match(table.holdings(WEB.ifindex), { names, pages: texts.length }, 'each is found again');
  learn(WEB, 'A*b\u00e9.example', '198.51.100.1');
  t.same(at(WEB, '198.51.100.1'), ['??b?.example'], 'what no pattern matches');
});
