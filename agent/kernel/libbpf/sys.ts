/** The agent's system calls, with types. A failing call throws AgentError KERNEL with its errno. */
import { AgentError } from '../../../src/errors.js';
import * as ffi from './ffi.js';

const libc = ffi.library('libc.so.6', {
  syscall: ['long', ['long', 'long', 'pointer', 'long']],
  socket: ['int', ['int', 'int', 'int']],
  bind: ['int', ['int', 'pointer', 'uint']],
  connect: ['int', ['int', 'pointer', 'uint']],
  send: ['long', ['int', 'pointer', 'size_t', 'int']],
  recv: ['long', ['int', 'pointer', 'size_t', 'int']],
  setsockopt: ['int', ['int', 'int', 'int', 'pointer', 'uint']],
  getsockopt: ['int', ['int', 'int', 'int', 'pointer', 'pointer']],
  flock: ['int', ['int', 'int']],
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
/** Wait instead of MEMBARRIER where the kernel refuses it (nohz_full): longer than any program runs. Milliseconds. */
const GRACE_PERIOD_MS = 20;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));
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
  14: 'BPF_MAP_GET_FD_BY_ID',
  15: 'BPF_OBJ_GET_INFO_BY_FD',
  24: 'BPF_MAP_LOOKUP_BATCH',
  26: 'BPF_MAP_UPDATE_BATCH',
  27: 'BPF_MAP_DELETE_BATCH',
  28: 'BPF_LINK_CREATE',
  29: 'BPF_LINK_UPDATE',
};

/** Buffers that the running call points to: referenced here so that the garbage collector keeps them. */
const liveBuffers: (readonly (Buffer | undefined)[])[] = [];

const CLOCK_MONOTONIC = 1;
const CLOCK_BOOTTIME = 7;
const SC_PAGESIZE = 30;
export const EAGAIN = 11;

export const PROT_READ = 1;
export const PROT_WRITE = 2;
const MAP_SHARED = 1;
/** sys/file.h */
const LOCK_EX = 2;
const LOCK_NB = 4;

function check(what: string, result: unknown): number {
  const n = Number(result);
  if (n >= 0) return n;
  throw kernelError(what, ffi.errno());
}

/** The error of a failed call. @param what the call, for the message. @param errno positive or negative */
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
   * bpf(2). `attr` is union bpf_attr; `pointedTo` are the buffers whose addresses it contains:
   * the garbage collector must not free them before the call returns.
   */
  bpf(cmd: number, attr: Buffer, ...pointedTo: (Buffer | undefined)[]): number {
    const nr = NR_BPF[process.arch];
    if (nr === undefined) throw new AgentError('KERNEL', `no bpf(2) known for ${process.arch}`);
    liveBuffers.push(pointedTo);
    try {
      return check(BPF_COMMANDS[cmd] ?? `bpf(${cmd})`, libc.syscall(nr, cmd, attr, attr.length));
    } finally {
      liveBuffers.pop();
    }
  },

  /** Resolves when every BPF program that runs at the call, on any CPU, has ended: some tens of milliseconds. */
  async programsEnded(): Promise<void> {
    const nr = NR_MEMBARRIER[process.arch];
    if (nr !== undefined && Number(await libc.syscall.inThread(nr, MEMBARRIER_CMD_GLOBAL, ffi.NULL, 0)) === 0) return;
    await new Promise((resolve) => setTimeout(resolve, GRACE_PERIOD_MS));
  },

  /** The same, blocking. */
  waitForPrograms(): void {
    const nr = NR_MEMBARRIER[process.arch];
    if (nr !== undefined && Number(libc.syscall(nr, MEMBARRIER_CMD_GLOBAL, ffi.NULL, 0)) === 0) return;
    Atomics.wait(sleepWord, 0, 0, GRACE_PERIOD_MS);
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

  /** @param addr struct sockaddr of the family */
  connect(fd: number, addr: Buffer): void {
    check('connect', libc.connect(fd, addr, addr.length));
  },

  /** Sends a datagram on a socket that does not block. @returns whether there was room for it */
  sendNow(fd: number, data: Buffer, flags: number): boolean {
    if (Number(libc.send(fd, data, data.length, flags)) >= 0) return true;
    const errno = ffi.errno();
    if (errno === EAGAIN) return false;
    throw kernelError('send', errno);
  },

  /** Bytes received; -11 (EAGAIN) if the queue is empty and the socket does not block. */
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

  /** Reads the option's value into `into`. */
  getsockopt(fd: number, level: number, option: number, into: Buffer): void {
    const length = Buffer.alloc(4);
    length.writeUInt32LE(into.length);
    check(`getsockopt(${level}, ${option})`, libc.getsockopt(fd, level, option, into, length));
  },

  /** flock(2), exclusive and non-blocking. @returns whether the lock was acquired */
  lock(fd: number): boolean {
    if (Number(libc.flock(fd, LOCK_EX | LOCK_NB)) === 0) return true;
    const errno = ffi.errno();
    if (errno === EAGAIN) return false;
    throw kernelError('flock', errno);
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

  /** Maps `length` bytes of `fd` from `offset`, shared with the kernel, for as long as the process lives. */
  mmap(fd: number, length: number, protection: number, offset = 0): Buffer {
    const pointer = libc.mmap(ffi.NULL, length, protection, MAP_SHARED, fd, offset) as Buffer;
    // MAP_FAILED is -1. An address near it is inexact as a double, but no address of user space is that high.
    if (ffi.isNull(pointer) || ffi.address(pointer) >= 1n << 63n) throw kernelError('mmap', ffi.errno());
    return ffi.memoryAt(pointer, length);
  },

  /** Index of the interface of this name in the thread's namespace. */
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

  /** CLOCK_BOOTTIME, whole seconds: the clock of bpf_ktime_get_boot_ns(), in which learned names expire. */
  bootSeconds(): number {
    const ts = Buffer.alloc(16);
    check('clock_gettime', libc.clock_gettime(CLOCK_BOOTTIME, ts));
    return Number(ts.readBigInt64LE(0));
  },

  /** Size of a page, bytes. */
  get pageSize(): number {
    pageSize ??= Number(libc.sysconf(SC_PAGESIZE));
    return pageSize;
  },
};
