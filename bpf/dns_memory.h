/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who has which buffer of `dns_memory`.
 *
 * A message over TCP that has not arrived whole waits in one of EA_DNS_STREAMS buffers. Each endpoint has a
 * share of DNS_SHARE. While buffers are free, it may take more. Where none is free, an endpoint that holds
 * less than its share takes the oldest one among those of endpoints that hold more than theirs, or one that
 * has been held for long: some bytes now and then do not keep it. The stream that had it is lost, which its
 * stamp tells.
 *
 * `holder`: the endpoint in the high half, 0 where the buffer is free; in the low half a stamp that changes
 * with each holder, and BUFFER_BUSY while a program uses the buffer. It is changed by compare-and-swap only,
 * so nobody takes a buffer that is in use. */
#ifndef EA_DNS_MEMORY_H
#define EA_DNS_MEMORY_H

#include "dns_name.h"

enum { DNS_SHARE = 4 };
#define BUFFER_BUSY (1u << 31)
#define BUFFER_OLD_NS (10 * SECOND_NS)

static __always_inline __u32 holder_of(const struct dns_buffer *b) {
  return READ_ONCE(b->holder) >> 32;
}

/* How many buffers an endpoint holds. */
GLOBAL_FUNCTION int buffers_of(__u32 endpoint) {
  int n = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_DNS_STREAMS; i++) {
    const struct dns_buffer *b = dns_buffer(i);
    if (b) n += holder_of(b) == endpoint;
  }
  return n;
}

/* Compares a buffer with the best one so far. */
GLOBAL_FUNCTION int compare_buffer(struct dns_choice *c, __u32 i) {
  const struct dns_buffer *b = dns_buffer(i);
  if (!c || !b || c->found) return 0;
  const __u64 holder = READ_ONCE(b->holder), used_ns = READ_ONCE(b->used_ns);
  if (holder & BUFFER_BUSY) return 0;
  const __u32 other = holder >> 32;
  if (other) {
    const int old = (__s64)(c->now_ns - used_ns) > (__s64)BUFFER_OLD_NS, own = other == c->endpoint;
    if (!own && c->held >= DNS_SHARE) return 0;
    if (!old && (own || buffers_of(other) <= DNS_SHARE)) return 0;
    if (c->best && used_ns >= c->least_ns) return 0;
  } else {
    c->found = 1;
  }
  c->best = i + 1;
  c->seen = holder;
  c->least_ns = used_ns;
  return 0;
}

/* Gives a stream a buffer, which is busy until rest_buffer(). 0: there is none. */
GLOBAL_FUNCTION int take_buffer(struct ea_dns_stream *stream, __u32 endpoint) {
  struct dns_work *w = dns_work();
  if (!stream || !w) return 0;
  struct dns_choice *c = &w->choice;
  c->now_ns = bpf_ktime_get_coarse_ns();
  c->endpoint = endpoint;
  c->held = buffers_of(endpoint);
  c->best = c->found = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_DNS_STREAMS; i++)
    compare_buffer(c, i);
  struct dns_buffer *b = c->best ? dns_buffer(c->best - 1) : NULL;
  const __u32 stamp = ((__u32)c->seen + 1) & ~BUFFER_BUSY;
  if (!b || !__sync_bool_compare_and_swap(&b->holder, c->seen, (__u64)endpoint << 32 | stamp | BUFFER_BUSY))
    return 0;
  b->used_ns = c->now_ns;
  stream->buffer = c->best;
  stream->stamp = stamp;
  return 1;
}

/* The buffer that a stream holds, which is then busy. NULL: it was taken away. */
static __always_inline struct dns_buffer *busy_buffer(const struct ea_dns_stream *stream, __u32 endpoint) {
  const __u64 holder = (__u64)endpoint << 32 | stream->stamp;
  struct dns_buffer *b = dns_buffer((__u32)stream->buffer - 1);
  if (!stream->buffer || stream->buffer > EA_DNS_STREAMS || !b) return NULL;
  return __sync_bool_compare_and_swap(&b->holder, holder, holder | BUFFER_BUSY) ? b : NULL;
}

/* Ends the use of a buffer; `keep`: the stream still holds it. */
GLOBAL_FUNCTION int rest_buffer(const struct ea_dns_stream *stream, __u32 endpoint, int keep) {
  if (!stream || !stream->buffer || stream->buffer > EA_DNS_STREAMS) return 0;
  const __u64 holder = (__u64)endpoint << 32 | stream->stamp;
  struct dns_buffer *b = dns_buffer((__u32)stream->buffer - 1);
  if (!b) return 0;
  __sync_bool_compare_and_swap(&b->holder, holder | BUFFER_BUSY, keep ? holder : stream->stamp);
  return 0;
}

#endif
