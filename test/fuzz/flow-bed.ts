/**
 * The hooks of a node, one behind the other: a network namespace with a device for each pod and an uplink, so that BPF_PROG_TEST_RUN can
 * name where a packet is and where it came in (`ifindex`, `ingress_ifindex`), and connections in its conntrack, made over ctnetlink, so that
 * a masqueraded source is found as it is for real packets. What that call cannot make: a packet without a socket (who came from no device
 * counts as the node's own), one that carries its connection, one that a tunnel has wrapped.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { sys } from '../../agent/kernel/libbpf/sys.js';
import type { Programs } from '../../agent/kernel/loader.js';
import { KernelMapStore } from '../../agent/maps/store.js';
import { inNetns } from '../../agent/netlink/netlink.js';
import { Compiler } from '../../src/compile/index.js';
import type { EndpointBinding } from '../../src/image/store.js';
import { loadForTest, SKB_IFINDEX, SKB_INGRESS, SKB_SIZE } from '../engines/engine.js';
import { Conntrack } from './conntrack.js';
import type { Memory, Tuple } from './flow-types.js';
import { IPS, KEYS, type Moment, PODS } from './flow-world.js';
import { checkTable } from '../engines/table-check.js';
import { DROP, type Hook, PASS } from './kernel.js';

const PROG_TEST_RUN = 10;
/** Offset in struct ea_state of what turns on the post-DNAT check at uplinks. */
const POST_DNAT = 8;
const MAPS = ['flows', 'fragments', 'pending', 'queries', 'drop_notes'];

export type Device = (typeof PODS)[number] | 'node';

export class Bed {
  readonly #name = `fuzz-${process.pid}`;
  readonly #devices = new Map<Device, number>();
  readonly #fd: number;
  readonly #programs: Programs;
  readonly #store: KernelMapStore;
  readonly #conntrack: Conntrack;
  readonly #compiler = new Compiler();
  readonly #ctx = Buffer.alloc(SKB_SIZE);
  readonly #ctxOut = Buffer.alloc(SKB_SIZE);
  readonly #attr = Buffer.alloc(80);
  #hasServices = false;

  constructor() {
    const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
    ip('netns', 'add', this.#name);
    try {
      this.#fd = openSync(`/run/netns/${this.#name}`, 'r');
      for (const device of [...PODS, 'node'])
        ip('-n', this.#name, 'link', 'add', device, 'type', 'veth', 'peer', 'name', `${device}-peer`);
      for (const device of [...PODS, 'node'] as const)
        this.#devices.set(
          device,
          this.inside(() => sys.ifNameToIndex(device)),
        );
      this.#conntrack = new Conntrack(this.#fd);
      this.#programs = loadForTest();
    } catch (e) {
      ip('netns', 'del', this.#name);
      throw e;
    }
    this.#store = new KernelMapStore(this.#programs.maps);
  }

  /** Packets are sent, and devices named, from inside. */
  inside<T>(fn: () => T): T {
    return inNetns(this.#fd, fn);
  }

  use({ world: { ir, snapshot } }: Moment): void {
    const image = this.#compiler.compile(ir, snapshot, Object.values(KEYS));
    this.#hasServices = image.services.size > 0;
    this.#store.apply(
      image,
      [...this.#devices].map(([device, ifindex], i): EndpointBinding => {
        const kind = device === 'node' ? 'uplink' : 'pod';
        return {
          key: KEYS[device],
          uid: device,
          ifindex,
          ifname: device,
          id: i + 1,
          mac: '',
          ips: IPS[device],
          kind,
          l3: false,
        };
      }),
    );
    if (!this.#store.settled) this.#store.tidy();
  }

  /** Nothing was ever sent, and there were no other Services than those in force. */
  begin(): void {
    for (const name of MAPS) this.#clear(name);
    this.#map('state')
      .mmap()
      .writeUInt32LE(this.#hasServices ? 1 : 0, POST_DNAT);
    this.#conntrack.clear();
  }

  forget(what: Exclude<Memory, 'conntrack'>): void {
    this.#clear(what);
  }

  connected(first: Tuple, reply: Tuple): void {
    this.#conntrack.add(first, reply);
  }

  disconnected(first: Tuple): void {
    this.#conntrack.remove(first);
  }

  /** Whether it passes. `came`: through which device; undefined: it was made here. */
  passes(hook: Hook, at: Device, came: Device | undefined, bytes: Buffer): boolean {
    this.#ctx.writeUInt32LE(this.#devices.get(at) ?? 0, SKB_IFINDEX);
    this.#ctx.writeUInt32LE((came && this.#devices.get(came)) ?? 0, SKB_INGRESS);
    const attr = this.#attr.fill(0);
    attr.writeUInt32LE(this.#programs.programs[hook].fd, 0);
    attr.writeUInt32LE(bytes.length, 8);
    attr.writeBigUInt64LE(sys.address(bytes), 16);
    attr.writeUInt32LE(1, 32);
    attr.writeUInt32LE(SKB_SIZE, 40);
    attr.writeUInt32LE(SKB_SIZE, 44);
    attr.writeBigUInt64LE(sys.address(this.#ctx), 48);
    attr.writeBigUInt64LE(sys.address(this.#ctxOut), 56);
    sys.bpf(PROG_TEST_RUN, attr, bytes, this.#ctx, this.#ctxOut);
    const retval = attr.readInt32LE(4);
    if (retval !== PASS && retval !== DROP) throw new Error(`${hook} at ${at}: ${retval} is neither pass nor drop`);
    return retval === PASS;
  }

  /** Throws where the flow table is not as it must be. */
  close(): void {
    const wrong = checkTable(this.#programs.table);
    this.#store.close();
    this.#programs.close();
    this.#conntrack.close();
    closeSync(this.#fd);
    execFileSync('ip', ['netns', 'del', this.#name]);
    if (wrong.length > 0) throw new Error(`the flow table: ${wrong.slice(0, 5).join('; ')}`);
  }

  #clear(name: string): void {
    const map = this.#map(name);
    for (const { keys, count } of map.batches(1024)) map.deleteBatch(Buffer.from(keys), count);
  }

  #map(name: string): BpfMap {
    const map = this.#programs.maps[name] ?? this.#programs.beside[name as 'fragments'];
    if (!map) throw new Error(`no map ${name}`);
    return map;
  }
}
