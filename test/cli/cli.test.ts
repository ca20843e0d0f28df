/** egressctl as users run it: the built program, its output and its exit codes. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { parseTarget } from '../../src/cli/commands/explain.js';
import { compact } from '../../src/cli/flows/format.js';
import { parseTime } from '../../src/cli/flows/options.js';
import { duration, fit, fitMiddle, painter, safe, toJson } from '../../src/cli/common/output.js';
import { Enricher } from '../../src/flow/names/enrich.js';
import { toRecord } from '../../src/flow/hubble.js';
import { event } from '../flow/flows.js';
import { compiled } from '../netns/shell.js';

// Dozens of processes are started: on a busy machine that takes its time.
t.setTimeout(300_000);
const dir = mkdtempSync(join(tmpdir(), 'egress-agent-cli-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));
const CTL = join(compiled, 'src/cli/main.js');
const ctl = (...args: string[]) => {
  const r = spawnSync(process.execPath, [CTL, ...args], {
    encoding: 'utf8',
    env: { ...process.env, EGRESS_AGENT_SOCKET: join(dir, 'none.sock') },
  });
  return { code: r.status, out: r.stdout, err: r.stderr };
};

const POLICIES = join(dir, 'policies');
spawnSync('mkdir', ['-p', POLICIES]);
writeFileSync(
  join(POLICIES, 'all.yaml'),
  `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, status: {podIP: 10.0.0.1}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: api, labels: {app: api}}, status: {podIP: 10.0.0.2}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 8080}]}]
`,
);

t.test('explain from manifests, without an agent', async (t) => {
  const yes = ctl('explain', '--from', 'shop/web', '--to', 'shop/api:8080', '--manifests', POLICIES);
  t.equal(yes.code, 0);
  t.match(yes.out, /ALLOWED/);
  t.match(yes.out, /np\/shop\/web#0/);
  const no = ctl('explain', '--from', 'shop/web', '--to', '203.0.113.1:443/tcp', '--manifests', POLICIES, '-o', 'json');
  t.equal(no.code, 3, 'denied');
  t.equal(JSON.parse(no.out).verdict.verdict, 'deny');
  t.equal(
    ctl('explain', '--from', 'shop/api', '--to', '203.0.113.1', '--manifests', POLICIES).code,
    0,
    'no policy selects it',
  );
  for (const args of [
    ['--from', 'shop/nobody', '--to', '1.2.3.4:1'],
    ['--from', 'shop/web', '--to', 'what?'],
    ['--from', 'shop/web', '--to', '1.2.3.4:70000'],
    ['--from', 'shop/web'],
  ]) {
    const wrong = ctl('explain', ...args, '--manifests', POLICIES);
    t.equal(wrong.code, 2, args.join(' '));
    t.not(wrong.err, '');
  }
});

t.test('targets', async (t) => {
  t.same(parseTarget('203.0.113.1:443'), { to: '203.0.113.1', port: 443, protocol: 6 });
  t.same(parseTarget('[FD00::0:1]:53/UDP'), { to: 'fd00::1', port: 53, protocol: 17 });
  t.same(parseTarget('fd00::1'), { to: 'fd00::1', port: 0, protocol: 6 });
  t.same(parseTarget('shop/api:8080/sctp'), { to: 'shop/api', port: 8080, protocol: 132 });
  t.same(parseTarget('1.2.3.4:8/icmp'), { to: '1.2.3.4', port: 2048, protocol: 1 });
  t.same(parseTarget('1.2.3.4/gre'), { to: '1.2.3.4', port: 0, protocol: 47 });
  t.same(parseTarget('[fd00::1]/icmpv6'), { to: 'fd00::1', port: 0, protocol: 58 });
  t.same(parseTarget('shop/api'), { to: 'shop/api', port: 0, protocol: 6 });
  for (const wrong of [
    '',
    'api',
    'a/b/c',
    '10.0.0.0/8',
    '1.2.3.4:300/icmp',
    '1.2.3.4:1/gre',
    '1.2.3.4:x',
    '[fd00::1]:1/no',
  ])
    t.throws(() => parseTarget(wrong), { code: 'USAGE' }, wrong);
});

t.test('an address, a slash and a number', async (t) => {
  const said = (value: string) => {
    try {
      return parseTarget(value);
    } catch (e) {
      return (e as Error).message;
    }
  };
  t.match(said('10.0.0.0/8'), /a CIDR is many destinations/);
  t.match(
    said('1.2.3.4/136'),
    /\/136 is no length of a prefix; that port is written 1\.2\.3\.4:136, that protocol 1\.2\.3\.4\/udplite/,
  );
  t.match(said('[2001:db8::1]/129'), /that port is written \[2001:db8::1\]:129$/);
  t.match(said('[2001:db8::1]/128'), /a CIDR is many destinations/);
});

t.test('files, and pods that have ended', async (t) => {
  const file = join(dir, 'one.json');
  const spec = { podSelector: {}, policyTypes: ['Egress'] };
  const objects = [
    { apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'shop', name: 'web' }, status: { podIP: '10.0.0.1' } },
    {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: 'shop', name: 'job' },
      status: { phase: 'Succeeded', podIP: '10.0.0.2' },
    },
    { apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'shop', name: 'new' } },
    { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { namespace: 'shop', name: 'n' }, spec },
  ];
  writeFileSync(file, objects.map((o) => JSON.stringify(o)).join('\n'));
  t.match(ctl('validate', file), { code: 0, out: /one\.json: no problems/ });
  const asked = (to: string) => ctl('explain', '--from', 'shop/web', '--to', to, '--manifests', file);
  t.match(asked('203.0.113.1:443'), { code: 3, out: /denied by np\/shop\/n#default/ });
  t.match(asked('shop/job:80'), { code: 2, err: /pod shop\/job has ended: its addresses are no longer its own/ });
  t.match(asked('shop/new:80'), { code: 2, err: /pod shop\/new has no address/ });
  t.match(asked('shop/none:80'), { code: 2, err: /there is no pod shop\/none/ });
  writeFileSync(file, '{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}');
  t.match(ctl('validate', file), { code: 1, out: /one\.json:1 .*metadata/ });
});

t.test('validate', async (t) => {
  t.equal(ctl('validate', POLICIES).code, 0);
  const bad = join(dir, 'bad');
  spawnSync('mkdir', ['-p', bad]);
  writeFileSync(
    join(bad, 'x.yaml'),
    'apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: a, name: b}\nspec:\n  podSelector: {}\n  egress:\n  - to: [{ipBlock: {cidr: 10.0.0.300/8}}]\n',
  );
  const r = ctl('validate', bad);
  t.equal(r.code, 1);
  t.match(r.out, /x\.yaml:7 \(document 1\): NetworkPolicy a\/b: spec\.egress\[0\]\.to\[0\]\.ipBlock\.cidr/);
  t.equal(JSON.parse(ctl('validate', bad, '-o', 'json').out).problems.length, 1);
  t.equal(ctl('validate', join(dir, 'nowhere')).code, 1);
});

t.test('usage', async (t) => {
  for (const args of [
    ['flws'],
    ['flows', '--verdict', 'maybe'],
    ['flows', '--since', 'yesterday'],
    ['flows', '-o', 'xml'],
    ['flows', '--not'],
    ['completion', 'csh'],
    ['flows', '--first', '3', '-f'],
    ['flows', '--since', '5'],
    ['flows', '--not', '--not', '--pod', 'x'],
    ['flows', '--pod', 'x', '--from-pod', 'y'],
    ['flows', '-n', 'a', '--to-pod', 'y'],
    ['flows', '-n', 'a', '--pod', 'b/c'],
    ['flows', '--allowlist', '{"source-pod": ["x"]}'],
    ['flows', '--allowlist', '{"verdict": ["MAYBE"]}'],
    ['flows', '--denylist', 'x'],
  ]) {
    t.equal(ctl(...args).code, 2, args.join(' '));
  }
  for (const command of ['flows', 'status', 'explain', 'validate', 'doctor', 'completion', 'version']) {
    const help = ctl(command, '--help');
    t.equal(help.code, 0, `${command} --help`);
    t.match(help.out, /^Usage: egressctl /);
  }
  const none = ctl('flows');
  t.equal(none.code, 1);
  t.match(none.err, /no agent is running/);
  t.match(JSON.parse(ctl('version', '-o', 'json').out), { egressctl: /^\d/ });
});

t.test('doctor', async (t) => {
  const { probes } = JSON.parse(ctl('doctor', '-o', 'json').out) as { probes: { name: string; state: string }[] };
  for (const name of [
    'kernel',
    'BTF',
    'capabilities',
    'bpffs',
    'libbpf',
    'clang',
    'programs',
    'tcx hooks',
    'clsact hooks',
  ]) {
    t.ok(
      probes.some((p) => p.name === name),
      name,
    );
  }
  t.equal(probes.find((p) => p.name === 'programs')?.state, 'ok', 'the kernel takes the programs');
});

t.test('completion', async (t) => {
  const bash = ctl('completion', 'bash').out;
  const complete = (line: string) =>
    spawnSync(
      'bash',
      [
        '-c',
        `${bash}\nCOMP_WORDS=(${line}); COMP_CWORD=$((\${#COMP_WORDS[@]}-1)); _egressctl; echo "\${COMPREPLY[*]}"`,
      ],
      { encoding: 'utf8' },
    ).stdout.trim();
  t.equal(complete('egressctl exp'), 'explain');
  t.equal(complete('egressctl flows --verdict DEN'), 'DENIED');
  t.match(complete('egressctl flows --to-p'), /--to-pod --to-port/);
  t.equal(complete('egressctl --socket /x --color never stat'), 'status', "options' values are no commands");
  t.equal(complete('egressctl flows -o js'), 'json jsonpb');
  t.equal(complete('egressctl observe --output c'), 'compact');
  t.equal(complete('egressctl status -o c'), '', 'values are those of the command');
  t.equal(complete('egressctl completion z'), 'zsh');
  for (const shell of ['zsh', 'fish']) t.match(ctl('completion', shell).out, /egressctl/);
});

t.test('raw filters are what they were made of', async (t) => {
  const printed = ctl('flows', '--print-raw-filters', '-n', 'shop', '--pod', 'web', '--not', '--to-port', '53').out;
  t.equal(
    printed,
    `allowlist:
    - '{"source_pod":["shop/web"]}'
    - '{"destination_pod":["shop/web"]}'
denylist:
    - '{"destination_port":["53"]}'
`,
  );
  const args = [...printed.matchAll(/'(.*)'/g)].flatMap(([, json = ''], i) => [
    i < 2 ? '--allowlist' : '--denylist',
    json,
  ]);
  t.equal(ctl('flows', '--print-raw-filters', ...args).out, printed);
});

t.test('explain names from manifests', async (t) => {
  const file = join(dir, 'names.yaml');
  writeFileSync(
    file,
    `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, status: {podIP: 10.0.0.1}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toFQDNs: [{matchPattern: '*.example.com'}], toPorts: [{ports: [{port: '443', protocol: TCP}]}]}]
`,
  );
  const asked = (to: string, ...more: string[]) =>
    ctl('explain', '--from', 'shop/web', '--to', to, '--manifests', file, ...more);
  const unknown = asked('api.example.com:443');
  t.equal(unknown.code, 0, unknown.err);
  t.match(
    unknown.out,
    /^shop\/web → api\.example\.com TCP port 443\nALLOWED: shop\/web has learned no address for it yet/,
  );
  const given = asked(
    'api.example.com:443',
    '--names',
    'api.example.com=203.0.113.1',
    '--names',
    'x.example.org=203.0.113.1',
  );
  t.match(given.out, /ALLOWED: it is known as 203\.0\.113\.1\n/);
  t.match(given.out, /203\.0\.113\.1 is outside of the cluster, known as api\.example\.com, x\.example\.org/);
  t.equal(asked('api.example.com:80').code, 3, 'another port');
  const apex = asked('example.com:443');
  t.equal(apex.code, 3);
  t.match(apex.out, /note cilium\/shop\/web#0.*: \*\.example\.com stands for names below example\.com/);
  t.equal(asked('203.0.113.1:443').code, 3, 'an address without a name');
  t.equal(asked('203.0.113.1:443', '--names', 'a.example.com=203.0.113.1').code, 0);
  writeFileSync(join(dir, 'known'), 'a.example.com 203.0.113.1\n');
  const json = asked('203.0.113.1:443', '--names', join(dir, 'known'), '-o', 'json');
  t.match(JSON.parse(json.out), { targets: [{ names: [{ name: 'a.example.com' }] }], verdict: { verdict: 'allow' } });
  t.match(JSON.parse(asked('example.com:443', '-o', 'json').out), {
    name: 'example.com',
    known: false,
    verdict: 'deny',
  });
  for (const bad of ['nothing', 'a.b=', join(dir, 'none')])
    t.equal(asked('203.0.113.1:443', '--names', bad).code, 2, bad);
});

t.test('explain says how a refused DNS query is answered', async (t) => {
  const file = join(dir, 'queries.yaml');
  const write = (annotations: string) =>
    writeFileSync(
      file,
      `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, status: {podIP: 10.0.0.1}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: shop, name: web, annotations: {${annotations}}}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
  - toCIDR: [192.0.2.53/32]
    toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*.example.com'}]}}]
`,
    );
  const asked = (to: string, name: string) =>
    ctl('explain', '--from', 'shop/web', '--to', to, '--dns-query', name, '--manifests', file);
  write('egress-agent.io/dns-refusal: nxdomain');
  const passes = asked('192.0.2.53', 'API.example.com.');
  t.equal(passes.code, 0, passes.err);
  t.match(passes.out, / UDP port 53\nALLOWED: .*\n {2}a DNS query for api\.example\.com\n/);
  const refused = asked('192.0.2.53:53/tcp', 'example.org');
  t.equal(refused.code, 3);
  t.match(refused.out, / TCP port 53\nDENIED: .*\n {2}a DNS query for example\.org: answered NXDOMAIN\n/);
  t.match(asked('192.0.2.54', 'api.example.com').out, /a DNS query for api\.example\.com\n/, 'it is dropped');
  write('');
  t.match(asked('192.0.2.53', 'example.org').out, /answered as the agent’s --dns-refusal says/);
  t.equal(asked('api.example.com', 'example.org').code, 2);
  t.equal(asked('192.0.2.53', 'no name').code, 2);
});

t.test('explain with what the connection says', async (t) => {
  const web = (...more: string[]) => ctl('explain', '--from', 'shop/web', '--manifests', POLICIES, ...more);
  const to = (target: string, ...more: string[]) => web('--to', target, ...more);
  const tls = to('203.0.113.10:443', '--sni', 'API.example.com');
  t.match(tls.out, /\n {2}it is TLS or QUIC for api\.example\.com\n/, tls.err);
  t.match(to('203.0.113.10:443', '--sni', '-').out, /it is TLS or QUIC without a server name\n/);
  const http = to(
    '203.0.113.10:80',
    '--http',
    'GET http://api.example.com/v1?q',
    '--header',
    'X-Team: shop',
    '-o',
    'json',
  );
  t.match(JSON.parse(http.out).packet.said, {
    kind: 'http',
    method: 'GET',
    host: 'api.example.com',
    path: '/v1?q',
    headers: [
      ['host', 'api.example.com'],
      ['x-team', 'shop'],
    ],
  });
  t.match(to('api.example.com:443', '--sni', 'api.example.com').out, /it is TLS or QUIC for api\.example\.com\n/);
  for (const [why, ...args] of [
    [/give one of --dns-query, --sni and --http/, '203.0.113.10:443', '--sni', 'a.b', '--http', 'GET http://a/'],
    [/--header needs --http/, '203.0.113.10:80', '--header', 'a: b'],
    [/HTTP\/1 is spoken over TCP/, '203.0.113.10:80/udp', '--http', 'GET http://a/'],
    [/TLS is spoken over TCP, and QUIC over UDP/, '203.0.113.10:443/sctp', '--sni', 'a.b'],
    [/is no server name/, '203.0.113.10:443', '--sni', '203.0.113.10'],
    [/ambiguous \(path\)/, '203.0.113.10:80', '--http', 'GET http://a/../b'],
  ] as const) {
    const [target, ...more] = args;
    const r = to(target, ...more);
    t.equal(r.code, 2);
    t.match(r.err, why);
  }
});

t.test('explain with policies about what connections say', async (t) => {
  const file = join(dir, 'said.yaml');
  writeFileSync(
    file,
    `{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web, labels: {app: web}}, status: {podIP: 10.0.0.1}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress:
  - toCIDR: [203.0.113.0/24]
    toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [api.example.com]}]
  - toCIDR: [203.0.113.0/24]
    toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET, path: '/v1/.*'}]}}]
`,
  );
  const asked = (to: string, ...more: string[]) =>
    ctl('explain', '--from', 'shop/web', '--to', to, '--manifests', file, ...more);
  const handshake = asked('203.0.113.10:443');
  t.equal(handshake.code, 0, handshake.err);
  t.match(handshake.out, /ALLOWED: .*\n {2}this is its handshake: what the connection says then decides/);
  t.equal(asked('203.0.113.10:443', '--sni', 'api.example.com').code, 0);
  const evil = asked('203.0.113.10:443', '--sni', 'evil.example');
  t.equal(evil.code, 3);
  t.match(evil.out, /#0.*, but it is TLS or QUIC for evil\.example, not TLS or QUIC for api\.example\.com\n/);
  t.notMatch(evil.out, /handshake/);
  t.equal(asked('203.0.113.10:80', '--http', 'GET http://api.example.com/v1/items').code, 0);
  t.equal(asked('203.0.113.10:80', '--http', 'POST http://api.example.com/v1/items').code, 3);
  writeFileSync(
    join(dir, 'said-table.yaml'),
    `manifests: said.yaml
tests:
- shop/web → 203.0.113.10:443/tcp sni api.example.com: allow
- shop/web → 203.0.113.10:443/tcp sni -: deny
- shop/web → 203.0.113.10:80/tcp http GET http://api.example.com/v1/a: allow
- shop/web → 203.0.113.10:80/tcp http GET http://api.example.com/v2: allow
`,
  );
  const table = ctl('test', join(dir, 'said-table.yaml'));
  t.equal(table.code, 3);
  t.match(
    table.out,
    /✗ \S*said-table\.yaml:6 shop\/web → 203\.0\.113\.10:80\/tcp http GET http:\/\/api\.example\.com\/v2\n/,
  );
  t.match(table.out, /3 hold, 1 does not/);
});

t.test('explain is short about what is many', async (t) => {
  const many = join(dir, 'many');
  spawnSync('mkdir', ['-p', many]);
  const policies = Array.from(
    { length: 30 },
    (_, i) => `---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: other, name: p${i}}, spec: {podSelector: {}, policyTypes: [Egress]}}
`,
  );
  const pod = '{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}, status: {podIP: 10.0.0.1}}\n';
  writeFileSync(join(many, 'all.yaml'), pod + policies.join(''));
  const short = ctl('explain', '--from', 'shop/web', '--to', '10.9.9.9:1', '--manifests', many).out;
  t.match(short, /and 10 more that do not select the sender/);
  t.equal(
    ctl('explain', '--all', '--from', 'shop/web', '--to', '10.9.9.9:1', '--manifests', many).out.match(
      /not considered/g,
    )?.length,
    30,
  );
});

t.test('lines', async (t) => {
  const enricher = new Enricher({ nodeName: 'node-a' });
  const line = compact(
    toRecord(enricher.enrich(event({ verdict: 'deny', remote: '2001:db8::1', family: 6 }))),
    painter('never'),
  );
  t.ok(line.length <= 100, line);
  t.match(line, /\[2001:db8::1\]:443\/tcp +DENIED/);
  t.equal(safe('a\u001b[31mb\nc'), 'a\\u001b[31mb\\u000ac', 'control characters are shown, not sent');
  t.equal(fit('abcdef', 4), 'abc…');
  t.equal(fitMiddle('np/shop/allow-everything#12', 16), 'np/shop/a…ing#12');
  t.equal(safe('a\u202eb\u200fc\u2028'), 'a\\u202eb\\u200fc\\u2028');
  t.equal(toJson({ a: '\u009b' }, 1), '{\n "a": "\\u009b"\n}');
  t.equal(duration(90e9), '1m30s');
  t.same(parseTime('1m', 100_000), { seconds: 40, nanos: 0 });
  t.same(parseTime('1.5h30s', 10_000_000), { seconds: 4570, nanos: 0 });
  t.same(parseTime('1970-01-01T01:00:01.123456789+01:00'), { seconds: 1, nanos: 123_456_789 });
  for (const wrong of ['', '5', '1x', 'Jan 1', '2026-13-01T00:00:00Z']) t.throws(() => parseTime(wrong), `"${wrong}"`);
});

t.test('what one command alone needs is loaded by it alone', async (t) => {
  const preload = join(dir, 'loaded.cjs');
  writeFileSync(
    preload,
    "process.on('exit', () => require('node:fs').writeSync(2, JSON.stringify(Object.keys(require.cache))));",
  );
  const loaded = (...args: string[]) => {
    const { stderr } = spawnSync(process.execPath, ['--require', preload, CTL, ...args], { encoding: 'utf8' });
    const files = JSON.parse(stderr.split('\n').at(-1) ?? '') as string[];
    return new Set(files.flatMap((file) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1] ?? []));
  };
  const HEAVY = ['@grpc/grpc-js', '@grpc/proto-loader', 'protobufjs', 'ajv', 'yaml', '@kubernetes/client-node'];
  const heavy = (...args: string[]) => {
    const packages = loaded(...args);
    t.ok(packages.has('commander'), 'packages are seen');
    return HEAVY.filter((name) => packages.has(name));
  };
  t.same(heavy('--help'), []);
  t.same(heavy('completion', 'bash'), []);
  t.same(heavy('validate', POLICIES), ['ajv', 'yaml']);
  t.same(heavy('--socket', join(dir, 'none.sock'), 'status'), HEAVY.slice(0, 3));
});
