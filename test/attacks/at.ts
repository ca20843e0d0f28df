/** One attack at one place: who attacks, over which interface, in which family, and what it has sent. */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Arrival, Control, Family, Forbidden, Style } from './attack.js';
import type { Actor, Bed } from './bed.js';
import { eth, type IpFields, IPV4, IPV6, ip, type Link, type Transport } from './craft.js';

/** Enough to be nobody else's. */
const MARKER = 8;

export class At {
  readonly forbidden: Forbidden[] = [];
  readonly controls: Control[] = [];
  readonly wrongs: string[] = [];
  readonly #cleanUps: (() => Promise<unknown>)[] = [];
  #port = 20000 + Math.floor(Math.random() * 20000);

  constructor(
    readonly bed: Bed,
    readonly style: Style,
    readonly family: Family,
    /** At least one variant of each, and no more than that takes. */
    readonly short: boolean,
  ) {}

  get me(): Actor {
    return this.actor('attacker');
  }

  /** The attacker's neighbour, governed as well, who helps. */
  get colluder(): Actor {
    return this.actor('colluder');
  }

  actor(app: string): Actor {
    return this.bed.actors.get(`${app}-${this.style}`) as Actor;
  }

  /** The attacker's own address. */
  get own(): string {
    return this.me.address(this.family);
  }

  /** `near` is on the same node and the same kind of interface: `bad-near` is bad-ptp or bad-bridge. */
  address(name: string): string {
    return this.bed.address(this.name(name), this.family);
  }

  name(name: string): string {
    return name.endsWith('-near') ? name.replace('near', this.style) : name;
  }

  /** Places whom the attacker may not talk to, one of each kind. */
  get denied(): readonly string[] {
    return ['bad-ptp', 'bad-bridge', 'bad-far', 'two'];
  }

  /** Something else that must not be. */
  wrong(what: string): void {
    this.wrongs.push(`${this.style} v${this.family} ${what}`);
  }

  /** Frames to each denied place, with a marker each that must not arrive. */
  toDenied(
    variant: string,
    make: (dst: string, marker: Buffer, place: string) => Buffer | readonly Buffer[],
  ): Buffer[] {
    return this.denied.flatMap((place) => make(this.address(place), this.forbid(`${variant}, to ${place}`), place));
  }

  /** A source port that nothing has used. */
  port(): number {
    return this.#port++;
  }

  /** Eight bytes that must arrive nowhere, or not where `counts`. */
  forbid(variant: string, counts: (arrival: Arrival) => boolean = () => true, length = MARKER): Buffer {
    const marker = randomBytes(length);
    this.forbidden.push({ marker, variant: `${this.style} v${this.family} ${variant}`, counts });
    return marker;
  }

  /** Eight bytes that arrive because of a limit that is known: they are counted by themselves. */
  measure(variant: string, limit: string, counts?: (arrival: Arrival) => boolean): Buffer {
    const marker = this.forbid(variant, counts);
    (this.forbidden.at(-1) as Forbidden).limit = limit;
    return marker;
  }

  /** Eight bytes that must arrive at a place: the same kind of packet to where it may go. */
  control(variant: string, place: string, marker: Buffer = randomBytes(MARKER)): Buffer {
    this.controls.push({ marker, variant: `${this.style} v${this.family} ${variant}`, place: this.name(place) });
    return marker;
  }

  /** Controls go where this address is seen to arrive. */
  seenAt(name: string): string {
    return ['one', 'two', 'open', 'a', 'b'].includes(name) ? 'wire' : this.name(name);
  }

  /** Whether it arrived at a pod that the attacker may not talk to. */
  readonly atDenied = (arrival: Arrival): boolean => arrival.place.startsWith('bad-');

  /** A frame from the attacker to an address, through its gateway. */
  frame(dst: string, l4: Transport, fields: Partial<IpFields> = {}, link: Partial<Link> = {}): Buffer {
    const f = { src: this.own, dst, ...fields };
    return this.link(ip(f, l4), link, f.dst.includes(':') ? IPV6 : IPV4);
  }

  /** An IP packet, or anything else, on the attacker's link. */
  link(payload: Buffer, link: Partial<Link> = {}, type = this.family === 4 ? IPV4 : IPV6): Buffer {
    return eth({ ...this.me.link, ...link }, type, payload);
  }

  async send(frames: readonly Buffer[], opts: Record<string, unknown> = {}, who: Actor = this.me): Promise<void> {
    await who.hands.call('send', { frames: frames.map((f) => f.toString('hex')), ...opts });
  }

  /** Frames again and again until stop(). */
  async stream(name: string, frames: readonly Buffer[], pause = 0.002): Promise<void> {
    await this.me.hands.call('stream', { name, frames: frames.map((f) => f.toString('hex')), pause });
    this.after(() => this.stop(name));
  }

  async stop(name: string): Promise<void> {
    await this.me.hands.call('stop', { name });
  }

  /** Long enough for what was sent to have been dealt with on all of the way. */
  async settle(): Promise<void> {
    await sleep(20);
  }

  /** The last `count` things that were to be done after the attack are done now. */
  async undo(count: number): Promise<void> {
    for (const one of this.#cleanUps.splice(-count).reverse()) await one();
  }

  /** Done when the attack is over, the last first. */
  after(cleanUp: () => Promise<unknown>): void {
    this.#cleanUps.push(cleanUp);
  }

  async cleanUp(): Promise<void> {
    for (const one of this.#cleanUps.reverse()) await one();
  }
}
