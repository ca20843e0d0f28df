/** Items as messages of syslog (RFC 5424). */
import { hostname } from 'node:os';
import type { Timestamp } from '../../proto/messages.js';
import { safe } from '../../safe.js';
import { rfc3339 } from '../../flow/json.js';
import { bounded, factsOf, lineOf } from '../base/facts.js';
import { type FieldValue, type Fields, flowFields, lostFields, lostLine, sumFields, sumLine } from '../base/fields.js';
import type { Item } from '../base/item.js';
import type { Outcome, Sink } from '../base/sink.js';
import type { SyslogSpec } from '../base/spec.js';

/** Sends messages. */
export interface SyslogTransport {
  send(batch: readonly Buffer[], signal: AbortSignal): Promise<Outcome>;
  close(): Promise<void> | void;
}

const BATCH = 256;
const BATCH_BYTES = 256 << 10;
const LINGER_MS = 100;

const SEVERITY = { warning: 4, notice: 5, info: 6 } as const;
const APP = 'egress-agent';
/** A text that is not ASCII begins with it (MSG-UTF8). */
const BOM = Buffer.from([0xef, 0xbb, 0xbf]);
/** Least bytes of the text at the end; parameters give way to it. */
const LEAST_TEXT = 160;

export class SyslogSink implements Sink<Buffer> {
  readonly most = BATCH;
  readonly mostBytes = BATCH_BYTES;
  readonly lingerMs = LINGER_MS;
  readonly #spec: Pick<SyslogSpec, 'facility' | 'enterprise' | 'most'>;
  readonly #transport: SyslogTransport;

  constructor(spec: Pick<SyslogSpec, 'facility' | 'enterprise' | 'most'>, transport: SyslogTransport) {
    this.#spec = spec;
    this.#transport = transport;
  }

  encode(item: Item): Buffer {
    switch (item.kind) {
      case 'flow': {
        const { record, time, node_name } = { ...item.response };
        const facts = factsOf(record);
        const severity = severityOf(record.verdict, record.audit_verdict);
        return this.#message(
          'FLOW',
          severity,
          { time, node: node_name },
          flowFields(item, facts),
          lineOf(record, facts),
        );
      }
      case 'lost': {
        const { time, node_name } = item.response;
        return this.#message('LOST', SEVERITY.warning, { time, node: node_name }, lostFields(item), lostLine(item));
      }
      case 'sum': {
        const { sum, node } = item;
        const severity = severityOf(sum.verdict, sum.auditVerdict);
        return this.#message('SUM', severity, { time: sum.last, node }, sumFields(item), sumLine(item));
      }
    }
  }

  sizeOf(message: Buffer): number {
    return message.length + 128;
  }

  write(batch: readonly Buffer[], signal: AbortSignal): Promise<Outcome> {
    return this.#transport.send(batch, signal);
  }

  close(): Promise<void> | void {
    return this.#transport.close();
  }

  #message(
    id: string,
    severity: number,
    { time, node }: { time: Timestamp | undefined; node: string | undefined },
    fields: Fields,
    text: string,
  ): Buffer {
    const { facility, enterprise, most } = this.#spec;
    const head = `<${facility * 8 + severity}>1 ${timeOf(time)} ${hostOf(node)} ${APP} ${process.pid} ${id} [egress@${enterprise}`;
    // Parameters are in the order of their importance: those that do not fit are left out, whole.
    let room =
      most - Buffer.byteLength(head) - '] '.length - Math.min(Buffer.byteLength(text) + BOM.length, LEAST_TEXT);
    let data = '';
    for (const [name, value] of fields) {
      const param = ` ${name.replace(/^egress\./, '')}="${escaped(value)}"`;
      const size = Buffer.byteLength(param);
      if (size > room) break;
      room -= size;
      data += param;
    }
    const front = Buffer.from(`${head}${data}] `);
    return Buffer.concat([front, textOf(text, most - front.length)]);
  }
}

/** Microseconds: RFC 5424 has no finer time. */
function timeOf(time: Timestamp | undefined): string {
  const text = rfc3339(time);
  return text === undefined ? '-' : `${text.slice(0, 26)}Z`;
}

/** HOSTNAME: printable ASCII, 255 characters at most. */
function hostOf(node: string | undefined): string {
  return (node || hostname()).replace(/[^\x21-\x7e]/g, '?').slice(0, 255) || '-';
}

/** PARAM-VALUE: control characters as `\u…`, then `"`, `\` and `]` with a `\` in front. */
function escaped(value: FieldValue): string {
  const text = typeof value === 'object' ? value.join(',') : String(value);
  return safe(text).replace(/["\\\]]/g, '\\$&');
}

/** MSG, in one line, `most` bytes at most. A character is never cut. */
function textOf(text: string, most: number): Buffer {
  const clean = safe(bounded(text, 4096));
  const isAscii = /^[\x20-\x7e]*$/.test(clean);
  const bytes = isAscii ? Buffer.from(clean) : Buffer.concat([BOM, Buffer.from(clean)]);
  if (bytes.length <= most) return bytes;
  let end = Math.max(most, 0);
  // 10xxxxxx: inside of a character.
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

function severityOf(verdict: string, auditVerdict: string | undefined): number {
  if (verdict === 'deny') return SEVERITY.warning;
  return auditVerdict === 'deny' ? SEVERITY.notice : SEVERITY.info;
}
