/** The screen status, in a browser: what is wrong first, thousands of nodes, one of them, and what a viewer may see. */
import t from 'tap';
import type { ClusterNode, StatusResponse } from '../../src/proto/status.js';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { EVERYTHING } from '../../src/ui/access/viewer.js';
import { statusHandlers } from '../../src/ui/api/status.js';
import type { ClusterFacts } from '../../src/ui/wire/status.js';
import { until } from '../netns/shell.js';
import { UiBrowser } from './browser.js';
import { servePage } from './given-page.js';

const HOSTILE = '"><script>alert(1)</script>\u202e';

function agent(name: string, more: Partial<StatusResponse> = {}): ClusterNode {
  const status: StatusResponse = {
    ...{ version: '0.1.0', node_name: name, mode: 'kubernetes', source: 'the API server', pid: 1 },
    ...{
      started_at: { seconds: '1', nanos: 0 },
      uptime_ns: '7200000000000',
      attach_mode: 'tcx',
      deny_response: 'drop',
    },
    ...{ hooks_attached: 4, hooks_expected: 4, policies_in_force: 6, flows_per_second: 2, flow_share: 10 },
    maps: [
      { name: 'flows', entries: '10', max: '1000' },
      { name: 'rules', entries: '900', max: '1000' },
    ],
    endpoints: [
      {
        pod: 'shop/web-1',
        uid: 'a',
        interface: 'eth1',
        ifindex: 3,
        hooks: ['tcx egress'],
        state: 'enforced',
        flows: 25,
      },
      { pod: 'data/db-0', uid: 'b', interface: 'eth2', ifindex: 4, hooks: ['tcx egress'], state: 'observed' },
      { pod: 'node/eth0', uid: 'c', interface: 'eth0', ifindex: 2, state: 'observed' },
    ],
    ...more,
  };
  return { name, state: 'NODE_CONNECTED', status };
}

const problem = (object: string) => ({
  ...{ severity: 'error', object, field: 'spec.egress[0].toCIDR[0]', message: `${HOSTILE} is not a CIDR` },
  ...{ hint: 'write it as address/prefix length', file: 'a.yaml', text: 'long' },
});
const CALM = { maps: [{ name: 'rules', entries: '1', max: '1000' }] };
const refusing = { policies_refused: 1, problems: [problem('CiliumNetworkPolicy shop/broken')] };
const BAD: ClusterNode[] = [
  agent('calm', CALM),
  agent('full'),
  agent('refusing', { ...CALM, ...refusing }),
  agent('refusing-too', {
    ...CALM,
    ...refusing,
    problems: [...refusing.problems, problem('NetworkPolicy data/other')],
  }),
  agent('stale', { ...CALM, failing_since: { seconds: '1700000000', nanos: 0 }, last_error: `no room ${HOSTILE}` }),
  agent('hooks', { ...CALM, hooks_attached: 3, hook_problems: ['eth9: cannot be attached'] }),
  { name: 'silent', state: 'NODE_UNAVAILABLE', message: 'silent: connection refused' },
];
const MANY = [...Array.from({ length: 5000 }, (_, n) => agent(`node-${String(n).padStart(4, '0')}`, CALM)), ...BAD];
const team = (...namespaces: string[]): Viewer => ({
  ...EVERYTHING,
  id: 'team',
  scope: async () => new Set(namespaces),
});

const ask = async (name: 'status' | 'node', body: Record<string, unknown>, viewer: Viewer, nodes = BAD) => {
  const source = { clusterStatus: async () => ({ nodes }), history: async () => ({}) };
  return await statusHandlers(source)[name]?.(body, viewer, new AbortController().signal);
};

t.test('rows say what to look at, and problems are told once for all nodes', async (t) => {
  const { nodes, problems } = (await ask('status', {}, EVERYTHING)) as ClusterFacts;
  const troubles = Object.fromEntries(nodes.map((row) => [row.name, row.troubles]));
  t.same(troubles, {
    calm: [],
    full: ['rules is 90 % full'],
    refusing: ['1 policy is refused'],
    'refusing-too': ['1 policy is refused'],
    stale: [`policies cannot be applied: no room ${HOSTILE}`],
    hooks: ['1 hook is not attached'],
    silent: ['silent: connection refused'],
  });
  t.match(problems, [
    { object: 'CiliumNetworkPolicy shop/broken', nodes: 2, node: 'refusing' },
    { object: 'NetworkPolicy data/other', nodes: 1 },
  ]);
  t.match(nodes[0], { word: 'connected', pods: 2, enforced: 1, version: '0.1.0' });
});

t.test('a viewer of one namespace sees its pods and its problems', async (t) => {
  const { nodes, problems } = (await ask('status', {}, team('data'))) as ClusterFacts;
  t.same(
    problems.map(({ object }) => object),
    ['NetworkPolicy data/other'],
  );
  t.equal(nodes[0]?.pods, 1);
  const node = (await ask('node', { name: 'hooks' }, team('data'))) as ClusterNode;
  t.same(
    node.status?.endpoints?.map(({ pod }) => pod),
    ['data/db-0'],
  );
  t.notMatch(JSON.stringify(node), /eth9|web-1|API server/);
  await t.rejects(ask('node', { name: 'nobody' }, EVERYTHING), { message: 'there is no node nobody' });
});

t.test('in a browser', async (t) => {
  t.setTimeout(180_000);
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());

  await t.test('what is wrong comes first, a node opens by keys and by its address', async (t) => {
    const given = await servePage(t, { clusterStatus: async () => ({ nodes: BAD }) });
    for (const colorScheme of ['light', 'dark'] as const) {
      const page = await browser.open(t, given.link('/status'), { colorScheme, width: 1440 });
      await page.shows('6 of 7 nodes answer, 1 node has no newer policies, 2 policies are refused');
      const names = await page.ask<string[]>('[...document.querySelectorAll("tbody a")].map((a) => a.textContent)');
      t.equal(names[0], 'silent');
      t.equal(names[1], 'stale');
      t.equal(names.at(-1), 'calm');
      t.match(
        await page.ask<string>('document.querySelector(".problem-list").textContent'),
        '<script>alert(1)</script>',
      );
      await page.accessible(t, `all nodes, ${colorScheme}`);
      await page.shot(`status-nodes-${colorScheme}`);
      await page.page.keyboard.press('j');
      await page.page.keyboard.press('j');
      await page.page.keyboard.press('Enter');
      await page.shows(/for .* d .* h: no room/);
      t.match(page.page.url(), /\?node=stale/);
      await page.accessible(t, `a node, ${colorScheme}`);
      await page.shot(`status-node-${colorScheme}`, true);
      await page.page.getByRole('searchbox', { name: /find a pod/ }).fill('data/');
      await until(
        'one is left',
        async () => (await page.page.locator('.endpoints tbody td:first-child').count()) === 1,
      );
      t.match(page.page.url(), /pods=data/);
      await page.page.keyboard.press('Escape');
      await page.ask('document.activeElement.blur()');
      await page.page.keyboard.press('Escape');
      await page.shows('6 of 7 nodes answer');
    }
  });

  await t.test('five thousand nodes: the rows in sight are drawn', async (t) => {
    const given = await servePage(t, { clusterStatus: async () => ({ nodes: MANY }) });
    const page = await browser.open(t, given.link('/status'));
    await page.shows('5,006 of 5,007 nodes answer', 30_000);
    t.ok((await page.page.locator('tbody tr').count()) < 100);
    const box = page.page.getByRole('region', { name: 'nodes' });
    await box.focus();
    await page.page.keyboard.press('End');
    await page.shows('node-4999');
    await page.page.getByRole('searchbox').fill('hooks');
    await page.page.getByRole('link', { name: 'hooks' }).click();
    await page.shows('eth9: cannot be attached');
  });

  await t.test('one node alone is shown at once', async (t) => {
    const given = await servePage(t, { clusterStatus: async () => ({ nodes: [agent('only')] }) });
    const page = await browser.open(t, given.link('/status'));
    await page.shows('Maps of the kernel');
    await page.shows(/shop\/web-1 25/);
    t.equal(await page.page.getByText('All nodes').count(), 0);
  });
});
