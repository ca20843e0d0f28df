/**
 * Configurations at random. The plugin's scanner, built with sanitizers, against JSON.parse; the plugin itself with
 * mangled input; the agent's parsers with any bytes. FUZZ_SEED, FUZZ_CONFS.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { withGate, withoutGate } from '../../agent/gate/cni/conflist.js';
import { formatAnswer, parseRequest } from '../../agent/gate/protocol.js';
import { AgentError } from '../../src/errors.js';
import { type Random, seeded } from '../fuzz/random.js';
import { root } from '../netns/shell.js';
import { PREV_RESULT, plugin, temporaryDirectory } from './plugin.js';

t.setTimeout(120_000);
const ROUNDS = Number(process.env.FUZZ_CONFS ?? 20_000);
const random = seeded();
const WHO = `FUZZ_SEED=${random.seed}`;
const dir = temporaryDirectory(t);

const BASE = JSON.stringify({
  cniVersion: '0.4.0',
  name: 'pods "é"\n',
  socket: '/run/egress-agent/gate.sock',
  timeoutSeconds: 10,
  whenAgentDown: 'open',
  nothing: [null, true, false, -1.5e-3, {}, [], ''],
  prevResult: PREV_RESULT,
});
const PIECES = [
  ...'{}[]",:\\0123456789-+.eE \n\t/ubfnrtx',
  '"prevResult":{}',
  '"prevResult":{"a":[1]},',
  '"prev\\u0052esult":{},',
  '\\u0000',
  '\\ud83d',
  'null',
  'true',
  '\u0000',
  '\u0001',
  'é',
  '1e5',
  '-0',
  ',,',
];

/** A few places of a text cut, doubled, swapped or overwritten. */
function mangle(r: Random, text: string): string {
  for (let n = r.below(4); n >= 0; n--) {
    const at = r.below(text.length + 1);
    const to = Math.min(text.length, at + r.below(r.chance(80) ? 4 : 200));
    const into = r.chance(70) ? r.pick(PIECES) : r.chance(50) ? '' : text.slice(at, to).repeat(2);
    text = text.slice(0, at) + into + text.slice(r.chance(50) ? at : to);
  }
  return text;
}

t.test(`the plugin's scanner accepts what JSON.parse accepts, ${WHO}`, async (t) => {
  const program = join(dir, 'fuzz-conf');
  const flags = [
    '-g',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover=all',
  ];
  const built = spawnSync('gcc', [...flags, '-o', program, join(root, 'test/gate/fuzz-conf.c')], { encoding: 'utf8' });
  t.equal(built.status, 0, built.stderr);
  const texts = Array.from({ length: ROUNDS }, () => mangle(random, BASE)).concat('', '{}', ' {} ', '[]', '1', '"');
  // As deep as it goes, and one deeper.
  const deep = (n: number) => `{"a":${'['.repeat(n)}${']'.repeat(n)}}`;
  const input = Buffer.concat(
    [...texts, deep(127), deep(128)].map((text) => Buffer.from(`${Buffer.byteLength(text)}\n${text}`)),
  );
  const run = spawnSync(program, { input, encoding: 'utf8', maxBuffer: 1 << 26, timeout: 60_000 });
  t.equal(run.status, 0, `${run.signal} ${run.stderr.slice(0, 3000)}`);
  const lines = run.stdout.trimEnd().split('\n');
  t.same(lines.splice(-2), ['+', '-'], 'the depth is bounded');
  t.equal(lines.length, texts.length);
  let accepted = 0;
  const wrong = texts.find((text, i) => {
    const line = lines[i] as string;
    const expected = parsed(text);
    if (expected) accepted++;
    if (!expected) return line !== '-';
    const [, from, length, version] = line.split(' ');
    const prev = expected['prevResult'];
    const isObject = typeof prev === 'object' && prev !== null && !Array.isArray(prev);
    if (!isObject) return line !== '+';
    const at = Number(from);
    const found = Buffer.from(text).toString('utf8', at, at + Number(length));
    if (JSON.stringify(JSON.parse(found)) !== JSON.stringify(prev)) return true;
    const { cniVersion } = expected;
    const plain = typeof cniVersion === 'string' && /^[0-9.]{1,15}$/.test(cniVersion);
    return version !== (plain ? cniVersion : '1.0.0');
  });
  t.equal(wrong, undefined);
  t.ok(accepted > ROUNDS / 50, `${accepted} of ${texts.length} are JSON`);
});

/** The object, or undefined. */
function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

t.test(`the plugin, built with sanitizers, ends with 0 or 1, ${WHO}`, async (t) => {
  const program = join(dir, 'gate-sanitized');
  const flags = ['-g', '-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-fstack-protector-strong'];
  const source = join(root, 'daemonset/gate/egress-gate.c');
  const built = spawnSync('gcc', [...flags, '-o', program, source], { encoding: 'utf8' });
  t.equal(built.status, 0, built.stderr);
  const end = Date.now() + 2500;
  let runs = 0;
  let bad = '';
  while (Date.now() < end && !bad) {
    const input = random.chance(80) ? mangle(random, BASE) : bytes(random, random.below(300));
    const command = random.pick(['ADD', 'ADD', 'CHECK', 'DEL', 'VERSION', 'STATUS']);
    const env = random.chance(30)
      ? { CNI_ARGS: bytes(random, random.below(60)).toString('latin1').replaceAll('\0', '') }
      : {};
    // BASE passes when nobody listens, after a second: not that often.
    const slow = command === 'ADD' && parsed(input.toString('utf8'))?.['prevResult'] !== undefined;
    if (slow && !random.chance(2)) continue;
    const run = await plugin('/nowhere/gate.sock', { program, command, input, env });
    runs++;
    const json = run.stdout === '' || parsed(run.stdout) !== undefined;
    if ((run.status !== 0 && run.status !== 1) || (run.status === 1 && !json)) {
      bad = `${command} ${JSON.stringify(input.toString('latin1'))}: ${run.status} ${run.signal}\n${run.stdout}${run.stderr}`;
    }
  }
  t.equal(bad, '');
  t.ok(runs > 10, `${runs} runs`);
});

function bytes(r: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => (r.chance(50) ? 32 + r.below(95) : r.below(256))));
}

t.test(`requests of any bytes are AgentErrors, or requests, ${WHO}`, async (t) => {
  const good = (conf: string) =>
    `EGRESS-GATE/1 ADD\ncontainer c0\nnetns /run/netns/a\nifname eth0\n` +
    `args K8S_POD_NAMESPACE=a;K8S_POD_NAME=b\nconf-bytes ${Buffer.byteLength(conf)}\n\n${conf}`;
  let requests = 0;
  for (let n = 0; n < ROUNDS; n++) {
    const text = random.chance(50) ? mangle(random, good(BASE)) : good(mangle(random, BASE));
    const input = random.chance(90) ? Buffer.from(text) : bytes(random, random.below(100));
    try {
      if (parseRequest(input)) requests++;
    } catch (e) {
      if (!(e instanceof AgentError)) throw e;
    }
    const answer = formatAnswer(bytes(random, random.below(2000)).toString('utf8'));
    if (!/^NO [^\u0000-\u001f]+\n$/.test(answer) || Buffer.byteLength(answer) > 1028) t.fail(JSON.stringify(answer));
  }
  t.ok(requests > ROUNDS / 50, `${requests} requests`);
});

t.test(`the gate goes into any list and leaves it as it was, ${WHO}`, async (t) => {
  const entry = { type: 'egress-gate', socket: '/s', timeoutSeconds: 1, whenAgentDown: 'open' } as const;
  const list = JSON.stringify(
    {
      cniVersion: '1.0.0',
      name: 'n',
      plugins: [{ type: 'a', b: ['x', { plugins: [] }] }, { type: 'portmap' }],
      z: [[1]],
    },
    null,
    2,
  );
  let changed = 0;
  for (let n = 0; n < ROUNDS; n++) {
    const text = mangle(random, random.chance(50) ? list : JSON.stringify(JSON.parse(list)));
    let inside: string;
    try {
      inside = withGate(text, entry);
    } catch (e) {
      if (!(e instanceof AgentError)) throw e;
      continue;
    }
    changed++;
    const before = JSON.parse(text);
    const expected = { ...before, plugins: [...before.plugins, entry] };
    if (JSON.stringify(JSON.parse(inside)) !== JSON.stringify(expected)) t.same(JSON.parse(inside), expected, text);
    if (withoutGate(inside) !== text) t.equal(withoutGate(inside), text);
    if (withGate(inside, entry) !== inside) t.equal(withGate(inside, entry), inside);
  }
  t.ok(changed > ROUNDS / 50, `${changed} lists`);
});
