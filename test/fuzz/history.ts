/** A history of changes, as the agent lives through it, and each of its states as somebody sees it who has just come. */
import { asksForSaid } from '../../src/ir/said.js';
import { Compiler } from '../../src/compile/index.js';
import { DialectRegistry, toIr } from '../../src/dialects/index.js';
import { kindInfo, type Section } from '../../src/identity/kinds.js';
import { LiveSnapshot } from '../../src/identity/live.js';
import type { Entry } from '../../src/identity/entry.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import { simulate } from '../../src/image/simulate.js';
import type { Image } from '../../src/image/types.js';
import type { Learned, Packet, Verdict } from '../../src/ir/packet.js';
import { evaluate } from '../../src/ir/evaluate.js';
import { senderOf } from '../../src/ir/sender.js';
import type { Ir } from '../../src/ir/types.js';
import type { KubeObject } from '../../src/kube/client/client.js';
import { EntryReader } from '../../src/kube/read.js';
import { comparable, localPods, type World } from '../engines/engine.js';
import { NODE } from '../policy/world.js';
import type { ManyPackets, Sent } from './kernel.js';
import { DNS_PORT, Knowledge, type Lesson, queryOf, RESOLVERS } from './lessons.js';
import type { Manifest } from './objects/names.js';
import { isKept, withSayings } from './sayings.js';
import type { Change } from './world.js';

/** Changes that become visible together, and the own node's addresses from then on. */
export interface Batch {
  readonly changes: readonly Change[];
  readonly ownIps: readonly string[];
  /** What pods learn once the changes are visible. */
  readonly lessons?: readonly Lesson[];
}

/** What the engines say where they do not say the same, or what else is not as it should be. */
export interface Disagreement {
  /** verdict: of a first packet; flow: of a flow known before the last change; state: without a packet. */
  readonly about: 'verdict' | 'flow' | 'state';
  readonly answers: Readonly<Record<string, unknown>>;
  readonly packet?: Packet;
}

/** The agent's side: one source, one registry, one kernel with its compiler and store. */
export class Agent {
  readonly #live = new LiveSnapshot(NODE);
  readonly #registry = new DialectRegistry();
  readonly #reader = new EntryReader();
  readonly #objects = new Map<string, Manifest>();
  #ownIps: readonly string[] = [];
  #world!: World;
  readonly #knowledge = new Knowledge();

  constructor(private readonly kernel: ManyPackets) {
    kernel.restart();
    kernel.trust();
  }

  get world(): World {
    return this.#world;
  }

  /** Makes the changes visible, and teaches. */
  take(batch: Batch): void {
    this.change(batch);
    if (!batch.lessons?.length) return;
    const fresh = this.fresh();
    for (const lesson of batch.lessons) this.teach(fresh, lesson);
  }

  /** Makes the changes visible. */
  change({ changes, ownIps }: Batch): void {
    for (const [id, object] of changes) {
      const held = this.#objects.get(id);
      if (object) this.#objects.set(id, object);
      else this.#objects.delete(id);
      const of = object ?? held;
      if (of) apply(this.#live, this.#reader, of, object);
    }
    this.#ownIps = ownIps;
    const snapshot = this.#live.snapshot(ownIps);
    this.#world = { snapshot, ir: withSayings(this.#registry.toIr(snapshot).ir, this.#objects.values()) };
    this.kernel.use(this.#world);
  }

  /** The same state without a past. Its policies' last good states are all that it takes over. */
  fresh(): Fresh {
    return new Fresh([...this.#objects.values()].reverse(), this.#ownIps, this.#world.ir, this.#knowledge);
  }

  /**
   * Lets a pod learn, if it is there: by a query, if it has one, and its answer, else by hand. The answer to a query that did not
   * pass comes all the same, and must teach nothing.
   */
  teach(fresh: Fresh, lesson: Lesson): { found?: Disagreement; took: boolean } {
    const { pod, uid, server } = lesson;
    if (!fresh.senders.includes(pod) || senderOf(fresh.snapshot, pod)?.uid !== uid) return { took: false };
    let took = true;
    if (server === undefined) this.kernel.learn(lesson);
    else {
      const { verdict, sent, found } = judged(fresh, this, queryOf(lesson), lesson.type);
      if (found) return { found, took: false };
      took = verdict.verdict === 'allow';
      this.kernel.answer(lesson, sent.sport);
    }
    if (took) this.#knowledge.add(lesson);
    fresh.learn();
    return { took };
  }

  judge(packet: Packet, type?: number) {
    return type === undefined ? this.kernel.judge(packet) : this.kernel.judge(packet, { type });
  }
}

/** evaluate and simulate, from scratch. */
export class Fresh {
  readonly snapshot: Snapshot;
  readonly #image: Image;
  readonly senders: readonly string[];
  #learned!: Learned;

  constructor(
    readonly objects: readonly Manifest[],
    readonly ownIps: readonly string[],
    readonly ir: Ir,
    private readonly knowledge = new Knowledge(),
  ) {
    const live = new LiveSnapshot(NODE);
    const reader = new EntryReader();
    for (const object of objects) apply(live, reader, object, object);
    this.snapshot = live.snapshot(ownIps);
    this.senders = localPods(this.snapshot);
    this.#image = new Compiler().compile(ir, this.snapshot, this.senders);
    this.learn();
  }

  /** What the pods know. */
  get learned(): Learned {
    return this.#learned;
  }

  /** Somebody has learned something. */
  learn(): void {
    this.#learned = this.knowledge.of(this.snapshot, this.senders);
  }

  evaluate(packet: Packet, learned = this.#learned): Verdict {
    return evaluate(this.ir, this.snapshot, packet, learned);
  }

  simulate(packet: Packet): Verdict {
    return simulate(this.#image, packet, senderOf(this.snapshot, packet.from)?.ips ?? [], this.#learned);
  }

  /**
   * A registry without a past reads the same, unless something of the past goes on: the last good state of a policy that is faulty
   * now, or the policies of a namespace that ends.
   */
  anotherIr(): Ir | undefined {
    if ([...this.snapshot.namespaces.values()].some((n) => n.terminating)) return undefined;
    const { ir, problems } = toIr(this.snapshot);
    return problems.some((p) => p.severity === 'error') ? undefined : withSayings(ir, this.objects);
  }
}

function apply(live: LiveSnapshot, reader: EntryReader, of: Manifest, object: Manifest | undefined): void {
  const { apiVersion, kind, metadata } = of;
  const info = kindInfo(apiVersion, kind);
  if (!info) throw new Error(`no kind ${apiVersion} ${kind}`);
  const key = info.namespaced ? `${metadata.namespace}/${metadata.name}` : metadata.name;
  const entry: Entry | undefined = object && reader.read(object as unknown as KubeObject);
  if (entry && entry.key !== key) throw new Error(`${key} is read as ${entry.key}`);
  const section: Section = info.section;
  live.apply(`${apiVersion} ${kind}`, section, { changed: new Map([[key, entry]]) });
}

/** Whether all say the same. @param type of a query */
export function judged(
  fresh: Fresh,
  agent: Agent,
  packet: Packet,
  type?: number,
): { found?: Disagreement; verdict: Verdict; sent: Sent } {
  const { verdict, sent } = agent.judge(packet, type);
  // Of a query over TCP that found no connection: its handshake.
  packet = sent.packet;
  const reference = fresh.evaluate(packet);
  // Of a handshake nothing is told while what follows decides.
  const isPending = packet.protocol === 6 && !packet.said && verdict.verdict === 'partial' && verdict.rule === 0;
  const told = isPending && reference.verdict === 'allow' ? reference : verdict;
  // Of a query that passes on an open connection nothing is told.
  const silent = packet.query !== undefined && packet.protocol === 6 && verdict.verdict === 'allow';
  // The name in a datagram that is denied whatever it asks for is not read, so what staged rules say of it is not known.
  const { query, ...unread } = packet;
  const blind = query !== undefined && reference.audit && fresh.evaluate(unread).verdict === 'deny';
  const said = (v: Verdict) => {
    if (silent) return { verdict: v.verdict };
    const { audit: _, ...inForce } = v;
    return comparable(blind ? inForce : v, packet);
  };
  const answers = { evaluate: said(reference), simulate: said(fresh.simulate(packet)), kernel: said(told) };
  const first = JSON.stringify(answers.evaluate);
  const isUnheard = ['deny', reference.verdict].includes(verdict.verdict) && saysToResolver(fresh, packet);
  const same = JSON.stringify(answers.simulate) === first && (isUnheard || JSON.stringify(answers.kernel) === first);
  return { verdict: reference, sent, ...(same ? {} : { found: { about: 'verdict', answers, packet } }) };
}

/**
 * Whether it may matter what a connection to a trusted resolver says: those are read for queries, and nothing else that
 * they say is judged, so rules that ask for it do not match.
 */
function saysToResolver(fresh: Fresh, packet: Packet): boolean {
  if (packet.protocol !== 6 || packet.port !== DNS_PORT || !RESOLVERS.includes(packet.to)) return false;
  return fresh.ir.tiers.some(({ policies }) => policies.some(({ rules }) => rules.some(asksForSaid)));
}

/**
 * A flow from before the change: its next packet is judged by what is in force now. Of a query over TCP only that it does not pass
 * if it may not: a connection whose beginning was not followed is ended.
 */
export function judgedAgain(fresh: Fresh, kernel: ManyPackets, sent: Sent): Disagreement | undefined {
  const now = kernel.again(sent);
  if (now === undefined) return undefined;
  const { packet } = sent;
  const reference = fresh.evaluate(packet);
  const { verdict } = reference;
  if ((verdict === 'deny') === (now === 'deny')) return undefined;
  if (packet.query !== undefined && packet.protocol === 6 && now === 'deny') return undefined;
  if (now === 'deny' && saysToResolver(fresh, packet)) return undefined;
  // What was denied is over, and what nobody listened to before is not known now. A datagram says all of it again; but
  // a hello that was heard for the audit was not kept to be compared, and its id is not taken once more.
  const isOver = packet.protocol === 6 ? sent.wasDenied || !sent.heard : sent.audited;
  if (packet.said && now === 'deny' && (isOver || !isKept(packet))) return undefined;
  return { about: 'flow', answers: { evaluate: verdict, kernel: now }, packet };
}

/** What needs no packet: the IR, and what stands in the maps. */
export function judgedState(fresh: Fresh, agent: Agent, kernel: ManyPackets): Disagreement | undefined {
  const another = fresh.anotherIr();
  if (another && JSON.stringify(another) !== JSON.stringify(agent.world.ir))
    return { about: 'state', answers: { anew: another, agent: agent.world.ir } };
  const left = kernel.verify();
  return left.length > 0 ? { about: 'state', answers: { maps: left } } : undefined;
}
