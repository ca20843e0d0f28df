/** The gate in and out of directories as CNIs leave them. */
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { GateInstaller, type GateOptions, uninstallGate } from '../../agent/gate/cni/install.js';
import { type Fields, type Logger, makeLogger } from '../../src/log.js';
import { until } from '../netns/shell.js';
import { PLUGIN, temporaryDirectory } from './plugin.js';

const quiet = makeLogger('error', () => undefined);
const ENTRY = {
  type: 'egress-gate',
  socket: '/run/egress-agent/gate.sock',
  timeoutSeconds: 10,
  whenAgentDown: 'closed',
};
const PRETTY = `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "mtu": 12345678901234567890,
      "odd": "\\u0041]}\\"",
      "ipam": { "type": "calico-ipam" }
    },
    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}}
  ]
}
`;
const SINGLE = '{ "cniVersion": "0.3.1", "name": "mynet", "type": "bridge", "big": 12345678901234567890 }\n';

function world(t: Test, over: Partial<GateOptions> = {}) {
  const dir = temporaryDirectory(t);
  const confDir = join(dir, 'net.d');
  const binDir = join(dir, 'bin');
  mkdirSync(confDir);
  mkdirSync(binDir);
  const { socket, timeoutSeconds } = ENTRY;
  const opts: GateOptions = {
    binDir,
    confDir,
    socket,
    timeoutSeconds,
    whenAgentDown: 'closed',
    binary: PLUGIN,
    ...over,
  };
  const write = (name: string, text: string) => writeFileSync(join(confDir, name), text);
  const read = (name: string) => readFileSync(join(confDir, name), 'utf8');
  return { dir, confDir, binDir, opts, write, read, installer: new GateInstaller(opts, quiet) };
}

function pluginsIn(text: string): unknown[] {
  return JSON.parse(text).plugins;
}

t.test('a list: last, once, and gone without a trace', async (t) => {
  const { confDir, binDir, opts, write, read, installer } = world(t);
  write('10-calico.conflist', PRETTY);
  write('20-other.conflist', PRETTY);
  chmodSync(join(confDir, '10-calico.conflist'), 0o640);
  if (process.getuid?.() === 0) chownSync(join(confDir, '10-calico.conflist'), 1234, 4321);
  const before = statSync(join(confDir, '10-calico.conflist'));
  const file = join(confDir, '10-calico.conflist');

  t.same(installer.install(), { changed: true, file });
  t.same(installer.status(), { installed: true, file });
  t.same(pluginsIn(read('10-calico.conflist')).slice(1), [...pluginsIn(PRETTY).slice(1), ENTRY]);
  t.equal(read('20-other.conflist'), PRETTY, 'not in force');
  t.match(statSync(file), { mode: before.mode, uid: before.uid, gid: before.gid });
  t.ok(readFileSync(join(binDir, 'egress-gate')).equals(readFileSync(PLUGIN)));
  t.equal(statSync(join(binDir, 'egress-gate')).mode & 0o7777, 0o755);

  const { ino } = statSync(file);
  t.same(installer.install(), { changed: false, file });
  t.equal(statSync(file).ino, ino, 'not written again');

  const other = new GateInstaller({ ...opts, timeoutSeconds: 3, whenAgentDown: 'open' }, quiet);
  t.ok(other.install().changed, 'other values');
  t.same(pluginsIn(read('10-calico.conflist')).slice(2), [{ ...ENTRY, timeoutSeconds: 3, whenAgentDown: 'open' }]);

  uninstallGate(opts, quiet);
  t.equal(read('10-calico.conflist'), PRETTY);
  t.match(statSync(file), { mode: before.mode, uid: before.uid, gid: before.gid });
  uninstallGate(opts, quiet);
  t.same(readdirSync(confDir), ['10-calico.conflist', '20-other.conflist']);
  t.same(readdirSync(binDir), []);
});

t.test('an entry that is not where it belongs', async (t) => {
  const { opts, write, read, installer } = world(t);
  const gate = JSON.stringify({ type: 'egress-gate' });
  write('1.conflist', `{"plugins":[${gate} , {"type":"a"},${gate},\n{"type":"b"}, ${gate}]}`);
  t.ok(installer.install().changed);
  t.same(pluginsIn(read('1.conflist')), [{ type: 'a' }, { type: 'b' }, ENTRY]);
  uninstallGate(opts, quiet);
  t.same(pluginsIn(read('1.conflist')), [{ type: 'a' }, { type: 'b' }]);
});

t.test('a single plugin becomes a list of ours', async (t) => {
  for (const name of ['10-x.conf', '10-x.json']) {
    const { confDir, opts, write, read, installer } = world(t);
    write(name, SINGLE);
    write('10-y.conflist', PRETTY);
    const file = join(confDir, '10-x-egress-gate.conflist');
    t.same(installer.install(), { changed: true, file });
    t.equal(readdirSync(confDir).sort()[0], '10-x-egress-gate.conflist', 'it is read first');
    const list = JSON.parse(read('10-x-egress-gate.conflist'));
    t.match(list, { cniVersion: '0.3.1', name: 'mynet', plugins: [{ type: 'bridge' }, ENTRY] });
    t.match(read('10-x-egress-gate.conflist'), /12345678901234567890/, 'numbers as they were');
    t.same(installer.install(), { changed: false, file });

    write(name, SINGLE.replace('bridge', 'ptp'));
    t.ok(installer.install().changed, 'it follows its source');
    t.match(pluginsIn(read('10-x-egress-gate.conflist'))[0], { type: 'ptp' });

    uninstallGate(opts, quiet);
    t.same(readdirSync(confDir).sort(), [name, '10-y.conflist'].sort());
    t.equal(read(name), SINGLE.replace('bridge', 'ptp'));

    installer.install();
    rmSync(join(confDir, name));
    t.same(installer.install(), { changed: true, file: join(confDir, '10-y.conflist') }, 'the source has gone');
    t.notOk(existsSync(file));
  }
});

t.test('what cannot be installed is named, and nothing is changed', async (t) => {
  const rows: [string, string, RegExp][] = [
    ['1.conflist', '{"plugins": [', /1\.conflist: it is not JSON/],
    ['1.conflist', '', /not JSON/],
    ['1.conflist', '\ufeff{"plugins":[{"type":"a"}]}', /not JSON/],
    ['1.conflist', '[]', /not a JSON object/],
    ['1.conflist', '{"type":"bridge"}', /no list of "plugins"/],
    ['1.conflist', '{"plugins":[]}', /no list of "plugins"/],
    ['1.conflist', '{"plugins":[{"type":"a"},3]}', /no list of "plugins"/],
    ['1.conflist', '{"plugins":[{"type":"egress-gate"}]}', /none but egress-gate|no list/],
    ['1.conf', '{"plugins":[{"type":"a"}]}', /names no "type"/],
    ['1.json', '{', /not JSON/],
    ['1.conflist', 'x'.repeat(2 << 20), /longer than 1 MiB/],
  ];
  for (const [name, text, message] of rows) {
    const { confDir, write, read, installer } = world(t);
    write(name, text);
    t.throws(() => installer.install(), { code: 'GATE', message }, text.slice(0, 40));
    t.match(installer.status(), { installed: false, error: message });
    t.same(readdirSync(confDir), [name]);
    t.equal(read(name), text);
  }
  const { confDir, installer } = world(t);
  writeFileSync(join(confDir, '1.conflist'), Buffer.from('{"plugins":[{"type":"\xff"}]}', 'latin1'));
  t.throws(() => installer.install(), { code: 'GATE' }, 'no UTF-8');
  t.throws(() => world(t, { binary: '/nowhere' }).installer.install(), { message: /\/nowhere cannot be read/ });
  t.throws(() => world(t, { binDir: '/nowhere' }).installer.install(), { message: /\/nowhere\/egress-gate/ });
  for (const wrong of [
    { socket: 'gate.sock' },
    { socket: `/${'x'.repeat(107)}` },
    { timeoutSeconds: 0 },
    { timeoutSeconds: Number.NaN },
  ]) {
    t.throws(() => world(t, wrong), { code: 'USAGE' });
  }
});

t.test('what is no configuration is passed over', async (t) => {
  const { confDir, opts, write, installer } = world(t);
  write('00-note.txt', 'x');
  write('00.conflist.bak', '{');
  write('.1.conflist.77.egress-gate-new', 'left by one that was killed');
  mkdirSync(join(confDir, '00-dir.conflist'));
  t.same(installer.install(), { changed: true, file: undefined }, 'the program only');
  t.match(installer.status(), { installed: false, error: /no CNI has a configuration/ });
  t.notOk(existsSync(join(confDir, '.1.conflist.77.egress-gate-new')));
  rmSync(confDir, { recursive: true });
  t.equal(installer.install().file, undefined, 'no directory either');
  uninstallGate(opts, quiet);
});

t.test('symbolic links stay', async (t) => {
  const { dir, confDir, opts, read, installer } = world(t);
  mkdirSync(join(dir, 'elsewhere'));
  writeFileSync(join(dir, 'elsewhere/real'), PRETTY);
  symlinkSync('../elsewhere/real', join(confDir, '10.conflist'));
  t.ok(installer.install().changed);
  t.ok(lstatSync(join(confDir, '10.conflist')).isSymbolicLink());
  t.notOk(lstatSync(join(dir, 'elsewhere/real')).isSymbolicLink());
  t.same(pluginsIn(read('10.conflist')).at(-1), ENTRY);
  uninstallGate(opts, quiet);
  t.equal(readFileSync(join(dir, 'elsewhere/real'), 'utf8'), PRETTY);
  t.same(readdirSync(join(dir, 'elsewhere')), ['real']);

  rmSync(join(dir, 'elsewhere'), { recursive: true });
  t.throws(() => installer.install(), { code: 'GATE', message: /10\.conflist/ }, 'it leads out of what is mounted');
});

t.test('the program stays where a configuration names it in another way', async (t) => {
  const { binDir, opts, write, read, installer } = world(t);
  write('10.conflist', PRETTY);
  installer.install();
  // As a meta-plugin does that copies the configuration in force into its own.
  write('00-meta.conf', `{"name":"meta","type":"multus","delegates":[${read('10.conflist')}]}`);
  const warnings: string[] = [];
  const log: Logger = { ...quiet, warn: (m: string, f?: Fields) => warnings.push(`${m} ${f?.files}`) };
  uninstallGate(opts, log);
  t.equal(read('10.conflist'), PRETTY);
  t.match(warnings, [/stays: .*00-meta\.conf/]);
  t.ok(existsSync(join(binDir, 'egress-gate')));
  write('00-meta.conf', '{"name":"meta","type":"multus"}');
  uninstallGate(opts, quiet);
  t.same(readdirSync(binDir), []);
});

t.test('one broken file does not keep the gate in the others', async (t) => {
  const { binDir, opts, write, read, installer } = world(t);
  write('10.conflist', PRETTY);
  installer.install();
  write('05.conflist', '{"plugins":[{"type":"egress-gate"}');
  t.throws(() => uninstallGate(opts, quiet), { code: 'GATE', message: /05\.conflist/ });
  t.equal(read('10.conflist'), PRETTY);
  t.ok(existsSync(join(binDir, 'egress-gate')));
});

t.test('watching: the CNI comes later, writes its file again, changes its name', async (t) => {
  const { confDir, opts, write, read, installer } = world(t);
  t.teardown(() => installer.close());
  installer.install();
  installer.watch();
  write('10.conflist', '{"plugins":');
  await until('the error is known', () => /not JSON/.test(installer.status().error ?? ''));
  write('10.conflist', PRETTY);
  await until('it is in', () => installer.status().installed);
  t.same(pluginsIn(read('10.conflist')).at(-1), ENTRY);
  // As the installers of CNIs do: a temporary file, renamed.
  writeFileSync(join(confDir, 'new.tmp'), PRETTY);
  renameSync(join(confDir, 'new.tmp'), join(confDir, '10.conflist'));
  await until('it is back', () => read('10.conflist').includes('egress-gate'));
  write('05.conf', SINGLE);
  await until('the new one has it', () => existsSync(join(confDir, '05-egress-gate.conflist')));
  installer.close();
  installer.close();
  uninstallGate(opts, quiet);
  t.same(readdirSync(confDir).sort(), ['05.conf', '10.conflist']);
  t.equal(read('10.conflist'), PRETTY);
  t.equal(read('05.conf'), SINGLE);
});

t.test('watching: with one who takes it out again and again, it slows down', async (t) => {
  const { write, read, installer } = world(t);
  t.teardown(() => installer.close());
  write('10.conflist', PRETTY);
  installer.install();
  installer.watch();
  let repairs = 0;
  const end = Date.now() + 2500;
  while (Date.now() < end) {
    if (read('10.conflist').includes('egress-gate')) {
      repairs++;
      write('10.conflist', PRETTY);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  t.ok(repairs >= 2 && repairs <= 6, `${repairs} repairs`);
});
