/** Interfaces whose numbers share a slot of the endpoints' array. */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { ENUMS } from '../../src/image/layout.gen.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { POD_IP, world } from '../bench/worlds.js';
import { IFINDEX, Kernel } from './engine.js';
import { frame } from './packets.js';

const { EA_OWN_SLOTS } = ENUMS.ea_slots;

t.test('an interface whose slot another one has is judged by its own set', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  const { ir, snapshot } = world(4, 8);
  kernel.use({ ir, snapshot });
  const one = kernel.binding('default/web');
  t.equal(one.ifindex, IFINDEX);
  const stranger = (n: number): EndpointBinding => {
    const ifindex = IFINDEX + n * EA_OWN_SLOTS;
    return { ...one, key: `default/x${n}`, uid: `x${n}`, ifindex, id: 100 + n };
  };
  let sport = 1024;
  const syn = () => {
    const packet = { to: '192.0.2.77', protocol: 6, port: 443 };
    return kernel.run(frame(packet, { src: POD_IP, sport: ++sport, tcpFlags: 2 }));
  };
  const apply = (...bindings: EndpointBinding[]) => {
    kernel.store.apply(kernel.image, bindings);
    kernel.store.tidy();
    t.same(kernel.store.verify(false), []);
  };
  const elsewhere = () => {
    const map = kernel.programs.maps.endpoints_more as BpfMap;
    return [...map.batches()].reduce((n, b) => n + b.count, 0);
  };
  apply(stranger(1));
  t.match(syn(), { verdict: 'deny', events: [{ reason: 'no-endpoint' }] }, 'the slot is not its own');
  for (const others of [[stranger(1)], [stranger(1), stranger(2)], [stranger(2)], []]) {
    kernel.use({ ir, snapshot });
    apply(...others, one);
    t.match(syn(), { verdict: 'deny', events: [{ reason: 'rule', endpoint: one.id }] });
    kernel.use({ ir: { tiers: [] }, snapshot });
    apply(...others, one);
    t.match(syn(), { verdict: 'allow', events: [{ reason: 'no-policy', endpoint: one.id }] });
  }
  t.equal(elsewhere(), 1, 'it stays where it is, though its own slot is free by now');
  apply();
  t.equal(elsewhere(), 0);
});

t.test('a pod that gives itself addresses without end fills nothing that others need', async (t) => {
  const kernel = new Kernel();
  t.teardown(() => kernel.close());
  const { ir, snapshot } = world(4, 8);
  kernel.use({ ir, snapshot });
  const ips = Array.from({ length: 20_000 }, (_, n) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`);
  kernel.apply([{ ...kernel.binding('default/web'), ips }]);
  t.same(kernel.store.verify(false), []);
  const from = (src: string) =>
    kernel.run(frame({ to: '192.0.2.77', protocol: 6, port: 443 }, { src, sport: 1024, tcpFlags: 2 })).events;
  t.match(from('10.0.0.255'), [{ reason: 'rule' }]);
  t.match(from('10.0.1.0'), [{ reason: 'spoofed-address' }], 'what is beyond is not its own');
});
