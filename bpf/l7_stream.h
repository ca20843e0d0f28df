/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The bytes of a connection that is inspected for what it says: which of a segment's are new, which were judged
 * before, and whether those are the same.
 *
 * What is judged must be what arrives. A stream is read in sequence only: a segment behind a gap is dropped, and
 * TCP sends it again. What was judged is kept until the peer has acknowledged it. Until then only the same bytes
 * pass in its place, so a decoy that never arrives (by its TTL, its checksum, or a lie in its header) buys nothing.
 * Whatever else passes is behind the verdict, and free. */
#ifndef EA_L7_STREAM_H
#define EA_L7_STREAM_H

#include "l7_pieces.h"
#include "refuse.h"
#include "tls.h"

/* What a segment is. NEW: it has bytes to read. PASSES: it may pass, nothing is new. GAP: it comes too early.
 * RETOLD: other bytes than were judged. UNREADABLE: it cannot be read. UNHEARD: there is no stream of it. */
enum {
  SEGMENT_NEW = 1,
  SEGMENT_PASSES = 2,
  SEGMENT_GAP = 3,
  SEGMENT_RETOLD = 4,
  SEGMENT_UNREADABLE = 5,
  SEGMENT_UNHEARD = 6
};

/* No window is larger (RFC 7323, 2.3). Without a limit, a body that never arrives could lead once around the space of
 * sequence numbers, to where the peer still waits for a head. */
#define MOST_UNACKNOWLEDGED (1 << 30)

static __always_inline struct ea_said_stream *said_stream(struct ea_flow *flow) {
  return &flow->extra.said;
}

/* A copy of bytes of a packet, in parts. */
struct l7_copy {
  struct __sk_buff *skb;
  struct l7_buffer *to;
};

static long load_step(__u32 i, const struct l7_copy *c) {
  struct l7_work *w = l7_work();
  (void)i;
  if (!w || !c->to) return 1;
  const __u32 left = READ_ONCE(w->left);
  __u64 part = left < 4096 ? left : 4096;
  asm volatile("%0 &= 0x1fff" : "+r"(part));
  if (!part || part > 4096) return 1;
  if (bpf_skb_load_bytes(c->skb, w->from, c->to->bytes + in_buffer(w->to), part)) return 1;
  w->to += part;
  w->from += part;
  w->left = left - part;
  return 0;
}

/* Copies bytes of a packet, from an offset in it, into a buffer. 0: done. */
GLOBAL_FUNCTION int l7_load(struct __sk_buff *skb, struct l7_buffer *b, __u32 to, __u32 from, __u32 size) {
  struct l7_work *w = l7_work();
  if (!b || !w || to > EA_SAID_BUFFER_BYTES || size > EA_SAID_BUFFER_BYTES ||
      to + size > EA_SAID_BUFFER_BYTES)
    return -1;
  struct l7_copy copy = {.skb = skb, .to = b};
  w->to = to;
  w->from = from;
  w->left = size;
  if (load_step(0, &copy) == 0 && w->left) bpf_loop(EA_SAID_BUFFER_BYTES / 4096, load_step, &copy, 0);
  return w->left ? -1 : 0;
}

/* Adds 512 bytes of a segment to its sum. */
static long sum_step(__u32 i, const struct l7_copy *c) {
  struct l7_work *w = l7_work();
  (void)i;
  if (!w || !c->to) return 1;
  const __u32 left = READ_ONCE(w->left);
  __u64 part = left < 512 ? left : 512;
  asm volatile("%0 &= 0x3ff" : "+r"(part));
  if (!part || part > 512) return 1;
  if (bpf_skb_load_bytes(c->skb, w->from, c->to->bytes, part)) return 1;
  *(__u32 *)(c->to->bytes + part) = 0;
  w->sum = (__u32)bpf_csum_diff(NULL, 0, (void *)c->to->bytes, (part + 3) & 0x3fc, w->sum);
  w->from += part;
  w->left = left - part;
  return 0;
}

/* Whether the sum of a segment is right. A wrong one arrives nowhere: then something else might, in its place. Not
 * asked where the kernel writes it, or cuts the segment and writes those of its parts. */
GLOBAL_FUNCTION int is_sum_right(struct __sk_buff *skb, const struct packet *p) {
  struct l7_buffer *own = l7_own();
  struct l7_work *w = l7_work();
  if (!p || !own || !w) return 0;
  if (likely(is_sum_partial(skb)) || skb->gso_size) return 1;
  struct l7_copy copy = {.skb = skb, .to = own};
  const __u32 size = p->length - (p->l4 - p->l3);
  w->sum = (__u32)pseudo_sum(p, size);
  w->from = p->l4;
  w->left = size;
  bpf_loop(65536 / 512, sum_step, &copy, 0);
  return !w->left && !fold(w->sum);
}

/* Compares eight bytes of a buffer with those in this CPU's. */
static long compare_step(__u32 i, const struct l7_buffer **buffer) {
  struct l7_work *w = l7_work();
  const struct l7_buffer *own = l7_own(), *b = *buffer;
  if (!w || !own || !b) return 1;
  const __u32 left = w->compare_size - i * 8;
  const __u64 mask = left >= 8 ? ~0ULL : (1ULL << (left * 8)) - 1;
  const __u64 x = *(const __u64 *)(own->bytes + in_buffer(i * 8)),
              y = *(const __u64 *)(b->bytes + in_buffer(w->compare_from + i * 8));
  w->differs = !!((x ^ y) & mask);
  return w->differs;
}

/* Whether a part of the packet is what was judged: l7_work.compare_…, in a buffer. */
GLOBAL_FUNCTION int is_told_again(struct __sk_buff *skb, const struct l7_buffer *b) {
  struct l7_work *w = l7_work();
  struct l7_buffer *own = l7_own();
  if (!w || !own || !b) return 0;
  const __u32 size = w->compare_size;
  w->differs = 1;
  if (!l7_load(skb, own, 0, w->compare_at, size)) bpf_loop((size + 7) / 8, compare_step, &b, 0);
  return !w->differs;
}

/* Prepares the comparison of what a segment has of kept bytes, those from `seq` on. 0: it has none that the peer
 * has not acknowledged. */
static __always_inline int overlaps(const struct ea_said_stream *s, struct l7_work *w, __u32 seq, __u32 at,
                                    __u32 length) {
  const __u32 end = seq + length;
  __u32 from = (__s32)(s->acked_seq - w->seq) > 0 ? s->acked_seq : w->seq;
  if ((__s32)(seq - from) > 0) from = seq;
  const __u32 to = (__s32)(end - w->end_seq) > 0 ? w->end_seq : end;
  if ((__s32)(to - from) <= 0) return 0;
  w->compare_at = w->at + (from - w->seq);
  w->compare_from = at + (from - seq);
  w->compare_size = to - from;
  return 1;
}

/* Compares what a segment has of the kept bytes that the peer has not acknowledged. Before them, everything is
 * acknowledged, or free. */
GLOBAL_FUNCTION int same_as_kept(struct __sk_buff *skb, struct ea_said_stream *s, __u32 endpoint) {
  struct l7_work *w = l7_work();
  if (!s || !w) return 0;
  const int http = s->kind == EA_SAID_HTTP;
  if (!http && !overlaps(s, w, s->base_seq, 0, s->have)) return 1;
  if (http && !s->buffer) return 1;
  struct l7_buffer *b = l7_use(s, endpoint);
  if (!b) return 0;
  int same = http ? same_pieces(skb, s, b) : is_told_again(skb, b);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < L7_HEADS; i++) {
    if (!http || !same || i >= b->heads) break;
    const struct l7_heads *heads = &b->head_at[i];
    if (overlaps(s, w, heads->seq, heads->at, heads->length)) same = is_told_again(skb, b);
  }
  l7_rest(s, endpoint, 1);
  return same;
}

/* The same, if the bytes stay what they are. `old`: those of the segment that were there before. */
static __always_inline int is_as_kept(struct __sk_buff *skb, const struct packet *p, struct ea_said_stream *s,
                                      const struct l7_work *w, __u32 old) {
  if ((__s32)(s->acked_seq - w->end_seq) >= 0) return 1; /* all of it has arrived */
  if (is_sum_behind(skb, p) || hold_bytes(skb, w->at + old)) return 0;
  return same_as_kept(skb, s, p->key.endpoint);
}

/* Finds out what a segment with data is, in the packet's flow, which is held locked: SEGMENT_NEW and the like. */
GLOBAL_FUNCTION int open_said(struct __sk_buff *skb, const struct packet *p) {
  struct l7_work *w = l7_work();
  if (!p || !w) return SEGMENT_UNHEARD;
  struct ea_flow *flow = held_flow(p);
  if (!flow || !(flow->tcp_state & EA_TCP_SAYS)) return SEGMENT_UNHEARD;
  struct ea_said_stream *s = said_stream(flow);
  const __u32 headers = p->l4 - p->l3 + p->header_end;
  if (p->fragment || (p->tcp_flags & (TCP_SYN | TCP_URG)) || headers > p->length) return SEGMENT_UNREADABLE;
  if (!(s->flags & EA_SAID_SYNCED)) return SEGMENT_UNHEARD;
  if (!(s->flags & EA_SAID_ACCEPTED)) return SEGMENT_GAP;
  w->seq = bpf_ntohl(p->seq);
  w->at = p->l3 + headers;
  w->size = p->length - headers;
  w->end_seq = w->seq + w->size;
  const __s32 old = s->next_seq - w->seq;
  if (s->state == EA_SAID_DONE) {
    const __u32 kept_end = s->base_seq + s->have;
    if ((__s32)(kept_end - w->seq) > 0) {
      const __u32 kept = kept_end - w->seq;
      if (!is_as_kept(skb, p, s, w, kept < w->size ? kept : w->size)) return SEGMENT_RETOLD;
    }
    if ((__s32)(w->end_seq - s->next_seq) > 0) s->next_seq = w->end_seq;
    return SEGMENT_PASSES;
  }
  if (old < 0 || (__s32)(w->end_seq - s->acked_seq) > MOST_UNACKNOWLEDGED) return SEGMENT_GAP;
  /* The end of the endpoint's side stands behind all that it said, and not in a head: some servers take it for the
   * end of that. */
  if ((p->tcp_flags & TCP_FIN) && s->kind == EA_SAID_HTTP) {
    if ((__s32)(w->end_seq - s->next_seq) < 0) return SEGMENT_RETOLD;
    if (w->end_seq == s->next_seq && http_is_cut(s)) return SEGMENT_UNREADABLE;
  }
  if (old > 0 && !is_as_kept(skb, p, s, w, (__u32)old < w->size ? (__u32)old : w->size))
    return SEGMENT_RETOLD;
  if ((__s32)(w->end_seq - s->next_seq) <= 0) return SEGMENT_PASSES;
  w->at += old;
  w->size -= old;
  if (is_all_body(s, w->size)) return SEGMENT_NEW;
  /* What is not known yet may be requests. */
  const __u32 most = s->kind == EA_SAID_TLS ? EA_SAID_BUFFER_BYTES : 65535;
  const __u32 needed = w->size < most ? w->size : most;
  if (is_sum_behind(skb, p) || hold_bytes(skb, w->at + needed)) return SEGMENT_UNREADABLE;
  return is_sum_right(skb, p) ? SEGMENT_NEW : SEGMENT_UNREADABLE;
}

#endif
