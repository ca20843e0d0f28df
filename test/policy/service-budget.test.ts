/** What one namespace may have of the Services' table: counted, the same whatever came first, and told. */
import t from 'tap';
import { refusedProblems } from '../../agent/refused.js';
import { Compiler } from '../../src/compile/index.js';
import { NAMESPACE_ROWS } from '../../src/compile/service-budget.js';
import { toIr } from '../../src/dialects/index.js';
import { formatProblem } from '../../src/errors.js';
import type { Service, Snapshot } from '../../src/identity/snapshot.js';
import type { Image } from '../../src/image/types.js';
import { Random, seeded } from '../fuzz/random.js';
import { NODE_IP, pod, policy, snapshotOf } from './world.js';

const random = seeded();
const BACKENDS = [{ ip: '192.0.2.1', port: 80 }];
const base = snapshotOf(pod('a/p', '10.244.0.1') + policy('a/np', { podSelector: {}, policyTypes: ['Egress'] }), [
  NODE_IP,
  'fd00:1::1',
  '192.168.0.9',
]);
const { ir } = toIr(base);

/** So many addresses, each with so many ports. */
function service(key: string, vips: number, ports: number, over: Partial<Service['ports'][number]> = {}): Service {
  const [namespace, name] = key.split('/') as [string, string];
  return {
    ...{ namespace, name, labels: {} },
    vips: Array.from({ length: vips }, (_, n) => `198.18.${n >> 8}.${n & 255}`),
    ports: Array.from({ length: ports }, (_, n) => ({ protocol: 6, port: n + 1, backends: BACKENDS, ...over })),
  };
}

function snapshot(...services: Service[]): Snapshot {
  return { ...base, services: new Map(services.map((s) => [`${s.namespace}/${s.name}`, s])) };
}

function compile(of: Snapshot, compiler = new Compiler()): Image {
  return compiler.compile(ir, of, ['a/p']);
}

const refusedOf = (image: Image) => [...image.refusedServices.keys()].sort();

t.test('what does not fit has no entry, and holds nobody up', async (t) => {
  const began = process.cpuUsage();
  const evil = [service('evil/x', 300, 1000), service('evil/y', 300, 1000)];
  const of = snapshot(...evil, service('evil/z', 1, 3), service('zoo/db', 1, 1));
  const image = compile(of);
  t.same(refusedOf(image), ['evil/x', 'evil/y']);
  t.equal(image.services.size, 3, 'what fits is there');
  t.ok(process.cpuUsage(began).user < 2_000_000, 'nothing is made of what does not');
  t.same(
    refusedProblems(image, of).map((p) => [p.severity, formatProblem(p).split(' — ')[0]]),
    [
      [
        'error',
        'Namespace evil: left out of what is judged by its backends: Service x, y: the Services of namespace evil are 600003 addresses with ports, 16384 are held of a namespace',
      ],
    ],
  );
});

t.test('at the edge', async (t) => {
  t.same(refusedOf(compile(snapshot(service('a/s', 128, 128)))), [], `${NAMESPACE_ROWS} fit`);
  t.same(refusedOf(compile(snapshot(service('a/s', 128, 128), service('a/t', 1, 1)))), ['a/t']);
  t.same(refusedOf(compile(snapshot(service('a/s', 128, 128), service('b/t', 1, 1)))), [], 'each namespace its own');
  t.same(refusedOf(compile(snapshot(service('a/t', 128, 128), service('a/s', 1, 1)))), ['a/t'], 'by name');
  t.same(refusedOf(compile(snapshot(service('a/s', 300, 1000, { backends: [] })))), [], 'nothing behind it');
  const v6 = { backends: [{ ip: '2001:db8::1', port: 80 }] };
  t.same(refusedOf(compile(snapshot(service('a/s', 300, 1000, v6)))), [], 'of another family');
  // Two addresses of the node's.
  t.same(refusedOf(compile(snapshot(service('a/s', 0, 8192, { nodePort: 30000 })))), []);
  t.same(refusedOf(compile(snapshot(service('a/s', 0, 8193, { nodePort: 30000 })))), ['a/s'], 'node ports count');
});

t.test('an address of the node more', async (t) => {
  const of = snapshot(service('a/s', 0, 8000, { nodePort: 30000 }));
  const compiler = new Compiler();
  t.same(refusedOf(compile(of, compiler)), []);
  const more = { ...of, ownNode: { ...of.ownNode, ips: [...of.ownNode.ips, '192.168.0.10'] } };
  t.same(refusedOf(compile(more, compiler)), ['a/s']);
  t.same(refusedOf(compile(of, compiler)), []);
});

t.test(`any sequence ends as if there had been none, FUZZ_SEED=${random.seed}`, async (t) => {
  const r = new Random(random.below(2 ** 31) + 1);
  const compiler = new Compiler();
  const services = new Map<string, Service>();
  const plain = (image: Image) => ({
    services: [...image.services].sort(([a], [b]) => (a < b ? -1 : 1)),
    refused: [...image.refusedServices].sort(),
  });
  let over = 0;
  for (let step = 0; step < 60; step++) {
    for (let n = r.below(3); n >= 0; n--) {
      const key = `${r.pick(['a', 'b'])}/s${r.below(4)}`;
      if (r.chance(30)) services.delete(key);
      else services.set(key, service(key, r.pick([1, 2, 60, 100, 300]), r.pick([1, 80, 100, 120])));
    }
    const image = compile(snapshot(...services.values()), compiler);
    const fresh = compile(snapshot(...[...services.values()].reverse()));
    if (image.refusedServices.size > 0) over++;
    // Not t.same: they have thousands of rows.
    if (JSON.stringify(plain(image)) !== JSON.stringify(plain(fresh))) t.fail(`step ${step}: ${refusedOf(image)}`);
  }
  t.ok(over > 10, `${over} of the states were over what a namespace has`);
  const last = compile(snapshot(...services.values()), compiler).refusedServices;
  t.equal(
    compile(snapshot(...services.values()), compiler).refusedServices,
    last,
    'the same object while nothing changes',
  );
});
