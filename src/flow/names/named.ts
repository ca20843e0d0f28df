/** A flow with names. Its bytes are decoded when somebody asks, since most readers use only its encoded message. */
import type { RuleRef } from '../../ir/types.js';
import { hasPorts } from '../../net/protocol.js';
import type { Who } from './addresses.js';
import { decodeEvent, type RawEvent } from '../event/decode.js';
import type { Flow, FlowEvent, Party, ServiceRef } from '../event/types.js';

/** Data that all flows of one agent share. */
export interface Common {
  nodeName: string;
  /** The first 24 characters of every UUID: RFC 9562, version 8, with our own layout of the bits. */
  uuidHead: string;
}

/** The names that were found for an event. */
export interface Names {
  /** The endpoint's own side. */
  local: Who;
  remote: Who;
  /** Whether the endpoint sent the packet. */
  out: boolean;
  service: ServiceRef | undefined;
  /** The names by which the endpoint knew the remote address; of a verdict by a name, that one. */
  names: readonly string[];
  rule: RuleRef | undefined;
  auditRule: RuleRef | undefined;
}

/** The flow. Its event is decoded on demand. */
export class NamedFlow implements Flow {
  readonly common: Common;
  /** Wall clock minus CLOCK_MONOTONIC, nanoseconds. */
  readonly lead: bigint;
  readonly number: number;
  readonly local: Who;
  readonly remote: Who;
  readonly out: boolean;
  readonly service: ServiceRef | undefined;
  readonly names: readonly string[];
  readonly rule: RuleRef | undefined;
  readonly auditRule: RuleRef | undefined;
  /** Absent if the flow was made from a FlowEvent. */
  readonly raw: Buffer | undefined;
  readonly at: number;
  /** Its messages, encoded once for all readers (rpc/flow-writer.ts). */
  hubbleBytes: Buffer | undefined = undefined;
  recordBytes: Buffer | undefined = undefined;
  #event: FlowEvent | undefined;
  #source: Party | undefined = undefined;
  #destination: Party | undefined = undefined;

  constructor(common: Common, lead: bigint, number: number, source: RawEvent | FlowEvent, names: Names) {
    this.common = common;
    this.lead = lead;
    this.number = number;
    this.local = names.local;
    this.remote = names.remote;
    this.out = names.out;
    this.service = names.service;
    this.names = names.names;
    this.rule = names.rule;
    this.auditRule = names.auditRule;
    if ('buf' in source) {
      this.raw = source.buf;
      this.at = source.at;
      this.#event = undefined;
    } else {
      this.raw = undefined;
      this.at = 0;
      this.#event = source;
    }
  }

  get event(): FlowEvent {
    return (this.#event ??= decodeEvent(this.raw as Buffer, this.at));
  }

  get source(): Party {
    return (this.#source ??= this.#party(this.out));
  }

  get destination(): Party {
    return (this.#destination ??= this.#party(!this.out));
  }

  get sourceNamespace(): string {
    return (this.out ? this.local : this.remote).namespace;
  }

  get destinationNamespace(): string {
    return (this.out ? this.remote : this.local).namespace;
  }

  get sourceNames(): readonly string[] | undefined {
    return this.out || this.names.length === 0 ? undefined : this.names;
  }

  get destinationNames(): readonly string[] | undefined {
    return this.out && this.names.length > 0 ? this.names : undefined;
  }

  get timeNs(): bigint {
    return BigInt(this.event.timeNs) + this.lead;
  }

  get uuid(): string {
    return this.common.uuidHead + this.number.toString(16).padStart(12, '0');
  }

  get nodeName(): string {
    return this.common.nodeName;
  }

  #party(local: boolean): Party {
    const e = this.event;
    const who = local ? this.local : this.remote;
    const port = hasPorts(e.protocol) ? (local ? e.localPort : e.remotePort) : 0;
    const { kind, namespace, pod, labels } = who;
    const made: Party = { ip: local ? e.local : e.remote, port, kind, namespace, pod, labels };
    if (who.workload !== undefined) made.workload = who.workload;
    if (who.node !== undefined) made.node = who.node;
    return made;
  }
}
