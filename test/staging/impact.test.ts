/** What a staged policy would deny, and when it is ready. */
import t from 'tap';
import { DAY_MS, type Edge, type EdgeHistory, NOBODY } from '../../src/edges/edge.js';
import { activityOf } from '../../src/edges/activity.js';
import { fullRuleMessage } from '../../src/edges/wire.js';
import type { RuleRef } from '../../src/ir/types.js';
import type { PolicyObjectMessage } from '../../src/proto/edges.js';
import { longestPause } from '../../src/staging/cron.js';
import { type ImpactInput, impactOf, spanText } from '../../src/staging/impact.js';
import { usageOf } from '../../src/staging/usage.js';
import { A_DAY, makeDay, makeEdge, outside, workload } from '../edges/given.js';

const NOW = (A_DAY + 20) * DAY_MS;
const GENERATION = 1234;

function rule(name: string, index = -1, kind = 'NetworkPolicy', dialect = 'networkpolicy'): RuleRef {
  return {
    policy: { dialect, kind, namespace: 'shop', name },
    index,
    tier: 'default',
    staged: true,
    action: index < 0 ? 'deny' : 'allow',
  };
}

function seen(day: number, given: Partial<Omit<Edge, 'id'>> = {}, connections = 1): EdgeHistory {
  const edge = makeEdge({
    source: workload('shop/web'),
    destination: outside('192.0.2.7'),
    verdict: 'allow',
    auditVerdict: 'deny',
    auditRule: { ref: rule('web'), generation: GENERATION },
    ...given,
  });
  return { edge, days: [makeDay(A_DAY + day, { connections })] };
}

function impact(given: Partial<ImpactInput> = {}) {
  return impactOf({
    names: ['np/shop/web', 'sknp/shop/web'],
    generation: GENERATION,
    isStaged: true,
    isRefused: false,
    stagedMs: A_DAY * DAY_MS,
    histories: [],
    beganMs: 0,
    unavailable: [],
    overflow: 0,
    cronJobs: [],
    alone: [],
    days: 7,
    nowMs: NOW,
    ...given,
  });
}

t.test('ready: nothing would be denied, for long enough, and all have answered', async (t) => {
  t.match(impact(), { stage: 'ready', missing: [], windowMs: 20 * DAY_MS });
  t.match(impact({ isStaged: false }), { stage: 'enforced' });
  t.match(impact({ histories: [seen(5, {}, 3)] }), { stage: 'ready', connections: 3 }, 'that is long ago');
  t.match(impact({ histories: [seen(15, {}, 3)] }), {
    stage: 'staged',
    missing: [/denied 3 connections in the last 7 days/],
  });
  t.match(impact({ histories: [seen(5)], days: 0 }), { stage: 'staged' }, 'in the whole window');
  t.match(impact({ stagedMs: NOW - 3 * DAY_MS }), { missing: ['it has been counted for 3 d of 7 days'] });
  t.match(impact({ beganMs: NOW - DAY_MS }), { missing: [/1 d of 7 days/] }, 'no longer than there are records');
  t.match(impact({ stagedMs: undefined }), { windowMs: 0, stage: 'staged' }, 'nobody knows since when');
  t.match(impact({ unavailable: ['node-b'] }), { missing: ['node node-b did not answer'] });
  t.match(impact({ isRefused: true }), { stage: 'staged', missing: [/errors/] });
  t.match(impact({ only: 'node-a' }), { missing: ['only node node-a was asked'] });
  t.match(impact({ isCut: true }), { stage: 'staged', missing: [/more records than can be counted/] });
  const rest = (day: number) => seen(day, { destination: NOBODY, auditVerdict: 'allow' });
  t.match(impact({ overflow: 3, histories: [rest(15)] }), { missing: [/3 flows/] });
  t.match(impact({ overflow: 3 }), { stage: 'ready' }, 'of others: nothing of this namespace found no room');
  t.match(impact({ overflow: 3, histories: [rest(2)], stagedMs: (A_DAY + 5) * DAY_MS }), { stage: 'ready' }, 'before');
});

t.test('a connection from before the window that is open in it', async (t) => {
  // The agents count it when it begins, and then only note that it is open.
  const open = [seen(5, {}, 0), seen(15, {}, 0)];
  t.match(impact({ histories: [open[1] as EdgeHistory] }), {
    stage: 'staged',
    connections: 1,
    denied: [{ workload: 'shop/web', connections: 1 }],
    missing: [/denied 1 connections in the last 7 days/],
  });
  t.match(impact({ histories: [open[0] as EdgeHistory], days: 0 }), { stage: 'staged', connections: 1 });
});

t.test('only the present content counts, and this policy', async (t) => {
  const other = { auditRule: { ref: rule('web'), generation: 1 } };
  t.match(impact({ histories: [seen(19, other, 9)] }), { connections: 0, earlier: 9, stage: 'ready' });
  t.match(impact({ histories: [seen(19, { auditRule: { ref: rule('api'), generation: GENERATION } })] }), {
    connections: 0,
    earlier: 0,
  });
  t.match(
    impact({
      histories: [seen(19, { auditRule: { ref: rule('web', 0), generation: GENERATION }, auditVerdict: 'allow' }, 4)],
    }),
    { connections: 0, judged: 4 },
  );
  t.match(impact({ histories: [seen(19, { verdict: 'deny' }, 4)] }), { connections: 0 }, 'what is denied anyway');
  t.match(
    impact({ histories: [seen(2)], stagedMs: (A_DAY + 10) * DAY_MS, days: 0 }),
    { connections: 0 },
    'before it was staged',
  );
  const twin = {
    auditRule: { ref: rule('web', -1, 'StagedKubernetesNetworkPolicy', 'calico'), generation: GENERATION },
  };
  t.match(impact({ histories: [seen(19, twin)] }), { connections: 1 }, 'by its other form');
});

t.test('by workload, the most first; and what only this policy would deny', async (t) => {
  const alone = [
    {
      edge: seen(19, { source: workload('shop/job', 'CronJob') }).edge,
      connections: 7,
      lastMs: NOW - 1000,
      rule: 'np/shop/web#default',
    },
    { edge: seen(19).edge, connections: 70, lastMs: NOW - 1000, rule: 'np/shop/web#default' },
    { edge: seen(1, { source: workload('shop/old') }).edge, connections: 70, lastMs: 5, rule: 'np/shop/web#default' },
  ];
  const { denied, connections } = impact({ histories: [seen(19, {}, 2), seen(19, { port: 80 }, 3)], alone });
  t.equal(connections, 12);
  t.match(denied, [
    { workload: 'shop/job', kind: 'CronJob', connections: 7 },
    {
      workload: 'shop/web',
      connections: 5,
      flows: [{ port: 80, connections: 3, rule: 'np/shop/web#default' }, { port: 443 }],
    },
  ]);
});

t.test('CronJobs', async (t) => {
  const cron = (schedule: string, lastRunMs: number | undefined, suspended = false) =>
    impact({ cronJobs: [{ name: 'shop/report', schedule, suspended, lastRunMs }] }).missing;
  t.same(cron('0 3 * * *', NOW - 1000), []);
  t.match(cron('0 3 1 * *', NOW - 1000), [/runs at least every 31 days, and the window has 20 d/]);
  t.match(cron('0 3 1 * *', 5), [/CronJob shop\/report has not run in the window/]);
  t.match(cron('0 3 * * *', undefined), [/has not run/]);
  t.same(cron('0 3 * * *', undefined, true), [], 'suspended');
  t.match(cron('nonsense', NOW), [/cannot be read/]);
  const pauses: Record<string, number | undefined> = {
    '* * * * *': 1,
    '*/5 0-6,12 * * 1-5': 3,
    '0 0 * * 0': 7,
    '0 0 * * sun': 7,
    '0 0 * * 7': 7,
    '0 0 1 * *': 31,
    '0 0 31 * *': 61,
    '0 0 1 1 *': 366,
    '0 0 29 2 *': 2921,
    '0 0 1,15 * *': 17,
    '0 0 1 * 1': 7,
    '0 0 1 jan-mar *': 306,
    '@monthly': 31,
    '@every 36h': 2,
    'TZ=Europe/Berlin 0 0 * * 1': 7,
    'CRON_TZ=UTC 0 0 * * mon': 7,
    '0 0 30 2 *': undefined,
    '0 0 * *': undefined,
    '60 0 * * *': undefined,
    '*/0 * * * *': undefined,
    '0 0 5-1 * *': undefined,
    '@every 0s': undefined,
    '': undefined,
  };
  for (const [schedule, days] of Object.entries(pauses)) t.equal(longestPause(schedule), days, schedule);
});

t.test('spans', async (t) => {
  t.same([999, 59_000, 60_000, 3_600_000, 3_660_000, DAY_MS, DAY_MS * 2 + 3_600_000].map(spanText), [
    '0 s',
    '59 s',
    '1 min',
    '1 h',
    '1 h 1 min',
    '1 d',
    '2 d 1 h',
  ]);
});

t.test('usage: every rule, those that decided nothing too', async (t) => {
  const object = (name: string, more: Partial<PolicyObjectMessage> = {}): PolicyObjectMessage => ({
    ...{ kind: 'NetworkPolicy', namespace: 'shop', name, dialect: 'networkpolicy', tier: 'default', state: 'in-force' },
    ...{ generation: GENERATION, rules: [0, 1].map((n) => fullRuleMessage({ ...rule(name, n), staged: false })) },
    ...more,
  });
  const decided = (name: string, index: number, generation = GENERATION) => ({
    verdict: 'allow' as const,
    auditVerdict: 'none' as const,
    rule: { ref: { ...rule(name, index), staged: false }, generation },
  });
  const without = (e: EdgeHistory): EdgeHistory => {
    const { auditRule: _, ...edge } = e.edge;
    return { ...e, edge };
  };
  const histories = [
    without(seen(1, decided('web', 0), 5)),
    without(seen(2, decided('web', -1), 2)),
    without(seen(3, decided('web', 0, 9), 100)),
    without(seen(3, decided('old', 0), 1)),
    // Beside what is staged, the same rule decides.
    seen(1, {
      ...decided('web', 0),
      auditVerdict: 'allow',
      auditRule: { ref: { ...rule('web', 0), staged: false }, generation: GENERATION },
    }),
    seen(4, { auditRule: { ref: rule('next'), generation: GENERATION } }, 8),
  ];
  const { policies, gone } = usageOf(
    [object('web'), object('next', { staged: true }), object('nets', { supporting: true })],
    activityOf(histories),
  );
  t.match(policies, [
    {
      policy: 'np/shop/web',
      hits: { connections: 8, days: 1 },
      earlier: { connections: 100 },
      rules: [
        { rule: 'np/shop/web#0', connections: 6, lastMs: Number },
        { rule: 'np/shop/web#1', connections: 0, lastMs: undefined },
        { rule: 'np/shop/web#default', connections: 2 },
      ],
    },
    { policy: 'np/shop/next', staged: true, wouldDeny: [['shop/web', 8]] },
  ]);
  t.match(gone, [{ policy: 'np/shop/old', hits: { connections: 1 } }]);
  t.equal(policies.length, 2);
});
