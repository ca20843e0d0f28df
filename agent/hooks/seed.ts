/**
 * Seeding: writes connections that peers opened to a pod before its attachment into the flow
 * table, so that their replies pass (invariant 4 of ARCHITECTURE.md).
 */
import { AgentError } from '../../src/errors.js';
import * as L from '../../src/image/layout.gen.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Logger } from '../../src/log.js';
import { remember } from '../../src/flow/names/addresses.js';
import { parseAddr } from '../../src/net/addr.js';
import { answeredBy, provesOpener } from '../netlink/conntrack.js';
import type { BpfProgram } from '../kernel/libbpf/program.js';
import { type Claim, type Connection, claims, textOf } from '../netlink/sockets.js';

const { ea_flow_key: K } = L.STRUCTS;
const TCP = 6;
const UDP = 17;

/** The result for one connection: entered, in the table already, or refused for lack of room. */
export type SeedResult = 'entered' | 'known' | 'refused';

/** Enters a connection into the flow table. */
export interface FlowSeeds {
  /** @param ifindex of the endpoint, whose share it takes. @param replace replaces an existing flow. Throws KERNEL */
  enter(key: Buffer, ifindex: number, replace: boolean): SeedResult;
}

/** struct __sk_buff up to its end; cb[] stands at byte 48. */
const SKB_SIZE = 192;
const CB = 48;
const ETHERNET = 14;

/** Enters connections with the program `seed` (bpf/egress.bpf.c): only BPF programs write into the table. */
export class SeedProgram implements FlowSeeds {
  readonly #program: Pick<BpfProgram, 'testRun'>;

  constructor(program: Pick<BpfProgram, 'testRun'>) {
    this.#program = program;
  }

  enter(key: Buffer, ifindex: number, replace: boolean): SeedResult {
    const ctx = Buffer.alloc(SKB_SIZE);
    ctx.writeUInt32LE(replace ? 1 : 0, CB);
    ctx.writeUInt32LE(ifindex, CB + 4);
    const { ctxOut } = this.#program.testRun(Buffer.concat([Buffer.alloc(ETHERNET), key]), { ctx });
    const { EA_SEED_ENTERED, EA_SEED_KNOWN } = L.ENUMS.ea_seeded;
    const result = ctxOut?.readUInt32LE(CB + 8);
    return result === EA_SEED_ENTERED ? 'entered' : result === EA_SEED_KNOWN ? 'known' : 'refused';
  }
}

/** struct ea_flow_key of an endpoint's connection. */
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

/**
 * Enters connections as flows opened to an endpoint. Throws KERNEL.
 * @param existing for flows in the table: `keep`, as the delivery hook has recorded more about them than a seed;
 *   `replace`, if a hook may have recorded one direction only
 * @returns how many were refused for lack of room
 */
export function writeSeeds(
  seeds: FlowSeeds,
  endpoint: Pick<EndpointBinding, 'id' | 'ifindex'>,
  connections: readonly Connection[],
  existing: 'keep' | 'replace' = 'keep',
): number {
  const refused = (c: Connection) =>
    seeds.enter(flowKey(endpoint.id, c), endpoint.ifindex, existing === 'replace') === 'refused';
  return connections.filter(refused).length;
}

function asAgentError(e: NodeJS.ErrnoException, { netns }: SeedEndpoint): AgentError {
  if (e instanceof AgentError) return e;
  const message = `the sockets of the namespace ${netns?.path ?? 'of the node'} cannot be read: ${e.message}`;
  return new AgentError('NETNS', message, e.code === undefined ? {} : { errno: e.code });
}

/** Endpoints whose number of unproven connections is kept: more than a node has. */
const MAX_COUNTED_ENDPOINTS = 4096;

/** An endpoint to seed: a pod, or an uplink (without `netns`) with the node's own connections. */
export type SeedEndpoint = EndpointBinding & { readonly netns?: { readonly path: string } };

/** Readings of a socket that looks dialled: traffic during a reading can make an answering side look so. */
const DIALLED_TRIES = 3;

export interface SeederParts {
  readonly seeds: FlowSeeds;
  /** Keys of flows in the tables of other versions' hooks, by endpoint. */
  readonly older?: (endpoints: ReadonlySet<number>) => Map<number, Buffer[]>;
  readonly log: Logger;
  readonly answeredBy?: typeof answeredBy;
}

/**
 * Decides which connections count as opened by a peer, so that an endpoint may go on answering them. A socket is no
 * evidence: a pod could create one for any connection, and so send past its policy as if it answered. So a pod's
 * connection counts only if the pod has a socket for it *and* the node's connection tracking saw a peer's SYN first.
 * All other connections are judged as the pod's own: also UDP, where either side may send first at any time, and SCTP,
 * whose heartbeats create a new entry in either direction. The node's own sockets are trusted, except for UDP.
 */
export class Seeder {
  readonly #parts: SeederParts;
  readonly #unproven = new Map<number, number>();

  constructor(parts: SeederParts) {
    this.#parts = parts;
  }

  /** Number of connections of an endpoint without proof of their opener when this process attached it. */
  unproven(endpoint: number): number {
    return this.#unproven.get(endpoint) ?? 0;
  }

  /**
   * Reads the open connections of these endpoints, whose delivery hooks must be in place; reads conntrack once for all.
   * Returns the function that seeds one of them: call it before attaching its judging hook. Throws KERNEL; the returned
   * function throws KERNEL, NETNS.
   */
  prepare(endpoints: readonly SeedEndpoint[]): (endpoint: SeedEndpoint) => void {
    const claimsById = new Map<number, ReadonlyMap<string, Claim> | AgentError>();
    for (const e of endpoints) {
      try {
        claimsById.set(e.id, claims(e.netns?.path));
      } catch (error) {
        // The pod may have ended; go on with the others.
        claimsById.set(e.id, asAgentError(error as NodeJS.ErrnoException, e));
      }
    }
    const proven = this.#proven(endpoints, claimsById);
    const olderKeys = this.#parts.older?.(new Set(endpoints.map((e) => e.id))) ?? new Map<number, Buffer[]>();
    return (endpoint) => {
      for (const key of olderKeys.get(endpoint.id) ?? []) this.#parts.seeds.enter(key, endpoint.ifindex, false);
      const ownClaims = claimsById.get(endpoint.id) ?? new Map<string, Claim>();
      if (ownClaims instanceof AgentError) throw ownClaims;
      this.#seed(endpoint, ownClaims, proven);
    };
  }

  #seed(endpoint: SeedEndpoint, ownClaims: ReadonlyMap<string, Claim>, proven: ReadonlySet<string>): void {
    const { seeds, log } = this.#parts;
    const node = endpoint.netns === undefined;
    const opened: Connection[] = [];
    const dialled: string[] = [];
    let unproven = 0;
    for (const [key, claim] of ownClaims) {
      const accepted = node ? claim.listening && claim.protocol !== UDP : proven.has(`${endpoint.id} ${key}`);
      if (!accepted) unproven += claim.dialled ? 0 : 1;
      else if (!node && claim.dialled) dialled.push(key);
      else opened.push(claim);
    }
    for (const key of dialled) {
      const claim = ownClaims.get(key) as Claim;
      let times = 1;
      while (times < DIALLED_TRIES && claims(endpoint.netns?.path).get(key)?.dialled !== false) times++;
      if (times < DIALLED_TRIES) opened.push(claim);
    }
    const refused = writeSeeds(seeds, endpoint, opened, node ? 'replace' : 'keep');
    if (refused > 0)
      log.warn('connections opened before have no room in the flow table', {
        endpoint: endpoint.key,
        connections: refused,
      });
    if (opened.length > 0)
      log.debug('connections opened before', { endpoint: endpoint.key, connections: opened.length });
    if (unproven === 0) return;
    remember(this.#unproven, endpoint.id, unproven, MAX_COUNTED_ENDPOINTS);
    const what = unproven === 1 ? '1 connection' : `${unproven} connections`;
    const text = `${what} without proof of a peer that opened it, or not of a kind that has one: judged as the pod's own`;
    log.warn(text, { endpoint: endpoint.key });
  }

  /** `endpoint claim` for each claim that conntrack proves. */
  #proven(
    endpoints: readonly SeedEndpoint[],
    claimsById: ReadonlyMap<number, ReadonlyMap<string, Claim> | AgentError>,
  ): Set<string> {
    const candidates = new Map<string, { endpoint: number; own: ReadonlySet<string> }[]>();
    const addresses = new Map<string, Buffer>();
    for (const { id, ips, netns } of endpoints) {
      const endpointClaims = claimsById.get(id);
      if (!netns || !endpointClaims || endpointClaims instanceof AgentError) continue;
      const ownAddresses = new Set(ips.map((ip) => Buffer.from(parseAddr(ip).bytes).toString('latin1')));
      for (const [key, { protocol, local }] of endpointClaims) {
        const address = local.toString('latin1');
        // The pod gave itself another pod's address: it must not answer connections that were opened to that pod.
        if (protocol !== TCP || !ownAddresses.has(address)) continue;
        addresses.set(address, local);
        const list = candidates.get(key);
        if (list) list.push({ endpoint: id, own: ownAddresses });
        else candidates.set(key, [{ endpoint: id, own: ownAddresses }]);
      }
    }
    const proven = new Set<string>();
    (this.#parts.answeredBy ?? answeredBy)([...addresses.values()], (tracked) => {
      if (!provesOpener(tracked)) return;
      const { protocol, original, reply } = tracked;
      const key = textOf({
        protocol,
        local: reply.source,
        localPort: reply.sourcePort,
        remote: reply.destination,
        remotePort: reply.destinationPort,
      });
      for (const { endpoint, own } of candidates.get(key) ?? []) {
        if (!own.has(original.source.toString('latin1'))) proven.add(`${endpoint} ${key}`);
      }
    });
    return proven;
  }
}
