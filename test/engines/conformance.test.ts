/** Invariant 1: one conformance suite, three engines. Every row of test/cases, verdict and rule. */
import t from 'tap';
import { parseAddr } from '../../src/net/addr.js';
import { type Case, printer, readCases, isUntold, listens } from './cases.js';
import { Evaluate, Kernel, Simulate } from './engine.js';
import type { FrameOptions } from './packets.js';

const kernel = new Kernel();
const engines = [new Evaluate(), new Simulate(), kernel];
t.teardown(() => {
  for (const e of engines) e.close();
});

/** Pads of options: PadN of 4 bytes (RFC 8200, 4.2) in hop-by-hop and destination options. */
const padded = Buffer.from('0000010400000000', 'hex');

/** The same packet in other clothes: none changes what the rules say. */
const CLOTHES: Readonly<Record<string, { family?: 4 | 6; whole?: true; frame: Partial<FrameOptions> }>> = {
  'a VLAN tag': { frame: { vlan: [7] } },
  'two VLAN tags': { frame: { vlan: [7, 4094] } },
  'an IP option': { family: 4, frame: { options: Buffer.alloc(4, 1) } },
  'all the options there can be': { family: 4, frame: { options: Buffer.alloc(40, 1) } },
  'extension headers': {
    family: 6,
    frame: {
      extensions: [
        [0, padded],
        [60, padded],
      ],
    },
  },
  'eight extension headers': { family: 6, whole: true, frame: { extensions: Array(8).fill([60, padded]) } },
  'a first fragment': { whole: true, frame: { fragment: { offset: 0, more: true, id: 77 } } },
};

function filters({ ir }: Case): boolean {
  return ir.tiers.some(({ policies }) => policies.some(({ rules }) => rules.some(({ queries }) => queries)));
}

/** Whether verdicts of a case depend on names: then the kernel must be taught them first. */
function asksForNames({ learned, rows }: Case): boolean {
  return learned.size > 0 || rows.some(({ packet }) => packet.query !== undefined);
}

for (const c of readCases()) {
  t.test(`${c.file}: ${c.name}`, async (t) => {
    const print = printer(c.ir);
    const inKernel = kernel.learns || !asksForNames(c);
    for (const engine of engines) {
      if (engine === kernel && !inKernel) continue;
      engine.use(c);
      for (const { text, packet, expected } of c.rows) {
        const verdict = engine.judge(packet);
        if (engine === kernel && isUntold(c, packet, verdict)) continue;
        const found = print(verdict, packet);
        // Rows of fragments may name the rule that a reader expects; no engine but the kernel's events could tell it.
        t.equal(found, packet.fragment ? expected.split(' ')[0] : expected, `${engine.name}: ${text}`);
      }
    }
    for (const { text, packet, expected } of inKernel ? c.rows : []) {
      const { family } = parseAddr(packet.to);
      for (const [name, clothes] of Object.entries(CLOTHES)) {
        if ((clothes.family ?? family) !== family || (clothes.whole && packet.fragment)) continue;
        // A query in fragments cannot be read, nor what may follow a TCP header where queries are judged, nor what is
        // said.
        if (
          clothes.frame.fragment &&
          (packet.query !== undefined || (packet.protocol === 6 && filters(c)) || listens(c))
        )
          continue;
        const verdict = kernel.judgeFrame(packet, clothes.frame);
        if (isUntold(c, packet, verdict)) continue;
        const found = print(verdict, packet);
        t.equal(found, packet.fragment ? expected.split(' ')[0] : expected, `kernel, ${name}: ${text}`);
      }
    }
  });
}
