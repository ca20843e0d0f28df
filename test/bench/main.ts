/** npm run bench: the groups, one after the other, as a table or as JSON. */
import Table from 'cli-table3';
import { cluster } from './cluster.js';
import { dialects } from './dialects.js';
import { events } from './events.js';
import { load } from './load.js';
import { packets } from './packet.js';
import { precedence } from './precedence.js';
import { progress, type Result } from './result.js';
import { tcp } from './tcp.js';
import { update } from './update.js';
import { versus } from './versus/index.js';

const FLAGS = ['--json', '--quick', '--only'];
const words = process.argv.slice(2).filter((a) => !FLAGS.includes(a));
const [json, quick] = [process.argv.includes('--json'), process.argv.includes('--quick')];

const GROUPS: Readonly<Record<string, () => Promise<Result[]>>> = {
  packet: packets,
  events,
  load,
  update,
  dialects,
  cluster,
  tcp,
  versus: () => versus({ quick }),
};

precedence();
const results: Result[] = [];
for (const [name, run] of Object.entries(GROUPS)) {
  if (words.length > 0 && !words.some((w) => name.includes(w))) continue;
  progress(`${name} …`);
  results.push(...(await run()));
}
if (json) {
  console.log(JSON.stringify(results, null, 2));
} else {
  const table = new Table({ head: ['what', 'measured', 'to reach', '', 'of what'], style: { head: [], border: [] } });
  for (const r of results)
    table.push([r.name, `${r.value} ${r.unit}`, `${r.goal} ${r.unit}`, r.met ? '✓' : '✗', r.baseline]);
  console.log(table.toString());
}
process.exit(results.every((r) => r.met) ? 0 : 1);
