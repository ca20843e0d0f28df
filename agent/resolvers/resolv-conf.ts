/** resolv.conf files: the node's, and those of pods, which a pod may write as it likes. */
import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { tryCanonicalAddr } from '../../src/net/addr.js';

/** Largest file that is read; a resolver has three nameservers (resolv.conf(5)). */
const MAX_BYTES = 16_384;
const MAX_SERVERS = 8;

/**
 * Where the node's own may be seen: as PID 1 sees it, if the agent sees the node's processes; otherwise the agent's own.
 * systemd-resolved names itself by a loopback address in the first file, and the real nameservers in the second.
 */
const NODE_FILES = [
  ['/proc/1/root/etc/resolv.conf', '/proc/1/root/run/systemd/resolve/resolv.conf'],
  ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'],
] as const;

/** The nameservers that a file names: canonical addresses, without zones. */
export function parseResolvConf(text: string): string[] {
  const out: string[] = [];
  for (const line of text.split('\n')) {
    const [, address] = /^\s*nameserver\s+([^\s#;]+)/.exec(line) ?? [];
    // A link-local nameserver needs an interface, which an address alone does not tell.
    const ip = address === undefined || address.includes('%') ? undefined : tryCanonicalAddr(address);
    if (ip !== undefined && !out.includes(ip) && out.length < MAX_SERVERS) out.push(ip);
  }
  return out;
}

/** open(2): finds a file without opening it. Node.js has no name for it. */
const O_PATH = 0x200000;

/**
 * Reads a file that somebody else may have replaced by anything: it never blocks, and opens no device, some of which act
 * when they are opened (a watchdog, a tape). undefined: there is no such file.
 */
export function readSmallFile(path: string): string | undefined {
  let found: number | undefined;
  let fd: number | undefined;
  try {
    found = openSync(path, O_PATH);
    if (!fstatSync(found).isFile()) return undefined;
    fd = openSync(`/proc/self/fd/${found}`, constants.O_RDONLY | constants.O_NONBLOCK);
    const buffer = Buffer.alloc(MAX_BYTES);
    return buffer.toString('utf8', 0, readSync(fd, buffer, 0, MAX_BYTES, 0));
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
    if (found !== undefined) closeSync(found);
  }
}

/** The node's nameservers, without loopback addresses: packets to those are not seen by any hook. */
export function nodeNameservers(files: readonly (readonly string[])[] = NODE_FILES): string[] {
  for (const [main, behind] of files) {
    const text = main === undefined ? undefined : readSmallFile(main);
    if (text === undefined) continue;
    const named = parseResolvConf(text);
    const real = behind === undefined || named.some((ip) => !isLoopback(ip)) ? '' : (readSmallFile(behind) ?? '');
    return [...new Set([...named, ...parseResolvConf(real)])].filter((ip) => !isLoopback(ip));
  }
  return [];
}

function isLoopback(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1' || ip === '::' || ip === '0.0.0.0';
}
