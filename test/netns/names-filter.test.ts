/** What no filter of queries lets pass, by datagram and by stream. What arrives at the resolver's machine is the judge. */
import t from 'tap';
import { encodeMessage, TYPES, type WireMessage } from '../names/wire.js';
import { Agent } from './agent.js';
import { dig } from './dns-server.js';
import type { Host } from './host.js';
import { cnpNames, egressPolicy, toServer } from './policies.js';
import { Resolver } from './resolver.js';
import { until } from './shell.js';
import { servers, World } from './world.js';

const dns = servers.two;
const [REFUSED, AXFR, IXFR, SOA] = [5, 252, 251, 6];
const OPCODE = { status: 2, notify: 4, update: 5 } as const;

/** Sends messages, each `udp` or `tcp` and hex, from a socket of its own: what comes back as hex, or how it failed. */
const CLIENT = `
import json, socket, struct, sys
def ask(how, message):
    kind = socket.SOCK_DGRAM if how == "udp" else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, kind) as s:
        s.settimeout(1); s.connect((sys.argv[1], 53))
        if how == "udp": s.send(message); return s.recv(65536).hex()
        s.sendall(struct.pack("!H", len(message)) + message)
        got = b""
        while len(got) < 2 or len(got) < 2 + struct.unpack("!H", got[:2])[0]:
            more = s.recv(65536)
            if not more: raise EOFError
            got += more
        return got[2:].hex()
out = []
for how, message in json.loads(sys.stdin.read()):
    try: out.append(ask(how, bytes.fromhex(message)))
    except Exception as e: out.append(type(e).__name__)
print(json.dumps(out))
`;

type How = 'udp' | 'tcp';
let marks = 0;

/** A message whose name tells it from all others. */
class Probe {
  readonly mark = `mark${String(++marks).padStart(4, '0')}`;
  readonly bytes: Buffer;

  constructor(
    readonly what: string,
    readonly how: How,
    make: (name: string) => WireMessage,
    more = 0,
  ) {
    const message = encodeMessage({ id: 0x1234, flags: 0x0100, ...make(`${this.mark}.good.test`) });
    this.bytes = Buffer.concat([message, Buffer.alloc(more)]);
  }
}

const BOTH = ['udp', 'tcp'] as const;
const of =
  (type: number) =>
  (name: string): WireMessage => ({ questions: [{ name, type }] });
const withOpcode =
  (opcode: number) =>
  (name: string): WireMessage => ({
    flags: opcode << 11,
    questions: [{ name, type: SOA }],
  });
const never = (): Probe[] =>
  BOTH.flatMap((how) => [
    new Probe('a zone transfer', how, of(AXFR)),
    new Probe('an incremental one', how, of(IXFR)),
    new Probe('two questions', how, (name) => ({ questions: [name, name].map((n) => ({ name: n, type: TYPES.A })) })),
    new Probe('a denied name behind an allowed one', how, (name) => ({
      questions: ['a.good.test', name.replace('good', 'bad')].map((n) => ({ name: n, type: TYPES.A })),
    })),
    ...Object.entries(OPCODE).map(([what, opcode]) => new Probe(what, how, withOpcode(opcode))),
  ]);
const passes = (): Probe[] => BOTH.map((how) => new Probe('a query', how, of(TYPES.A)));

t.setTimeout(240_000);
t.test('filters of queries', { timeout: 240_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await Resolver.authority(world, [dns.ip4, dns.ip6], ['*.good.test. IN A 198.51.100.1'], 'allow-transfer { any; };');
  const [web, free] = [await world.pod('web'), await world.pod('free')];
  const wire = await world.internet.sniff('to-a');
  /** Sends, and says of each whether it arrived, in whatever pieces. */
  const ask = async (host: Host, server: string, probes: readonly Probe[]) => {
    const input = JSON.stringify(probes.map(({ how, bytes }) => [how, bytes.toString('hex')]));
    const { stdout } = await host.run('python3', ['-B', '-c', CLIENT, server], { input });
    const replies = JSON.parse(stdout) as string[];
    const last = new Probe('the last', 'udp', of(TYPES.A));
    await host.run('python3', ['-B', '-c', CLIENT, server], {
      input: JSON.stringify([['udp', last.bytes.toString('hex')]]),
    });
    const has = async (mark: string) =>
      (await wire.frames()).some((f) => f.startsWith('in ') && f.includes(Buffer.from(mark).toString('hex')));
    await until('the last one arrives', () => has(last.mark));
    return Promise.all(
      probes.map(async ({ what, how, mark }, i) => ({ what, how, reply: replies[i] ?? '', arrived: await has(mark) })),
    );
  };

  await t.test('without an agent all of it arrives', async (t) => {
    for (const server of [dns.ip4, dns.ip6])
      for (const { what, how, arrived } of await ask(web.host, server, [...never(), ...passes()]))
        t.ok(arrived, `${what}, ${how}`);
    t.match((await dig(web.host, dns.ip4, ['.', 'AXFR'])).text, /XFR size/, 'the zone is given');
  });

  world.write('policy.yaml', [
    {
      ...cnpNames('web', 'web', [], []),
      spec: {
        endpointSelector: { matchLabels: { app: 'web' } },
        egress: [
          {
            toCIDR: [`${dns.ip4}/32`, `${dns.ip6}/128`],
            toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: [{ matchPattern: '**.good.test' }] } }],
          },
        ],
      },
    },
    egressPolicy('free', 'free', [toServer('two')]),
  ]);
  const resolvers = ['--dns-servers', dns.ip4, '--dns-servers', dns.ip6, '--name-seed', 'off'];
  const agent = await Agent.start(world, { args: [...resolvers, '--https-records', 'strip'] });

  for (const server of [dns.ip4, dns.ip6]) {
    await t.test(`beside a filter, ${server}`, async (t) => {
      const probes = never();
      for (const [i, { what, how, reply, arrived }] of (await ask(web.host, server, probes)).entries()) {
        t.notOk(arrived, `${what}, ${how}: nothing arrives`);
        const answer = Buffer.from(reply, 'hex');
        t.equal(answer.length >= 12 && answer.readUInt16BE(0), 0x1234, `${what}, ${how}: it is answered: ${reply}`);
        const asked = (probes[i] as Probe).bytes.readUInt16BE(2);
        t.equal(answer.length >= 12 && answer.readUInt16BE(2) & 0xf80f, 0x8000 | (asked & 0x7800) | REFUSED);
      }
      for (const { how, reply, arrived } of await ask(web.host, server, passes()))
        t.ok(arrived && reply.endsWith('c6336401'), `a query passes, ${how}`);
    });

    await t.test(`records that are withheld, without a filter, ${server}`, async (t) => {
      const https = of(TYPES.HTTPS);
      const whole = BOTH.map((how) => new Probe('whole', how, https));
      for (const { how, reply, arrived } of await ask(free.host, server, whole)) {
        t.notOk(arrived, how);
        t.equal(Buffer.from(reply, 'hex').readUInt16BE(2) & 0xf, 0, 'there are none');
      }
      // The kernel cuts it: the pod's link takes 1,500 bytes.
      const large = [
        new Probe('in fragments', 'udp', https, 4000),
        new Probe('whatever it asks', 'udp', of(TYPES.A), 4000),
      ];
      for (const { what, arrived } of await ask(free.host, server, large)) t.notOk(arrived, what);
      for (const { how, arrived } of await ask(free.host, server, passes())) t.ok(arrived, `others pass, ${how}`);
    });
  }
  t.match((await dig(free.host, dns.ip4, ['.', 'AXFR'])).text, /XFR size/, 'without a filter the zone is given');
  t.match((await dig(web.host, dns.ip4, ['.', 'AXFR'])).text, /Transfer failed/);
  t.ok(((await agent.status()).drops['unreadable-query'] ?? 0) > 0);
});
