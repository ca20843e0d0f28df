/** A browser under a rule that asks for a server name. Caddy's log is the judge. */
import t from 'tap';
import type { Line } from '../bed.js';
import { LiveBed } from './bed.js';
import { browse } from './browser.js';
import { makeCertificates } from './certificates.js';
import { caddy } from './servers.js';

const AT = '203.0.113.30';
const NAMES = ['caddy.good.test', 'caddy.evil.test'];

t.setTimeout(170_000);
t.test('a browser', { timeout: 170_000 }, async (t) => {
  const ports = [6, 17].map((protocol) => ({ protocol, ports: [[443, 443]] as [number, number][] }));
  const rules: readonly Line[] = [{ serverNames: ['*.good.test'], ports }];
  const bed = await LiveBed.create(rules, Object.fromEntries(NAMES.map((n) => [n, AT])));
  t.teardown(() => bed.close());
  const { world } = bed;
  await world.internet.ip([`addr add ${AT}/32 dev lo`]);
  const c = await makeCertificates(world.dir, [...NAMES, AT]);
  const server = await caddy(world, AT, c);

  await t.test('a page by TCP', async (t) => {
    const { stdout, stderr } = await browse(bed, c, 'https://caddy.good.test/page');
    t.match(stdout, /HTTP\/2\.0 \/page/, stderr);
    const pages = (await server.arrived(1)).filter(({ url }) => url === '/page');
    t.match(pages, [{ sni: 'caddy.good.test', version: '2.0' }]);
    const told = bed.told().filter(({ verdict }) => verdict === 'allow');
    t.ok(told.length > 0);
    for (const one of told) t.match(one, { kind: 'tls', text: 'caddy.good.test' });
  });

  await t.test('its hello has keys of the size of post-quantum ones', async (t) => {
    const wire = await bed.pod.host.sniff();
    await browse(bed, c, 'https://caddy.good.test/page');
    // Ethernet, IPv4, and TCP's header in words of four bytes: TLS's type, version, and length.
    const hellos = (await wire.frames())
      .filter((line) => line.startsWith('out '))
      .map((line) => Buffer.from(line.slice(4), 'hex'))
      .filter((frame) => frame.length > 66 && frame[23] === 6)
      .map((frame) => frame.subarray(34 + ((frame[46] as number) >> 4) * 4))
      .filter((data) => data.length > 5 && data[0] === 22 && data[1] === 3);
    t.ok(
      hellos.some((data) => data.readUInt16BE(3) > 1500),
      hellos.map((d) => d.readUInt16BE(3)).join(' '),
    );
    await wire.close();
    await server.arrived(1);
    bed.told();
  });

  await t.test('a page by QUIC', async (t) => {
    const { stdout, stderr } = await browse(bed, c, 'https://caddy.good.test/page', true);
    t.match(stdout, /HTTP\/3\.0 \/page/, stderr);
    const pages = (await server.arrived(1)).filter(({ url }) => url === '/page');
    t.match(pages, [{ host: 'caddy.good.test', version: '3.0' }]);
    const told = bed.told().filter(({ quic }) => quic);
    t.ok(told.length > 0);
    for (const one of told) t.match(one, { kind: 'tls', text: 'caddy.good.test', verdict: 'allow' });
  });

  await t.test('by QUIC, under another name', async (t) => {
    const { stdout } = await browse(bed, c, 'https://caddy.evil.test/page', true);
    t.notMatch(stdout, /HTTP\/3\.0 \/page/);
    t.same(await server.arrived(), []);
    const told = bed.told().filter(({ quic }) => quic);
    t.ok(told.length > 0);
    for (const one of told) t.match(one, { kind: 'tls', text: 'caddy.evil.test', verdict: 'deny' });
  });

  for (const host of ['caddy.evil.test', AT]) {
    await t.test(host, async (t) => {
      const { stdout } = await browse(bed, c, `https://${host}/page`);
      t.notMatch(stdout, /HTTP\/2\.0 \/page/);
      t.same(await server.arrived(), []);
      const told = bed.told().filter(({ text }) => text === (host === AT ? '' : host));
      t.ok(told.length > 0);
      for (const one of told) t.match(one, { kind: 'tls', verdict: 'deny' });
    });
  }
});
