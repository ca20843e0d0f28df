/** Names that are verified for the audit alone, as the agent does by default: each request of a connection is told of. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { Agent } from './agent.js';
import { cnpNames } from './policies.js';
import { answerForMany, Asker, many, Resolver } from './resolver.js';
import { compiled, run, until } from './shell.js';
import { servers, World } from './world.js';

const dns = servers.two;
const ADDRESS = `${many.ip4}.5`;
const PORT = 8080;
const SERVER = `
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
`;
/** Asks on one connection for each path, of the host before it. */
const CLIENT = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
for one in sys.argv[3:]:
    host, path = one.split("/", 1)
    c.request("GET", "/" + path, headers={"Host": host})
    socket = c.sock
    print(c.getresponse().read().decode(), c.sock is socket)
`;

t.setTimeout(180_000);
t.test('requests under names that nobody admits', { timeout: 180_000 }, async (t) => {
  const world = await World.create();
  t.teardown(() => world.close());
  await answerForMany(world);
  await Resolver.authority(world, [dns.ip4], [`a.good.test. 60 IN A ${ADDRESS}`]);
  const pod = await world.pod('web');
  const python = (netns: string, code: string, ...args: string[]) => [
    `--net=/run/netns/${netns}`,
    'python3',
    '-c',
    code,
    ...args,
  ];
  const server = spawn('nsenter', python(world.internet.netns, SERVER, ADDRESS, `${PORT}`), { stdio: 'ignore' });
  world.onClose(async () => {
    server.kill('SIGKILL');
  });
  world.write('policy.yaml', [cnpNames('web', 'web', ['*.good.test'], [dns.ip4])]);
  const agent = await Agent.start(world, { args: ['--dns-servers', dns.ip4, '--name-seed', 'off'] });
  const ctl = async (...args: string[]) => {
    const command = [join(compiled, 'src/cli/main.js'), '--socket', join(agent.runDir, 'agent.sock'), ...args];
    return (await run(process.execPath, command)).stdout;
  };
  const asker = new Asker(world, pod, [`nameserver ${dns.ip4}`, 'options timeout:2 attempts:2']);
  const asking = (...asks: string[]) =>
    asker.run('python3', ['-c', CLIENT, 'a.good.test', `${PORT}`, ...asks], { check: false });
  await until('the server answers', async () => (await asking('a.good.test/0')).status === 0);

  const asks = ['a.good.test/1', 'other.test/2', 'b.good.test/3', 'other.test/4'];
  const { stdout } = await asking(...asks);
  t.same(
    stdout.trim().split('\n'),
    asks.map(() => 'ok True'),
    'all of them pass, on one connection',
  );
  const told = async () =>
    (await ctl('flows', '--last', '100', '--protocol', 'http'))
      .trim()
      .split('\n')
      .map((line) => /(ALLOWED|DENIED|AUDIT) +http GET http:\/\/(\S+)/.exec(line)?.slice(1).join(' '));
  await until('all are told of', async () => (await told()).at(-1)?.endsWith('/4'));
  t.same((await told()).slice(-asks.length), [
    `ALLOWED a.good.test/1`,
    `AUDIT other.test/2`,
    `ALLOWED b.good.test/3`,
    `AUDIT other.test/4`,
  ]);
  t.match(await ctl('status'), /2 pass in audit only/);
});
