/** Chooses the connections that are exported, where not all are. */
import { randomInt } from 'node:crypto';
import type { FlowRecord } from '../proto/messages.js';

export class Sampler {
  readonly #allowed: number;
  readonly #denied: number;
  readonly #seed: number;

  /**
   * @param allowed, denied one of so many connections @param seed another choice for another seed: a pod that knew it
   *   could choose ports that are never exported
   */
  constructor(allowed: number, denied: number, seed: number = randomInt(2 ** 32)) {
    this.#allowed = allowed;
    this.#denied = denied;
    this.#seed = seed;
  }

  /**
   * For how many flows this one stands; 0: it is left out. All records of a connection have the same fate, in both
   * directions, as long as its verdict does not change. What Log rules record is never left out.
   */
  stands(record: FlowRecord): number {
    if (record.event === 'log') return 1;
    const isDenied = record.verdict === 'deny' || record.audit_verdict === 'deny';
    const of = isDenied ? this.#denied : this.#allowed;
    return of === 1 || hashOf(record, this.#seed) % of === 0 ? of : 0;
  }
}

/** A hash of the connection: 32 bits. */
function hashOf({ flow }: FlowRecord, seed: number): number {
  const l4 = flow.l4 ?? {};
  const ports = l4.TCP ?? l4.UDP ?? l4.SCTP;
  const one = `${flow.IP?.source ?? ''} ${ports?.source_port ?? 0}`;
  const other = `${flow.IP?.destination ?? ''} ${ports?.destination_port ?? 0}`;
  const text = one < other ? `${one} ${other}` : `${other} ${one}`;
  let h = seed | 0;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
