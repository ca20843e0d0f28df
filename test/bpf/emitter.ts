/** A program that copies the packet it is run on into a ring buffer: events as tests like them, without C. */
import { BpfMap, MapType } from '../../agent/kernel/libbpf/map.js';
import { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';

const PROG_LOAD = 5;
const SCHED_CLS = 3;

/** struct bpf_insn: opcode, registers, offset, immediate. */
function insn(code: number, dst: number, src: number, off: number, imm: number): Buffer {
  const b = Buffer.alloc(8);
  b.writeUInt8(code, 0);
  b.writeUInt8(dst | (src << 4), 1);
  b.writeInt16LE(off, 2);
  b.writeInt32LE(imm, 4);
  return b;
}

const MOV = 0xb7;
const MOV_REG = 0xbf;
const ADD = 0x07;
const CALL = 0x85;
const JNE = 0x55;
const SKB_LOAD_BYTES = 26;
const RINGBUF_OUTPUT = 130;
const NO_WAKEUP = 1;

/** Bytes of a packet that go into the ring. @param size a multiple of 8, at most 512 */
export function emitter(events: BpfMap, size: number): BpfProgram {
  const insns = Buffer.concat([
    insn(MOV, 2, 0, 0, 0),
    insn(MOV_REG, 3, 10, 0, 0),
    insn(ADD, 3, 0, 0, -size),
    insn(MOV, 4, 0, 0, size),
    insn(CALL, 0, 0, 0, SKB_LOAD_BYTES),
    insn(JNE, 0, 0, 7, 0),
    insn(0x18, 1, 1, 0, events.fd), // r1 = the map
    insn(0, 0, 0, 0, 0),
    insn(MOV_REG, 2, 10, 0, 0),
    insn(ADD, 2, 0, 0, -size),
    insn(MOV, 3, 0, 0, size),
    insn(MOV, 4, 0, 0, NO_WAKEUP),
    insn(CALL, 0, 0, 0, RINGBUF_OUTPUT),
    insn(0x95, 0, 0, 0, 0), // exit with what the helper returned
  ]);
  const licence = Buffer.from('GPL\0');
  const attr = Buffer.alloc(128);
  attr.writeUInt32LE(SCHED_CLS, 0);
  attr.writeUInt32LE(insns.length / 8, 4);
  attr.writeBigUInt64LE(sys.address(insns), 8);
  attr.writeBigUInt64LE(sys.address(licence), 16);
  return new BpfProgram(sys.bpf(PROG_LOAD, attr, insns, licence), 'emitter');
}

export function ring(bytes: number): BpfMap {
  return BpfMap.create({ name: 'ea_ring', type: MapType.RINGBUF, keySize: 0, valueSize: 0, maxEntries: bytes });
}
