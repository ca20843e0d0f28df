/** The files of an export, with certificates and with headers: read for each connection, since they are rotated. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { AgentError } from '../../errors.js';
import { type OtlpSpec, parseHeader, type TlsFiles } from '../base/spec.js';

export interface TlsOptions {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly servername?: string;
  readonly minVersion: 'TLSv1.2';
  readonly rejectUnauthorized: true;
}

/** @param host whose name the certificate must have, unless the files say another @throws if a file cannot be read */
export function tlsOptions({ ca, cert, key, serverName }: TlsFiles, host: string): TlsOptions {
  const name = serverName ?? (isIP(host) === 0 ? host : undefined);
  return {
    ...(ca === undefined ? {} : { ca: readFileSync(ca) }),
    ...(cert === undefined ? {} : { cert: readFileSync(cert) }),
    ...(key === undefined ? {} : { key: readFileSync(key) }),
    ...(name === undefined ? {} : { servername: name }),
    minVersion: 'TLSv1.2',
    // Whatever the environment says.
    rejectUnauthorized: true,
  };
}

/** The headers of requests, in lower case. @throws AgentError USAGE naming the line, never what is in it */
export function headersOf({ headers, headersFile }: OtlpSpec): Record<string, string> {
  const all = Object.fromEntries(headers);
  if (headersFile === undefined) return all;
  for (const [i, line] of readFileSync(headersFile, 'utf8').split(/\r?\n/).entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue;
    const colon = line.indexOf(':');
    const header = colon > 0 ? parseHeader(line.slice(0, colon), line.slice(colon + 1)) : undefined;
    if (!header) throw new AgentError('USAGE', `${headersFile}: line ${i + 1} is not a header of HTTP`);
    all[header[0]] = header[1];
  }
  return all;
}
