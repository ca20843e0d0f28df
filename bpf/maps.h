/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Each map: who writes it, who reads it, what happens when it is full.
 * Sizes are defaults; the loader sets them from the agent's options. */
#ifndef EA_MAPS_H
#define EA_MAPS_H

#include "name_maps.h"
#include "said_maps.h"

/* Endpoints by interface. The agent writes (mmap, one store for `set`); every hook reads it first. An array:
 * its memory is never reused for another key, so no packet reads another endpoint's data in a slot. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_OWN_SLOTS + EA_MORE_SLOTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_endpoint);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} endpoints SEC(".maps");

/* Interface whose own slot is taken by another → the slot that it has instead. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, EA_MORE_SLOTS);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} endpoints_more SEC(".maps");

/* Addresses of endpoints that have more than fit into struct ea_endpoint. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 16384);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_source_key);
  __type(value, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} sources SEC(".maps");

/* Agent writes, hooks read: addresses of local pods and of all nodes. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 131072);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_address_key);
  __type(value, struct ea_address);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} addresses SEC(".maps");

/* Agent writes, hooks read: tunnels that nodes unwrap. Value 0: known, but left to the policies. Full: as
 * destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_tunnel_key);
  __type(value, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} tunnels SEC(".maps");

/* IPv4 prefix → class id: the record that the agent writes and its successor reads. Packets read the two maps
 * below, which hold the same. Full: the update is refused before its first write, and the last complete
 * policy stays. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 2000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_dest4_key);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations4 SEC(".maps");

/* Agent writes (mmap, one store for each slot), trie.h reads: the first bits of an address → class id or
 * node. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << EA_TRIE_ROOT_BITS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations4_root SEC(".maps");

struct dest4_chunk {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << EA_TRIE_CHUNK_BITS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(key_size, sizeof(__u32));
  __uint(value_size,
         sizeof(struct ea_dest4_node)); /* no __type: BTF keeps only the name of an inner map's type */
};

/* The nodes of the trie, of 64 bytes each, in chunks of 1 MiB. The agent makes a chunk when it needs one, and
 * keeps it. 100,000 single addresses far from each other take 24 to 30 MiB, as many blocks of 24 bits 17 MiB,
 * and the pods of a thousand nodes with 100 addresses each 1 MiB. There may be 4 GiB, more than the prefixes
 * that fit into destinations4 can need. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
  __array(values, struct dest4_chunk);
} destinations4_nodes SEC(".maps");

/* Agent writes, classify() reads: IPv6 prefix → class id. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 2000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_dest6_key);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations6 SEC(".maps");

/* (set, class) → the rules whose peer matches. Without a row of its own, a class has the row of
 * EA_CLASS_NONE; without that, the set does not exist. Entries are immutable: a key names its content. Full:
 * as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_class_key);
  __type(value, struct ea_row_small);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} class_rules SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 262144);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_class_key);
  __type(value, struct ea_row_large);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} class_rules_large SEC(".maps");

/* (set, protocol, port) → the rules whose ports match; every row includes the
 * rows of the shorter prefixes that cover it. A set always has the row of prefix
 * length 64. Immutable. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 1000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_port_key);
  __type(value, struct ea_row_small);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} port_rules SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 262144);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_port_key);
  __type(value, struct ea_row_large);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} port_rules_large SEC(".maps");

/* (set, bit) → action, tier, id. Immutable. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_rule_key);
  __type(value, struct ea_rule);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} rules SEC(".maps");

/* Service address, port, protocol → backends. Agent writes. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 131072);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_service_key);
  __type(value, struct ea_service);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} services SEC(".maps");

/* Which addresses and ports may belong to a Service, by a hash of the key: a clear bit means that `services`
 * has no entry. The agent writes (mmap, agent/maps/tables/service-filter.ts), services.h reads. Whoever
 * changes the hash must rename the map: programs and agents share maps only if all map names are the same. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << (EA_FILTER_BITS - 6));
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} service_filter SEC(".maps");

/* The flow table: flows and side records of all endpoints (table.h). Hooks write and read. The agent reads,
 * and frees idle entries, through its mapping. Full: the endpoint replaces an entry of its own, or one of an
 * endpoint that holds more than its share; if there is neither, the packet is judged by itself. `flows` has
 * EA_WAYS entries for each of `flow_buckets`; the loader sets both sizes, and ea_state.last_bucket. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 262144);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_entry);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 32768);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_bucket);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_buckets SEC(".maps");

/* Entries that each endpoint holds. Hooks count; the agent corrects the count with each pass of its
 * sweeper. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_OWN_SLOTS + EA_MORE_SLOTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_holding);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_holdings SEC(".maps");

/* When drops without a flow were last reported. Full: the least recently used entry is replaced, and its
 * drops are reported once more. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct ea_note_key);
  __type(value, struct ea_note);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} drop_notes SEC(".maps");

/* Events. Hooks write; the agent reads through its mapping, on a timer, and is never woken. Full: the event
 * is lost and counted (EA_COUNT_EVENTS_LOST). From a quarter full on, each endpoint has a share (share.h). */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 8 * 1024 * 1024);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* Events of DNS (dns_events.h), as `events`. Full: the event is lost and counted (EA_COUNT_DNS_EVENTS_LOST). */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 2 * 1024 * 1024);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_events SEC(".maps");

/* What connections said, and the verdict on it (l7_events.h), as `events`. Full: the event is lost and counted
 * (EA_COUNT_SAID_EVENTS_LOST). */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 2 * 1024 * 1024);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} said_events SEC(".maps");

/* Endpoint → its share of the ring. Hooks write it while the ring is filling; the agent reads which
 * endpoint's events were lost. Full: the least recently used entry is replaced, and its last losses are
 * reported without an endpoint. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, struct ea_share);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} event_shares SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, EA_COUNT_MAX);
  __type(key, __u32);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

/* Agent writes epoch and flags (mmap, Atomics), every hook reads; from_pod sets post_dnat. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_state);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} state SEC(".maps");

#endif
