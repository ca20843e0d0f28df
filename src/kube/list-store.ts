/**
 * The objects of one kind as far as they are known, and what changed since somebody looked. Events may come twice, late, or in the
 * wrong order; a list may have been taken while events came in. Nothing here waits: whoever looks sees whole states only.
 */
import type { KubeObject } from './client.js';
import { compareVersions, isOrdered } from './list-versions.js';
import type { ObjectIdentity, WatchEvent } from './watch-events.js';

export type Changes<T> = { all: ReadonlyMap<string, T> } | { changed: ReadonlyMap<string, T | undefined> };

interface Entry<T> {
  uid: string;
  version: string;
  value: T;
}

/** Enough for what a server may deliver late; each costs about 200 bytes. */
const MAX_GRAVES = 16_384;

export type Applied = 'changed' | 'known' | 'older';

export class ListStore<T> {
  readonly #read: (object: KubeObject, key: string) => T;
  readonly #entries = new Map<string, Entry<T>>();
  /** Versions of the deletions since the last list: what was deleted must not rise from a late event. */
  readonly #graves = new Map<string, string>();
  /** The last list's version, if it can be compared: events up to it are part of it. */
  #floor: string | undefined;
  #changed = new Map<string, T | undefined>();
  #complete = false;
  #taken = false;
  /** Keys that events changed while a list is under way, with the version of the event. */
  #touched: Map<string, string> | undefined;

  /** @param read called once for each version of each object; what it throws goes to the caller, and the object stays as it was */
  constructor(read: (object: KubeObject, key: string) => T) {
    this.#read = read;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** A list has been taken in. */
  get complete(): boolean {
    return this.#complete;
  }

  /** What changed since the last call; everything at the first one after the first list. */
  take(): Changes<T> {
    const changed = this.#changed;
    this.#changed = new Map();
    if (!this.#complete || this.#taken) return { changed };
    this.#taken = true;
    return { all: new Map([...this.#entries].map(([key, entry]) => [key, entry.value])) };
  }

  /**
   * Takes one event in.
   * @returns `known`: it says nothing new; `older`: it is older than what is held, so the server sends out of order
   */
  apply({ type, object, id }: Extract<WatchEvent, { id: ObjectIdentity }>): Applied {
    const held = this.#entries.get(id.key);
    // Some servers delete with the version that the object had last, and not with that of the deletion.
    const lastVersion = type === 'DELETED' && held?.uid === id.uid && held.version === id.version;
    if (!lastVersion) {
      if ((compareVersions(id.version, this.#floor) ?? 1) <= 0) return 'known';
      const at = held?.version ?? this.#graves.get(id.key);
      if (at === id.version) return 'known';
      const age = compareVersions(id.version, at);
      if (age !== undefined && age < 0) return 'older';
      // Versions that cannot be compared: the deletion of another object that had the name, whose successor is held.
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

  /** Begins a list; one at a time. A list that is begun while another is under way takes its place. */
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
   * The list is right, but for what events changed while it was under way: there the event is right if it is newer than the list. (Where
   * versions cannot be compared it is taken to be.)
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

  /** The server went back in time (its storage was restored): what was buried later than it knows may be there again. */
  forgetGraves(): void {
    this.#graves.clear();
  }

  #set(key: string, entry: Entry<T> | undefined): void {
    if (entry) this.#entries.set(key, entry);
    else this.#entries.delete(key);
    // Before the first look it gets everything anyway.
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
  /** Lists an object as it is held: its newer version cannot be read. */
  keep(key: string): void;
  /**
   * The list is complete: it takes effect, at once.
   * @param version the list's; undefined where it has none
   * @returns whether anything changed, or it was the first
   */
  end(version: string | undefined): boolean;
  abandon(): void;
}
