/** bpf(2) with the buffers that its argument points to, and the smallest possible program. */
import { sys } from './libbpf/sys.js';

const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_SCHED_CLS = 3;

/** Buffers whose addresses the running call uses: referenced here so that the garbage collector keeps them. */
let liveBuffers: readonly Buffer[] = [];

/** bpf(2). `attr`: union bpf_attr; `pointedTo`: every buffer whose address is in it. Throws KERNEL. */
export function bpf(cmd: number, attr: Buffer, ...pointedTo: Buffer[]): number {
  liveBuffers = [attr, ...pointedTo];
  try {
    return sys.bpf(cmd, attr);
  } finally {
    liveBuffers = liveBuffers.slice(0, 0);
  }
}

/** Loads a tc program `return value;` for probes and tests. Returns its fd, which the caller closes. Throws KERNEL. */
export function loadConstant(value: number): number {
  // r0 = value; exit (linux/bpf.h, struct bpf_insn)
  const insns = Buffer.from('b7000000000000009500000000000000', 'hex');
  insns.writeInt32LE(value, 4);
  const licence = Buffer.from('GPL\0');
  const attr = Buffer.alloc(128);
  attr.writeUInt32LE(BPF_PROG_TYPE_SCHED_CLS, 0);
  attr.writeUInt32LE(insns.length / 8, 4);
  attr.writeBigUInt64LE(sys.address(insns), 8);
  attr.writeBigUInt64LE(sys.address(licence), 16);
  return bpf(BPF_PROG_LOAD, attr, insns, licence);
}
