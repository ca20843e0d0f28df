/**
 * What pods know of names: a second reading of RFC 1035 (4.1, 7.3), RFC 2181 (5.2, 8), RFC 5452 (9.1) and of what the product
 * promises, without a line of the first one. An answer counts if it comes from the trusted server that was asked, to the port and
 * endpoint that asked, within 30 seconds, with the query's id and question. A query is answered once. It teaches the addresses of the
 * name that was asked for and of the targets of its CNAMEs. What has expired stays known until the agent has looked, and all of a name
 * while one of its addresses is in use.
 */
import {
  type Answer,
  type Answered,
  type Ask,
  type DnsStep,
  type Pod,
  TRUSTED,
  TTL_EXTRA,
  TTL_MIN,
} from './dns-types.js';

const ANSWER_S = 30;
const WEEK = 604_800;
/** Seconds that a sequence may take by the clock: what is as near to an end may be over or not. */
const SLACK = 3;

interface Known {
  readonly pod: Pod;
  readonly name: string;
  readonly address: string;
  readonly alias: boolean;
  until: number;
}

/** undefined: the clock decides. */
export type Expected = 'known' | 'unknown' | undefined;

export class DnsModel {
  #now = 0;
  /** All that passed, and which of them are not answered yet. */
  readonly #made = new Map<number, Ask>();
  readonly #asked = new Map<number, { ask: Ask; at: number }>();
  readonly #known = new Map<string, Known>();
  readonly #open = new Map<string, { pod: Pod; to: string }>();

  /** @param passed whether the packet of the step passed */
  take(step: DnsStep, passed: boolean): void {
    if (step.do === 'wait') this.#now += step.seconds;
    if (step.do === 'ask' && passed) {
      this.#made.set(step.ask, step);
      this.#asked.set(step.ask, { ask: step, at: this.#now });
    }
    if (step.do === 'answer') this.#answer(step);
    if (step.do === 'flow' && passed && step.hold) this.#open.set(flowKey(step), step);
    if (step.do === 'close') this.#open.delete(flowKey(step));
  }

  /** Lines of what a pod knows, sorted. */
  lines(pod: Pod): string[] {
    return [...this.#known.values()]
      .filter((k) => k.pod === pod)
      .map(lineOf)
      .sort();
  }

  /** Whether a pod may reach an address: web by names that it asked for, api by those of aliases too. */
  mayReach(pod: Pod, to: string): boolean {
    return [...this.#known.values()].some(
      (k) => k.pod === pod && k.address === to && isAllowed(k.name) && (!k.alias || pod === 'default/api'),
    );
  }

  /** The agent looks. @param left whether a line is still there by the kernel, where the clock decides */
  sweep(left: (pod: Pod, line: string) => boolean): void {
    const used = new Set<string>();
    for (const { pod, to } of this.#open.values())
      for (const k of this.#known.values()) if (k.pod === pod && k.address === to) used.add(`${pod} ${k.name}`);
    for (const [key, k] of this.#known) {
      if (used.has(`${k.pod} ${k.name}`)) continue;
      const over = this.#now - k.until;
      if (Math.abs(over) <= SLACK ? !left(k.pod, lineOf(k)) : over > 0) this.#known.delete(key);
    }
  }

  #answer(answer: Answer): void {
    const made = this.#made.get(answer.ask);
    const ask = made && this.#answered(answer, made);
    if (!ask) return;
    for (const { name, alias, address, ttl } of taughtBy(ask.name, answer.records)) {
      const until = this.#now + Math.max(TTL_MIN, Math.min(WEEK, ttl)) + TTL_EXTRA;
      const known: Known = { pod: ask.pod, name, address, alias, until };
      const key = `${ask.pod} ${lineOf(known)}`;
      const before = this.#known.get(key);
      this.#known.set(key, before && before.until > until ? before : known);
    }
  }

  /** The query that an answer answers. Another one than it was made for may have asked for just this. */
  #answered(answer: Answer, ask: Ask): Ask | undefined {
    const {
      id = ask.id,
      source = ask.server,
      sport = ask.port,
      dport = ask.sport,
      to = ask.pod,
      flags = 0x8180,
    } = answer;
    const { name, type, class: klass } = answer.question ?? ask;
    // A response, to a standard query, without an error; cut or whole.
    if ((flags & 0x8000) === 0 || (flags & 0x7800) !== 0 || (flags & 15) !== 0) return undefined;
    if (!TRUSTED.includes(source) || sport !== 53) return undefined;
    const fits = ({ ask: one, at }: { ask: Ask; at: number }) =>
      one.pod === to &&
      one.server === source &&
      one.port === sport &&
      one.sport === dport &&
      one.tcp === ask.tcp &&
      one.id === id &&
      lower(one.name) === lower(name) &&
      one.type === type &&
      one.class === klass &&
      this.#now - at <= ANSWER_S;
    const found = [...this.#asked].filter(([, one]) => fits(one));
    for (const [key] of found) this.#asked.delete(key);
    return found[0]?.[1].ask;
  }
}

const lower = (name: string) => name.toLowerCase();
const flowKey = ({ pod, to, sport }: { pod: Pod; to: string; sport: number }) => `${pod} ${to} ${sport}`;
const lineOf = ({ name, address, alias }: Omit<Known, 'pod' | 'until'>) => `${name} ${address}${alias ? ' alias' : ''}`;

/** ok.example and whatever is below it. */
function isAllowed(name: string): boolean {
  const labels = name.split('.');
  return labels.length >= 2 && labels.at(-1) === 'example' && labels.at(-2) === 'ok';
}

/** Follows the CNAMEs from a name, each owner's first one, never to a name that was passed already. */
function taughtBy(asked: string, records: readonly Answered[]) {
  const inside = records.filter((r) => r.class === 1);
  const chain = [{ name: lower(asked), ttl: Number.POSITIVE_INFINITY }];
  for (let at = chain[0]; at; ) {
    const { name, ttl } = at;
    const next = inside.find((r) => r.target !== undefined && lower(r.owner) === name);
    const target = next && lower(next.target as string);
    if (!next || target === undefined || chain.some((c) => c.name === target)) break;
    at = { name: target, ttl: Math.min(ttl, seconds(next.ttl)) };
    chain.push(at);
  }
  return inside.flatMap((record) => {
    const end = chain.findIndex(({ name }) => name === lower(record.owner));
    const { address } = record;
    if (address === undefined || end < 0) return [];
    const ttl = Math.min(seconds(record.ttl), chain[end]?.ttl ?? 0);
    return chain.slice(0, end + 1).map(({ name }, i) => ({ name, alias: i > 0, address, ttl }));
  });
}

/** RFC 2181, 8: with the highest bit, it is 0. */
const seconds = (ttl: number) => (ttl >= 2 ** 31 ? 0 : ttl);
