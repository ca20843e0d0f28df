/** Filters of queries: what a pod with raw sockets may try to get a query past one. */
import t from 'tap';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { PLAIN_IDS } from '../../src/ids.js';
import { readCases } from '../engines/cases.js';
import { Kernel, loadForTest } from '../engines/engine.js';
import { TcpBed, withLength } from './bed.js';
import { encodeMessage, FLAGS, tcpFrame, TYPES, udpFrame } from './wire.js';

const [POD, SERVER] = ['10.1.0.1', '10.1.0.53'];
const kernel = new Kernel(loadForTest({ flows: 8192, events: 1 << 20, names: 1024, name_pages: 1024 }), PLAIN_IDS);
t.teardown(() => kernel.close());
const used = readCases().find(({ name }) => name === 'names in DNS queries');
if (!used) throw new Error('the case is gone');
kernel.use(used);
kernel.become('default/web');
new DnsServers(kernel.programs.maps as Record<string, BpfMap>).set([{ ip: SERVER, port: 53 }]);

let port = 2000;
const connect = () => new TcpBed(kernel, { src: POD, sport: ++port, dst: SERVER, dport: 53 });
const message = (name: string, id = 1) => encodeMessage({ id, flags: 0x100, questions: [{ name, type: TYPES.A }] });
/** A query of some length: what is behind the question is not read. */
const query = (name: string, behind = 0) => withLength(Buffer.concat([message(name), Buffer.alloc(behind)]));
const ALLOWED = 'api.example.com';
const EVIL = query('evil.example.org');

t.test('queries one after the other, and again', async (t) => {
  const c = connect();
  const one = query(ALLOWED);
  t.ok(c.segment('fromPod', 0, one));
  t.ok(c.segment('fromPod', 0, one), 'it was lost');
  kernel.forget('drop_notes');
  c.told.length = 0;
  t.notOk(c.segment('fromPod', one.length, one), 'not before the first is acknowledged');
  t.same(c.told, ['drop: out-of-order'], 'which is told');
  t.ok(c.acknowledge(one.length));
  t.ok(c.segment('fromPod', one.length, one));
  t.notOk(c.segment('fromPod', 2 * one.length, EVIL));
});

t.test('no message begins within another', async (t) => {
  const c = connect();
  // The first is lost, the second waits at the server, and the third is longer than the first was.
  t.ok(c.segment('fromPod', 0, query(ALLOWED, 10)));
  t.notOk(c.segment('fromPod', query(ALLOWED, 10).length, query(ALLOWED, 200)));
  t.notOk(c.segment('fromPod', 0, query(ALLOWED, 60)), 'of another length');
  t.notOk(c.segment('fromPod', 0, query(ALLOWED)));
  t.ok(c.segment('fromPod', 0, query(ALLOWED, 10)));
});

t.test('a SYN on an open connection, which the server ignores', async (t) => {
  const c = connect();
  t.ok(c.segment('fromPod', -50, Buffer.alloc(0), FLAGS.SYN));
  t.notOk(c.segment('fromPod', -49, query(ALLOWED, 200)));
  t.ok(c.acknowledge(0), 'the challenge');
  t.notOk(c.segment('fromPod', -49, query(ALLOWED, 200)));
});

t.test('data behind a header in fragments', async (t) => {
  for (const flags of [FLAGS.ACK, FLAGS.SYN]) {
    const c = connect();
    const first = tcpFrame({ ...c.ends, sport: flags === FLAGS.SYN ? ++port : c.ends.sport }, { seq: 1, flags });
    // Four bytes of options, so that the header ends where a fragment may.
    const padded = Buffer.concat([first, Buffer.alloc(4, 1)]);
    padded.writeUInt16BE(44, 16);
    padded[14 + 20 + 12] = 0x60;
    padded.writeUInt16BE(0x2000, 20);
    t.not(kernel.run(padded).verdict, 'allow');
  }
});

t.test('what comes from a resolver opens no flow', async (t) => {
  const e = { src: POD, sport: ++port, dst: SERVER, dport: 53 };
  kernel.run(udpFrame({ src: SERVER, sport: 53, dst: POD, dport: e.sport }, message(ALLOWED)), 'toPod');
  t.not(kernel.run(udpFrame(e, message('evil.example.org'))).verdict, 'allow');
  t.equal(kernel.run(udpFrame(e, message(ALLOWED))).verdict, 'allow');
});
