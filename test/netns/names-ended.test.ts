/** A connection to a resolver whose answers cannot be read ends at once, at both ends: the client tries anew, and learns. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { Agent } from './agent.js';
import { startDns } from './dns-server.js';
import { DROP_WAIT, type Host } from './host.js';
import { cnpNames } from './policies.js';
import { answerForMany, many, Resolver } from './resolver.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

const dns = servers.two;
const VIPS = ['10.96.0.10', 'fd00:96::10'] as const;

/** Asks once; then, on a line of its input, again over the same connection, and when that fails over another one. */
const CLIENT = `
import socket, struct, sys, time
name = b"".join(bytes([len(l)]) + l.encode() for l in sys.argv[2].split(".")) + b"\\0"
def connect():
    s = socket.create_connection((sys.argv[1], 53), 5); s.settimeout(5); return s
def ask(s):
    message = struct.pack("!6H", 7, 0x100, 1, 0, 0, 0) + name + struct.pack("!2H", 1, 1)
    s.sendall(struct.pack("!H", len(message)) + message)
    got = b""
    while len(got) < 2 or len(got) < 2 + struct.unpack("!H", got[:2])[0]:
        more = s.recv(65536)
        if not more: raise EOFError
        got += more
    return len(got)
s = connect(); print("answered", ask(s) > 40, flush=True)
sys.stdin.readline()
began = time.time()
try: print("answered", ask(s), flush=True)
except Exception as e: print(type(e).__name__, time.time() - began < 1, flush=True)
print("again", ask(connect()) > 40, flush=True)
`;

class Client {
  readonly #child;
  #text = '';

  constructor(host: Host, server: string, name: string) {
    const command = [`--net=/run/netns/${host.netns}`, 'python3', '-B', '-c', CLIENT, server, name];
    this.#child = spawn('nsenter', command, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.#text += text;
    });
  }

  async has(text: string): Promise<void> {
    await until(`${text} in ${this.#text}`, async () => this.#text.includes(text));
  }

  async goOn(): Promise<string> {
    this.#child.stdin.end('\n');
    await once(this.#child, 'close');
    return this.#text;
  }
}

t.setTimeout(180_000);
t.test('connections to a resolver from before the agent', { timeout: 180_000 }, async (t) => {
  const world = await World.create({ masquerade: true });
  t.teardown(() => world.close());
  await answerForMany(world);
  const records = ['pod', 'node'].map((name, i) => `${name}.good.test. IN A ${many.ip4}.${i + 1}`);
  await Resolver.authority(world, [dns.ip4, dns.ip6], records);
  const web = await world.pod('web');
  // A resolver on the same node: its segments have no sum yet when the pod gets them.
  const labels = { 'k8s-app': 'kube-dns' };
  const resolver = await world.pod('dns', { namespace: 'kube-system', labels });
  const zone = { hosts: { 'pod.good.test': [`${many.ip4}.1`] } };
  for (const ip of [resolver.ip4, resolver.ip6]) await startDns(world, resolver.host, ip, zone);
  const port = (protocol: 'UDP' | 'TCP') => ({ name: protocol.toLowerCase(), port: 53, protocol, targetPort: 53 });
  await world.service({
    namespace: 'kube-system',
    name: 'kube-dns',
    vips: VIPS,
    ports: [port('UDP'), port('TCP')],
    backends: [resolver.ip4, resolver.ip6],
  });
  await world.internet.listen('::', 80, 'tcp', 'outside');
  world.write('policy.yaml', [
    cnpNames('web', 'web', ['pod.good.test'], []),
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata: { name: 'resolvers', namespace: 'default' },
      spec: {
        endpointSelector: { matchLabels: { app: 'web' } },
        egress: [
          { toCIDR: [`${dns.ip4}/32`, `${dns.ip6}/128`] },
          { toEndpoints: [{ matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', ...labels } }] },
        ],
      },
    },
    {
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumClusterwideNetworkPolicy',
      metadata: { name: 'nodes' },
      spec: {
        nodeSelector: {},
        egress: [{ toCIDR: [`${dns.ip4}/32`, `${dns.ip6}/128`] }, { toFQDNs: [{ matchName: 'node.good.test' }] }],
      },
    },
  ]);
  const clients = [web.host, world.node].flatMap((host, i) =>
    [dns.ip4, dns.ip6, ...(i === 0 ? VIPS : [])].map((server) => {
      const name = i === 0 ? 'pod.good.test' : 'node.good.test';
      return { host, server, address: `${many.ip4}.${i + 1}`, client: new Client(host, server, name) };
    }),
  );
  for (const { client } of clients) await client.has('answered True');
  const agent = await Agent.start(world, {
    args: [
      '--dns-servers',
      dns.ip4,
      '--dns-servers',
      dns.ip6,
      '--dns-servers',
      'k8s-service:kube-system/kube-dns',
      '--name-seed',
      'off',
    ],
  });
  for (const { host, server, address, client } of clients) {
    await t.test(`${host === web.host ? 'a pod' : 'the node'}, ${server}`, async (t) => {
      if (server === dns.ip4)
        t.not((await host.request(address, 80, { timeout: DROP_WAIT })).result, 'ok', 'not learned yet');
      t.equal(await client.goOn(), 'answered True\nConnectionResetError True\nagain True\n');
      t.equal((await host.request(address, 80)).result, 'ok', 'learned by the new connection');
    });
  }
  t.ok(((await agent.status()).drops['unreadable-answer'] ?? 0) >= 6, 'counted');
  for (const host of [world.internet, resolver.host])
    await until('no resolver has one of them any more', async () => {
      const { stdout } = await host.run('ss', ['-tanH']);
      return !stdout.split('\n').some((line) => /^(ESTAB|FIN-WAIT|CLOSE-WAIT|LAST-ACK).*:53\s/.test(line));
    });
});
