/** egressctl recommend, with manifests and saved evidence, and with an agent that answers from its ledger. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { spawn } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { AskThread } from '../../agent/ask/thread.js';
import type { EdgeHistory } from '../../src/edges/edge.js';
import { edgeRowsMessage } from '../../src/edges/wire.js';
import { buildSnapshot } from '../../src/identity/builder.js';
import { parseManifest } from '../../src/identity/files/yaml.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { makeLogger } from '../../src/log.js';
import type { RecommendRequest } from '../../src/proto/edges.js';
import { readRequest, type RecommendQuestion } from '../../src/recommend/request.js';
import { EdgeBook } from '../../src/edges/book.js';
import { historyJson, rowsOf } from '../../src/cli/history/format.js';
import { evidenceOf } from '../../src/recommend/saved.js';
import type { Recommendation } from '../../src/recommend/base/types.js';
import { RpcServer } from '../../src/rpc/server.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import type { AgentView } from '../../src/rpc/view.js';
import { bench, CLUSTER } from '../cli/tool.js';
import { feedOf, NOTHING_SEEN, outside } from '../edges/given.js';
import { compiled } from '../netns/shell.js';
import { on, party, seen } from './given.js';

t.setTimeout(120_000);

const web = { source: party('shop/web', 'Pod') };
const EVIDENCE: EdgeHistory[] = [
  seen({
    ...web,
    destination: party('shop/api', 'Pod'),
    service: 'shop/api',
    servicePort: 80,
    port: 8080,
    address: '10.96.0.1',
  }),
  seen({ ...web, destination: outside('api.example.com', 'name'), address: '203.0.113.9' }),
  seen({ ...web, destination: outside('203.0.113.77'), address: '203.0.113.77' }, on([3])),
];

const { ctl, write } = bench(t);
write('cluster.yaml', CLUSTER);
write('edges.json', JSON.stringify(EVIDENCE.map(edgeRowsMessage)));
write('lines.jsonl', EVIDENCE.map((one) => `${JSON.stringify(edgeRowsMessage(one))}\n`).join(''));
const FILES = ['--manifests', 'cluster.yaml', '--edges', 'edges.json'];

t.test('with manifests and saved evidence', (t) => {
  const r = ctl('recommend', 'shop/web', ...FILES, '--to', 'cilium');
  t.equal(r.code, 0, r.err);
  t.match(r.out, /^---\n# Pod shop\/web, seen on 30 of 30 days, 2026-01-01 to 2026-01-30\n/);
  t.match(r.out, /# api\.example\.com: 443\/tcp, 300 connections, 30 of 30 days, last 2026-01-30\n/);
  t.match(r.err, /note shop\/web \(Pod\): 1 left out, 1 of what was seen would be denied, 0 opened/);
  t.match(r.err, /1 workload, 2026-01-01 to 2026-01-30; every policy is staged/);
  const lines = ctl('recommend', 'shop/web', '--manifests', 'cluster.yaml', '--edges', 'lines.jsonl', '--to', 'cilium');
  t.equal(lines.out, r.out, 'one on each line');
  write('history.json', JSON.stringify(historyJson(new EdgeBook(), rowsOf(EVIDENCE))));
  const saved = ctl(
    'recommend',
    'shop/web',
    '--manifests',
    'cluster.yaml',
    '--edges',
    'history.json',
    '--to',
    'cilium',
  );
  t.equal(saved.out, r.out, 'as egressctl history prints it');
  t.notMatch(r.err, /see --min-days/);
  const short = ctl('recommend', 'shop/web', ...FILES, '--since', '2026-01-30T01:00:00Z');
  t.match(short.err, /note there is evidence of 1 day, and what was seen on fewer than 2 is left out: see --min-days/);
  t.end();
});

t.test('as text and as JSON', (t) => {
  const text = ctl('recommend', 'shop/web', ...FILES, '-o', 'text');
  t.match(text.out, /left out 203\.0\.113\.77 443\/tcp: one-off, 10 connections on 1 day, last 2026-01-04/);
  t.match(text.out, /replayed 3 edges: 1 would be denied, 0 would be opened, 0 unknown/);
  t.match(text.out, /learned from 21 days, of the 9 others it would have missed 0/);
  const json = JSON.parse(ctl('recommend', '-n', 'shop', ...FILES, '-o', 'json').out) as Recommendation;
  t.same(
    json.workloads.map(({ workload }) => workload),
    ['shop/api', 'shop/db', 'shop/web'],
  );
  t.end();
});

t.test('into a directory, which validate accepts', (t) => {
  const r = ctl('recommend', ...FILES, '--output-dir', 'out');
  t.same([r.code, r.out], [0, ''], r.err);
  t.match(r.err, /3 files in out/);
  const valid = ctl('validate', 'out');
  t.equal(valid.code, 0, valid.out);
  t.end();
});

t.test('wrong usage, and what is not known', (t) => {
  for (const args of [['web'], ['--network', 'office'], ['--range', '9-1/tcp'], ['--min-days', '0'], ['--since', 'x']])
    t.equal(ctl('recommend', ...FILES, ...args).code, 2, args.join(' '));
  t.match(ctl('recommend', 'shop/none', ...FILES), { code: 1, err: /nothing is known of shop\/none/ });
  for (const bad of [
    '[1]',
    '{"edges": 7}',
    '[{"edge": {"source": {"kind": "x"}}}]',
    'x',
    '[{"edge": {}, "day": ["x"]}]',
    '{}',
    '{"edges": [{"source": {}, "destination": {}, "days": []}]}',
    '{"edges": [{"source": 1, "destination": {}, "days": [1]}]}',
  ])
    t.throws(() => evidenceOf(bad), { code: 'USAGE', message: /evidence/ }, bad);
  write('bad.json', '[1]');
  t.match(ctl('recommend', '--manifests', 'cluster.yaml', '--edges', 'bad.json'), { code: 2, err: /evidence/ });
  t.match(ctl('recommend', '--manifests', 'cluster.yaml', '--edges', 'no.json'), { code: 1, err: /cannot be read/ });
  t.end();
});

t.test('an agent answers from its ledger, in a thread of its own', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'egress-recommend-'));
  const socket = join(dir, 'agent.sock');
  const objects = parseManifest('cluster.yaml', CLUSTER).flatMap((d) => d.objects);
  const snapshot = buildSnapshot(objects, { nodeName: 'n1', ownNodeIps: [] });
  const feed = feedOf(EVIDENCE);
  const thread = new AskThread(new URL('../../agent/ask/jobs.js', import.meta.url).href);
  const view = {
    ...NOTHING_SEEN,
    recommend: (request: RecommendRequest) => {
      const { beganMs, overflow } = feed;
      const own = readRequest(request).given ? {} : { own: { beganMs, overflow, histories: feed.histories({}) } };
      return thread.ask('recommend', { request, ...own, snapshot } satisfies RecommendQuestion);
    },
  } as unknown as AgentView;
  const hub = new FlowHub({ nodeName: 'n1' });
  const server = new RpcServer({ hub, view, log: makeLogger('error', () => {}) });
  await server.listen(socket);
  const client = new AgentClient(socket);
  t.teardown(async () => {
    client.close();
    await server.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const run = (...args: string[]) =>
    new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const child = spawn(process.execPath, [
        join(compiled, 'src/cli/main.js'),
        '--socket',
        socket,
        'recommend',
        ...args,
      ]);
      let [out, err] = ['', ''];
      child.stdout.on('data', (text) => (out += text));
      child.stderr.on('data', (text) => (err += text));
      child.on('close', (code) => resolve({ code, out, err }));
    });
  const own = await run('shop/web', '--to', 'calico');
  t.equal(own.code, 0, own.err);
  t.match(own.out, /kind: StagedNetworkPolicy/);
  t.match(own.out, /api\.example\.com: 443\/tcp, 300 connections, 30 of 30 days/);
  const file = join(dir, 'edges.json');
  writeFileSync(file, JSON.stringify(EVIDENCE.map(edgeRowsMessage)));
  const sent = await run('shop/web', '--to', 'calico', '--edges', file);
  t.equal(sent.out, own.out, 'and the same from evidence that it is sent');
  const all = await run('--edges', file, '-o', 'json');
  t.equal((JSON.parse(all.out) as Recommendation).workloads.length, 3, 'also of those that were never seen');
  const many = Array.from({ length: 2500 }, (_, n) => {
    const ip = `198.18.${n >> 8}.${n & 255}`;
    return seen({ source: party('shop/db', 'Pod'), destination: outside(ip), address: ip });
  });
  writeFileSync(file, JSON.stringify([...EVIDENCE, ...many].map(edgeRowsMessage)));
  const parts = await run('--edges', file, '--network', 'bench=198.18.0.0/15', '-o', 'json');
  t.match(parts.err, /shop\/db: \d+ edges are too many for a request/);
  const edges = (JSON.parse(parts.out) as Recommendation).workloads.map(({ replay }) => replay.edges);
  t.ok(edges[0] === 0 && (edges[1] as number) > 300 && edges[2] === 3, `${edges}: the others are not touched`);
  for (const [request, message] of [
    [{ dialect: 'x' }, /dialect: "x" is none of/],
    [{ workloads: ['x'] }, /workloads: "x" is not NAMESPACE\/NAME/],
    [{ options: '{' }, /options/],
    [{ options: '{"x": 1}' }, /options\.x: is not known/],
    [{ options: '{"__proto__": 1}' }, /options\.__proto__: is not known/],
    [{ options: '{"minDays": -1}' }, /options\.minDays/],
    [{ options: '{"networks": [{"name": "a", "cidr": "x"}]}' }, /options\.networks/],
    [{ evidence: [{ edge: { source: { kind: 'x' } } }] }, /evidence: .* is no edge/],
    [{ evidence: [{ edge: {}, day: [4294967295] }] }, /evidence/],
  ] as const)
    await t.rejects(client.recommend(request as unknown as RecommendRequest), { code: 'USAGE', message });
});
