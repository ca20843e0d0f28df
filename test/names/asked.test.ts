/** Where queries wait for their answers: two in the entry of their flow, others beside it, and each until it is answered. */
import t from 'tap';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { DnsBed, RESOLVER } from './bed.js';
import { a, encodeMessage, TYPES } from './wire.js';

const bed = new DnsBed();
t.teardown(() => bed.close());

const nameOf = (id: number) => `n${id}.example`;
const query = (id: number, type: number = TYPES.A) =>
  encodeMessage({ id, flags: 0x0100, questions: [{ name: nameOf(id), type }] });
const answer = (id: number) =>
  encodeMessage({ id, questions: [{ name: nameOf(id), type: TYPES.A }], answers: [a(nameOf(id), '192.0.2.1')] });

const { size, fields } = STRUCTS.ea_entry;
const FLOW = fields.flow.offset;
const { kind, extra } = STRUCTS.ea_flow.fields;
const { asked, keys } = STRUCTS.ea_flow_queries.fields;
const UNIT_NS = 2 ** 16;

/** Entries of a kind, by their places. */
function entries(which: number): number[] {
  const { table } = bed.kernel.programs;
  return Array.from({ length: table.capacity }, (_, slot) => slot)
    .filter((slot) => table.tag(slot) !== 0)
    .map((slot) => slot * size)
    .filter((at) => table.entries[at + FLOW + kind.offset] === which);
}
const aside = () => entries(ENUMS.ea_kind.EA_KIND_QUERY).length;

/** The queries that wait in the only flow. */
function inFlow(): number {
  const [at = 0] = entries(ENUMS.ea_kind.EA_KIND_FLOW);
  const first = at + FLOW + extra.offset + keys.offset;
  return [0, 8].filter((i) => bed.kernel.programs.table.entries.readBigUInt64LE(first + i) !== 0n).length;
}

/** All that waits in the only flow was asked so many seconds earlier. */
function age(seconds: number): void {
  const { entries: bytes } = bed.kernel.programs.table;
  const [at = 0] = entries(ENUMS.ea_kind.EA_KIND_FLOW);
  for (const i of [0, 4]) {
    const word = at + FLOW + extra.offset + asked.offset + i;
    bytes.writeUInt32LE((bytes.readUInt32LE(word) - Math.round((seconds * 1e9) / UNIT_NS)) >>> 0, word);
  }
}

/** A flow that has asked for these. */
function flowOf(...ids: number[]): number {
  bed.kernel.forget();
  bed.forget();
  const port = bed.port();
  for (const id of ids) bed.send(query(id), port);
  return port;
}

/** The names that the pod knows after these answers, as numbers. */
function learnedBy(port: number, ...ids: number[]): number[] {
  for (const id of ids) bed.receive(answer(id), port);
  return bed
    .taught()
    .map(({ name }) => Number(/\d+/.exec(name)))
    .sort((x, y) => x - y);
}

t.test('as many as a flow asks', async (t) => {
  const port = flowOf(1, 2);
  t.same([inFlow(), aside()], [2, 0], 'two in the flow');
  bed.send(query(3), port);
  bed.send(query(4), port);
  t.same([inFlow(), aside()], [2, 2], 'the others beside it');
  t.same(learnedBy(port, 4, 1, 3, 2), [1, 2, 3, 4]);
  t.same([inFlow(), aside()], [0, 0], 'each goes with its answer');
});

t.test('a query that is sent again takes no other place, and is answered once', async (t) => {
  const port = flowOf(1, 1, 1);
  t.same([inFlow(), aside()], [1, 0]);
  t.same(learnedBy(port, 1), [1]);
  bed.forget();
  t.same(learnedBy(port, 1), []);
  bed.send(query(2), port);
  bed.send(query(1), port);
  bed.send(query(2), port);
  t.same([inFlow(), aside()], [2, 0]);
});

t.test('what waits is not pushed out', async (t) => {
  const port = flowOf(1, 2);
  for (let id = 10; id < 200; id++) bed.send(query(id), port);
  t.equal(inFlow(), 2);
  t.same(learnedBy(port, 1, 2), [1, 2]);
});

t.test('only its question counts', async (t) => {
  const port = flowOf(1);
  t.same(learnedBy(port, 2), [], 'another name');
  bed.send(query(3, TYPES.AAAA), port);
  t.same(learnedBy(port, 3), [], 'another type');
  const other = { questions: [{ name: nameOf(1), type: TYPES.A }], answers: [a(nameOf(1), '192.0.2.1')] };
  bed.receive(encodeMessage({ id: 2, ...other }), port);
  t.same(learnedBy(port), [], 'another id');
  bed.receive(answer(1), port + 1);
  t.same(learnedBy(port), [], 'another port');
  t.same(learnedBy(port, 1), [1], 'its own');
});

t.test('for half a minute', async (t) => {
  let port = flowOf(1, 2);
  age(29);
  t.same(learnedBy(port, 1), [1]);
  age(2);
  t.same(learnedBy(port, 2), [1], 'an answer that comes later');
  port = flowOf(1, 2);
  age(31);
  bed.send(query(3), port);
  bed.send(query(4), port);
  t.same([inFlow(), aside()], [2, 0], 'then others take its place');
  t.same(learnedBy(port, 1, 2, 3, 4), [3, 4]);
});

t.test('the flow is gone, and what it asked with it', async (t) => {
  const port = flowOf(1);
  bed.kernel.forget();
  t.ok(bed.receive(answer(1), port, RESOLVER));
  t.same(learnedBy(port), []);
});
