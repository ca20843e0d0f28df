/** diff, convert and the tables of expected verdicts, where policies ask what connections say. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { convert } from '../../src/convert/index.js';
import { Grounds } from '../../src/convert/proof/grounds.js';
import { prove } from '../../src/convert/proof/proof.js';
import { witnesses } from '../../src/convert/proof/witness.js';
import { toIr } from '../../src/dialects/index.js';
import { describeSaid } from '../../src/explain/said.js';
import { NO_TUNNELS } from '../../src/net/tunnels.js';
import { diff } from '../../src/tools/diff.js';
import { runFile } from '../../src/tools/expect.js';
import { situationText } from '../../src/tools/names/changes.js';
import { saidKinds } from '../../src/tools/names/said.js';
import type { World } from '../../src/tools/packets.js';
import { spansText } from '../../src/tools/ranges.js';
import { pod, snapshotOf } from '../policy/world.js';

const PODS = pod('shop/web', '10.1.0.1', { app: 'web' }) + pod('shop/db', '10.1.0.2', { app: 'db' });
const NET = '203.0.113.0/24';

function policy(egress: object[], annotations?: object, kind = 'CiliumNetworkPolicy'): string {
  const metadata = { namespace: 'shop', name: 'p', ...(annotations ? { annotations } : {}) };
  const spec = { endpointSelector: { matchLabels: { app: 'web' } }, egress };
  return `---\n${JSON.stringify({ apiVersion: 'cilium.io/v2', kind, metadata, spec })}\n`;
}
const at = (port: string, more: object, protocol = 'TCP') => ({
  toCIDR: [NET],
  toPorts: [{ ports: [{ port, protocol }], ...more }],
});
const tls = (...serverNames: string[]) => at('443', { serverNames });
const http = (...requests: object[]) => at('80', { rules: { http: requests } });
const named = { toFQDNs: [{ matchName: 'a.example' }] };
const VERIFY = 'egress-agent.io/verify-names';

function world(...args: Parameters<typeof policy>): World {
  const snapshot = { ...snapshotOf(PODS + policy(...args)), tunnels: NO_TUNNELS };
  return { snapshot, ir: toIr(snapshot).ir };
}

const changes = (a: World, b: World) =>
  diff(a, b).changes.map(({ ports, was, is, ...when }) =>
    [situationText(when).trim(), spansText(ports), `${was.verdict} → ${is.verdict}`].join(' | '),
  );

t.test('what rules tell apart', async (t) => {
  const kinds = (...egress: object[]) =>
    saidKinds(world(egress).ir.tiers.flatMap(({ policies }) => policies.flatMap(({ rules }) => rules))).map(
      describeSaid,
    );
  t.same(kinds(named, { toCIDR: [NET] }), [], 'nothing is asked');
  const names = kinds(tls('a.example', '*.example'));
  for (const text of [
    'neither TLS, QUIC nor HTTP/1',
    'TLS or QUIC without a server name',
    'TLS or QUIC for a.example',
    'TLS or QUIC for xa.example',
  ])
    t.ok(names.includes(text), text);
  const requests = kinds(http({ method: 'GET', path: '/a' }, { path: '/b.*', headers: ['X', 'Y: z'] }));
  for (const text of ['the request GET /a', 'the request GET /b', 'the request GET /'])
    t.ok(requests.includes(text), text);
  t.ok(kinds(http(...Array.from({ length: 200 }, (_, i) => ({ path: `/${i}` })))).length < 300, 'there is an end');
});

t.test('diff', async (t) => {
  t.same(changes(world([tls('a.example')]), world([tls('A.example')])), []);
  t.same(changes(world([tls('a.example')]), world([tls('b.example')])), [
    'by a connection that is TLS or QUIC for a.example | tcp/443 | allow → deny',
    'by a connection that is TLS or QUIC for b.example | tcp/443 | deny → allow',
  ]);
  t.same(changes(world([tls('a.example')]), world([at('443', {})])).length, 1, 'whatever it says besides');
  t.match(changes(world([tls('a.example')]), world([at('443', {})])), [
    /is neither TLS.* or TLS or QUIC without .* more \| tcp\/443 \| deny → allow/,
  ]);
  t.same(changes(world([http({ path: '/a' })]), world([http({ path: '/a|/b' })])), [
    'by a connection that is the request GET /b | tcp/80 | deny → allow',
  ]);
  t.match(
    changes(world([named]), world([named], { [VERIFY]: 'tls' })).join('\n'),
    /learned for a\.example by a connection that is TLS or QUIC for .* allow → deny/,
  );
  t.same(changes(world([named]), world([named], { [VERIFY]: 'audit' })), [], 'the audit changes no verdict');
});

t.test('the proof, and what is converted', async (t) => {
  const differs = (a: World, b: World) =>
    witnesses([a.ir, b.ir], undefined)
      .map((one) => prove(a.ir, b.ir, one, false, new Grounds([])).counterexample?.packet)
      .find((one) => one !== undefined);
  t.equal(differs(world([tls('a.example')]), world([tls('A.example')])), undefined);
  t.match(differs(world([tls('a.example')]), world([tls('b.example')])), /that is TLS or QUIC for [ab]\.example$/);
  t.match(differs(world([http({})]), world([http({ method: 'GET' })])), / that is the request /);
  const strict = world([named], { [VERIFY]: 'strict' });
  t.match(differs(world([named]), strict), /learned for a\.example/);
  const to = (what: World, target: 'calico' | 'networkpolicy' | 'cnp') =>
    convert(what.snapshot.policies, what.snapshot, target, { ignoreOwn: true });
  for (const target of ['calico', 'networkpolicy', 'cnp'] as const) {
    t.match(to(world([tls('a.example')]), target).refused, [
      { reasons: [{ field: 'spec.egress[0]', message: /judges TLS connections by their server names/ }] },
    ]);
    t.match(to(world([http({})]), target).refused, [
      { reasons: [{ field: 'spec.egress[0]', message: /judges HTTP requests/ }] },
    ]);
  }
  const gke = { apiVersion: 'networking.gke.io/v1alpha1', kind: 'FQDNNetworkPolicy' };
  const metadata = {
    namespace: 'shop',
    name: 'g',
    annotations: { [VERIFY]: 'strict', 'egress-agent.io/quic': 'reject', other: 'x' },
  };
  const spec = { podSelector: {}, egress: [{ matches: [{ name: 'a.example' }] }] };
  const snapshot = snapshotOf(`${PODS}---\n${JSON.stringify({ ...gke, metadata, spec })}\n`);
  const { converted, refused } = convert(snapshot.policies, snapshot, 'cilium', { ignoreOwn: true });
  t.same(
    refused.map(({ reasons }) => reasons),
    [],
  );
  t.same(converted[0]?.objects[0]?.metadata.annotations, { [VERIFY]: 'strict', 'egress-agent.io/quic': 'reject' });
});

t.test('tables of expected verdicts', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'said-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  writeFileSync(
    join(dir, 'all.yaml'),
    PODS + policy([tls('a.example'), http({ path: '/a', headers: ['X: y: z'] }), named]),
  );
  const run = (rows: readonly string[], verifyNames: 'off' | 'strict' = 'off') => {
    const names = 'names: {shop/web: {a.example: [192.0.2.1]}}';
    writeFileSync(
      join(dir, 'table.yaml'),
      `manifests: all.yaml\n${names}\ntests:\n${rows.map((r) => `- ${r}\n`).join('')}`,
    );
    const { rows: results, problems } = runFile(join(dir, 'table.yaml'), { verifyNames });
    return [
      ...results.map(({ name, ok, actual }) => `${ok ? '' : '✗ '}${name}: ${actual}`),
      ...problems.map((p) => `${p.where.field}: ${p.message}`),
    ];
  };
  t.same(
    run([
      'shop/web → 203.0.113.1:443/tcp sni A.example: allow [cilium/shop/p#0]',
      'shop/web → 203.0.113.1:443/tcp sni -: deny',
      'shop/web → 203.0.113.1:443/tcp: deny',
      '{from: shop/web, to: 203.0.113.1, port: 80, http: GET http://h/a, headers: ["X: y: z"], expect: allow}',
      '{from: shop/web, to: 203.0.113.1, port: 80, http: GET /a, expect: deny}',
    ]),
    [
      'shop/web → 203.0.113.1:443/tcp sni A.example: allow [cilium/shop/p#0]',
      'shop/web → 203.0.113.1:443/tcp sni -: deny [cilium/shop/p#default]',
      '✗ shop/web → 203.0.113.1:443/tcp: allow [cilium/shop/p#0]',
      'shop/web → 203.0.113.1:80/tcp http GET http://h/a: allow [cilium/shop/p#1]',
      'shop/web → 203.0.113.1:80/tcp http GET /a: deny [cilium/shop/p#default]',
    ],
  );
  const row = 'shop/web → a.example:443/tcp sni b.example: deny';
  t.same(
    [run([row]), run([row], 'strict')],
    [[`✗ ${row.replace(/deny$/, 'allow [cilium/shop/p#2]')}`], [`${row} [cilium/shop/p#default]`]],
  );
});
