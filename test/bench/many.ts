/** First packets to many addresses in turn, by BPF_PROG_TEST_RUN: what remembers addresses does not know the next one. */
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import type { BpfProgram } from '../../agent/kernel/libbpf/program.js';
import { load } from '../../agent/kernel/loader.js';
import { Kernel } from '../engines/engine.js';
import { frame } from '../engines/packets.js';
import { benchObject } from './bpf-objects.js';
import { leastOf, quiet, tenths, timeOf } from './packet.js';
import { atMost, progress, type Result } from './result.js';
import { cidr, POD_IP, world } from './worlds.js';

const NETWORKS = 100_000;
const POLICIES = [10, 1000];
/** Entries of the flow table: room for a flow to each address. */
const FLOWS = 16_384;
const TCP = 6;
const SYN = 2;
const SPORT = 5000;
const MOST = 9;

interface Many {
  readonly kernel: Kernel;
  /** Its destination is written by the programs. */
  readonly packet: Buffer;
  /** Nanoseconds a packet; of a program that only writes the address, and of what judges it. */
  readonly floor: () => number;
  readonly sent: () => number;
}

/** As firstPacketTime(), but each packet goes to another address than the one before; memory as in production. */
export function manyAddresses(policies: number, networks = NETWORKS): Many {
  const kernel = new Kernel(load({ objectPath: benchObject('many'), sizes: { flows: FLOWS, events: 1 << 20 } }));
  quiet(kernel.programs.maps.state as BpfMap);
  kernel.use(world(policies, networks));
  kernel.become('default/web');
  const addresses = kernel.programs.maps.many_addresses as BpfMap;
  const memory = addresses.mmap();
  const first = (to: string) => frame({ to, protocol: TCP, port: 7 }, { src: POD_IP, sport: SPORT, tcpFlags: SYN });
  for (let i = 0; i < addresses.maxEntries; i++) {
    const to = cidr(Math.floor((i * networks) / addresses.maxEntries)).slice(0, -3);
    memory.set(to.split('.').map(Number), i * 8);
    // The peer opens it: what goes the other way is denied, and no flow of it is remembered.
    kernel.run(frame({ to: POD_IP, protocol: TCP, port: SPORT }, { src: to, sport: 7, tcpFlags: SYN }), 'toPod');
    if (kernel.run(first(to)).verdict !== 'deny') throw new Error('a first packet that was to be denied passes');
  }
  const packet = first(cidr(0).slice(0, -3));
  const time = (name: string) => () =>
    timeOf(kernel.programs.all[name] as BpfProgram, packet, 500 * addresses.maxEntries);
  return { kernel, packet, floor: time('many_floor'), sent: time('many_sent') };
}

export function manyFirstPackets(): Result[] {
  const all = POLICIES.map((policies) => manyAddresses(policies));
  try {
    const [floor = Number.NaN, ...sent] = leastOf([(all[0] as Many).floor, ...all.map((m) => m.sent)]);
    return POLICIES.map((policies, i) => {
      const ns = sent[i] as number;
      const what = `${Math.round(ns)} ns with ${policies.toLocaleString('en')} policies, ${tenths(floor)} ns of a program that only writes the address`;
      progress(`first packet, many addresses: ${what}`);
      const name = `first packet of a flow, addresses new to the memory, ${policies.toLocaleString('en')} policies, against the floor`;
      return atMost(name, ns / floor, 'x', what, MOST);
    });
  } finally {
    for (const { kernel } of all) kernel.close();
  }
}
