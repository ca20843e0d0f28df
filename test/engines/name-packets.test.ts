/** Names while policies change: a packet at any moment of an update is judged by its set and by what the pod learned. */
import t from 'tap';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import * as encode from '../../agent/maps/tables/encode.js';
import { teach } from '../../agent/names/learn.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import { PLAIN_IDS } from '../../src/ids.js';
import { simulate } from '../../src/image/simulate.js';
import type { EndpointBinding } from '../../src/image/store.js';
import type { Image, PolicySet } from '../../src/image/types.js';
import type { LearnedName } from '../../src/ir/packet.js';
import { seeded } from '../fuzz/random.js';
import { IFINDEX, loadForTest, SKB_IFINDEX, SKB_SIZE } from './engine.js';
import * as worlds from './name-images.js';
import { frame } from './packets.js';
import { watching } from './watching.js';

const random = seeded();
const ROUNDS = Number(process.env.EA_ROUNDS ?? 4);
const UPDATES = 10;
const ID = 7;
const IP = '10.0.0.1';
const binding: EndpointBinding = {
  ...{ key: 'default/a', uid: 'u', ifindex: IFINDEX, ifname: 'lo', id: ID, mac: '', ips: [IP] },
  kind: 'pod',
  l3: false,
};

/** Each name on an address, every third as an alias; and addresses with two names, or none. */
const learned = new Map<string, LearnedName[]>(
  worlds.NAMES.map((name, n) => [`10.2.0.${n}`, [{ name, ...(n % 3 === 2 ? { alias: true as const } : {}) }]]),
);
for (let n = 0; n < 6; n++)
  learned.set(`10.2.1.${n}`, [{ name: random.pick(worlds.NAMES) }, { name: random.pick(worlds.NAMES), alias: true }]);
const ADDRESSES = [...learned.keys(), '10.2.2.1', '10.1.0.0'];

function randomImage(): Image {
  const one = worlds.randomImage(random, PLAIN_IDS);
  const set = [...one.sets.values()].find(({ names }) => names);
  if (!set) return randomImage();
  // What no rule allows is denied. The queries of sets are another matter.
  const rules = set.rules.map(({ queries: _, ...rule }) => rule);
  return worlds.imageOf([worlds.setOf([...rules, worlds.rule({ action: 'deny' })], PLAIN_IDS)], PLAIN_IDS, [0, 1, 2]);
}

t.test(`${ROUNDS} sequences of updates under packets, FUZZ_SEED=${random.seed}`, async (t) => {
  let [packets, allowed, port] = [0, 0, 1024];
  for (let round = 0; round < ROUNDS; round++) {
    const programs = loadForTest({ flows: 1024, events: 65536 });
    const { maps } = programs;
    const ctx = Buffer.alloc(SKB_SIZE);
    ctx.writeUInt32LE(IFINDEX, SKB_IFINDEX);
    const images = new Map<number, Image>();
    const answers = new Map<string, string>();
    const expected = (set: number, to: string) => {
      const key = `${set} ${to}`;
      let answer = answers.get(key);
      if (answer === undefined) {
        const packet = { from: 'default/a', to, protocol: 6, port: 443 };
        const image = images.get(set) as Image;
        answer = simulate(image, packet, [IP], new Map([['default/a', learned]])).verdict;
        answers.set(key, answer);
      }
      return answer;
    };
    const E = STRUCTS.ea_endpoint;
    const endpoints = encode.map(maps, 'endpoints').mmap();
    const inForce = () => encode.setOf(endpoints.readBigUInt64LE(IFINDEX * E.size + E.fields.set.offset));
    const send = (to: string) => {
      const set = inForce();
      if (set === 0) return;
      port = port >= 65000 ? 1024 : port + 1;
      const bytes = frame({ to, protocol: 6, port: 443 }, { src: IP, sport: port, tcpFlags: 2 });
      const { retval } = programs.programs.fromPod.testRun(bytes, { ctx });
      const verdict = retval === -1 ? 'allow' : 'deny';
      packets++;
      if (verdict === 'allow') allowed++;
      if (verdict !== expected(set, to)) throw new Error(`round ${round}: ${to} by set ${set}: ${verdict}`);
    };
    const look = () => {
      for (let n = 0; n < 3; n++) send(random.pick(ADDRESSES));
    };
    const store = new KernelMapStore(maps);
    const use = (image: Image) => {
      for (const set of image.sets.values() as Iterable<PolicySet>) images.set(set.id, image);
      store.apply(image, [binding]);
    };
    use(randomImage());
    for (const [address, names] of learned) {
      for (const { name, alias = false } of names) {
        const lesson = { endpoint: ID, ifindex: IFINDEX, name, address, alias, ttl: 3600 };
        t.equal(teach(programs.all.learn as BpfProgram, lesson), 'learned');
      }
    }
    const undo = watching(look, () => {});
    try {
      for (let n = 0; n < UPDATES; n++) {
        use(randomImage());
        if (random.chance(60)) store.tidy();
        for (const address of ADDRESSES) send(address);
      }
      t.same(store.verify(false), []);
    } finally {
      undo();
      store.close();
      programs.close();
    }
  }
  t.ok(allowed > packets / 20, `${packets} packets, ${allowed} of them allowed`);
});
