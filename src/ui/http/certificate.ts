/** The certificate that the server shows: files of a mounted Secret, which are replaced while it runs. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createSecureContext } from 'node:tls';
import { AgentError } from '../../errors.js';

const POLL_MS = 5000;

/** Contents in PEM. */
export interface ServerCertificate {
  readonly cert: Buffer;
  readonly key: Buffer;
}

/**
 * Reads tls.crt and tls.key.
 * @throws AgentError AGENT if one is missing, or they do not fit each other
 */
export function readCertificate(dir: string): ServerCertificate {
  try {
    const files = { cert: readFileSync(join(dir, 'tls.crt')), key: readFileSync(join(dir, 'tls.key')) };
    createSecureContext(files);
    return files;
  } catch (e) {
    throw new AgentError('AGENT', `the certificate in ${dir} cannot be used: ${(e as Error).message}`, {
      where: { file: dir },
      cause: e,
    });
  }
}

/**
 * Looks at the files from time to time. Files that cannot be used change nothing.
 * @param changed called with each new certificate
 * @param trouble called once with each reason why there is none
 * @returns ends it
 */
export function followCertificate(
  dir: string,
  now: ServerCertificate,
  { changed, trouble }: { changed(files: ServerCertificate): void; trouble(message: string): void },
  pollMs = POLL_MS,
): () => void {
  let used = digestOf(now);
  let said = '';
  const timer = setInterval(() => {
    try {
      const files = readCertificate(dir);
      said = '';
      if (digestOf(files) === used) return;
      changed(files);
      used = digestOf(files);
    } catch (e) {
      const { message } = e as Error;
      if (message !== said) trouble(message);
      said = message;
    }
  }, pollMs);
  timer.unref();
  return () => clearInterval(timer);
}

function digestOf({ cert, key }: ServerCertificate): string {
  return createHash('sha256').update(cert).update('\0').update(key).digest('hex');
}
