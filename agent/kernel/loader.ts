/**
 * The compiled object → programs and maps in the kernel, through libbpf. Maps are pinned by
 * name and found again: flows, policy and counters outlive the agent.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AgentError } from '../../src/errors.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';
import { readLayouts } from '../../src/net/btf.js';
import { FlowMemory, FlowTable } from '../events/flow-table.js';
import { errnoName } from './libbpf/ffi.js';
import { BpfMap, mapInfo, MapType, openPinned, possibleCpus } from './libbpf/map.js';
import { BpfObject, type MapDeclaration } from './libbpf/object.js';
import { BpfProgram } from './libbpf/program.js';
import { kernelError, sys } from './libbpf/sys.js';
import { OlderFlows } from '../events/older-flows.js';
import { NameMemory } from '../names/memory.js';

/** Arrays of entries in buckets: the map of their buckets, and the largest size, entries (their memory: 4 GiB, 256 MiB, 64 MiB). */
const BUCKETED: Readonly<Record<string, { readonly buckets: string; readonly max: number }>> = {
  flows: { buckets: 'flow_buckets', max: 2 ** 24 },
  names: { buckets: 'name_buckets', max: 2 ** 20 },
  name_pages: { buckets: 'page_buckets', max: 2 ** 20 },
};

/** linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;

export interface LoadOptions {
  objectPath: string;
  /** On a bpffs; maps go to `<pinDir>/maps/<shape>`. undefined: nothing is pinned (tests). */
  pinDir?: string;
  /** Entries by map name, instead of the object's own. */
  sizes?: Readonly<Record<string, number>>;
  /** Directory for the complete verifier log of a refused program; undefined: not written. */
  logDir?: string;
  /** Programs to leave out, by name. */
  without?: readonly string[];
}

/** A loaded object: its maps and programs. */
export interface Programs {
  /** By the name in the object; `flows` iterates over the flow table's flows. */
  readonly maps: Readonly<Record<string, BpfMap>>;
  readonly table: FlowMemory;
  /** What endpoints learned of names. */
  readonly names: NameMemory;
  /** The flow table's other entries, by kind. */
  readonly beside: Readonly<Record<'fragments' | 'pending' | 'queries', FlowTable>>;
  readonly programs: {
    /** Hook for what a pod sends. */
    readonly fromPod: BpfProgram;
    /** Hook for what is delivered to a pod. */
    readonly toPod: BpfProgram;
    /** Hook for what leaves the node. */
    readonly uplink: BpfProgram;
    /** Hook for what arrives for the node itself. */
    readonly uplinkIn: BpfProgram;
    /** Not a hook: a test run of it returns the kernel's jiffies. */
    readonly clock: BpfProgram;
    /** Not a hook: a test run of it enters a connection that was opened to an endpoint into the flow table. */
    readonly seed: BpfProgram;
  };
  /** The maps are new: none of this shape was pinned, although another version may have left its own. */
  readonly fresh: boolean;
  /** The flows in maps of other shapes, which hooks of another version may still use. */
  readonly older: OlderFlows;
  /** Unpins the maps of other shapes. Call it when every hook has a program that uses these maps. */
  dropOthers(): void;
  /** All programs, by the name in the object. */
  readonly all: Readonly<Record<string, BpfProgram>>;
  /** Closes the descriptors; pinned maps and attached programs stay. */
  close(): void;
}

/**
 * Opens, checks, sizes and loads an object.
 * @throws AgentError LAYOUT (object or pinned maps do not fit this agent), VERIFIER, KERNEL, USAGE (a size)
 */
export function load(opts: LoadOptions): Programs {
  const bytes = readFileSync(opts.objectPath);
  checkLayouts(bytes, opts.objectPath);
  if (opts.pinDir !== undefined) checkBpffs(opts.pinDir);
  const object = new BpfObject(bytes, opts.objectPath);
  try {
    setSizes(object, opts.sizes ?? {});
    object.setMaxEntries('dns_memory', ENUMS.ea_dns_memory.EA_DNS_STREAMS + countCpus());
    object.setMaxEntries('l7_memory', ENUMS.ea_said_sizes.EA_SAID_BUFFERS + countCpus());
    const dir = opts.pinDir === undefined ? undefined : join(opts.pinDir, 'maps', shapeOf(object, bytes));
    const fresh = dir === undefined || !existsSync(dir);
    setPins(object, dir);
    for (const name of opts.without ?? []) object.leaveOut(name);
    const status = object.load();
    if (status < 0) throw loadError(object, status, opts);
    const dropOthers = () => dir !== undefined && dropSiblings(dir);
    const older = dir === undefined ? new OlderFlows(() => []) : OlderFlows.beside(dirname(dir), basename(dir));
    return { ...handles(object, opts.objectPath), fresh, older, dropOthers };
  } catch (e) {
    object.close();
    throw e;
  }
}

/** @throws AgentError KERNEL if the directory is not on a BPF file system, where alone objects can be pinned */
export function checkBpffs(pinDir: string): void {
  let dir = pinDir;
  while (!existsSync(dir) && dir !== dirname(dir)) dir = dirname(dir);
  if (statfsSync(dir).type === BPF_FS_MAGIC) return;
  throw new AgentError('KERNEL', `${pinDir} is not on a BPF file system`, {
    errno: 'EINVAL',
    hint: 'on the node: mount -t bpf bpf /sys/fs/bpf',
  });
}

/**
 * Checks invariant 8: the structs and enums in this object are those that the TypeScript was generated for.
 * Types that the object does not use cannot differ; types that only the C code uses do not matter.
 * @throws AgentError LAYOUT
 */
export function checkLayouts(object: Buffer, path: string): void {
  const found = readLayouts(object, 'ea_');
  const compare = (
    kind: string,
    theirs: Readonly<Record<string, unknown>>,
    ours: Readonly<Record<string, unknown>>,
  ) => {
    for (const [name, layout] of Object.entries(theirs)) {
      if (!(name in ours) || JSON.stringify(ours[name]) === JSON.stringify(layout)) continue;
      throw new AgentError('LAYOUT', `${kind} ${name} in ${path} is not laid out as this agent was built for`, {
        hint: 'the agent and the object are from different builds; run npm run build',
      });
    }
  };
  compare('struct', found.structs, STRUCTS);
  compare('enum', found.enums, ENUMS);
}

/**
 * Name of the maps' shape: a hash of their declarations and of the structs in them. A version with another shape has
 * maps of its own. The hooks of the version before use their old maps until the new version has replaced each hook.
 */
function shapeOf(object: BpfObject, bytes: Buffer): string {
  const maps = object.mapNames.map((name) => object.declaration(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const text = JSON.stringify([maps, readLayouts(bytes, 'ea_')]);
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

/**
 * Unpins the maps of other shapes. Programs hold the maps that they use: hooks that were not replaced go on working.
 */
function dropSiblings(dir: string): void {
  const parent = dirname(dir);
  for (const name of readdirSync(parent)) {
    if (name !== basename(dir)) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

function handles(object: BpfObject, path: string): Omit<Programs, 'fresh' | 'older' | 'dropOthers'> {
  const cpus = countCpus();
  const raw = Object.fromEntries(object.mapNames.map((name) => [name, new BpfMap(object.mapFd(name), name, cpus)]));
  const map = (name: string): BpfMap => {
    const found = raw[name];
    if (!found) throw new AgentError('LAYOUT', `${path} has no map ${name}`);
    return found;
  };
  const table = new FlowMemory({
    flows: map('flows'),
    buckets: map('flow_buckets'),
    holdings: map('flow_holdings'),
    state: map('state'),
  });
  const names = new NameMemory({
    names: map('names'),
    nameBuckets: map('name_buckets'),
    pages: map('name_pages'),
    pageBuckets: map('page_buckets'),
    holdings: map('name_holdings'),
    state: map('name_state'),
  });
  const { EA_KIND_FLOW, EA_KIND_FRAGMENT, EA_KIND_PENDING, EA_KIND_QUERY } = ENUMS.ea_kind;
  const maps = { ...raw, flows: new FlowTable(map('flows'), 'flows', table, EA_KIND_FLOW) };
  const beside = {
    fragments: new FlowTable(map('flows'), 'fragments', table, EA_KIND_FRAGMENT),
    pending: new FlowTable(map('flows'), 'pending', table, EA_KIND_PENDING),
    queries: new FlowTable(map('flows'), 'queries', table, EA_KIND_QUERY),
  };
  const all = Object.fromEntries(
    object.programNames.map((name) => [name, new BpfProgram(object.programFd(name), name)]),
  );
  const program = (name: string): BpfProgram => {
    const found = all[name];
    if (!found) throw new AgentError('LAYOUT', `${path} has no program ${name}`);
    return found;
  };
  return {
    maps,
    table,
    names,
    beside,
    programs: {
      fromPod: program('from_pod'),
      toPod: program('to_pod'),
      uplink: program('uplink'),
      uplinkIn: program('uplink_in'),
      clock: program('clock'),
      seed: program('seed'),
    },
    all,
    close: () => object.close(),
  };
}

/** CPUs that may ever be there: maps have memory for each. */
function countCpus(): number {
  return possibleCpus(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
}

function setSizes(object: BpfObject, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!object.mapNames.includes(name)) {
      throw new AgentError('USAGE', `there is no map ${name}`, { hint: `maps: ${object.mapNames.join(', ')}` });
    }
    const { type, maxEntries } = object.declaration(name);
    if (size === maxEntries) continue;
    const usageError = (why: string) => new AgentError('USAGE', `size ${size} of map ${name}: ${why}`);
    if (!Number.isInteger(size) || size < 1 || size > 0xffff_ffff) throw usageError('not a number of entries');
    const bucketed = BUCKETED[name];
    if (bucketed) {
      setBucketed(object, name, size, bucketed, usageError);
      continue;
    }
    const { EA_CELL_CHUNKS } = ENUMS.ea_cells;
    if (name === 'name_cells' && size > EA_CELL_CHUNKS) throw usageError(`${EA_CELL_CHUNKS} at most`);
    // The sizes of arrays are compiled into the programs.
    if (type === MapType.ARRAY || type === MapType.PERCPU_ARRAY) throw usageError(`fixed at ${maxEntries}`);
    if (type === MapType.RINGBUF && (size < sys.pageSize || (size & (size - 1)) !== 0)) {
      throw usageError(`bytes of a ring buffer are a power of two, ${sys.pageSize} or more`);
    }
    object.setMaxEntries(name, size);
  }
}

/** Sets the size of a table in buckets, rounded up to a power of two of buckets with EA_WAYS entries each. */
function setBucketed(
  object: BpfObject,
  name: string,
  size: number,
  { buckets, max }: { buckets: string; max: number },
  usageError: (why: string) => AgentError,
): void {
  const { EA_WAYS } = ENUMS.ea_table;
  if (size > max) throw usageError(`${max} at most`);
  const count = 2 ** Math.ceil(Math.log2(Math.max(1, size / EA_WAYS)));
  object.setMaxEntries(buckets, count);
  object.setMaxEntries(name, count * EA_WAYS);
}

function setPins(object: BpfObject, dir: string | undefined): void {
  if (dir !== undefined) makePinDir(dir);
  for (const name of object.mapNames) {
    const path = dir === undefined ? undefined : join(dir, name);
    if (path !== undefined && existsSync(path)) checkPinned(path, object.declaration(name));
    object.setPinPath(name, path);
  }
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

/** Refuses a pinned map of another shape. The directory's name is its maps' shape: somebody else put that map there. */
function checkPinned(path: string, wanted: MapDeclaration): void {
  const fd = openPinned(path);
  try {
    const pinned = mapInfo(fd);
    for (const [field, what] of [
      ['type', 'type'],
      ['keySize', 'key size'],
      ['valueSize', 'value size'],
      ['flags', 'flags'],
      ['maxEntries', 'size'],
    ] as const) {
      if (pinned[field] === wanted[field]) continue;
      throw new AgentError(
        'LAYOUT',
        `map ${wanted.name} is pinned with ${what} ${pinned[field]}, not ${wanted[field]}`,
        {
          hint: 'egress-agent detach removes it, with the policy in force',
        },
      );
    }
  } finally {
    sys.close(fd);
  }
}

/** Lines that the verifier writes after the one that says why. */
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|mark_precise|peak_states|-- (BEGIN|END))/;

function loadError(object: BpfObject, status: number, opts: LoadOptions): AgentError {
  const errno = errnoName(status);
  const refusal = object.refusals().at(-1);
  if (!refusal) {
    const e = kernelError(`loading ${basename(opts.objectPath)}`, status);
    // libbpf retries without BTF by itself; the message after that says what failed.
    const why = object.messages().find((m) => !m.includes('Retrying without BTF'));
    return why === undefined ? e : new AgentError('KERNEL', `${e.message}: ${why}`, { errno, hint: e.hint });
  }
  const { program, log } = refusal;
  const decisive = log.split('\n').findLast((line) => line.trim() !== '' && !STATISTICS.test(line)) ?? errno;
  return new AgentError(
    'VERIFIER',
    `the kernel refuses program ${program} of ${basename(opts.objectPath)}: ${decisive}`,
    {
      errno,
      hint: keepLog(program, log, opts.logDir),
      cause: log,
    },
  );
}

/** Writes the log to a file. @returns a hint that names it; undefined if it could not be written */
function keepLog(program: string, log: string, dir: string | undefined): string | undefined {
  if (dir === undefined) return undefined;
  const file = join(dir, `verifier-${program}.log`);
  try {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    writeFileSync(file, `${log}\n`, { mode: 0o600 });
    return `the whole log is in ${file}`;
  } catch {
    return undefined;
  }
}
