/** What a ClientHello of the size that browsers send costs to judge, by BPF_PROG_TEST_RUN. */
import type { BpfMap } from '../../../agent/kernel/libbpf/map.js';
import type { BpfProgram } from '../../../agent/kernel/libbpf/program.js';
import { load } from '../../../agent/kernel/loader.js';
import { PLAIN_IDS } from '../../../src/ids.js';
import { ENUMS } from '../../../src/image/layout.gen.js';
import { ACK, eth, IPV4, ip, PSH, tcp } from '../../attacks/craft.js';
import { Kernel } from '../../engines/engine.js';
import { Connection, irOf, POD, SERVER } from '../../said/bed.js';
import { alpn, makeHello, records, serverName } from '../../said/make.js';
import { benchObject } from '../bpf-objects.js';
import { tenths, timeOf } from '../packet.js';
import { atMost, median, type Result } from '../result.js';
import { snapshot } from '../worlds.js';

export const HELLO_BYTES = 1800;
const MOST_US = 3;
/** Of 128 connections each, on which it is the first thing that is said: as many as an endpoint has buffers for. */
const BATCHES = 40;
const NAMES = ['www.example.com', '*.example.org', '**.cdn.example.net'];
const PORT = 443;

/** A hello of 1.8 KB whose name stands behind the keys, as a browser's may. */
export function helloOf(name: string, bytes = HELLO_BYTES): Buffer {
  const make = (keys: number) =>
    records(makeHello({ extensions: [alpn('h2', 'http/1.1'), [51, Buffer.alloc(keys, 9)], serverName(name)] }));
  return make(bytes - make(0).length);
}

/** A connection's first segment. */
function segment(c: Connection, payload: Buffer): Buffer {
  const numbers = { seq: c.first.fromPod, ack: c.first.toPod };
  const l4 = tcp(c.port, c.dport, payload, { flags: ACK | PSH, ...numbers });
  return eth({ src: '02:00:00:00:00:02', dst: '02:00:00:00:00:01' }, IPV4, ip({ src: POD, dst: SERVER }, l4));
}

/** Nanoseconds of each batch of hellos, less what a program that only writes the port takes. Throws if one is not judged. */
export function helloTimes(batches: number): { times: number[]; bytes: number } {
  const programs = load({ objectPath: benchObject('hellos'), sizes: { flows: 65_536, events: 1 << 20 } });
  const kernel = new Kernel(programs, PLAIN_IDS);
  try {
    kernel.use({ ir: irOf([{ serverNames: NAMES }]), snapshot: snapshot() });
    kernel.become('default/web');
    const ports = programs.maps.hello_ports as BpfMap;
    const { hello_sent: sent, hello_floor: floor } = programs.all as Record<string, BpfProgram>;
    const bytes = helloOf(NAMES[0] as string);
    const counters = programs.maps.counters as BpfMap;
    const key = Buffer.alloc(4);
    key.writeUInt32LE(ENUMS.ea_counter.EA_COUNT_SAID_JUDGED);
    const judged = () => counters.lookupPerCpu(key).reduce((n, v) => n + Number(v.readBigUInt64LE(0)), 0);
    const memory = ports.mmap();
    const batch = (n: number) => {
      const connections = Array.from(
        { length: ports.maxEntries },
        (_, i) => new Connection(kernel, 1024 + n * ports.maxEntries + i, PORT),
      );
      for (const [i, c] of connections.entries()) {
        c.open();
        // Port and checksum stand at the beginning of TCP's header, and 16 bytes behind it.
        const frame = segment(c, bytes);
        frame.copy(memory, i * 8, 34, 36);
        frame.copy(memory, i * 8 + 2, 50, 52);
      }
      const frame = segment(connections[0] as Connection, bytes);
      const before = judged();
      const time = timeOf(sent as BpfProgram, frame, ports.maxEntries);
      if (judged() - before !== ports.maxEntries) throw new Error(`${judged() - before} hellos were judged`);
      for (const c of connections) c.acknowledge(bytes.length);
      return time - timeOf(floor as BpfProgram, frame, ports.maxEntries * 100);
    };
    return { times: Array.from({ length: batches }, (_, n) => batch(n)), bytes: bytes.length };
  } finally {
    kernel.close();
  }
}

export function hello(): Result[] {
  const { times, bytes } = helloTimes(BATCHES);
  const [least, middle] = [Math.min(...times), median(times)];
  const text = `${bytes} bytes, checksum and event with it; ${tenths(middle / 1000)} µs in the median batch`;
  return [atMost('a ClientHello of 1.8 KB is judged', least / 1000, 'µs', text, MOST_US)];
}
