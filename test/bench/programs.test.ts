/** The benchmarks' own BPF programs load and judge, whatever becomes of the headers that they include. */
import t from 'tap';
import { load } from '../../agent/kernel/loader.js';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { benchObject } from './bpf-objects.js';
import { manyAddresses } from './many.js';
import { framesOf, knowing, passes, TCP4, TCP6 } from './packet.js';
import { Peer } from './peer.js';
import { helloTimes } from './said/hello.js';

t.test('a known flow passes each step', async (t) => {
  for (const way of [TCP4, TCP6]) {
    const { kernel, packet } = knowing(2, 2, way, load({ objectPath: benchObject('steps') }));
    for (const [name, program] of Object.entries(kernel.programs.all))
      if (name.startsWith('step_')) t.ok(passes(program, packet), `${name}, ${way.name}`);
    kernel.close();
  }
});

t.test('first packets to one address after the other are judged', async (t) => {
  const { kernel, packet } = manyAddresses(2, 2);
  const { many_floor: floor, many_sent: sent } = kernel.programs.all as Record<string, BpfProgram>;
  t.ok(passes(floor as BpfProgram, packet));
  t.notOk(passes(sent as BpfProgram, packet), 'the port is another one than the rules');
  kernel.close();
});

t.test('hellos on one connection after the other are judged', async (t) => {
  t.ok(helloTimes(1).times.every((ns) => ns > 0));
});

t.test('the closest peer’s design: first packets by networks and ports, known flows, answers', async (t) => {
  const peer = new Peer(2);
  const { first, later, answer } = framesOf(TCP4);
  t.equal(peer.in.testRun(answer).retval, 2, 'nobody asked for it');
  t.equal(peer.out.testRun(first).retval, 0);
  t.equal(peer.out.testRun(later).retval, 0);
  t.equal(peer.in.testRun(answer).retval, 0);
  const other = Buffer.from(first);
  other.writeUInt16BE(9, 14 + 20 + 2);
  t.equal(peer.out.testRun(other).retval, 2, 'another port');
  peer.close();
});
