/** Invariant 1: one conformance suite, three engines. Every row of test/cases, verdict and rule. */
import t from 'tap';
import { printer, readCases } from './cases.js';
import { Evaluate, Kernel, Simulate } from './engine.js';

const engines = [new Evaluate(), new Simulate(), new Kernel()];
t.teardown(() => {
  for (const e of engines) e.close();
});

for (const c of readCases()) {
  t.test(`${c.file}: ${c.name}`, async (t) => {
    const print = printer(c.ir);
    for (const engine of engines) {
      engine.use(c);
      for (const { text, packet, expected } of c.rows) {
        const found = print(engine.judge(packet), packet);
        // Rows of fragments may name the rule that a reader expects; no engine but the kernel's events could tell it.
        t.equal(found, packet.fragment ? expected.split(' ')[0] : expected, `${engine.name}: ${text}`);
      }
    }
  });
}
