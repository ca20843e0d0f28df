/** Hellos of real handshakes that are large, cut, asked for again, or come with early data. The servers' logs are the judge. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { compiled } from '../../netns/shell.js';
import { servers } from '../../netns/world.js';
import type { Line } from '../bed.js';
import { LiveBed } from './bed.js';
import { makeCertificates } from './certificates.js';
import type { Chopped, Chopping } from './chopped-client.js';
import { nginx, nodeServer } from './servers.js';

/** Of nginx: as usual; only one group, which no client offers a key of; early data; both. */
const [USUAL, RETRY, EARLY, EARLY_RETRY] = [443, 8443, 8444, 8445];
const PORTS: Line['ports'] = [
  {
    protocol: 6,
    ports: [
      [USUAL, USUAL],
      [RETRY, EARLY_RETRY],
    ],
  },
];
const RULES: readonly Line[] = [{ serverNames: ['good.test', '*.good.test'], ports: PORTS }];
const HOST = servers.one.ip4;
const NODE = servers.two.ip4;
const NAMES = ['good.test', 'a.good.test', 'evil.test', 'a.evil.test'];
const HOSTS = Object.fromEntries(NAMES.map((name) => [name, HOST]));
/** For a hello of 2 KB. */
const MANY = [...Array.from({ length: 10 }, () => 'x'.repeat(200)), 'http/1.1'].join(',');
const OK = /^HTTP\/1.1 200/;

t.setTimeout(170_000);
t.test('hellos', { timeout: 170_000 }, async (t) => {
  const bed = await LiveBed.create(RULES, HOSTS);
  t.teardown(() => bed.close());
  const { world } = bed;
  const c = await makeCertificates(world.dir, [...NAMES, HOST, NODE]);
  const extra = (port: number, lines: string) =>
    `server { listen ${HOST}:${port} ssl; ${lines} location / { return 200 "$ssl_early_data\\n"; } }`;
  const one = 'ssl_ecdh_curve secp521r1;';
  const early = 'ssl_early_data on; ssl_protocols TLSv1.3;';
  const more = [extra(RETRY, one), extra(EARLY, early), extra(EARLY_RETRY, one + early)].join(' ');
  const web = await nginx(world, HOST, c, more);
  const node = await nodeServer(world, NODE, c);

  const chopped = async (how: Partial<Chopping>): Promise<Chopped> => {
    const script = join(compiled, 'test/said/live/chopped-client.js');
    const all = { host: NODE, port: USUAL, path: '/', ...how };
    const { stdout, stderr } = await bed.run([process.execPath, script, JSON.stringify(all)]);
    if (!stdout) throw new Error(`the client said nothing: ${stderr}`);
    return JSON.parse(stdout) as Chopped;
  };

  const CUTS: Record<string, Partial<Chopping>> = {
    'in one segment': {},
    'segments of 2 bytes': { segment: 2 },
    'segments of 1 byte, one a millisecond': { segment: 1, pause: 1, pad: 0 },
    'records of 1 byte': { records: [1] },
    'records of 1 byte, in segments of 3': { records: [1], segment: 3 },
    'the last byte in a record of its own': { records: [4, 100, 20, 1000] },
    'the size of post-quantum keys': { pad: 1500 },
    'the same, in segments of 2 bytes': { pad: 1500, segment: 2 },
    '8 KB': { pad: 8000 },
    '16 KB, nearly': { pad: 15_600 },
    '16 KB, nearly, in records of 500 bytes and segments of 700': { pad: 15_600, records: [500], segment: 700 },
  };
  for (const [name, how] of Object.entries(CUTS)) {
    await t.test(name, async (t) => {
      const good = await chopped({ ...how, name: 'a.good.test' });
      t.match(good.result, OK);
      t.match(
        (await node.arrived(3)).map(({ what, sni }) => [what, sni]),
        ['hello', 'secure', 'request'].map((what) => [what, 'a.good.test']),
      );
      t.match(bed.told(), [{ text: 'a.good.test', verdict: 'allow' }]);
      const other: Partial<Chopping>[] = [{ name: 'a.evil.test' }, {}];
      for (const who of other) {
        const evil = await chopped({ ...how, ...who });
        t.equal(evil.result, 'ECONNRESET');
        t.ok(evil.ms < 1000, `at once: ${evil.ms} ms`);
        t.match(bed.told(), [{ text: who.name ?? '', verdict: 'deny' }]);
        t.equal(evil.hello > (how.pad ?? 0), true);
      }
      t.same(await node.arrived(), [], 'no other hello is whole');
      t.equal(bed.held(), 0);
    });
  }

  await t.test('so small segments are sent', async (t) => {
    const wire = await bed.pod.host.sniff();
    t.match((await chopped({ segment: 2, pause: 1, name: 'good.test' })).result, OK);
    const sizes = (await wire.frames())
      .filter((line) => line.startsWith('out '))
      .map((line) => Buffer.from(line.slice(4), 'hex'))
      .map((frame) => frame.readUInt16BE(16) - 20 - ((frame[46] as number) >> 4) * 4);
    t.ok(sizes.filter((n) => n === 2).length > 100, `${sizes.filter((n) => n === 2).length} segments of 2 bytes`);
    await wire.close();
    await node.arrived(3);
    bed.told();
  });

  await t.test('more than 16 KiB', async (t) => {
    bed.reasons();
    for (const how of [{}, { records: [1] }]) {
      const { result, ms, hello } = await chopped({ ...how, pad: how.records ? 3000 : 16_800, name: 'good.test' });
      t.equal(result, 'ECONNRESET', `${hello} bytes`);
      t.ok(ms < 1000);
    }
    t.same([...new Set(bed.reasons())], ['unreadable-hello']);
    t.same(await node.arrived(), []);
    t.equal(bed.held(), 0);
  });

  /** openssl s_client with a request of HTTP/1.0; what it printed, and its status. */
  const openssl = (port: number, name: string | undefined, path: string, ...args: string[]) => {
    const who = name === undefined ? ['-noservername'] : ['-servername', name];
    const command = ['openssl', 's_client', '-connect', `${HOST}:${port}`, ...who, '-ign_eof', '-brief', ...args];
    return bed.run(command, { input: `GET ${path} HTTP/1.0\r\n\r\n` });
  };
  const kinds: Record<string, [port: number, args: string[]]> = {
    'openssl s_client': [USUAL, []],
    'TLS 1.2': [USUAL, ['-tls1_2']],
    'small fragments': [USUAL, ['-max_send_frag', '512', '-alpn', MANY]],
    HelloRetryRequest: [RETRY, ['-groups', 'X25519:P-521']],
    'HelloRetryRequest, a large hello': [RETRY, ['-groups', 'P-256:P-521', '-alpn', MANY]],
  };
  for (const [kind, [port, args]] of Object.entries(kinds)) {
    await t.test(kind, async (t) => {
      t.match((await openssl(port, 'good.test', '/good', ...args)).stdout, OK);
      t.match(await web.arrived(1), [{ sni: 'good.test', url: '/good' }]);
      const told = bed.told();
      t.equal(told.length, port === RETRY ? 2 : 1, 'hellos');
      for (const one of told) t.match(one, { text: 'good.test', verdict: 'allow' });
      for (const name of ['evil.test', undefined]) {
        const { status, stdout, stderr } = await openssl(port, name, '/evil', ...args);
        t.equal(status, 1);
        t.notMatch(stdout, /HTTP/);
        t.match(stderr, /errno=104|reset/i);
        t.match(bed.told(), [{ text: name ?? '', verdict: 'deny' }]);
      }
      t.same(await web.arrived(), []);
      t.equal(bed.held(), 0);
    });
  }

  await t.test('HelloRetryRequest, for the other clients', async (t) => {
    t.match((await bed.run(['curl', '-sk', `https://good.test:${RETRY}/`])).status, 0);
    t.equal((await web.arrived(1)).length, 1);
    t.match(bed.told(), [{ text: 'good.test' }, { text: 'good.test' }]);
    t.match((await bed.run(['curl', '-sk', `https://evil.test:${RETRY}/`])).status, 35);
    t.same(await web.arrived(), []);
    bed.told();
  });

  await t.test('early data', async (t) => {
    const session = join(world.dir, 'session');
    const request = join(world.dir, 'request');
    const resumed = (name: string, port: number, ...args: string[]) => {
      writeFileSync(request, `GET /early HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
      const command = ['-connect', `${HOST}:${port}`, '-servername', name, '-sess_in', session, '-early_data', request];
      return bed.run(['openssl', 's_client', ...command, '-tls1_3', '-ign_eof', ...args], { input: '' });
    };
    const first = (name: string, port: number, ...args: string[]) =>
      openssl(port, name, '/first', '-tls1_3', '-sess_out', session, ...args);
    t.match((await first('good.test', EARLY)).stdout, OK);
    t.equal((await web.arrived(1)).length, 1);
    t.match((await resumed('good.test', EARLY)).stdout, /Early data was accepted/);
    t.match(await web.arrived(1), [{ sni: 'good.test', url: '/early' }], 'it passes');
    bed.rules([{ ports: PORTS }]);
    t.match((await first('evil.test', EARLY)).stdout, OK, 'while nobody asks for a name');
    t.equal((await web.arrived(1)).length, 1);
    bed.rules(RULES);
    t.not((await resumed('evil.test', EARLY)).status, 0);
    t.same(await web.arrived(), [], 'another name: neither hello nor data');
    t.match(
      bed.told().map((one) => `${one.text} ${one.verdict}`),
      ['good.test allow', 'good.test allow', 'evil.test deny'],
    );
    const groups = ['-groups', 'X25519:P-521'];
    t.match((await first('good.test', EARLY_RETRY, ...groups)).stdout, OK);
    t.equal((await web.arrived(1)).length, 1);
    bed.told();
    bed.reasons();
    t.not((await resumed('good.test', EARLY_RETRY, ...groups)).status, 0);
    t.same(await web.arrived(), [], 'asked for a second hello behind early data, it ends');
    t.same([...new Set(bed.reasons())], ['unreadable-hello']);
    t.match((await openssl(EARLY_RETRY, 'good.test', '/again', ...groups)).stdout, OK, 'without early data it goes on');
    await web.arrived(1);
    bed.told();
  });

  await t.test('what is no TLS', async (t) => {
    t.not((await bed.run(['curl', '-sf', '-m', '5', `http://good.test:${USUAL}/`])).status, 0);
    t.match(bed.told(), [{ kind: 'http', text: /^GET /, verdict: 'deny' }]);
    t.same(await web.arrived(), []);
  });
});
