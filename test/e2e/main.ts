/**
 * The end-to-end test: the DaemonSet on a real cluster, judged from real pods.
 *
 *   npm run test:e2e                       everything, with CNI ptp and (on the test node) with CNI bridge
 *   npm run test:e2e -- --short            policies, Services, names, what connections say, staging, first packet, restart of the agent
 *   npm run test:e2e -- --image FILE.tar   an image that was built before
 *   npm run test:e2e -- --keep             leave everything as it is at the end
 */
import { parseArgs } from 'node:util';
import t from 'tap';
import { Cluster, findPlace } from './cluster.js';
import { agentGoes } from './agent-goes.js';
import { apiGoes } from './api-goes.js';
import { churn } from './churn.js';
import { deployment } from './deployment.js';
import { dialects } from './dialects.js';
import { firstPacket } from './first-packet.js';
import { names } from './names.js';
import { policies } from './policies.js';
import { readers } from './readers.js';
import { staging } from './staging.js';
import { webUi } from './ui.js';
import { makeWorld } from './world.js';

const { values } = parseArgs({
  options: {
    short: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    image: { type: 'string' },
    only: { type: 'string' },
    cni: { type: 'string' },
  },
});

t.setTimeout(40 * 60_000);
const wanted = (name: string) => values.only === undefined || values.only.split(',').includes(name);

for (const cni of values.cni ? [values.cni as 'ptp' | 'bridge'] : (['ptp', 'bridge'] as const)) {
  const place = await findPlace(cni);
  if (cni === 'bridge' && place.kind !== 'test-node') break;
  const again = cni === 'bridge' && values.cni === undefined;
  const cluster = new Cluster(place);
  await t.test(`${place.kind}, CNI ${place.kind === 'test-node' ? cni : 'its own'}`, async (t) => {
    t.comment(`kubectl: ${place.kubectl}`);
    if (values.image !== undefined) await cluster.load(values.image);
    await t.test('the DaemonSet', (t) => deployment(t, cluster));
    const world = await makeWorld(cluster);
    if (wanted('policies')) await t.test('policies', (t) => policies(t, cluster, world));
    // A minute and more, and no CNI has a part in it.
    if (wanted('dialects') && !again && (!values.short || values.only))
      await t.test('every policy language', (t) => dialects(t, cluster, world));
    if (wanted('names') && !again) await t.test('names', (t) => names(t, cluster));
    if (wanted('readers')) await t.test('egressctl and the relay', (t) => readers(t, cluster, world));
    if (wanted('ui') && !again) await t.test('the web UI for many', (t) => webUi(t, cluster, world));
    if (wanted('staging') && !again) await t.test('a policy is staged first', (t) => staging(t, cluster, world));
    if (wanted('first'))
      await t.test('the first packet of a new pod', (t) => firstPacket(t, cluster, world, again || values.short));
    if (wanted('agent')) await t.test('the agent goes and comes', (t) => agentGoes(t, cluster, world));
    if (!values.short && !again) {
      if (wanted('churn')) await t.test('pods come and go', (t) => churn(t, cluster, world));
      if (wanted('api')) await t.test('the API server goes and comes', (t) => apiGoes(t, cluster, world));
    }
    world.close();
    if (!values.keep) await t.test('everything goes', (t) => deployment(t, cluster, 'remove'));
  });
  cluster.close();
  if (values.short) break;
}
