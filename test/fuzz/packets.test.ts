/** Invariant 3: real and mutated packets through the hooks. FUZZ_PACKETS, FUZZ_SEED; for more of them, npm run fuzz -- --packets. */
import t from 'tap';
import { fuzzPackets } from './packet-run.js';
import { seeded } from './random.js';

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
});
