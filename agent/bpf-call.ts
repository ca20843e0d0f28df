/** bpf(2) with the buffers that its argument points to, and the smallest of programs. */
import { sys } from './libbpf/sys.js';

const BPF_PROG_LOAD = 5;
const BPF_PROG_TYPE_SCHED_CLS = 3;

/** Buffers whose addresses the running call was given: what the collector must not take meanwhile. */
let held: readonly Buffer[] = [];

/** `attr`: union bpf_attr; `pointedTo`: every buffer whose address is in it. Throws KERNEL. */
export function bpf(cmd: number, attr: Buffer, ...pointedTo: Buffer[]): number {
  held = [attr, ...pointedTo];
  try {
    return sys.bpf(cmd, attr);
  } finally {
    held = held.slice(0, 0);
  }
}

/** Loads a tc program that is `return value;`, for probes and tests; its fd, for the caller to close. Throws KERNEL. */
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
