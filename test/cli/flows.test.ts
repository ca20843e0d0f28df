/** egressctl flows and status against a server: the built program, a real socket, a hub with flows in it. */
import { NOTHING_SEEN } from '../edges/given.js';
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import t from 'tap';
import { compact } from '../../src/cli/flows/format.js';
import { AgentError } from '../../src/errors.js';
import { toRecord } from '../../src/flow/hubble.js';
import { FlowHub } from '../../src/flow/hub/hub.js';
import { makeLogger } from '../../src/log.js';
import { RpcServer } from '../../src/rpc/server.js';
import type { AgentStatus, AgentView, LearnedView } from '../../src/rpc/view.js';
import { flow, LEAD, rule, SECOND, WEB, WORLD } from '../flow/flows.js';
import { compiled } from '../netns/shell.js';

// Dozens of processes are started: on a busy machine that takes its time.
t.setTimeout(240_000);
const dir = mkdtempSync(join(tmpdir(), 'egress-agent-cli-'));
const CTL = join(compiled, 'src/cli/main.js');
const SOCKET = join(dir, 'agent.sock');

type Child = ChildProcessByStdio<null, Readable, Readable>;

function start(args: readonly string[], env: Record<string, string> = {}): Child {
  const clean = { ...process.env, EGRESS_AGENT_SOCKET: SOCKET, TZ: 'UTC', ...env };
  return spawn(process.execPath, [CTL, ...args], { stdio: ['ignore', 'pipe', 'pipe'], env: clean });
}

async function ended(child: Child): Promise<{ code: number | null; out: string; err: string }> {
  const text = { out: '', err: '' };
  child.stdout.on('data', (d) => (text.out += d));
  child.stderr.on('data', (d) => (text.err += d));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

const ctl = (...args: string[]) => ended(start(args));

async function until(what: string, done: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !done(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
  if (!done()) throw new Error(`not in time: ${what}`);
}

const STATUS: AgentStatus = {
  version: '1.2.3',
  nodeName: 'node-a\u009b31m',
  mode: 'manifests',
  source: '/policies',
  pid: 7,
  startedAt: 1_700_000_000_000,
  uptimeNs: 5e9,
  attachMode: 'tcx',
  denyResponse: 'drop',
  endpoints: [
    {
      pod: 'shop/web',
      uid: 'u',
      interface: 'veth1',
      ifindex: 9,
      hooks: ['tcx ingress'],
      state: 'missing',
      policies: 2,
      set: 1,
      unproven: 0,
      lostEvents: 0,
      flows: 3000,
      names: 7,
      namesRefused: 0,
      answersUntrusted: 0,
    },
  ],
  hooks: { attached: 1, expected: 2, problems: ['veth1 egress: gone'] },
  policies: {
    inForce: 3,
    staged: 1,
    refused: 1,
    problems: [{ severity: 'error', where: { object: 'NetworkPolicy a/b', field: 'spec' }, message: 'is wrong' }],
  },
  epoch: 4,
  maps: [
    { name: 'rules', entries: 90, max: 100 },
    { name: 'flows', entries: 12, max: 65536 },
  ],
  flows: { perSecond: 1.5, seen: 10, inTable: 12, share: 2048, notStored: 3, evicted: 2 ** 40, busy: 1 },
  lost: { ring: [1, 2], queue: 3 },
  drops: { rule: 9 },
  staleness: { appliedAt: 1_700_000_001_000, failingSince: 1_700_000_002_000, lastError: 'no room' },
  namespaces: 1,
  names: {
    names: 12,
    pages: 20,
    share: 512,
    pageShare: 1024,
    refused: 0,
    overflow: 0,
    untrusted: 0,
    seeded: 0,
    resolvers: [],
    seen: [],
    dnsEventsLost: 0,
  },
  said: {
    inspected: 0,
    judged: 0,
    denied: 0,
    pending: 0,
    oversize: 0,
    withoutBuffer: 0,
    echWithoutRoom: 0,
    audited: 0,
    eventsLost: 0,
  },
  ledger: { beganMs: 1_700_000_000_000, edges: 3, max: 20_000, overflow: 0, forgotten: 0 },
};

/** An hour ago, as the program reads it. */
const HOUR_AGO = Date.now() - 3_600_000;
const LEARNED: LearnedView[] = [
  {
    pod: 'shop/web',
    name: 'api.example.com',
    asked: true,
    seeded: false,
    learnedAt: HOUR_AGO,
    answeredAt: HOUR_AGO + 60_000,
    expiresAt: HOUR_AGO + 7_200_000,
    resolver: '10.96.0.10:53',
    addresses: ['203.0.113.1', '203.0.113.2', '203.0.113.3', '203.0.113.4', '2001:db8::1'].map((ip) => ({
      ...{ ip, alias: false, expiresAt: HOUR_AGO + 7_200_000, ttl: 300 },
    })),
    rules: [rule({ index: 1 }), rule({ index: 2 }), rule({ index: 3 })],
  },
  {
    ...{ pod: '', name: 'evil\u009b31m.example', asked: false, seeded: true },
    ...{ learnedAt: HOUR_AGO, answeredAt: HOUR_AGO, expiresAt: HOUR_AGO + 1000, resolver: '[fd00::53]:53' },
    addresses: [],
    rules: [],
  },
];

const view: AgentView = {
  ...NOTHING_SEEN,
  status: () => STATUS,
  explain: (q) => {
    if (q.from !== 'shop/web') throw new AgentError('USAGE', `there is no pod ${q.from}`);
    const verdict = { verdict: q.port === 443 ? 'allow' : 'deny', rule: 0, logged: [] };
    const explanation = { packet: q, sender: { selectable: true }, verdict, targets: [], summary: 'because' };
    const learned = [LEARNED[0] as LearnedView];
    if (q.to !== 'api.example.com') return { ...explanation, learned } as never;
    const hints = [
      'np/shop/web#2: *.api.example.com stands for names below api.example.com, not for api.example.com itself',
    ];
    const query = { to: '10.96.0.10', verdict: 'deny', rule: 'cilium/shop/web#0' };
    const packet = { ...q, to: '203.0.113.1' };
    const explanations = [{ ...explanation, packet }];
    return { name: q.to, known: true, explanations, more: 3, verdict: verdict.verdict, hints, query, learned } as never;
  },
  snapshot: () => {
    throw new Error('not asked for');
  },
  policies: () => [],
  names: async (q) => ({ names: LEARNED.filter((n) => q.pod === undefined || n.pod === q.pod), more: q.limit < 2 }),
};

const hub = new FlowHub({ nodeName: 'node-a' });
const server = new RpcServer({ hub, view, log: makeLogger('error', () => {}) });
const DENY = rule({ index: 12, action: 'deny' });
const LONG = { ...WEB, namespace: 'a-rather-long-namespace', pod: 'a-rather-long-deployment-7d9f8b6c5d-x2x9q' };
const at = (n: number) => ({ timeNs: 100e9 + n * 1e9 });

t.before(async () => {
  await server.listen(SOCKET);
  hub.publish(flow({ uuid: 'u1', rule: rule(), timeNs: LEAD + 100n * SECOND }, at(0)));
  hub.publish(
    flow(
      { uuid: 'u2', rule: DENY, timeNs: LEAD + 101n * SECOND, destination: { ...WORLD, port: 80 } },
      { ...at(1), verdict: 'deny', reason: 'rule', remotePort: 80 },
    ),
  );
  const destination = { ...WORLD, ip: '2001:db8:1111:2222:3333:4444:5555:6666', port: 65535 };
  hub.publish(
    flow(
      { uuid: 'u3', source: LONG, destination, timeNs: LEAD + 102n * SECOND },
      { ...at(2), verdict: 'deny', family: 6, remote: destination.ip, remotePort: 65535 },
    ),
  );
  hub.publish(
    flow(
      { uuid: 'u4', rule: rule(), timeNs: LEAD + 103n * SECOND },
      { ...at(3), type: 'end', bytesOut: 1234, bytesIn: 45_678_901, createdNs: 90e9 },
    ),
  );
  hub.publish(
    flow({ uuid: 'u5', source: { ...WEB, pod: 'e\u001b[31mvil\u009b' }, timeNs: LEAD + 104n * SECOND }, at(4)),
  );
});
t.teardown(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

t.test('compact: a line for each flow, in a hundred columns', async (t) => {
  const { code, out, err } = await ctl('flows', '--last', '5');
  t.equal(code, 0);
  t.equal(err, '');
  const lines = out.trimEnd().split('\n');
  t.equal(lines.length, 5);
  const [allowed = '', denied = '', long = '', end = '', evil = ''] = lines;
  t.match(allowed, /^\d\d:\d\d:\d\d\.\d{3} shop\/web-1 +→ 192\.0\.2\.1:443\/tcp +ALLOWED np\/shop\/web#2$/);
  t.match(denied, /→ 192\.0\.2\.1:80\/tcp +DENIED +np\/shop\/web#12$/);
  t.match(long, / a-rath.*…-x2x9q → \[2001:.*….*\]:65535\/tcp DENIED/, 'names are cut, ports are not');
  t.match(end, /ended +np\/shop\/web#2 \(13\.0s ↑1\.2kB ↓45\.7MB\)$/);
  t.match(evil, / shop\/e\\u001b\[31/, 'what would steer the terminal is shown');
  for (const l of [allowed, denied, long, evil]) t.ok(l.length <= 100, l);
  t.notMatch(out, /[\u001b\u009b]/, 'no colours into a pipe');
  const painted = await ctl('flows', '--last', '1', '--color', 'always');
  t.match(painted.out, /\u001b\[32mALLOWED/);
  t.notMatch((await ended(start(['flows', '--last', '1'], { FORCE_COLOR: '1' }))).out, /\u001b/);
});

t.test('compact: names of rules, and what only staged rules would do', async (t) => {
  const text = (...args: Parameters<typeof flow>) => compact(toRecord(flow(...args)), (_, s) => s);
  const deny = rule({ name: 'no "web"', action: 'deny' });
  t.match(text({ rule: deny }, { verdict: 'deny', reason: 'rule' }), /DENIED +np\/shop\/web#2 "no \\"web\\""$/);
  const audit = { auditRule: rule({ index: -1, staged: true, action: 'deny' }) };
  t.match(text(audit, { auditVerdict: 'deny' }), /AUDIT +no-policy \(staged: deny np\/shop\/web#default\)$/);
  const end = text(audit, { auditVerdict: 'deny', type: 'end', bytesOut: 1234, bytesIn: 5, createdNs: 90e9 });
  t.match(end, /AUDIT +no-policy \(10\.0s ↑1\.2kB ↓5B, staged: deny np\/shop\/web#default\)$/, 'at its end too');
});

t.test('compact: the name by which the pod knew the address', async (t) => {
  const text = (columns?: number, ...args: Parameters<typeof flow>) =>
    compact(toRecord(flow(...args)), (_, s) => s, columns);
  const named = { destinationNames: ['api.stripe.com'], rule: rule() };
  t.match(
    text(undefined, named),
    / shop\/web-1 +→ api\.stripe\.com \(192\.0\.2\.1\):443\/tcp +ALLOWED np\/shop\/web#2$/,
  );
  t.match(text(200, named), /→ api\.stripe\.com \(192\.0\.2\.1\):443\/tcp/);
  t.match(text(90, named), /→ api\.stripe\.com:443\/tcp/, 'no room for both: the name');
  const long = { ...named, destinationNames: [`${'a'.repeat(60)}.example.com`] };
  t.match(text(undefined, long), /→ a{60}\.example\.com \(192\.0\.2\.1\):443\/tcp/, 'whole into a pipe');
  t.ok(text(100, long).length <= 100);
  const denied = text(undefined, { ...named, rule: DENY }, { verdict: 'deny', reason: 'rule' });
  t.match(denied, /api\.stripe\.com \(192\.0\.2\.1\):443\/tcp DENIED/, 'denied ones, too');
  const answer = { source: WORLD, destination: WEB, sourceNames: ['api.stripe.com'] };
  t.match(text(undefined, answer, { isReply: true }), / shop\/web-1 +→ api\.stripe\.com \(192\.0\.2\.1\):443\/tcp/);
});

t.test('filters, in the order of the command line', async (t) => {
  const uuids = async (...args: string[]) => {
    const { code, out, err } = await ctl('flows', '--all', '-o', 'json', ...args);
    t.equal(code, 0, err);
    const records = out.split('\n').filter((l) => l !== '');
    return records.map((l) => (JSON.parse(l) as { flow: { uuid: string } }).flow.uuid);
  };
  t.same(await uuids('--verdict', 'DENIED'), ['u2', 'u3']);
  t.same(await uuids('--verdict', 'DENIED', '--not', '--to-port', '80'), ['u3']);
  t.same(await uuids('--not', '--to-port', '80', '--verdict', 'DENIED'), ['u3'], '--not is for the next filter alone');
  t.same(await uuids('--not', '--verdict', 'DENIED', '--not', '--type', 'trace'), ['u1', 'u5'], 'each by itself');
  t.same(await uuids('--namespace', 'shop', '--pod', 'web'), ['u1', 'u2', 'u4'], 'the namespace of the pod');
  t.same(await uuids('-n', 'a-rather-long-namespace'), ['u3']);
  t.same(await uuids('--to-ip', '192.0.2.0/24', '--to-port', '80'), ['u2']);
  t.same(await uuids('--uuid', 'u1', '--uuid', 'u4'), ['u1', 'u4'], 'values are alternatives');
  t.same(await uuids('--denylist', '{"verdict":["DROPPED"]}', '--from-label', 'app=web'), ['u1', 'u4', 'u5']);
  t.same(await uuids('--ip-version', '6'), ['u3']);
});

t.test('ranges', async (t) => {
  const count = async (...args: string[]) => (await ctl('flows', ...args)).out.split('\n').length - 1;
  t.equal(await count('--first', '2'), 2);
  t.equal(await count('--since', new Date(Number((LEAD + 102n * SECOND) / 1_000_000n)).toISOString()), 3);
  t.equal(await count('--since', '1m'), 0, 'all of them are older');
});

t.test('json: the whole record; jsonpb: as hubble has it; dict; table', async (t) => {
  const json = JSON.parse((await ctl('flows', '--uuid', 'u2', '-o', 'json')).out);
  t.match(json, { event: 'verdict', reason: 'rule', rule: { text: 'np/shop/web#12', index: 12 }, node_name: 'node-a' });
  t.match(json.flow, { verdict: 'DROPPED', l4: { TCP: { destination_port: 80 } } });
  t.match(json.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$/);
  const pb = JSON.parse((await ctl('flows', '--uuid', 'u2', '-o', 'jsonpb')).out);
  t.same(Object.keys(pb), ['flow', 'node_name', 'time']);
  t.match(pb.flow, { IP: { source: '10.0.0.1', ipVersion: 'IPv4' }, time: json.time });
  const evil = await ctl('flows', '--uuid', 'u5', '-o', 'json');
  t.notMatch(evil.out, /\u009b/, 'JSON steers no terminal');
  t.equal(JSON.parse(evil.out).flow.source.pod_name, 'e\u001b[31mvil\u009b', 'and says the same');
  const dict = await ctl('flows', '--uuid', 'u2', '-o', 'dict');
  t.match(dict.out, /^ *VERDICT: +DENIED$/m);
  const table = await ctl('flows', '--last', '2', '-o', 'table');
  t.match(table.out.split('\n')[0], /TIME +SOURCE +DESTINATION +VERDICT/);
  t.equal(table.out.trimEnd().split('\n').length, 3);
});

t.test('following: flows as they come, losses on standard error, Ctrl-C ends quietly', async (t) => {
  const child = start(['flows', '-f', '--last', '1']);
  let seen = '';
  let said = '';
  child.stdout.on('data', (d) => (seen += d));
  child.stderr.on('data', (d) => (said += d));
  const end = ended(child);
  await until('the last flow', () => seen.split('\n').length === 2);
  hub.publish(flow({ uuid: 'u6', destination: { ...WORLD, port: 8443 } }, { remotePort: 8443 }));
  await until('a new flow', () => seen.includes(':8443/tcp'));
  hub.lostInRing(17, 0);
  await until('the loss', () => said.includes('lost'));
  child.kill('SIGINT');
  const { err } = await end;
  t.match(err, /17 flows lost: the kernel had no room for them/);
  t.notMatch(err, /Error|at /);
  t.equal(child.signalCode ?? child.exitCode, 130);
});

t.test('a reader that goes away ends the program quietly', async (t) => {
  const child = spawn(
    'bash',
    ['-c', `"${process.execPath}" "${CTL}" flows --all | head -1; echo "\${PIPESTATUS[0]}"`],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, EGRESS_AGENT_SOCKET: SOCKET },
    },
  );
  const { out, err } = await ended(child);
  // A notice of losses may come in time or not; nothing else may.
  t.equal(err.replace(/^egressctl: \d+ flows lost.*\n/gm, ''), '');
  t.match(out, /\n0\n$/);
});

t.test('status', async (t) => {
  const { code, out } = await ctl('status');
  t.equal(code, 0);
  for (const part of [
    /Agent: +egress-agent 1\.2\.3 on node-a\\u009b31m, pid 7, up 5\.0s/,
    /Policies: +3 in force \(1 staged\), 1 refused; epoch 4/,
    /Hooks: +1 of 2 attached \(tcx\)/,
    /Lost events: +3 in the kernel's ring, 3 by slow readers/,
    /Flow table: +0\.0% of 65536 entries, 2048 for each .*; 1099511627776 made room for others, 1 change lost/,
    /Over share: +shop\/web 3000$/m,
    /Not stored: +3 flows found no room .* --map-size flows=131072/,
    /Names: +12 known, 0\.0% of the room, 512 for each endpoint in any case$/m,
    /Resolvers: +none is trusted/,
    /Drops: +rule 9/,
    /Stale: .*no room/,
    /shop\/web +veth1 +missing +2 +tcx ingress/,
    /rules +90 +100 +90%/,
    /NetworkPolicy a\/b: spec: is wrong/,
    /veth1 egress: gone/,
  ])
    t.match(out, part);
  t.match(JSON.parse((await ctl('status', '-o', 'json')).out), {
    version: '1.2.3',
    hooks_expected: 2,
    flow_share: 2048,
    flows_not_stored: '3',
    flows_evicted: '1099511627776',
    flows_busy: '1',
    endpoints: [{ flows: 3000 }],
  });
});

t.test('names', async (t) => {
  const { code, out, err } = await ctl('names');
  t.equal(code, 0);
  t.equal(err, '');
  const lines = out.split('\n').map((l) => l.trim());
  t.match(lines[0], /^POD +NAME +ADDRESSES +SINCE +LEFT +RESOLVER +RULES/);
  t.match(lines[1], /^\(gone\) +evil\\u009b31m\.example \(seeded, alias\) .* in use +\[fd00::53\]:53 +none/);
  t.match(
    lines[2],
    /^shop\/web +api\.example\.com +203\.0\.113\.1, 203\.0\.113\.2, 203\.0\.113\.3 and 2 more +1h\dm +5\dm\d+s +10\.96\.0\.10:53 +np\/shop\/web#1, np\/shop\/web#2 and 1 more/,
  );
  const wide = await ctl('names', '--pod', 'shop/web', '-o', 'wide');
  t.match(wide.out, /LAST ANSWER +NODE/);
  t.match(wide.out, /203\.0\.113\.4, 2001:db8::1 .* np\/shop\/web#3 +\S+ +node-a/);
  t.notMatch(wide.out, /evil/);
  const json = JSON.parse((await ctl('names', '-o', 'json')).out) as { names: object[] };
  t.match(json.names[0], {
    pod: 'shop/web',
    learned_at: new Date(HOUR_AGO).toISOString(),
    addresses: { 0: { ip: '203.0.113.1', alias: false, ttl: 300 } },
    rules: ['np/shop/web#1', 'np/shop/web#2', 'np/shop/web#3'],
    node: 'node-a',
  });
  t.match((await ctl('names', '--limit', '1')).err, /there are more names/);
  t.equal((await ctl('names', '--limit', '0')).code, 2);
  t.match((await ctl('names', '--pod', 'shop/none')).out, /^no names are known/);
});

t.test('filters of what connections say', async (t) => {
  const said = {
    kind: 'http',
    serverName: '',
    method: 'POST',
    host: 'api.example',
    path: '/v1/x',
    isCut: false,
  } as const;
  const lookup = { ...said, kind: 'tls', serverName: 'api.example', method: '', host: '', path: '' } as const;
  hub.publish(flow({ uuid: 'u6', said, timeNs: LEAD + 105n * SECOND }, { ...at(5), type: 'said' }));
  hub.publish(flow({ uuid: 'u7', said: lookup, timeNs: LEAD + 106n * SECOND }, { ...at(6), type: 'said' }));
  const uuids = async (...args: string[]) => {
    const { out } = await ctl('flows', '--all', '-o', 'json', ...args);
    return out
      .split('\n')
      .flatMap((l) => (l === '' ? [] : ((JSON.parse(l) as { flow?: { uuid: string } }).flow?.uuid ?? [])));
  };
  t.same(await uuids('--http-method', 'post'), ['u6']);
  t.same(await uuids('--http-path', '^/v1/'), ['u6']);
  t.same(await uuids('--http-url', '^http://api\\.example/'), ['u6']);
  t.same(await uuids('--http-method', 'GET'), []);
  t.same(await uuids('--server-name', '*.example'), ['u7']);
  t.same(await uuids('--protocol', 'tls'), ['u7']);
  t.same(await uuids('--type', 'l7', '--not', '--protocol', 'http'), ['u7']);
  t.match((await ctl('flows', '--uuid', 'u7')).out, / ALLOWED tls api\.example no-policy$/m);
  t.match((await ctl('flows', '--http-url', '(')).err, /whitelist\[0\]\.http_url\[0\]: "\(" is not a regular/);
});

t.test('explain, asking the agent', async (t) => {
  const ip = await ctl('explain', '--from', 'shop/web', '--to', '203.0.113.1:443');
  t.match(
    ip.out,
    / {2}api\.example\.com: learned 1h\dm ago, last answer \S+ ago from 10\.96\.0\.10:53, valid for 5\dm\d+s more; serves np\/shop\/web#1,/,
  );
  const name = await ctl('explain', '--from', 'shop/web', '--to', 'api.example.com:443');
  t.equal(name.code, 0);
  t.match(name.out, /^shop\/web → api\.example\.com TCP port 443\nALLOWED: it is known as 203\.0\.113\.1 and 3 more\n/);
  t.match(name.out, /its DNS query to 10\.96\.0\.10: denied by cilium\/shop\/web#0/);
  t.match(name.out, /note np\/shop\/web#2: \*\.api\.example\.com stands for names below/);
  t.equal((await ctl('explain', '--from', 'shop/web', '--to', 'api.example.com:80')).code, 3);
  t.match(
    (await ctl('explain', '--from', 'shop/web', '--to', '203.0.113.1', '--names', 'a.b=1.2.3.4')).err,
    /--names needs --manifests/,
  );

  t.equal((await ctl('explain', '--from', 'shop/web', '--to', '192.0.2.1:443')).code, 0);
  const said = async (...args: string[]) => {
    const { out, err } = await ctl('explain', '--from', 'shop/web', '--to', '192.0.2.1:443', '-o', 'json', ...args);
    return out === '' ? err : JSON.parse(out).packet.said;
  };
  t.same(await said(), undefined);
  t.same(await said('--sni', 'A.example'), { kind: 'tls', serverName: 'a.example' });
  t.same(await said('--sni', '-'), { kind: 'tls' }, 'that it names none is said, too');
  t.match(await said('--http', 'GET http://a:80/b?c', '--header', 'D: e'), {
    ...{ kind: 'http', method: 'GET', host: 'a:80', path: '/b?c' },
    headers: [
      ['host', 'a:80'],
      ['d', 'e'],
    ],
  });
  t.equal((await ctl('explain', '--from', 'shop/web', '--to', '192.0.2.1:80')).code, 3);
  const none = await ctl('explain', '--from', 'shop/nobody', '--to', '192.0.2.1:80');
  t.equal(none.code, 2);
  t.match(none.err, /there is no pod shop\/nobody/);
});
