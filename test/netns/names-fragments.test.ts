/** Answers that a real resolver sends in IP fragments: pods and the node ask again over TCP, and use what they learned. */
import t, { type Test } from 'tap';
import { Agent } from './agent.js';
import { dig } from './dns-server.js';
import { checksum } from './frames.js';
import { DROP_WAIT, type Host } from './host.js';
import { cnpNames } from './policies.js';
import { answerForMany, many, Resolver } from './resolver.js';
import { servers, World } from './world.js';

const dns = servers.two;
const big = (name: string, from: number) =>
  Array.from({ length: 100 }, (_, i) => `${name}.good.test. IN A ${many.ip4}.${from + i}`);
const zone = [...big('pod', 0), ...big('node', 100)];
const FRAGMENTED = 0x3fff;

/** DNS answers by datagram among frames, with their sums checked, and how many fragments there are. */
function answersOf(t: Test, frames: readonly string[]): { truncated: number; whole: number; fragments: number } {
  const seen = { truncated: 0, whole: 0, fragments: 0 };
  const arrived = frames.filter((f) => f.startsWith('in ')).map((f) => Buffer.from(f.slice(3), 'hex'));
  for (const frame of arrived) {
    const [type, l3] = [frame.readUInt16BE(12), frame.subarray(14)];
    const v4 = type === 0x0800;
    if (!v4 && type !== 0x86dd) continue;
    if (v4 ? (l3.readUInt16BE(6) & FRAGMENTED) !== 0 : l3[6] === 44) seen.fragments++;
    const [addresses, l4] = v4
      ? [l3.subarray(12, 20), l3.subarray(20, l3.readUInt16BE(2))]
      : [l3.subarray(8, 40), l3.subarray(40, 40 + l3.readUInt16BE(4))];
    if ((v4 ? l3[9] : l3[6]) !== 17 || l4.readUInt16BE(0) !== 53) continue;
    const pseudo = Buffer.alloc(8);
    pseudo.writeUInt32BE(l4.length, 0);
    pseudo[7] = 17;
    t.equal(checksum(Buffer.concat([addresses, pseudo, l4])), 0, "the datagram's sum is right");
    if ((l4.readUInt16BE(10) & 0x0200) !== 0) seen.truncated++;
    else seen.whole++;
  }
  return seen;
}

t.setTimeout(300_000);
for (const mode of ['tcx', 'tc'] as const) {
  t.test(`answers in fragments, ${mode}`, { timeout: 300_000 }, async (t) => {
    const world = await World.create({ masquerade: true });
    t.teardown(() => world.close());
    await answerForMany(world);
    const large = 'edns-udp-size 4096; max-udp-size 4096; nocookie-udp-size 4096;';
    await Resolver.authority(world, [dns.ip4, dns.ip6], zone, large);
    const web = await world.pod('web');
    await world.internet.listen('::', 80, 'tcp', 'outside');
    world.write('policy.yaml', [
      cnpNames('web', 'web', ['pod.good.test'], [dns.ip4, dns.ip6]),
      {
        apiVersion: 'cilium.io/v2',
        kind: 'CiliumClusterwideNetworkPolicy',
        metadata: { name: 'nodes' },
        spec: {
          nodeSelector: {},
          egress: [
            { toCIDR: [`${dns.ip4}/32`, `${dns.ip6}/128`], toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }] },
            { toFQDNs: [{ matchName: 'node.good.test' }] },
          ],
        },
      },
    ]);
    const agent = await Agent.start(world, {
      mode,
      args: ['--dns-servers', dns.ip4, '--dns-servers', dns.ip6, '--name-seed', 'off'],
    });
    const dropped = async () => (await agent.status()).drops;

    const asks = async (t: Test, host: Host, name: string, first: number) => {
      const reach = async (n: number) =>
        (await host.request(`${many.ip4}.${first + n}`, 80, { timeout: DROP_WAIT })).result;
      t.equal(await reach(0), 'timeout', 'before it asked');
      const before = (await dropped()).fragment ?? 0;
      for (const [i, server] of [dns.ip4, dns.ip6].entries()) {
        const capture = await host.sniff();
        const began = Date.now();
        const { answers, text } = await dig(host, server, ['+bufsize=4096', `${name}.good.test`]);
        t.ok(Date.now() - began < 1000, 'at once');
        t.match(text, /Truncated, retrying in TCP mode/, server);
        t.equal(answers.length, 100, 'over TCP');
        t.equal(await reach(10 + i), 'ok', 'and has learned it');
        if (host === web.host)
          t.same(answersOf(t, await capture.frames()), { truncated: 1, whole: 0, fragments: 0 }, 'what it was given');
        await capture.close();
        const ignored = await dig(host, server, ['+bufsize=4096', '+ignore', `${name}.good.test`]);
        t.equal(ignored.status, 'NOERROR');
        t.match(ignored.text, /flags: qr aa tc rd/);
        t.match(ignored.text, /ANSWER: 0, AUTHORITY: 0, ADDITIONAL: 0/);
      }
      t.ok(((await dropped()).fragment ?? 0) >= before + 4, 'the other fragments are counted');
    };
    await t.test('of a pod', (t) => asks(t, web.host, 'pod', 0));
    await t.test('of the node', (t) => asks(t, world.node, 'node', 100));
    await t.test('of small links', async (t) => {
      await Promise.all([world.node.ip(['link set eth0 mtu 576']), world.internet.ip(['link set to-a mtu 576'])]);
      for (const [host, name] of [
        [web.host, 'pod'],
        [world.node, 'node'],
      ] as const) {
        const { answers, text } = await dig(host, dns.ip4, ['+bufsize=1232', '+notcp', `${name}.good.test`]);
        t.match(text, /Truncated, retrying in TCP mode/);
        t.equal(answers.length, 100);
      }
    });
  });
}
