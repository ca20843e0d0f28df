/**
 * What the fast path writes down of a SYN, FIN or RST for the slow path does not depend on the packet before it. A field that
 * is not written would let a pod steer how its next packet is judged.
 */
import t from 'tap';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { cidr, POD_IP, world } from '../bench/worlds.js';
import { boundIps, Kernel, loadForTest } from '../engines/engine.js';
import { frame } from '../engines/packets.js';

const [SYN, FIN, RST, ACK] = [2, 1, 4, 16];
const KEY = Buffer.alloc(4);
/** Bytes of struct packet before `target`, which the judging function fills in, and before the padding in front of it. */
const FILLED = 108;
/** Of these, where the flow table says where the entry is, and its version, which each run changes. */
const [PLACE, PLACE_END] = [96, 104];

t.test('no field keeps what another packet left in it', (t) => {
  const kernel = new Kernel(loadForTest());
  t.teardown(() => kernel.close());
  kernel.use(world(10, 10));
  kernel.become('default/web');
  const packets = kernel.programs.maps.packets as BpfMap;
  const own6 = boundIps([POD_IP]).find((ip) => ip.includes(':')) as string;
  /** What the CPUs hold of the packet, after it was judged on one of them. */
  const left = (bytes: Buffer, hook: 'fromPod' | 'toPod', before: number) => {
    const values = packets.lookupPerCpu(KEY).map((v) => Buffer.alloc(v.length, before));
    packets.update(KEY, Buffer.concat(values));
    kernel.run(bytes, hook);
    return packets.lookupPerCpu(KEY).filter((v) => !v.every((byte) => byte === before));
  };
  for (const [out, src] of [
    [cidr(0).slice(0, -3), POD_IP],
    ['2001:db8:100::10', own6],
  ] as const) {
    for (const tcpFlags of [SYN, SYN | ACK, FIN | ACK, RST, RST | ACK]) {
      for (const hook of ['fromPod', 'toPod'] as const) {
        const [from, to] = hook === 'fromPod' ? [src, out] : [out, src];
        const bytes = frame({ to, protocol: 6, port: 1000 }, { src: from, sport: 4000, tcpFlags });
        // Twice first: what is in the flow table is the same for both.
        for (let i = 0; i < 2; i++) kernel.run(bytes, hook);
        const [zeros, ones] = [left(bytes, hook, 0), left(bytes, hook, 0xff)];
        const what = `${hook} ${from} → ${to}, flags ${tcpFlags}`;
        t.equal(zeros.length, 1, `${what}: one CPU had it`);
        t.equal(ones.length, 1, what);
        const [a, b] = [zeros[0] as Buffer, ones[0] as Buffer];
        const filled = (packet: Buffer) => [...packet.subarray(0, PLACE), ...packet.subarray(PLACE_END, FILLED)];
        t.same(filled(a), filled(b), what);
      }
    }
  }
  t.end();
});
