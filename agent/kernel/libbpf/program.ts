/** A loaded program by its descriptor, and BPF_PROG_TEST_RUN. */
import { sys } from './sys.js';

const PROG_TEST_RUN = 10;
const OBJ_GET_INFO_BY_FD = 15;

export interface TestRunOptions {
  /** Times to run it; the mean duration is reported. */
  repeat?: number;
  /** struct __sk_buff with the fields to set; see sk_buff() in the tests. */
  ctx?: Buffer;
  /** Bytes of room for the packet after the run; 0: not returned. */
  dataOutSize?: number;
}

export interface TestRunResult {
  /** As a signed number: TC_ACT_UNSPEC is -1. */
  retval: number;
  /** Mean duration of a run, nanoseconds. */
  durationNs: number;
  dataOut: Buffer;
  ctxOut?: Buffer;
}

export class BpfProgram {
  constructor(
    readonly fd: number,
    readonly name: string,
  ) {}

  /** The program's kernel id, as bpftool and tc show it. Throws KERNEL. */
  get id(): number {
    // struct bpf_prog_info: type, id.
    const info = Buffer.alloc(8);
    const attr = Buffer.alloc(16);
    attr.writeUInt32LE(this.fd, 0);
    attr.writeUInt32LE(info.length, 4);
    attr.writeBigUInt64LE(sys.address(info), 8);
    sys.bpf(OBJ_GET_INFO_BY_FD, attr, info);
    return info.readUInt32LE(4);
  }

  /** Runs the program on a packet (from the Ethernet header on). Throws KERNEL. */
  testRun(packet: Buffer, opts: TestRunOptions = {}): TestRunResult {
    const attr = Buffer.alloc(80);
    const out = Buffer.alloc(opts.dataOutSize ?? 0);
    const ctxOut = opts.ctx ? Buffer.alloc(opts.ctx.length) : undefined;
    attr.writeUInt32LE(this.fd, 0);
    attr.writeUInt32LE(packet.length, 8);
    attr.writeUInt32LE(out.length, 12);
    attr.writeBigUInt64LE(sys.address(packet), 16);
    if (out.length > 0) attr.writeBigUInt64LE(sys.address(out), 24);
    attr.writeUInt32LE(opts.repeat ?? 1, 32);
    if (opts.ctx && ctxOut) {
      attr.writeUInt32LE(opts.ctx.length, 40);
      attr.writeUInt32LE(ctxOut.length, 44);
      attr.writeBigUInt64LE(sys.address(opts.ctx), 48);
      attr.writeBigUInt64LE(sys.address(ctxOut), 56);
    }
    sys.bpf(PROG_TEST_RUN, attr, packet, out, opts.ctx, ctxOut);
    return {
      retval: attr.readInt32LE(4),
      durationNs: attr.readUInt32LE(36),
      dataOut: out.subarray(0, attr.readUInt32LE(12)),
      ctxOut,
    };
  }
}
