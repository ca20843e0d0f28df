/**
 * The compiled object → programs and maps in the kernel, through libbpf. Maps are pinned by
 * name and found again: flows, policy and counters outlive the agent.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { AgentError } from '../src/errors.js';
import { ENUMS, STRUCTS } from '../src/image/layout.gen.js';
import { readLayouts } from '../src/net/btf.js';
import * as ffi from './libbpf/ffi.js';
import { BpfMap, mapInfo, possibleCpus } from './libbpf/map.js';
import { BpfProgram } from './libbpf/program.js';
import { kernelError, sys } from './libbpf/sys.js';

const libbpf = ffi.library('libbpf.so.1', {
  libbpf_set_print: ['pointer', ['pointer']],
  bpf_object__open_mem: ['pointer', ['pointer', 'size_t', 'pointer']],
  bpf_object__load: ['int', ['pointer']],
  bpf_object__close: ['void', ['pointer']],
  bpf_object__next_map: ['pointer', ['pointer', 'pointer']],
  bpf_object__next_program: ['pointer', ['pointer', 'pointer']],
  bpf_map__name: ['pointer', ['pointer']],
  bpf_map__fd: ['int', ['pointer']],
  bpf_map__set_max_entries: ['int', ['pointer', 'uint']],
  bpf_map__set_pin_path: ['int', ['pointer', 'pointer']],
  bpf_map__is_internal: ['int', ['pointer']],
  bpf_program__name: ['pointer', ['pointer']],
  bpf_program__fd: ['int', ['pointer']],
  bpf_program__set_log_level: ['int', ['pointer', 'uint']],
  bpf_program__set_log_buf: ['int', ['pointer', 'pointer', 'size_t']],
  bpf_program__set_autoload: ['int', ['pointer', 'int']],
});

/** Room for one program's verifier log, bytes. */
const LOG_SIZE = 1 << 20;

export interface LoadOptions {
  objectPath: string;
  /** On a bpffs; maps go to `<pinDir>/maps`. undefined: nothing is pinned (tests). */
  pinDir?: string;
  /** Entries by map name, instead of the object's own. */
  sizes?: Readonly<Record<string, number>>;
  /** Where a refused program's whole verifier log goes; undefined: nowhere. */
  logDir?: string;
  /** Programs to leave out, by name. */
  without?: readonly string[];
}

export interface Programs {
  readonly maps: Readonly<Record<string, BpfMap>>;
  readonly programs: { readonly fromPod: BpfProgram; readonly toPod: BpfProgram; readonly uplink: BpfProgram; readonly clock: BpfProgram };
  /** By the name in the object. */
  readonly all: Readonly<Record<string, BpfProgram>>;
  close(): void;
}

/**
 * Opens, checks, sizes and loads an object.
 * @throws AgentError LAYOUT (object or pinned maps do not fit this agent), VERIFIER, KERNEL
 */
export function load(opts: LoadOptions): Programs {
  const bytes = readFileSync(opts.objectPath);
  checkLayouts(bytes, opts.objectPath);
  // libbpf's own messages go to standard error; the log buffers and errnos tell us all of it.
  libbpf.libbpf_set_print(ffi.NULL);
  const object = libbpf.bpf_object__open_mem(bytes, bytes.length, null) as Buffer;
  if (ffi.isNull(object)) throw new AgentError('LAYOUT', `${opts.objectPath} is not a BPF object: ${ffi.errnoName(ffi.errno())}`);
  const kept: Buffer[] = [bytes];
  try {
    const maps = prepareMaps(object, opts, kept);
    const logs = prepareLogs(object, opts, kept);
    const status = Number(libbpf.bpf_object__load(object));
    if (status < 0) throw loadError(status, logs, opts);
    const cpus = possibleCpus(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
    const opened: Record<string, BpfMap> = {};
    for (const [name, map] of maps) opened[name] = new BpfMap(Number(libbpf.bpf_map__fd(map)), name, cpus);
    const all: Record<string, BpfProgram> = {};
    for (const [name, program] of each(object, libbpf.bpf_object__next_program, libbpf.bpf_program__name)) {
      if (!opts.without?.includes(name)) all[name] = new BpfProgram(Number(libbpf.bpf_program__fd(program)), name);
    }
    const program = (name: string): BpfProgram => {
      const found = all[name];
      if (!found) throw new AgentError('LAYOUT', `${opts.objectPath} has no program ${name}`);
      return found;
    };
    return {
      maps: opened,
      programs: { fromPod: program('from_pod'), toPod: program('to_pod'), uplink: program('uplink'), clock: program('clock') },
      all,
      close: () => {
        libbpf.bpf_object__close(object);
        kept.length = 0;
      },
    };
  } catch (e) {
    libbpf.bpf_object__close(object);
    throw e;
  }
}

/** Invariant 8: the structs in this object are those that the TypeScript was generated for. */
function checkLayouts(object: Buffer, path: string): void {
  const { structs, enums } = readLayouts(object, 'ea_');
  const differs = (kind: string, name: string) =>
    new AgentError('LAYOUT', `${kind} ${name} in ${path} is not laid out as this agent was built for`, {
      hint: 'the agent and the object are from different builds; run npm run build',
    });
  for (const [name, layout] of Object.entries(structs)) {
    const mine = (STRUCTS as Record<string, unknown>)[name];
    if (mine && JSON.stringify(mine) !== JSON.stringify(layout)) throw differs('struct', name);
  }
  for (const [name, values] of Object.entries(enums)) {
    const mine = (ENUMS as Record<string, unknown>)[name];
    if (mine && JSON.stringify(mine) !== JSON.stringify(values)) throw differs('enum', name);
  }
}

type Next = (object: Buffer, previous: Buffer | null) => unknown;

function* each(object: Buffer, next: unknown, nameOf: unknown): Generator<readonly [string, Buffer]> {
  for (let item = (next as Next)(object, null) as Buffer; !ffi.isNull(item); item = (next as Next)(object, item) as Buffer) {
    yield [ffi.textAt((nameOf as (i: Buffer) => unknown)(item) as Buffer), item];
  }
}

function prepareMaps(object: Buffer, opts: LoadOptions, kept: Buffer[]): Map<string, Buffer> {
  const maps = new Map<string, Buffer>();
  const dir = opts.pinDir === undefined ? undefined : join(opts.pinDir, 'maps');
  if (dir !== undefined) makePinDir(dir);
  for (const [name, map] of each(object, libbpf.bpf_object__next_map, libbpf.bpf_map__name)) {
    if (Number(libbpf.bpf_map__is_internal(map)) !== 0) continue;
    maps.set(name, map);
    const size = opts.sizes?.[name];
    if (size !== undefined) libbpf.bpf_map__set_max_entries(map, size);
    if (dir === undefined) {
      libbpf.bpf_map__set_pin_path(map, null);
      continue;
    }
    const path = join(dir, name);
    if (existsSync(path)) checkPinned(path, name, size);
    const text = Buffer.from(`${path}\0`);
    kept.push(text);
    libbpf.bpf_map__set_pin_path(map, text);
  }
  for (const name of Object.keys(opts.sizes ?? {})) {
    if (!maps.has(name)) throw new AgentError('USAGE', `there is no map ${name}`, { hint: `maps: ${[...maps.keys()].join(', ')}` });
  }
  return maps;
}

function makePinDir(dir: string): void {
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
  } catch (e) {
    throw new AgentError('KERNEL', `${dir} cannot be made: ${(e as Error).message}`, {
      hint: 'mount the BPF file system: mount -t bpf bpf /sys/fs/bpf',
      cause: e,
    });
  }
}

/** A map of another size holds state that would be lost by making it anew: the user decides. */
function checkPinned(path: string, name: string, size: number | undefined): void {
  const attr = Buffer.alloc(24);
  const text = Buffer.from(`${path}\0`);
  attr.writeBigUInt64LE(sys.address(text), 0);
  const fd = sys.bpf(7 /* BPF_OBJ_GET */, attr);
  try {
    const info = mapInfo(fd);
    if (size === undefined || info.maxEntries === size) return;
    throw new AgentError('LAYOUT', `map ${name} is pinned with ${info.maxEntries} entries, not ${size}`, {
      hint: 'egress-agent detach removes it, with the policy in force; or leave --map-size as it was',
    });
  } finally {
    sys.close(fd);
  }
}

function prepareLogs(object: Buffer, opts: LoadOptions, kept: Buffer[]): Map<string, Buffer> {
  const logs = new Map<string, Buffer>();
  for (const [name, program] of each(object, libbpf.bpf_object__next_program, libbpf.bpf_program__name)) {
    if (opts.without?.includes(name)) {
      libbpf.bpf_program__set_autoload(program, 0);
      continue;
    }
    const log = Buffer.alloc(LOG_SIZE);
    kept.push(log);
    libbpf.bpf_program__set_log_buf(program, log, log.length);
    logs.set(name, log);
  }
  return logs;
}

/** The decisive line of a verifier log is its last but the statistics; the whole log goes to a file. */
function loadError(status: number, logs: ReadonlyMap<string, Buffer>, opts: LoadOptions): AgentError {
  for (const [name, log] of logs) {
    const end = log.indexOf(0);
    const text = log.toString('utf8', 0, end < 0 ? log.length : end).trim();
    if (text === '') continue;
    const lines = text.split('\n').filter((l) => !/^(processed \d+ insns|verification time|stack depth|-- (BEGIN|END))/.test(l));
    let file: string | undefined;
    if (opts.logDir !== undefined) {
      file = join(opts.logDir, `verifier-${name}.log`);
      writeFileSync(file, `${text}\n`);
    }
    return new AgentError('VERIFIER', `the kernel refuses program ${name} of ${basename(opts.objectPath)}: ${lines.at(-1) ?? text}`, {
      errno: ffi.errnoName(status),
      hint: file ? `the whole log is in ${file}` : undefined,
      cause: text,
    });
  }
  if (ffi.errnoName(status) === 'EINVAL' && opts.pinDir !== undefined) {
    return new AgentError('LAYOUT', `the maps pinned under ${opts.pinDir} do not fit this agent's`, {
      errno: 'EINVAL',
      hint: 'they are from another version; egress-agent detach removes them, with the policy in force',
    });
  }
  return kernelError('loading the programs', status);
}
