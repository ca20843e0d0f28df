/**
 * What pods learn of names while a history goes on, and what the engines are told of it. A pod learns by a query and its answer
 * through the hooks, as in production, or, where its policies do not let it ask, by hand.
 */
import type { Snapshot } from '../../src/identity/snapshot.js';
import { NODE_SENDER, senderOf } from '../../src/ir/sender.js';
import type { Learned, LearnedName, Packet } from '../../src/ir/packet.js';
import { a, addressBytes, cname, encodeMessage, svcb, TYPES } from '../names/wire.js';
import { nameFor } from './objects/domains.js';
import { EDGES, NODE_IPS, POD_IPS4, POD_IPS6, VIPS4 } from './objects/names.js';
import type { Random } from './random.js';

/** An answer that a pod got, or would have got. */
export interface Lesson {
  readonly pod: string;
  /** Another pod of the same name knows nothing of it. */
  readonly uid: string;
  readonly name: string;
  /** The CNAMEs in the answer lead to these. Always the same for a name, as a case file says it once. */
  readonly aliases: readonly string[];
  readonly addresses: readonly string[];
  /** The resolver that was asked; undefined: it is taught by hand. */
  readonly server?: string;
  /** Of the query. */
  readonly type: number;
  /** Its query did not pass, so nothing was learned. */
  readonly refused?: boolean;
}

/** Whose answers count: outside, in the cluster's network, a pod. Rules of CIDRs and of pods lie over them. */
export const RESOLVERS: readonly string[] = ['192.0.2.53', '10.97.0.10', '198.51.100.53', '2001:db8::53', '10.244.0.2'];
export const DNS_PORT = 53;

/** Of names outside, and whatever else an answer may say: pods, nodes, Services, this node itself. */
const OUTSIDE: readonly string[] = [
  ...['203.0.113.1', '203.0.113.2', '203.0.113.3', '198.51.100.7', '192.0.2.130', '192.0.2.1', '2001:db8:2::9'],
  ...['2001:db8:1::42', '2600::1', '192.168.0.4', '10.97.0.1'],
];
const INSIDE: readonly string[] = [...POD_IPS4, ...POD_IPS6, ...NODE_IPS, ...VIPS4, ...EDGES];

/** Chooses what pods learn, from the names that policies have. */
export class Teacher {
  readonly #aliases = new Map<string, readonly string[]>();

  constructor(private readonly r: Random) {}

  /**
   * Some answers, one pod's after the other's.
   * @param texts names and patterns of policies
   * @param denied packets that may get through once their address has a name
   */
  lessons(
    snapshot: Snapshot,
    senders: readonly string[],
    texts: readonly string[],
    max: number,
    denied: readonly Packet[] = [],
  ): Lesson[] {
    if (senders.length === 0) return [];
    const { r } = this;
    const some = Array.from({ length: r.below(max + 1) }, () => {
      const packet = denied.length > 0 && r.chance(50) ? r.pick(denied) : undefined;
      return this.#lesson(snapshot, packet?.from ?? r.pick(senders), texts, packet?.to);
    });
    return some.sort((x, y) => (x.pod < y.pod ? -1 : x.pod > y.pod ? 1 : 0));
  }

  #lesson(snapshot: Snapshot, pod: string, texts: readonly string[], to?: string): Lesson {
    const { r } = this;
    const name = nameFor(r, texts);
    const address = () => r.pick(r.chance(82) ? OUTSIDE : INSIDE);
    const addresses = [
      ...new Set([...(to === undefined ? [] : [to]), ...Array.from({ length: 1 + r.below(3) }, address)]),
    ];
    const uid = senderOf(snapshot, pod)?.uid ?? '';
    const aliases = this.#aliasesOf(name, texts);
    // What the node asks is not read at its uplink.
    const server = r.pick(RESOLVERS);
    const asks = pod !== NODE_SENDER && !isPod(snapshot, server) && r.chance(70);
    const type = asks && aliases.length === 0 && r.chance(12) ? TYPES.HTTPS : r.pick([TYPES.A, TYPES.AAAA]);
    return { pod, uid, name, aliases, addresses, type, ...(asks ? { server } : {}) };
  }

  #aliasesOf(name: string, texts: readonly string[]): readonly string[] {
    const { r } = this;
    let aliases = this.#aliases.get(name);
    if (!aliases) {
      const found = r.chance(30) ? Array.from({ length: 1 + r.below(3) }, () => nameFor(r, texts)) : [];
      aliases = [...new Set(found)].filter((alias) => alias !== name);
      this.#aliases.set(name, aliases);
    }
    return aliases;
  }
}

/** Whether a pod has the address. What it answers meets its own hooks first, which nobody runs here. */
export function isPod({ pods }: Snapshot, ip: string): boolean {
  return [...pods.values()].some((pod) => pod.ips.includes(ip));
}

/** The query of a lesson. */
export function queryOf({ pod, name, server = '' }: Lesson): Packet {
  return { from: pod, to: server, protocol: 17, port: DNS_PORT, query: name };
}

/** What the resolver answers. @param id of the query */
export function answerOf({ name, aliases, addresses, type }: Lesson, id: number): Buffer {
  const chain = [name, ...aliases];
  const last = chain.at(-1) as string;
  const links = aliases.map((alias, i) => cname(chain[i] as string, alias));
  const questions = [{ name, type }];
  if (type !== TYPES.HTTPS)
    return encodeMessage({ id, questions, answers: [...links, ...addresses.map((ip) => a(last, ip))] });
  const hints = ([4, 6] as const).flatMap((key) => {
    const of = addresses.filter((ip) => ip.includes(':') === (key === 6)).map(addressBytes);
    return of.length > 0 ? [[key, Buffer.concat(of)] as const] : [];
  });
  return encodeMessage({ id, questions, answers: [{ owner: name, type, data: svcb(1, '', hints) }] });
}

/** The names that each address of a lesson has from now on. */
function namesOf({ name, aliases }: Lesson): LearnedName[] {
  return [{ name }, ...aliases.map((alias): LearnedName => ({ name: alias, alias: true }))];
}

/** What pods know, by their UIDs. */
export class Knowledge {
  readonly #known = new Map<string, Map<string, LearnedName[]>>();

  add(lesson: Lesson): void {
    const { uid, addresses } = lesson;
    const known = this.#known.get(uid) ?? new Map<string, LearnedName[]>();
    this.#known.set(uid, known);
    for (const address of addresses) {
      const names = known.get(address) ?? [];
      for (const one of namesOf(lesson))
        if (!names.some(({ name, alias }) => name === one.name && alias === one.alias)) names.push(one);
      known.set(address, names);
    }
  }

  /** As the engines take it. */
  of(snapshot: Snapshot, senders: readonly string[]): Learned {
    const learned = new Map<string, ReadonlyMap<string, readonly LearnedName[]>>();
    for (const key of senders) {
      const known = this.#known.get(senderOf(snapshot, key)?.uid ?? '');
      if (known) learned.set(key, known);
    }
    return learned;
  }
}

/** The same lessons as a case file has them: for each pod the addresses of its names. */
export function namesText(lessons: readonly Lesson[]): string[] {
  const pods: Record<string, Record<string, { aliases: readonly string[]; addresses: string[] }>> = {};
  for (const { pod, name, aliases, addresses } of lessons) {
    const names = (pods[pod] ??= {});
    const known = (names[name === '' ? '.' : name] ??= {
      aliases: aliases.map((n) => (n === '' ? '.' : n)),
      addresses: [],
    });
    known.addresses = [...new Set([...known.addresses, ...addresses])];
  }
  return lessons.length === 0 ? [] : [`names: ${JSON.stringify(pods)}`];
}
