/** The editor of policies: what a text would change, where its problems are, and what is written of it. */
import t, { type Test } from 'tap';
import { AgentError } from '../../src/errors.js';
import type { PreviewRequest, PreviewResponse } from '../../src/proto/edges.js';
import { AgentClient } from '../../src/rpc/transport/client.js';
import { PolicyApi } from '../../src/staging/live/api.js';
import { Evidence } from '../../src/staging/live/evidence.js';
import { EVERYTHING, type Viewer } from '../../src/ui/access/viewer.js';
import type { Handler } from '../../src/ui/api/handler.js';
import { handHandlers, type Hands, handsOf } from '../../src/ui/api/hands.js';
import { located, stepsOf } from '../../src/ui/policies/positions.js';
import { Previews, previewAnswer } from '../../src/ui/policies/preview.js';
import { HttpError } from '../../src/ui/http/answers.js';
import type { Body } from '../../src/ui/http/read.js';
import { kubectlCommand } from '../../src/ui/text/kubectl.js';
import type { TextProblem } from '../../src/ui/wire/policies.js';
import { until } from '../netns/shell.js';
import { ObjectsServer } from '../staging/objects-server.js';
import { UiBrowser, type UiPage } from './browser.js';
import { servePage } from './page.js';
import { startWorld } from './world.js';

/** The status of the answer that a page would get. */
async function statusOf(answer: Promise<unknown>): Promise<number> {
  try {
    await answer;
    return 200;
  } catch (e) {
    return e instanceof HttpError ? e.status : 0;
  }
}

const LOCAL = new AbortController().signal;

function problem(more: Partial<TextProblem>): TextProblem {
  return { severity: 'error', object: '', field: '', message: 'x', hint: '', ...more };
}

t.test('problems are found in the text', async (t) => {
  const text = `kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  egress:
    - to: [{ipBlock: {cidr: 300.0.0.1/8}}]
---
kind: NetworkPolicy
metadata: {name: db, annotations: {"a.b/c": x}}
`;
  const at = (more: Partial<TextProblem>, of = text) => {
    const [found] = located(of, [problem(more)]);
    return found?.from === undefined ? undefined : of.slice(found.from, found.to);
  };
  const web = 'NetworkPolicy shop/web';
  t.equal(at({ object: web, field: 'spec.egress[0].to[0].ipBlock.cidr' }), '300.0.0.1/8');
  t.equal(at({ object: web, field: 'spec.egress[0].to[7].nothing' }), 'to', 'the nearest thing that is there');
  t.equal(at({ object: web, field: 'spec' }), 'spec');
  t.equal(at({ object: web }), 'kind', 'the whole object: where it begins');
  t.equal(at({ object: 'NetworkPolicy db', field: 'metadata.annotations["a.b/c"]' }), 'x');
  t.equal(at({ object: 'StagedNetworkPolicy shop/db', field: 'kind' }), 'NetworkPolicy', 'of another form');
  t.type(at({}, 'a: [1\nb: 2\n'), 'string', 'where the YAML is broken');
  t.equal(at({ object: 'x' }, '['.repeat(100_000)), undefined, 'too deep');
  t.equal(at({ object: 'x' }, `a: ${'x'.repeat(300_000)}`), undefined, 'too long to be searched');
  t.equal(at({ object: 'x' }, ''), undefined);
  t.same(stepsOf('a[0].b["c.d"].e'), ['a', 0, 'b', 'c.d', 'e']);
});

t.test('the here-document ends where the text does not', async (t) => {
  t.equal(kubectlCommand('a: 1'), "kubectl apply -f - <<'EOF'\na: 1\nEOF\n");
  t.match(kubectlCommand('a: |\n  x\nEOF\n$(reboot)\n'), /<<'EOF_1'\n[\s\S]*\nEOF_1\n$/);
  t.match(kubectlCommand('EOF\r\nEOF_1\n'), /<<'EOF_2'/);
});

t.test('who may see one namespace is told of its flows alone', async (t) => {
  const party = (namespace: string) => ({ kind: 'workload', namespace, name: 'web' });
  const edge = (from: string, to: string) => ({ source: party(from), destination: party(to), port: 1, protocol: 6 });
  const response: PreviewResponse = {
    edges: [
      { edge: edge('shop', 'data'), was: 'allow', is: 'deny' },
      { edge: edge('data', 'data'), was: 'deny', is: 'allow' },
    ],
    ...{ judged: 9, opened: 1, closed: 1, unknown: 3 },
    diff: JSON.stringify({
      changes: [
        {
          senders: ['data/a', 'shop/b'],
          to: { kind: 'addresses', ranges: ['10.0.0.1'] },
          text: { to: ['data/secret'], ports: 'tcp/1' },
          was: { verdict: 'allow' },
          is: { verdict: 'deny', rule: 'r' },
        },
        { senders: ['data/a'], text: {}, was: {}, is: {} },
      ],
      pods: 4,
    }),
  };
  t.match(previewAnswer(response, { scope: undefined, writes: true }, false), {
    judged: 9,
    unknown: 3,
    flows: { length: 2 },
    pods: 4,
    reach: { length: 2 },
  });
  const seen = previewAnswer(response, { scope: new Set(['shop']), writes: true }, false);
  t.match(seen, { judged: 1, opened: 0, closed: 1, unknown: 0, pods: 0 });
  t.match(seen.reach, [
    { senders: ['shop/b'], to: ['10.0.0.1'], ports: 'tcp/1', was: 'allow', is: 'deny', isRule: 'r', wasRule: '' },
  ]);
  t.equal(seen.reach.length, 1);
  t.same(previewAnswer({ diff: 'no JSON' }, { scope: undefined, writes: true }, false).reach, []);
});

t.test('one preview of a user at a time', async (t) => {
  const asked: { text: string; end: (answer: PreviewResponse) => void; signal: AbortSignal }[] = [];
  const previews = new Previews({
    preview: ({ manifests = '' }: PreviewRequest, _, signal) =>
      new Promise((resolve, reject) => {
        asked.push({ text: manifests, end: resolve, signal: signal as AbortSignal });
        signal?.addEventListener('abort', () => reject(new AgentError('AGENT', 'cancelled')));
      }),
  });
  const leaving = new AbortController();
  const ask = (user: string, text: string, signal = LOCAL) =>
    previews.ask({ ...EVERYTHING, id: user }, text, 10, signal);
  const first = ask('me', 'a: 1', leaving.signal);
  const second = ask('me', 'a: 2');
  const other = ask('you', 'a: 3');
  await until('two are asked', () => asked.length === 2);
  t.same(
    asked.map((a) => a.text),
    ['a: 1', 'a: 3'],
  );
  leaving.abort();
  await t.rejects(first, /cancelled/, 'it is taken back');
  await until('the second one is asked', () => asked.length === 3);
  for (const { end } of asked) end({ judged: 5 });
  t.match(await second, { judged: 5 });
  t.match(await other, { judged: 5 });
  t.equal(await statusOf(ask('me', 'é'.repeat(600_000))), 413);
  const waiting = Array.from({ length: 4 }, () => ask('me', 'b: 1'));
  t.equal(await statusOf(ask('me', 'b: 1')), 429);
  await until('the first of them is asked', () => asked.length === 4);
  for (let n = 3; n < 7; n++) {
    await until('the next one is asked', () => asked.length > n);
    asked[n]?.end({});
  }
  await Promise.all(waiting);
});

t.test('a staged text is judged as if it were in force', async (t) => {
  const texts: string[] = [];
  const previews = new Previews({
    preview: async ({ manifests = '' }) => {
      texts.push(manifests);
      return {};
    },
  });
  const np = (annotations: string) =>
    `apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: a, namespace: b${annotations}}\nspec: {}\n`;
  const ask = (text: string) => previews.ask(EVERYTHING, text, 10, LOCAL);
  t.equal((await ask(np(', annotations: {egress-agent.io/enforcement: audit}'))).asEnforced, true);
  t.notMatch(texts[0], /audit/);
  t.equal((await ask(np(''))).asEnforced, false);
  t.equal(texts[1], np(''), 'otherwise it stays as it is');
  t.equal((await ask('a: [')).asEnforced, false);
});

t.test('hands: what is asked for is checked, and what one may not see is left out', async (t) => {
  const calls: unknown[] = [];
  const denied = ['shop/web', 'data/db', 'node n1'].map((workload) => ({
    workload,
    kind: 'Pod',
    connections: 1,
    last: '',
    flows: [],
  }));
  const hands = {
    step: async (...args: unknown[]) => {
      calls.push(args);
      return { says: 'is staged', changes: [], warnings: [], refused: false };
    },
    impact: async () => ({ denied }),
    apply: async (...args: unknown[]) => {
      calls.push(args);
      return { changes: [], warnings: [], resourceVersion: '1' };
    },
    read: async () => ({ text: '', resourceVersion: '1' }),
  } as unknown as Hands;
  const handlers = handHandlers(() => hands);
  const call = (name: string, body: Body, viewer = EVERYTHING) => (handlers[name] as Handler)(body, viewer, LOCAL);
  const me: Viewer = { ...EVERYTHING, scope: async () => new Set(['shop']) };
  await call('step', { step: 'stage', policy: 'np/shop/web' });
  t.same(calls, [['stage', 'np/shop/web', { days: 7, force: false, dryRun: false }]]);
  const policy = 'np/shop/web';
  for (const body of [
    { step: 'delete', policy },
    { step: 'stage' },
    { step: 'stage', policy, days: -1 },
    { step: 'stage', policy, force: 1 },
  ])
    t.equal(await statusOf(call('step', body)), 400, JSON.stringify(body));
  t.equal(await statusOf(call('apply', { yaml: '', as: 'forced' })), 400);
  t.equal(calls.length, 1, 'nothing of it was done');
  const seen = (await call('impact', { policy }, me)) as { denied: typeof denied };
  t.same(
    seen.denied.map((d) => d.workload),
    ['shop/web'],
  );
  const none = handHandlers(() => 'files are read')['read'] as Handler;
  t.equal(await statusOf(none({ policy }, EVERYTHING, LOCAL)), 403);
});

/** The text of the editor's field, which is in a shadow root. */
const TEXT =
  "[...document.querySelector('.code').shadowRoot.querySelectorAll('.cm-line')].map((l) => l.textContent).join('\\n')";

const HAS_FIELD = "(document.querySelector('.code')?.shadowRoot ?? null) !== null";

t.test('the page', { timeout: 240_000 }, async (t) => {
  const world = await startWorld({ trickle: false });
  t.teardown(() => world.stop());
  const client = new AgentClient(world.socket);
  t.teardown(() => client.close());
  const browser = await UiBrowser.start();
  t.teardown(() => browser.close());
  const cluster = await ObjectsServer.start();
  t.teardown(() => cluster.stop());
  const path = '/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies';
  const spec = { podSelector: { matchLabels: { app: 'batch' } }, policyTypes: ['Egress'], egress: [{}] };
  const put = () =>
    cluster.put(`${path}/batch`, {
      ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', spec },
      metadata: { annotations: { 'egress-agent.io/enforcement': 'audit' } },
    });
  put();
  const hands = handsOf(new PolicyApi(cluster.client, 'egress-ui'), await Evidence.of(client, 'agent'));
  const { link } = await servePage(t, client, hands);
  const readOnly = await servePage(t, client, 'files are read');

  const opened = async (t: Test, to: string) => {
    const ui = await browser.open(t, to);
    await until('the field is there', () => ui.ask<boolean>(HAS_FIELD));
    return ui;
  };
  const judged = (ui: UiPage) =>
    ui.page.locator('.summary', { hasText: /^(?!.*judging …).*judged \d+ flow/ }).waitFor({ timeout: 15_000 });

  await t.test('a policy that denies what passes', async (t) => {
    const ui = await opened(t, readOnly.link('/policies?edit=np%2Fshop%2Fbatch'));
    const { page } = ui;
    await judged(ui);
    await ui.shows('as if in force');
    // What the staged policy would deny.
    const flow = page.locator('.changes-list li', { hasText: 'batch' });
    t.match(await flow.textContent(), /was allow, is deny.*203\.0\.113\.20.*443\/tcp.*np\/shop\/batch#default/);
    t.ok(await page.getByRole('button', { name: 'Enforce' }).isDisabled());
    await page.getByRole('tab', { name: /All it opens/ }).click();
    await ui.shows('shop/batch');
    t.match(page.url(), /tab=reach/);
    await ui.accessible(t, 'the editor');
    await ui.shot('editor-reach');
    await page.getByRole('tab', { name: /Changed flows/ }).focus();
    await page.keyboard.press('End');
    await ui.shows('The text has no problems.');
  });

  await t.test('typing: problems with their places, undo, and a question before it is lost', async (t) => {
    const ui = await browser.open(t, readOnly.link('/policies?policy=np%2Fshop%2Fbatch'));
    const { page } = ui;
    await ui.shows('what no rule decides');
    await page.keyboard.press('e');
    await until('the field is there', () => ui.ask<boolean>(HAS_FIELD));
    await judged(ui);
    // The field has the focus; Escape leaves it, and a key leads back.
    await page.keyboard.press('Escape');
    t.equal(await ui.ask<string>('document.activeElement.id'), 'editor-close');
    await page.keyboard.press('t');
    await page.keyboard.press('Control+End');
    await page.keyboard.type('  ingress: 5\n');
    await page.getByRole('tab', { name: /Problems/ }).click();
    await ui.shows('show it in the text', 15_000);
    await ui.shows('edited');
    t.ok(
      await ui.ask<number>("document.querySelector('.code').shadowRoot.querySelectorAll('.cm-lintRange-error').length"),
    );
    await ui.shot('editor-problem');
    await page.getByRole('button', { name: /Diff/ }).click();
    await until('what differs', () =>
      ui.ask<boolean>("document.querySelector('.code').shadowRoot.querySelector('.cm-changedLine') !== null"),
    );
    await ui.shot('editor-diff');
    await page.keyboard.press('Escape');
    await ui.shows('The edit is not saved');
    await ui.accessible(t, 'the question');
    await page.getByRole('button', { name: 'Stay' }).click();
    await page.goBack();
    await ui.shows('The edit is not saved');
    await page.getByRole('button', { name: 'Stay' }).click();
    t.match(page.url(), /edit=np/);
    await page.keyboard.press('t');
    for (let n = 0; n < 30 && /ingress/.test(await ui.ask<string>(TEXT)); n++) await page.keyboard.press('Control+z');
    t.notMatch(await ui.ask<string>(TEXT), /ingress/, 'it is undone');
    // The first one leaves the field; until it is known that nothing differs, others may open the question, and close it.
    await until('back on the board', async () => {
      await page.keyboard.press('Escape');
      return !page.url().includes('edit=');
    });
  });

  await t.test('every template is a policy without problems', async (t) => {
    const ui = await opened(t, link('/policies?edit=new&tab=problems'));
    for (const dialect of ['networkpolicy', 'clusternetworkpolicy', 'calico', 'cilium', 'fqdn']) {
      await ui.page.locator('.editor-bar select').selectOption(dialect);
      await judged(ui);
      t.equal(await ui.page.locator('.policy-problems li.error').count(), 0, dialect);
    }
  });

  await t.test('an edit is staged, and written only after it was said what is written', async (t) => {
    const ui = await opened(t, link('/policies?edit=np%2Fshop%2Fbatch'));
    const { page } = ui;
    t.match(await ui.ask<string>(TEXT), /resourceVersion/, 'it is what the cluster has');
    await judged(ui);
    await page.keyboard.press('Control+End');
    await page.keyboard.type('# mine\n');
    await page.keyboard.press('Control+Home');
    await page.keyboard.press('Control+f');
    await page.keyboard.type('- {}');
    await page.keyboard.press('Escape');
    await judged(ui);
    await page.getByRole('button', { name: 'Enforce' }).click();
    await ui.shows('replace NetworkPolicy shop/batch');
    t.same(cluster.writes, [], 'so far it was checked only');
    await ui.accessible(t, 'what is written');
    await ui.shot('editor-enforce');
    const dialog = page.getByRole('dialog');
    const name = dialog.getByRole('textbox');
    if (await name.count()) await name.fill('batch');
    await dialog.getByRole('button', { name: 'Enforce' }).click();
    await ui.shows('The policy is written, and in force.');
    t.match(cluster.writes, [`PUT ${path}/batch`]);
    t.equal(cluster.manager, 'egress-ui');
    t.notMatch(cluster.objects.get(`${path}/batch`)?.metadata.annotations, { 'egress-agent.io/enforcement': 'audit' });
    t.equal(cluster.events.length, 1);
    put();
  });

  await t.test('somebody else wrote meanwhile', async (t) => {
    const ui = await opened(t, link('/policies?edit=np%2Fshop%2Fbatch'));
    ui.allow(/50[0-9]|40[0-9]/);
    await judged(ui);
    put();
    await ui.page.keyboard.press('Control+End');
    await ui.page.keyboard.type('# mine\n');
    await ui.page.getByRole('button', { name: 'Stage' }).click();
    await ui.shows(/was changed since it was read/);
    await ui.page.keyboard.press('Escape');
    await until('the question is gone', async () => (await ui.page.getByRole('dialog').count()) === 0);
    t.ok(await ui.page.getByText('edited').count(), 'the edit is still there');
  });

  await t.test('a text of more than a megabyte', async (t) => {
    const ui = await opened(t, readOnly.link('/policies?edit=new'));
    await judged(ui);
    await ui.page.keyboard.press('Control+End');
    await ui.page.keyboard.insertText(`# ${'x'.repeat(1 << 20)}`);
    await ui.shows(/of 1,048,576 at most/, 20_000);
  });
});
