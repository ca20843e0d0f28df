/** Invariant 3: real and mutated packets through the hooks. FUZZ_PACKETS, FUZZ_SEED; for more of them, npm run fuzz -- --packets. */
import t from 'tap';
import { fuzzPackets, replayPacket } from './packet-run.js';
import { seeded } from './random.js';
import { POD } from './site.js';
import { readFrame } from './strict-parser.js';

const PACKETS = Number(process.env.FUZZ_PACKETS ?? 30_000);
const { seed } = seeded();

t.test(`${PACKETS} packets, FUZZ_SEED=${seed}`, async (t) => {
  const { packets, seen, wrong } = fuzzPackets(seed, { count: PACKETS });
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(
    wrong,
    `FUZZ_SEED=${seed}: the hooks do what the strict parser and the reference say: ${JSON.stringify(seen)}`,
  );
  t.ok(packets >= PACKETS);
  t.ok((seen['packet allow'] ?? 0) > PACKETS / 20, 'many pass');
  t.ok((seen['bad deny'] ?? 0) > PACKETS / 50, 'many are broken');
  t.ok((seen['link allow'] ?? 0) > PACKETS / 200, 'some are link traffic');
});

t.test('a fault is found, and found again by its frame', async (t) => {
  // As if what must pass did not: the frame is the pod's own answer to ARP.
  const frame = 'ffffffffffff02000000000108060001080006040002020000000001' + '0af40001' + '000000000000' + '0af400fe';
  t.same(readFrame(Buffer.from(frame, 'hex')), { kind: 'link' });
  const wrong = {
    packet: 0,
    frame,
    from: POD,
    hook: 'fromPod',
    bridged: true,
    answer: '2',
    expected: 'allow',
    reading: { kind: 'link' },
  } as const;
  t.equal(replayPacket(wrong), undefined, 'and is none');
  const spoofed = frame.replace('0af40001', '0af40002');
  t.equal(replayPacket({ ...wrong, frame: spoofed }), undefined, 'nor is what must not pass, and does not');
});
