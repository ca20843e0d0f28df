import t from 'tap';
import { type Kind, KINDS } from '../../src/import/base/speech.js';
import type { Target } from '../../src/import/names.js';
import fc from '../seeded.js';
import { Bed, FAR, isBelow, type Result } from './bed.js';

t.setTimeout(300_000);
const bed = new Bed(t);
const squid = (
  conf: string,
  to: Target = 'cilium',
  assumed: Record<string, boolean> = {},
  files: Record<string, string> = {},
): Result => bed.run('squid', { 'squid.conf': conf, ...files }, to, {}, assumed);

t.test('names: a leading dot is the domain and what is below it', (t) => {
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const r = squid(
      'acl good dstdomain -n .Example.com www.example.org.\nhttp_access allow good\nhttp_access deny all\n',
      to,
    );
    t.equal(r.no, '', to);
    const allowed = ['example.com', 'a.example.com', 'a.b.example.com', 'www.example.org'];
    for (const name of allowed) t.ok(r.allows({ name }), `${to} ${name}`);
    for (const name of ['xexample.com', 'com', 'a.www.example.org', 'example.org', undefined])
      t.notOk(r.allows({ name }), `${to} ${name}`);
    t.notOk(r.allows({ name: 'example.com', protocol: 17 }), 'Squid carries TCP');
  }
  t.end();
});

t.test('FQDNNetworkPolicy has names one label below a domain', (t) => {
  const r = squid(
    'acl good dstdomain -n .example.com\nacl p port 443 8000-8001 9000-9999\nhttp_access allow good p\n',
    'fqdn',
  );
  t.match(r.no, /squid\.conf:1: what is below example\.com: .* only names one label below are allowed/);
  t.match(r.no, /squid\.conf:3: ports 9000–9999 \(TCP\): .* they are not allowed/);
  t.ok(r.allows({ name: 'example.com' }));
  t.ok(r.allows({ name: 'a.example.com', port: 8001 }));
  t.notOk(r.allows({ name: 'a.b.example.com' }));
  t.notOk(r.allows({ name: 'a.example.com', port: 9000 }));
  t.end();
});

t.test('files of names, relative to the configuration; clear errors', (t) => {
  const conf = 'acl good dstdomain -n "lists/good.txt"\nhttp_access allow good\n';
  const r = squid(conf, 'cilium', {}, { 'lists/good.txt': '# ours\n.one.com   # the first\n\n two.com\r\n[::1]\n' });
  t.ok(r.allows({ name: 'x.one.com' }) && r.allows({ name: 'two.com' }));
  t.match(
    r.no,
    /squid\.conf:2: acl good, dstdomain: "\[::1\]" \(lists\/good\.txt:5\) is not a name: it allows nothing/,
  );
  t.throws(() => squid('acl good dstdomain "missing.txt"\n'), {
    code: 'MANIFEST',
    message: /missing\.txt, which .*squid\.conf:1 names cannot be read: ENOENT/,
  });
  t.throws(() => squid('include /nowhere/*.conf\n'), {
    message: /squid\.conf:1 includes .*: patterns are not expanded/,
  });
  t.throws(() => squid('include squid.conf\n'), { message: /included more than 16 deep/ });
  t.throws(() => squid('http_access maybe\n'), {
    message: /squid\.conf:1 http_access must be followed by allow or deny/,
  });
  t.throws(() => squid('acl a dstdomain x.com\nacl a port 80\n'), {
    message: /squid\.conf:2 makes a an acl of another type/,
  });
  t.throws(() => squid('if true\nendif\n'), { message: /squid\.conf:1 has if/ });
  t.end();
});

t.test('what has no equivalent closes, and the user may say that it holds', (t) => {
  const conf = `acl localnet src 10.0.0.0/8
acl hours time MTWHF 9:00-17:00
acl good dstdomain -n .example.com
acl late dstdomain -n late.example.com
http_access deny late hours
http_access allow localnet good
http_access deny all
`;
  const r = squid(conf);
  t.match(
    r.no,
    /squid\.conf:5: acl hours, time: asks for the time of day, which no policy does: it denies always \(--assume hours=yes/,
  );
  t.match(
    r.no,
    /squid\.conf:6: acl localnet, src: asks for who asks, by address, which no policy does: it allows nothing/,
  );
  t.notOk(r.allows({ name: 'example.com' }));
  const known = squid(conf, 'cilium', { localnet: true, hours: false });
  t.equal(known.no, '');
  t.ok(known.allows({ name: 'late.example.com' }));
  t.ok(known.allows({ name: 'a.example.com' }));
  const narrow = squid(conf, 'cilium', { localnet: true });
  t.match(
    narrow.no,
    /squid\.conf:6: allows what is below example\.com but not late\.example\.com, which no pattern says/,
  );
  t.ok(narrow.allows({ name: 'example.com' }));
  t.notOk(narrow.allows({ name: 'a.example.com' }));
  t.throws(() => squid(conf, 'cilium', { nobody: true }), {
    code: 'USAGE',
    message: /--assume nobody: no rule asks for that/,
  });
  t.end();
});

t.test("Squid's own configuration", (t) => {
  const conf = `acl SSL_ports port 443
acl Safe_ports port 80 443 1025-65535
acl good dstdomain -n .example.com
http_access deny !Safe_ports
http_access deny CONNECT !SSL_ports
http_access allow localhost manager
http_access deny manager
http_access deny to_localhost
http_access deny to_linklocal
http_access allow good
http_access allow localhost
http_access deny all
`;
  const closed = squid(conf);
  t.equal(closed.no, '');
  t.ok(closed.allows({ name: 'example.com' }));
  t.notOk(closed.allows({ name: 'example.com', port: 80, by: 'tls' }), 'a tunnel to port 80 is denied there');
  t.ok(closed.allows({ name: 'example.com', port: 80 }), 'a request is not');
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const r = squid(conf, to, { CONNECT: false });
    t.equal(r.no, '', to);
    t.ok(r.allows({ name: 'example.com', port: 80 }) && r.allows({ name: 'example.com', port: 80, by: 'tls' }));
    t.notOk(r.allows({ name: 'example.com', port: 81 }));
    t.notOk(r.allows({ name: 'example.com', to: '169.254.169.254' }), to);
    t.notOk(r.allows({ to: FAR }));
  }
  const gke = squid(conf.replace('1025-65535', '8080'), 'fqdn', { CONNECT: false, to_linklocal: false });
  t.match(gke.no, /^squid\.conf:3: what is below example\.com.*$/, 'what is denied of the pod itself never leaves it');
  t.ok(gke.allows({ name: 'example.com', port: 8080 }));
  t.end();
});

t.test('the default is the opposite of the last line; a deny by name cannot be kept', (t) => {
  const r = squid('acl bad dstdomain -n .bad.com\nhttp_access deny bad\n');
  t.match(r.no, /squid\.conf:2: allows everything but some names: no language denies by name, so it allows less/);
  t.notOk(r.allows({ name: 'good.com' }));
  t.equal(squid('').no, '');
  t.notOk(squid('').allows({ name: 'good.com' }), 'without lines, everything is denied');
  const all = squid('http_access deny !all\n');
  t.ok(all.allows({ name: 'good.com' }) && all.allows({}));
  t.notOk(all.allows({ protocol: 17 }));
  t.end();
});

t.test('ssl_bump ends what it terminates, and no plain request', (t) => {
  const conf = `acl step1 at_step SslBump1
acl sni ssl::server_name --client-requested .example.com
acl web dstdomain -n .example.com .example.org
http_access allow web
ssl_bump peek step1
ssl_bump splice sni
ssl_bump terminate all
`;
  const r = squid(conf);
  t.equal(r.no, '');
  t.ok(r.allows({ name: 'a.example.com' }));
  t.notOk(r.allows({ name: 'example.org' }));
  t.ok(r.allows({ name: 'example.org', by: 'http' }) && r.allows({ name: 'a.example.com', by: 'http' }));
  t.notOk(r.allows({ name: 'example.net' }) || r.allows({ name: 'example.net', by: 'http' }));
  t.notOk(r.allows({}));
  t.match(r.told, /acl sni --client-requested means the name that the client sent/);
  t.match(squid(conf.replace('splice sni', 'splice step1 sni')).no, /at_step: asks for a step of ssl_bump/);
  const open = squid(conf.replace('allow web', 'allow all'));
  t.match(open.no, /squid\.conf:4: allows every HTTP request, also what names nobody: no rule says that/);
  t.ok(open.allows({ name: 'far.org', by: 'http' }));
  t.notOk(open.allows({ name: 'far.org' }));
  t.end();
});

t.test('a connection must say the name itself', (t) => {
  const conf = 'acl good dstdomain -n .example.com www.example.org\nhttp_access allow good\n';
  for (const to of ['cilium', 'cnp', 'calico', 'fqdn'] as const) {
    const r = squid(conf, to);
    for (const by of ['tls', 'http'] as const) {
      t.ok(r.allows({ name: 'a.example.com', by }), `${to} ${by}`);
      for (const says of ['evil.com', 'xexample.com', null])
        t.notOk(r.allows({ name: 'a.example.com', by, says }), `${to} ${by} says ${says}`);
      t.notOk(r.allows({ name: 'evil.com', by, says: 'a.example.com' }), `${to} ${by}: looked up under another name`);
    }
    t.notOk(r.allows({ name: 'a.example.com', by: 'other' }), `${to} neither TLS nor HTTP`);
    t.equal(/verify-names: "?strict/.test(r.texts.join('')), to !== 'cilium', to);
  }
  const hosts = squid(conf).texts.join('');
  t.match(hosts, '- host: (?i:www\\.example\\.org)(:[0-9]{1,5})?');
  t.match(hosts, '- host: ([-a-zA-Z0-9_]+\\.)+(?i:example\\.com)(:[0-9]{1,5})?');
  t.ok(squid(conf).allows({ name: 'www.example.org', by: 'http', says: 'WWW.example.org:8080' }), 'as it is sent');
  t.end();
});

t.test('CONNECT is what is no plain request', (t) => {
  const conf = 'acl good dstdomain -n a.com\nacl get method GET\n';
  const only = squid(`${conf}http_access allow CONNECT good\n`);
  t.equal(only.no, '');
  t.ok(only.allows({ name: 'a.com' }));
  t.notOk(only.allows({ name: 'a.com', by: 'http' }));
  t.notOk(only.texts.join('').includes('host:'));
  const plain = squid(`${conf}http_access deny CONNECT\nhttp_access allow good\n`, 'cnp');
  t.match(plain.told, /does not tell TLS from HTTP: a name for one of them may be said in the other, too: wider/);
  t.ok(plain.allows({ name: 'a.com', by: 'http' }));
  t.match(squid(`${conf}http_access allow get good\n`).no, /acl get, method: asks for the method of a request/);
  t.end();
});

t.test('more hosts than an agent takes as expressions', (t) => {
  const names = Array.from({ length: 600 }, (_, i) => `host-${i * 7919}.example.com`);
  const r = squid(
    'acl good dstdomain -n "list.txt"\nhttp_access allow good\n',
    'cilium',
    {},
    { 'list.txt': names.join('\n') },
  );
  t.equal(r.no, '');
  t.match(r.told, /squid\.conf:2: more hosts of HTTP requests than an agent takes as expressions/);
  t.match(r.texts[0], /verify-names: strict/);
  const [name] = names;
  for (const by of ['tls', 'http'] as const) {
    t.ok(r.allows({ name, by }), by);
    t.notOk(r.allows({ name, by, says: 'evil.com' }), by);
  }
  t.notOk(r.allows({ name, by: 'other' }));
  t.end();
});

t.test('names of acls have no case; a line without acls is passed over, and closes here', (t) => {
  const conf = 'acl Bad dstdomain -n a.com\nacl bad dstdomain -n b.com\nacl c dstdomain -n a.com b.com c.com\n';
  const r = squid(`${conf}http_access deny BAD\nhttp_access allow C\n`);
  t.equal(r.no, '');
  t.ok(r.allows({ name: 'c.com' }));
  t.notOk(r.allows({ name: 'a.com' }) || r.allows({ name: 'b.com' }));
  const empty = squid(`${conf}http_access allow\nhttp_access deny\nhttp_access allow c\n`);
  t.match(empty.no, /squid\.conf:4: has no acl: it allows nothing\nsquid\.conf:5: has no acl: it denies always/);
  t.notOk(empty.allows({ name: 'c.com' }));
  t.end();
});

t.test('any-of, all-of, and denies of networks', (t) => {
  const conf = `acl a dstdomain -n .a.com
acl b dstdomain -n .b.com
acl p port 443
acl either any-of a b
acl both all-of a p
acl both all-of b p
acl net dst 203.0.113.0-203.0.113.127
http_access deny net
http_access allow both
http_access allow either !p
http_access deny all
`;
  for (const to of ['cilium', 'cnp', 'calico'] as const) {
    const r = squid(conf, to);
    t.equal(r.no, '', to);
    t.ok(r.allows({ name: 'a.com' }) && r.allows({ name: 'x.b.com', port: 80 }));
    t.notOk(r.allows({ name: 'a.com', to: '203.0.113.127' }));
    t.ok(r.allows({ name: 'a.com', to: '203.0.113.128' }));
  }
  t.match(squid(conf, 'fqdn').no, /squid\.conf:8: denies addresses .* has no deny/);
  t.end();
});

interface Asked {
  readonly name: string | undefined;
  readonly by: Kind;
  readonly to: string;
  readonly port: number;
}

/** Squid's meaning, walked line by line, with a value for each acl that has no equivalent. */
interface Acl {
  readonly name: string;
  readonly text: string;
  readonly holds: (ask: Asked, hours: boolean) => boolean;
}

const label = fc.constantFrom('a', 'b', 'c');
const domain = fc.array(label, { minLength: 1, maxLength: 3 }).map((labels) => `${labels.join('.')}.com`);
const entry = fc.tuple(fc.boolean(), domain).map(([dot, name]) => (dot ? `.${name}` : name));
const acls: fc.Arbitrary<Acl[]> = fc
  .record({
    lists: fc.array(fc.array(entry, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 }),
    net: fc.constantFrom('203.0.113.0/24', '203.0.113.64/26', '0.0.0.0/0'),
    ports: fc.uniqueArray(fc.constantFrom(80, 443, 8080), { minLength: 1 }),
  })
  .map(({ lists, net, ports }) => [
    ...lists.map(
      (list, i): Acl => ({
        name: `d${i}`,
        text: `acl d${i} dstdomain -n ${list.join(' ')}`,
        holds: ({ name }) =>
          name !== undefined &&
          list.some((one) =>
            one.startsWith('.') ? name === one.slice(1) || isBelow(name, one.slice(1)) : name === one,
          ),
      }),
    ),
    {
      name: 'net',
      text: `acl net dst ${net}`,
      holds: ({ to }) => {
        const last = Number(to.split('.')[3]);
        if (net === '0.0.0.0/0') return true;
        return to.startsWith('203.0.113.') && (net.endsWith('/24') || (last >= 64 && last < 128));
      },
    },
    {
      name: 'ports',
      text: `acl ports port ${ports.join(' ')}`,
      holds: ({ port }) => (ports as number[]).includes(port),
    },
    { name: 'hours', text: 'acl hours time M', holds: (_, hours) => hours },
    { name: 'CONNECT', text: '', holds: ({ by }) => by !== 'http' },
    { name: 'all', text: '', holds: () => true },
  ]);

const config = acls.chain((all) =>
  fc.record({
    all: fc.constant(all),
    lines: fc.array(
      fc.record({
        action: fc.constantFrom('allow' as const, 'deny' as const),
        of: fc.array(fc.tuple(fc.nat(all.length - 1), fc.boolean(), fc.boolean()), { minLength: 1, maxLength: 3 }),
      }),
      { maxLength: 6 },
    ),
    to: fc.constantFrom<Target>('cilium', 'cnp', 'calico', 'fqdn'),
  }),
);

const NAMES = [
  undefined,
  'com',
  'a.com',
  'z.a.com',
  'b.a.com',
  'c.b.a.com',
  'a.b.com',
  'x.y.a.b.com',
  'za.com',
  'c.com',
  'far.org',
];
const ADDRESSES = [FAR, '203.0.113.63', '203.0.113.64', '203.0.113.127', '203.0.113.128'];

t.test('random configurations allow no more than Squid does, and as much if nothing is refused', (t) => {
  let exact = 0;
  fc.assert(
    fc.property(config, ({ all, lines, to }) => {
      // An acl that is negated twice is the acl.
      const conf = [
        ...all.map(({ text }) => text),
        ...lines.map(
          ({ action, of }) =>
            `http_access ${action} ${of.map(([i, not, odd]) => `${not ? (odd ? '!!!' : '!') : ''}${all[i]!.name}`).join(' ')}`,
        ),
      ].join('\n');
      const r = squid(conf, to);
      const decides = (ask: Asked, hours: boolean): boolean => {
        for (const { action, of } of lines)
          if (of.every(([i, not]) => all[i]!.holds(ask, hours) !== not)) return action === 'allow';
        return lines.at(-1)?.action === 'deny';
      };
      if (r.refused.length === 0) exact++;
      const fault = (ask: object, what: string) =>
        new Error(`${JSON.stringify(ask)} ${what}\n${conf}\n${r.texts.join('')}${r.no}`);
      // Most languages do not tell TLS from HTTP.
      const may = (ask: Asked) =>
        (to === 'cilium' || ask.by === 'other' ? [ask.by] : (['tls', 'http'] as const)).some((by) =>
          [true, false].every((hours) => decides({ ...ask, by }, hours)),
        );
      for (const name of NAMES)
        for (const address of ADDRESSES)
          for (const port of [80, 443, 444])
            for (const by of name === undefined ? KINDS : (['tls', 'http'] as const)) {
              const ask = { name, by, to: address, port };
              const is = r.allows(ask);
              if (is && !may(ask)) throw fault(ask, 'is allowed');
              if (!is && r.refused.length === 0 && [true, false].some((hours) => decides(ask, hours)))
                throw fault(ask, 'is not allowed');
              if (name === undefined) continue;
              // Who says another name than was looked up is judged by what is said.
              for (const says of ['far.org', 'a.b.com', null])
                if (r.allows({ ...ask, says }) && !may({ ...ask, name: says ?? undefined }))
                  throw fault({ ...ask, says }, 'is allowed');
            }
    }),
    { numRuns: 300 },
  );
  t.ok(exact > 30, `${exact} of them were exact`);
  t.end();
});
