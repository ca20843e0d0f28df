/** Certificates, made with the openssl command line. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AgentError } from '../errors.js';
import { AGENT_SERVER_NAME, type TlsFiles } from '../rpc/tls.js';

const run = promisify(execFile);

/** Who has a certificate. The agents only serve, and so theirs opens no other agent. */
const HOLDERS = {
  agent: { use: 'serverAuth', names: (ns: string) => [AGENT_SERVER_NAME, `egress-agent.${ns}.svc`] },
  relay: {
    use: 'serverAuth,clientAuth',
    names: (ns: string) => [RELAY_SERVER_NAME, `egress-relay.${ns}.svc`, 'egress-relay'],
  },
  client: { use: 'clientAuth', names: () => [] },
} as const;

export type Holder = keyof typeof HOLDERS;
export const RELAY_SERVER_NAME = 'egress-relay.egress-system.svc';

/** Three years. */
const DAYS = 1095;
const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/**
 * A CA and a certificate for each holder. The CA's key is gone when this returns: nobody can sign more.
 * @throws AgentError AGENT where openssl is missing or fails
 */
export async function makeCertificates(namespace: string, days = DAYS): Promise<Record<Holder, TlsFiles>> {
  // Mode 0700.
  const dir = await mkdtemp(join(tmpdir(), 'egress-certs-'));
  const openssl = async (...args: string[]) => {
    try {
      await run('openssl', args, { cwd: dir, timeout: 60_000 });
    } catch (e) {
      const { code, stderr, message } = e as Error & { code?: unknown; stderr?: string };
      throw new AgentError('AGENT', code === 'ENOENT' ? 'openssl is not installed' : `openssl: ${stderr || message}`);
    }
  };
  try {
    const extensions = ['-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign'];
    const validity = ['-days', String(days)];
    await openssl(
      ...['req', '-x509', ...KEY, '-keyout', 'ca.key', '-out', 'ca.crt', '-subj', '/CN=egress-agent CA'],
      ...validity,
      ...extensions,
    );
    const ca = await readFile(join(dir, 'ca.crt'));
    const make = async (holder: Holder): Promise<TlsFiles> => {
      const { use, names } = HOLDERS[holder];
      const own = names(namespace);
      const alternatives = own.length === 0 ? [] : [...new Set([...own, 'localhost'])].map((n) => `DNS:${n}`);
      const lines = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature'];
      lines.push(`extendedKeyUsage=${use}`);
      if (alternatives.length > 0) lines.push(`subjectAltName=${[...alternatives, 'IP:127.0.0.1'].join(',')}`);
      await writeFile(join(dir, `${holder}.ext`), `${lines.join('\n')}\n`);
      const [key, request, cert] = [`${holder}.key`, `${holder}.csr`, `${holder}.crt`];
      await openssl('req', ...KEY, '-keyout', key, '-out', request, '-subj', `/CN=egress-${holder}`);
      await openssl(
        ...['x509', '-req', '-in', request, '-CA', 'ca.crt', '-CAkey', 'ca.key', '-CAcreateserial'],
        ...['-out', cert, '-extfile', `${holder}.ext`, ...validity],
      );
      return { ca, cert: await readFile(join(dir, cert)), key: await readFile(join(dir, key)) };
    };
    return { agent: await make('agent'), relay: await make('relay'), client: await make('client') };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
