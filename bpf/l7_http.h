/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* HTTP/1 on an inspected connection: every request is judged when its head is whole; bodies are counted, so that
 * the next head is found (http.h, http_body.h).
 *
 * What says where requests begin is kept until it is acknowledged, and compared with what comes in its place: heads
 * in the first half of the stream's buffer, one behind the other; what stands between chunks in small pieces in a
 * ring in its second half. Bytes of a body may come in any form: they are free. Where there is no room, a segment is
 * dropped, and comes again when the peer has acknowledged more. */
#ifndef EA_L7_HTTP_H
#define EA_L7_HTTP_H

#include "http_body.h"
#include "http_rules.h"
#include "l7_hear.h"

static __always_inline const struct http_bytes *http_bytes_of(const struct l7_buffer *b) {
  return (const struct http_bytes *)b->bytes;
}

/* Goes on behind a head, as far as no other one begins: 1 ends the walk, with the result in w->heard. */
struct l7_following {
  struct __sk_buff *skb;
  struct ea_said_stream *s;
  struct l7_buffer *b; /* NULL: none is held */
};
static long body_step(__u32 i, struct l7_following *f) {
  struct l7_work *w = l7_work();
  struct l7_buffer *own = l7_own();
  struct ea_said_stream *s = f->s;
  (void)i;
  if (!w || !own) return 1;
  const __u32 size = READ_ONCE(w->size), part = http_part(s);
  w->heard = HEARD_MORE;
  if (!size) return 1;
  __u32 read = 0;
  if (part == HTTP_CONTENT || part == HTTP_CHUNK || part == HTTP_OPAQUE) {
    read = http_skip(s, size);
  } else {
    w->heard = part == HTTP_IN_HEAD ? HEARD_HEAD : HEARD_UNREADABLE;
    if (part == HTTP_IN_HEAD || part == HTTP_AWAIT || part == HTTP_BROKEN) return 1;
    w->heard = HEARD_NO_ROOM;
    if (!f->b) return 1;
    __u64 length = size < L7_FRAMING ? size : L7_FRAMING;
    asm volatile("%0 &= 0x1f" : "+r"(length));
    if (!length || bpf_skb_load_bytes(f->skb, w->at, own->bytes, length)) return 1;
    read = http_follow(http_bytes_of(own), s, 0, length);
    w->heard = HEARD_UNREADABLE;
    if (!read || read > length || http_part(s) == HTTP_BROKEN) return 1;
    w->heard = HEARD_NO_ROOM;
    const __u32 begins = w->end_seq - size;
    if (!keep_pieces(f->b, begins, read, s->acked_seq)) {
      if (!w->audited) return 1;
      s->flags |= EA_SAID_LOOSE;
      keep_pieces(f->b, begins, read, begins);
    }
    w->heard = HEARD_MORE;
  }
  w->at += read;
  w->size = size - read;
  return 0;
}

/* Where the next head is to be kept: behind the last one. 0: there is no room before more is acknowledged. For the
 * audit nothing can wait for that: it takes the place of those before, if they have much of the room. */
enum { AUDITED_HEADS = HTTP_HEAD_BYTES / 4 };
static __always_inline int place_head(struct ea_said_stream *s, struct l7_buffer *b, struct l7_work *w) {
  const __u32 first = !(s->body & HTTP_LATER), begins = first ? s->base_seq : w->end_seq - w->size;
  if (s->left || (first && b->heads)) return 1; /* it goes on */
  const int arrived = (__s32)(s->acked_seq - s->base_seq - w->have) >= 0;
  const int crowded = w->have > AUDITED_HEADS || b->heads >= L7_HEADS;
  if (b->heads && (arrived || (w->audited && crowded))) {
    if (!arrived) s->flags |= EA_SAID_LOOSE;
    b->heads = w->heads = 0;
    w->have = w->before.have = 0;
  }
  if (!b->heads || s->base_seq + w->have != begins) {
    const __u32 n = b->heads;
    if (n >= L7_HEADS) return 0;
    struct l7_heads *heads = &b->head_at[n & (L7_HEADS - 1)];
    heads->seq = begins;
    heads->at = first ? 0 : w->have;
    heads->length = 0;
    b->heads = n + 1;
  }
  /* Where what is kept ends is told by these two together. */
  if (!first) s->base_seq = begins - w->have;
  b->begin = first ? 0 : w->have;
  return 1;
}

/* The last of the kept heads ends with w->have. */
static __always_inline void extend_heads(struct l7_buffer *b, const struct l7_work *w) {
  struct l7_heads *heads = &b->head_at[(b->heads - 1) & (L7_HEADS - 1)];
  heads->length = w->have - heads->at;
}

/* Reads what a segment has of a head. */
static __always_inline int hear_head(struct __sk_buff *skb, struct ea_said_stream *s, struct l7_buffer *b,
                                     struct l7_work *w) {
  if (!place_head(s, b, w)) return HEARD_NO_ROOM;
  const __u32 have = w->have, begin = b->begin, room = HTTP_HEAD_BYTES - have;
  const __u32 size = w->size < room ? w->size : room;
  if (have >= HTTP_HEAD_BYTES) return begin ? HEARD_NO_ROOM : HEARD_UNREADABLE;
  if (l7_load(skb, b, have, w->at, size)) return HEARD_UNREADABLE;
  const int head = http_head(http_bytes_of(b), s, begin, have + size - begin);
  const struct http_work *http = http_work();
  if (http && head == HTTP_REFUSED && http->why == HTTP_TOO_LARGE) count(EA_COUNT_SAID_OVERSIZE);
  if (!http || head == HTTP_REFUSED) return HEARD_UNREADABLE;
  w->have = have + size;
  w->record = w->have;
  if (head == HTTP_OTHER) return HEARD_OTHER;
  if (head == HTTP_HEAD) w->have = begin + http->length;
  extend_heads(b, w);
  const __u32 read = w->have - have;
  w->at += read;
  w->size -= read;
  if (head == HTTP_HEAD) return HEARD_REQUEST;
  return w->size ? HEARD_NO_ROOM : HEARD_MORE;
}

/* Reads on in a segment of an HTTP stream: behind a request that was judged, or what the segment begins with. */
GLOBAL_FUNCTION int hear_http(struct __sk_buff *skb, const struct packet *p) {
  struct l7_work *w = l7_work();
  if (!p || !w) return HEARD_UNREADABLE;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return HEARD_NO_ROOM;
  struct ea_said_stream *s = said_stream(flow);
  struct l7_following f = {.skb = skb, .s = s, .b = w->busy ? l7_buffer((__u32)s->buffer - 1) : NULL};
  if (s->body & HTTP_LATER) {
    bpf_loop(65536, body_step, &f, 0);
    if (w->heard != HEARD_HEAD) return w->heard;
  }
  return f.b ? hear_head(skb, s, f.b, w) : HEARD_NO_ROOM;
}

/* Reads what a segment says, on a connection of any kind. What is no TLS may be HTTP. */
GLOBAL_FUNCTION int hear_any(struct __sk_buff *skb, const struct packet *p) {
  struct l7_work *w = l7_work();
  if (!p || !w) return HEARD_UNREADABLE;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return HEARD_NO_ROOM;
  struct ea_said_stream *s = said_stream(flow);
  w->before = *s;
  w->busy = w->piece_end = 0;
  if (s->kind != EA_SAID_HTTP) {
    const int heard = hear_bytes(skb, p);
    if (heard != HEARD_OTHER || s->state == EA_SAID_JUDGED || (s->flags & EA_SAID_SECOND)) return heard;
    s->kind = EA_SAID_HTTP;
    s->body = 0;
    s->left = 0;
  } else if (!is_all_body(s, w->size)) {
    const int held = hold_buffer(s, p, w, flow->payer);
    if (held != HEARD_MORE) return held;
  }
  const struct l7_buffer *b = w->busy ? l7_buffer((__u32)s->buffer - 1) : NULL;
  if (b) {
    w->piece_end = b->first_piece + b->pieces;
    w->heads = b->heads;
    w->head_length = b->head_at[(b->heads - 1) & (L7_HEADS - 1)].length;
  }
  w->have = s->have;
  return hear_http(skb, p);
}

/* The segment is dropped: its stream is what it was. */
static __always_inline void unhear(const struct packet *p, struct ea_flow *flow) {
  struct l7_work *w = l7_work();
  struct ea_said_stream *s = said_stream(flow);
  if (!w) return;
  struct l7_buffer *b = w->busy ? l7_buffer((__u32)s->buffer - 1) : NULL;
  const int kept = w->before.buffer && w->before.buffer == s->buffer && w->before.stamp == s->stamp;
  if (b && kept) {
    const __s32 pieces = w->piece_end - b->first_piece;
    b->pieces = pieces > 0 ? pieces : 0;
    b->heads = w->heads;
    b->head_at[(w->heads - 1) & (L7_HEADS - 1)].length = w->head_length;
  }
  if (w->busy) l7_rest(s, p->key.endpoint, kept);
  const __u16 buffer = s->buffer;
  *s = w->before;
  s->buffer = buffer;
  if (!buffer) s->have = 0;
}

/* Copies a piece of a head behind what is told already, in words. What finds no room is counted in the length. */
GLOBAL_FUNCTION int tell_piece(struct said_text *t, const struct l7_buffer *b, __u32 from, __u32 to) {
  if (!t || !b) return 0;
  __u64 size = to - from, at = t->length;
  t->length += size;
  if (at >= EA_SAID_EVENT_BYTES) return 0;
  if (size > EA_SAID_EVENT_BYTES - at) size = EA_SAID_EVENT_BYTES - at;
  asm volatile("%0 &= 0x1ff" : "+r"(at));
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_SAID_EVENT_BYTES; i += 8) {
    if (i >= size) break;
    *(__u64 *)(t->bytes + at + i) = http_word(http_bytes_of(b), from + i);
  }
  return 0;
}

static __always_inline void tell_byte(struct said_text *t, __u8 byte) {
  __u64 at = t->length++;
  if (at >= EA_SAID_EVENT_BYTES) return;
  asm volatile("%0 &= 0x1ff" : "+r"(at));
  t->bytes[at] = byte;
}

/* Reports the request in http_work(): method, host and path. */
GLOBAL_FUNCTION int report_request(const struct packet *p, const struct l7_buffer *b) {
  const struct http_work *http = http_work();
  struct l7_work *w = l7_work();
  if (!p || !b || !http || !w) return 0;
  struct said_text *t = &w->told;
  t->length = 0;
  tell_piece(t, b, http->method.from, http->method.to);
  tell_byte(t, ' ');
  if (http->has_host) tell_piece(t, b, http->host.from, http->host.to);
  tell_byte(t, ' ');
  if (http->rooted) tell_byte(t, '/');
  tell_piece(t, b, http->path.from, http->path.to);
  __u64 behind = t->length;
  if (behind > EA_SAID_EVENT_BYTES) behind = EA_SAID_EVENT_BYTES;
  asm volatile("%0 &= 0x3ff" : "+r"(behind));
  if (behind <= EA_SAID_EVENT_BYTES) *(__u64 *)(t->bytes + behind) = 0;
  return report_said(p, t, EA_SAID_HTTP, 0);
}

/* Puts the request in http_work() into said_work(). -1: what the set asks for is not known. */
static __always_inline int say_request(const struct l7_buffer *b, __u64 set) {
  const struct http_work *http = http_work();
  if (!http) return -1;
  struct said_work *said = begin_saying(EA_SAID_HTTP, http->has_host);
  if (!said) return -1;
  if (http_match(http_bytes_of(b), SET_ID(set))) return -1;
  if (!http->no_hosts && http->has_host &&
      read_server_name(b, http->host.from, http->host_end - http->host.from))
    said->classes[0] = class_of_text(EA_CELL_HOST);
  return 0;
}

#endif
