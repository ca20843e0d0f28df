/** Makes certificates in this process, so that no key is ever in a file. */
import { randomBytes, webcrypto } from 'node:crypto';
// The library finds its parts through metadata of classes.
import 'reflect-metadata';
import * as x509 from '@peculiar/x509';
import { AGENT_SERVER_NAME, type TlsFiles } from '../../rpc/transport/tls.js';
import { RELAY_SERVER_NAME } from '../nodes/names.js';
import type { Holder } from './holders.js';

const { serverAuth, clientAuth } = x509.ExtendedKeyUsage;

/** Agents are servers only, so an agent's certificate gives no access to other agents. */
const HOLDERS: Readonly<Record<Holder, { uses: string[]; names: (ns: string) => string[] }>> = {
  agent: { uses: [serverAuth], names: (ns) => [AGENT_SERVER_NAME, `egress-agent.${ns}.svc`] },
  relay: {
    uses: [serverAuth, clientAuth],
    names: (ns) => [RELAY_SERVER_NAME, `egress-relay.${ns}.svc`, 'egress-relay'],
  },
  client: { uses: [clientAuth], names: () => [] },
  // It asks the relay, and shows itself to browsers.
  ui: { uses: [serverAuth, clientAuth], names: (ns) => [`egress-ui.${ns}.svc`, 'egress-ui'] },
};

/** Three years. */
const DAYS = 1095;
const DAY_MS = 24 * 3600_000;
const KEY = { name: 'ECDSA', namedCurve: 'P-256' } as const;
const SIGNATURE = { name: 'ECDSA', hash: 'SHA-256' } as const;

/** Makes a CA and a certificate for each holder. The CA's key is discarded, so nobody can sign further certificates. */
export async function makeCertificates(namespace: string, days = DAYS): Promise<Record<Holder, TlsFiles>> {
  // Certificates have times in whole seconds.
  const notBefore = new Date(Math.floor(Date.now() / 1000) * 1000);
  const validity = { notBefore, notAfter: new Date(notBefore.getTime() + days * DAY_MS) };
  const keys = await webcrypto.subtle.generateKey(KEY, false, ['sign', 'verify']);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    ...validity,
    serialNumber: serialNumber(),
    name: [{ CN: ['egress-agent CA'] }],
    signingAlgorithm: SIGNATURE,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const make = async (holder: Holder): Promise<TlsFiles> => {
    const { uses, names } = HOLDERS[holder];
    const own = await webcrypto.subtle.generateKey(KEY, true, ['sign', 'verify']);
    const extensions: x509.Extension[] = [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(uses),
      await x509.SubjectKeyIdentifierExtension.create(own.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
    ];
    const alternatives = names(namespace);
    if (alternatives.length > 0) extensions.push(alternativeNames(alternatives));
    const cert = await x509.X509CertificateGenerator.create({
      ...validity,
      serialNumber: serialNumber(),
      subject: [{ CN: [`egress-${holder}`] }],
      issuer: ca.subjectName,
      signingAlgorithm: SIGNATURE,
      signingKey: keys.privateKey,
      publicKey: own.publicKey,
      extensions,
    });
    const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', own.privateKey), 'PRIVATE KEY');
    return { ca: pem(ca.toString('pem')), cert: pem(cert.toString('pem')), key: pem(key) };
  };
  return {
    agent: await make('agent'),
    relay: await make('relay'),
    client: await make('client'),
    ui: await make('ui'),
  };
}

function alternativeNames(names: readonly string[]): x509.Extension {
  const dns = [...new Set([...names, 'localhost'])].map((value) => ({ type: 'dns', value }) as const);
  return new x509.SubjectAlternativeNameExtension([...dns, { type: 'ip', value: '127.0.0.1' }]);
}

/** A positive number with 126 random bits, in 16 bytes of hexadecimal digits. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] as number) & 0x3f) | 0x40;
  return bytes.toString('hex');
}

function pem(text: string): Buffer {
  return Buffer.from(`${text.trimEnd()}\n`);
}
