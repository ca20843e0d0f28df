/**
 * What a client says in QUIC: its datagrams of one flow (one pair of addresses and ports), in the order in which they
 * pass, up to and beyond its ClientHello. A datagram that is refused must not reach the server: nothing of it counts.
 *
 * One flow can carry many connections. So Initial packets are judged also after the first hello: those of the same
 * connection must repeat the same bytes, and those of another one (or of the same after a Retry) bring a hello of
 * their own. Since only one is remembered, a connection may be left only when all that it said was judged, and never
 * be taken up again. Otherwise the two halves of a hello could pass without being seen together.
 */
import { type Hello, type HelloFault, MAX_HELLO, readHelloMessage } from './hello.js';
import { type FrameFault, readFrames } from './quic-frames.js';
import {
  clientInitialKeys,
  type InitialKeys,
  type LongPacket,
  type OpenPacket,
  openPacket,
  type QuicVersion,
  readLongHeader,
} from './quic-packet.js';

export type QuicFault =
  | HelloFault
  | FrameFault
  | 'header' // a long header that does not fit the datagram, or one that no client sends
  | 'coalesced' // packets of different connections or versions in one datagram
  | 'trailing' // bytes behind the last packet that are neither a packet nor zero
  | 'protection' // keys of this connection do not open it: servers discard it
  | 'reserved-bits'
  | 'overlap' // the TLS stream says two things at one place
  | 'another-connection' // before all of the last one was judged, one that was left, or one too many
  | 'early' // something that is no Initial packet, before the hello is complete
  | 'too-many-hellos';

export type QuicResult =
  | { readonly state: 'more' } // a valid part of a hello
  | { readonly state: 'hello'; readonly version: QuicVersion; readonly hellos: readonly QuicHello[] }
  | { readonly state: 'known' } // says nothing new, behind a complete hello
  | { readonly state: 'other' } // no QUIC, or a flow that was moved here: it says no name
  | { readonly state: 'version'; readonly version: number } // one that cannot be read
  | { readonly state: 'malformed'; readonly why: QuicFault };

export interface QuicHello extends Hello {
  /** 0: the first of its connection; 1: the answer to a HelloRetryRequest, which must get the same decision. */
  readonly number: number;
}

/** A HelloRetryRequest may be sent once. */
const MAX_HELLOS = 2;
/** Connections of a flow. A Retry makes a second one; some clients use one socket for years. */
const MAX_CONNECTIONS = 8;
/** Packets with long headers in a datagram. Clients have a reason for three. */
const MAX_PACKETS = 8;

const malformed = (why: QuicFault): QuicResult => ({ state: 'malformed', why });

/** The TLS stream of a connection, and the connection id that its keys come from. */
interface Connection {
  readonly dcid: Uint8Array;
  /** Of packets that were opened; -1: none was. */
  largest: number;
  readonly bytes: Uint8Array;
  /** 1 where `bytes` is known. */
  readonly known: Uint8Array;
  /** Complete hellos, and the bytes that they take. */
  hellos: number;
  judged: number;
}

/** A client's side of one flow. */
export class QuicFlow {
  #connection: Connection | undefined;
  /** Connection ids that were left. */
  #left: readonly string[] = [];

  /** Judges the next datagram. */
  datagram(datagram: Uint8Array): QuicResult {
    const packets = this.#packets(datagram);
    if (!Array.isArray(packets)) return packets;
    // Works on a copy, since nothing of a datagram that is refused counts.
    let [connection, left, opened] = [copy(this.#connection), this.#left, 0];
    for (const packet of packets) {
      if (packet.type !== 'initial') continue;
      let open = connection && openPacket(datagram, packet, keysOf(packet, connection.dcid), connection.largest);
      if (!connection || !open) {
        open = openPacket(datagram, packet, keysOf(packet, packet.dcid), -1);
        if (!open) return malformed('protection');
        if (connection) left = [...left, idOf(connection.dcid)];
        if (!mayLeave(connection) || left.length >= MAX_CONNECTIONS || left.includes(idOf(packet.dcid)))
          return malformed('another-connection');
        connection = begin(packet.dcid);
      }
      opened++;
      const why = receive(connection, open);
      if (why !== undefined) return malformed(why);
    }
    const read = connection && readHellos(connection);
    if (typeof read === 'string') return malformed(read);
    const isComplete = connection !== undefined && connection.hellos > 0;
    // While a hello is not complete, nothing but its parts may pass.
    if (!isComplete && (opened < packets.length || opened === 0)) return malformed('early');
    [this.#connection, this.#left] = [connection, left];
    if (!read || !isComplete) return { state: 'more' };
    if (read.length === 0) return { state: 'known' };
    return { state: 'hello', version: packets[0]!.version, hellos: read };
  }

  /** The packets of a datagram; those with a short header, whose contents nobody on the way can read, are left out. */
  #packets(datagram: Uint8Array): LongPacket[] | QuicResult {
    const packets: LongPacket[] = [];
    for (let at = 0; at < datagram.length; ) {
      const header = readLongHeader(datagram, at);
      if (header.state === 'malformed') return malformed('header');
      if (header.state === 'version') return packets.length === 0 ? header : malformed('coalesced');
      if (header.state === 'short') {
        const rest = datagram.subarray(at);
        if (this.#connection === undefined && packets.length === 0) return { state: 'other' };
        // Some clients fill their datagrams with zeros; others send 1-RTT packets behind their last Initial.
        if (rest.every((byte) => byte === 0)) return packets.length > 0 ? packets : malformed('trailing');
        if ((rest[0]! & 0xc0) !== 0x40) return malformed('trailing');
        if ((this.#connection?.hellos ?? 0) === 0) return malformed('early');
        return packets;
      }
      const first = packets[0];
      if (first && (first.version !== header.version || Buffer.compare(first.dcid, header.dcid) !== 0))
        return malformed('coalesced');
      if (packets.push(header) > MAX_PACKETS) return malformed('coalesced');
      at = header.end;
    }
    return packets.length > 0 ? packets : { state: 'other' };
  }
}

function copy(connection: Connection | undefined): Connection | undefined {
  return connection && { ...connection, bytes: connection.bytes.slice(), known: connection.known.slice() };
}

function begin(dcid: Uint8Array): Connection {
  return {
    dcid,
    largest: -1,
    bytes: new Uint8Array(MAX_HELLO),
    known: new Uint8Array(MAX_HELLO),
    hellos: 0,
    judged: 0,
  };
}

const idOf = (dcid: Uint8Array): string => Buffer.from(dcid).toString('hex');
const keysOf = ({ version }: LongPacket, dcid: Uint8Array): InitialKeys => clientInitialKeys(version, dcid);

/** Whether all that is known of the connection belongs to complete hellos. */
function mayLeave(connection: Connection | undefined): boolean {
  return !connection || (connection.hellos > 0 && connection.known.indexOf(1, connection.judged) < 0);
}

/** Adds a packet's part of the TLS stream. */
function receive(connection: Connection, packet: OpenPacket): QuicFault | undefined {
  if (packet.reserved) return 'reserved-bits';
  const frames = readFrames(packet.payload);
  if (typeof frames === 'string') return frames;
  connection.largest = Math.max(connection.largest, packet.number);
  const { bytes, known } = connection;
  for (const { offset, data } of frames) {
    for (const [i, byte] of data.entries()) {
      const at = offset + i;
      if (known[at] === 1 && bytes[at] !== byte) return 'overlap';
      bytes[at] = byte;
      known[at] = 1;
    }
  }
  return undefined;
}

/** The hellos that became complete. */
function readHellos(connection: Connection): QuicHello[] | HelloFault | 'too-many-hellos' {
  const gap = connection.known.indexOf(0);
  const there = connection.bytes.subarray(0, gap < 0 ? MAX_HELLO : gap);
  const hellos: QuicHello[] = [];
  while (connection.judged < there.length) {
    if (connection.hellos === MAX_HELLOS) return 'too-many-hellos';
    const read = readHelloMessage(there.subarray(connection.judged));
    if (read.state === 'malformed') return read.why;
    if (read.state === 'more') return hellos;
    hellos.push({ ...read, number: connection.hellos++ });
    connection.judged += read.length;
  }
  return hellos;
}
