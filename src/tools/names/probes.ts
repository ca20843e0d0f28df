/** Packets with names: to an address that was learned for some, or asking for one. */
import type { LearnedName, Packet } from '../../ir/packet.js';
import { hasPorts } from '../../net/protocol.js';
import { type NameKinds, namesTogether } from './kinds.js';

/** A packet, and the names that its sender learned for its destination. */
export interface Probe extends Packet {
  readonly names?: readonly LearnedName[];
}

/** The packet as it is, to an address with names, and as a query. */
export function* withNames(packet: Packet, kinds: NameKinds): Generator<Probe> {
  const together = namesTogether(kinds);
  for (const names of together) yield names.length === 0 ? packet : { ...packet, names };
  if (packet.fragment || !hasPorts(packet.protocol)) return;
  for (const query of kinds.queries)
    for (const names of together.filter((one) => one.length < 2))
      yield names.length === 0 ? { ...packet, query } : { ...packet, query, names };
}
