/**
 * Invariant 2: whatever moment a packet chooses during an update, its verdict is the
 * old policy's or the new one's. Every prefix of the planned sequence of writes is
 * tried, with packets at the edges of every CIDR.
 */
import t from 'tap';
import { Compiler } from '../../src/compile/index.js';
import { OutdatedEntries } from '../../agent/maps/books/leftovers.js';
import { classAt } from '../../src/image/edited.js';
import { planDestinations } from '../../src/image/plan/plan.js';
import { simulate } from '../../src/image/simulate.js';
import type { Image } from '../../src/image/types.js';
import type { Packet } from '../../src/ir/packet.js';
import type { Snapshot } from '../../src/identity/snapshot.js';
import type { Action, Ir, Rule } from '../../src/ir/types.js';
import type { Peer } from '../../src/ir/peers.js';

const seed = Number(process.env.FUZZ_SEED ?? Date.now() % 2 ** 31);
let state = seed;
/** xorshift32: repeatable from the seed. */
function random(n: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % n;
}
const pick = <T>(of: readonly T[]): T => of[random(of.length)] as T;

const CIDRS4 = [
  '0.0.0.0/0',
  '10.0.0.0/8',
  '10.1.0.0/16',
  '10.1.2.0/24',
  '10.1.2.128/25',
  '10.1.2.3/32',
  '192.0.2.0/24',
  '255.255.255.255/32',
];
const CIDRS6 = ['::/0', 'fd00::/8', 'fd00:1::/32', 'fd00:1::/61', 'fd00:1::1/128'];
const ADDRESSES = [
  '0.0.0.0',
  '9.255.255.255',
  '10.0.0.0',
  '10.1.2.3',
  '10.1.2.127',
  '10.1.2.128',
  '10.1.3.0',
  '11.0.0.0',
  '192.0.2.1',
  '255.255.255.255',
  '::',
  'fd00:1::1',
  'fd00:1::2',
  'fd00:1:0:8::',
  'fe00::1',
];

function randomPeer(): Peer {
  const cidrs = random(3) === 0 ? CIDRS6 : CIDRS4;
  const at = random(cidrs.length);
  const except = random(3) === 0 ? cidrs.slice(at + 1, at + 1 + random(3)) : [];
  return { kind: 'cidr', cidr: cidrs[at] as string, except };
}

function randomRule(tier: string, index: number): Rule {
  const action = pick<Action>(['allow', 'allow', 'deny', 'pass', 'log']);
  const ref = { policy: { dialect: 'test', kind: 'Test', name: `p-${tier}` }, index, tier, staged: false, action };
  const peers = random(8) === 0 ? null : Array.from({ length: random(4) }, randomPeer);
  const ports =
    random(3) === 0
      ? null
      : [
          {
            protocol: pick([6, 17, null]),
            ports: [
              pick([
                [80, 80],
                [80, 81],
                [0, 65535],
                [443, 1000],
              ] as const),
            ],
          },
        ];
  return { ref, action, peers, ports };
}

function randomIr(): Ir {
  const tier = (name: string, order: number, defaultAction: 'deny' | 'pass') => ({
    name,
    order,
    defaultAction,
    policies: [
      {
        ref: { dialect: 'test', kind: 'Test', name: `p-${name}` },
        subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } as const },
        rules: Array.from({ length: random(5) }, (_, i) => randomRule(name, i)),
        staged: false,
      },
    ],
  });
  const tiers = [tier('first', 1, 'pass'), tier('second', 2, pick(['deny', 'pass'] as const))];
  return { tiers: random(6) === 0 ? [] : tiers };
}

const pod = {
  uid: 'u',
  namespace: 'default',
  name: 'a',
  labels: {},
  annotations: {},
  ips: ['10.1.2.3'],
  nodeName: '',
  serviceAccount: '',
  hostNetwork: false,
  ended: false,
  ports: [],
};
const snapshot: Snapshot = {
  pods: new Map([['default/a', pod]]),
  namespaces: new Map(),
  nodes: new Map(),
  services: new Map(),
  policies: [],
  ownNode: { name: 'n', ips: [] },
  problems: [],
};

/** The maps in the middle of an update, as an Image that simulate() can read. */
function halfway(
  old: Image,
  next: Image,
  transitional: Iterable<readonly [number, readonly string[]]>,
  d4: Map<number, number>,
  d6: Map<string, number>,
  set: number,
): Image {
  const keys4 = [...d4.keys()].sort((a, b) => a - b);
  const keys6 = [...d6.keys()].sort();
  return {
    ...next,
    sets: new Map([...old.sets, ...next.sets]),
    classes: new Map([...old.classes, ...next.classes, ...transitional]),
    destinations4: { keys: Float64Array.from(keys4), classes: Float64Array.from(keys4, (k) => d4.get(k) as number) },
    destinations6: { keys: keys6, classes: Float64Array.from(keys6, (k) => d6.get(k) as number) },
    endpoints: new Map([['default/a', set]]),
  };
}

const packets: Packet[] = ADDRESSES.flatMap((to) =>
  [79, 80, 81, 443].flatMap((port) => [6, 17].map((protocol) => ({ from: 'default/a', to, protocol, port }))),
);
const answer = (image: Image, p: Packet) => {
  const { verdict, rule } = simulate(image, p, pod.ips);
  return `${verdict} ${rule}`;
};

t.test('every prefix of an update is the old policy or the new one', async (t) => {
  t.comment(`seed ${seed}`);
  const rounds = Number(process.env.EA_ROUNDS ?? 1000);
  let states = 0;
  for (let round = 0; round < rounds; round++) {
    const compiler = new Compiler();
    const old = compiler.compile(randomIr(), snapshot, ['default/a']);
    const next = compiler.compile(randomIr(), snapshot, ['default/a']);
    const from = old.endpoints.get('default/a') as number;
    const to = next.endpoints.get('default/a') as number;
    const plan = planDestinations(old, next, from !== to);
    const d4 = new Map(Array.from(old.destinations4.keys, (k, i) => [k, old.destinations4.classes[i] as number]));
    const d6 = new Map(old.destinations6.keys.map((k, i) => [k, old.destinations6.classes[i] as number]));
    const allowed = packets.map((p) => new Set([answer(old, p), answer(next, p)]));
    const check = (set: number, step: string) => {
      states++;
      const image = halfway(old, next, plan.transitional, d4, d6, set);
      packets.forEach((p, i) => {
        const got = answer(image, p);
        if (!allowed[i]?.has(got))
          throw new Error(
            `seed ${seed} round ${round} ${step}: ${JSON.stringify(p)} got ${got}, not ${[...(allowed[i] ?? [])].join(' or ')}`,
          );
      });
    };
    for (const w of plan.destinations4.before) {
      d4.set(w.key, w.classId);
      check(from, 'before');
    }
    for (const w of plan.destinations6.before) {
      d6.set(w.key, w.classId);
      check(from, 'before');
    }
    check(to, 'flip');
    for (const w of plan.destinations4.settle) {
      d4.set(w.key, w.classId);
      check(to, 'settle');
    }
    for (const w of plan.destinations6.settle) {
      d6.set(w.key, w.classId);
      check(to, 'settle');
    }
    for (const k of plan.destinations4.remove) {
      d4.delete(k);
      check(to, 'remove');
    }
    for (const k of plan.destinations6.remove) {
      d6.delete(k);
      check(to, 'remove');
    }
    t.strictSame(
      [...d4].sort((a, b) => a[0] - b[0]),
      Array.from(next.destinations4.keys, (k, i) => [k, next.destinations4.classes[i]]),
      `round ${round}: ends as the new Image`,
    );
    t.strictSame([...d6].sort(), next.destinations6.keys.map((k, i) => [k, next.destinations6.classes[i]]).sort());
  }
  t.comment(`${states} intermediate states`);
});

t.test('updates come before the ones ahead of them have settled', async (t) => {
  const rounds = Number(process.env.EA_ROUNDS ?? 100);
  let [states, waiting] = [0, 0];
  for (let round = 0; round < rounds; round++) {
    const compiler = new Compiler();
    const images = Array.from({ length: 6 }, () => compiler.compile(randomIr(), snapshot, ['default/a']));
    const set = (image: Image) => image.endpoints.get('default/a') as number;
    const first = images[0] as Image;
    const d4 = new Map(Array.from(first.destinations4.keys, (k, i) => [k, first.destinations4.classes[i] as number]));
    const d6 = new Map(first.destinations6.keys.map((k, i) => [k, first.destinations6.classes[i] as number]));
    const classes = new Map(images.flatMap((i) => [...i.classes]));
    const [shown4, shown6] = [new OutdatedEntries<number, number>(), new OutdatedEntries<string, number>()];
    const answers = images.map((image) => packets.map((p) => answer(image, p)));
    /** Packets may be judged by the set of any of these. */
    let oldest = 0;
    let now = 0;
    const check = (step: string) => {
      for (let n = oldest; n <= now; n++) {
        states++;
        const image = halfway(images[n] as Image, images[n] as Image, classes, d4, d6, set(images[n] as Image));
        packets.forEach((p, i) => {
          const got = answer(image, p);
          if (got !== answers[n]?.[i])
            throw new Error(
              `seed ${seed} round ${round}, ${step}, judged by ${n} of ${now}: ${JSON.stringify(p)} got ${got}`,
            );
        });
      }
    };
    const settle = (moment: number) => {
      oldest = moment;
      const image = images[now] as Image;
      for (const [key] of shown4.takeUntil(moment)) {
        const wanted = classAt(image.destinations4, key);
        if (wanted !== undefined) d4.set(key, wanted);
        else d4.delete(key);
        check('settle');
      }
      for (const [key] of shown6.takeUntil(moment)) {
        const wanted = classAt(image.destinations6, key);
        if (wanted !== undefined) d6.set(key, wanted);
        else d6.delete(key);
        check('settle');
      }
    };
    for (let n = 1; n < images.length; n++) {
      const [old, next] = [images[n - 1] as Image, images[n] as Image];
      const inForce = { destinations4: old.destinations4, destinations6: old.destinations6, classes };
      const shown = { destinations4: shown4.values, destinations6: shown6.values };
      const plan = planDestinations(inForce, next, true, shown);
      for (const [id, atoms] of plan.transitional) classes.set(id, atoms);
      for (const w of plan.destinations4.before) {
        d4.set(w.key, w.classId);
        check('before');
      }
      for (const w of plan.destinations6.before) {
        d6.set(w.key, w.classId);
        check('before');
      }
      now = n;
      const same =
        <K extends number | string>(a: Parameters<typeof classAt<K>>[0], b: Parameters<typeof classAt<K>>[0]) =>
        (key: K) =>
          classAt(a, key) === classAt(b, key);
      shown4.replace(plan.destinations4.shown, n, same<number>(old.destinations4, next.destinations4));
      shown6.replace(plan.destinations6.shown, n, same<string>(old.destinations6, next.destinations6));
      check('flip');
      waiting += shown4.size + shown6.size;
      // Of what was written so far some, all or nothing is known to be through.
      if (random(2) === 0) settle(oldest + random(n - oldest + 1));
    }
    settle(now);
    const last = images[now] as Image;
    t.strictSame(
      [...d4].sort((a, b) => a[0] - b[0]),
      Array.from(last.destinations4.keys, (k, i) => [k, last.destinations4.classes[i]]),
      `round ${round}: ends as the last Image`,
    );
    t.strictSame([...d6].sort(), last.destinations6.keys.map((k, i) => [k, last.destinations6.classes[i]]).sort());
  }
  t.ok(waiting > 0);
  t.comment(`${states} intermediate states, ${waiting} entries were waiting`);
});
