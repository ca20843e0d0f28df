import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { DialectRegistry } from '../../src/dialects/index.js';
import { formatProblem } from '../../src/errors.js';
import { ManifestSource } from '../../src/identity/files/manifests.js';
import { parseManifest, splitDocuments } from '../../src/identity/files/yaml.js';
import { pod, policy } from './world.js';

function fixture(
  test: { teardown(fn: () => void): void },
  files: Record<string, string>,
  options: { rescanMs?: number } = {},
) {
  const dir = mkdtempSync(join(tmpdir(), 'ea-policy-'));
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(dir, name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  };
  for (const [name, text] of Object.entries(files)) write(name, text);
  const source = new ManifestSource(dir, { nodeName: 'node-a', ownNodeIps: () => [], ...options });
  test.teardown(() => {
    source.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const at = (name: string) => join(dir, name);
  const pods = () => [...source.load().pods.keys()].map((k) => k.split('/')[1]).join(' ');
  const problems = () => source.load().problems.map((p) => formatProblem(p).replaceAll(`${dir}/`, ''));
  return { dir, source, write, at, pods, problems };
}

t.test('which files are read', async (t) => {
  const { pods, problems, at } = fixture(t, {
    'b.yaml': pod('x/b1', '10.0.0.1') + pod('x/b2', '10.0.0.2'),
    'a.yml': pod('x/a', '10.0.0.3'),
    'sub/deep/c.YAML': pod('x/c', '10.0.0.4'),
    'e.json': `{\n\t"apiVersion": "v1",\n\t"kind": "PodList",\n\t"items": [{"metadata": {"namespace": "x", "name": "e", "labels": {"a": "\\ud83d\\ude00\\/"}}, "status": {"podIP": "10.0.0.6"}}]\n}\n`,
    'note.txt': pod('x/no', '10.0.0.5'),
    '.hidden.yaml': pod('x/no', '10.0.0.5'),
    '.git/d.yaml': pod('x/no', '10.0.0.5'),
    'empty.yaml': '',
    'comments.yaml': '# nothing here\n---\n# nor here\n',
  });
  t.equal(pods(), 'a b1 b2 e c');
  t.same(problems(), []);
  execFileSync('mkfifo', [at('fifo.yaml')]);
  symlinkSync('nowhere', at('broken.yaml'));
  symlinkSync('..', at('sub/up'));
  symlinkSync('sub', at('sub-again'));
  t.equal(pods(), 'a b1 b2 e c', 'links that go round are not followed round');
  t.match(problems(), [/^broken.yaml: cannot be read: ENOENT/, /^fifo.yaml: is not a regular file/]);
});

t.test('the directory must be there at first, and may go later', async (t) => {
  const { source, dir, pods, problems } = fixture(t, { 'a.yaml': pod('x/a', '10.0.0.1') });
  t.throws(() => new ManifestSource(join(dir, 'none'), { nodeName: '', ownNodeIps: () => [] }).load(), {
    code: 'MANIFEST',
  });
  source.load();
  rmSync(dir, { recursive: true });
  t.equal(pods(), 'a', 'what it held last counts');
  t.match(problems(), [/directory cannot be read: ENOENT.*until then its last state counts/]);
  mkdirSync(dir);
  t.equal(pods(), '', 'an empty directory is an answer');
});

t.test('a ConfigMap mount', async (t) => {
  const { at, write, pods, problems } = fixture(t, {});
  write('..2026_01/p.yaml', pod('x/old', '10.0.0.1'));
  write('..2026_01/q.yaml', pod('x/q', '10.0.0.2'));
  symlinkSync('..2026_01', at('..data'));
  symlinkSync('..data/p.yaml', at('p.yaml'));
  symlinkSync('..data/q.yaml', at('q.yaml'));
  t.equal(pods(), 'old q');
  write('..2026_02/p.yaml', pod('x/new', '10.0.0.1'));
  symlinkSync('..2026_02', at('..tmp'));
  renameSync(at('..tmp'), at('..data'));
  t.equal(pods(), 'new q', 'q.yaml is a link to nothing now: its last state counts');
  t.match(problems(), [/^q.yaml: cannot be read/]);
  unlinkSync(at('q.yaml'));
  t.equal(pods(), 'new');
});

t.test('what cannot be read keeps its last state', async (t) => {
  const { write, pods, problems, at } = fixture(t, {
    'a.yaml': `${pod('x/a', '10.0.0.1')}${pod('x/b', '10.0.0.2')}${pod('x/c', '10.0.0.3')}`,
  });
  t.equal(pods(), 'a b c');
  write('a.yaml', `${pod('x/a', '10.0.0.1')}---\nkind: [unclosed\n${pod('x/c2', '10.0.0.3')}`);
  t.equal(pods(), 'a c2 b c', 'b was in the broken document, or c: nobody knows');
  t.match(problems(), [/^a.yaml:\d \(document 2\): cannot be parsed as YAML: .*correct the syntax/]);
  write('a.yaml', `${pod('x/a', '10.0.0.1')}---\nkind: [unclosed, still\n`);
  t.equal(pods(), 'a c2 b c');
  write('a.yaml', pod('x/a', '10.0.0.1'));
  t.equal(pods(), 'a');
  write('a.yaml', `- not an object\n${pod('x/a', '10.0.0.1')}`);
  t.match(problems(), [/^a.yaml:1 \(document 1\): a document must be a Kubernetes object/]);
  truncateSync(at('a.yaml'), 65 << 20);
  t.equal(pods(), 'a');
  t.match(problems(), [/^a.yaml: is larger than 64 MiB/]);
  unlinkSync(at('a.yaml'));
  t.equal(pods(), '');
  if (process.getuid?.() !== 0) {
    write('a.yaml', pod('x/a', '10.0.0.1'));
    pods();
    chmodSync(at('a.yaml'), 0);
    t.equal(pods(), 'a');
  }
});

t.test('a file that is being written', async (t) => {
  const { write, pods } = fixture(t, { 'a.yaml': pod('x/a', '10.0.0.1') });
  pods();
  write('a.yaml', '');
  t.equal(pods(), 'a', 'truncated: not believed at once');
  write('a.yaml', pod('x/b', '10.0.0.1'));
  t.equal(pods(), 'b');
  write('a.yaml', '');
  t.equal(pods(), 'b');
  await sleep(120);
  t.equal(pods(), '', 'empty it is');
});

t.test('Lists are unrolled', async (t) => {
  const item = (name: string) => ({ metadata: { namespace: 'x', name } });
  const typed = { apiVersion: 'v1', kind: 'PodList', items: [item('a'), item('b')] };
  const list = { apiVersion: 'v1', kind: 'List', items: [typed, { apiVersion: 'v1', kind: 'Pod', ...item('c') }] };
  const { pods, problems, write } = fixture(t, { 'a.yaml': JSON.stringify(list) });
  t.equal(pods(), 'a b c');
  t.same(problems(), []);
  const deep = [...Array(6)].reduce((inner) => ({ apiVersion: 'v1', kind: 'List', items: [inner] }), typed);
  write('a.yaml', JSON.stringify(deep));
  t.match(problems(), [/Lists are nested more than 4 deep/]);
});

t.test('only what changed is read again', async (t) => {
  const many = (n: number) =>
    [...Array(20)].map((_, i) => policy(`x/p${i}`, { podSelector: {}, egress: i === n ? [] : [{}] })).join('');
  const { source, write } = fixture(t, { 'many.yaml': many(-1), 'pods.yaml': pod('x/a', '10.0.0.1') });
  const registry = new DialectRegistry();
  const before = source.load();
  const irBefore = registry.toIr(before).ir;
  const again = source.load();
  t.equal(again.pods, before.pods);
  t.equal(again.policies, before.policies);
  write('many.yaml', `---\n# a document more\n${many(7)}`);
  const after = source.load();
  t.equal(after.pods, before.pods, 'untouched sections are the same value');
  const changed = after.policies.filter((p, i) => p.object !== before.policies[i]?.object).map((p) => p.name);
  t.same(changed, ['p7']);
  const irAfter = registry.toIr(after).ir;
  const fresh = irAfter.tiers[0]?.policies.filter((p) => !irBefore.tiers[0]?.policies.includes(p));
  t.same(
    fresh?.map((p) => p.ref.name),
    ['p7'],
  );
});

t.test('documents', async (t) => {
  const split = (text: string) => splitDocuments(text).map((d) => `${d.line}:${d.text.replaceAll('\n', '|')}`);
  t.same(split(''), []);
  t.same(split('a: 1\n'), ['1:a: 1|']);
  t.same(split('a: 1\n---\nb: 2\n'), ['1:a: 1|', '2:---|b: 2|']);
  t.same(split('---\na: 1\n--- # x\nb: |\n  ---\n  c\n'), ['1:---|a: 1|', '3:--- # x|b: ||  ---|  c|']);
  t.same(split('# c\n%YAML 1.2\n---\na: 1\n'), ['1:# c|%YAML 1.2|---|a: 1|'], 'directives belong to what follows');
  t.same(split('a: ---\n---x: 1\n'), ['1:a: ---|---x: 1|']);
  t.same(split('a: 1\r\n---\r\nb: 2\r\n').length, 2);
  t.same(split('\ufeffa: 1\n'), ['1:a: 1|']);
  t.same(
    split('{"a": "}{"}\n{"b": [{}]}{"c": "\\"}{"}\n'),
    ['1:{"a": "}{"}', '1:|{"b": [{}]}', '2:{"c": "\\"}{"}|'],
    'JSON upon JSON',
  );
  t.same(split('{"a": 1}\n---\n{"b": 2} {"c": 3}\n---\nd: 4\n'), [
    '1:{"a": 1}|',
    '2:---|{"b": 2}',
    '3: {"c": 3}|',
    '4:---|d: 4|',
  ]);
  t.same(split("{a: '}'} # {\n{b: 1}\n").length, 1, 'what is not JSON is not taken apart');
  const line = (text: string) =>
    parseManifest('f', text).flatMap((d) => d.objects.map((o) => `${o.where.document}:${o.where.line}`));
  t.same(line('# c\n{"a": 1}\n\n{"b": 2}\n{"a": 1'), ['0:2', '1:4'], 'with the line of each; the last is broken');
  t.same(line('# c\n\n---\n# d\na: 1\n---\n---\n\nb: 2\n'), ['0:5', '2:9']);
});

t.test('hostile documents are bounded', async (t) => {
  const problem = (text: string) => {
    const begin = performance.now();
    const message = parseManifest('f', text)
      .flatMap((d) => d.problems.map((p) => p.message))
      .join();
    // Unbounded, it would be hours or all of the memory: no measurement, and true on a busy machine too.
    t.ok(performance.now() - begin < 20_000, 'in time');
    return message;
  };
  const bomb = [
    'a: &a [x,x,x,x,x,x,x,x,x]',
    ...'bcdefghi'.split('').map((c, i) => `${c}: &${c} [${Array(9).fill(`*${'abcdefgh'[i]}`).join(',')}]`),
  ].join('\n');
  t.match(problem(bomb), /alias/i, 'a bomb of aliases');
  t.match(problem('['.repeat(1_000_000)), /levels deep/);
  t.match(problem('- '.repeat(1_000_000)), /levels deep/);
  t.match(problem('? '.repeat(1_000_000)), /levels deep/);
  t.match(problem([...Array(600)].map((_, i) => `${' '.repeat(i)}a:`).join('\n')), /levels deep/);
  t.match(problem('a: *missing'), /alias/i);
  t.match(problem('a: 1\na: 2\n'), /unique/);
  t.equal(problem(`${'# c\n'.repeat(300_000)}---\n${'# c\n'.repeat(300_000)}`), '');
  const proto = parseManifest(
    'f',
    '{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {__proto__: {x: y}, constructor: z}}}',
  );
  t.notOk(({} as Record<string, unknown>).x);
  t.equal(proto[0]?.objects.length, 1);
});

t.test('changes are noticed', async (t) => {
  const { source, write, at, pods } = fixture(t, {
    'a.yaml': pod('x/a', '10.0.0.1'),
    'sub/b.yaml': pod('x/b', '10.0.0.2'),
  });
  source.load();
  let calls = 0;
  let wake: (() => void) | undefined;
  source.watch(() => {
    calls++;
    wake?.();
  });
  const next = () =>
    new Promise<number>((resolve, reject) => {
      const begin = performance.now();
      const timer = setTimeout(() => reject(new Error('nothing was noticed')), 2000);
      wake = () => {
        clearTimeout(timer);
        wake = undefined;
        resolve(performance.now() - begin);
      };
    });
  await next();
  t.equal(pods(), 'a b', 'once at the beginning');
  write('a.yaml', pod('x/a2', '10.0.0.1'));
  await next();
  t.equal(pods(), 'a2 b', 'written in place');
  write('tmp', pod('x/b2', '10.0.0.2'));
  renameSync(at('tmp'), at('sub/b.yaml'));
  await next();
  t.equal(pods(), 'a2 b2', 'renamed over');
  write('new/deep/c.yaml', pod('x/c', '10.0.0.3'));
  await next();
  while (pods() !== 'a2 c b2') await next();
  t.pass('new directories');
  write('new/deep/c.yaml', pod('x/c2', '10.0.0.3'));
  await next();
  t.equal(pods(), 'a2 c2 b2', 'which are watched themselves');
  rmSync(at('new'), { recursive: true });
  await next();
  while (pods() !== 'a2 b2') await next();
  t.pass('gone');
  write('a.yaml', '');
  await next();
  t.equal(pods(), 'a2 b2', 'truncated');
  await next();
  t.equal(pods(), 'b2', 'empty for good, though no event says so');
  await sleep(50);
  const before = calls;
  write('notes.txt', 'x');
  write('.a.yaml.swp', 'x');
  await sleep(50);
  t.equal(calls, before, "other files are nobody's business");
});

t.test('what no event tells, the rescan finds', async (t) => {
  const outside = mkdtempSync(join(tmpdir(), 'ea-policy-'));
  t.teardown(() => rmSync(outside, { recursive: true }));
  mkdirSync(join(outside, 'one'));
  writeFileSync(join(outside, 'one/p.yaml'), pod('x/one', '10.0.0.1'));
  symlinkSync('one', join(outside, 'current'));
  const { source, at, pods, dir } = fixture(t, {}, { rescanMs: 30 });
  symlinkSync(join(outside, 'current/p.yaml'), at('p.yaml'));
  t.equal(pods(), 'one');
  const changes: string[] = [];
  source.watch(() => changes.push(pods()));
  await sleep(60);
  t.same([...new Set(changes)], ['one']);
  // The swap happens in a directory that no watch is on.
  mkdirSync(join(outside, 'two'));
  writeFileSync(join(outside, 'two/p.yaml'), pod('x/two', '10.0.0.1'));
  symlinkSync('two', join(outside, 'next'));
  renameSync(join(outside, 'next'), join(outside, 'current'));
  await sleep(150);
  t.equal(changes.at(-1), 'two');
  // A busy machine may tell of the swap late; a rescan that told without news would go on for ever.
  let told = -1;
  for (let n = 0; n < 20 && told !== changes.length; n++) {
    told = changes.length;
    await sleep(150);
  }
  t.equal(changes.length, told, 'no news, no calls');
  // A directory that is replaced needs a new watch.
  rmSync(dir, { recursive: true });
  await sleep(60);
  mkdirSync(dir);
  writeFileSync(at('q.yaml'), pod('x/q', '10.0.0.1'));
  await sleep(150);
  t.equal(changes.at(-1), 'q');
});
