/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What stands between the chunks of a request's body, in small pieces: kept until it is acknowledged (l7_http.h). */
#ifndef EA_L7_PIECES_H
#define EA_L7_PIECES_H

#include "http_body.h"
#include "l7_memory.h"

/* A piece of what stands between chunks. */
struct l7_piece {
  __u32 seq; /* host order */
  __u8 length;
  __u8 bytes[11];
};
enum {
  L7_PIECE_BYTES = 11,
  L7_PIECES = EA_SAID_BUFFER_BYTES / 2 / sizeof(struct l7_piece),
  L7_FRAMING = 2 * L7_PIECE_BYTES, /* bytes that are read at once between chunks */
};
_Static_assert(HTTP_HEAD_BYTES == EA_SAID_BUFFER_BYTES / 2, "a head fits into half a buffer");

static __always_inline struct l7_piece *piece_at(struct l7_buffer *b, __u32 n) {
  __u64 at = n & (L7_PIECES - 1);
  asm volatile("%0 &= 0x1ff" : "+r"(at));
  return (struct l7_piece *)(b->bytes + HTTP_HEAD_BYTES + at * sizeof(struct l7_piece));
}

/* Compares one piece with what the segment has in its place: 1: it differs, or it lies behind. */
struct l7_comparison {
  struct __sk_buff *skb;
  struct l7_buffer *b;
  __u32 from, to, seq, at; /* the part of the segment that counts, its first byte, and where that is */
  __u32 differs;
};

static long piece_step(__u32 i, struct l7_comparison *c) {
  if (i >= c->b->pieces) return 1;
  const struct l7_piece *piece = piece_at(c->b, c->b->first_piece + i);
  __u8 bytes[16] = {};
  const __u32 length = piece->length;
  if (length > L7_PIECE_BYTES) return 1;
#pragma clang loop unroll(disable)
  for (__u32 n = 0; n < L7_PIECE_BYTES; n++) {
    const __u32 seq = piece->seq + n;
    if (n >= length) break;
    if ((__s32)(seq - c->from) < 0 || (__s32)(c->to - seq) <= 0) continue;
    if (bpf_skb_load_bytes(c->skb, c->at + (seq - c->seq), bytes, 1) || bytes[0] != piece->bytes[n])
      c->differs = 1;
  }
  return c->differs;
}

/* Whether a segment that comes again has the same bytes between chunks, as far as the peer has not acknowledged
 * them. */
GLOBAL_FUNCTION int same_pieces(struct __sk_buff *skb, const struct ea_said_stream *s, struct l7_buffer *b) {
  const struct l7_work *w = l7_work();
  if (!s || !w || !b) return 0;
  struct l7_comparison c = {.skb = skb, .b = b, .from = w->seq, .to = w->end_seq, .seq = w->seq, .at = w->at};
  if ((__s32)(s->acked_seq - c.from) > 0) c.from = s->acked_seq;
  if ((__s32)(c.to - s->next_seq) > 0) c.to = s->next_seq;
  if (b->pieces) bpf_loop(L7_PIECES, piece_step, &c, 0);
  return !c.differs;
}

/* Keeps bytes of this CPU's buffer as pieces; `seq`: of the first. 0: there is no room. */
GLOBAL_FUNCTION int keep_pieces(struct l7_buffer *b, __u32 seq, __u32 length, __u32 acked_seq) {
  const struct l7_buffer *own = l7_own();
  if (!b || !own) return 0;
#pragma clang loop unroll(disable)
  for (__u32 n = 0; n < 4 && b->pieces; n++) {
    const struct l7_piece *first = piece_at(b, b->first_piece);
    if ((__s32)(acked_seq - first->seq - first->length) < 0) break;
    b->first_piece++;
    b->pieces--;
  }
#pragma clang loop unroll(disable)
  for (__u32 at = 0; at < L7_FRAMING; at += L7_PIECE_BYTES) {
    if (at >= length) break;
    if (b->pieces >= L7_PIECES) return 0;
    struct l7_piece *piece = piece_at(b, b->first_piece + b->pieces);
    piece->seq = seq + at;
    piece->length = length - at < L7_PIECE_BYTES ? length - at : L7_PIECE_BYTES;
    __builtin_memcpy(piece->bytes, own->bytes + at, L7_PIECE_BYTES);
    b->pieces++;
  }
  return 1;
}

/* Whether the segment has nothing but bytes of a body, or of another protocol. */
static __always_inline int is_all_body(const struct ea_said_stream *s, __u32 size) {
  const __u32 part = http_part(s);
  return s->kind == EA_SAID_HTTP && (part == HTTP_OPAQUE || (part == HTTP_CONTENT && s->left >= size));
}

#endif
