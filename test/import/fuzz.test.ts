/** Whatever the bytes are: a result, or an error that names the file. Never more than the source allows. */
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import { importLists } from '../../src/import/index.js';
import { SOURCES, TARGETS, type Source } from '../../src/import/names.js';
import fc from '../seeded.js';
import { Bed, SUBJECT } from './bed.js';

t.setTimeout(600_000);
const bed = new Bed(t);
bed.write('good.txt', '.one.com\ntwo.com\n');

const SAMPLES: Readonly<Record<Source, readonly string[]>> = {
  squid: [
    `acl localnet src 10.0.0.0/8
acl Safe_ports port 80 443 1025-65535 # web
acl good dstdomain -n .example.com \\
  www.example.org "good.txt"
acl sni ssl::server_name --server-provided .example.net
acl net dst 203.0.113.0/255.255.255.0 10.0.0.1-10.0.0.9
acl tunnel method CONNECT
acl either any-of good net
http_access deny !Safe_ports
http_access deny CONNECT !good
http_access allow localnet either !net
http_access allow !tunnel good net
ssl_bump peek all
ssl_bump terminate !sni
http_access deny all
`,
  ],
  'aws-network-firewall': [
    JSON.stringify({
      RuleGroup: {
        RuleVariables: {
          IPSets: { HOME_NET: { Definition: ['10.0.0.0/8', '!10.1.0.0/16'] } },
          PortSets: { P: { Definition: ['80'] } },
        },
        StatefulRuleOptions: { RuleOrder: 'STRICT_ORDER' },
        RulesSource: {
          RulesSourceList: {
            Targets: ['.example.com', 'a.org'],
            TargetTypes: ['TLS_SNI', 'HTTP_HOST'],
            GeneratedRulesType: 'ALLOWLIST',
          },
          StatefulRules: [
            {
              Action: 'PASS',
              Header: {
                Protocol: 'TCP',
                Source: '$HOME_NET',
                SourcePort: 'ANY',
                Direction: 'FORWARD',
                Destination: '[203.0.113.0/24,!203.0.113.9]',
                DestinationPort: '[$P,8000:8001]',
              },
              RuleOptions: [{ Keyword: 'sid', Settings: ['1'] }],
            },
          ],
          RulesString:
            'pass tls $HOME_NET any -> any [443, 8443] (tls.sni; dotprefix; content:".b.com"; nocase; endswith; msg:"x\\"y;"; sid:1;)\npass http any any -> [203.0.113.0/24] 80 (http.host; content:"c.com"; startswith; endswith; sid:3;)\ndrop tls any any -> any any (sid:4;)\ndrop ip any any -> any any (sid:2;)\n',
        },
      },
    }),
  ],
  istio: [
    `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: e, namespace: shop}
spec:
  hosts: [a.com, "*.b.com"]
  addresses: [192.168.0.0/24]
  exportTo: ["*"]
  ports: [{number: 443, name: https, protocol: TLS}, {number: 5432, protocol: TCP, targetPort: 1}, {number: 80, protocol: HTTP}, {number: 81, protocol: GRPC}]
  endpoints: [{address: 203.0.113.1, ports: {https: 8443}}, {address: c.com}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: s, namespace: shop}
spec: {workloadSelector: {labels: {app: web}}, egress: [{hosts: ["./*", "other/*.b.com"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: f, namespace: shop}
spec: {hosts: ["*.b.com"], addresses: [203.0.113.0/28], ports: [{number: 8443, protocol: HTTPS}], resolution: NONE}
---
outboundTrafficPolicy: {mode: ALLOW_ANY}
`,
  ],
  'route53-dns-firewall': [
    JSON.stringify({
      FirewallDomainList: { Id: 'l1' },
      Domains: ['*.a.com', 'b.com.', '*'],
      FirewallRules: [
        { FirewallDomainListId: 'l1', Priority: 1, Action: 'ALLOW', Qtype: 'A' },
        {
          FirewallDomainListId: { 'Fn::GetAtt': ['L', 'Id'] },
          Priority: 2,
          Action: 'BLOCK',
          BlockResponse: 'OVERRIDE',
        },
      ],
      Resources: { L: { Properties: { Domains: ['c.com'] } } },
    }),
  ],
};

function tried(from: Source, bytes: Uint8Array, target: number): void {
  const file = bed.write('input', bytes);
  try {
    const { proof } = importLists(from, [file], TARGETS[target % TARGETS.length]!, SUBJECT);
    if (proof.wide !== undefined) throw new Error(`wider: ${proof.wide}`);
  } catch (e) {
    if (!(e instanceof AgentError)) throw e;
    if (!['MANIFEST', 'TOO_LARGE', 'USAGE'].includes(e.code)) throw e;
    if (!e.message.includes(bed.dir) && e.where.file === undefined && e.code !== 'USAGE')
      throw new Error(`names no file: ${e.message}`);
  }
}

const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  cut: fc.nat(12),
  put: fc.oneof(
    fc.uint8Array({ maxLength: 4 }),
    fc
      .constantFrom(
        '!',
        '"',
        '[',
        ']',
        '{',
        '}',
        ',',
        ':',
        '*',
        '.',
        '..',
        '-1',
        '99999999999',
        '$',
        '\\',
        '\n',
        '#',
        '/',
        'null',
        '1e999',
        '\u0000',
        '::',
        '***',
      )
      .map((s) => Buffer.from(s)),
  ),
});

for (const from of SOURCES) {
  t.test(`${from}: mutated files`, (t) => {
    for (const sample of SAMPLES[from]) {
      tried(from, Buffer.from(sample), 0);
      fc.assert(
        fc.property(fc.array(change, { minLength: 1, maxLength: 5 }), fc.nat(3), (changes, target) => {
          let bytes = Buffer.from(sample);
          for (const { at, cut, put } of changes) {
            const from = Math.floor(at * bytes.length);
            bytes = Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(from + cut)]);
          }
          tried(from, bytes, target);
        }),
        { numRuns: 400 },
      );
    }
    t.pass('no crash');
    t.end();
  });

  t.test(`${from}: random bytes`, (t) => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(3), (bytes, target) => {
        tried(from, bytes, target);
      }),
      { numRuns: 200 },
    );
    t.pass('no crash');
    t.end();
  });
}

t.test('what would grow is bounded', (t) => {
  const refused = (from: Source, text: string) =>
    t.throws(
      () => importLists(from, [bed.write('input', text)], 'cilium', SUBJECT),
      { code: /^(TOO_LARGE|MANIFEST)$/ },
      text.slice(0, 40),
    );
  refused('aws-network-firewall', '['.repeat(100_000));
  refused('route53-dns-firewall', `${'{"a":'.repeat(1000)}1${'}'.repeat(1000)}`);
  refused('istio', `a: &a [x]\nb: &b [${'*a,'.repeat(200)}]\n`);
  const chain = Array.from(
    { length: 12 },
    (_, i) => `acl x${i} any-of x${i + 1} !x${i + 1} y${i}\nacl y${i} dst 10.${i}.0.0/16 a${i}.b\n`,
  ).join('');
  refused('squid', `${chain}acl x12 dstdomain a.com\nhttp_access allow x0\nhttp_access allow ${'x0 '.repeat(50)}\n`);
  const loop = importLists(
    'squid',
    [bed.write('input', 'acl a any-of b\nacl b any-of a\nhttp_access allow a\n')],
    'cilium',
    SUBJECT,
  );
  t.match(loop.refused[0]?.message, /is made of acls more than 16 deep/);
  t.end();
});
