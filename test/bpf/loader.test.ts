import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { build, compile } from '../../agent/kernel/build.js';
import { load, type Programs } from '../../agent/kernel/loader.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { NameMemory } from '../../agent/names/memory.js';
import { STRUCTS } from '../../src/image/layout.gen.js';
import type { AgentError } from '../../src/errors.js';
import { clangFlags } from '../../src/net/clang.js';

const bpfDir = join(process.cwd(), 'bpf');
const dir = mkdtempSync(join(tmpdir(), 'ea-loader-'));
/** What declares maps and their types. */
const HEADERS = [...readdirSync(bpfDir).filter((name) => /(types|maps)\.h$/.test(name))];
const pinDir = `/sys/fs/bpf/ea-ffi-${process.pid}`;
t.teardown(() => {
  rmSync(dir, { recursive: true, force: true });
  rmSync(pinDir, { recursive: true, force: true });
});

const HEAD = `
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include "maps.h"
char LICENSE[] SEC("license") = "Dual BSD/GPL";
`;

function source(extra: string, names = ['from_pod', 'to_pod', 'uplink', 'uplink_in', 'clock', 'seed']): string {
  const programs = names.map((n) => `SEC("tc") int ${n}(struct __sk_buff *skb) { return n_${n}(skb); }`);
  const inner = names.map((n) => `static int n_${n}(struct __sk_buff *skb) { return n(skb); }`);
  return `${HEAD}\n${extra}\n${inner.join('\n')}\n${programs.join('\n')}\n`;
}

/** Counts the packet, returns its length with the sign turned. */
const COUNTS = `static int n(struct __sk_buff *skb) {
  __u32 key = 0;
  __u64 *count = bpf_map_lookup_elem(&counters, &key);
  if (count) *count += 1;
  return -(int)skb->len;
}`;

let made = 0;
function object(text: string): string {
  const file = join(dir, `o${made++}`);
  writeFileSync(`${file}.c`, text);
  compile('clang', [...clangFlags(bpfDir), `-I${bpfDir}`], `${file}.c`, `${file}.o`);
  return `${file}.o`;
}

function failure(opts: Parameters<typeof load>[0]): AgentError {
  try {
    load(opts).close();
  } catch (e) {
    return e as AgentError;
  }
  throw new Error('was loaded');
}

const SMALL = { destinations4: 100, destinations6: 100, class_rules: 100, rules: 100, flows: 1000, events: 65536 };
const good = object(source(COUNTS));
const counted = (p: Programs) =>
  p.maps.counters?.lookupPerCpu(Buffer.alloc(4)).reduce((n, v) => n + Number(v.readBigUInt64LE()), 0);

t.test('programs run, maps have the sizes asked for', async (t) => {
  const p = load({ objectPath: good, sizes: SMALL });
  const result = p.programs.fromPod.testRun(Buffer.alloc(60), { repeat: 5 });
  t.equal(result.retval, -60, 'signed');
  t.ok(result.durationNs < 100_000);
  t.equal(counted(p), 5);
  t.equal(p.maps.destinations4?.maxEntries, 100);
  t.equal(p.maps.services?.maxEntries, 131072, 'the default');
  t.equal(p.maps.endpoints?.name, 'endpoints');
  t.ok(p.programs.fromPod.id > 0);
  t.equal(p.programs.fromPod.name, 'from_pod');
  t.not(p.programs.fromPod.id, p.programs.toPod.id);
  t.same(Object.keys(p.all).sort(), ['clock', 'from_pod', 'seed', 'to_pod', 'uplink', 'uplink_in']);
  t.ok(p.programs.uplink.testRun(Buffer.alloc(60), { dataOutSize: 100 }).dataOut.equals(Buffer.alloc(60)));
  t.throws(() => p.programs.uplink.testRun(Buffer.alloc(3)), { code: 'KERNEL', errno: 'EINVAL' });
  p.close();
});

t.test('pinned maps are found again with their content', async (t) => {
  const first = load({ objectPath: good, pinDir, sizes: SMALL });
  first.programs.fromPod.testRun(Buffer.alloc(60));
  const maps = () => readdirSync(`${pinDir}/maps`);
  const [shape] = maps();
  t.same(readdirSync(`${pinDir}/maps/${shape}`).sort(), Object.keys(first.maps).sort());
  t.equal(first.fresh, true);
  t.equal(first.older.exist, false);
  first.close();
  const second = load({ objectPath: good, pinDir, sizes: SMALL });
  t.equal(counted(second), 1);
  t.equal(second.fresh, false);

  const other = load({ objectPath: good, pinDir, sizes: { ...SMALL, flows: 2000 } });
  t.equal(other.fresh, true, 'maps of another size stand beside them');
  t.equal(other.older.exist, true);
  t.equal(counted(other), 0);
  t.equal(maps().length, 2);
  const odd =
    object(`${HEAD}struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 9); __type(key, __u64); __type(value, __u32);
    __uint(pinning, LIBBPF_PIN_BY_NAME); } extra SEC(".maps");\n${source(COUNTS).slice(HEAD.length)}`);
  load({ objectPath: odd, pinDir, sizes: SMALL }).close();
  t.equal(maps().length, 3, 'and so do those of another version');
  second.dropOthers();
  t.same(maps(), [shape], 'until one has taken over');
  second.close();
  other.close();

  // Somebody's map under one of our names.
  rmSync(`${pinDir}/maps/${shape}/flows`);
  renameSync(`${pinDir}/maps/${shape}/sources`, `${pinDir}/maps/${shape}/flows`);
  t.match(failure({ objectPath: good, pinDir, sizes: SMALL }), { code: 'LAYOUT', message: /map flows is pinned with/ });
  rmSync(pinDir, { recursive: true });
});

t.test('a refused program: the decisive line, the whole log, and nothing left behind', async (t) => {
  const bad = object(
    source(
      'static int n(struct __sk_buff *skb) { __u32 k = skb->len; __u64 *v = bpf_map_lookup_elem(&counters, &k); return *v; }',
    ),
  );
  const e = failure({ objectPath: bad, pinDir, sizes: SMALL, logDir: join(dir, 'logs') });
  t.match(e, { code: 'VERIFIER', errno: 'EACCES' });
  t.match(e.message, /program \w+ of o\d+\.o: .*invalid mem access 'map_value_or_null'$/);
  const file = /in (\S+)$/.exec(e.hint ?? '')?.[1] ?? '';
  t.match(readFileSync(file, 'utf8'), /processed \d+ insns/, 'the log is whole');
  t.equal(readFileSync(file, 'utf8').trim(), e.cause);
  t.ok(!existsSync(`${pinDir}/maps`) || readdirSync(`${pinDir}/maps`, { recursive: true }).length <= 1, 'no pins');
  t.match(load({ objectPath: good, sizes: SMALL }).programs.clock.testRun(Buffer.alloc(14)), { retval: -14 });
});

t.test('an object of another build', async (t) => {
  const headers = join(dir, 'headers');
  mkdirSync(headers);
  for (const name of HEADERS) {
    writeFileSync(
      join(headers, name),
      readFileSync(join(bpfDir, name), 'utf8').replace('__u32 flags;\n  __u8 mac[6];', '__u8 mac[6];\n  __u32 flags;'),
    );
  }
  const file = join(dir, 'other.c');
  writeFileSync(file, source(COUNTS));
  compile('clang', [...clangFlags(bpfDir), `-I${headers}`], file, join(dir, 'other.o'));
  t.match(failure({ objectPath: join(dir, 'other.o'), sizes: SMALL }), {
    code: 'LAYOUT',
    message: /struct ea_endpoint/,
  });
});

t.test('what is not an object, or lacks a part', async (t) => {
  const text = join(dir, 'text.o');
  writeFileSync(text, 'hello');
  t.match(failure({ objectPath: text }), { code: 'LAYOUT', message: /BTF|ELF/ });
  const few = object(source(COUNTS, ['from_pod', 'to_pod']));
  t.match(failure({ objectPath: few, sizes: SMALL }), { code: 'LAYOUT', message: /no program uplink/ });
  t.match(failure({ objectPath: good, sizes: SMALL, without: ['clock'] }), { message: /no program clock/ });
});

t.test('sizes that make no sense', async (t) => {
  const refused = (name: string, size: number) => failure({ objectPath: good, sizes: { [name]: size } });
  t.match(refused('nothing', 1), { code: 'USAGE', hint: /destinations4/ });
  t.match(refused('flows', 0), { code: 'USAGE' });
  t.match(refused('flows', 1.5), { code: 'USAGE' });
  t.match(refused('flows', 2 ** 25), { code: 'USAGE', message: /16777216 at most/ });
  t.match(refused('names', 2 ** 21), { code: 'USAGE', message: /1048576 at most/ });
  t.match(refused('name_cells', 257), { code: 'USAGE', message: /256 at most/ });
  t.match(refused('endpoints', 10), { code: 'USAGE', message: /fixed at 69632/ });
  t.match(refused('events', 100000), { code: 'USAGE', message: /power of two/ });
});

t.test('the tables of names', async (t) => {
  const p = load({ objectPath: good, sizes: { ...SMALL, names: 1000, name_pages: 9000 } });
  const { names } = p;
  const { last_name_bucket: lastName, last_page_bucket: lastPage, secret } = STRUCTS.ea_name_state_words.fields;
  t.equal(names.nameCapacity, 1024, 'a power of two');
  t.equal(names.pageCapacity, 16384);
  t.equal(p.maps.name_buckets?.maxEntries, 1024 / 8);
  t.equal(names.state.readUInt32LE(lastName.offset), 1024 / 8 - 1);
  t.equal(names.state.readUInt32LE(lastPage.offset), 16384 / 8 - 1);
  const secrets = () => names.state.subarray(secret.offset, secret.offset + secret.size).toString('hex');
  const before = secrets();
  t.notMatch(before, /^0*$/);
  const map = (name: string) => p.maps[name] as BpfMap;
  new NameMemory({
    ...{ names: map('names'), nameBuckets: map('name_buckets'), pages: map('name_pages') },
    ...{ pageBuckets: map('page_buckets'), holdings: map('name_holdings'), state: map('name_state') },
  });
  t.equal(secrets(), before, 'the next agent keeps the secrets');
  t.same([names.nameShare, names.pageShare], [32, 512]);
  names.divide(64);
  t.same([names.nameShare, names.pageShare], [32, 128], 'half of a table in equal shares, and not less than some');
  p.close();
});

t.test('a failure that is not the verifier names the map', async (t) => {
  const e = failure({ objectPath: good, sizes: { ...SMALL, sources: 0xffff_ffff } });
  t.match(e, { code: 'KERNEL', message: /sources/ });
});

t.test('build: compiled once, cached by content, shipped where there is no compiler', async (t) => {
  const sources = join(dir, 'sources');
  mkdirSync(sources);
  for (const name of [...HEADERS, 'flags.txt']) writeFileSync(join(sources, name), readFileSync(join(bpfDir, name)));
  writeFileSync(join(sources, 'egress.bpf.c'), source(COUNTS));
  const opts = { bpfDir: sources, cacheDir: join(dir, 'cache'), shipped: good };
  const first = build(opts);
  t.equal(first.how, 'compiled');
  t.same(build(opts), { path: first.path, how: 'cached' });
  load({ objectPath: first.path, sizes: SMALL }).close();
  writeFileSync(join(sources, 'types.h'), `${readFileSync(join(sources, 'types.h'), 'utf8')}\n/* changed */\n`);
  const second = build(opts);
  t.equal(second.how, 'compiled', 'a header changed');
  t.not(second.path, first.path);
  writeFileSync(join(sources, 'flags.txt'), `${readFileSync(join(sources, 'flags.txt'), 'utf8')}-DX=1\n`);
  t.equal(build(opts).how, 'compiled', 'a flag changed');
  t.same(
    readdirSync(opts.cacheDir).filter((f) => !f.endsWith('.o')),
    [],
    'nothing half made is left',
  );

  t.same(build({ ...opts, clang: 'no-such-clang' }), { path: good, how: 'shipped' });
  const neither = { ...opts, clang: 'no-such-clang', shipped: join(dir, 'none.o') };
  t.throws(() => build(neither), { code: 'BUILD', hint: /clang/ });
  writeFileSync(join(sources, 'egress.bpf.c'), 'int f(void) { return nonsense; }');
  t.throws(() => build(opts), { code: 'BUILD', message: /error: use of undeclared identifier 'nonsense'/ });
});
