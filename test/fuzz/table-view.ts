/** The flow table as tests read it: whatever it is made of, its entries, one by one. */
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { ENUMS, STRUCTS } from '../../src/image/layout.gen.js';

const { ea_flow_key: KEY, ea_flow: FLOW } = STRUCTS;

export interface TableEntry {
  /** struct ea_flow_key. */
  readonly key: Buffer;
  readonly verdict: number;
  readonly rule: number;
  readonly reason: number;
  readonly flags: number;
  readonly epoch: number;
  readonly packetsOut: number;
  readonly packetsIn: number;
  readonly drops: number;
  /** CLOCK_MONOTONIC; 0 in no entry that is whole. */
  readonly createdNs: bigint;
}

export interface TableView {
  /** Each entry, as it is at that moment; entries that come or go meanwhile may be left out. */
  entries(): Iterable<TableEntry>;
  /** Packets that the counters of entries may lack, at most: who found others at work for too long was judged alone, and that is counted. */
  uncounted(): number;
  /** Whether a pass shows no key twice while others write. When nobody does, none may. */
  readonly onceWhileWritten: boolean;
}

/** The agent's own view: each entry as it is at one moment. */
export class MappedTableView implements TableView {
  readonly onceWhileWritten = false;

  constructor(
    private readonly flows: BpfMap,
    private readonly counters: BpfMap,
  ) {}

  uncounted(): number {
    const key = Buffer.alloc(4);
    key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_FLOWS_NOT_STORED);
    return this.counters.lookupPerCpu(key).reduce((n, v) => n + Number(v.readBigUInt64LE(0)), 0);
  }

  *entries(): Iterable<TableEntry> {
    for (const { keys, values, count } of this.flows.batches(4096))
      for (let i = 0; i < count; i++)
        yield entryOf(
          Buffer.from(keys.subarray(i * KEY.size, (i + 1) * KEY.size)),
          values.subarray(i * FLOW.size, (i + 1) * FLOW.size),
        );
  }
}

function entryOf(key: Buffer, flow: Buffer): TableEntry {
  const { fields: f } = FLOW;
  const u64 = (at: { offset: number }) => Number(flow.readBigUInt64LE(at.offset));
  return {
    key,
    verdict: flow.readUInt8(f.verdict.offset),
    rule: u64(f.rule),
    reason: flow.readUInt8(f.reason.offset),
    flags: flow.readUInt8(f.flags.offset),
    epoch: flow.readUInt32LE(f.epoch.offset),
    packetsOut: u64(f.packets_out) + u64(f.shared_packets_out),
    packetsIn: u64(f.packets_in) + u64(f.shared_packets_in),
    drops: u64(f.drops),
    createdNs: flow.readBigUInt64LE(f.created_ns.offset),
  };
}
