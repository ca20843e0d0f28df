/**
 * A pod's namespace, found in libcni's cache. The container runtime keeps the result of each interface that a CNI made,
 * with the pod's name, UID and namespace, until it deletes the interface. Only root on the node can write there.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Pod } from '../../../src/identity/snapshot.js';
import { factsOf, listOf, member } from '../../gate/cni/result.js';
import { netnsAt } from '../../netlink/netns.js';
import { type Evidence, type EvidenceSource, isUidOf, type NicFacts, plainPath } from './evidence.js';

/** Directories of results in the cache; the second is that of dockershim and cri-dockerd. */
const RESULTS = ['results', 'cache/results'];
const MAX_BYTES = 1 << 20;

interface Result {
  /** `namespace/name` of the pod. */
  readonly key: string;
  readonly uid: string | undefined;
  readonly netns: string;
  readonly ifname: string;
  readonly facts: NicFacts;
  /** Milliseconds since 1970. */
  readonly writtenAt: number;
}

export class CniCacheEvidence implements EvidenceSource {
  readonly by = 'cni';
  readonly #dirs: readonly string[];
  /** By path. A file's name contains the sandbox's id, so it is written once. */
  #results = new Map<string, Result | 'not ours'>();
  #byPod = new Map<string, Result[]>();

  /** @param dir libcni's cache directory: /var/lib/cni */
  constructor(dir: string) {
    this.#dirs = cacheDirs(dir);
  }

  begin(): void {
    const current = new Map<string, Result | 'not ours'>();
    for (const path of this.#dirs.flatMap(filesIn)) {
      const result = this.#results.get(path) ?? read(path);
      if (result) current.set(path, result);
    }
    this.#results = current;
    this.#byPod = new Map();
    for (const result of current.values()) {
      if (result === 'not ours') continue;
      const list = this.#byPod.get(result.key);
      if (list) list.push(result);
      else this.#byPod.set(result.key, [result]);
    }
  }

  /** Whether the container runtime writes results there. */
  get hasNicFacts(): boolean {
    return this.#byPod.size > 0;
  }

  find(pod: Pod): Evidence | undefined {
    const all = this.#byPod.get(`${pod.namespace}/${pod.name}`) ?? [];
    const own = all.filter((r) => r.uid === undefined || isUidOf(pod, r.uid));
    // The newest first: results that a runtime failed to delete are older.
    for (const latest of own.sort((a, b) => b.writtenAt - a.writtenAt)) {
      const ns = netnsAt(latest.netns);
      if (!ns) continue;
      const nics = new Map(own.filter((r) => r.netns === latest.netns).map((r) => [r.ifname, r.facts]));
      return { ns, by: this.by, sure: latest.uid !== undefined, nics };
    }
    return undefined;
  }
}

/** The directories of results, whether they exist or not. */
export function cacheDirs(dir: string): string[] {
  return RESULTS.map((name) => join(dir, name));
}

function filesIn(dir: string): string[] {
  try {
    return readdirSync(dir).map((name) => join(dir, name));
  } catch {
    return [];
  }
}

/** Parses a file. 'not ours': no result of a pod; undefined: incomplete, as it is being written. */
function read(path: string): Result | 'not ours' | undefined {
  try {
    const { size, mtimeMs } = statSync(path);
    if (size > MAX_BYTES) return 'not ours';
    const cached: unknown = JSON.parse(readFileSync(path, 'utf8'));
    if (member(cached, 'kind') !== 'cniCacheV1') return 'not ours';
    const args = new Map(listOf(cached, 'cniArgs').filter(Array.isArray) as [unknown, unknown][]);
    const text = (value: unknown) => (typeof value === 'string' && value !== '' ? value : undefined);
    const result = member(cached, 'result');
    const ifname = text(member(cached, 'ifName'));
    const [namespace, name, uid] = ['NAMESPACE', 'NAME', 'UID'].map((k) => text(args.get(`K8S_POD_${k}`)));
    // Before libcni 1.2, only the result names the namespace.
    const sandboxes = listOf(result, 'interfaces').map((i) => text(member(i, 'sandbox')));
    const netns = text(member(cached, 'netns')) ?? sandboxes.find((s) => s !== undefined);
    if (namespace === undefined || name === undefined || ifname === undefined || netns === undefined) return 'not ours';
    const facts = factsOf(result, ifname);
    return { key: `${namespace}/${name}`, uid, netns: plainPath(netns), ifname, facts, writtenAt: mtimeMs };
  } catch {
    return undefined;
  }
}
