/** npm run bench: the groups, one after the other, as a table or as JSON. */
import Table from 'cli-table3';
import { against } from './against.js';
import { cli } from './cli.js';
import { cluster } from './cluster.js';
import { connection } from './connection.js';
import { connects } from './connects.js';
import { dialects } from './dialects.js';
import { events } from './events.js';
import { exporting } from './export.js';
import { flood } from './flood.js';
import { history } from './history.js';
import { http } from './http.js';
import { ledger } from './ledger.js';
import { load } from './load.js';
import { names } from './names/index.js';
import { onOneCpu } from './one-cpu.js';
import { manyFirstPackets } from './many.js';
import { packets } from './packet.js';
import { peer } from './peer.js';
import { precedence } from './precedence.js';
import { previews } from './preview.js';
import { recommendations } from './recommend.js';
import { progress, type Result } from './result.js';
import { said } from './said/index.js';
import { steps } from './steps.js';
import { tcp } from './tcp.js';
import { throughput } from './throughput.js';
import { ui } from './ui.js';
import { uiRelay } from './ui-relay.js';
import { update } from './update.js';
import { versus } from './versus/index.js';

const FLAGS = ['--json', '--quick', '--only'];
const words = process.argv.slice(2).filter((a) => !FLAGS.includes(a));
const [json, quick] = [process.argv.includes('--json'), process.argv.includes('--quick')];

const GROUPS: Readonly<Record<string, () => Promise<Result[]>>> = {
  packet: onOneCpu(async () => [...(await packets()), ...manyFirstPackets()]),
  steps: onOneCpu(steps),
  http: onOneCpu(http),
  peer: onOneCpu(peer),
  names,
  said,
  events,
  ledger,
  history: () => history({ quick }),
  preview: previews,
  export: exporting,
  load,
  update,
  dialects,
  cluster,
  tcp,
  connection: onOneCpu(connection),
  connects,
  throughput,
  flood,
  ui: () => ui({ quick }),
  'ui-relay': () => uiRelay({ quick }),
  cli,
  recommend: onOneCpu(recommendations),
  versus: () => versus({ quick }),
};

/** A word means the group of that name, or else all that have it in their names. */
const isMeant = (name: string) => words.some((w) => (Object.hasOwn(GROUPS, w) ? name === w : name.includes(w)));

precedence();
const results: Result[] = [];
if (words[0] === 'against' && words[1] !== undefined) results.push(...(await against(words[1])));
for (const [name, run] of words[0] === 'against' ? [] : Object.entries(GROUPS)) {
  if (words.length > 0 && !isMeant(name)) continue;
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
