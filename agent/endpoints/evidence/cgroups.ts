/**
 * A pod's namespace, found by the cgroups of its processes. kubelet names them by the pod's UID, and a process cannot
 * leave them without write access to the node's cgroup file system. Needs the host's PID namespace, and CAP_SYS_PTRACE
 * to read the namespaces of processes.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '../../../src/identity/snapshot.js';
import { type Netns, processNamespaces } from '../../netlink/netns.js';
import type { Evidence, EvidenceSource, Surroundings } from './evidence.js';

/** `pod<uid>` (cgroupfs), `kubepods-burstable-pod<uid with underscores>.slice` (systemd); 32 digits: a static pod's. */
const POD = /^(?:[a-z0-9]+-)*pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?$/;

/**
 * The UID of the pod in whose cgroup a process runs.
 * @param text of /proc/PID/cgroup, as seen from the node's cgroup namespace or from another pod's, where paths begin
 * with `/..`
 */
export function podOfCgroup(text: string): string | undefined {
  for (const line of text.split('\n')) {
    // hierarchy:controllers:path
    const path = line.split(':').slice(2).join(':');
    let kubelets = path.startsWith('/../');
    for (const part of path.split('/')) {
      kubelets ||= part.includes('kubepods');
      const uid = POD.exec(part)?.[1];
      // The outermost counts: a pod could create one below, named with another pod's UID.
      if (uid !== undefined) {
        if (kubelets) return uid.replaceAll('_', '-');
        break;
      }
    }
  }
  return undefined;
}

interface InhabitedNamespace {
  readonly ns: Netns;
  /** The pod of its oldest process: later ones may be guests from elsewhere. undefined: no pod's process. */
  readonly uid: string | undefined;
  /** When that process started, in clock ticks since the boot. */
  readonly startTicks: number;
}

export class CgroupEvidence implements EvidenceSource {
  readonly by = 'cgroup';
  readonly costly = true;
  readonly #procDir: string;
  #surroundings: Surroundings | undefined;
  #scanned: readonly InhabitedNamespace[] | undefined;

  constructor(procDir = '/proc') {
    this.#procDir = procDir;
  }

  begin(surroundings: Surroundings): void {
    this.#surroundings = surroundings;
    this.#scanned = undefined;
  }

  /** Containers may have further namespaces: the sandbox's has a veth to the node, and the pod's oldest process. */
  find(pod: Pod): Evidence | undefined {
    const all = this.#namespaces().filter((n) => n.uid === pod.uid);
    const connected = all.filter((n) => this.#surroundings?.leadsHere(n.ns));
    const [oldest] = (connected.length > 0 ? connected : all).sort((a, b) => a.startTicks - b.startTicks);
    return oldest && { ns: oldest.ns, by: this.by, sure: true };
  }

  owners(): readonly { ns: Netns; uid: string | undefined }[] {
    return this.#namespaces();
  }

  #namespaces(): readonly InhabitedNamespace[] {
    this.#scanned ??= this.#scan();
    return this.#scanned;
  }

  #scan(): readonly InhabitedNamespace[] {
    const out = new Map<string, InhabitedNamespace>();
    for (const { pid, ns } of processNamespaces(this.#procDir)) {
      if (ns.id === this.#surroundings?.own.id) continue;
      const since = this.#startTicks(pid);
      const existing = out.get(ns.id);
      if (since === undefined || (existing && existing.startTicks <= since)) continue;
      out.set(ns.id, { ns, uid: this.#podOf(pid), startTicks: since });
    }
    return [...out.values()];
  }

  #startTicks(pid: string): number | undefined {
    const text = this.#read(pid, 'stat');
    // The second field is a name in brackets, which may contain blanks; starttime is the 22nd field.
    const since = Number(text?.slice(text.lastIndexOf(')') + 2).split(' ')[19]);
    return Number.isFinite(since) ? since : undefined;
  }

  #podOf(pid: string): string | undefined {
    const text = this.#read(pid, 'cgroup');
    return text === undefined ? undefined : podOfCgroup(text);
  }

  #read(pid: string, file: string): string | undefined {
    try {
      return readFileSync(join(this.#procDir, pid, file), 'utf8');
    } catch {
      return undefined; // The process has ended.
    }
  }
}
