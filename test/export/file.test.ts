/** JSON lines: the same as egressctl prints, in a file that is rotated, removed, on a full disk; on standard output. */
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { FileSink } from '../../src/export/sinks/file.js';
import { lineOf } from '../../src/export/sinks/jsonl.js';
import { json } from '../../src/flow/json.js';
import { EGRESS } from '../../src/proto/load.js';
import type { GetRecordsResponse } from '../../src/proto/messages.js';
import { Exports } from '../../src/export/exports.js';
import { compiled } from '../netns/shell.js';
import { rule, WEB } from '../flow/flows.js';
import { memoryLog, response, spec, Stream, until } from './given.js';

const linesOf = (file: string) => readFileSync(file, 'utf8').split('\n').slice(0, -1);
const item = (n: number, sample = 1) => ({
  kind: 'flow' as const,
  response: response({ source: { ...WEB, port: n } }, { localPort: n }),
  sample,
});

t.test('the line is that of egressctl flows -o json', (t) => {
  const { responseSerialize, responseDeserialize } = EGRESS.GetFlows as never as {
    responseSerialize(r: GetRecordsResponse): Buffer;
    responseDeserialize(b: Buffer): GetRecordsResponse;
  };
  const dns = {
    query: 'a.example',
    isRead: true,
    queryType: 'A',
    isAnswer: true,
    rcode: 0,
    ips: ['192.0.2.1'],
    cnames: [],
    ttl: 30,
    recordTypes: ['A'],
    latencyNs: 1234567,
  };
  const lost: GetRecordsResponse = {
    lost_events: { source: 'HUBBLE_RING_BUFFER', num_events_lost: 3 },
    lost_pod: 'shop/web-1',
    node_name: 'node-a',
    time: { seconds: 1_700_000_000, nanos: 5 },
  };
  const flows = [
    response(),
    response(
      { rule: rule(), auditRule: rule({ staged: true }) },
      { type: 'end', auditVerdict: 'deny', bytesIn: 2 ** 40 },
    ),
    response({ dns }, { type: 'dns', isReply: true }),
    response({}, { family: 0, ethertype: 0x88cc, verdict: 'deny' }),
  ];
  for (const r of [...flows, lost]) {
    const kind = r.record ? 'flow' : 'lost';
    const line = lineOf({ kind, response: r, sample: 1 } as never).toString();
    t.strictSame(JSON.parse(line), JSON.parse(json(responseDeserialize(responseSerialize(r)))));
  }
  t.equal(JSON.parse(lineOf(item(1, 100)).toString()).sample, 100);
  t.end();
});

t.test('names cannot begin a line, and cannot be without end', (t) => {
  const evil = 'a\n{"verdict":"allow"}\u2028\u001b[2J"';
  const labels = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`label-${i}`, 'x'.repeat(60)]));
  const hostile = response({ source: { ...WEB, pod: evil, labels: { [evil]: evil } }, destinationNames: [evil] });
  const line = lineOf({ kind: 'flow', response: hostile, sample: 1 }).toString();
  t.match(line, /^[\x20-\x7e]+\n$/);
  t.equal(JSON.parse(line).flow.source.pod_name, evil);
  const huge = lineOf({ kind: 'flow', response: response({ source: { ...WEB, labels } }), sample: 1 });
  t.ok(huge.length < 65_536, `${huge.length}`);
  t.match(JSON.parse(huge.toString()), { cut: true, flow: { source: { pod_name: 'web-1', labels: undefined } } });
  t.end();
});

t.test('rotation', async (t) => {
  const dir = t.testdir();
  const path = join(dir, 'flows.jsonl');
  const sink = new FileSink({ kind: 'jsonl', path, rotateBytes: 65_536, keep: 3 });
  for (let n = 0; n < 40; n++) {
    const batch = Array.from({ length: 20 }, (_, i) => lineOf(item(n * 20 + i)));
    t.strictSame(await sink.write(batch), { done: true, refused: 0 });
  }
  t.strictSame(readdirSync(dir).sort(), ['flows.jsonl', 'flows.jsonl.1', 'flows.jsonl.2', 'flows.jsonl.3']);
  const all = ['.3', '.2', '.1', ''].flatMap((suffix) => {
    t.ok(statSync(path + suffix).size <= 65_536, `${statSync(path + suffix).size}`);
    t.equal(statSync(path + suffix).mode & 0o777, 0o600);
    return linesOf(path + suffix).map((line) => JSON.parse(line).flow.l4.TCP.source_port as number);
  });
  t.equal(all.at(-1), 799);
  for (let i = 1; i < all.length; i++) t.equal(all[i], (all[i - 1] as number) + 1);

  await t.test('a successor goes on in the same file', async (t) => {
    sink.close();
    const next = new FileSink({ kind: 'jsonl', path, rotateBytes: 1 << 20, keep: 3 });
    const before = linesOf(path).length;
    await next.write([lineOf(item(800))]);
    t.equal(linesOf(path).length, before + 1);
    rmSync(path);
    await next.write([lineOf(item(801))]);
    t.equal(linesOf(path).length, 1, 'removed by somebody, made anew');
    execFileSync('mv', [path, `${path}.moved`]);
    await next.write([lineOf(item(802))]);
    t.equal(linesOf(path).length, 1, 'moved by logrotate');
    execFileSync('truncate', ['-s', '0', path]);
    await next.write([lineOf(item(803))]);
    t.equal(linesOf(path).length, 1, 'copytruncate');
    next.close();
  });
});

t.test('what is not a file is not written to', async (t) => {
  const dir = t.testdir({ secret: 'x' });
  symlinkSync(join(dir, 'secret'), join(dir, 'link'));
  execFileSync('mkfifo', [join(dir, 'fifo')]);
  mkdirSync(join(dir, 'dir'));
  for (const name of ['link', 'fifo', 'dir', 'missing/file', 'secret/file']) {
    const sink = new FileSink({ kind: 'jsonl', path: join(dir, name), rotateBytes: 65_536, keep: 1 });
    t.match(await sink.write([Buffer.from('{}\n')]), { done: false, delivered: 0 }, name);
  }
  t.match(await new FileSink({ kind: 'jsonl', path: '/dev/null', rotateBytes: 65_536, keep: 1 }).write([]), {
    done: true,
  });
  t.match(
    await new FileSink({ kind: 'jsonl', path: '/dev/null', rotateBytes: 65_536, keep: 1 }).write([Buffer.from('x')]),
    { done: false },
  );
  t.equal(readFileSync(join(dir, 'secret'), 'utf8'), 'x');
});

t.test('a full disk: whole lines only, and they go on when there is room', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'export-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]);
  t.teardown(() => {
    execFileSync('umount', ['-l', dir]);
    rmdirSync(dir);
  });
  writeFileSync(join(dir, 'other'), Buffer.alloc(900_000));
  const path = join(dir, 'flows.jsonl');
  const stream = new Stream();
  const specs = [await spec(`jsonl://${path}?queue=300`)];
  const exports = await Exports.start({ specs, source: stream.source, node: 'n', log: memoryLog().log });
  const state = () => exports.status()[0] as ReturnType<Exports['status']>[number];
  for (let n = 0; n < 500; n++) stream.put(item(n).response);
  await until('the disk is full', () => state().failingSince !== undefined);
  t.match(state().lastError, /ENOSPC/);
  for (const line of existsSync(path) ? linesOf(path) : []) JSON.parse(line);
  t.notOk(existsSync(path) && !/(^|\n)$/.test(readFileSync(path, 'utf8')), 'no line is begun');
  rmSync(join(dir, 'other'));
  await until('it goes on', () => state().failingSince === undefined && state().queued === 0);
  await exports.close(1000);
  const { exported, lost } = state();
  t.equal(exported + (lost.queue ?? 0), 500);
  const lines = linesOf(path).map((line) => JSON.parse(line));
  t.equal(lines.filter((l) => l.flow).length, exported);
  const told = lines.filter((l) => l.lost_events).reduce((n, l) => n + Number(l.lost_events.num_events_lost), 0);
  t.equal(told, lost.queue);
});

t.test('standard output that nobody reads', async (t) => {
  // Its own process: 4,000 flows of 1 kB into a pipe of 64 KiB.
  const script = `
    const { Exports } = await import('${compiled}/src/export/exports.js');
    const { Stream, spec, response, memoryLog } = await import('${compiled}/test/export/given.js');
    const stream = new Stream();
    const exports = await Exports.start({ specs: [await spec('jsonl:-?queue=1000')], source: stream.source, node: 'n', log: memoryLog().log });
    for (let n = 0; n < 4000; n++) stream.put(response({}, { localPort: n }));
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    await new Promise((r) => setTimeout(r, 1000));
    process.stderr.write(JSON.stringify({ ticks, ...exports.status()[0] }) + '\\n');
    process.once('SIGUSR2', async () => {
      clearInterval(timer);
      await exports.close(5000);
      process.stderr.write(JSON.stringify(exports.status()[0]) + '\\n');
      process.exit(0);
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'pipe'] });
  let told = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    told += text;
  });
  await until('it tells', () => told.includes('\n'));
  const first = JSON.parse(told.split('\n')[0] as string);
  t.ok(first.ticks > 50, `its own work goes on: ${first.ticks} ticks in a second`);
  t.ok(first.exported < 500 && first.lost.queue > 2000, JSON.stringify(first));
  let read = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    read += text;
  });
  child.kill('SIGUSR2');
  await new Promise((resolve) => child.on('close', resolve));
  const last = JSON.parse(told.split('\n')[1] as string);
  const lines = read
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
  t.equal(lines.filter((l) => l.flow).length, last.exported);
  t.equal(last.exported + last.lost.queue, 4000);
});
