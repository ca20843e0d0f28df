/** What an attack is: a value of its own file. The judge is which bytes arrive outside; nothing that we say of them. */
import type { At } from './at.js';

export type Style = 'ptp' | 'bridge';
export type Hook = 'tcx' | 'tc';
export type Family = 4 | 6;

export interface Attack {
  /** As the file's name. */
  name: string;
  /** One plain sentence: what the pod tries. */
  tries: string;
  /** Where it makes sense; everywhere if not given. */
  styles?: readonly Style[];
  families?: readonly Family[];
  /** It takes all of the machine: no other one runs beside it. */
  alone?: boolean;
  /** Manifests in force meanwhile; those of the bed (bed.ts) if not given. */
  policies?: (place: (name: string) => string) => readonly object[];
  /** Sends. Called once for each form of interface and family, with its own markers. */
  run: (at: At) => Promise<void>;
}

/** A marker that must not arrive. */
export interface Forbidden {
  marker: Buffer;
  variant: string;
  /** Where arriving counts; everywhere if not given. */
  counts: (arrival: Arrival) => boolean;
  /** Why it may arrive all the same, as SECURITY.md says: what arrives is measured. */
  limit?: string;
}

/** A marker that must arrive, or the attack is a broken test. */
export interface Control {
  marker: Buffer;
  variant: string;
  place: string;
}

export interface Arrival {
  place: string;
  device: string;
  /** Link-layer header first, at most 512 bytes. */
  frame: Buffer;
  /** Of all frames with this marker there, of which this is one. */
  bytes: number;
}
