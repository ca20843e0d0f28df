/**
 * The kind of an event, from three of its bytes. It is enough to reject most events that do not pass a reader's filter.
 */
import { ENUMS, STRUCTS } from '../../image/layout.gen.js';
import type { EventType, FlowEvent, FlowVerdict } from './types.js';

const E = STRUCTS.ea_event.fields;

export type Kind = Pick<FlowEvent, 'type' | 'verdict' | 'auditVerdict'>;

/** Names of the enumerators in bpf/types.h by value: `EA_REASON_NO_POLICY` → `no-policy`. */
export function enumNames(values: Readonly<Record<string, number>>, prefix: string): string[] {
  const out: string[] = [];
  for (const [name, value] of Object.entries(values))
    out[value] = name.slice(prefix.length).toLowerCase().replaceAll('_', '-');
  return out;
}

export const TYPES = enumNames(ENUMS.ea_event_type, 'EA_EVENT_') as EventType[];
export const VERDICTS = enumNames(ENUMS.ea_verdict, 'EA_VERDICT_') as FlowVerdict[];

/** Number of values of a byte that are distinguished. */
const SPAN = 8;

/** Kinds by the number that eventKind() returns, decoded like decodeEvent() does. */
export const KINDS: readonly Kind[] = Array.from({ length: SPAN ** 3 }, (_, n) => ({
  type: TYPES[Math.floor(n / SPAN ** 2)] ?? 'drop',
  verdict: VERDICTS[Math.floor(n / SPAN) % SPAN] ?? 'none',
  auditVerdict: VERDICTS[n % SPAN] ?? 'none',
}));

/** The number of an event's kind; -1 if a byte has an unknown value. @param buf holds struct ea_event at `at` */
export function eventKind(buf: Buffer, at: number): number {
  const type = buf[at + E.type.offset] as number;
  const verdict = buf[at + E.verdict.offset] as number;
  const audit = buf[at + E.audit_verdict.offset] as number;
  return (type | verdict | audit) < SPAN ? (type * SPAN + verdict) * SPAN + audit : -1;
}
