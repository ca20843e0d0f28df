/** The programs' per-CPU counters. */
import type { BpfMap } from '../kernel/libbpf/map.js';

/** A counter's sum over all CPUs, since the maps were created. @param index enum ea_counter */
export function sumOf(counters: Pick<BpfMap, 'lookupPerCpu'>, index: number): number {
  const key = Buffer.alloc(4);
  key.writeUInt32LE(index);
  return counters.lookupPerCpu(key).reduce((n, v) => n + Number(v.readBigUInt64LE(0)), 0);
}
