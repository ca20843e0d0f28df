/** A process that writes to a history until it is killed, and says what was acknowledged. `node write-on.js PLACE FROM` */
import { openStore, placeOf } from '../../src/history/place.js';
import { A_DAY } from '../edges/given.js';
import { batchOf } from './engines.js';
import { numbered } from './numbered.js';

const [, , place = '', from = '0'] = process.argv;
const store = await openStore(placeOf(place));
for (let n = Number(from) + 1; ; n++) {
  await store.write(batchOf(1, numbered(n), n));
  process.stdout.write(`${n}\n`);
  if (n % 3 === 0) await store.maintain((A_DAY + n) * 86_400_000);
}
