/** Activity of a full ledger: whoever asks for it does not stop the agent. */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DAY_MS } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { edgeHandlers } from '../../src/rpc/ask/edges.js';
import type { ActivityRequest, ActivityResponse } from '../../src/proto/edges.js';
import { encode } from '../../src/proto/load.js';
import { A_DAY, makeEdge, outside, workload } from './given.js';

const NOON = A_DAY * DAY_MS + DAY_MS / 2;
const EDGES = 20_000;

function full(): Ledger {
  const ledger = Ledger.fresh(NOON);
  const policy = { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'evil', name: 'p' };
  for (let n = 0; n < EDGES; n++) {
    const auditRule = {
      ref: { policy, index: n % 3, tier: 'default', staged: true, action: 'deny' as const },
      generation: n,
    };
    const destination = outside(`203.0.${n >> 8}.${n & 255}`);
    const edge = makeEdge({ source: workload('evil/web'), destination, auditVerdict: 'deny', auditRule });
    const slot = ledger.slotOf(edge) as number;
    for (let day = 0; day < 3; day++) ledger.count(slot, NOON + day * DAY_MS + n, 1, 0, 0);
  }
  return ledger;
}

t.test('activity of a full ledger', async (t) => {
  const { Activity } = edgeHandlers(full(), 'node-a') as Record<string, (...args: unknown[]) => Promise<void>>;
  const turns: number[] = [];
  let last = performance.now();
  const timer = setInterval(() => {
    turns.push(performance.now() - last);
    last = performance.now();
  }, 1);
  const ask = (request: ActivityRequest) =>
    new Promise<ActivityResponse>((resolve, reject) => {
      void Activity?.({ request, cancelled: false }, (e: unknown, answer: ActivityResponse) =>
        e ? reject(e as Error) : resolve(answer),
      );
    });
  await sleep(20);
  turns.length = 0;
  const answer = await ask({});
  await sleep(20);
  clearInterval(timer);
  t.ok(turns.length > 10, `others had ${turns.length} turns`);
  t.equal(answer.would_deny?.length, 2000);
  t.equal(answer.rules?.length, 2000);
  t.equal(answer.would_deny?.[0]?.generation, EDGES - 1, 'the most recent');
  t.equal(answer.would_deny?.[0]?.connections, 3);
  t.ok(encode('egress.v1.ActivityResponse', answer).length < 2 << 20);
  t.equal((await ask({ namespaces: ['shop'] })).rules?.length, 0);
  const since = { seconds: (A_DAY + 2) * 86_400, nanos: 0 };
  t.equal((await ask({ since })).would_deny?.[0]?.connections, 1);
});
