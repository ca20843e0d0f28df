/** What the events of layer 7 have in common: each is about a connection, and about nothing that a packet has. */
import { STRUCTS } from '../../image/layout.gen.js';
import { address, u64, viewOf } from './decode.js';
import { VERDICTS } from './kind.js';
import type { FlowEvent } from './types.js';

const K = STRUCTS.ea_flow_key.fields;

/** The fields that their structs share. */
type Shared = Readonly<
  Record<'time_ns' | 'rule' | 'set' | 'flow' | 'ifindex' | 'family' | 'verdict', { readonly offset: number }>
>;

/**
 * Decodes what they share, as an event of the connection.
 * @param fields of the struct at `at`
 * @param own what only this kind of event says
 */
export function layer7Event(
  buf: Buffer,
  at: number,
  fields: Shared,
  own: Pick<FlowEvent, 'type' | 'reason'> & Partial<FlowEvent>,
): FlowEvent {
  const v = viewOf(buf);
  const o = buf.byteOffset + at;
  const key = o + fields.flow.offset;
  const family = v.getUint8(o + fields.family.offset) as 0 | 4 | 6;
  const setHigh = v.getUint32(o + fields.set.offset + 4, true) & 0x1fffff;
  return {
    timeNs: u64(v, o + fields.time_ns.offset),
    verdict: VERDICTS[v.getUint8(o + fields.verdict.offset)] ?? 'none',
    auditVerdict: 'none',
    hook: 'from-pod',
    rule: u64(v, o + fields.rule.offset),
    auditRule: 0,
    set: v.getUint32(o + fields.set.offset, true) + setHigh * 0x1_0000_0000,
    endpoint: v.getUint32(key + K.endpoint.offset, true),
    ifindex: v.getUint32(o + fields.ifindex.offset, true),
    family,
    local: family === 0 ? '' : address(v, key + K.local.offset, buf),
    remote: family === 0 ? '' : address(v, key + K.remote.offset, buf),
    localPort: v.getUint16(key + K.local_port.offset),
    remotePort: v.getUint16(key + K.remote_port.offset),
    protocol: v.getUint8(key + K.protocol.offset),
    inbound: false,
    postDnat: false,
    isReply: false,
    service: '',
    servicePort: 0,
    tcpFlags: 0,
    packetsOut: 0,
    bytesOut: 0,
    packetsIn: 0,
    bytesIn: 0,
    drops: 0,
    createdNs: 0,
    length: 0,
    ethertype: 0,
    macSource: '',
    macDestination: '',
    name: 0,
    nameIncarnation: 0,
    ...own,
  };
}
