/** Packets look for a Service only where one may be: never past an entry, at no moment of an update, and in no agent's life. */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { bitOf, ServiceFilter } from '../../agent/maps/tables/service-filter.js';
import type { Pod } from '../../src/identity/snapshot.js';
import type { Image, ImageService } from '../../src/image/types.js';
import { snapshot } from '../bench/worlds.js';
import { boundIps, Kernel } from './engine.js';
import { frame } from './packets.js';

const WEB = '10.244.0.1';
const DB = { ip: '10.244.0.2', port: 80 };
const TCP = 6;
const UDP = 17;

// The pod may send to the backend, and nowhere else.
const kernel = new Kernel();
const { maps } = kernel.programs;
const services = maps.services as BpfMap;
const bits = (maps.service_filter as BpfMap).mmap();
t.teardown(() => kernel.close());

const ref = { dialect: 'test', kind: 'Test', name: 'p' };
const rule = {
  ref: { policy: ref, index: 0, tier: 't', staged: false, action: 'allow' as const },
  action: 'allow' as const,
};
const one = snapshot();
const web = one.pods.get('default/web') as Pod;
kernel.use({
  snapshot: { ...one, pods: new Map([['default/web', { ...web, ips: boundIps([WEB]) }]]) },
  ir: {
    tiers: [
      {
        name: 't',
        order: 0,
        defaultAction: 'deny',
        policies: [
          {
            ref,
            staged: false,
            subject: { namespaces: { names: ['default'] }, pods: { op: 'true' } },
            rules: [{ ...rule, peers: [{ kind: 'cidr', cidr: `${DB.ip}/32`, except: [] }], ports: null }],
          },
        ],
      },
    ],
  },
});
const binding = kernel.binding('default/web');

function service(ip: string, port = 443, protocol = TCP): ImageService {
  return { ip, port, protocol, backends: [DB], many: false };
}

/** The Image, with these. */
function having(...some: ImageService[]): Image {
  return { ...kernel.image, services: new Map(some.map((s) => [`${s.ip}|${s.port}|${s.protocol}`, s])) };
}

function apply(...some: ImageService[]): void {
  kernel.store.apply(having(...some), [binding]);
  kernel.store.tidy();
}

let sport = 1024;
/** Whether a packet to it passes: it does where it is judged by its backend. */
function isFound({ ip, port, protocol }: ImageService): boolean {
  const src = boundIps([WEB]).find((own) => own.includes(':') === ip.includes(':')) as string;
  kernel.forget();
  const { verdict } = kernel.run(frame({ to: ip, protocol, port }, { src, sport: ++sport, tcpFlags: 2 }));
  return verdict === 'allow';
}

function isEmpty(): boolean {
  return bits.every((byte) => byte === 0);
}

/** Addresses of both families, ports and protocols, some of each. */
const MANY = Array.from({ length: 400 }, (_, i) => {
  const ip =
    i % 3 === 0
      ? `fd00:${((i * 7919) & 0xffff).toString(16)}::${(i + 1).toString(16)}`
      : `10.${96 + (i >> 4)}.${(i * 31) & 255}.${i & 255}`;
  return service(ip, [53, 80, 443, 65535][i % 4], i % 5 === 0 ? UDP : TCP);
});

t.test('each Service is found, whatever its address, port and protocol', async (t) => {
  apply();
  t.ok(isEmpty());
  t.notOk(
    MANY.some((s) => isFound(s)),
    'without one, its address is one like others',
  );
  apply(...MANY);
  t.same(
    MANY.filter((s) => !isFound(s)),
    [],
  );
  apply(...MANY.slice(0, 200));
  t.same(
    MANY.map((s) => isFound(s)),
    MANY.map((_, i) => i < 200),
  );
  apply();
  t.ok(isEmpty(), 'nothing is left of those that have gone');
});

t.test('the filter is written before an entry, and after its end', async (t) => {
  const old = MANY.slice(0, 20);
  const fresh = MANY.slice(10, 40);
  const { updateBatch, deleteBatch } = services;
  let [written, deleted] = [0, 0];
  const missing = (some: readonly ImageService[]) => {
    const set = (bit: number) => ((bits[bit >> 3] as number) >> (bit & 7)) & 1;
    return some.filter((s) => !set(bitOf(s)));
  };
  services.updateBatch = (keys, values, count) => {
    t.same(missing(written === 0 ? old : fresh), [], 'each has its bit when it is written');
    written++;
    return updateBatch.call(services, keys, values, count);
  };
  services.deleteBatch = (keys, count) => {
    t.same(missing(old.slice(0, 10)), [], 'and still when it is deleted');
    deleted++;
    return deleteBatch.call(services, keys, count);
  };
  t.teardown(() => Object.assign(services, { updateBatch, deleteBatch }));
  apply(...old);
  kernel.store.apply(having(...fresh), [binding]);
  kernel.store.tidy();
  t.same(missing(fresh), []);
  t.ok(written >= 2 && deleted >= 1);
  t.equal(missing(old.slice(0, 10)).length, 10);
});

t.test('of two with one bit, one goes', async (t) => {
  const byBit = new Map<number, ImageService>();
  let pair: [ImageService, ImageService] | undefined;
  for (let i = 0; !pair; i++) {
    const x = Math.imul(i + 1, 2654435761) >>> 0;
    const next = service(`10.${(x >>> 24) & 255}.${(x >>> 16) & 255}.${(x >>> 8) & 255}`, i + 1);
    const other = byBit.get(bitOf(next));
    if (other) pair = [other, next];
    byBit.set(bitOf(next), next);
  }
  const [a, b] = pair;
  apply(a, b);
  t.same(
    pair.map((s) => isFound(s)),
    [true, true],
  );
  apply(b);
  t.same(
    pair.map((s) => isFound(s)),
    [false, true],
  );
  apply(a);
  t.same(
    pair.map((s) => isFound(s)),
    [true, false],
    'one for the other',
  );
  apply();
  t.ok(isEmpty());
});

t.test('the next agent finds what one left that was killed: a bit too many, never one too few', async (t) => {
  const [a, b, gone] = MANY as [ImageService, ImageService, ImageService];
  apply(a, b);
  const before = Buffer.from(bits);
  // As if it had been killed between the bit and the entry, or between the entry's end and the bit's.
  new ServiceFilter(maps).add([gone]);
  const next = new KernelMapStore(maps, { ids: kernel.store.ids });
  t.same(bits, before, 'it goes on with what is in the map');
  t.same(
    [a, b, gone].map((s) => isFound(s)),
    [true, true, false],
  );
  next.apply(having(b, gone), [binding]);
  next.tidy();
  t.same(
    [a, b, gone].map((s) => isFound(s)),
    [false, true, true],
  );
  t.same(next.verify(false), []);
  next.apply(having(), [binding]);
  next.tidy();
  t.ok(isEmpty());
});

t.test('what somebody else changed is found and mended', async (t) => {
  const store = new KernelMapStore(maps, { ids: kernel.store.ids });
  const [a] = MANY as [ImageService];
  store.apply(having(a), [binding]);
  store.tidy();
  bits.fill(0);
  t.notOk(isFound(a), 'as if there were none');
  t.match(store.verify(false), [/^service_filter\[/]);
  t.match(store.verify(true), [/^service_filter\[/]);
  t.ok(isFound(a));
  t.same(store.verify(false), []);
  bits[0] = 0xff;
  t.equal(store.verify(true).length, 1, 'too many, too');
  t.same(store.verify(false), []);
});
