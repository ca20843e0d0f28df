/** One agent for a run directory and for a pin directory: locks of processes that live, end, and are killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { detach } from '../../agent/hooks/detach.js';
import { DirectoryLock, LOCK_FILE } from '../../agent/kernel/lock.js';
import { makeLogger } from '../../src/log.js';
import { sh, succeeds } from '../netns/attach-bed.js';

if (!succeeds('mountpoint -q /sys/fs/bpf')) sh('mount -t bpf bpf /sys/fs/bpf');
const quiet = makeLogger('error', () => undefined);
const module = fileURLToPath(new URL('../../agent/kernel/lock.js', import.meta.url));

function dirs(t: Test): { runDir: string; pinDir: string } {
  const base = mkdtempSync(join(tmpdir(), 'ea-lock-'));
  const pinDir = `/sys/fs/bpf/${base.split('/').at(-1)}`;
  t.teardown(() => {
    for (const d of [base, pinDir]) rmSync(d, { recursive: true, force: true });
  });
  return { runDir: join(base, 'run'), pinDir };
}

/** A process that has a lock until it is killed. */
async function holder(t: Test, lock: string): Promise<ChildProcess> {
  const script = `import { DirectoryLock } from '${module}'; DirectoryLock.${lock}; console.log(); setInterval(() => {}, 1e6);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

t.test('a run directory in use: who has it is named; killed, it has it no longer', async (t) => {
  const { runDir } = dirs(t);
  const child = await holder(t, `run('${runDir}')`);
  t.equal(readFileSync(join(runDir, LOCK_FILE), 'utf8'), `${child.pid}\n`);
  t.throws(() => DirectoryLock.run(runDir), {
    code: 'AGENT',
    message: `the run directory ${runDir} is in use by process ${child.pid}`,
    hint: /--run-dir/,
  });
  await kill(child);
  const lock = DirectoryLock.run(runDir);
  t.equal(readFileSync(join(runDir, LOCK_FILE), 'utf8'), `${process.pid}\n`);
  lock.release();
  DirectoryLock.run(runDir).release();
});

t.test('a pin directory in use', async (t) => {
  const { pinDir } = dirs(t);
  const child = await holder(t, `pins('${pinDir}')`);
  t.throws(() => DirectoryLock.pins(pinDir), {
    code: 'AGENT',
    message: `the pin directory ${pinDir} is in use by process ${child.pid}`,
    hint: /--pin-dir/,
  });
  await kill(child);
  DirectoryLock.pins(pinDir).release();
});

t.test('a second agent does not even begin', async (t) => {
  const { runDir, pinDir } = dirs(t);
  const main = fileURLToPath(new URL('../../agent/main.js', import.meta.url));
  for (const [lock, dir] of [
    [() => DirectoryLock.run(runDir), runDir],
    [() => DirectoryLock.pins(pinDir), pinDir],
  ] as const) {
    const held = lock();
    const args = [main, '--manifests', dirname(runDir), '--run-dir', runDir, '--pin-dir', pinDir];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    const [code] = await once(child, 'close');
    t.equal(code, 1);
    t.match(said, `directory ${dir} is in use by process ${process.pid}`);
    held.release();
  }
});

t.test('detach takes both, and leaves neither', async (t) => {
  const options = dirs(t);
  for (const [lock, dir] of [
    [`run('${options.runDir}')`, options.runDir],
    [`pins('${options.pinDir}')`, options.pinDir],
  ] as const) {
    const child = await holder(t, lock);
    await t.rejects(detach(options, quiet), { code: 'AGENT', message: new RegExp(`${dir} is in use by`) });
    await kill(child);
  }
  await detach(options, quiet);
  t.notOk(existsSync(options.runDir) || existsSync(options.pinDir));
  await detach(options, quiet);
  t.notOk(existsSync(options.runDir) || existsSync(options.pinDir), 'also where nothing was');
});

t.test('a lock file that was removed while it was waited for locks nothing', async (t) => {
  const { runDir } = dirs(t);
  const first = DirectoryLock.run(runDir);
  rmSync(join(runDir, LOCK_FILE));
  const second = DirectoryLock.run(runDir);
  first.release();
  t.throws(() => DirectoryLock.run(runDir), { message: new RegExp(`in use by process ${process.pid}`) });
  second.release();
});
