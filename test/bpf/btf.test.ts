import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { checkLayouts } from '../../agent/kernel/loader.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { elfSection, readLayouts } from '../../src/net/btf.js';
import { clangFlags } from '../../src/net/clang.js';

const bpfDir = join(process.cwd(), 'bpf');
const dir = mkdtempSync(join(tmpdir(), 'ea-btf-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

function compile(name: string, text: string): Buffer {
  const file = join(dir, name);
  writeFileSync(`${file}.c`, text);
  execFileSync('clang', [...clangFlags(bpfDir), `-I${bpfDir}`, '-c', `${file}.c`, '-o', `${file}.o`]);
  return readFileSync(`${file}.o`);
}

t.test('members, arrays, typedefs, nested structs, enums', async (t) => {
  const object = compile(
    'kinds',
    `typedef unsigned int u32; typedef const volatile u32 cv32;
     enum ea_kind { EA_MINUS = -1, EA_BIG = 0x7fffffff };
     struct other { int x; };
     struct ea_inner { char a; short b[3]; };
     struct ea_outer { char c; struct ea_inner in[2]; u32 flags; cv32 *p; enum ea_kind kind; union { long l; char d; } u; };
     struct ea_outer keep_outer; enum ea_kind keep_kind; struct other keep_other;`,
  );
  const { structs, enums } = readLayouts(object, 'ea_');
  t.same(structs, {
    ea_outer: {
      size: 48,
      fields: {
        c: { offset: 0, size: 1 },
        in: { offset: 2, size: 16 },
        flags: { offset: 20, size: 4 },
        p: { offset: 24, size: 8 },
        kind: { offset: 32, size: 4 },
        u: { offset: 40, size: 8 },
      },
    },
    ea_inner: { size: 8, fields: { a: { offset: 0, size: 1 }, b: { offset: 2, size: 6 } } },
  });
  t.same(enums, { ea_kind: { EA_MINUS: -1, EA_BIG: 0x7fffffff } });
});

const layout = compile('layout', readFileSync(join(bpfDir, 'layout.bpf.c'), 'utf8'));

t.test('layout.gen.ts is what the compiler says, and complete', async (t) => {
  const { structs, enums } = readLayouts(layout, 'ea_');
  t.same(JSON.stringify(structs), JSON.stringify(STRUCTS));
  t.same(JSON.stringify(enums), JSON.stringify(ENUMS));
  checkLayouts(layout, 'layout.o');
  const types = readFileSync(join(bpfDir, 'types.h'), 'utf8');
  const declared = [...types.matchAll(/^(?:struct|enum) (ea_\w+) \{/gm)].map((m) => m[1] as string);
  t.ok(declared.length > 25);
  t.same(
    declared.filter((name) => !(name in structs) && !(name in enums)),
    [],
    'all of types.h stands in layout.bpf.c',
  );
});

t.test('every map has its key and value in the layout', async (t) => {
  const maps = readFileSync(join(bpfDir, 'maps.h'), 'utf8');
  const used = [...maps.matchAll(/__type\((?:key|value), struct (ea_\w+)\)/g)].map((m) => m[1] as string);
  t.ok(used.length > 10);
  t.same(
    used.filter((name) => !(name in STRUCTS)),
    [],
  );
});

t.test('damaged objects are refused or read, never more', async (t) => {
  t.throws(() => readLayouts(Buffer.alloc(0), 'ea_'), { code: 'LAYOUT' });
  t.throws(() => readLayouts(readFileSync(process.execPath).subarray(0, 4096), 'ea_'), { code: 'LAYOUT' });
  const btf = elfSection(layout, '.BTF');
  if (!btf) throw new Error('no BTF');
  const from = btf.byteOffset - layout.byteOffset;
  let seed = 12345;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  let refused = 0;
  let other = '';
  for (let i = 0; i < 3000; i++) {
    const damaged = Buffer.from(layout);
    // ELF head, section table or BTF.
    const [at, length] = [
      [0, 64],
      [layout.length - 1500, 1500],
      [from, btf.length],
    ][i % 3] as [number, number];
    for (let n = 0; n < 1 + random(4); n++) damaged[at + random(length)] = random(256);
    const cut = i % 7 === 0 ? damaged.subarray(0, random(damaged.length)) : damaged;
    try {
      readLayouts(cut, 'ea_');
    } catch (e) {
      if ((e as { code?: string }).code === 'LAYOUT') refused++;
      else other ||= `${(e as Error).stack}`;
    }
  }
  t.ok(refused > 500, `${refused} refused`);
  t.equal(other, '', 'each refusal is a LAYOUT error');
});
