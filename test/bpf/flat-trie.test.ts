/** The trie of IPv4 destinations: by its writer's word, by the program's, and by the plainest look-up that there is. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { compile } from '../../agent/kernel/build.js';
import { FlatTrie } from '../../agent/maps/tables/flat-trie.js';
import { Leftovers } from '../../agent/maps/books/leftovers.js';
import type { BpfMap } from '../../agent/kernel/libbpf/map.js';
import { load, type Programs } from '../../agent/kernel/loader.js';
import { leaf, NODE_SLOTS, NODES_FROM, reference, ROOT_BITS, TrieMemory } from '../../agent/maps/tables/trie-memory.js';
import { IPV4 } from '../../src/image/prefix.js';
import type { Destinations4 } from '../../src/image/types.js';
import { clangFlags } from '../../src/net/clang.js';
import { seeded } from '../fuzz/random.js';

const ROUNDS = Number(process.env.EA_ROUNDS ?? 60);
const random = seeded();
const BROKEN = 2n ** 64n - 1n;

/** Puts the class of the address at byte 16 of a packet behind it. */
const SOURCE = `
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "trie.h"
char LICENSE[] SEC("license") = "Dual BSD/GPL";
static __always_inline int tell(struct __sk_buff *skb) {
  __be32 addr;
  if (bpf_skb_load_bytes(skb, 16, &addr, 4)) return 1;
  __u64 found = class_of4(bpf_ntohl(addr));
  return bpf_skb_store_bytes(skb, 24, &found, 8, 0) ? 1 : 0;
}
${['from_pod', 'to_pod', 'uplink', 'uplink_in', 'clock', 'seed'].map((n) => `SEC("tc") int ${n}(struct __sk_buff *skb) { return tell(skb); }`).join('\n')}
`;

const dir = mkdtempSync(join(tmpdir(), 'ea-trie-'));
t.teardown(() => rmSync(dir, { recursive: true }));
const objectPath = join(dir, 'tell.o');
writeFileSync(join(dir, 'tell.c'), SOURCE);
const bpf = join(process.cwd(), 'bpf');
compile('clang', [...clangFlags(bpf), `-I${bpf}`], join(dir, 'tell.c'), objectPath);

const packet = Buffer.alloc(64);
/** By the program that reads the maps. */
function told({ programs }: Programs, address: number): bigint {
  packet.writeUInt32BE(address, 16);
  const { retval, dataOut } = programs.fromPod.testRun(packet, { dataOutSize: 64 });
  if (retval !== 0) throw new Error(`the program returned ${retval}`);
  return dataOut.readBigUInt64LE(24);
}

type Book = ReadonlyMap<number, number>;

/** Longest prefix match, by asking for each. */
function naive(book: Book, address: number): number {
  for (let length = 32; length >= 0; length--) {
    const classId = book.get(IPV4.shortened(address * 64 + 32, length));
    if (classId !== undefined) return classId;
  }
  return 0;
}

function listed(book: Book): Destinations4 {
  const keys = Float64Array.from(book.keys()).sort();
  return { keys, classes: Float64Array.from(keys, (key) => book.get(key) as number) };
}

/** Few places, so that prefixes lie inside each other and beside each other. */
const PLACES = [0, 0x0a000000, 0x0a0001f0, 0x0aff0000, 0xc0000200, 0xffffff00].map((a) => a >>> 0);

function randomKey(): number {
  const length = random.below(33);
  const address = (random.pick(PLACES) + (random.chance(50) ? random.below(512) : random.below(2 ** 31))) % 2 ** 32;
  return IPV4.shortened(address * 64 + 32, random.chance(40) ? 32 - random.below(8) : length);
}

/** Every address at which one of these begins or ends, and its neighbours. */
function edges(keys: Iterable<number>): number[] {
  const out = new Set<number>();
  for (const key of keys) {
    for (const at of [Math.floor(key / 64), Math.floor(IPV4.last(key) / 64)])
      for (const near of [at - 1, at, at + 1]) if (near >= 0 && near < 2 ** 32) out.add(near);
  }
  return [...out];
}

const classId = () => (random.chance(10) ? 2 ** 53 - 1 - random.below(9) : 3 + random.below(2 ** 31) * 2 ** 21);

/** Calls `look` after each store into the trie; it may throw, as if the agent died there. */
function watching<T>(look: (slot: number) => void, run: () => T): T {
  const plain = TrieMemory.prototype.store;
  TrieMemory.prototype.store = function (...args) {
    plain.apply(this, args);
    look(args[0]);
  };
  try {
    return run();
  } finally {
    TrieMemory.prototype.store = plain;
  }
}

t.test(`updates and deaths in the middle of them, FUZZ_SEED=${random.seed}`, async (t) => {
  const programs = load({ objectPath, sizes: { events: 65536 } });
  t.teardown(() => programs.close());
  let left = new Leftovers();
  let trie = new FlatTrie(programs.maps, left);
  trie.restore(listed(new Map()));
  let book = new Map<number, number>();
  const ever = new Set([0]);
  let [stores, states, deaths] = [0, 0, 0];
  for (let round = 0; round < ROUNDS; round++) {
    const next = new Map(book);
    const deletes = random.chance(40);
    const many = 1 + random.below(random.chance(20) ? 200 : 12);
    const keys = new Set<number>();
    for (let i = 0; i < many; i++) {
      if (!deletes) keys.add(random.chance(30) && book.size > 0 ? random.pick([...book.keys()]) : randomKey());
      else keys.add(book.size > 0 && random.chance(95) ? random.pick([...book.keys()]) : randomKey());
    }
    const writes = [...keys].sort((a, b) => a - b).map((key) => ({ key, classId: classId() }));
    if (deletes) for (const key of keys) next.delete(key);
    else for (const w of writes) next.set(w.key, w.classId);
    for (const key of keys) ever.add(key);
    const asked = edges(keys.size > 20 ? random.some([...keys], 20) : keys);
    const old = asked.map((a) => naive(book, a));
    const wanted = asked.map((a) => naive(next, a));
    const flipped = new Uint8Array(asked.length);
    const waits = new Set(left.nodes.keys());
    const first = stores;
    const look = (slot: number) => {
      stores++;
      const node = Math.floor((slot - NODES_FROM) / NODE_SLOTS);
      if (waits.has(node)) t.fail(`round ${round}: a node that packets may be in was written`);
      // Of a short prefix's many not all.
      if (stores - first > 1000 && stores % 97 !== 0) return;
      asked.forEach((address, i) => {
        states++;
        const now = trie.classAt(address);
        if (now !== old[i] && now !== wanted[i]) throw new Error(`round ${round}: ${address} is neither old nor new`);
        if (flipped[i] === 1 && now !== wanted[i]) throw new Error(`round ${round}: ${address} went back`);
        if (now !== old[i]) flipped[i] = 1;
      });
    };
    let until = random.chance(30) ? random.below(30) : Number.POSITIVE_INFINITY;
    const death = new Error('killed');
    try {
      watching(
        (slot) => {
          look(slot);
          if (until-- === 0) throw death;
        },
        () => {
          if (deletes) trie.delete([...keys]);
          else {
            trie.makeRoom(writes);
            trie.put(writes);
          }
        },
      );
    } catch (e) {
      if (e !== death) throw e;
      deaths++;
      left = new Leftovers();
      trie = new FlatTrie(programs.maps, left);
      waits.clear();
      watching(look, () => trie.restore(listed(next)));
    }
    book = next;
    if (random.chance(10)) {
      // Another agent comes: where all is right it writes nothing.
      left = new Leftovers();
      trie = new FlatTrie(programs.maps, left);
      watching(
        () => t.fail('written without need'),
        () => trie.restore(listed(book)),
      );
    }
    if (random.chance(50)) trie.release(left.moment + 1);
    const differences = trie.differences(listed(book));
    if (differences.length > 0) t.same(differences, [], `round ${round}`);
    for (const address of [...asked, ...random.some(edges(ever), 200)]) {
      const right = naive(book, address);
      if (trie.classAt(address) !== right) throw new Error(`round ${round}: ${address} by the agent`);
      if (told(programs, address) !== BigInt(right)) throw new Error(`round ${round}: ${address} by the program`);
    }
  }
  for (const address of edges(ever)) t.equal(told(programs, address), BigInt(naive(book, address)));
  t.ok(deaths > 2);
  t.comment(`${stores} stores, ${states} looks, ${deaths} deaths, ${book.size} prefixes in the end`);

  trie.delete([...book.keys()]);
  trie.release(left.moment + 1);
  t.same(trie.differences(listed(new Map())), [], 'nothing is left');
});

t.test('what somebody else wrote into it leads nowhere, is found and mended', async (t) => {
  const programs = load({ objectPath, sizes: { events: 65536 } });
  t.teardown(() => programs.close());
  const left = new Leftovers();
  const trie = new FlatTrie(programs.maps, left);
  const book = new Map([
    [IPV4.shortened(0x0a000000 * 64 + 32, 8), 7],
    [0x0a000001 * 64 + 32, 8],
    [0x0a100001 * 64 + 32, 9],
  ]);
  const writes = [...book].map(([key, classId]) => ({ key, classId }));
  trie.makeRoom(writes);
  trie.put(writes);
  const right = (text: string) => {
    for (const address of edges(book.keys())) t.equal(told(programs, address), BigInt(naive(book, address)), text);
  };
  right('as written');
  const memory = new TrieMemory(programs.maps);
  const root = 0x0a000000 >>> (32 - ROOT_BITS);
  const node = () => memory.low(root);
  for (const [what, slot, value, found] of [
    ['a node that there is not', () => root, () => reference(2 ** 32 - 1), BROKEN],
    ['a node behind the last', () => root, () => reference(memory.capacity), BROKEN],
    ['a node of another place', () => root, () => reference(memory.low(0x0a100000 >>> (32 - ROOT_BITS))), 9n],
    ['a node below itself', () => memory.first(node()), () => reference(node()), 7n],
    ['another class', () => memory.first(node()) + 7, () => leaf(99, 8), undefined],
    ['the class of a longer prefix', () => memory.first(node()) + 7, () => leaf(7, 20), undefined],
  ] as const) {
    memory.store(slot(), value());
    if (found !== undefined) t.equal(told(programs, 0x0a000001), found, what);
    t.not(trie.differences(listed(book)).length, 0, `${what}: found`);
    trie.restore(listed(book));
    t.same(trie.differences(listed(book)), [], `${what}: mended`);
    right(what);
    trie.release(left.moment + 1);
  }
  (programs.maps.destinations4_root as BpfMap).mmap().fill(0);
  t.equal(told(programs, 0x0a000001), 0n);
  trie.restore(listed(book));
  right('all of it');
});

t.test('room', async (t) => {
  const programs = load({ objectPath, sizes: { events: 65536, destinations4_nodes: 2 } });
  t.teardown(() => programs.close());
  const left = new Leftovers();
  const trie = new FlatTrie(programs.maps, left);
  t.equal(trie.chunks, 0, 'no node before there is a prefix');
  const far = (from: number, to: number) =>
    Array.from({ length: to - from }, (_, i) => ({ key: (from + i) * 2 ** 18 * 64 + 32, classId: 3 }));
  t.equal(trie.missing(far(0, 1)), 1);
  t.equal(trie.missing(far(0, 2730)), 1, 'of 6 nodes each');
  t.equal(trie.missing(far(0, 2731)), 2);
  trie.makeRoom(far(0, 2731));
  trie.put(far(0, 2731));
  t.equal(trie.chunks, 2);
  t.equal(trie.missing(far(0, 5461)), 0, 'of what is there nothing is asked');
  t.equal(trie.missing(far(0, 5462)), 1);
  t.throws(() => trie.makeRoom(far(0, 5462)), { code: 'TOO_LARGE' });
  t.equal(trie.missing(far(2731, 2732).map((w) => ({ ...w, key: w.key + 64 }))), 0);
  trie.makeRoom(far(2731, 5461));
  trie.put(far(2731, 5461));
  trie.delete(far(0, 1).map(({ key }) => key));
  t.equal(trie.missing(far(5461, 5462)), 1, 'a packet may be in what was taken out');
  trie.release(left.moment + 1);
  t.equal(trie.missing(far(5461, 5462)), 0);
  trie.put(far(5461, 5462));
  t.equal(told(programs, 5461 * 2 ** 18), 3n);
  t.equal(told(programs, 0), 0n);
});
