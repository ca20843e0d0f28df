/** Texts in an editor: however long they are, and whatever is in them, nobody else waits for them. */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import t from 'tap';
import type { Viewer } from '../../src/ui/access/viewer.js';
import { handHandlers, type Hands } from '../../src/ui/api/hands.js';
import { Previews } from '../../src/ui/policies/preview.js';
import { Reader } from '../../src/ui/policies/reader.js';
import { located } from '../../src/ui/policies/positions.js';
import { reading } from '../../src/ui/policies/reading.js';

const HEAD = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: x, namespace: shop}
spec:
  podSelector: {}
  egress:
`;
const RULE = '  - to: [{ipBlock: {cidr: 10.0.0.0/24}}]\n';
const LONG = HEAD + RULE.repeat(Math.floor((1 << 20) / RULE.length) - 10);
/** Each key of a map is compared with all before it. */
const KEYS = Array.from({ length: 100_000 }, (_, n) => `k${n}: 1`).join('\n');

/** The longest time in which nothing else ran, milliseconds. */
async function longestTask(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await new Promise((resolve) => setTimeout(resolve, 20));
  delay.reset();
  await work();
  await new Promise((resolve) => setTimeout(resolve, 20));
  delay.disable();
  return delay.max / 1e6;
}

t.test('a long text keeps nobody waiting', async (t) => {
  const previews = new Previews({
    preview: async () => ({ problems: [{ severity: 'error', message: 'x', text: 'x', object: '', field: 'spec' }] }),
  });
  const ann: Viewer = { id: 'ann', name: 'ann', scope: async () => new Set(['shop']) };
  const ask = (text: string) => previews.ask(ann, text, 10, new AbortController().signal);
  await ask(HEAD);
  const took = await longestTask(() => ask(LONG));
  t.ok(took < 400, `${took} ms`);
  await t.rejects(ask(LONG.replace('namespace: shop', 'namespace: vault')), { message: 'you may not see vault' });
});

t.test('one that takes too long is refused', async (t) => {
  const reader = new Reader(1000);
  const took = await longestTask(() => t.rejects(reader.read(KEYS), { status: 413, message: /too long to read/ }));
  t.ok(took < 400, `${took} ms`);
  const problems = [{ severity: 'error', object: '', field: 'k1', message: 'x', hint: '' }];
  t.strictSame(
    await new Reader(100).locate(KEYS.slice(0, 200_000), problems),
    problems,
    'problems have no places then',
  );
});

t.test('what a thread says is what would be said at once', async (t) => {
  const reader = new Reader(20_000);
  const staged = `apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: y, namespace: vault, annotations: {a: ${'x'.repeat(10_000)}}}
spec: {selector: all(), types: [Egress]}
`;
  for (const text of [
    staged,
    `${HEAD}${RULE.repeat(300)}---\n${staged}`,
    `${HEAD}${RULE.repeat(300)}---\n{`,
    `{${'[,'.repeat(9000)}`,
  ])
    t.strictSame(await reader.read(text), reading(text));
  t.strictSame((await reader.read(`${HEAD}${RULE.repeat(300)}---\n${staged}`)).namespaces, ['shop', 'vault']);
  const problems = [
    { severity: 'error', object: 'NetworkPolicy shop/x', field: 'spec.egress[200]', message: 'x', hint: '' },
  ];
  const text = HEAD + RULE.repeat(300);
  const found = await reader.locate(text, problems);
  t.strictSame(found, located(text, problems));
  t.ok(found[0]?.from);
});

t.test('many at once wait, and too many are refused', async (t) => {
  const reader = new Reader(20_000);
  const answers = await Promise.all(
    Array.from({ length: 40 }, () =>
      reader.read(HEAD + RULE.repeat(300)).then(
        () => 200,
        (e: { status: number }) => e.status,
      ),
    ),
  );
  t.equal(answers.filter((status) => status === 200).length, 34);
  t.equal(answers.filter((status) => status === 429).length, 6);
  t.strictSame((await reader.read(HEAD + RULE.repeat(300))).namespaces, ['shop'], 'places are given back');
});

t.test('nor does a text that is to be written', async (t) => {
  const applied: number[] = [];
  const hands = { apply: async (text: string) => applied.push(text.length) } as unknown as Hands;
  const { apply } = handHandlers(() => hands);
  const ask = (yaml: string, scope?: ReadonlySet<string>) =>
    apply?.({ yaml, as: 'staged' }, { id: 'a', name: 'a', scope: async () => scope }, new AbortController().signal);
  const limited = new Set(['shop']);
  await t.rejects(ask(LONG, limited) as Promise<unknown>, { message: /yaml has more than 262144 characters/ });
  const took = await longestTask(() => t.rejects(ask(KEYS) as Promise<unknown>, { message: /too long to read/ }));
  t.ok(took < 400, `${took} ms`);
  await ask(HEAD, limited);
  await ask(HEAD + RULE.repeat(300), limited);
  t.equal(applied.length, 2);
});
