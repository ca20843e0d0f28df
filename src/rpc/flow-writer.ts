/**
 * Writes the messages of a flow directly from its event's bytes. The result is the same, byte for byte, as that of
 * hubble.ts and protobufjs (test/rpc/flow-writer.test.ts), without intermediate objects. If it cannot write a message,
 * the caller encodes it in the general way.
 */
import type { Who } from '../flow/names/addresses.js';
import { address, isZero, u64, viewOf } from '../flow/event/decode.js';
import { toHubble } from '../flow/hubble.js';
import { NamedFlow } from '../flow/names/named.js';
import type { Flow, ServiceRef } from '../flow/event/types.js';
import { STRUCTS } from '../image/layout.gen.js';
import { Backwards, BYTES, isZeroMac, SMALL, TOO_LARGE, VARINT } from './backwards.js';
import { type Shape, Shapes } from './flow-shape.js';
import { encode, fieldNumber } from '../proto/load.js';

const E = STRUCTS.ea_event.fields;
const K = STRUCTS.ea_flow_key.fields;
const KEY = E.flow.offset;

const SECOND = 1_000_000_000;
/** Maximum size in bytes of everything that is not part of a Shape, a party or a Service. */
const MOST_REST = 600;

function tags<T extends string>(type: string, wire: number, ...fields: T[]): Record<T, number> {
  return Object.fromEntries(fields.map((f) => [f, (fieldNumber(type, f) << 3) | wire])) as Record<T, number>;
}

const F = {
  ...tags('flow.Flow', BYTES, 'time', 'ethernet', 'IP', 'l4', 'source', 'destination', 'source_service'),
  ...tags('flow.Flow', BYTES, 'destination_service', 'interface', 'uuid', 'source_names', 'destination_names'),
};
const R = {
  ...tags('egress.v1.FlowRecord', BYTES, 'flow', 'service_ip'),
  ...tags('egress.v1.FlowRecord', VARINT, 'packets_out', 'bytes_out', 'packets_in', 'bytes_in', 'drops'),
  ...tags('egress.v1.FlowRecord', VARINT, 'duration_ns', 'service_port', 'endpoint'),
};
const TIME = tags('google.protobuf.Timestamp', VARINT, 'seconds', 'nanos');
/** UDP and SCTP have the same field numbers. */
const PORTS = tags('flow.TCP', VARINT, 'source_port', 'destination_port');
const SIDES = tags('flow.IP', BYTES, 'source', 'destination');
const MACS = tags('flow.Ethernet', BYTES, 'source', 'destination');
const INTERFACE = tags('flow.NetworkInterface', VARINT, 'index');
const ENDPOINT = tags('flow.Endpoint', VARINT, 'ID');
/** In reverse order, as they are written. */
const COUNTERS = (['drops', 'bytes_in', 'packets_in', 'bytes_out', 'packets_out'] as const).map((name) => ({
  offset: E[name].offset,
  tag: R[name],
}));

interface Response {
  /** The tag of the field in the flow, or in its record. */
  tag: number;
  time: number;
  nodeName: Buffer;
}

/** Encodes flows for both services. */
export class FlowWriter {
  readonly #out = new Backwards();
  readonly #shapes = new Shapes();
  readonly #parties = new WeakMap<Who, Buffer>();
  readonly #services = new WeakMap<ServiceRef, Buffer>();
  readonly #record: Response;
  readonly #hubble: Response;
  #lead = 0n;
  #leadSeconds = 0;
  #leadNanos = 0;

  constructor(nodeName: string) {
    const response = (name: string, field: string): Response => ({
      tag: tags(name, BYTES, field)[field] as number,
      time: tags(name, BYTES, 'time').time,
      nodeName: encode(name, { node_name: nodeName }),
    });
    this.#record = response('egress.v1.GetFlowsResponse', 'record');
    this.#hubble = response('observer.GetFlowsResponse', 'flow');
  }

  /**
   * egress.v1.GetFlowsResponse; undefined if the caller must encode it. The bytes are the same for all readers, unless
   * they are large: the hub has room for thousands of flows, and whoever may write a pod or a policy could give it so
   * many labels that their messages took the node's memory.
   */
  record(flow: Flow): Buffer | undefined {
    if (!(flow instanceof NamedFlow)) return undefined;
    if (flow.recordBytes) return flow.recordBytes;
    const bytes = this.#write(flow, this.#record, true);
    if (bytes && bytes.length <= SMALL) flow.recordBytes = bytes;
    return bytes;
  }

  /** observer.GetFlowsResponse, in the same way. */
  hubble(flow: Flow): Buffer | undefined {
    if (!(flow instanceof NamedFlow)) return undefined;
    if (flow.hubbleBytes) return flow.hubbleBytes;
    const bytes = this.#write(flow, this.#hubble, false);
    if (bytes && bytes.length <= SMALL) flow.hubbleBytes = bytes;
    return bytes;
  }

  #write(flow: NamedFlow, response: Response, asRecord: boolean): Buffer | undefined {
    const { raw, at } = flow;
    if (!raw) return undefined;
    const v = viewOf(raw);
    const o = raw.byteOffset + at;
    const timeNs = u64(v, o + E.time_ns.offset);
    if (timeNs >= TOO_LARGE - SECOND || flow.lead < 0n || !areExact(v, o)) return undefined;

    const shape = this.#shapes.of(flow, raw, at);
    const source = this.#party(flow, flow.out ? flow.local : flow.remote);
    const destination = this.#party(flow, flow.out ? flow.remote : flow.local);
    const service = flow.service && this.#service(flow.service);
    const parts = shape.size + source.length + destination.length + (service?.length ?? 0) + sizeOf(flow.names);
    const out = this.#out;
    out.begin(parts + response.nodeName.length + MOST_REST);
    this.#time(response.time, flow.lead, timeNs);
    out.bytes(response.nodeName);
    const end = out.pos;
    if (asRecord) this.#afterFlow(v, o, raw, shape, timeNs);
    const endOfFlow = out.pos;

    out.bytes(shape.end);
    let inner = out.pos;
    out.hex12(flow.number);
    out.bytes(uuidHead(flow));
    out.nested(F.uuid, inner);
    inner = out.pos;
    out.number(INTERFACE.index, v.getUint32(o + E.ifindex.offset, true));
    out.nested(F.interface, inner);
    out.bytes(shape.direction);
    if (service) {
      inner = out.pos;
      out.bytes(service);
      out.nested(flow.out ? F.destination_service : F.source_service, inner);
    }
    out.bytes(shape.eventType);
    for (let i = flow.names.length - 1; i >= 0; i--)
      out.text(flow.out ? F.destination_names : F.source_names, flow.names[i] as string);
    out.bytes(shape.kind);
    const endpoint = v.getUint32(o + KEY + K.endpoint.offset, true);
    this.#endpoint(F.destination, destination, flow.out ? 0 : endpoint);
    this.#endpoint(F.source, source, flow.out ? endpoint : 0);
    this.#addresses(v, o, raw, shape, flow.out);
    this.#macs(raw, at);
    out.bytes(shape.verdict);
    this.#time(F.time, flow.lead, timeNs);

    if (asRecord) out.nested(R.flow, endOfFlow);
    out.nested(response.tag, end);
    return out.message();
  }

  /** Writes the fields of a record that follow its flow. */
  #afterFlow(v: DataView, o: number, raw: Buffer, shape: Shape, timeNs: number): void {
    const out = this.#out;
    out.bytes(shape.decision);
    out.number(R.endpoint, v.getUint32(o + KEY + K.endpoint.offset, true));
    out.number(R.service_port, v.getUint16(o + E.service_port.offset));
    out.text(R.service_ip, isZero(v, o + E.service.offset) ? '' : address(v, o + E.service.offset, raw));
    out.bytes(shape.place);
    const created = u64(v, o + E.created_ns.offset);
    out.number(R.duration_ns, created > 0 ? Math.max(timeNs - created, 0) : 0);
    for (const { offset, tag } of COUNTERS) out.number(tag, u64(v, o + offset));
    out.bytes(shape.judgement);
  }

  #addresses(v: DataView, o: number, raw: Buffer, shape: Shape, isOut: boolean): void {
    const out = this.#out;
    const key = o + KEY;
    const end = out.pos;
    if (shape.transport !== 0) {
      const local = v.getUint16(key + K.local_port.offset);
      const remote = v.getUint16(key + K.remote_port.offset);
      out.bytes(shape.flags);
      out.number(PORTS.destination_port, isOut ? remote : local);
      out.number(PORTS.source_port, isOut ? local : remote);
      out.nested((shape.transport << 3) | BYTES, end);
      out.nested(F.l4, end);
    } else {
      out.bytes(shape.l4);
    }
    if (shape.family === 0) return;
    const endOfIp = out.pos;
    const [local, remote] = [key + K.local.offset, key + K.remote.offset];
    out.bytes(shape.ipVersion);
    out.text(SIDES.destination, address(v, isOut ? remote : local, raw));
    out.text(SIDES.source, address(v, isOut ? local : remote, raw));
    out.nested(F.IP, endOfIp);
  }

  #macs(raw: Buffer, at: number): void {
    if (isZeroMac(raw, at + E.mac_src.offset)) return;
    const out = this.#out;
    const end = out.pos;
    out.mac(MACS.destination, raw, at + E.mac_dst.offset);
    out.mac(MACS.source, raw, at + E.mac_src.offset);
    out.nested(F.ethernet, end);
  }

  #endpoint(tag: number, party: Buffer, id: number): void {
    const out = this.#out;
    const end = out.pos;
    out.bytes(party);
    if (id !== 0) out.number(ENDPOINT.ID, id);
    out.nested(tag, end);
  }

  /** Writes a timestamp. @param lead, timeNs the time is their sum */
  #time(tag: number, lead: bigint, timeNs: number): void {
    if (lead !== this.#lead) {
      this.#lead = lead;
      this.#leadSeconds = Number(lead / BigInt(SECOND));
      this.#leadNanos = Number(lead % BigInt(SECOND));
    }
    // The quotient may be rounded up to the next second.
    let seconds = Math.floor(timeNs / SECOND);
    let nanos = timeNs - seconds * SECOND + this.#leadNanos;
    if (nanos < 0) {
      nanos += SECOND;
      seconds--;
    } else if (nanos >= SECOND) {
      nanos -= SECOND;
      seconds++;
    }
    const out = this.#out;
    const end = out.pos;
    out.number(TIME.nanos, nanos);
    out.number(TIME.seconds, seconds + this.#leadSeconds);
    out.nested(tag, end);
  }

  /** All fields of flow.Endpoint except its ID. */
  #party(flow: NamedFlow, who: Who): Buffer {
    let bytes = this.#parties.get(who);
    if (!bytes) {
      const { source, destination } = toHubble(flow);
      const isSource = (flow.out ? flow.local : flow.remote) === who;
      bytes = encode('flow.Endpoint', { ...(isSource ? source : destination), ID: undefined });
      this.#parties.set(who, bytes);
    }
    return bytes;
  }

  #service(ref: ServiceRef): Buffer {
    let bytes = this.#services.get(ref);
    if (!bytes) this.#services.set(ref, (bytes = encode('flow.Service', ref)));
    return bytes;
  }
}

/** Upper bound of the bytes that names take, with their tags and lengths. */
function sizeOf(names: readonly string[]): number {
  let size = 0;
  for (const name of names) size += name.length + 4;
  return size;
}

/** Whether all counters are smaller than TOO_LARGE. */
function areExact(v: DataView, o: number): boolean {
  let high = v.getUint32(o + E.created_ns.offset + 4, true);
  for (const { offset } of COUNTERS) high |= v.getUint32(o + offset + 4, true);
  return high >>> 0 < 0x20_0000;
}

const heads = new WeakMap<object, Buffer>();

function uuidHead({ common }: NamedFlow): Buffer {
  let head = heads.get(common);
  if (!head) heads.set(common, (head = Buffer.from(common.uuidHead)));
  return head;
}
