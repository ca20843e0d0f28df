/** A certificate authority that lives as long as a test, and one server certificate of it. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../netns/shell.js';

/** Paths of PEM files. */
export interface Certificates {
  readonly authority: string;
  readonly certificate: string;
  readonly key: string;
  /** SHA-256 of the server's public key, base64, as Chromium asks for it. */
  readonly pin: string;
}

const EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
const DAYS = ['-days', '10'];

/** @param names of the server, and addresses */
export async function makeCertificates(dir: string, names: readonly string[]): Promise<Certificates> {
  const file = (name: string) => join(dir, name);
  const [authority, certificate, key] = ['ca.pem', 'server.pem', 'server.key'].map(file) as [string, string, string];
  const request = ['req', '-x509', ...EC, ...DAYS, '-subj', '/CN=Authority of a test', '-keyout', file('ca.key')];
  await run('openssl', [...request, '-out', authority]);
  await run('openssl', ['req', ...EC, '-subj', '/CN=server', '-keyout', key, '-out', file('server.csr')]);
  const alternative = names.map((name) => `${/^[0-9.]+$/.test(name) ? 'IP' : 'DNS'}:${name}`).join(',');
  writeFileSync(file('extensions'), `subjectAltName=${alternative}\nbasicConstraints=CA:FALSE\n`);
  const signing = ['-CA', authority, '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('extensions')];
  await run('openssl', ['x509', '-req', '-in', file('server.csr'), ...signing, ...DAYS, '-out', certificate]);
  const pin = `openssl pkey -in "$0" -pubout -outform der | openssl dgst -sha256 -binary | openssl base64`;
  return { authority, certificate, key, pin: (await run('sh', ['-c', pin, key])).stdout.trim() };
}
