/** A viewer of one namespace who asks cleverly: no answer differs by what is hidden. */
import t from 'tap';
import type { Scope, Viewer } from '../../src/ui/access/viewer.js';
import { allHandlers } from '../../src/ui/api/handlers.js';
import { client, HUSH, OTHER, OWN } from './two-teams.js';

const viewerOf = (scope: Scope, id: string, writes = false): Viewer => ({
  id,
  name: id,
  scope: async () => scope,
  mayWrite: async () => writes,
});
const OWNER = viewerOf(new Set([OWN]), 'ann');
const handlers = allHandlers(client, () => 'nothing is written');
const ask = (name: string, body: object, viewer = OWNER): Promise<unknown> =>
  (handlers[name] as NonNullable<(typeof handlers)[string]>)(body as never, viewer, new AbortController().signal);
const party = (kind: string, namespace: string, name: string) => ({ kind, namespace, workloadKind: 'Pod', name });

t.test('why: a name that is the name of a pod of others is no question', async (t) => {
  const to = (name: string) => ask('why', { from: party('workload', OWN, 'web'), to: party('name', '', name), port: 80 });
  const there = JSON.stringify(await to(`${OTHER}/${HUSH}-signer`));
  t.notMatch(there, /10\.244\.1\.2/, 'its address is not told');
  const away = JSON.stringify(await to(`${OTHER}/nobody`));
  t.equal(there.replaceAll(`${HUSH}-signer`, 'nobody'), away, 'nor that it is there');
});

t.test('why: a node is of no namespace, whatever is said of it', async (t) => {
  for (const kind of ['node', 'name', 'address', 'service', 'other'])
    await t.rejects(
      ask('why', { from: party(kind, OWN, 'node-a'), to: party('address', '', '192.0.2.1'), port: 80 }),
      { message: /you may not see/ },
      kind,
    );
});
