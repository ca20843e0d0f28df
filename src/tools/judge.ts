/**
 * Verdicts of many packets in one world. evaluate() reads every policy for each packet; here the policies are compiled once, as for the
 * kernel, and simulate() answers. What no rule of a pod's set tells apart has the same row, and is asked for once.
 */
import { Compiler } from '../compile/index.js';
import type { Snapshot } from '../identity/snapshot.js';
import { classLookup } from '../image/lookup.js';
import { classRow, fixedRows, CLASS_SELF, portRow, type Row, setIndex } from '../image/rows.js';
import { simulate } from '../image/simulate.js';
import type { Image, ImageService, Packet, PolicySet, Verdict } from '../image/types.js';
import { evaluate } from '../ir/evaluate.js';
import { ruleId } from '../ir/names.js';
import { DEFAULT_RULE, implicitRules, type Ir, type RuleRef } from '../ir/types.js';
import { senderOf } from '../ir/sender.js';
import { type ServicePlace, servicePlaces, type World } from './packets.js';
import { LAST_PORT, type PortSpan, protocolOf } from './ranges.js';

const NO_SERVICES: ReadonlyMap<string, ImageService> = new Map();

export class Judge {
  readonly image: Image;
  /** By `ip|port|protocol`. */
  readonly places: ReadonlyMap<string, ServicePlace>;
  /** Without Services: an address is judged as itself. */
  private readonly plain: Image;
  private readonly plainSnapshot: Snapshot;
  private readonly withServices: Image;
  private readonly classes = new Map<string, number>();
  private refs: ReadonlyMap<number, RuleRef> | undefined;
  private readonly lookup: (ip: string) => number;

  /** @param pods `namespace/name` of those that send */
  constructor(
    readonly world: World,
    pods: readonly string[],
  ) {
    const { ir, snapshot } = world;
    const known = pods.filter((key) => senderOf(snapshot, key));
    this.image = new Compiler().compile(ir, snapshot, known);
    this.places = servicePlaces(snapshot);
    // The kernel asks for kinds of backends, and not for many: here each is judged, as evaluate() does.
    const services = new Map([...this.places].map(([id, place]) => [id, { ...place, many: false }]));
    this.withServices = { ...this.image, services };
    this.plain = { ...this.image, services: NO_SERVICES };
    this.plainSnapshot = { ...snapshot, services: hidden(snapshot.services) };
    this.lookup = classLookup(this.image);
  }

  /** Its set is too large for the kernel's maps: evaluate() answers for it. */
  isRefused(pod: string): boolean {
    return this.image.refused.has(pod);
  }

  /** undefined: no policy selects it. */
  setOf(pod: string): PolicySet | undefined {
    return this.image.sets.get(this.image.endpoints.get(pod) ?? 0);
  }

  ruleOf(id: number): RuleRef | undefined {
    const found = this.image.rules.get(id);
    if (found || id === 0) return found;
    // A rule of a set that was refused.
    this.refs ??= allRefs(this.world.ir);
    return this.refs.get(id);
  }

  /** The class of an address; addresses of one class are alike to every rule, but for a pod's own. */
  classOf(ip: string): number {
    let id = this.classes.get(ip);
    if (id === undefined) this.classes.set(ip, (id = this.lookup(ip)));
    return id;
  }

  /** Rules of the set whose peers mean the class, and, where the address is the sender's own, itself. */
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

  /** May a rule of the pod's mean the pod itself? */
  meansItself(pod: string): boolean {
    const set = this.setOf(pod);
    return this.isRefused(pod) || (set !== undefined && setIndex(set).self !== undefined);
  }

  /** @param own the address is the sender's */
  address(packet: Packet, own = false): Verdict {
    if (this.isRefused(packet.from)) return evaluate(this.world.ir, this.plainSnapshot, packet);
    return simulate(this.plain, packet, own ? [packet.to] : []);
  }

  /** Also of addresses that are Services'. */
  any(packet: Packet): Verdict {
    const { ir, snapshot } = this.world;
    if (this.isRefused(packet.from)) return evaluate(ir, snapshot, packet);
    return simulate(this.withServices, packet, snapshot.pods.get(packet.from)?.ips ?? []);
  }
}

/** Services that have no address of their own; what is behind them stays. */
function hidden(services: Snapshot['services']): Snapshot['services'] {
  return new Map(
    [...services].map(([key, service]) => {
      const ports = service.ports.map((port) => ({ ...port, nodePort: undefined }));
      return [key, { ...service, vips: [], ports }];
    }),
  );
}

export function rowKey(row: Row | undefined): string {
  return row === undefined ? '' : Buffer.from(row.buffer, row.byteOffset, row.byteLength).toString('latin1');
}

/** A packet of the span. */
export function packetIn(span: PortSpan, from: string, to: string): Packet {
  const protocol = protocolOf(span);
  if (span.fragment) return { from, to, protocol, port: 0, fragment: true };
  return { from, to, protocol, port: Math.min(span.lo, LAST_PORT) };
}

function allRefs(ir: Ir): Map<number, RuleRef> {
  const out = new Map<number, RuleRef>();
  for (const { name: tier, defaultAction: action, policies } of ir.tiers) {
    const refs = [...implicitRules(policies)].map((rule) => rule.ref);
    for (const policy of policies) {
      refs.push(...policy.rules.map((rule) => rule.ref), {
        policy: policy.ref,
        index: DEFAULT_RULE,
        tier,
        staged: false,
        action,
      });
    }
    for (const ref of refs) for (const staged of [false, true]) out.set(ruleId({ ...ref, staged }), { ...ref, staged });
  }
  return out;
}
