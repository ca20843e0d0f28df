/**
 * Connections that were opened to a pod before it was attached: written into the flow
 * table, so that their replies pass (invariant 4 of ARCHITECTURE.md).
 */
import { AgentError } from '../src/errors.js';
import * as L from '../src/image/layout.gen.js';
import type { BpfMap } from './libbpf/map.js';
import { type Connection, inboundConnections } from './sockets.js';

const { ea_flow_key: K, ea_flow: F } = L.STRUCTS;
const FLAGS = L.ENUMS.ea_flow_flags;
const BPF_ANY = 0;
const BPF_NOEXIST = 1;

export interface SeedMaps {
  readonly flows: BpfMap;
  readonly accepted: BpfMap;
}

/** When the seeds were made, by both of the kernel's clocks that flows keep. */
export interface SeedTime {
  /** CLOCK_MONOTONIC. */
  readonly nanos: bigint;
  /** bpf_jiffies64(). */
  readonly jiffies: bigint;
}

/** struct ea_flow_key of a connection of an endpoint. */
export function flowKey(endpoint: number, c: Connection): Buffer {
  const key = Buffer.alloc(K.size);
  c.local.copy(key, K.fields.local.offset);
  c.remote.copy(key, K.fields.remote.offset);
  key.writeUInt16BE(c.localPort, K.fields.local_port.offset);
  key.writeUInt16BE(c.remotePort, K.fields.remote_port.offset);
  key.writeUInt32LE(endpoint, K.fields.endpoint.offset);
  key.writeUInt8(c.protocol, K.fields.protocol.offset);
  return key;
}

/** struct ea_flow of a connection opened to the endpoint and answered by it. */
export function seededFlow(c: Connection, time: SeedTime): Buffer {
  const flow = Buffer.alloc(F.size);
  flow.writeUInt8(L.ENUMS.ea_verdict.EA_VERDICT_ALLOW, F.fields.verdict.offset);
  flow.writeUInt8(L.ENUMS.ea_reason.EA_REASON_REPLY, F.fields.reason.offset);
  flow.writeUInt8(FLAGS.EA_FLOW_INBOUND | FLAGS.EA_FLOW_SEEDED | FLAGS.EA_FLOW_CONFIRMED, F.fields.flags.offset);
  if (c.protocol === 6) flow.writeUInt8(L.ENUMS.ea_tcp_state.EA_TCP_OPEN, F.fields.tcp_state.offset);
  flow.writeBigUInt64LE(time.nanos, F.fields.created_ns.offset);
  flow.writeBigUInt64LE(time.jiffies, F.fields.last_jiffies.offset);
  return flow;
}

/**
 * Writes connections as flows opened to `endpoint`: into `accepted` first, which
 * alone is enough for their replies to pass. Throws KERNEL.
 * @param known what to do about flows that are there: the delivery hook knows more of them; who only saw one half does not
 */
export function writeSeeds(
  maps: SeedMaps,
  endpoint: number,
  connections: readonly Connection[],
  time: SeedTime,
  known: 'keep' | 'replace' = 'keep',
): void {
  if (connections.length === 0) return;
  const keys = connections.map((c) => flowKey(endpoint, c));
  const jiffies = Buffer.alloc(8 * connections.length);
  for (let i = 0; i < connections.length; i++) jiffies.writeBigUInt64LE(time.jiffies, 8 * i);
  maps.accepted.updateBatch(Buffer.concat(keys), jiffies, connections.length);
  for (const [i, c] of connections.entries()) {
    try {
      maps.flows.update(keys[i] as Buffer, seededFlow(c, time), known === 'keep' ? BPF_NOEXIST : BPF_ANY);
    } catch (e) {
      if (!(e instanceof AgentError) || e.errno !== 'EEXIST') throw e;
    }
  }
}

/**
 * Seeds one endpoint: to be called between its delivery hook and its judging hook (see
 * Attacher.attachPod, guard). An uplink has the node's own connections, of which it may have observed the node's half.
 * Returns how many connections were found. Throws KERNEL, NETNS.
 */
export function seedEndpoint(
  maps: SeedMaps,
  endpoint: { id: number; netns?: { path: string } },
  time: SeedTime,
): number {
  const connections = inboundConnections(endpoint.netns?.path);
  writeSeeds(maps, endpoint.id, connections, time, endpoint.netns ? 'keep' : 'replace');
  return connections.length;
}
