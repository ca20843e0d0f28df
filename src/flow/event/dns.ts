/** Decodes struct ea_dns_event: a DNS query or answer, as an event of its connection. */
import { ENUMS, STRUCTS } from '../../image/layout.gen.js';
import { type DnsMessage, readMessage, taughtBy, typeName } from '../../names/message.js';
import { REASONS, u64, viewOf } from './decode.js';
import { enumNames } from './kind.js';
import { layer7Event } from './layer7.js';
import type { DnsInfo, FlowEvent } from './types.js';

const E = STRUCTS.ea_dns_event.fields;
const { EA_DNS_EVENT_BYTES } = ENUMS.ea_dns_event_size;

/** Size of struct ea_dns_event in bytes. */
export const DNS_EVENT_SIZE = STRUCTS.ea_dns_event.size;

export type DnsEventKind = 'refused' | 'withheld' | 'asked' | 'answered' | 'untrusted';
const KINDS = enumNames(ENUMS.ea_dns_event_kind, 'EA_DNS_') as DnsEventKind[];

/** Header and counts of a DNS message. */
const HEADER = 12;
const COUNTS = 6;

/** @param buf holds struct ea_dns_event at `at`; not kept */
export function decodeDns(buf: Buffer, at: number): { kind: DnsEventKind; event: FlowEvent; dns: DnsInfo } {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  const kind = KINDS[v.getUint8(o + E.kind.offset)] ?? 'untrusted';
  const length = v.getUint32(o + E.length.offset, true);
  const answered = kind === 'answered' || kind === 'untrusted';
  const askedNs = u64(v, o + E.asked_ns.offset);
  const event = layer7Event(buf, at, E, {
    type: 'dns',
    reason: kind === 'refused' ? (REASONS[v.getUint8(o + E.reason.offset)] ?? 'none') : REASON[kind],
    hook: answered ? 'to-pod' : 'from-pod',
    isReply: answered,
    drops: kind === 'refused' || kind === 'withheld' ? 1 : 0,
    length,
  });
  const from = at + E.bytes.offset;
  const bytes = Buffer.from(buf.subarray(from, from + Math.min(length, EA_DNS_EVENT_BYTES)));
  return { kind, event, dns: infoOf(bytes, answered, askedNs > 0 ? Math.max(event.timeNs - askedNs, 0) : 0) };
}

/** Reasons of what no rule decided. */
const REASON = {
  withheld: 'withheld-record',
  asked: 'query',
  answered: 'answer',
  untrusted: 'untrusted-answer',
  refused: 'rule',
} as const;

function infoOf(bytes: Buffer, isAnswer: boolean, latencyNs: number): DnsInfo {
  const message = readMessage(bytes) ?? readQuestion(bytes);
  const taught = message ? taughtBy(message) : [];
  const ips = [...new Set(taught.map((a) => a.address))];
  const cnames = message?.answers.flatMap((r) => (r.target === undefined ? [] : [r.target])) ?? [];
  const ttls = taught.map((a) => a.ttl);
  return {
    query: message?.question.name ?? '',
    isRead: message !== undefined,
    queryType: message ? typeName(message.question.type) : '',
    isAnswer,
    rcode: message?.rcode ?? 0,
    ips,
    cnames,
    ttl: ttls.length === 0 ? 0 : ttls.reduce((least, ttl) => Math.min(least, ttl)),
    recordTypes: [...new Set(message?.answers.map((r) => typeName(r.type)))],
    latencyNs,
  };
}

/** The question of a message whose records were not copied, or are malformed. */
function readQuestion(bytes: Buffer): DnsMessage | undefined {
  if (bytes.length < HEADER) return undefined;
  const copy = Buffer.from(bytes);
  copy.fill(0, COUNTS, HEADER);
  return readMessage(copy);
}
