/** Why something is allowed or denied: links, the server's answers, the drawer. */
import t from 'tap';
import { AgentError } from '../../src/errors.js';
import type { Explanation } from '../../src/explain/explain.js';
import type { ExplainRequest, FlowRecord, GetFlowsRequest } from '../../src/proto/messages.js';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import { whyHandler, type WhySource } from '../../src/ui/api/why.js';
import type { WhyAnswer, WhyNow } from '../../src/ui/wire/explain.js';
import { compared, thenStaged, thenText } from '../../src/ui/wire/then.js';
import { decodeWhy, encodeWhy, type WhyEnd, type WhyRef } from '../../src/ui/wire/why.js';
import { until } from '../netns/shell.js';
import { UiBrowser } from './browser.js';
import { UiCommand } from './command.js';
import { TEXTS } from './hostile.js';
import { startWorld } from './world.js';

const WEB: WhyEnd = { kind: 'workload', namespace: 'shop', workloadKind: 'Deployment', name: 'web', pod: '' };
const OUTSIDE: WhyEnd = { kind: 'address', namespace: '', workloadKind: '', name: '203.0.113.20', pod: '' };
const REF: WhyRef = {
  ...{ about: 'edge', from: WEB, to: OUTSIDE, address: '203.0.113.20', port: 443, protocol: 6, query: '' },
  ...{ service: 'shop/mixed', servicePort: 80, inbound: false, verdict: 'deny', auditVerdict: 'none', reason: 'rule' },
  ...{ rule: 'np/shop/web#default', auditRule: '', timeMs: 1_700_000_000_123, node: 'a' },
};

t.test('a link has all of it', (t) => {
  t.same(decodeWhy(encodeWhy(REF)), REF);
  const flow: WhyRef = { ...REF, about: 'flow', inbound: true, from: { ...WEB, pod: 'web-1' }, query: 'a.example' };
  t.same(decodeWhy(encodeWhy(flow)), flow);
  for (const [name, text] of Object.entries(TEXTS)) {
    if (text.length > 250 || new URLSearchParams({ text }).toString().length > 600) {
      const long = encodeWhy({
        ...REF,
        from: { ...WEB, name: text, pod: text },
        rule: text,
        auditRule: text,
        node: text,
      });
      t.ok(new URLSearchParams({ why: long }).toString().length < 4500, `${name} fits into an address`);
      continue;
    }
    const hostile = { ...REF, from: { ...WEB, name: text }, rule: text, node: text, service: `${text}/x` };
    // The address of a page is UTF-8, as the rest of the web.
    const sent = new URLSearchParams({ why: encodeWhy(hostile) }).get('why') ?? '';
    if (name !== 'lone surrogates') t.same(decodeWhy(sent), hostile, name);
  }
  for (const bad of [
    ...['', 'edge', 'edge:1', 'x,from=workload/a/b/c', 'edge,from=who/a,to=address///1,port=1/6'],
    ...['edge,from=other,to=other,port=99999/6', 'edge,from=other,to=other,port=1/6,at=-1', `edge,${'x'.repeat(4000)}`],
    ...['edge,from=%,to=other,port=1/6', 'edge,from=other,to=other,port=1'],
  ])
    t.equal(decodeWhy(bad), undefined, bad.slice(0, 40));
  t.match(decodeWhy('edge,from=other,to=other,port=1/6,said=x/y/z'), { verdict: 'none', auditVerdict: 'none' });
  t.end();
});

t.test('then and now', (t) => {
  const now = (verdict: WhyNow['verdict'], rule: string) => ({ verdict, rule }) as WhyNow;
  t.equal(compared(REF, now('deny', 'np/shop/web#default')), 'same');
  t.equal(compared({ ...REF, rule: 'cilium/a/b#1 "x"' }, now('deny', 'cilium/a/b#1 "y"')), 'same', 'a name is a name');
  t.equal(compared(REF, now('deny', 'np/shop/other#default')), 'rule');
  t.equal(compared(REF, now('allow', 'np/shop/web#0')), 'verdict');
  t.equal(compared({ ...REF, rule: '' }, now('deny', 'np/secret#0')), 'same', 'a rule that may not be seen');
  t.equal(compared({ ...REF, reason: 'spoofed-address', rule: '' }, now('allow', '')), 'other');
  t.equal(thenText(REF), 'Denied by np/shop/web#default');
  t.equal(
    thenText({ ...REF, verdict: 'allow', rule: '', reason: 'no-policy' }),
    'Allowed: no policy selects the sender',
  );
  t.equal(thenText({ ...REF, verdict: 'deny', rule: '', reason: 'new-reason' }), 'Denied: new reason');
  t.equal(thenText({ ...REF, verdict: 'none', rule: 'gnp/x#0', reason: 'none' }), 'Logged by gnp/x#0');
  t.equal(
    thenStaged({ ...REF, auditVerdict: 'allow', auditRule: 'np/a/b#0' }),
    'staged policies would allow it by np/a/b#0',
  );
  t.equal(thenStaged(REF), '');
  t.end();
});

/** A source with some pods and flows, which says what it was asked. */
function sourceOf(pods: readonly string[], flows: readonly FlowRecord[], explained: unknown) {
  const asked: ExplainRequest[] = [];
  const filters: GetFlowsRequest[] = [];
  const source: WhySource = {
    async *getRecords(request) {
      filters.push(request);
      for (const record of flows) yield { record } as never;
    },
    clusterStatus: async () =>
      ({
        nodes: [{ name: 'a', state: 'NODE_CONNECTED', status: { endpoints: pods.map((pod) => ({ pod })) } }],
      }) as never,
    explain: async (request) => {
      asked.push(request);
      if (explained instanceof Error) throw explained;
      return { json: JSON.stringify(explained), verdict: 'deny' };
    },
  };
  return { source, asked, filters };
}

function flowOf(pod: string, kind = 'Deployment', name = 'web'): FlowRecord {
  const labels = ['k8s:app=web', 'k8s:pod-template-hash=1', 'k8s:io.kubernetes.pod.namespace=shop'];
  const who = { namespace: 'shop', pod_name: pod, workloads: [{ kind, name }], labels };
  return { flow: { source: who, destination: who } } as never;
}

const RULE = { policy: { dialect: 'networkpolicy', kind: 'NetworkPolicy', namespace: 'shop', name: 'web' } };
const MISSED = { rule: 'np/shop/web#0', action: 'allow', result: 'no-match', text: 'x', why: 'y' };
const DENIED = {
  packet: { from: 'shop/web-1', to: '203.0.113.20', port: 443, protocol: 6 },
  sender: { key: 'shop/web-1', known: true, selectable: true, why: '' },
  verdict: { verdict: 'deny', rule: 1, logged: [] },
  rule: { ...RULE, index: -1, tier: 'default', staged: false, action: 'deny' },
  targets: [
    {
      ip: '203.0.113.20',
      port: 443,
      is: [],
      verdict: { verdict: 'deny', rule: 1, logged: [] },
      tiers: [
        {
          tier: 'default',
          order: 1,
          applies: true,
          outcome: 'deny',
          always: [],
          policies: [
            {
              policy: 'np/shop/web',
              ref: RULE.policy,
              staged: false,
              selected: true,
              why: 'y',
              rules: [MISSED, MISSED],
            },
            { policy: 'np/data/x', ref: { ...RULE.policy, namespace: 'data' }, selected: false, why: 'n', rules: [] },
          ],
        },
      ],
    },
  ],
  summary: '',
} as unknown as Explanation;

const BODY = { from: WEB, to: OUTSIDE, address: '203.0.113.20', port: 443, protocol: 6 };
const signal = new AbortController().signal;
const scoped = (...namespaces: string[]): Viewer => ({ id: 'u', name: 'u', scope: async () => new Set(namespaces) });

t.test('the answer of the server', async (t) => {
  const ask = (source: WhySource, body: object = BODY, viewer = EVERYTHING) =>
    whyHandler(source)(body as never, viewer, signal) as Promise<WhyAnswer>;

  await t.test('a pod stands for its workload', async (t) => {
    const { source, asked, filters } = sourceOf(
      ['shop/web-1', 'shop/web-2'],
      [flowOf('web-0'), flowOf('web-1')],
      DENIED,
    );
    const answer = await ask(source);
    t.match(asked, [{ from: 'shop/web-1', to: '203.0.113.20', port: 443, protocol: 6 }]);
    t.match(filters[0]?.whitelist, [{ source_workload: [{ kind: 'Deployment', name: 'web' }] }]);
    t.match(answer.asked, { from: 'shop/web-1', how: /seen last/ });
    t.equal(
      answer.now?.sentence,
      'shop/web-1 may not reach 203.0.113.20:443/tcp: tier default denies, since np/shop/web isolates it and none of its 2 rules matches',
    );
    t.match(answer.allow?.yaml, /kind: NetworkPolicy[\s\S]*app: web[\s\S]*203\.0\.113\.20\/32/);
    t.notMatch(answer.allow?.yaml, /template-hash/, 'labels that last');
    t.match(answer.now?.targets[0]?.tiers[0], {
      policies: [{ policy: 'np/shop/web' }],
      others: [{ policy: 'np/data/x' }],
    });
  });

  await t.test('a pod that is gone', async (t) => {
    const { source } = sourceOf(['shop/web-5d4f8c7b9d-x7k2p', 'shop/website-5d4f8c7b9d-x7k2p'], [], DENIED);
    const answer = await ask(source, { ...BODY, from: { ...WEB, pod: 'web-1' } });
    t.match(answer.asked, { from: 'shop/web-5d4f8c7b9d-x7k2p', how: /shop\/web-1 is gone; by its name a pod of/ });
    const none = await ask(sourceOf(['shop/other'], [], DENIED).source);
    t.match(none.cannot, /No pod of Deployment shop\/web runs now/);
    t.equal(none.now, undefined);
  });

  await t.test('what cannot be explained', async (t) => {
    const { source, asked } = sourceOf(['shop/web-1'], [flowOf('web-1')], DENIED);
    const other: WhyEnd = { kind: 'other', namespace: '', workloadKind: '', name: '', pod: '' };
    t.match((await ask(source, { ...BODY, from: OUTSIDE, to: WEB, inbound: true })).cannot, /from outside/);
    t.match((await ask(source, { ...BODY, from: OUTSIDE })).cannot, /is no pod and no node/);
    t.match((await ask(source, { ...BODY, to: other })).cannot, /many addresses/);
    t.match((await ask(source, { ...BODY, to: { ...OUTSIDE, name: '' }, address: '' })).cannot, /No address/);
    t.same(asked, [], 'and nobody was asked');
    const wrong = sourceOf(['shop/web-1'], [flowOf('web-1')], new AgentError('USAGE', 'there is no pod x')).source;
    t.match((await ask(wrong)).cannot, /there is no pod x/);
    const down = sourceOf(['shop/web-1'], [flowOf('web-1')], new AgentError('AGENT', 'gone')).source;
    await t.rejects(ask(down), { code: 'AGENT' });
  });

  await t.test('a node, a name, a DNS query', async (t) => {
    const { source, asked } = sourceOf(['shop/web-1'], [flowOf('web-1')], DENIED);
    const node: WhyEnd = { kind: 'node', namespace: '', workloadKind: '', name: 'a', pod: '' };
    const name: WhyEnd = { ...OUTSIDE, kind: 'name', name: 'Api.Example.com' };
    await ask(source, { ...BODY, from: node });
    await ask(source, { ...BODY, to: name, address: '' });
    await ask(source, { ...BODY, query: 'x.example' });
    t.match(asked, [{ from: '@node/a' }, { to: 'api.example.com' }, { dns_query: 'x.example' }]);
  });

  await t.test('rights', async (t) => {
    const { source, asked } = sourceOf(['shop/web-1', 'data/db-0'], [flowOf('web-1')], DENIED);
    await t.rejects(ask(source, BODY, scoped('data')), { status: 403, message: /namespace shop/ });
    await t.rejects(ask(source, { ...BODY, from: { ...WEB, kind: 'node', namespace: '' } }, scoped('shop')), {
      status: 403,
      message: /no namespace/,
    });
    t.same(asked, []);
    const answer = await ask(source, BODY, scoped('shop'));
    t.same(answer.now?.targets[0]?.tiers[0]?.others, [], 'policies of other namespaces are not told');
    const db: WhyEnd = { kind: 'workload', namespace: 'data', workloadKind: 'StatefulSet', name: 'db', pod: '' };
    const hidden = await ask(source, { ...BODY, to: db, address: '' }, scoped('shop'));
    t.match(hidden.cannot, /No address/, 'nor which pods there are');
  });

  await t.test('bad requests', async (t) => {
    const { source } = sourceOf([], [], DENIED);
    for (const [body, field] of [
      [{}, /must be an object/],
      [{ ...BODY, from: { kind: 'pod' } }, /from\.kind/],
      [{ ...BODY, from: { ...WEB, name: 7 } }, /from\.name/],
      [{ ...BODY, port: 70_000 }, /port/],
      [{ ...BODY, to: { ...OUTSIDE, name: 'x'.repeat(1000) } }, /to\.name/],
    ] as const)
      await t.rejects(ask(source, body), { status: 400, message: field });
  });
});

t.test('the drawer', { timeout: 180_000 }, async (t) => {
  const world = await startWorld();
  t.teardown(() => world.stop());
  const command = await UiCommand.start(world.socket);
  t.teardown(() => command.stop());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const ui = await browser.open(t, command.link);
  const { page } = ui;
  const drawer = page.locator('aside.why');
  const goTo = (path: string) => page.goto(`${command.url}${path}`);

  await t.test('by keys, from a list and back', async (t) => {
    await goTo('/flows?mode=sums&f=verdict:DENIED&f=from-workload:Deployment/web');
    await ui.shows('203.0.113.20');
    await page.locator('[role=grid]').focus();
    await page.keyboard.press('j');
    await page.keyboard.press('Enter');
    await ui.shows(/shop\/web\S* may not reach 203\.0\.113\.20:443\/tcp: tier default denies, since/);
    await ui.shows('the same');
    await ui.shows('np/shop/web');
    t.equal(await ui.ask('document.activeElement.className'), 'why', 'it has the focus');
    await ui.accessible(t, 'the drawer');
    await ui.shot('why');
    // Tab stays in it.
    await page.keyboard.press('Shift+Tab');
    t.ok(await ui.ask('document.activeElement.closest(".why") !== null'));
    await page.keyboard.press('Tab');
    t.equal(await ui.ask('document.activeElement.getAttribute("aria-label")'), 'close the explanation');
    await page.keyboard.press('Escape');
    await drawer.waitFor({ state: 'detached' });
    t.equal(await ui.ask('document.activeElement.getAttribute("role")'), 'grid', 'the focus is where it was');
    t.notMatch(page.url(), /why=/);
  });

  await t.test('a link shows somebody else the same', async () => {
    const ref = { ...REF, from: { ...WEB, pod: '' }, rule: 'np/shop/dns#default', service: '', servicePort: 0 };
    const query = new URLSearchParams({ why: encodeWhy(ref) });
    await goTo(`/graph?${query}`);
    await ui.shows(/may not reach 203\.0\.113\.20:443\/tcp/);
    await goTo('/flows?why=edge,broken');
    await ui.shows(/the link cannot be read/);
    await goTo('/flows?why=edge:999999');
    await ui.shows(/not here any more/);
  });

  await t.test('what has changed since', async () => {
    const query = new URLSearchParams({ why: encodeWhy({ ...REF, rule: 'np/shop/dns#default', service: '' }) });
    await goTo(`/flows?${query}`);
    await ui.shows('the same');
    const rule = 'egress: [{to: [{ipBlock: {cidr: 203.0.113.20/32}}]}]';
    await world.applyManifest(
      'later',
      `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: later, namespace: shop}\nspec:\n  podSelector: {matchLabels: {app: web}}\n  policyTypes: [Egress]\n  ${rule}\n`,
    );
    await page.reload();
    await ui.shows(/may reach 203\.0\.113\.20:443\/tcp: np\/shop\/later#0 allows it/);
    await ui.shows(/say something else/);
    await world.removeManifest('later');
  });

  await t.test('what would allow it goes to the editor', async () => {
    const query = new URLSearchParams({ why: encodeWhy({ ...REF, rule: 'np/shop/dns#default', service: '' }) });
    await goTo(`/flows?${query}`);
    await page.getByRole('button', { name: 'See what it would change' }).click();
    await until('the editor is there', async () => /\/policies\?.*edit=new/.test(page.url()));
    await ui.shows('allow-web');
  });

  await t.test('from outside', async () => {
    await goTo('/flows?mode=sums&f=to-workload:Deployment/web&f=verdict:ALLOWED');
    await ui.shows('inbound');
    await page.locator('[role=row][data-at]').filter({ hasText: '10.0.0.1' }).first().dblclick();
    await ui.shows(/judge what pods send/);
  });
  ui.check(t);
});
