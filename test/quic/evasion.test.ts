/**
 * Whoever knows the rules of bpf/quic_flow.h, and sends what it likes on many flows: parts of many hellos, under the
 * same ids and keys, some of which never arrive, while what is remembered is lost. What servers put together of what
 * passed is the judge: no hello among it may be one that is denied.
 */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { type Random, seeded } from '../fuzz/random.js';
import { ALLOWS, DENIES, type Flow, FlowBed, hello, VERDICT } from './flow-bed.js';
import { type Overlap, Server } from './server.js';
import { crypto, initial, keysOf, opaque, ping, TYPES, V1, V2 } from './writer.js';

const bed = new FlowBed();
t.teardown(() => bed.close());

const STEPS = 80;
const ENDPOINTS = 200;

/** Hellos that differ at their ends only, so that parts of allowed ones make denied ones; and two behind each other. */
function streams(random: Random): Buffer[] {
  const sizes = [60, 60, 60, 60, 90, 60 + random.below(40)];
  const like = hello(ALLOWS, 60);
  const hellos = sizes.map((size, i) => {
    const made = hello(i % 2 ? ALLOWS : DENIES, size);
    if (size === 60) like.copy(made, 5, 5, 59);
    if (random.chance(50)) {
      made[4] = (made[4] as number) ^ 1;
      made[size - 1] = (made[size - 1] as number) ^ 1;
    }
    return made;
  });
  return Array.from({ length: 6 }, () => Buffer.concat([random.pick(hellos), ...random.some(hellos, 1)]));
}

class World {
  readonly #servers = (['first', 'last'] as Overlap[]).map((overlap) => new Server(overlap));
  readonly #ids = Array.from({ length: 3 }, () => randomBytes(8));
  readonly #streams: Buffer[];
  readonly #flows: Flow[];
  readonly #endpoint: number;
  passed = 0;

  constructor(
    readonly random: Random,
    n: number,
  ) {
    this.#streams = streams(random);
    this.#endpoint = 1 + (n % ENDPOINTS);
    this.#flows = Array.from({ length: 3 }, () => bed.flow(this.#endpoint));
  }

  /** Hellos that a server has understood. */
  get hellos(): readonly Buffer[] {
    return this.#servers.flatMap((s) => s.hellos);
  }

  step(): void {
    const { random } = this;
    const i = random.below(this.#flows.length);
    const flow = this.#flows[i] as Flow;
    const other = random.below(60);
    if (other < 5) {
      if (other === 0) flow.lose();
      if (other === 1) flow.forget();
      if (other === 2) this.#flows[i] = bed.flow(this.#endpoint);
      if (other === 3) flow.send(Buffer.alloc(30, 0x45));
      if (other === 4) flow.send(opaque(TYPES.handshake, random.pick(this.#ids)));
      return;
    }
    const datagrams = Array.from({ length: random.chance(15) ? 2 : 1 }, () => this.#datagram());
    const sizes = datagrams.map((d) => d.length);
    // In one packet, all but the last are of one size.
    if (sizes.length === 2 && (sizes[1] as number) > (sizes[0] as number)) datagrams.reverse();
    if (flow.send(...datagrams).verdict !== VERDICT.pass) return;
    this.passed++;
    if (random.chance(25)) return; // by its TTL it does not get there
    for (const server of this.#servers)
      for (const datagram of datagrams) {
        const chosen = server.receive(datagram);
        if (chosen)
          flow.receive(
            opaque(TYPES.initial, randomBytes(8), {
              from: chosen,
              rest: Buffer.from([0, 0x40, 20, ...randomBytes(20)]),
            }),
          );
      }
  }

  #datagram(): Buffer {
    const { random } = this;
    if (random.chance(10)) this.#ids[random.below(this.#ids.length)] = randomBytes(8);
    const first = random.pick(this.#ids);
    const chosen = this.#servers.flatMap((s) => s.chosen);
    const to =
      chosen.length > 0 && random.chance(30) ? random.pick(chosen) : random.chance(90) ? first : random.pick(this.#ids);
    const version = random.chance(90) ? V1 : V2;
    const packet = () => {
      // Mostly what goes with this id, so that it does not end with the first contradiction.
      const usual = this.#streams[(first[0] as number) % this.#streams.length] as Buffer;
      const said = random.chance(70) ? usual : random.pick(this.#streams);
      const cuts = [0, 20, 40, 60, said.length];
      const frames = Array.from({ length: 1 + random.below(2) }, () => {
        const [from, end] = random.chance(30) ? [0, said.length] : [random.pick(cuts), random.pick(cuts)];
        return from < end ? crypto(from, said.subarray(from, end)) : ping();
      });
      return initial(Buffer.concat(frames), { to, keys: keysOf(version, random.chance(85) ? first : to), version });
    };
    const behind = random.pick([
      Buffer.alloc(0),
      Buffer.alloc(0),
      Buffer.alloc(7),
      opaque(TYPES.handshake, to, { version }),
    ]);
    const front = random.chance(10) ? [opaque(random.pick([TYPES.handshake, TYPES.zeroRtt]), to, { version })] : [];
    return Buffer.concat([...front, packet(), ...(random.chance(20) ? [packet()] : []), behind]);
  }
}

t.test('no server understands a hello that is denied', async (t) => {
  const random = seeded();
  let [passed, understood] = [0, 0];
  for (let n = 0; n < Number(process.env.FUZZ_SEQUENCES ?? 300); n++) {
    if (n % ENDPOINTS === 0) bed.freeAll();
    const world = new World(random, n);
    for (let step = 0; step < STEPS; step++) {
      world.step();
      const denied = world.hellos.find((h) => (((h[4] as number) ^ (h.at(-1) as number)) & 1) === 0);
      if (!denied) continue;
      t.fail(`FUZZ_SEED=${random.seed}, world ${n}, step ${step}: ${denied.toString('hex')}`);
      return;
    }
    passed += world.passed;
    understood += world.hellos.length;
  }
  t.comment(`${passed} packets passed, ${understood} hellos were understood`);
  t.ok(understood > 100);
});
