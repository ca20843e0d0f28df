import t from 'tap';
import { parseAllDocuments } from 'yaml';
import { bench } from './tool.js';

t.setTimeout(300_000);
const { ctl, write } = bench(t);
write(
  'squid.conf',
  'acl localnet src 10.0.0.0/8\nacl good dstdomain -n "good.txt"\nacl https port 443\nhttp_access allow localnet good https\nhttp_access deny all\n',
);
write('good.txt', '.example.com\napi.example.org\n');
const ARGS = ['import', '--from', 'squid', 'squid.conf', '--namespace', 'shop', '--pod-selector', 'app=web,tier=front'];

t.test('as YAML', (t) => {
  const r = ctl(...ARGS, '--to', 'cilium', '--assume', 'localnet=yes', '--name', 'proxy');
  t.equal(r.code, 0, r.err);
  t.equal(
    r.out,
    `---
# from squid.conf (squid)
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: proxy
  namespace: shop
spec:
  endpointSelector:
    matchLabels:
      app: web
      tier: front
  enableDefaultDeny:
    egress: true
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: "53"
              protocol: ANY
          rules:
            dns:
              - matchPattern: "*"
    - toFQDNs:
        - matchPattern: "**.example.com"
        - matchName: api.example.org
        - matchName: example.com
      toPorts:
        - ports:
            - port: "443"
              protocol: TCP
          serverNames:
            - "**.example.com"
            - api.example.org
            - example.com
        - ports:
            - port: "443"
              protocol: TCP
          rules:
            http:
              - host: ([-a-zA-Z0-9_]+\\.)+(?i:example\\.com)(:[0-9]{1,5})?
              - host: (?i:api\\.example\\.org)(:[0-9]{1,5})?
              - host: (?i:example\\.com)(:[0-9]{1,5})?
`,
  );
  t.match(r.err, /^note squid\.conf: Squid judges the name in a request/m);
  t.match(r.err, /^note squid\.conf:5: DNS to the pods k8s-app=kube-dns of kube-system is allowed/m);
  t.match(r.err, /^1 object, 0 refused; \d+ packets compared$/m);
  write('made/policy.yaml', r.out);
  t.match(ctl('validate', 'made'), { code: 0 });
  t.end();
});

t.test('in every language, read again by validate', (t) => {
  for (const to of ['cnp', 'calico', 'fqdn']) {
    const r = ctl(
      ...ARGS,
      '--to',
      to,
      '--assume',
      'localnet=yes',
      '--dns',
      '169.254.20.10',
      '--dns',
      'dns/app=unbound',
    );
    t.equal(r.code, to === 'fqdn' ? 1 : 0, r.err);
    write(`${to}/policy.yaml`, r.out);
    t.match(ctl('validate', to), { code: 0 }, to);
    t.match(r.out, /169\.254\.20\.10\/32/);
    t.match(r.out, /unbound/);
    t.match(r.out, /\n {4}egress-agent\.io\/verify-names: strict\n/);
  }
  t.end();
});

t.test('as JSON, with what is refused', (t) => {
  const r = ctl(...ARGS, '--to', 'calico', '-o', 'json');
  t.equal(r.code, 1);
  const { objects, refused, notes, proof } = JSON.parse(r.out);
  t.equal(objects.length, 1);
  t.match(refused, [
    {
      where: { file: 'squid.conf', line: 4 },
      message: /acl localnet, src: .*: it allows nothing/,
      hint: /--assume localnet=yes/,
    },
  ]);
  t.ok(notes.length > 0 && proof.packets > 0);
  t.match(r.err, /^refused squid\.conf:4: acl localnet/m);
  t.end();
});

t.test('for a whole cluster', (t) => {
  const kinds = (to: string) =>
    parseAllDocuments(ctl('import', '--from', 'squid', 'squid.conf', '--to', to, '--assume', 'localnet=yes').out).map(
      (d) => d.toJS().kind,
    );
  t.same(kinds('cilium'), ['CiliumClusterwideNetworkPolicy']);
  t.same(kinds('calico'), ['GlobalNetworkPolicy']);
  t.same(kinds('cnp'), ['ClusterNetworkPolicy']);
  t.match(ctl('import', '--from', 'squid', 'squid.conf', '--to', 'fqdn'), {
    code: 2,
    err: /--to fqdn needs --namespace/,
  });
  t.end();
});

t.test('wrong usage, and files that cannot be read', (t) => {
  for (const [args, err] of [
    [['--to', 'cilium', '--name', 'A'], /lower-case letters/],
    [['--to', 'cilium', '--pod-selector', 'app'], /must be labels/],
    [['--to', 'cilium', '--dns', 'nowhere'], /must be an address, or namespace\/label=value/],
    [['--to', 'cilium', '--assume', 'x'], /must end with =yes or =no/],
    [['--to', 'cilium', '--assume', 'x=yes'], /--assume x: no rule asks for that/],
    [['--to', 'cilium', '--priority', '-1'], /number from 0 to 1000/],
    [['--to', 'nginx'], /Allowed choices/],
    [[], /--to <language>' not specified/],
  ] as const)
    t.match(ctl('import', '--from', 'squid', 'squid.conf', ...args), { code: 2, out: '', err });
  t.match(ctl('import', '--from', 'squid', 'missing.conf', '--to', 'cilium'), {
    code: 1,
    err: /^egressctl: missing\.conf cannot be read: ENOENT/,
  });
  write('list.json', '{"Domains": [}');
  t.match(ctl('import', '--from', 'route53-dns-firewall', 'list.json', '--to', 'cilium'), {
    code: 1,
    err: /list\.json:1 cannot be read as JSON/,
  });
  t.match(ctl('import', '--help'), { code: 0, out: /What has no equivalent allows nothing/ });
  t.end();
});

t.test('a long list', (t) => {
  const names = Array.from({ length: 8000 }, (_, i) => `${i % 2 ? '.' : ''}host${i}.d${i % 97}.example.com`);
  write('good.txt', `${names.join('\n')}\n`);
  const r = ctl(...ARGS, '--to', 'cilium', '--assume', 'localnet=yes');
  t.equal(r.code, 0, r.err);
  t.equal(parseAllDocuments(r.out).length, 3);
  t.match(r.err, /packets compared, with \d+ of \d+ names/);
  t.end();
});
