/** Which resolvers are trusted, and how the map of them follows the cluster. */
import { mkdtempSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execFileSync, spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DnsServers } from '../../agent/maps/tables/dns-servers.js';
import { bitOf, ServiceFilter } from '../../agent/maps/tables/service-filter.js';
import { nodeNameservers, parseResolvConf, readSmallFile } from '../../agent/resolvers/resolv-conf.js';
import { resolveServers } from '../../agent/resolvers/resolvers.js';
import { SeenResolvers } from '../../agent/resolvers/seen.js';
import { parseServers, type ServerSpec } from '../../agent/resolvers/spec.js';
import { TrustedResolvers } from '../../agent/resolvers/trusted.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { Service } from '../../src/identity/snapshot.js';
import { loadForTest } from '../engines/engine.js';
import { service, snapshot } from '../flow/flows.js';

const UDP = 17;
const TCP = 6;

t.test('--dns-servers', async (t) => {
  const rows: [string, ServerSpec[]][] = [
    ['resolv.conf', [{ kind: 'resolv.conf' }]],
    ['k8s-service:kube-dns', [{ kind: 'service', namespace: 'kube-system', name: 'kube-dns' }]],
    ['k8s-service:dns/unbound:5353', [{ kind: 'service', namespace: 'dns', name: 'unbound', port: 5353 }]],
    ['10.0.0.53', [{ kind: 'address', ip: '10.0.0.53', port: 53 }]],
    [
      '10.0.0.53:5353, FD00::53',
      [
        { kind: 'address', ip: '10.0.0.53', port: 5353 },
        { kind: 'address', ip: 'fd00::53', port: 53 },
      ],
    ],
    ['[fd00::53]:8053', [{ kind: 'address', ip: 'fd00::53', port: 8053 }]],
    ['[fd00::53]', [{ kind: 'address', ip: 'fd00::53', port: 53 }]],
  ];
  for (const [text, specs] of rows) t.same(parseServers(text, undefined), specs, text);
  t.equal(parseServers('10.0.0.2', parseServers('10.0.0.1', undefined)).length, 2, 'it may be repeated');
  for (const bad of [
    '',
    'kube-dns',
    '10.0.0.1:',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    '10.0.0.256',
    'k8s-service:',
    'k8s-service:A/b',
    'k8s-service:a/b/c',
    'k8s-service:b:x',
    '10.0.0.1,',
    '[fd00::1]:99999',
    'fd00::1%eth0',
  ])
    t.throws(() => parseServers(bad, undefined), { code: 'USAGE' }, JSON.stringify(bad));
});

function dns(namespace: string, name: string, over: Partial<Service> = {}): Service {
  return service(namespace, name, '10.96.0.10', {
    ports: [
      { name: 'dns', protocol: UDP, port: 53, backends: [{ ip: '10.244.0.5', port: 8053 }] },
      { name: 'dns-tcp', protocol: TCP, port: 53, backends: [{ ip: '10.244.0.5', port: 8053 }] },
      { name: 'metrics', protocol: TCP, port: 9153, backends: [{ ip: '10.244.0.5', port: 9153 }] },
    ],
    ...over,
  });
}

function of(services: Service[], specs?: ServerSpec[], nameservers: string[] = [], most = 100) {
  const { servers, problems } = resolveServers({ specs, snapshot: snapshot([], services), nameservers, most });
  return {
    servers: servers.map(({ ip, port }) => `${ip} ${port}`),
    problems: problems.map((p) => p.message),
    all: servers,
  };
}

t.test('by default the DNS of the cluster and of the node', async (t) => {
  const labels = { 'k8s-app': 'kube-dns' };
  t.same(of([dns('kube-system', 'kube-dns')], undefined, ['192.0.2.53']).servers, [
    '10.96.0.10 53',
    '10.244.0.5 8053',
    '169.254.20.10 53',
    '192.0.2.53 53',
  ]);
  t.same(of([dns('kube-system', 'other', { labels })]).servers[0], '10.96.0.10 53');
  t.same(of([dns('shop', 'evil', { labels })]).servers, ['169.254.20.10 53'], 'a label that anybody may give');
  t.same(of([dns('shop', 'kube-dns')]).servers, ['169.254.20.10 53']);
  t.equal(of([dns('openshift-dns', 'dns-default')]).servers.length, 3);
  const own = { services: new Map(), ownNode: { name: 'a', ips: [], dns: ['10.96.0.10', '169.254.20.10'] } };
  const { servers } = resolveServers({ specs: undefined, snapshot: own, nameservers: [], most: 9 });
  t.same(
    servers.map((s) => s.ip),
    ['169.254.20.10', '10.96.0.10'],
  );
});

t.test('what the option names, and nothing else', async (t) => {
  const services = [dns('kube-system', 'kube-dns'), dns('dns', 'unbound', { vips: ['10.96.0.99'] })];
  t.same(of(services, parseServers('k8s-service:dns/unbound', undefined)).servers, [
    '10.96.0.99 53',
    '10.244.0.5 8053',
  ]);
  t.same(of(services, parseServers('k8s-service:dns/unbound:9153', undefined)).servers, [
    '10.96.0.99 9153',
    '10.244.0.5 9153',
  ]);
  t.same(of(services, parseServers('192.0.2.1,192.0.2.1:53,resolv.conf', undefined), ['192.0.2.2']).servers, [
    '192.0.2.1 53',
    '192.0.2.2 53',
  ]);
  t.match(of(services, parseServers('k8s-service:none', undefined)).problems, [
    /there is no Service kube-system\/none/,
  ]);
  t.match(of(services, parseServers('k8s-service:dns/unbound:54', undefined)).problems, [/has no port 54/]);
  t.match(of(services, parseServers('resolv.conf', undefined)).problems, [/names no resolver/]);
  const many = of([], parseServers('10.0.0.1,10.0.0.2,10.0.0.3', undefined), [], 2);
  t.equal(many.servers.length, 2);
  t.match(many.problems, [/3 resolvers; the first 2 are trusted/]);
  t.same(
    of([dns('dns', 'x')], parseServers('k8s-service:dns/x', undefined)).all.map((s) => s.asked),
    [true, false],
  );
  t.same(
    of([dns('dns', 'x', { vips: [] })], parseServers('k8s-service:dns/x', undefined)).all.map((s) => s.asked),
    [true],
  );
});

t.test('resolv.conf', async (t) => {
  t.same(
    parseResolvConf(
      '# nameserver 1.1.1.1\nnameserver 192.0.2.1 # one\n nameserver\t2001:DB8::1\nsearch x\nnameserver fe80::1%eth0\nnameserver x\nnameserver 192.0.2.1',
    ),
    ['192.0.2.1', '2001:db8::1'],
  );
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-resolv-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const [main, behind] = [join(dir, 'resolv.conf'), join(dir, 'behind')];
  writeFileSync(main, 'nameserver 127.0.0.53\n');
  writeFileSync(behind, 'nameserver 192.0.2.7\n');
  t.same(nodeNameservers([[main, behind]]), ['192.0.2.7'], 'what stands behind systemd-resolved');
  t.same(nodeNameservers([[main, join(dir, 'none')]]), []);
  t.same(
    nodeNameservers([
      [join(dir, 'none'), behind],
      [behind, main],
    ]),
    ['192.0.2.7'],
  );
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  t.equal(readSmallFile(join(dir, 'fifo')), undefined, 'it does not wait for a writer');
  symlinkSync('/dev/zero', join(dir, 'zero'));
  t.equal(readSmallFile(join(dir, 'zero')), undefined);
  mkdirSync(join(dir, 'directory'));
  t.equal(readSmallFile(join(dir, 'directory')), undefined);
  writeFileSync(join(dir, 'large'), 'x'.repeat(100_000));
  t.equal(readSmallFile(join(dir, 'large'))?.length, 16_384);
});

t.test('what a pod puts in place of the file is not opened', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'egress-agent-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const fifo = join(dir, 'fifo');
  execFileSync('mkfifo', [fifo]);
  symlinkSync('fifo', join(dir, 'link'));
  // It waits until somebody opens the FIFO, as others notice it: some devices act when they are opened.
  const writer = spawn('sh', ['-c', 'exec 3>"$1"; echo opened', 'sh', fifo], { stdio: ['ignore', 'pipe', 'ignore'] });
  t.teardown(() => writer.kill());
  let said = '';
  writer.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  await sleep(100);
  for (const path of [fifo, join(dir, 'link')]) t.equal(readSmallFile(path), undefined);
  await sleep(100);
  t.equal(said, '', 'nobody has opened it');
});

t.test('the map and the bits in the filter', async (t) => {
  const programs = loadForTest({ flows: 4096, events: 65536 });
  t.teardown(() => programs.close());
  const maps = { ...programs.maps };
  const bytes = (maps.service_filter as BpfMap).mmap();
  const isSet = (ip: string, port: number, protocol: number) => {
    const bit = bitOf({ ip, port, protocol });
    return ((bytes[bit >> 3] as number) & (1 << (bit & 7))) !== 0;
  };
  const both = (ip: string, port: number) => [isSet(ip, port, UDP), isSet(ip, port, TCP)];
  const state = (maps.state as BpfMap).mmap();
  const servers = new DnsServers(maps);
  const filter = ServiceFilter.of(maps);
  t.same(servers.list, []);
  const epoch = state.readUInt32LE(0);
  t.equal(
    servers.set([
      { ip: '10.96.0.10', port: 53 },
      { ip: 'fd00::53', port: 8053 },
    ]),
    true,
  );
  t.equal(state.readUInt32LE(0), epoch + 1, 'flows are judged again');
  t.equal(
    servers.set([
      { ip: 'fd00::53', port: 8053 },
      { ip: '10.96.0.10', port: 53 },
    ]),
    false,
    'nothing has changed',
  );
  t.same(
    [both('10.96.0.10', 53), both('fd00::53', 8053)],
    [
      [true, true],
      [true, true],
    ],
  );
  t.equal(new DnsServers({ ...maps }).list.length, 2, 'the next agent finds them');

  // A Service at the same address shares the bits.
  const kubeDns = [{ ip: '10.96.0.10', port: 53, protocol: UDP }];
  filter.add(kubeDns);
  servers.set([{ ip: 'fd00::53', port: 8053 }]);
  t.same(both('10.96.0.10', 53), [true, false], 'the bit of the Service stays');
  servers.set([{ ip: '10.96.0.10', port: 53 }]);
  filter.remove(kubeDns);
  t.same(
    [both('10.96.0.10', 53), both('fd00::53', 8053)],
    [
      [true, true],
      [false, false],
    ],
    'the bits of the resolver stay',
  );

  const next = new ServiceFilter({ ...maps });
  next.restore([]);
  t.same(both('10.96.0.10', 53), [true, true], 'an agent that starts leaves them');
  t.same(next.differences([]), []);
  servers.set([]);
  t.ok(bytes.every((byte) => byte === 0));
});

t.test('the map follows the Snapshot and the node’s resolv.conf', async (t) => {
  let list: readonly { ip: string; port: number }[] = [{ ip: '9.9.9.9', port: 53 }];
  let nameservers = ['192.0.2.1'];
  const map = {
    capacity: 10,
    get list() {
      return list;
    },
    set: (servers: readonly { ip: string; port: number }[]) => {
      list = servers;
      return true;
    },
  };
  const warned: string[] = [];
  const log = { error: () => {}, warn: (m: string) => warned.push(m), info: () => {}, debug: () => {} } as never;
  const specs = parseServers('resolv.conf,k8s-service:kube-dns', undefined);
  const trusted = new TrustedResolvers(specs, map, log, () => nameservers);
  trusted.recheck();
  t.same(list, [{ ip: '9.9.9.9', port: 53 }], 'before the first Snapshot nothing changes');
  trusted.update(snapshot([], []));
  t.same(
    list.map((s) => s.ip),
    ['192.0.2.1'],
  );
  t.match(warned, [/--dns-servers: there is no Service kube-system\/kube-dns/]);
  nameservers = ['192.0.2.2'];
  trusted.recheck();
  t.same(
    list.map((s) => s.ip),
    ['192.0.2.2'],
  );
  t.equal(warned.length, 1, 'said once');
  trusted.update(snapshot([], [dns('kube-system', 'kube-dns')]));
  t.same(
    list.map((s) => s.ip),
    ['192.0.2.2', '10.96.0.10', '10.244.0.5'],
  );
  t.same(trusted.problems, []);
});

t.test('resolvers that are used although they are not trusted', async (t) => {
  const seen = new SeenResolvers();
  for (let i = 0; i < 3; i++) seen.asked(1, '8.8.8.8');
  seen.asked(2, '10.96.0.10');
  seen.asked(2, '8.8.8.8');
  seen.untrusted(3, '10.96.0.10', 53);
  seen.asked(1, '192.0.2.53');
  const isTrusted = (ip: string) => ip === '10.96.0.10' || ip === '192.0.2.53';
  t.same(seen.list(isTrusted), [
    { ip: '10.96.0.10', port: 53, endpoint: 3, asked: 1, untrusted: 1 },
    { ip: '8.8.8.8', port: 53, endpoint: 2, asked: 4, untrusted: 0 },
  ]);
  for (let i = 0; i < 1000; i++) seen.asked(1, `192.0.${2 + (i >> 8)}.${i & 255}`);
  t.equal(seen.list(() => false).length, 256, 'bounded');
});
