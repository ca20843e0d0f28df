/** What a connection said, in words. */
import { hostName, saidName } from '../../said/name.js';
import type { SaidInfo } from './types.js';

/** The name of the server that a connection asked for: in a hello, or in an HTTP request. In lower case. */
export function nameIn({ kind, serverName, host }: SaidInfo): string | undefined {
  return kind === 'http' ? hostName(host) : saidName(serverName);
}

/** The URL of an HTTP request; if it names no host, its path. CONNECT has no path. */
export function urlOf({ host, path }: Pick<SaidInfo, 'host' | 'path'>): string {
  return host === '' ? path : `http://${host}${path}`;
}

/** In words: `tls api.example.com`, `quic without a name`, `http GET http://api.example.com/v1`. */
export function saidText(said: SaidInfo): string {
  const more = said.isCut ? '…' : '';
  switch (said.kind) {
    case 'http':
      return said.method === '' ? 'http' : `http ${said.method} ${urlOf(said)}${more}`;
    case 'other':
      return 'neither TLS nor HTTP';
    default:
      return `${said.kind} ${said.serverName || 'without a name'}${more}`;
  }
}
