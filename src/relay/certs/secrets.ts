/** Stores the certificates as Secrets. They are made if they are missing or expire soon, and kept otherwise. */
import { X509Certificate } from 'node:crypto';
import { AgentError } from '../../errors.js';
import { type KubeClient, KubeError, type KubeObject } from '../../kube/client/client.js';
import type { Logger } from '../../log.js';
import { checkTls, type TlsFiles } from '../../rpc/transport/tls.js';
import type { Holder } from './holders.js';

export const SECRETS: Readonly<Record<Holder, string>> = {
  agent: 'egress-agent-tls',
  relay: 'egress-relay-tls',
  client: 'egress-client-tls',
  ui: 'egress-ui-tls',
};

/** Certificates that expire within this time are made anew, in milliseconds. */
const RENEW_MS = 30 * 24 * 3600_000;

function pathOf(namespace: string, name?: string): string {
  const base = `/api/v1/namespaces/${encodeURIComponent(namespace)}/secrets`;
  return name === undefined ? base : `${base}/${encodeURIComponent(name)}`;
}

/** Reads a certificate. @throws KubeError, AgentError AGENT if the Secret has an unexpected form */
export async function readSecret(client: KubeClient, namespace: string, name: string): Promise<TlsFiles> {
  const { data } = await client.request<KubeObject & { data?: Record<string, unknown> }>(
    'GET',
    pathOf(namespace, name),
  );
  const part = (key: string) => {
    const value = data?.[key];
    if (typeof value !== 'string') throw new AgentError('AGENT', `Secret ${namespace}/${name} has no ${key}`);
    return Buffer.from(value, 'base64');
  };
  return checkTls({ ca: part('ca.crt'), cert: part('tls.crt'), key: part('tls.key') }, `Secret ${namespace}/${name}`);
}

/**
 * Makes sure that all certificates exist. They are of one CA, whose key is discarded: if one is missing, all are
 * made.
 * @returns whether they were made
 * @throws KubeError, AgentError AGENT
 */
export async function ensureCertificates(opts: {
  client: KubeClient;
  namespace: string;
  rotate: boolean;
  log: Logger;
  now?: number;
}): Promise<boolean> {
  const { client, namespace, log } = opts;
  const lacking = await whatIsWrong(client, namespace, opts.now ?? Date.now());
  if (lacking === undefined && !opts.rotate) {
    log.info('the certificates are there', { namespace });
    return false;
  }
  log.info('making certificates', { namespace, reason: lacking ?? 'rotation' });
  // Loaded on demand: the library is large, and not needed to read certificates.
  const { makeCertificates } = await import('./certificates.js');
  const made = await makeCertificates(namespace);
  for (const holder of Object.keys(SECRETS) as Holder[]) {
    await write(client, namespace, SECRETS[holder], made[holder]);
    log.info('written', { secret: `${namespace}/${SECRETS[holder]}` });
  }
  return true;
}

async function whatIsWrong(client: KubeClient, namespace: string, now: number): Promise<string | undefined> {
  const cas = new Set<string>();
  for (const name of Object.values(SECRETS)) {
    let files: TlsFiles;
    try {
      files = await readSecret(client, namespace, name);
    } catch (e) {
      if (e instanceof KubeError && e.status === 404) return `there is no ${name}`;
      if (e instanceof AgentError) return e.message;
      throw e;
    }
    for (const pem of [files.ca, files.cert]) {
      if (Date.parse(new X509Certificate(pem).validTo) - now < RENEW_MS) return `${name} expires within 30 days`;
    }
    cas.add(files.ca.toString('latin1'));
  }
  return cas.size > 1 ? 'they are of different CAs' : undefined;
}

/** Writes or replaces a Secret. Certificates of two CAs would not accept each other. */
async function write(client: KubeClient, namespace: string, name: string, files: TlsFiles): Promise<void> {
  const data = { 'ca.crt': files.ca, 'tls.crt': files.cert, 'tls.key': files.key };
  const body = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace, labels: { 'app.kubernetes.io/part-of': 'egress-agent' } },
    type: 'kubernetes.io/tls',
    data: Object.fromEntries(Object.entries(data).map(([key, pem]) => [key, pem.toString('base64')])),
  };
  try {
    await client.request('POST', pathOf(namespace), { body });
  } catch (e) {
    if (!(e instanceof KubeError) || e.status !== 409) throw e;
    await client.request('PUT', pathOf(namespace, name), { body });
  }
}
