/**
 * The parts of messages that many flows share, encoded once: everything except addresses, ports, parties, times and
 * counters.
 */
import { toHubble, toRecord } from '../flow/hubble.js';
import type { NamedFlow } from '../flow/names/named.js';
import { STRUCTS } from '../image/layout.gen.js';
import type { RuleRef } from '../ir/types.js';
import { hasPorts } from '../net/protocol.js';
import { encode, fieldNumber } from '../proto/load.js';
import { SMALL } from './backwards.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const PROTOCOL = E.flow.offset + K.protocol.offset;
const REMOTE_PORT = E.flow.offset + K.remote_port.offset;
const ICMP = [1, 58];
/** Number of cached shapes. Each has one slot, and a new shape replaces the one in its slot. */
const SHAPES = 1024;

/** Everything that determines the parts of a Shape. */
interface Key {
  /** Type, verdict, audit verdict and reason. */
  judged: number;
  /** Hook, TCP flags, flow flags and address family. */
  way: number;
  /** Protocol, whether it is a reply, and whether it belongs to a flow. */
  flow: number;
  /** Other properties of the packet: ICMP type and code, or the ethertype if there is no IP header. */
  packet: number;
  rule: RuleRef | undefined;
  auditRule: RuleRef | undefined;
}

/** Parts in the order of field numbers. The fields that differ are between them. */
export interface Shape extends Key {
  family: number;
  /** Of flow.Flow: the verdict. */
  verdict: Buffer;
  /** All of l4, if it has no ports. */
  l4: Buffer;
  /** The field number in l4, if it has ports; otherwise 0. */
  transport: number;
  /** The fields behind the ports. */
  flags: Buffer;
  ipVersion: Buffer;
  /** Type, node_name. */
  kind: Buffer;
  /** event_type: behind the names. */
  eventType: Buffer;
  /** traffic_direction, drop_reason_desc, is_reply. */
  direction: Buffer;
  /** Policies and Summary. */
  end: Buffer;
  /** Of egress.v1.FlowRecord: event, rules, audit_verdict, reason. */
  judgement: Buffer;
  /** hook, inbound. */
  place: Buffer;
  /** verdict. */
  decision: Buffer;
  /** Total size of all parts in bytes. */
  size: number;
}

const NOTHING = Buffer.alloc(0);

/** The cache of shapes. */
export class Shapes {
  readonly #kept = new Array<Shape | undefined>(SHAPES).fill(undefined);

  /** The shape of a flow. @param raw, at the flow's event */
  of(flow: NamedFlow, raw: Buffer, at: number): Shape {
    const judged = raw.readUInt32LE(at + E.type.offset);
    const way = raw.readUInt32LE(at + E.hook.offset);
    const protocol = raw[at + PROTOCOL] as number;
    const reply = raw[at + E.is_reply.offset] === 0 ? 0 : 1;
    const hasFlow = isZero64(raw, at + E.created_ns.offset) ? 0 : 1;
    const bits = protocol | (reply << 8) | (hasFlow << 9);
    let packet = 0;
    if (raw[at + E.family.offset] === 0) packet = raw.readUInt16LE(at + E.ethertype.offset);
    else if (ICMP.includes(protocol)) packet = raw.readUInt16LE(at + REMOTE_PORT);
    const { rule, auditRule } = flow;
    const place = placeOf(judged, way, bits ^ (packet << 10), raw, at);
    const kept = this.#kept[place];
    if (
      kept &&
      kept.judged === judged &&
      kept.way === way &&
      kept.flow === bits &&
      kept.packet === packet &&
      kept.rule === rule &&
      kept.auditRule === auditRule
    ) {
      return kept;
    }
    const made = makeShape(flow, { judged, way, flow: bits, packet, rule, auditRule });
    // Shapes outlive their flows and policies: a policy with very many labels must not fill all slots.
    if (made.size <= SMALL) this.#kept[place] = made;
    return made;
  }
}

function isZero64(b: Buffer, at: number): boolean {
  return (b.readInt32LE(at) | b.readInt32LE(at + 4)) === 0;
}

/** The slot of a shape. It depends on rules' ids; the rules' present names are compared separately. */
function placeOf(judged: number, way: number, bits: number, raw: Buffer, at: number): number {
  let h = Math.imul(judged, 0x9e3779b1) ^ Math.imul(way, 0x85ebca77) ^ Math.imul(bits, 0xc2b2ae3d);
  h ^= Math.imul(raw.readInt32LE(at + E.rule.offset), 0x27d4eb2f);
  h ^= Math.imul(raw.readInt32LE(at + E.audit_rule.offset), 0x165667b1);
  h = Math.imul(h ^ (h >>> 15), 0x2c1b3c6d);
  return (h ^ (h >>> 13)) & (SHAPES - 1);
}

function makeShape(flow: NamedFlow, key: Key): Shape {
  const h = toHubble(flow);
  const r = toRecord(flow);
  const ofFlow = (...fields: (keyof typeof h)[]) => encode('flow.Flow', only(h, fields));
  const ofRecord = (...fields: (keyof typeof r)[]) => encode('egress.v1.FlowRecord', only(r, fields));
  const { family, protocol } = flow.event;
  const ported = family !== 0 && hasPorts(protocol);
  const flags = h.l4?.TCP?.flags;
  const parts = {
    verdict: ofFlow('verdict'),
    l4: ported ? NOTHING : ofFlow('l4'),
    flags: flags ? encode('flow.TCP', { flags }) : NOTHING,
    ipVersion: h.IP ? encode('flow.IP', { ipVersion: h.IP.ipVersion }) : NOTHING,
    kind: ofFlow('Type', 'node_name'),
    eventType: ofFlow('event_type'),
    direction: ofFlow('traffic_direction', 'drop_reason_desc', 'is_reply'),
    end: ofFlow(
      'egress_allowed_by',
      'ingress_allowed_by',
      'egress_denied_by',
      'ingress_denied_by',
      'policy_log',
      'Summary',
    ),
    judgement: ofRecord('event', 'rule', 'audit_rule', 'audit_verdict', 'reason'),
    place: ofRecord('hook', 'inbound'),
    decision: ofRecord('verdict'),
  };
  const transport = ported ? fieldNumber('flow.Layer4', Object.keys(h.l4 ?? {})[0] as string) : 0;
  const size = Object.values(parts).reduce((sum, part) => sum + part.length, 0);
  return { ...key, ...parts, family, transport, size };
}

function only<T extends object>(message: T, fields: readonly (keyof T)[]): object {
  return Object.fromEntries(fields.filter((f) => f in message).map((f) => [f, message[f]]));
}
