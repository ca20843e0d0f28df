/**
 * Which bytes may leave, through all hooks on their way, and what the flow table remembers and tells (invariant 4). FUZZ_STEPS, FUZZ_SEED;
 * for more of them, npm run fuzz -- --flows.
 */
import t from 'tap';
import { replayFlows, fuzzFlows } from './flow-run.js';
import { ACK, RST, type Segment, type Step, SYN, TCP, UDP, type WorldSpec } from './flow-types.js';
import { seeded } from './random.js';
import { fuzzTable, replayTable } from './table-run.js';

const STEPS = Number(process.env.FUZZ_STEPS ?? 8000);
const { seed } = seeded();

t.test(`${STEPS} packets and all hooks that they meet, FUZZ_SEED=${seed}`, async (t) => {
  const { steps, seen, wrong } = fuzzFlows(seed, { count: STEPS });
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(wrong, `FUZZ_SEED=${seed}: what may leave does, and nothing else: ${JSON.stringify(seen)}`);
  t.ok(steps >= STEPS);
  t.ok((seen['web drop'] ?? 0) > STEPS / 20 && (seen['web pass'] ?? 0) > STEPS / 20, 'both are common');
});

t.test(`${STEPS} packets of one pod, FUZZ_SEED=${seed}`, async (t) => {
  const { steps, seen, wrong } = fuzzTable(seed, { count: STEPS });
  if (wrong) t.comment(JSON.stringify(wrong));
  t.notOk(wrong, `FUZZ_SEED=${seed}: the programs do what the model says: ${JSON.stringify(seen)}`);
  t.ok(steps >= STEPS);
  t.ok((seen.policy ?? 0) > STEPS / 1000, 'under changing policies');
});

t.test('a fault is found, and made small', async (t) => {
  const { wrong } = fuzzTable(7, {
    count: 20_000,
    // As if a reset were never told of.
    flaw: ({ flags = 0 }, answer) => (flags & RST ? { ...answer, told: [] } : answer),
  });
  t.ok(wrong);
  if (!wrong) return;
  t.ok(wrong.steps.length <= 4, `${wrong.steps.length} steps`);
  t.match(wrong.expected, { told: [/./] });
  t.equal(replayTable(wrong.steps), undefined, 'and is none without it');
});

t.test('so is one behind a translation', async (t) => {
  const { wrong } = fuzzFlows(7, {
    count: 20_000,
    // As if nobody looked again once a Service's address has been replaced.
    flaw: (s, walked) =>
      s.to.startsWith('10.96.') && walked.stopped !== 'fromPod' ? { left: true, arrived: true } : walked,
  });
  t.equal(wrong?.expected.fate, 'drop');
  if (!wrong) return;
  t.ok(wrong.steps.length <= 4, `${wrong.steps.length} steps`);
  t.same(replayFlows(wrong.steps), [undefined], 'and is none without it');
});

const [WEB, DB, VIP, NEAR, FAR] = ['10.244.0.1', '10.244.0.3', '10.96.0.1', '10.1.0.1', '10.1.0.2'];
/** What flow-nat.ts makes of port 40001 where that is taken, from DB to WEB's 443. */
const RENAMED = 58146;
const world = (allowed: string[], backends: string[]): Step => {
  const rules = allowed.map((ip) => ({ to: [{ ipBlock: { cidr: `${ip}/32` } }] }));
  const spec: WorldSpec = { web: rules, backends: [backends, []], masquerade: { services: false, outside: false } };
  return { do: 'world', world: spec };
};
const send = (from: Segment['from'], src: string, sport: number, to: string, dport: number, flags: number): Step => ({
  ...{ do: 'send', segment: { from, src, sport, to, dport, protocol: TCP, flags, pick: 0 } },
});

const [HOST, OUTSIDE] = ['192.168.0.1', '10.2.0.1'];
const piece = (from: Segment['from'], src: string, sport: number, to: string, dport: number, offset: number): Step => ({
  do: 'send',
  segment: { from, src, sport, to, dport, protocol: TCP, flags: SYN, pick: 0, fragment: { id: 1, offset } },
});

const datagram = (
  from: Segment['from'],
  src: string,
  sport: number,
  to: string,
  dport: number,
  offset?: number,
): Step => {
  const segment = { from, src, sport, to, dport, protocol: UDP, pick: 0 };
  return { do: 'send', segment: offset === undefined ? segment : { ...segment, fragment: { id: 1, offset } } };
};

/** What was found before: the last packet of each is the one that went wrong. */
const FOUND: Readonly<Record<string, readonly Step[]>> = {
  'a denied backend is not reached by the port of a denied connection': [
    world([], [DB, WEB]),
    send('web', WEB, 40001, DB, 443, SYN),
    send('web', WEB, 40001, VIP, 80, SYN),
  ],
  'nor one that goes on talking when it is denied': [
    world([DB], [DB, WEB]),
    send('web', WEB, 40001, VIP, 80, SYN),
    world([], [DB, WEB]),
    send('web', WEB, 40001, VIP, 80, ACK),
    send('db', DB, 443, WEB, 40001, ACK),
    send('web', WEB, 40001, VIP, 80, ACK),
  ],
  'nor one that once answered by a reset, while it was allowed': [
    world([DB], [DB, WEB]),
    send('web', WEB, 40001, DB, 443, ACK),
    send('db', DB, 443, WEB, 40001, RST),
    { do: 'forget', what: 'conntrack' },
    world([], [DB, WEB]),
    send('web', WEB, 40001, VIP, 80, SYN),
  ],
  'nor one whose connection the table has forgotten, and that goes on talking': [
    world([DB], [DB, WEB]),
    send('web', WEB, 40001, VIP, 80, SYN),
    { do: 'forget', what: 'flows' },
    send('db', DB, 443, WEB, 40001, ACK),
    world([], [DB, WEB]),
    send('web', WEB, 40001, VIP, 80, ACK),
  ],
  'nor one that has left its Service, whose other ones are allowed': [
    world([NEAR], [NEAR]),
    send('web', WEB, 40001, VIP, 80, SYN),
    world([FAR], [FAR]),
    send('web', WEB, 40001, VIP, 80, ACK),
  ],
  'who is let through anew answers nothing that its peer had begun before': [
    world([FAR], []),
    send('out', FAR, 443, WEB, 40001, SYN),
    send('web', WEB, 40001, FAR, 443, SYN | ACK),
    send('out', FAR, 443, WEB, 40001, ACK),
    { do: 'forget', what: 'flows' },
    send('web', WEB, 40001, FAR, 443, SYN),
    { do: 'forget', what: 'flows' },
    world([], []),
    send('web', WEB, 40001, FAR, 443, ACK),
  ],
  'an answer arrives whose asker has another port behind the translation, since it had talked to a Service by the same':
    [
      world([], [WEB]),
      send('db', DB, 40001, VIP, 80, ACK),
      send('db', DB, 40001, WEB, 443, SYN),
      send('web', WEB, 443, DB, RENAMED, SYN | ACK),
    ],
  'a later fragment of the node itself follows no first of a pod behind its address, that was denied': [
    { do: 'world', world: { web: [], backends: [[], []], masquerade: { services: true, outside: false } } },
    piece('web', WEB, 40000, HOST, 30081, 0),
    piece('node', HOST, 57655, DB, 80, 8),
  ],
  'nor one that was allowed': [
    world([], []),
    piece('node', HOST, 80, OUTSIDE, 53, 0),
    {
      do: 'world',
      world: { web: [], node: ['10.3.0.0/16'], backends: [[], [DB]], masquerade: { services: false, outside: true } },
    },
    piece('api', '10.244.0.2', 80, OUTSIDE, 80, 0),
    piece('node', HOST, 80, OUTSIDE, 53, 1480),
  ],
  'all pieces of an answer arrive at a pod of the same node': [
    world([], []),
    datagram('db', DB, 40001, WEB, 53),
    datagram('web', WEB, 53, DB, 40001, 0),
    datagram('web', WEB, 53, DB, 40001, 1480),
  ],
};

t.test('what was found before', async (t) => {
  const now = replayFlows(...Object.values(FOUND));
  for (const [i, name] of Object.keys(FOUND).entries()) t.equal(now[i], undefined, name);
});
