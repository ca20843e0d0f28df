/**
 * Judges many packets in one world. evaluate() reads every policy for each packet. Here the policies are compiled once,
 * as for the kernel, and simulate() judges. Packets that no rule of a pod's set distinguishes have the same row, and
 * are judged once.
 */
import { Compiler } from '../compile/index.js';
import type { Snapshot } from '../identity/snapshot.js';
import { classLookup } from '../image/prefix.js';
import { classRow, fixedRows, CLASS_SELF, portRow, type Row, setIndex } from '../image/rows.js';
import { namesRow, queryRow, simulate } from '../image/simulate.js';
import type { Image, ImageService, PolicySet } from '../image/types.js';
import type { LearnedName, Packet, Verdict } from '../ir/packet.js';
import { evaluate } from '../ir/evaluate.js';
import { rulesById } from '../ir/names.js';
import { withoutAddresses } from '../ir/outcome.js';
import type { RuleRef } from '../ir/types.js';
import { senderOf } from '../ir/sender.js';
import { learnedFor } from './names/kinds.js';
import { type ServicePlace, servicePlaces, type World } from './packets.js';
import { LAST_PORT, type PortSpan, protocolOf } from './ranges.js';

const NO_SERVICES: ReadonlyMap<string, ImageService> = new Map();

/** Judges packets of some pods in one world. */
export class Judge {
  readonly image: Image;
  /** By `ip|port|protocol`. */
  readonly places: ReadonlyMap<string, ServicePlace>;
  /** The Image without Services: an address is judged as itself. */
  readonly #plain: Image;
  readonly #plainSnapshot: Snapshot;
  readonly #withServices: Image;
  readonly #classes = new Map<string, number>();
  readonly #lookup: (ip: string) => number;

  /**
   * @param pods `namespace/name` of the senders
   * @param compiler carries its tables from one node's view of the world to the next
   */
  constructor(
    readonly world: World,
    pods: readonly string[],
    compiler = new Compiler(),
  ) {
    const { ir, snapshot } = world;
    const known = pods.filter((key) => senderOf(snapshot, key));
    this.image = compiler.compile(ir, snapshot, known);
    this.places = servicePlaces(snapshot);
    // The kernel leaves an entry with too many kinds to the post-DNAT check. Here each backend is judged, as evaluate()
    // does.
    const services = new Map([...this.places].map(([id, place]) => [id, { ...place, many: false }]));
    this.#withServices = { ...this.image, services };
    this.#plain = { ...this.image, services: NO_SERVICES };
    this.#plainSnapshot = { ...snapshot, services: withoutAddresses(snapshot) };
    this.#lookup = classLookup(this.image);
  }

  /** Whether the pod's set is too large for the kernel's maps. evaluate() then judges for it. */
  isRefused(pod: string): boolean {
    return this.image.refused.has(pod);
  }

  /** undefined: no policy selects the pod. */
  setOf(pod: string): PolicySet | undefined {
    return this.image.sets.get(this.image.endpoints.get(pod) ?? 0);
  }

  ruleOf(id: number): RuleRef | undefined {
    const found = this.image.rules.get(id);
    if (found || id === 0) return found;
    // A rule of a refused set.
    return rulesById(this.world.ir).get(id);
  }

  /** The class of an address. Addresses of one class are the same for every rule, except the pod's own. */
  classOf(ip: string): number {
    let id = this.#classes.get(ip);
    if (id === undefined) this.#classes.set(ip, (id = this.#lookup(ip)));
    return id;
  }

  /** The rules of the set whose peers match the class, and the endpoint itself if the address is the sender's own. */
  peerRow(set: PolicySet, id: number, own = false): Row {
    const fixed = new Map(fixedRows(set));
    const row = (classRow(set, this.image.classes.get(id) ?? []) ?? (fixed.get(0) as Row)).slice();
    const self = own ? fixed.get(CLASS_SELF) : undefined;
    if (self) for (let i = 0; i < row.length; i++) row[i] = (row[i] as number) | (self[i] as number);
    return row;
  }

  portRow(set: PolicySet, span: PortSpan): Row {
    return portRow(set, protocolOf(span), span.fragment ? 0 : span.lo, span.fragment ?? false);
  }

  /** The rules of the set that match an address with these names; undefined: none asks for names. */
  namesRow(set: PolicySet, names: readonly LearnedName[]): Row | undefined {
    return namesRow(this.image, set, names);
  }

  /** The rules of the set that match a query for this name; undefined: none asks for queries. */
  queryRow(set: PolicySet, query: string): Row | undefined {
    return queryRow(this.image, set, query);
  }

  /** Whether a rule of the pod may match the pod itself. */
  meansItself(pod: string): boolean {
    const set = this.setOf(pod);
    return this.isRefused(pod) || (set !== undefined && setIndex(set).self !== undefined);
  }

  /** Judges a packet to an address that is not the sender's own. @param names that the sender learned for it */
  address(packet: Packet, names: readonly LearnedName[] = []): Verdict {
    const learned = learnedFor(packet, names);
    if (this.isRefused(packet.from)) return evaluate(this.world.ir, this.#plainSnapshot, packet, learned);
    return simulate(this.#plain, packet, [], learned);
  }

  /** The same, with Services. */
  any(packet: Packet): Verdict {
    const { ir, snapshot } = this.world;
    if (this.isRefused(packet.from)) return evaluate(ir, snapshot, packet);
    return simulate(this.#withServices, packet, snapshot.pods.get(packet.from)?.ips ?? []);
  }
}

/** A key of a row: equal rows have equal keys. */
export function rowKey(row: Row | undefined): string {
  return row === undefined ? '' : Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('latin1');
}

/** A packet with a port of the span. */
export function packetIn(span: PortSpan, from: string, to: string): Packet {
  const protocol = protocolOf(span);
  if (span.fragment) return { from, to, protocol, port: 0, fragment: true };
  return { from, to, protocol, port: Math.min(span.lo, LAST_PORT) };
}
