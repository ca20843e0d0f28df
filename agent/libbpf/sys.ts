/** The system calls that the agent makes, typed; a failing one throws AgentError KERNEL with its errno. */
import { AgentError } from '../../src/errors.js';
import * as ffi from './ffi.js';

const libc = ffi.library('libc.so.6', {
  syscall: ['long', ['long', 'long', 'pointer', 'long']],
  socket: ['int', ['int', 'int', 'int']],
  bind: ['int', ['int', 'pointer', 'uint']],
  send: ['long', ['int', 'pointer', 'size_t', 'int']],
  recv: ['long', ['int', 'pointer', 'size_t', 'int']],
  setsockopt: ['int', ['int', 'int', 'int', 'pointer', 'uint']],
  setns: ['int', ['int', 'int']],
  open: ['int', ['string', 'int']],
  close: ['int', ['int']],
  fcntl: ['int', ['int', 'int', 'long']],
  mmap: ['pointer', ['pointer', 'size_t', 'int', 'int', 'int', 'long']],
  munmap: ['int', ['pointer', 'size_t']],
  if_nametoindex: ['uint', ['string']],
  clock_gettime: ['int', ['int', 'pointer']],
  sysconf: ['long', ['int']],
});

const NR_BPF: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280 };
const NR_MEMBARRIER: Partial<Record<NodeJS.Architecture, number>> = { x64: 324, arm64: 283 };
/** linux/membarrier.h. The kernel answers it with synchronize_rcu(). */
const MEMBARRIER_CMD_GLOBAL = 1;
/** Instead, where the kernel has it not (nohz_full): longer than a packet is ever held up. */
const GRACE_MS = 20;
const never = new Int32Array(new SharedArrayBuffer(4));
/** enum bpf_cmd, for messages. */
const BPF_COMMANDS: Readonly<Record<number, string>> = {
  0: 'BPF_MAP_CREATE',
  1: 'BPF_MAP_LOOKUP_ELEM',
  2: 'BPF_MAP_UPDATE_ELEM',
  3: 'BPF_MAP_DELETE_ELEM',
  4: 'BPF_MAP_GET_NEXT_KEY',
  5: 'BPF_PROG_LOAD',
  6: 'BPF_OBJ_PIN',
  7: 'BPF_OBJ_GET',
  10: 'BPF_PROG_TEST_RUN',
  15: 'BPF_OBJ_GET_INFO_BY_FD',
  24: 'BPF_MAP_LOOKUP_BATCH',
  26: 'BPF_MAP_UPDATE_BATCH',
  27: 'BPF_MAP_DELETE_BATCH',
  28: 'BPF_LINK_CREATE',
  29: 'BPF_LINK_UPDATE',
};

/** What the call that is under way points to: referenced here, so that it stays. */
const held: (readonly (Buffer | undefined)[])[] = [];

const CLOCK_MONOTONIC = 1;
const SC_PAGESIZE = 30;
export const EAGAIN = 11;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
const MAP_SHARED = 1;

function check(what: string, result: unknown): number {
  const n = Number(result);
  if (n >= 0) return n;
  throw kernelError(what, ffi.errno());
}

/** @param errno positive or negative */
export function kernelError(what: string, errno: number, hint?: string): AgentError {
  const name = ffi.errnoName(errno);
  return new AgentError('KERNEL', `${what}: ${name}`, { errno: name, hint: hint ?? hintFor(name) });
}

function hintFor(errno: string): string | undefined {
  if (errno === 'EPERM' || errno === 'EACCES')
    return 'the agent needs root, or the capabilities BPF, NET_ADMIN, NET_BROADCAST, PERFMON and SYS_ADMIN';
  return undefined;
}

let pageSize: number | undefined;

export const sys = {
  /**
   * bpf(2). `attr` is union bpf_attr; `pointedTo` are the buffers whose addresses stand in it:
   * the collector must not take them before the call returns.
   */
  bpf(cmd: number, attr: Buffer, ...pointedTo: (Buffer | undefined)[]): number {
    const nr = NR_BPF[process.arch];
    if (nr === undefined) throw new AgentError('KERNEL', `no bpf(2) known for ${process.arch}`);
    held.push(pointedTo);
    try {
      return check(BPF_COMMANDS[cmd] ?? `bpf(${cmd})`, libc.syscall(nr, cmd, attr, attr.length));
    } finally {
      held.pop();
    }
  },

  /** Resolves when every program that runs now, on any CPU, has ended: some tens of milliseconds. */
  async programsEnded(): Promise<void> {
    const nr = NR_MEMBARRIER[process.arch];
    if (nr !== undefined && Number(await libc.syscall.later(nr, MEMBARRIER_CMD_GLOBAL, ffi.NULL, 0)) === 0) return;
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  },

  /** The same, blocking. */
  waitForPrograms(): void {
    const nr = NR_MEMBARRIER[process.arch];
    if (nr !== undefined && Number(libc.syscall(nr, MEMBARRIER_CMD_GLOBAL, ffi.NULL, 0)) === 0) return;
    Atomics.wait(never, 0, 0, GRACE_MS);
  },

  socket(domain: number, type: number, protocol: number): number {
    return check('socket', libc.socket(domain, type, protocol));
  },

  /** @param addr struct sockaddr of the family */
  bind(fd: number, addr: Buffer): void {
    check('bind', libc.bind(fd, addr, addr.length));
  },

  send(fd: number, data: Buffer, flags = 0): number {
    return check('send', libc.send(fd, data, data.length, flags));
  },

  /** Bytes received; -11 (EAGAIN) where nothing is there and the socket does not wait. */
  recv(fd: number, into: Buffer, flags = 0): number {
    const n = Number(libc.recv(fd, into, into.length, flags));
    if (n >= 0) return n;
    const errno = ffi.errno();
    if (errno === EAGAIN) return -EAGAIN;
    throw kernelError('recv', errno);
  },

  setsockopt(fd: number, level: number, option: number, value: Buffer): void {
    check(`setsockopt(${level}, ${option})`, libc.setsockopt(fd, level, option, value, value.length));
  },

  /** Moves the calling (main) thread into a namespace. */
  setns(fd: number, type: number): void {
    check('setns', libc.setns(fd, type));
  },

  open(path: string, flags: number): number {
    return check(`open ${path}`, libc.open(path, flags));
  },

  close(fd: number): void {
    check('close', libc.close(fd));
  },

  fcntl(fd: number, cmd: number, arg: number): number {
    return check('fcntl', libc.fcntl(fd, cmd, arg));
  },

  /** Maps `length` bytes of `fd` from `offset`, shared with the kernel. Never unmapped: lives as long as the process. */
  mmap(fd: number, length: number, protection: number, offset = 0): Buffer {
    const pointer = libc.mmap(ffi.NULL, length, protection, MAP_SHARED, fd, offset) as Buffer;
    // MAP_FAILED is -1; an address as a double is not exact up there, but no address of ours is.
    if (ffi.isNull(pointer) || ffi.address(pointer) >= 1n << 63n) throw kernelError('mmap', ffi.errno());
    return ffi.memoryAt(pointer, length);
  },

  ifNameToIndex(name: string): number {
    const index = Number(libc.if_nametoindex(name));
    if (index === 0) throw kernelError(`interface ${name}`, ffi.errno());
    return index;
  },

  address: ffi.address,

  /** CLOCK_MONOTONIC, nanoseconds: the clock of bpf_ktime_get_ns(). */
  monotonicNs(): bigint {
    const ts = Buffer.alloc(16);
    check('clock_gettime', libc.clock_gettime(CLOCK_MONOTONIC, ts));
    return ts.readBigInt64LE(0) * 1_000_000_000n + ts.readBigInt64LE(8);
  },

  /** Bytes. */
  get pageSize(): number {
    pageSize ??= Number(libc.sysconf(SC_PAGESIZE));
    return pageSize;
  },
};
