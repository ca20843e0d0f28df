/** Datagrams of QUIC that a pod's process sends, and what of them arrives. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { servers } from '../../netns/world.js';
import { until } from '../../netns/shell.js';
import { encodeHello, makeHello, serverName } from '../make.js';
import { LiveBed } from './bed.js';

const AT = servers.one.ip4;
const SINK = `const s = require('dgram').createSocket('udp4');
s.on('message', (m) => console.log(m.toString('base64')));
s.bind(443, process.argv[1], () => console.log('listening'));`;
const CLIENT = `const s = require('dgram').createSocket('udp4');
s.connect(443, process.argv[1], async () => {
  for (const one of JSON.parse(process.argv[2])) {
    await new Promise((done) => s.send(Buffer.from(one, 'base64'), done));
    await new Promise((done) => setTimeout(done, 20));
  }
  s.close();
});`;

/** A hello of this name in so many datagrams. */
function said(name: string, parts: number): Buffer[] {
  const hello = makeHello({ extensions: [serverName(name), [21, Buffer.alloc(700 * parts)]] });
  const size = Math.ceil(hello.length / parts);
  const cuts = Array.from({ length: parts }, (_, i) => [[i * size, Math.min((i + 1) * size, hello.length)]] as const);
  return encodeHello(hello, randomBytes(8), cuts);
}
/** 0-RTT; and a short header. */
const ZERO_RTT = Buffer.concat([Buffer.from('d00000000108010203040506070800449a', 'hex'), Buffer.alloc(1178, 3)]);
const SHORT = Buffer.concat([Buffer.from([0x40]), Buffer.alloc(99, 5)]);

t.setTimeout(120_000);
t.test('datagrams', { timeout: 120_000 }, async (t) => {
  const ports = [{ protocol: 17, ports: [[443, 443]] as [number, number][] }];
  const bed = await LiveBed.create([{ serverNames: ['*.good.test'], ports }], {});
  t.teardown(() => bed.close());
  const { netns } = bed.world.internet;
  const sink = spawn('nsenter', [`--net=/run/netns/${netns}`, process.execPath, '-e', SINK, AT]);
  bed.world.onClose(async () => {
    sink.kill('SIGKILL');
  });
  let log = '';
  sink.stdout.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  await until('the sink listens', () => log.startsWith('listening\n'), 10_000);
  /** Sends them from one port. @returns which arrived, by number */
  const arriving = async (...datagrams: Buffer[]): Promise<number[]> => {
    const from = log.length;
    const all = datagrams.map((one) => one.toString('base64'));
    const { stderr } = await bed.run([process.execPath, '-e', CLIENT, AT, JSON.stringify(all)]);
    t.equal(stderr, '');
    await new Promise((done) => setTimeout(done, 200));
    const lines = log.slice(from).split('\n').slice(0, -1);
    t.ok(
      lines.every((line) => all.includes(line)),
      'nothing else arrives',
    );
    return lines.map((line) => all.indexOf(line));
  };

  await t.test('a name that is allowed', async (t) => {
    const [one] = said('a.good.test', 1) as [Buffer];
    t.same(await arriving(one, ZERO_RTT, SHORT, one), [0, 1, 2, 0]);
    const [a, b, c] = said('a.good.test', 3) as [Buffer, Buffer, Buffer];
    t.same(await arriving(a, ZERO_RTT, b, SHORT, c, SHORT), [0, 2, 4, 3], 'nothing else before it is whole');
    t.ok(bed.told().every(({ text, verdict, quic }) => text === 'a.good.test' && verdict === 'allow' && quic));
  });

  await t.test('another name', async (t) => {
    const [one] = said('a.evil.test', 1) as [Buffer];
    t.same(await arriving(one, ZERO_RTT, SHORT, one), []);
    const [a, b] = said('a.evil.test', 2) as [Buffer, Buffer];
    t.same(await arriving(a, b, ZERO_RTT, SHORT), [0], 'a part names nobody');
    t.same(await arriving(b, a, SHORT), [], 'nor does the rest come by another port');
  });

  await t.test('another name behind an allowed one', async (t) => {
    const [good, evil] = [said('a.good.test', 1), said('a.evil.test', 1)] as [Buffer[], Buffer[]];
    t.same(await arriving(good[0] as Buffer, SHORT, evil[0] as Buffer, ZERO_RTT), [0, 1]);
  });

  await t.test('neither', async (t) => {
    t.same(await arriving(Buffer.from('anything'), SHORT, ZERO_RTT), []);
  });
});
