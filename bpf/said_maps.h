/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of maps.h: what rules ask of connections, and the memory in which what they say is read. */
#ifndef EA_SAID_MAPS_H
#define EA_SAID_MAPS_H

#include "types.h"

/* Behind what is kept: what one copy may write too far. */
enum { L7_BYTES = EA_SAID_BUFFER_BYTES + 4096, L7_HEADS = 16 };

/* Policy set → what it asks of HTTP requests (http_rules.h). Each set with EA_SET_SAYS has an entry. The agent writes,
 * hooks read. Full: as destinations4. */
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 4096);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u64);
  __type(value, struct ea_http_program);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} http_programs SEC(".maps");

/* The automata of these programs. The agent writes (mmap) where no program leads yet, hooks read. Full: the update is
 * refused before its first write. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_http_cells);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} http_cells SEC(".maps");

/* What connections have said (l7_memory.h): first EA_SAID_BUFFERS buffers for streams, then one for each CPU. Hooks
 * write and read. Full: an endpoint takes one that was held for long; otherwise the segment is dropped, and TCP
 * sends it again. The loader sets the size. */
/* Heads of requests that follow each other: their first sequence number (host order), where they are in the buffer,
 * and their bytes. */
struct l7_heads {
  __u32 seq;
  __u16 at;
  __u16 length;
};
struct l7_buffer {
  __u64 holder;   /* of a stream's buffer: see l7_memory.h */
  __u64 taken_ns; /* CLOCK_MONOTONIC */
  __u64 used_ns;  /* of the endpoint's last segment that was read with it */
  __u32 payer;    /* slot in `endpoints` of the endpoint that holds it */
  __u32 begin;    /* where that begins which is read next: a hello, a record, the head of a request */
  /* Of a hello that is not whole (tls.h): where its next record begins, from there; bytes of the message in the
   * records before that, and of the whole message (0: not known); its first bytes. */
  __u32 record;
  __u32 message;
  __u32 whole;
  __u8 head[4];
  /* HTTP (l7_http.h): a ring of pieces; what the peer sends next (host order), while its answer is awaited; where
   * the heads are that are kept. */
  __u32 first_piece;
  __u32 pieces;
  __u32 peer_seq;
  __u32 heads;
  struct l7_heads head_at[L7_HEADS];
  __u8 bytes[L7_BYTES];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_SAID_BUFFERS + 128);
  __type(key, __u32);
  __type(value, struct l7_buffer);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} l7_memory SEC(".maps");

/* How many buffers each endpoint holds, by its slot in `endpoints`, and behind them all together. */
enum { EA_SAID_ALL = EA_OWN_SLOTS + EA_MORE_SLOTS };
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, EA_SAID_ALL + 1);
  __type(key, __u32);
  __type(value, __u32);
  __uint(pinning, LIBBPF_PIN_BY_NAME);
} l7_holdings SEC(".maps");

#endif
