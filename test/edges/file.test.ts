/** The ledger's file: what was saved is read again, and what is broken costs only itself. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { loadLedger, saveLedger, saveLedgerNow } from '../../agent/ledger/file.js';
import { DAY_MS } from '../../src/edges/edge.js';
import { Ledger } from '../../src/edges/ledger.js';
import { makeLogger } from '../../src/log.js';
import { A_DAY, makeEdge, outside, workload } from './given.js';

const NOW = A_DAY * DAY_MS + 5000;
const log = makeLogger('error');

function filled(): Ledger {
  const ledger = Ledger.fresh(NOW);
  for (let n = 0; n < 300; n++) {
    const slot = ledger.slotOf(
      makeEdge({ source: workload('shop/web'), destination: outside(`203.0.113.${n % 250}`), port: n }),
    );
    if (slot !== undefined) for (let day = 0; day < 3; day++) ledger.count(slot, NOW + day * DAY_MS, n, n * 100, 1);
  }
  ledger.overflow = 17;
  return ledger;
}

t.test('saved in turns, or at once, and read again', async (t) => {
  const dir = t.testdir();
  const ledger = filled();
  for (const [name, save] of [
    ['a', saveLedger],
    ['b', saveLedgerNow],
  ] as const) {
    const path = join(dir, name);
    await save(path, ledger, new AbortController().signal);
    const again = loadLedger(path, NOW, log);
    t.strictSame(again.histories({}), ledger.histories({}));
    t.match(again, { ledger: ledger.ledger, beganMs: ledger.beganMs, overflow: 17 });
  }
});

t.test('what was saved last stays, whatever is still being written', async (t) => {
  const dir = t.testdir();
  const path = join(dir, 'ledger');
  const ending = new AbortController();
  const ledger = filled();
  const saving = saveLedger(path, ledger, ending.signal);
  await new Promise((resolve) => setImmediate(resolve));
  ledger.overflow = 18;
  ending.abort();
  saveLedgerNow(path, ledger);
  await saving;
  t.equal(loadLedger(path, NOW, log).overflow, 18);
  t.strictSame(readdirSync(dir), ['ledger'], 'and nothing is left beside it');
});

t.test('a broken line costs one edge, a broken file the ledger', async (t) => {
  const path = join(t.testdir(), 'ledger');
  const ledger = filled();
  saveLedgerNow(path, ledger);
  const lines = readFileSync(path, 'utf8').split('\n');
  const broken = [...lines];
  broken[5] = broken[5]?.slice(0, 40) ?? '';
  broken[6] = '{"edge":null,"day":[1]}';
  broken[7] = '{"edge":{"source":{}},"day":[1],"connections":["many"]}';
  writeFileSync(path, broken.join('\n'));
  const most = loadLedger(path, NOW, log);
  t.equal(most.histories({}).length, 297);
  writeFileSync(path, 'not a ledger\n');
  t.equal(loadLedger(path, NOW, log).size, 0);
  writeFileSync(path, '');
  t.equal(loadLedger(path, NOW, log).size, 0);
  t.not(loadLedger(join(t.testdirName, 'none'), NOW, log).ledger, ledger.ledger);
});

t.test('what is older than is kept is gone', async (t) => {
  const path = join(t.testdir(), 'ledger');
  saveLedgerNow(path, filled());
  t.equal(loadLedger(path, NOW + 36 * DAY_MS, log).histories({})[0]?.days.length, 2);
  t.equal(loadLedger(path, NOW + 90 * DAY_MS, log).size, 0);
});
