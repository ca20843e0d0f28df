/** egressctl test: tables of expected verdicts. */
import t from 'tap';
import { bench, CLUSTER, TO_API, TO_WORLD, webPolicy } from './tool.js';

t.setTimeout(120_000);
const { ctl, write } = bench(t);
write('cluster/all.yaml', CLUSTER);
write('policies/web.yaml', webPolicy(TO_API, TO_WORLD));
const table = (name: string, ...rows: string[]) =>
  write(name, `manifests: [policies, cluster/all.yaml]\ntests:\n${rows.map((r) => `- ${r}\n`).join('')}`);

t.test('rows that hold, in every form', async (t) => {
  table(
    'good.yaml',
    'shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#1]',
    '"shop/web -> 203.0.113.10:444: deny [np/shop/web#default]"',
    'shop/web → 203.0.113.10:443/udp: deny',
    'shop/web → 203.0.113.10/icmp 8/0: deny',
    'shop/web → [2001:db8::1]/icmpv6 128/0: deny [np/shop/web#default]',
    'shop/web → 203.0.113.10/gre: deny',
    'shop/web → shop/api:8080/tcp: allow [np/shop/web#0]',
    'shop/web → svc/shop/api: allow [np/shop/web#0]',
    '{from: shop/web, to: svc/shop/api, port: web, expect: allow}',
    '{from: shop/web, to: svc/shop/api, port: 81, expect: deny}',
    "{from: shop/web, to: 203.0.113.255, port: 443, expect: allow, rule: 'np/shop/web#1', name: the last address}",
    '{from: shop/web, to: 203.0.114.0, port: 443/tcp, expect: deny}',
    "{from: shop/web, to: 192.168.0.1, port: 22, expect: allow, rule: 'np/*#node'}",
    "{from: shop/web, to: shop/web, port: 1, expect: allow, rule: 'np/*#node'}",
    '{from: shop/db, to: 203.0.113.10, port: icmp/8/0, expect: allow, audit: allow}',
    'shop/web → 203.0.113.10:443/tcp sni API.example.com: allow [np/shop/web#1]',
    '"shop/web → [2001:db8::1]:443/tcp sni -: deny"',
    'shop/web → 203.0.113.10:443/tcp http GET http://api.example.com:443/v1?a=b: allow [np/shop/web#1]',
    "{from: shop/web, to: 203.0.113.10, port: 80, http: GET /, headers: ['Host: a'], expect: deny}",
    '{from: shop/web, to: 203.0.113.10, port: 443/udp, sni: a.example, expect: deny}',
  );
  const r = ctl('test', 'good.yaml');
  t.equal(r.code, 0, r.out + r.err);
  t.match(r.out, /^good\.yaml: 20 hold, 0 do not\n$/);
  const all = ctl('test', 'good.yaml', '--all').out;
  t.match(all, /✓ shop\/web → 203\.0\.113\.10:443\/tcp sni API\.example\.com: allow/);
  t.match(all, /✓ shop\/web → 203\.0\.113\.10:80\/tcp http GET \/: deny/);
  t.match(all, /✓ the last address: allow \[np\/shop\/web#1\]/);
});

t.test('rows that do not: what decided, and why not what was expected', async (t) => {
  table(
    'bad.yaml',
    'shop/web → 203.0.113.10:443/tcp: allow',
    'shop/web → 203.0.113.10:80/tcp: allow [np/shop/web#1]',
    'shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#7]',
    '{from: shop/db, to: shop/web, port: 1, expect: deny}',
  );
  const r = ctl('test', 'bad.yaml', 'good.yaml');
  t.equal(r.code, 3);
  t.match(
    r.out,
    /✗ bad\.yaml:4 shop\/web → 203\.0\.113\.10:80\/tcp\n {4}expected allow \[np\/shop\/web#1\], is deny \[np\/shop\/web#default\]/,
  );
  t.match(r.out, /np\/shop\/web#1 allow to 203\.0\.113\.0\/24 on TCP 443: .* but TCP 80 is not TCP 443/);
  t.match(r.out, /bad\.yaml: 1 holds, 3 do not/);
  t.match(r.out, /good\.yaml: 20 hold/);
  const { files } = JSON.parse(ctl('test', 'bad.yaml', '-o', 'json').out);
  t.match(files, [{ file: 'bad.yaml', passed: 1, failed: 3, problems: [] }]);
  t.match(files[0].rows[1], { ok: false, line: 4, expected: 'allow [np/shop/web#1]', packet: { port: 80 } });
});

t.test('what cannot be read: file, line, field', async (t) => {
  table(
    'odd.yaml',
    '{from: shop/web, to: 203.0.113.10, port: 443, expect: maybe}',
    '{from: shop/nobody, to: 203.0.113.10, port: 443, expect: deny}',
    '{from: shop/web, to: 203.0.113.0/24, port: 443, expect: deny}',
    '{from: shop/web, to: 203.0.113.10, port: 443/none, expect: deny}',
    '{from: shop/web, to: 203.0.113.10, ports: 443, expect: deny}',
    'shop/web → 203.0.113.10:443/tcp: allow [np/shop/web#1]',
    'shop/web to 203.0.113.10',
    'shop/web → 203.0.113.10:443/tcp: perhaps',
    '{from: shop/web, to: 203.0.113.10, port: icmp 256/0, expect: deny}',
    '{from: shop/web, to: svc/shop/none, port: 1, expect: deny}',
    'shop/web → 203.0.113.10/136: deny',
    'shop/web → 203.0.113.0/24: deny',
    'shop/web → 203.0.113.10:443/tcp sni 203.0.113.10: deny',
    '{from: shop/web, to: 203.0.113.10, port: 80, http: GET http://a/../b, expect: deny}',
    '{from: shop/web, to: 203.0.113.10, port: 80, sni: a, http: GET http://a/, expect: deny}',
    "{from: shop/web, to: 203.0.113.10, port: 80, headers: ['a: b'], expect: deny}",
    '{from: shop/web, to: 203.0.113.10, port: 80/udp, http: GET http://a/, expect: deny}',
  );
  const r = ctl('test', 'odd.yaml');
  t.equal(r.code, 1);
  for (const said of [
    /error odd\.yaml:3: tests\[0\]\.expect: must be one of allow, deny, partial/,
    /odd\.yaml:4: tests\[1\]\.from: there is no pod shop\/nobody/,
    /odd\.yaml:5: tests\[2\]\.to: 203\.0\.113\.0\/24 is no destination/,
    /odd\.yaml:6: tests\[3\]\.port: 443\/none is no port/,
    /odd\.yaml:7: tests\[4\]\.ports: is not a field/,
    /odd\.yaml:9: tests\[6\]: is no row/,
    /odd\.yaml:10: tests\[7\]: expect: must be one of/,
    /odd\.yaml:11: tests\[8\]\.port: 256\/0 is no ICMP type/,
    /odd\.yaml:12: tests\[9\]\.to: there is no Service shop\/none/,
    /odd\.yaml:13: tests\[10\]\.to: 203\.0\.113\.10\/136 is no destination — \/136 is no length of a prefix; that port is written 203\.0\.113\.10:136/,
    /odd\.yaml:14: tests\[11\]\.to: 203\.0\.113\.0\/24 is no destination — a CIDR is many/,
    /odd\.yaml:15: tests\[12\]\.sni: 203\.0\.113\.10 is no server name — an address/,
    /odd\.yaml:16: tests\[13\]\.http: GET http:\/\/a\/\.\.\/b: ambiguous \(path\)/,
    /odd\.yaml:17: tests\[14\]\.http: of query, sni and http there can be one/,
    /odd\.yaml:18: tests\[15\]\.headers: are those of http, which is missing/,
    /odd\.yaml:19: tests\[16\]\.http: HTTP\/1 is spoken over TCP/,
    /odd\.yaml: 1 holds, 0 do not, 16 problems/,
  ])
    t.match(r.out, said);
  write('empty.yaml', 'manifests: policies\n');
  t.match(ctl('test', 'empty.yaml'), { code: 1, out: /empty\.yaml.*: tests: is missing/ });
  write('broken.yaml', 'manifests: [\n');
  t.match(ctl('test', 'broken.yaml'), { code: 1, out: /broken\.yaml:\d+: cannot be parsed as YAML/ });
  write('nowhere.yaml', 'manifests: nowhere\ntests: []\n');
  t.match(ctl('test', 'nowhere.yaml'), { code: 1, out: /nowhere.*cannot be read/ });
  t.equal(ctl('test', 'none.yaml').code, 1);
  t.equal(ctl('test').code, 2);
});

t.test('help and completion', async (t) => {
  t.match(ctl('test', '--help'), { code: 0, out: /Exit code: 0 every row holds, 3 one does not/ });
  t.match(ctl('completion', 'bash').out, /validate\|lint\|test\|diff\|convert\|import\) \[\[/);
  t.match(ctl('completion', 'fish').out, /__fish_seen_subcommand_from validate lint test diff convert import' -F/);
  t.match(ctl('completion', 'zsh').out, /diff\) _arguments/);
});
