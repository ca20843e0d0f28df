/**
 * sysfs of the agent's own network namespace. /sys shows the devices of the namespace in which it was mounted, which
 * may be another one. So the agent makes a mount of its own, reached by a descriptor and attached to no directory.
 */
import * as ffi from './ffi.js';

const syscall = (args: readonly ffi.CType[]) =>
  ffi.library('libc.so.6', { syscall: ['long', ['long', ...args]] }).syscall;
const calls = {
  fsopen: syscall(['pointer', 'long']),
  fsconfig: syscall(['long', 'long', 'pointer', 'pointer', 'long']),
  fsmount: syscall(['long', 'long', 'long']),
};
/** Numbers of the system calls, the same on all architectures. */
const NR = { fsopen: 430, fsconfig: 431, fsmount: 432 };
const CLOEXEC = 1;
const CMD_CREATE = 6;
const READ_ONLY = 1;

/** Path of the mount; undefined before the first use. */
let root: string | undefined;

/** Root of that sysfs; `/sys` if the agent may not mount (no CAP_SYS_ADMIN) or the kernel cannot (before 5.2). */
export function ownSysfs(): string {
  root ??= mountSysfs() ?? '/sys';
  return root;
}

function mountSysfs(): string | undefined {
  const context = Number(calls.fsopen(NR.fsopen, Buffer.from('sysfs\0'), CLOEXEC));
  if (context < 0) return undefined;
  if (Number(calls.fsconfig(NR.fsconfig, context, CMD_CREATE, ffi.NULL, ffi.NULL, 0)) < 0) return undefined;
  const mount = Number(calls.fsmount(NR.fsmount, context, CLOEXEC, READ_ONLY));
  return mount < 0 ? undefined : `/proc/self/fd/${mount}`;
}
