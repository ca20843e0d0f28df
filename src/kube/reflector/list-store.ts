/**
 * The known objects of one kind, and the changes since the last take(). Events may arrive twice, late, or in the wrong
 * order, and a list may be read while events arrive. All methods are synchronous, so callers see consistent states
 * only.
 */
import type { KubeObject } from '../client/client.js';
import { compareVersions, isOrdered } from './list-versions.js';
import type { ObjectIdentity, WatchEvent } from './watch-events.js';

export type Changes<T> = { all: ReadonlyMap<string, T> } | { changed: ReadonlyMap<string, T | undefined> };

interface Entry<T> {
  uid: string;
  version: string;
  value: T;
}

/** Maximum number of remembered deletions, enough for late events. Each takes about 200 bytes. */
const MAX_GRAVES = 16_384;

export type Applied = 'changed' | 'known' | 'older';

/** The store of one kind. */
export class ListStore<T> {
  readonly #read: (object: KubeObject, key: string) => T;
  readonly #entries = new Map<string, Entry<T>>();
  /** Versions of the deletions since the last list, so that a late event does not restore a deleted object. */
  readonly #graves = new Map<string, string>();
  /** Version of the last list, if it can be compared. Events up to it are part of the list. */
  #floor: string | undefined;
  #changed = new Map<string, T | undefined>();
  #complete = false;
  #taken = false;
  /** Keys that events changed while a list is being read, with the versions of the events. */
  #touched: Map<string, string> | undefined;

  /**
   * @param read called once for each version of each object. If it throws, the caller gets the exception, and the
   * object stays as it was
   */
  constructor(read: (object: KubeObject, key: string) => T) {
    this.#read = read;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Whether a list has been stored. */
  get complete(): boolean {
    return this.#complete;
  }

  /** The changes since the last call; the first call after the first list returns everything. */
  take(): Changes<T> {
    const changed = this.#changed;
    this.#changed = new Map();
    if (!this.#complete || this.#taken) return { changed };
    this.#taken = true;
    return { all: new Map([...this.#entries].map(([key, entry]) => [key, entry.value])) };
  }

  /**
   * Applies one event.
   * @returns `known`: nothing new; `older`: older than the stored state, so the server sends out of order
   */
  apply({ type, object, id }: Extract<WatchEvent, { id: ObjectIdentity }>): Applied {
    const held = this.#entries.get(id.key);
    // Some servers send a deletion with the last version of the object instead of a version of its own.
    const lastVersion = type === 'DELETED' && held?.uid === id.uid && held.version === id.version;
    if (!lastVersion) {
      if ((compareVersions(id.version, this.#floor) ?? 1) <= 0) return 'known';
      const at = held?.version ?? this.#graves.get(id.key);
      if (at === id.version) return 'known';
      const age = compareVersions(id.version, at);
      if (age !== undefined && age < 0) return 'older';
      // Versions that cannot be compared: this is the deletion of a predecessor with the same name and another UID.
      if (age === undefined && type === 'DELETED' && held && held.uid !== id.uid) return 'older';
    }
    if (type === 'DELETED') {
      this.#bury(id);
      if (held) this.#set(id.key, undefined);
    } else {
      const value = this.#read(object, id.key);
      this.#graves.delete(id.key);
      this.#set(id.key, { uid: id.uid, version: id.version, value });
    }
    this.#touched?.set(id.key, id.version);
    return held || type !== 'DELETED' ? 'changed' : 'known';
  }

  /** Begins a list. A list that was begun before is abandoned. */
  beginList(): ListUnderWay {
    const touched = new Map<string, string>();
    const listed = new Map<string, Entry<T>>();
    this.#touched = touched;
    return {
      add: (id, object) => {
        const held = this.#entries.get(id.key);
        const same = held && held.uid === id.uid && held.version === id.version;
        listed.set(id.key, same ? held : { uid: id.uid, version: id.version, value: this.#read(object, id.key) });
      },
      keep: (key) => {
        const held = this.#entries.get(key);
        if (held) listed.set(key, held);
      },
      end: (version) => {
        if (this.#touched !== touched) return false;
        return this.#replace(listed, version, touched);
      },
      abandon: () => {
        if (this.#touched === touched) this.#touched = undefined;
      },
    };
  }

  /**
   * Replaces the objects by those of the list, except for objects that events changed while the list was read: there
   * the event counts if it is newer than the list. (If versions cannot be compared, it is assumed to be newer.)
   */
  #replace(listed: ReadonlyMap<string, Entry<T>>, version: string | undefined, touched: Map<string, string>): boolean {
    let any = !this.#complete;
    const newer = (key: string): boolean => {
      const event = touched.get(key);
      return event !== undefined && (compareVersions(event, version) ?? 1) > 0;
    };
    for (const [key, entry] of listed) {
      const held = this.#entries.get(key);
      if (held === entry || newer(key)) continue;
      if (held && held.uid === entry.uid && held.version === entry.version) continue;
      this.#set(key, entry);
      any = true;
    }
    for (const key of this.#entries.keys()) {
      if (listed.has(key) || newer(key)) continue;
      this.#set(key, undefined);
      any = true;
    }
    this.#complete = true;
    this.#touched = undefined;
    this.#floor = isOrdered(version) ? version : undefined;
    for (const [key, at] of this.#graves) if (!((compareVersions(at, version) ?? -1) > 0)) this.#graves.delete(key);
    return any;
  }

  /**
   * Forgets deletions, because the server's storage was restored to an earlier state: objects that were deleted after
   * that state may exist again.
   */
  forgetGraves(): void {
    this.#graves.clear();
  }

  #set(key: string, entry: Entry<T> | undefined): void {
    if (entry) this.#entries.set(key, entry);
    else this.#entries.delete(key);
    // Before the first take(), nobody needs the single changes.
    if (this.#taken) this.#changed.set(key, entry?.value);
  }

  #bury({ key, version }: ObjectIdentity): void {
    this.#graves.delete(key);
    this.#graves.set(key, version);
    if (this.#graves.size > MAX_GRAVES) this.#graves.delete(this.#graves.keys().next().value as string);
  }
}

export interface ListUnderWay {
  add(id: ObjectIdentity, object: KubeObject): void;
  /** Records that the list contains an object whose new version cannot be read. Its old version stays. */
  keep(key: string): void;
  /**
   * Completes the list, which takes effect at once.
   * @param version the list's version; undefined if it has none
   * @returns whether anything changed, or it was the first list
   */
  end(version: string | undefined): boolean;
  abandon(): void;
}
