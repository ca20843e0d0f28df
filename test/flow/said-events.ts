/** struct ea_said_event as the programs write it, of shop/web (endpoint 1, 10.0.0.1). */
import { SAID_EVENT_SIZE } from '../../src/flow/event/said.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { parseAddr } from '../../src/net/addr.js';

const E = STRUCTS.ea_said_event.fields;
const K = STRUCTS.ea_flow_key.fields;

export interface ReportedSaid {
  readonly kind: number;
  /** One byte a character. */
  readonly text: string;
  readonly remote?: string;
  readonly verdict?: number;
  readonly auditVerdict?: number;
  readonly rule?: bigint;
  readonly auditRule?: bigint;
  readonly reason?: number;
  readonly quic?: boolean;
  /** Of the text, if the event says another one than is true. */
  readonly length?: number;
}

export function saidEvent(reported: ReportedSaid): Buffer {
  const b = Buffer.from(new ArrayBuffer(SAID_EVENT_SIZE));
  const { kind, text, remote = '203.0.113.10', quic = false } = reported;
  const { rule = 0n, auditRule = 0n, verdict = ENUMS.ea_verdict.EA_VERDICT_ALLOW, auditVerdict = 0 } = reported;
  const payload = Buffer.from(text, 'latin1');
  b.writeBigUInt64LE(1000n * 10n ** 9n, E.time_ns.offset);
  b.writeBigUInt64LE(rule, E.rule.offset);
  b.writeBigUInt64LE(auditRule, E.audit_rule.offset);
  b.writeUInt32LE(7, E.ifindex.offset);
  b.writeUInt16LE(reported.length ?? payload.length, E.length.offset);
  b[E.kind.offset] = kind;
  b[E.family.offset] = remote.includes(':') ? 6 : 4;
  b[E.verdict.offset] = verdict;
  b[E.audit_verdict.offset] = auditVerdict;
  b[E.reason.offset] = reported.reason ?? ENUMS.ea_reason.EA_REASON_RULE;
  b[E.quic.offset] = quic ? 1 : 0;
  const key = E.flow.offset;
  b.set(parseAddr('10.0.0.1').bytes, key + K.local.offset);
  b.set(parseAddr(remote).bytes, key + K.remote.offset);
  b.writeUInt16BE(40000, key + K.local_port.offset);
  b.writeUInt16BE(443, key + K.remote_port.offset);
  b.writeUInt32LE(1, key + K.endpoint.offset);
  b[key + K.protocol.offset] = quic ? 17 : 6;
  payload.copy(b, E.text.offset, 0, ENUMS.ea_said_sizes.EA_SAID_EVENT_BYTES);
  return b;
}
