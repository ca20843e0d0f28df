/**
 * What connections say, on a real cluster: a server name in TLS, and requests in HTTP. The server outside is the judge: what was
 * denied must not have reached it.
 */
import type { Test } from 'tap';
import { until } from '../netns/shell.js';
import { type Cluster, Control } from './cluster.js';
import { pod } from './objects.js';
import { API, HTTP_PORT, type Outside, TLS_PORT } from './outside.js';
import { settled } from './world.js';

const NAME = 'api.e2e.example';
const OTHER = 'elsewhere.e2e.example';
const HOST = `${NAME}:${HTTP_PORT}`;

/** The first policy that isolates the pods: names.ts denies everything in the namespace. */
const REST = (namespace: string) => `np/${namespace}/deny#default`;

/** For pods of their own: one of them looks the name up, and both ask for what is said. */
export function saidObjects(namespace: string, resolver: object): object[] {
  const policy = (name: string, egress: readonly object[]) => ({
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name, namespace },
    spec: { endpointSelector: { matchLabels: { name } }, egress },
  });
  const port = (number: number) => [{ port: String(number), protocol: 'TCP' }];
  const requests = [{ method: 'GET', path: '/public/.*', host: `${NAME.replaceAll('.', '\\.')}(:[0-9]+)?` }];
  return [
    pod(namespace, 'says-tls'),
    pod(namespace, 'says-http'),
    policy('says-tls', [
      { toEndpoints: [resolver], toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }] },
      { toFQDNs: [{ matchName: NAME }], toPorts: [{ ports: port(TLS_PORT), serverNames: [NAME] }] },
    ]),
    policy('says-http', [{ toCIDR: [`${API}/32`], toPorts: [{ ports: port(HTTP_PORT), rules: { http: requests } }] }]),
  ];
}

/** Policies of `saidObjects` are in force. */
export async function said(t: Test, cluster: Cluster, namespace: string, outside: Outside): Promise<void> {
  for (const name of ['says-tls', 'says-http'])
    await cluster.kubectl('-n', namespace, 'wait', '--for=condition=Ready', '--timeout=60s', `pod/${name}`);
  await t.test('server names', (t) => serverNames(t, cluster, namespace, outside));
  await t.test('requests', (t) => requests(t, cluster, namespace, outside));
}

async function serverNames(t: Test, cluster: Cluster, namespace: string, outside: Outside): Promise<void> {
  const client = new Control(cluster, namespace, 'says-tls');
  t.teardown(() => client.close());
  // To an address: with a name of the host, Node.js would say that one.
  const hello = (name: string) =>
    client.ask('tls', { host: name === '' ? API : NAME, port: TLS_PORT, name, timeout: 1500 });
  t.equal(await settled('its own name passes', 'ok', () => hello(NAME)), 'ok', 'the allowed name passes');
  t.equal(await hello(OTHER), 'reset', 'another name at the same address is reset');
  t.equal(await hello(''), 'reset', 'and a hello without a name');
  await received(outside, `tls ${NAME}`);
  t.notOk(outside.received.includes(`tls ${OTHER}`), 'the server outside got no other hello', {
    found: outside.received,
  });
  await shown(t, cluster, `${namespace}/says-tls`, [
    `ALLOWED tls ${NAME} cilium/${namespace}/says-tls#1`,
    `DENIED tls ${OTHER} ${REST(namespace)}`,
    `DENIED tls without a name ${REST(namespace)}`,
  ]);
}

async function requests(t: Test, cluster: Cluster, namespace: string, outside: Outside): Promise<void> {
  const client = new Control(cluster, namespace, 'says-http');
  t.teardown(() => client.close());
  const ask = (method: string, path: string, name = HOST) =>
    client.ask('http', { host: API, port: HTTP_PORT, method, path, name, timeout: 1500 });
  t.equal(await settled('a request passes', '200', () => ask('GET', '/public/a')), '200', 'the allowed path passes');
  t.equal(await ask('GET', '/secret'), '403 Access denied', 'another path is answered by 403');
  t.equal(await ask('POST', '/public/b'), '403 Access denied', 'and another method');
  t.equal(await ask('GET', '/public/c', OTHER), '403 Access denied', 'and another host');
  await received(outside, `GET ${HOST}/public/a`);
  const others = outside.received.filter((line) => !line.startsWith('tls ') && line !== `GET ${HOST}/public/a`);
  t.same(others, [], 'the server outside got no other request');
  await shown(t, cluster, `${namespace}/says-http`, [
    `ALLOWED http GET http://${HOST}/public/a cilium/${namespace}/says-http#0`,
    `DENIED http GET http://${HOST}/secret ${REST(namespace)}`,
    `DENIED http POST http://${HOST}/public/b ${REST(namespace)}`,
    `DENIED http GET http://${OTHER}/public/c ${REST(namespace)}`,
  ]);
}

async function received(outside: Outside, line: string): Promise<void> {
  await until(`the server outside tells of ${line}`, () => outside.received.includes(line), 10_000);
}

/** egressctl tells what was said, and the rule. */
async function shown(t: Test, cluster: Cluster, from: string, lines: readonly string[]): Promise<void> {
  // In columns, when they are read.
  const flows = (await cluster.egressctl('flows', '--last', '100', '--from-pod', from)).replaceAll(/ +/g, ' ');
  for (const line of lines) t.ok(flows.includes(line), `egressctl flows shows: ${line}`, { found: flows });
}
