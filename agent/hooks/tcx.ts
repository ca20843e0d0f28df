/**
 * tcx links (kernel 6.6) by bpf(2): linux/bpf.h, union bpf_attr. A pinned link stays attached
 * without the agent, and a later agent replaces its program in one step.
 */
import { AgentError } from '../../src/errors.js';
import { bpf, loadConstant } from '../kernel/calls.js';
import type { Direction } from './hook-kind.js';
import { sys } from '../kernel/libbpf/sys.js';

const BPF_OBJ_PIN = 6;
const BPF_OBJ_GET = 7;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_PROG_QUERY = 16;
const BPF_LINK_CREATE = 28;
const BPF_LINK_UPDATE = 29;
const BPF_LINK_DETACH = 34;

const BPF_LINK_TYPE_TCX = 11;
const ATTACH_TYPE: Record<Direction, number> = { ingress: 46, egress: 47 };
const BPF_F_BEFORE = 1 << 3;
const TCX_NEXT = -1;

export interface TcxLinkInfo {
  readonly id: number;
  readonly programId: number;
  /** 0 if the device no longer exists, or the link was detached. */
  readonly ifindex: number;
  readonly direction: Direction | undefined;
}

function errnoOf(e: unknown): string | undefined {
  return e instanceof AgentError ? e.errno : undefined;
}

/**
 * Whether the kernel has tcx. Requests a link on a device that cannot exist: a kernel with tcx
 * looks for the device and returns ENODEV; one without does not know the attach type and
 * returns EINVAL. Throws KERNEL for any other answer (EPERM …).
 */
export function probeTcx(): boolean {
  const program = loadConstant(TCX_NEXT);
  try {
    sys.close(createLink(program, 0x7fffffff, 'ingress'));
    return true;
  } catch (e) {
    if (errnoOf(e) === 'ENODEV') return true;
    if (errnoOf(e) === 'EINVAL') return false;
    throw e;
  } finally {
    sys.close(program);
  }
}

/** Attaches a program ahead of all others of the hook. Returns the link's fd. Throws KERNEL. */
export function createLink(programFd: number, ifindex: number, direction: Direction): number {
  // prog_fd, target_ifindex, attach_type, flags; no relative: before everything.
  const a = Buffer.alloc(64);
  a.writeUInt32LE(programFd, 0);
  a.writeUInt32LE(ifindex, 4);
  a.writeUInt32LE(ATTACH_TYPE[direction], 8);
  a.writeUInt32LE(BPF_F_BEFORE, 12);
  return bpf(BPF_LINK_CREATE, a);
}

/** Replaces the link's program: each packet meets the old one or the new one. Throws KERNEL. */
export function updateLink(linkFd: number, programFd: number): void {
  const a = Buffer.alloc(64);
  a.writeUInt32LE(linkFd, 0);
  a.writeUInt32LE(programFd, 4);
  bpf(BPF_LINK_UPDATE, a);
}

/** Detaches the link's program, also if others hold the link. Throws KERNEL. */
export function detachLink(linkFd: number): void {
  const a = Buffer.alloc(64);
  a.writeUInt32LE(linkFd, 0);
  bpf(BPF_LINK_DETACH, a);
}

function pathAttr(path: string, fd: number): { attr: Buffer; path: Buffer } {
  const text = Buffer.from(`${path}\0`);
  const a = Buffer.alloc(64);
  a.writeBigUInt64LE(sys.address(text), 0);
  a.writeUInt32LE(fd, 8);
  return { attr: a, path: text };
}

/** Pins an object at a path. Throws KERNEL: EEXIST if the path exists. */
export function pin(fd: number, path: string): void {
  const p = pathAttr(path, fd);
  bpf(BPF_OBJ_PIN, p.attr, p.path);
}

/** An fd of the object pinned at `path`; undefined if there is none. Throws KERNEL. */
export function openPinned(path: string): number | undefined {
  const p = pathAttr(path, 0);
  try {
    return bpf(BPF_OBJ_GET, p.attr, p.path);
  } catch (e) {
    if (errnoOf(e) === 'ENOENT') return undefined;
    throw e;
  }
}

function infoByFd(fd: number, length: number): Buffer {
  const info = Buffer.alloc(length);
  const a = Buffer.alloc(64);
  a.writeUInt32LE(fd, 0);
  a.writeUInt32LE(length, 4);
  a.writeBigUInt64LE(sys.address(info), 8);
  bpf(BPF_OBJ_GET_INFO_BY_FD, a, info);
  return info;
}

/** struct bpf_link_info; undefined for a link of another type. Throws KERNEL. */
export function linkInfo(linkFd: number): TcxLinkInfo | undefined {
  const info = infoByFd(linkFd, 64);
  if (info.readUInt32LE(0) !== BPF_LINK_TYPE_TCX) return undefined;
  const type = info.readUInt32LE(20);
  return {
    id: info.readUInt32LE(4),
    programId: info.readUInt32LE(8),
    ifindex: info.readUInt32LE(16),
    direction: type === ATTACH_TYPE.ingress ? 'ingress' : type === ATTACH_TYPE.egress ? 'egress' : undefined,
  };
}

/** The kernel id of a loaded program (struct bpf_prog_info, id). Throws KERNEL. */
export function programId(programFd: number): number {
  return infoByFd(programFd, 8).readUInt32LE(4);
}

/** Ids of the programs at a tcx hook, in the order in which they run. Throws KERNEL. */
export function queryPrograms(ifindex: number, direction: Direction): number[] {
  const MAX = 64;
  const ids = Buffer.alloc(4 * MAX);
  const a = Buffer.alloc(64);
  a.writeUInt32LE(ifindex, 0);
  a.writeUInt32LE(ATTACH_TYPE[direction], 4);
  a.writeBigUInt64LE(sys.address(ids), 16);
  a.writeUInt32LE(MAX, 24);
  bpf(BPF_PROG_QUERY, a, ids);
  const count = Math.min(a.readUInt32LE(24), MAX);
  return Array.from({ length: count }, (_, i) => ids.readUInt32LE(4 * i));
}
