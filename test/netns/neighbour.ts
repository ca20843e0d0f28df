/**
 * What a pod has going on while another one floods: connections that were opened to it and by it, idle and busy, and new ones.
 * Each is checked by the sockets at its ends. What a policy allows it is to speak to its peers' two ports (`neighbourRule`): the
 * answers that it owes others pass because they asked, and for no other reason.
 */
import type { Connection, Host, Load } from './host.js';
import { type EgressRule, toHosts } from './policies.js';
import type { Pod } from './world.js';

/** Of the pod. */
const OWN = { tcp: 7000, udp: 7001 } as const;
/** Of its peers; nobody may speak to the last one. */
const THEIRS = { tcp: 7100, udp: 7101, denied: 7102 } as const;
/** Seconds. A first packet that is lost is sent again after one: what takes as long was not judged at once. */
const AT_ONCE = 0.9;
/** Seconds for an answer on a connection that is open. */
const PATIENCE = 2.5;
const TRIES = 3;
/** Seconds between two words on what is busy. */
const PAUSE = 0.05;
/** Words on an idle connection before it falls silent. */
const WORDS = 3;

/** What neighbours are allowed. */
export function neighbourRule(peer: string): EgressRule {
  return toHosts([peer], `tcp/${THEIRS.tcp}`, `udp/${THEIRS.udp}`);
}

/** A peer outside, on whom many neighbours call. */
export class Caller {
  private constructor(
    readonly host: Host,
    readonly ip: string,
  ) {}

  static async create(host: Host, ip: string): Promise<Caller> {
    await host.listen(ip, THEIRS.tcp, 'tcp', 'peer');
    await host.listen(ip, THEIRS.udp, 'udp', 'peer');
    await host.listen(ip, THEIRS.denied, 'tcp', 'peer');
    return new Caller(host, ip);
  }
}

/** An idle connection, and the port by which its end is told of. */
export interface Idle {
  readonly what: 'inbound' | 'outbound';
  /** The pod's, and the peer's. */
  readonly localPort: number;
  readonly remotePort: number;
  /** Words that have been said on it, each of which is answered. */
  readonly words: number;
}

export class Neighbour {
  readonly #pushers: { tcp: number; udp: number };
  #inTcp!: Connection;
  #inUdp!: Connection;
  #outTcp!: Connection;
  #outUdp!: Connection;
  readonly #busy: [what: string, load: Pick<Load, 'host' | 'handle'>][] = [];

  private constructor(
    readonly pod: Pod,
    readonly caller: Caller,
    pushers: { tcp: number; udp: number },
  ) {
    this.#pushers = pushers;
  }

  /** Opens all of it; the pod's policy is in force by now. */
  static async create(pod: Pod, caller: Caller): Promise<Neighbour> {
    const listen = async (proto: 'tcp' | 'udp') =>
      (await pod.host.call('listen', { addr: '::', port: OWN[proto], proto, name: pod.name })).handle as number;
    const neighbour = new Neighbour(pod, caller, { tcp: await listen('tcp'), udp: await listen('udp') });
    await neighbour.#open();
    return neighbour;
  }

  async #open(): Promise<void> {
    const { pod, caller } = this;
    this.#inTcp = await caller.host.open(pod.ip4, OWN.tcp, { proto: 'tcp' });
    this.#inUdp = await caller.host.open(pod.ip4, OWN.udp, { proto: 'udp' });
    this.#outTcp = await pod.host.open(caller.ip, THEIRS.tcp, { proto: 'tcp' });
    this.#outUdp = await pod.host.open(caller.ip, THEIRS.udp, { proto: 'udp' });
    for (let i = 0; i < WORDS; i++)
      for (const each of [this.#inTcp, this.#inUdp, this.#outTcp, this.#outUdp]) {
        const { result } = await each.say();
        if (result !== 'ok') throw new Error(`${pod.name}: a connection does not even begin: ${result}`);
      }
    const chat = async (what: string, host: Host, on: Connection) => {
      const { handle } = await host.call('chat', { on: on.handle, pause: PAUSE });
      this.#busy.push([what, { host, handle: handle as number }]);
    };
    await chat('busy inbound TCP', caller.host, await caller.host.open(pod.ip4, OWN.tcp, { proto: 'tcp' }));
    await chat('busy outbound TCP', pod.host, await pod.host.open(caller.ip, THEIRS.tcp, { proto: 'tcp' }));
    const connects = await pod.host.load(caller.ip, THEIRS.tcp, { pause: PAUSE, timeout: 10 });
    this.#busy.push(['new TCP connections', connects]);
  }

  /** The idle TCP connections. */
  get idle(): readonly Idle[] {
    const words = WORDS + 1;
    return [
      { what: 'inbound', localPort: OWN.tcp, remotePort: this.#inTcp.port, words },
      { what: 'outbound', localPort: this.#outTcp.port, remotePort: THEIRS.tcp, words },
    ];
  }

  /** @returns what was cut, or judged late, a line each; and that which is denied is denied */
  async check(): Promise<{ wrong: string[]; slowest: number }> {
    const wrong: string[] = [];
    const say = (what: string) => wrong.push(`${this.pod.name}: ${what}`);
    let slowest = 0;
    for (const [what, load] of this.#busy) {
      await load.host.call('close', { handle: load.handle });
      const { results, slowest: longest } = (await load.host.call('results', { handle: load.handle })) as unknown as {
        results: Record<string, number>;
        slowest: number;
      };
      slowest = Math.max(slowest, longest);
      if (Object.keys(results).join() !== 'ok') say(`${what}: ${JSON.stringify(results)}`);
      if (longest > AT_ONCE) say(`${what}: the slowest took ${longest.toFixed(2)} s`);
    }
    for (const proto of ['tcp', 'udp'] as const) {
      const result = await this.#push(proto);
      if (result !== 'ok') say(`the pod’s words on an idle inbound ${proto.toUpperCase()} connection: ${result}`);
    }
    for (const [what, connection] of [
      ['TCP', this.#outTcp],
      ['UDP', this.#outUdp],
    ] as const) {
      const result = await attempt(what === 'UDP' ? TRIES : 1, async () => connection.say('hello', PATIENCE));
      if (result !== 'ok') say(`an idle outbound ${what} connection: ${result}`);
    }
    const denied = await this.pod.host.request(this.caller.ip, THEIRS.denied, { timeout: 0.3 });
    if (denied.result === 'ok') say('what is denied passes');
    return { wrong, slowest };
  }

  /** Closes what was idle, so that its end is told of. */
  async close(): Promise<void> {
    for (const connection of [this.#inTcp, this.#outTcp]) await connection.close();
  }

  /** The pod speaks first, on what a peer opened: nothing but the memory of that lets it pass. */
  #push(proto: 'tcp' | 'udp'): Promise<string> {
    const connection = proto === 'tcp' ? this.#inTcp : this.#inUdp;
    return attempt(proto === 'udp' ? TRIES : 1, async () => {
      const heard = this.caller.host.call('hear', { handle: connection.handle, timeout: PATIENCE });
      const handle = this.#pushers[proto];
      const { result } = await this.pod.host.call('push', { handle, port: connection.port, data: 'unasked' });
      return result === 'ok' ? heard : { result };
    });
  }
}

/** A datagram may be lost where a queue of the kernel's is full. */
async function attempt(tries: number, ask: () => Promise<{ result: string }>): Promise<string> {
  let result = '';
  for (let i = 0; i < tries && result !== 'ok'; i++) result = (await ask()).result;
  return result;
}
