/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of maps.h: what endpoints learn of names, and the memory in which DNS messages are read. */
#ifndef EA_NAME_MAPS_H
#define EA_NAME_MAPS_H

#include "types.h"

/* A message has 65535 bytes at most. Behind them: what one copy may write too far. */
enum { DNS_BYTES = 65536 + 4096 };

/* What endpoints learned of names (names.h). Hooks insert and read; the agent reads, renews and frees what has
 * expired, through its mapping. Full: as the flow table, an endpoint within its share takes room from one that
 * holds more; otherwise the name is not learned and counted in `name_holdings`. The loader sets the sizes:
 * EA_WAYS entries for each bucket. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 16384);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_name);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} names SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 2048);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_bucket);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} name_buckets SEC(".maps");

/* (endpoint, address) → the names of it. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 32768);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_name_page);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} name_pages SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_bucket);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} page_buckets SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_OWN_SLOTS + EA_MORE_SLOTS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_name_holding);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} name_holdings SEC(".maps");

/* Endpoint → the configurations of ECH that it was given (ech.h). Hooks write and read; the agent deletes those of
 * endpoints that are gone. Each endpoint has one entry, so none takes another's room. Full: ea_name_holding.ech_full_s. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, struct ea_ech);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} ech_known SEC(".maps");

/* Agent writes, hooks read. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_name_state_words);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} name_state SEC(".maps");

struct name_cell_chunk {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1 << EA_CELL_CHUNK_BITS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(key_size, sizeof(__u32));
  __uint(value_size, sizeof(struct ea_cell));
};

/* The cells of the matchers. The agent writes a new matcher into chunks that no packet reads, then the word
 * ea_name_state_words.matcher, and frees the old chunks after a grace period. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
  __uint(max_entries, EA_CELL_CHUNKS);
  __type(key, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
  __array(values, struct name_cell_chunk);
} name_cells SEC(".maps");

/* Trusted resolvers: address, port (protocol 0) → enum ea_dns_server_flags. The agent writes, hooks read. Each
 * has bits in `service_filter` too, for UDP and TCP. Full: the agent reports it. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 1024);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct ea_service_key);
  __type(value, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_servers SEC(".maps");

/* Where DNS messages are read: first EA_DNS_STREAMS buffers for messages over TCP that have not arrived whole,
 * then one buffer for each CPU (dns_memory.h). Hooks write and read. Full: an endpoint that holds less than
 * its share takes one that was held for long, or by who holds more; otherwise the segment is dropped, and TCP
 * sends it again. The loader sets the size. */
struct dns_buffer {
  __u64 holder;  /* of a stream's buffer: see dns_memory.h */
  __u64 used_ns; /* CLOCK_MONOTONIC */
  __u32 length;  /* of the message */
  __u32 pad;
  __u8 bytes[DNS_BYTES];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_DNS_STREAMS + 128);
  __type(key, __u32);
  __type(value, struct dns_buffer);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} dns_memory SEC(".maps");

#endif
