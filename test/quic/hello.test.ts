/** What QUIC's hellos name: the kernel and src/said/quic.ts say the same of the same datagrams. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { QuicFlow, type QuicResult } from '../../src/said/quic.js';
import { QUIC_V1, QUIC_V2, type QuicVersion } from '../../src/said/quic-packet.js';
import { type Random, seeded } from '../fuzz/random.js';
import { alpn, encodeInitial, type Extension, makeHello, serverName } from '../said/make.js';
import { outer } from '../said/make-ech.js';
import { nameOf, VERDICT } from './flow-bed.js';
import { TestObject } from './object.js';
import { ack, crypto, opaque, padding, ping, TYPES } from './writer.js';

const object = new TestObject('hello');
t.teardown(() => object.close());
const sent = object.program('sent');
const said = object.map('quic_said');

/** enum tls_name. */
const NAMED = ['none', 'named', 'odd'] as const;

/** What the kernel makes of a datagram; `name` and `ech`: what its hello names and encrypts, if it was judged by it. */
function kernel(datagram: Buffer, begins: boolean): { passes: boolean; verdict: string; name?: string; ech?: string } {
  const r = sent(datagram, [begins ? 1 : 0]);
  const outcome = { passes: r.retval === VERDICT.pass, verdict: nameOf(r.retval) };
  if (r.cb[2] !== 1) return outcome;
  const value = said.lookup(Buffer.alloc(4)) as Buffer;
  const named = NAMED[value.readUInt32LE(4)] as string;
  const ech = ['none', String(value.readUInt32LE(16)), 'odd'][value.readUInt32LE(12)] as string;
  const text = value.toString('latin1', 20, 20 + value.readUInt32LE(8));
  return { ...outcome, name: named === 'named' ? text : named, ech };
}

/** The same of the reference. */
function reference(result: QuicResult): { passes: boolean; name?: string; ech?: string } {
  if (result.state !== 'hello') return { passes: result.state === 'more' || result.state === 'known' };
  const hello = result.hellos.at(-1);
  const ech = hello?.ech ? String(hello.echId ?? 'odd') : 'none';
  return { passes: true, name: hello?.serverName ?? (hello?.oddName ? 'odd' : 'none'), ech };
}

const NAMES = ['a.example', 'WWW.Example.COM', 'x', '_dns.b-c.example', `${'a'.repeat(63)}.${'b.'.repeat(90)}c`];
const ODD = ['192.0.2.1', 'a.example.', 'a b', 'ä.example', 'a.1', '::1', 'n'.repeat(254)];

/** What is encrypted in a hello, or what is like that. */
function encrypted(random: Random): Extension {
  const [type, bytes] = outer(random.below(256), { enc: random.pick([0, 32, 65]), payload: random.pick([0, 1, 200]) });
  const told = Buffer.from(bytes);
  if (random.chance(20)) told[random.below(told.length)] = random.below(256);
  return [type, random.chance(20) ? told.subarray(0, random.below(told.length)) : told];
}

function hello(random: Random): Buffer {
  const extensions: Extension[] = [alpn('h3'), [43, Buffer.from('020304', 'hex')], [0x39, randomBytes(40)]];
  if (random.chance(50)) extensions.push([51, randomBytes(random.pick([40, 1220]))]);
  if (random.chance(50)) extensions.push(encrypted(random));
  if (random.chance(10)) extensions.push([21, Buffer.alloc(random.below(9000))]);
  const name = random.below(3);
  if (name > 0) extensions.push(serverName(random.pick(name === 1 ? NAMES : ODD)));
  return makeHello({
    session: Buffer.alloc(random.pick([0, 32])),
    extensions: extensions.sort(() => random.below(3) - 1),
  });
}

/** Parts of what a client says, in any order; each fits into a packet. */
function parts(random: Random, of: Buffer): { at: number; bytes: Buffer }[] {
  const size = random.pick([300, 700, 1100]);
  const all = Array.from({ length: Math.ceil(of.length / size) }, (_, i) => {
    const at = Math.max(0, i * size - random.below(20));
    return { at, bytes: of.subarray(at, (i + 1) * size) };
  });
  return random.chance(50) ? all : all.sort(() => random.below(3) - 1);
}

const { FUZZ_SEQUENCES } = process.env;
t.test('the kernel and the reference', async (t) => {
  const random = seeded();
  let [judged, named, refused, hidden, late] = [0, 0, 0, 0, 0];
  for (let n = 0; n < Number(FUZZ_SEQUENCES ?? 400); n++) {
    const flow = new QuicFlow();
    const dcid: Buffer = randomBytes(8 + random.below(13));
    const server = randomBytes(random.below(21));
    const version = random.pick<QuicVersion>([QUIC_V1, QUIC_V2]);
    const first = hello(random);
    const stream = Buffer.concat([first, ...(random.chance(20) ? [hello(random)] : [])]);
    let number = 0;
    const packet = (frames: Buffer, to: Buffer = dcid) =>
      encodeInitial({
        version,
        dcid: to,
        keysFrom: dcid,
        number: number++ % 200,
        frames,
        padTo: random.pick([0, 1200]),
      });
    const filler = () => random.pick([ping(), ack(random.below(9)), padding(1 + random.below(9))]);
    const steps = [...parts(random, stream), ...parts(random, stream)];
    // The reference refuses what can become no hello at once, the kernel some of it when it is whole.
    let isNone = false;
    for (const [i, { at, bytes }] of steps.entries()) {
      const told = Buffer.from(bytes);
      if (random.chance(2)) told[random.below(told.length)] = random.below(256);
      const to = i > 2 && random.chance(30) ? server : dcid;
      const frames = random.chance(5) ? filler() : Buffer.concat([filler(), crypto(at, told), filler()]);
      const datagram = Buffer.concat([
        packet(frames, to),
        random.chance(5) ? opaque(random.pick([TYPES.zeroRtt, TYPES.initial]), to, { version }) : Buffer.alloc(0),
        random.chance(5) ? padding(20) : Buffer.alloc(0),
      ]);
      const ours = kernel(datagram, i === 0);
      if (isNone) {
        if (ours.passes && ours.name !== undefined)
          t.fail(`FUZZ_SEED=${random.seed} ${n}, ${i}: ${JSON.stringify(ours)} of what is no hello`);
        if (!ours.passes) break;
        continue;
      }
      const theirs = reference(flow.datagram(datagram));
      if (ours.passes && ours.name === undefined && !theirs.passes) {
        isNone = true;
        late++;
        continue;
      }
      if (ours.passes !== theirs.passes || (ours.passes && (ours.name !== theirs.name || ours.ech !== theirs.ech))) {
        const [one, other] = [ours, theirs].map((o) => JSON.stringify(o));
        t.fail(
          `FUZZ_SEED=${random.seed} ${n}, ${i}: ${one} by the kernel, ${other} by the reference: ${datagram.toString('hex')}`,
        );
        return;
      }
      if (ours.name !== undefined) judged++;
      if (Number(ours.ech) >= 0) hidden++;
      if (ours.name !== undefined && ours.name !== 'odd' && ours.name !== 'none') named++;
      if (ours.passes) continue;
      // What is refused counts for the one, and not for the other: it stays refused.
      refused++;
      break;
    }
  }
  t.comment(
    `${judged} hellos were judged, ${named} of them name somebody; ${refused} datagrams were refused, ${late} of them later`,
  );
  t.ok(named > 20 && refused > 20 && hidden > 20, `${hidden} of them have a config_id`);
});
