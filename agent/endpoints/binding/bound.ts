/**
 * The bindings, in memory and on disk. A pod stays bound to its namespace and interfaces as long as those exist, even
 * if its addresses, names and links change. The file spares the next agent from relying on what the pod itself shows,
 * which the pod could have changed to get another pod's policy.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { Problem } from '../../../src/errors.js';
import type { By } from '../evidence/evidence.js';
import type { Netns } from '../../netlink/netns.js';

/** Name of the file in the run directory. Its fields are those of Nic and BoundPod. */
export const BOUND_FILE = 'bound.json';

/** One interface of a pod. */
export interface Nic {
  /** Index of the node's end; the kernel does not reuse it while this device exists. */
  readonly ifindex: number;
  /** Index of the pod's end, when it was first seen. */
  readonly podIfindex: number;
  readonly podIfname: string;
  /** MAC of the pod's end; '' if it could not be read. */
  mac: string;
  /** The MAC is final, from the interface's creation: changes by the pod do not count. */
  settled: boolean;
  /** Addresses that the interface's creator reported; undefined: it reported none. */
  given: readonly string[] | undefined;
  /** The interface has, or had, an address of the pod's status. */
  main: boolean;
  /** The interface's own addresses count, as no other source has them: for a network beside the cluster's. */
  followed: boolean;
  /** Addresses of the pod's end at the last reading. */
  ips: readonly string[];
}

export interface BoundPod {
  readonly uid: string;
  /** `namespace/name` */
  readonly key: string;
  ns: Netns;
  by: By;
  /** By the index of the node's end. */
  readonly nics: Map<number, Nic>;
}

interface SavedState {
  /** The boot and the namespace in which the indices and cookies are valid. */
  readonly of: string;
  readonly pods: readonly (Omit<BoundPod, 'nics'> & { readonly nics: readonly Nic[] })[];
}

export class BoundPods {
  readonly #path: string | undefined;
  readonly #pods = new Map<string, BoundPod>();
  #scope = '';
  #savedText = '';

  /** @param path of the file; undefined: nothing is saved */
  constructor(path?: string) {
    this.#path = path;
  }

  /** Reads the bindings of an earlier agent since the last boot. An unreadable file counts as missing. */
  load(own: Netns): void {
    this.#scope = `${bootId()} ${own.id}`;
    if (this.#path === undefined) return;
    try {
      const saved = JSON.parse(readFileSync(this.#path, 'utf8')) as SavedState;
      if (saved.of !== this.#scope) return;
      for (const pod of saved.pods) {
        this.#pods.set(pod.uid, { ...pod, nics: new Map(pod.nics.map((nic) => [nic.ifindex, nic])) });
      }
    } catch {
      // Missing or incomplete: pods are bound as if they were new.
      this.#pods.clear();
    }
  }

  get(uid: string): BoundPod | undefined {
    return this.#pods.get(uid);
  }

  set(bound: BoundPod): void {
    this.#pods.set(bound.uid, bound);
  }

  delete(uid: string): void {
    this.#pods.delete(uid);
  }

  all(): Iterable<BoundPod> {
    return [...this.#pods.values()];
  }

  /** Writes the file if something has changed. @returns a problem if that failed */
  save(): Problem[] {
    if (this.#path === undefined) return [];
    const pods = [...this.#pods.values()].map((b) => ({ ...b, nics: [...b.nics.values()] }));
    const text = JSON.stringify({ of: this.#scope, pods } satisfies SavedState);
    if (text === this.#savedText) return [];
    try {
      writeFileSync(`${this.#path}.new`, text, { mode: 0o600 });
      renameSync(`${this.#path}.new`, this.#path);
      this.#savedText = text;
      return [];
    } catch (e) {
      const message = `cannot be written: ${(e as Error).message}`;
      return [
        { severity: 'warning', where: { file: this.#path }, message, hint: 'the next agent has to find the pods anew' },
      ];
    }
  }
}

function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return '';
  }
}
