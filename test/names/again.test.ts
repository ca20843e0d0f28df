/** Answers that come again in the same second: what says the same in another order is known, and nothing else. */
import t, { type Test } from 'tap';
import { NAME_DEFAULTS, nameSettings } from '../../agent/names/settings.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { DnsBed } from './bed.js';
import { a, addressBytes, cname, svcb, TYPES, type WireMessage } from './wire.js';

const bed = new DnsBed();
bed.kernel.programs.names.configure(nameSettings(NAME_DEFAULTS, 128));
t.teardown(() => bed.close());

const NAME = 'api.example.com';
const STALE = 7;
const TRIES = 20;
const { size, fields } = STRUCTS.ea_name_page;
const link = STRUCTS.ea_name_link;

type Answers = NonNullable<WireMessage['answers']>;
const answer = (answers: Answers, type: number = TYPES.A) => ({ questions: [{ name: NAME, type }], answers });

/** Marks each address that is known: who learns it again, writes its TTL. */
function mark(): void {
  const { pages } = bed.kernel.programs.names;
  for (let at = fields.links.offset; at < pages.length; at += size)
    for (let n = 0; n < 2; n++) pages.writeUInt32LE(STALE, at + n * link.size + link.fields.ttl_s.offset);
}

/** What is known after one answer, and then another at once. */
function after(first: WireMessage, second: WireMessage): string[] {
  bed.forget();
  bed.exchange(first);
  mark();
  bed.exchange(second);
  return bed.learned();
}

const isStale = (line: string) => line.split(' ')[2] === String(STALE);

/** Nothing of the second answer is learned; in one of some tries, since a second may end between both. */
function known(t: Test, first: WireMessage, second: WireMessage, what: string): void {
  let left: string[] = [];
  for (let n = 0; n < TRIES; n++) {
    left = after(first, second).filter((line) => !isStale(line));
    if (left.length === 0) break;
  }
  t.same(left, [], what);
}

/** All of the second answer is learned, always. */
function learned(t: Test, first: WireMessage, second: WireMessage, what: string): void {
  bed.forget();
  bed.exchange(second);
  const all = bed.learned();
  const lost = Array.from({ length: 3 }, () => {
    const lines = after(first, second);
    return all.filter((line) => !lines.includes(line));
  }).flat();
  t.same(lost, [], what);
}

const ips = Array.from({ length: 8 }, (_, i) => `192.0.2.${i + 1}`);
const of = (owner: string, list: readonly string[], ttl = 60) => list.map((ip) => a(owner, ip, ttl));
const turned = <T>(list: readonly T[], by: number) => [...list.slice(by), ...list.slice(0, by)];

t.test('the same in another order', async (t) => {
  const alias = cname(NAME, 'edge.example', 50);
  for (const by of [0, 1, 5])
    known(
      t,
      answer([alias, ...of('edge.example', ips)]),
      answer([alias, ...of('edge.example', turned(ips, by))]),
      `turned by ${by}`,
    );
  known(t, answer([alias, ...of('edge.example', ips)]), answer([...of('edge.example', ips), alias]), 'the alias last');
  const six = ['2001:db8::1', '2001:db8::2'];
  const both = answer(of(NAME, six), TYPES.AAAA);
  known(t, both, answer(of(NAME, turned(six, 1)), TYPES.AAAA), 'AAAA');
});

t.test('something else', async (t) => {
  const first = answer(of(NAME, ips));
  learned(t, first, answer(of(NAME, [...ips.slice(1), '192.0.2.9'])), 'another address');
  learned(t, first, answer(of(NAME, ips.slice(1))), 'fewer');
  learned(t, first, answer(of(NAME, ips, 61)), 'another TTL');
  learned(t, answer([...of(NAME, ips), ...of(NAME, ips)]), first, 'twice and once');
  const chain = [cname(NAME, 'b.example'), cname('b.example', 'c.example')];
  learned(
    t,
    answer([...chain, ...of('b.example', ['192.0.2.1']), ...of('c.example', ['192.0.2.2'])]),
    answer([...chain, ...of('b.example', ['192.0.2.2']), ...of('c.example', ['192.0.2.1'])]),
    'addresses change their names',
  );
  const forks = [cname(NAME, 'b.example'), cname(NAME, 'c.example')];
  const ends = [...of('b.example', ['192.0.2.1']), ...of('c.example', ['192.0.2.2'])];
  learned(t, answer([...forks, ...ends]), answer([...turned(forks, 1), ...ends]), 'the first alias counts');
  learned(
    t,
    answer(of(NAME, ['2001:db8::1', '2001:db8:1::2']), TYPES.AAAA),
    answer(of(NAME, ['2001:db8::2', '2001:db8:1::1']), TYPES.AAAA),
    'halves of addresses change places',
  );
  const hints = (ip: string) =>
    answer([{ owner: NAME, type: TYPES.HTTPS, ttl: 60, data: svcb(1, '', [[4, addressBytes(ip)]]) }], TYPES.HTTPS);
  learned(t, hints('192.0.2.1'), hints('192.0.2.2'), 'addresses in HTTPS records');
});
