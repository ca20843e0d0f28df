/**
 * The compiled object → programs and maps in the kernel, through libbpf. Maps are pinned by
 * name and found again: flows, policy and counters outlive the agent.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AgentError } from '../src/errors.js';
import { ENUMS, STRUCTS } from '../src/image/layout.gen.js';
import { readLayouts } from '../src/net/btf.js';
import { errnoName } from './libbpf/ffi.js';
import { BpfMap, mapInfo, MapType, possibleCpus } from './libbpf/map.js';
import { BpfObject, type MapDeclaration } from './libbpf/object.js';
import { BpfProgram } from './libbpf/program.js';
import { kernelError, sys } from './libbpf/sys.js';

const OBJ_GET = 7;

/** linux/magic.h */
const BPF_FS_MAGIC = 0xcafe4a11;

export interface LoadOptions {
  objectPath: string;
  /** On a bpffs; maps go to `<pinDir>/maps/<shape>`. undefined: nothing is pinned (tests). */
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
  readonly programs: {
    /** What a pod sends. */
    readonly fromPod: BpfProgram;
    /** What is delivered to a pod. */
    readonly toPod: BpfProgram;
    /** What leaves the node. */
    readonly uplink: BpfProgram;
    readonly uplinkIn: BpfProgram;
    /** Not a hook: run by hand, it tells the kernel's jiffies. */
    readonly clock: BpfProgram;
  };
  /** The maps were made just now: none of this shape was pinned, whatever another version left. */
  readonly fresh: boolean;
  /** Unpins the maps of other shapes: to be called when every hook has a program of these. */
  dropOthers(): void;
  /** By the name in the object. */
  readonly all: Readonly<Record<string, BpfProgram>>;
  /** Closes the descriptors; what is pinned or attached stays. */
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
    const dir = opts.pinDir === undefined ? undefined : join(opts.pinDir, 'maps', shapeOf(object, bytes));
    const fresh = dir === undefined || !existsSync(dir);
    setPins(object, dir);
    for (const name of opts.without ?? []) object.leaveOut(name);
    const status = object.load();
    if (status < 0) throw loadError(object, status, opts);
    const dropOthers = () => dir !== undefined && dropSiblings(dir);
    return { ...handles(object, opts.objectPath), fresh, dropOthers };
  } catch (e) {
    object.close();
    throw e;
  }
}

/** @throws AgentError KERNEL where what is pinned would be pinned to an ordinary directory */
function checkBpffs(pinDir: string): void {
  let dir = pinDir;
  while (!existsSync(dir) && dir !== dirname(dir)) dir = dirname(dir);
  if (statfsSync(dir).type === BPF_FS_MAGIC) return;
  throw new AgentError('KERNEL', `${pinDir} is not on a BPF file system`, {
    errno: 'EINVAL',
    hint: 'on the node: mount -t bpf bpf /sys/fs/bpf',
  });
}

/**
 * Invariant 8: the structs and enums in this object are those that the TypeScript was generated for.
 * What the object does not mention cannot differ; types of the C's own do not matter.
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
 * Names what is in the maps: their sizes, and the structs that their bytes are. A version with other ones has maps of its own,
 * beside those that the hooks of the version before still judge by, until it takes the hooks over one by one.
 */
function shapeOf(object: BpfObject, bytes: Buffer): string {
  const maps = object.mapNames.map((name) => object.declaration(name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const text = JSON.stringify([maps, readLayouts(bytes, 'ea_')]);
  return createHash('sha256').update(text).digest('hex').slice(0, 12);
}

/** Programs hold the maps that they use: those of hooks that could not be taken over go on. */
function dropSiblings(dir: string): void {
  const parent = dirname(dir);
  for (const name of readdirSync(parent)) {
    if (name !== basename(dir)) rmSync(join(parent, name), { recursive: true, force: true });
  }
}

function handles(object: BpfObject, path: string): Omit<Programs, 'fresh' | 'dropOthers'> {
  const cpus = possibleCpus(readFileSync('/sys/devices/system/cpu/possible', 'utf8'));
  const maps = Object.fromEntries(object.mapNames.map((name) => [name, new BpfMap(object.mapFd(name), name, cpus)]));
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
    programs: {
      fromPod: program('from_pod'),
      toPod: program('to_pod'),
      uplink: program('uplink'),
      uplinkIn: program('uplink_in'),
      clock: program('clock'),
    },
    all,
    close: () => object.close(),
  };
}

function setSizes(object: BpfObject, sizes: Readonly<Record<string, number>>): void {
  for (const [name, size] of Object.entries(sizes)) {
    if (!object.mapNames.includes(name)) {
      throw new AgentError('USAGE', `there is no map ${name}`, { hint: `maps: ${object.mapNames.join(', ')}` });
    }
    const { type, maxEntries } = object.declaration(name);
    if (size === maxEntries) continue;
    const refused = (why: string) => new AgentError('USAGE', `size ${size} of map ${name}: ${why}`);
    if (!Number.isInteger(size) || size < 1 || size > 0xffff_ffff) throw refused('not a number of entries');
    // The programs know how many slots an array has.
    if (type === MapType.ARRAY || type === MapType.PERCPU_ARRAY) throw refused(`fixed at ${maxEntries}`);
    if (type === MapType.RINGBUF && (size < sys.pageSize || (size & (size - 1)) !== 0)) {
      throw refused(`bytes of a ring buffer are a power of two, ${sys.pageSize} or more`);
    }
    object.setMaxEntries(name, size);
  }
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

/** The directory's name says otherwise: somebody put another map there. */
function checkPinned(path: string, wanted: MapDeclaration): void {
  const attr = Buffer.alloc(24);
  const text = Buffer.from(`${path}\0`);
  attr.writeBigUInt64LE(sys.address(text), 0);
  const fd = sys.bpf(OBJ_GET, attr, text);
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

/** What the verifier adds behind the line that says why. */
const STATISTICS = /^(processed \d+ insns|verification time|stack depth|mark_precise|peak_states|-- (BEGIN|END))/;

function loadError(object: BpfObject, status: number, opts: LoadOptions): AgentError {
  const errno = errnoName(status);
  const refusal = object.refusals().at(-1);
  if (!refusal) {
    const e = kernelError(`loading ${basename(opts.objectPath)}`, status);
    // A second try without BTF is libbpf's own affair; what follows says what failed.
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

/** Where the whole log is, as a hint; undefined where it could not be written: it is the error's cause all the same. */
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
