/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What an endpoint's stream says, segment by segment: hellos, and what follows them. */
#ifndef EA_L7_HEAR_H
#define EA_L7_HEAR_H

#include "l7_flow.h"

/* What the endpoint's stream has become with a segment. MORE: nothing is decided yet. HELLO: l7_work has it. DONE:
 * nothing more follows that is to be judged. */
enum {
  HEARD_MORE = 0,
  HEARD_HELLO = 1,
  HEARD_OTHER = 2,
  HEARD_UNREADABLE = 3,
  HEARD_DONE = 4,
  HEARD_NO_ROOM = 5,
  HEARD_REQUEST = 6, /* http_work() has it */
  HEARD_HEAD = 7,    /* the head of a request follows */
  HEARD_DENIED = 8,
};

/* Records behind a hello that are read. */
enum { FOLLOWING_RECORDS = 32 };

/* The record behind a hello, at b->begin. A ChangeCipherSpec tells nothing (RFC 8446, 5), nor does a warning, which
 * servers pass over (6.1), nor early data, of which a second hello may follow (4.2.10) until the peer has accepted
 * the first: `early`. HEARD_HELLO: another hello begins at b->begin, or a Finished that looks like one: of a resumed
 * TLS 1.2 session it is encrypted, with any first byte. HEARD_DONE: no hello follows; `w->record` is behind what
 * tells so. */
static __always_inline int read_following(struct l7_buffer *b, struct l7_work *w, __u8 *flags) {
  const int early = (*flags & (EA_SAID_EARLY | EA_SAID_ANSWERED)) == EA_SAID_EARLY;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < FOLLOWING_RECORDS; i++) {
    const __u32 at = b->begin, left = w->have - at;
    if (at >= w->have) return HEARD_MORE;
    const __u8 type = l7_byte(b, at);
    w->record = at + 1;
    if (type == TLS_APPLICATION_DATA && !early) return HEARD_DONE;
    if (left > 1 && l7_byte(b, at + 1) != 3) return HEARD_UNREADABLE;
    if (type == TLS_HANDSHAKE) {
      w->record = at + TLS_RECORD_HEADER + 1;
      /* An empty one hides what follows. There must be none (RFC 8446, 5.1). */
      if (left >= TLS_RECORD_HEADER && !l7_be16(b, at + 3)) return HEARD_UNREADABLE;
      if (left < TLS_RECORD_HEADER + 1) return HEARD_MORE;
      return l7_byte(b, at + TLS_RECORD_HEADER) == TLS_CLIENT_HELLO ? HEARD_HELLO : HEARD_DONE;
    }
    if (type == TLS_APPLICATION_DATA || type == TLS_ALERT) {
      if (left < TLS_RECORD_HEADER) return HEARD_MORE;
      const __u32 length = l7_be16(b, at + 3);
      w->record = at + TLS_RECORD_HEADER;
      if (type == TLS_ALERT && length != TLS_ALERT_BYTES) return HEARD_DONE; /* it is encrypted */
      if (length > TLS_MAX_ENCRYPTED) return HEARD_UNREADABLE;
      if (left - TLS_RECORD_HEADER < length) return HEARD_MORE;
      b->begin = at + TLS_RECORD_HEADER + length;
      continue;
    }
    if (type != TLS_CHANGE_CIPHER_SPEC) return HEARD_UNREADABLE;
    if (left > 3 && l7_byte(b, at + 3)) return HEARD_UNREADABLE;
    if (left > 4 && l7_byte(b, at + 4) != 1) return HEARD_UNREADABLE;
    if (left < 6) return HEARD_MORE;
    if (l7_byte(b, at + 5) != 1) return HEARD_UNREADABLE;
    *flags |= EA_SAID_CHANGED;
    b->begin = at + 6;
  }
  return HEARD_UNREADABLE;
}

/* Reads on in a stream's buffer, which is busy and has w->have bytes. */
static __always_inline int read_bytes(struct ea_said_stream *s, struct l7_buffer *b, struct l7_work *w) {
  if (s->state == EA_SAID_JUDGED) {
    const int follows = read_following(b, w, &s->flags);
    if (follows != HEARD_HELLO) return follows;
    s->state = EA_SAID_PENDING;
    s->flags |= EA_SAID_SECOND;
    b->record = b->message = b->whole = 0;
  }
  w->begin = b->begin;
  /* Behind ChangeCipherSpec it may be encrypted. Not where early data was announced: that is of TLS 1.3 alone, and a
   * server may pass over data between the records of a hello. */
  w->sealed =
      (s->flags & (EA_SAID_SECOND | EA_SAID_CHANGED | EA_SAID_EARLY)) == (EA_SAID_SECOND | EA_SAID_CHANGED);
  const int read = read_hello(b);
  if (read == TLS_SEALED) {
    w->record += l7_byte(b, w->record) == TLS_ALERT ? TLS_RECORD_HEADER : 1;
    return HEARD_DONE;
  }
  return read == TLS_HELLO   ? HEARD_HELLO
         : read == TLS_MORE  ? HEARD_MORE
         : read == TLS_OTHER ? HEARD_OTHER
                             : HEARD_UNREADABLE;
}

/* The same. What the segment has beyond the buffer passes only where what was read has decided about it. */
GLOBAL_FUNCTION int read_on(struct ea_said_stream *s, struct l7_buffer *b) {
  struct l7_work *w = l7_work();
  if (!s || !b || !w) return HEARD_UNREADABLE;
  const int heard = read_bytes(s, b, w);
  if (heard != HEARD_MORE || w->have - s->have >= w->size) return heard;
  return s->state == EA_SAID_JUDGED ? HEARD_NO_ROOM : HEARD_UNREADABLE;
}

/* Uses the buffer of a stream, or takes one. HEARD_MORE: w->busy. */
static __always_inline int hold_buffer(struct ea_said_stream *s, const struct packet *p, struct l7_work *w,
                                       __u32 payer) {
  struct l7_buffer *b = l7_use(s, p->key.endpoint);
  w->busy = !!b;
  if (likely(b)) {
    WRITE_ONCE(b->used_ns, bpf_ktime_get_coarse_ns());
    return HEARD_MORE;
  }
  /* It was taken away. What is not whole had its beginning there, and what is not acknowledged yet must be compared:
   * neither can be any more. */
  if (s->buffer && (s->state == EA_SAID_PENDING || s->kind != EA_SAID_HTTP || http_is_cut(s)))
    return HEARD_UNREADABLE;
  if (s->buffer && s->acked_seq != s->next_seq) return HEARD_NO_ROOM;
  s->buffer = 0;
  w->busy = l7_take(s, p->key.endpoint, payer);
  return w->busy ? HEARD_MORE : HEARD_NO_ROOM;
}

/* Adds the new bytes of a segment to what is kept of its stream, and reads them. The buffer is busy afterwards
 * (w->busy), unless there is none. */
static __always_inline int hear_bytes(struct __sk_buff *skb, const struct packet *p) {
  struct l7_work *w = l7_work();
  if (!p || !w) return HEARD_UNREADABLE;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return HEARD_NO_ROOM;
  struct ea_said_stream *s = said_stream(flow);
  const int held = hold_buffer(s, p, w, flow->payer);
  if (held != HEARD_MORE) return held;
  struct l7_buffer *b = l7_buffer((__u32)s->buffer - 1);
  if (!b) return HEARD_NO_ROOM;
  const __u32 have = s->have, room = EA_SAID_BUFFER_BYTES - have, size = w->size < room ? w->size : room;
  if (!size) return s->state == EA_SAID_JUDGED ? HEARD_NO_ROOM : HEARD_UNREADABLE;
  if (l7_load(skb, b, have, w->at, size)) return HEARD_UNREADABLE;
  w->have = have + size;
  return read_on(s, b);
}

/* Reads behind a hello that was judged, in the same segment. */
GLOBAL_FUNCTION int hear_behind(const struct packet *p) {
  const struct l7_work *w = l7_work();
  if (!p || !w) return HEARD_UNREADABLE;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return HEARD_NO_ROOM;
  struct ea_said_stream *s = said_stream(flow);
  struct l7_buffer *b = l7_buffer((__u32)s->buffer - 1);
  if (!b || !s->buffer) return HEARD_NO_ROOM;
  s->flags &= ~EA_SAID_SECOND;
  s->state = EA_SAID_JUDGED;
  b->begin = w->record;
  return read_on(s, b);
}

/* The segment passes: what it said is kept as far as it was judged, or may be. */
static __always_inline void commit_said(const struct packet *p, struct ea_flow *flow, int heard) {
  struct ea_said_stream *s = said_stream(flow);
  const struct l7_work *w = l7_work();
  if (!w) return;
  s->next_seq = w->end_seq;
  s->have = w->have;
  if (heard == HEARD_DONE) {
    s->state = EA_SAID_DONE;
    s->have = w->record;
  } else if (s->state == EA_SAID_HANDSHAKE) {
    s->state = EA_SAID_PENDING;
  }
  if (w->busy) l7_rest(s, p->key.endpoint, 1);
}

#endif
