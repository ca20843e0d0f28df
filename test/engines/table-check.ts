/** What always holds in the flow table, whatever has been sent: for every test that has one, and for a process that looks on while others send. */
import type { FlowMemory } from '../../agent/events/flow-table.js';
import * as L from '../../src/image/layout.gen.js';

const { ea_entry: E, ea_flow_key: K, ea_flow: F } = L.STRUCTS;
const { EA_WAYS } = L.ENUMS.ea_table;
const { EA_ENTRY_LOCKED, EA_ENTRY_VALID } = L.ENUMS.ea_entry_state;
const VERDICTS: readonly number[] = Object.values(L.ENUMS.ea_verdict);
const KINDS: readonly number[] = Object.values(L.ENUMS.ea_kind);

/**
 * @param quiet no packet flies: then counts and tags are right too, not only entries
 * @returns what does not hold
 */
export function checkTable(table: FlowMemory, quiet = true): string[] {
  const wrong: string[] = [];
  const keys = new Map<string, number>();
  const held = new Map<number, number>();
  const entry = Buffer.alloc(E.size);
  const say = (slot: number, what: string) => wrong.push(`entry ${slot}: ${what}`);
  for (let slot = 0; slot < table.capacity; slot++) {
    const seen = table.read(slot, entry);
    if (!seen) {
      if (quiet && (table.state(slot) & EA_ENTRY_VALID) === 0 && table.tag(slot) !== 0) say(slot, 'free, and tagged');
      if (quiet && (table.state(slot) & EA_ENTRY_LOCKED) !== 0) say(slot, 'locked by nobody');
      continue;
    }
    const key = entry.subarray(0, K.size);
    const flow = entry.subarray(E.fields.flow.offset);
    const { buckets, tag } = table.locate(key);
    if (!buckets.includes(Math.floor(slot / EA_WAYS))) say(slot, 'its key belongs elsewhere: half an entry');
    if (quiet && table.tag(slot) !== tag) say(slot, 'another tag');
    if (!VERDICTS.includes(flow[F.fields.verdict.offset] as number)) say(slot, 'no verdict');
    if (!KINDS.includes(flow[F.fields.kind.offset] as number)) say(slot, 'no kind');
    const name = key.toString('latin1');
    if (quiet && keys.has(name)) say(slot, `the same key as entry ${keys.get(name)}`);
    keys.set(name, slot);
    const payer = table.payer(slot);
    held.set(payer, (held.get(payer) ?? 0) + 1);
  }
  for (const [payer, entries] of quiet ? held : []) {
    if (table.holdings(payer) !== entries)
      wrong.push(`endpoint ${payer} holds ${entries}, not ${table.holdings(payer)}`);
  }
  return wrong;
}
