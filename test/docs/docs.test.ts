/** The commands in README.md and docs/ do what they say, or, where they cannot be run here, name what exists; every link leads somewhere. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { Agent } from '../netns/agent.js';
import { compiled, root } from '../netns/shell.js';
import { servers, World } from '../netns/world.js';
import { blocksOf, commands, documents, read } from './markdown.js';

t.setTimeout(300_000);
/** Milliseconds for a command that goes on until it is stopped. */
const LONG_ENOUGH = 4000;
const TAGS = ['', 'findings', 'agent', 'cluster', 'checked'];

t.test('every block of commands says how it is tried', (t) => {
  for (const file of documents()) {
    for (const { language, tag, line } of blocksOf(file)) {
      if (language === 'sh') t.ok(TAGS.includes(tag), `${file}:${line}: ${tag}`);
      t.not(language, 'bash', `${file}:${line}: sh is the word`);
    }
  }
  t.end();
});

t.test('links lead somewhere', (t) => {
  for (const file of documents()) {
    const text = read(file).replace(/```[\s\S]*?```/g, '');
    const pictures = [...text.matchAll(/(?:src|srcset)="([^"]+)"/g)];
    for (const [, target] of [...text.matchAll(/\]\(([^)\s]+)\)/g), ...pictures]) {
      if (/^https?:/.test(target as string)) continue;
      const [path, anchor] = (target as string).split('#');
      const full = path ? join(dirname(file), path) : file;
      t.ok(existsSync(join(root, full)), `${file}: ${target}`);
      if (anchor && full.endsWith('.md')) t.ok(anchorsOf(read(full)).includes(anchor), `${file}: ${target}`);
    }
  }
  t.end();
});

/** As GitHub makes them of headings. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string)
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

t.test('README has 120 lines at most; lines of prose 100 columns', (t) => {
  t.ok(read('README.md').split('\n').length <= 121);
  for (const file of documents()) {
    const prose = read(file).replace(/```[\s\S]*?```/g, (block) => block.replace(/[^\n]/g, ''));
    for (const [i, line] of prose.split('\n').entries()) {
      if (line.length > 100 && !line.startsWith('|')) t.fail(`${file}:${i + 1} has ${line.length} columns`);
    }
  }
  t.end();
});

t.test('what is not run here names what there is', (t) => {
  for (const { where, command } of commands('checked')) {
    for (const word of command.split(/\s+/)) {
      if (/^(\.\/)?(scripts|daemonset)\//.test(word)) t.ok(existsSync(join(root, word)), `${where}: ${word}`);
    }
    const script = /^(?:\.\/)?(scripts\/\S+)(.*)$/.exec(command);
    const npm = /^npm run (\S+)/.exec(command);
    if (script) {
      const text = readFileSync(join(root, script[1] as string), 'utf8');
      for (const [option] of (script[2] as string).matchAll(/--[\w-]+/g))
        t.ok(text.includes(option), `${where}: ${command}`);
    } else if (npm) {
      const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
      t.ok(scripts[npm[1] as string], `${where}: ${command}`);
    } else {
      t.match(command, /^(kubectl|hubble|npm (test|install)) ?/, `${where}: a command of somebody else's`);
    }
  }
  t.end();
});

t.test('commands', async (t) => {
  const world = await World.create({ namespaces: { shop: {} }, masquerade: true });
  t.teardown(() => world.close());
  const pods = {
    web: await world.pod('web', { namespace: 'shop', labels: { app: 'web' } }),
    api: await world.pod('api', { namespace: 'shop', labels: { app: 'api' } }),
  };
  await world.pod('batch', { namespace: 'shop', labels: { app: 'batch' } });
  const policies = join(root, 'scripts/quickstart-world');
  for (const name of ['policies', 'batch'])
    world.write(`${name}.yaml`, readFileSync(join(policies, `${name}.yaml`), 'utf8'));
  const agent = await Agent.start(world);
  await pods.api.host.listen('::', 8080, 'tcp', 'api');
  await world.internet.listen(servers.one.ip4, 443, 'tcp', 'one');
  for (const pod of [pods.web, pods.api]) await pod.host.request(servers.one.ip4, 443, { timeout: 0.3 });

  const place = join(world.dir, 'user');
  mkdirSync(join(place, 'bin'), { recursive: true });
  cpSync(policies, join(place, 'policies'), { recursive: true, filter: (f) => !f.endsWith('.ts') });
  for (const file of documents()) {
    for (const { language, tag, text } of blocksOf(file)) {
      if (language === 'yaml' && tag) writeFileSync(join(place, tag), text);
    }
  }
  const shim = (name: string, line: string) => {
    writeFileSync(join(place, 'bin', name), `#!/bin/sh\n${line}\n`);
    chmodSync(join(place, 'bin', name), 0o755);
  };
  shim('egressctl', `exec ${process.execPath} ${join(compiled, 'src/cli/main.js')} "$@"`);
  shim(
    'egress-agent',
    `exec nsenter --net=/run/netns/${world.nodeB.netns} ${process.execPath} ${join(compiled, 'agent/main.js')} "$@" ` +
      `--run-dir ${join(place, 'run')} --pin-dir ${world.pinDir}-docs`,
  );
  const env = {
    ...process.env,
    PATH: `${join(place, 'bin')}:${process.env.PATH}`,
    EGRESS_AGENT_SOCKET: join(agent.runDir, 'agent.sock'),
    KUBECONFIG: '',
    // No browser is opened.
    DISPLAY: '',
    WAYLAND_DISPLAY: '',
    HOME: place,
  };
  for (const { where, tag, command } of commands('', 'findings', 'agent')) {
    if (/^(\.\/scripts|npm) ?/.test(command)) continue; // they run this test, or are run by scripts/test and scripts/e2e
    const endless =
      / -f\b/.test(command) || command.startsWith('egress-agent --manifests') || command.startsWith('egressctl ui');
    const shell = endless ? `timeout --signal=TERM ${LONG_ENOUGH / 1000} ${command}` : command;
    const { status, stdout, stderr } = spawnSync('bash', ['-c', shell], { cwd: place, env, encoding: 'utf8' });
    const good = endless ? [0, 124] : tag === 'findings' ? [0, 1, 3] : [0, 3];
    t.ok(good.includes(status ?? -1), `${where}: ${command}: ${status}`, { stdout, stderr });
  }
});
