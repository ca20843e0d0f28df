/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Each map: who writes it, who reads it, what happens when it is full.
 * Sizes are defaults; the loader sets them from the agent's options. */
#ifndef EA_MAPS_H
#define EA_MAPS_H

#include "types.h"

/* Agent writes (mmap, one store for `set`); every hook reads first. Its memory stays where it is: no packet reads in
 * one slot what another one held. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_OWN_SLOTS + EA_MORE_SLOTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_endpoint);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} endpoints SEC(".maps");

/* Interface whose slot another one has → the slot that it has instead. Full: as destinations4. */
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

/* Agent writes, classify() reads: address → class id. Full: the update is
 * refused before its first write, and the last complete policy stays. */
struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 2000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_dest4_key);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations4 SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 2000000);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_dest6_key);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} destinations6 SEC(".maps");

/* (set, class) → the rules whose peer matches. A missing row means the row of
 * EA_CLASS_NONE; when that is missing too, the set is not there. Entries are
 * immutable: keys name their content. Full: as destinations4. */
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

/* Hooks write and read; the agent reads, ends idle ones and deletes. Full: the
 * least recently used goes, whose next packet is classified again: that costs
 * its counters, never its verdict (inbound connections: see accepted). */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 262144);
  __type(key, struct ea_flow_key);
  __type(value, struct ea_flow);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} flows SEC(".maps");

/* Connections opened to an endpoint and answered by it: what makes their replies
 * pass after `flows` has forgotten them. Only a completed handshake (TCP) or an
 * answer (other protocols) enters here, so a flood of opening packets cannot push
 * one out. Value: last jiffies. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 131072);
  __type(key, struct ea_flow_key);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} accepted SEC(".maps");

/* Flows to a Service some of whose backends are allowed: found again after the
 * translation by their unchanged source, or through the kernel's conntrack. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 65536);
  __type(key, struct ea_pending_key);
  __type(value, struct ea_pending);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} pending SEC(".maps");

/* Verdicts of first fragments for those that follow. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct ea_fragment_key);
  __type(value, struct ea_fragment);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} fragments SEC(".maps");

/* When drops without a flow were last told of. Full: the least recently used goes, and is told of once more. */
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, struct ea_note_key);
  __type(value, struct ea_note);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} drop_notes SEC(".maps");

/* Hooks write, the agent reads it mmaped, on a timer: never woken for an event.
 * Full: the event is lost and counted (EA_COUNT_EVENTS_LOST). */
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 8 * 1024 * 1024);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, EA_COUNT_MAX);
  __type(key, __u32);
  __type(value, __u64);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} counters SEC(".maps");

/* Agent writes epoch and flags (mmap, Atomics), every hook reads; from_pod adds to looks. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_state);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} state SEC(".maps");

#endif
