/** Certificates as Secrets: made once, kept, made anew before they end. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import t from 'tap';
import { KubeClient } from '../../src/kube/client/client.js';
import { makeCertificates } from '../../src/relay/certs/certificates.js';
import { ensureCertificates, readSecret, SECRETS } from '../../src/relay/certs/secrets.js';
import { Api } from './api.js';
import { quiet } from './world.js';

t.setTimeout(60_000);
const DAY = 24 * 3600_000;

t.test('what is made', async (t) => {
  const made = await makeCertificates('elsewhere', 3);
  const read = (pem: Buffer) => new X509Certificate(pem);
  const ca = read(made.agent.ca);
  t.ok(ca.ca);
  for (const files of Object.values(made)) {
    t.ok(read(files.cert).verify(ca.publicKey), 'signed by the CA');
    t.notOk(read(files.cert).ca, 'which nobody else is');
    const days = (Date.parse(read(files.cert).validTo) - Date.now()) / DAY;
    t.ok(days > 2.9 && days <= 3, `${days} days`);
  }
  t.equal(read(made.agent.cert).checkHost('egress-agent.egress-system.svc'), 'egress-agent.egress-system.svc');
  t.match(
    read(made.relay.cert).subjectAltName,
    /DNS:egress-relay\.egress-system\.svc, DNS:egress-relay\.elsewhere\.svc/,
  );
  t.match(read(made.agent.cert).subjectAltName, /DNS:localhost, IP Address:127\.0\.0\.1/);
  t.equal(new Set(Object.values(made).map((f) => f.key.toString())).size, 4, 'each has a key of its own');
});

t.test('what each certificate may be used for', async (t) => {
  const made = await makeCertificates('elsewhere', 3);
  const read = (pem: Buffer) => new X509Certificate(pem);
  const ca = read(made.agent.ca);
  const [server, client] = ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'];
  t.same(read(made.agent.cert).keyUsage, [server], 'an agent opens no other agent');
  t.same(read(made.relay.cert).keyUsage, [server, client]);
  t.same(read(made.ui.cert).keyUsage, [server, client]);
  t.same(read(made.client.cert).keyUsage, [client], 'a reader serves nothing');
  t.equal(read(made.client.cert).subjectAltName, undefined);
  t.ok(ca.checkIssued(ca), 'the CA is its own issuer');
  const all = [ca, ...Object.values(made).map((f) => read(f.cert))];
  for (const cert of all) {
    t.same(cert.publicKey.asymmetricKeyDetails, { namedCurve: 'prime256v1' });
    // RFC 5280, 4.1.2.2: positive, 20 bytes at most.
    t.match(cert.serialNumber, /^[4-7][0-9A-F]{31}$/);
    t.ok(Date.parse(cert.validFrom) <= Date.now());
  }
  t.equal(new Set(all.map((cert) => cert.serialNumber)).size, 5);
  for (const { cert, key } of Object.values(made)) {
    t.ok(read(cert).checkPrivateKey(createPrivateKey(key)));
    t.ok(read(cert).checkIssued(ca));
  }
});

t.test('in a cluster', async (t) => {
  const api = new Api();
  await api.listen();
  const client = new KubeClient(api.config);
  t.teardown(() => {
    client.close();
    api.close();
  });
  const namespace = 'egress-system';
  const ensure = (over: { rotate?: boolean; now?: number } = {}) =>
    ensureCertificates({ client, namespace, rotate: false, log: quiet, ...over });
  const path = (name: string) => `/api/v1/namespaces/${namespace}/secrets/${name}`;
  const agent = async () => (await readSecret(client, namespace, SECRETS.agent)).cert.toString();

  t.equal(await ensure(), true, 'none there: made');
  t.same([...api.objects.keys()].sort(), Object.values(SECRETS).map(path).sort());
  t.match(api.objects.get(path(SECRETS.agent)), { type: 'kubernetes.io/tls', metadata: { namespace } });
  const first = await agent();
  api.seen.length = 0;
  t.equal(await ensure(), false, 'all there: kept');
  t.ok(
    api.seen.every((line) => line.startsWith('GET ')),
    'nothing is written',
  );
  t.equal(await ensure({ now: Date.now() + (1095 - 31) * DAY }), false, '31 days before the end: kept');
  t.equal(await agent(), first);
  t.equal(await ensure({ now: Date.now() + (1095 - 29) * DAY }), true, '29 days before the end: made anew');
  const second = await agent();
  t.not(second, first);

  api.objects.delete(path(SECRETS.client));
  t.equal(await ensure(), true, 'one is missing: all are made, for the CA has no key');
  const cas = await Promise.all(Object.values(SECRETS).map(async (s) => (await readSecret(client, namespace, s)).ca));
  t.equal(new Set(cas.map(String)).size, 1, 'all are of one CA');

  const secret = api.objects.get(path(SECRETS.relay)) as { data: Record<string, string> };
  api.objects.set(path(SECRETS.relay), { ...secret, data: { ...secret.data, 'tls.key': 'bm9uZQ==' } });
  t.equal(await ensure(), true, 'one is broken');
  const third = await agent();
  api.seen.length = 0;
  t.equal(await ensure({ rotate: true }), true, 'rotated');
  const names = Object.values(SECRETS).flatMap((name) => [`GET ${path(name)}`, `PUT ${path(name)}`]);
  const asked = [...names, `POST /api/v1/namespaces/${namespace}/secrets`];
  t.same(
    api.seen.filter((line) => !asked.includes(line)),
    [],
    'what its Role allows: its own Secrets by name, and to create',
  );
  t.not(await agent(), third);

  api.forbidden.add(path(SECRETS.agent));
  await t.rejects(ensure(), { message: /403/ }, 'what may not be read is not overwritten');
});
