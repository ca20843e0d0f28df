/**
 * Network namespaces as files: /run/netns/NAME and /proc/PID/ns/net. One namespace may have many files, and a file may
 * name another namespace later; the kernel reuses inode numbers within milliseconds. So a namespace is identified by
 * its cookie. No file descriptor is kept open: it would keep the namespace alive after the end of its pod.
 */
import { readdirSync, statfsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { withNetlink } from './netlink.js';

/** f_type of nsfs (linux/magic.h). */
const NSFS_MAGIC = 0x6e736673;

export const RUN_NETNS = '/run/netns';

/** A network namespace and one of the files by which to open it. */
export interface Netns {
  /** The namespace's cookie, its identity. */
  readonly id: string;
  readonly path: string;
}

/**
 * Cache of cookies, by inode and its time of change. To read a cookie, the agent must enter the namespace. A file below
 * /run/netns holds the inode: an unchanged time of change proves that it is the same namespace.
 */
const cookies = new Map<string, string>();
const MAX_COOKIES = 4096;

/** Reads a namespace's cookie. Throws if the namespace no longer exists or cannot be entered. */
function cookieAt(path: string): string {
  const s = statSync(path, { bigint: true });
  const inode = `${s.dev}:${s.ino}:${s.ctimeNs}`;
  let cookie = cookies.get(inode);
  if (cookie === undefined) {
    cookie = withNetlink(path, (nl) => nl.cookie());
    // The file may have changed to another namespace between stat and open.
    const restat = statSync(path, { bigint: true });
    if (restat.ino !== s.ino || restat.ctimeNs !== s.ctimeNs) return withNetlink(path, (nl) => nl.cookie());
    if (cookies.size >= MAX_COOKIES) cookies.clear();
    cookies.set(inode, cookie);
  }
  return cookie;
}

/** The namespace that a file names; undefined if there is no file, or it is no namespace. */
export function netnsAt(path: string): Netns | undefined {
  try {
    // `ip netns add` makes an empty file first and mounts the namespace over it.
    if (statfsSync(path).type !== NSFS_MAGIC) return undefined;
    return { id: cookieAt(path), path };
  } catch {
    return undefined;
  }
}

/** The agent's own namespace. */
export function ownNetns(): Netns {
  return { id: withNetlink(undefined, (nl) => nl.cookie()), path: '/proc/self/ns/net' };
}

/** The file that an `egress-agent.io/netns` annotation names: a path, or a name under /run/netns. Throws NETNS. */
export function annotationPath(value: string, runDir = RUN_NETNS): string {
  if (value.startsWith('/')) return resolve(value);
  if (value === '' || value === '.' || value === '..' || value.includes('/')) {
    throw new AgentError('NETNS', `"${value}" is neither an absolute path nor a name under ${runDir}`);
  }
  return join(runDir, value);
}

/**
 * All network namespaces that have a file, each once: first those under /run/netns, whose
 * names outlive processes, then those of processes. Other containers' processes are visible
 * only in the host's PID namespace.
 */
export function listNamespaces(opts: { runDir?: string; procDir?: string } = {}): Netns[] {
  const out = new Map<string, Netns>();
  for (const ns of namedNamespaces(opts.runDir)) if (!out.has(ns.id)) out.set(ns.id, ns);
  for (const { ns } of processNamespaces(opts.procDir)) if (!out.has(ns.id)) out.set(ns.id, ns);
  return [...out.values()];
}

/** Namespaces with a name. An administrator or a container runtime gave it: pods cannot write to that directory. */
export function namedNamespaces(runDir = RUN_NETNS): Netns[] {
  let names: string[] = [];
  try {
    names = readdirSync(runDir).sort();
  } catch {
    // No such directory: no named namespaces.
  }
  return names.flatMap((name) => netnsAt(join(runDir, name)) ?? []);
}

/** How containerd (`cni-` and a UUID) and CRI-O (a UUID) name the namespaces that they make. */
const RUNTIME_NAME = /^(cni-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Whether a container runtime gave the namespace its name. */
export function isRuntimeNamed(ns: Netns): boolean {
  return RUNTIME_NAME.test(basename(ns.path));
}

/** Processes with their namespaces, except those that have ended or whose namespace the agent may not read. */
export function processNamespaces(procDir = '/proc'): { pid: string; ns: Netns }[] {
  const out: { pid: string; ns: Netns }[] = [];
  // These inodes are not held, so the cache of cookies does not apply. During one listing, a number means one
  // namespace.
  const idByInode = new Map<string, string>();
  for (const pid of readdirSync(procDir)) {
    if (!/^[0-9]+$/.test(pid)) continue;
    const path = join(procDir, pid, 'ns/net');
    try {
      const s = statSync(path);
      const inode = `${s.dev}:${s.ino}`;
      const id = idByInode.get(inode) ?? cookieAt(path);
      idByInode.set(inode, id);
      out.push({ pid, ns: { id, path } });
    } catch {
      // The process has ended.
    }
  }
  return out;
}
