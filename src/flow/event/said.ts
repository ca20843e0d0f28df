/** Decodes struct ea_said_event: what a connection said of itself, and the verdict on it. */
import { ENUMS, STRUCTS } from '../../image/layout.gen.js';
import { REASONS, u64, viewOf } from './decode.js';
import { VERDICTS } from './kind.js';
import { layer7Event } from './layer7.js';
import type { FlowEvent, SaidInfo } from './types.js';

const E = STRUCTS.ea_said_event.fields;
const { EA_SAID_TLS, EA_SAID_HTTP } = ENUMS.ea_said;
const { EA_SAID_EVENT_BYTES, EA_SAID_SHORT_BYTES } = ENUMS.ea_said_sizes;

/** Size of struct ea_said_event in bytes. */
export const SAID_EVENT_SIZE = STRUCTS.ea_said_event.size;
/** Size of one with a short text: the same, cut off. */
export const SHORT_SAID_EVENT_SIZE = E.text.offset + EA_SAID_SHORT_BYTES;

/** @param buf holds struct ea_said_event at `at`; not kept */
export function decodeSaid(buf: Buffer, at: number): { event: FlowEvent; said: SaidInfo } {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  const length = v.getUint16(o + E.length.offset, true);
  const isDenied = v.getUint8(o + E.verdict.offset) === ENUMS.ea_verdict.EA_VERDICT_DENY;
  const event = layer7Event(buf, at, E, {
    type: 'said',
    auditVerdict: VERDICTS[v.getUint8(o + E.audit_verdict.offset)] ?? 'none',
    auditRule: u64(v, o + E.audit_rule.offset),
    reason: REASONS[v.getUint8(o + E.reason.offset)] ?? 'none',
    drops: isDenied ? 1 : 0,
  });
  const from = at + E.text.offset;
  const text = printable(buf.toString('latin1', from, from + Math.min(length, EA_SAID_EVENT_BYTES)));
  const kind = v.getUint8(o + E.kind.offset);
  const isCut = length > EA_SAID_EVENT_BYTES;
  const quic = v.getUint8(o + E.quic.offset) !== 0;
  return { event, said: { ...NOTHING, ...contentOf(kind, text, quic), isCut } };
}

const NOTHING = { serverName: '', method: '', host: '', path: '' };

function contentOf(kind: number, text: string, quic: boolean): Pick<SaidInfo, 'kind'> & Partial<SaidInfo> {
  if (kind === EA_SAID_TLS) return { kind: quic ? 'quic' : 'tls', serverName: text.toLowerCase() };
  if (kind !== EA_SAID_HTTP) return { kind: 'other' };
  const [method = '', host = '', ...path] = text.split(' ');
  return { kind: 'http', method, host, path: path.join(' ') };
}

/**
 * Printable ASCII as it is, every other byte and the backslash as `\xNN`: a pod says what it likes, and whoever reads
 * flows may show it on a terminal.
 */
function printable(text: string): string {
  return text.replace(/[^ -[\]-~]/g, (c) => `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
