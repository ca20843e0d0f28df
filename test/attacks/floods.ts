/**
 * Attacks on what the node remembers: one pod fills it. The judge is a neighbour: what it has going on goes on, what it
 * begins is judged at once, and what is remembered of it is remembered (flood-bed.ts).
 */
import type { Attack } from './attack.js';
import { attack as acceptedFlood } from './accepted-flood.js';
import { attack as deniedFlood } from './denied-flood.js';
import { attack as dropFlood } from './drop-flood.js';
import { attack as echoFlood } from './echo-flood.js';
import { attack as fragmentFlood } from './fragment-flood.js';
import { attack as partialFlood } from './partial-flood.js';
import { attack as saidTaken } from './said-taken.js';
import { attack as selfFlood } from './self-flood.js';
import { attack as serviceFlood } from './service-flood.js';
import { attack as synFlood } from './syn-flood.js';

export const FLOODS: readonly Attack[] = [
  acceptedFlood,
  deniedFlood,
  dropFlood,
  echoFlood,
  fragmentFlood,
  partialFlood,
  saidTaken,
  selfFlood,
  serviceFlood,
  synFlood,
];
