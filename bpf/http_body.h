/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What follows the head of an HTTP/1 request: its body, counted, so that the next request on the connection is
 * found where the server finds it; and what comes behind a request to upgrade.
 *
 *   http_begin()   a head has passed: what comes now
 *   http_skip()    how many of the next bytes need not be looked at
 *   http_follow()  reads bytes up to the next head, or to where nothing may follow
 *   http_hear()    the server sends data
 *   http_answer()  reads what the server says to a request to upgrade, or to CONNECT
 *
 * Responses are not read, but for the first one on a connection whose first request asks for another protocol:
 * there the first byte of the server's stream is the first of the status line, and no chance or purpose can
 * shift it. Behind a later request, what the server sends may belong to responses to earlier ones, whose bodies
 * somebody else chose: a status found in there proves nothing. So a later request is never the last one: what
 * follows is judged as a request, whatever the server says. A client that wants to upgrade opens a connection
 * for it, or goes on with HTTP/1. And a server that does not keep to HTTP/1, or that takes bytes which belong
 * to a body for a request, is not found out. */
#ifndef EA_HTTP_BODY_H
#define EA_HTTP_BODY_H

#include "http.h"

static __always_inline __u32 http_part(const struct ea_said_stream *s) {
  return s->body & HTTP_PART_MASK;
}

static __always_inline void set_part(struct ea_said_stream *s, __u32 part, __u64 left) {
  s->body = (s->body & ~HTTP_PART_MASK) | part;
  s->left = left;
}

/* A request is whole. */
static __always_inline void end_request(struct ea_said_stream *s) {
  set_part(s, s->body & (HTTP_UPGRADES | HTTP_CONNECTS) ? HTTP_AWAIT : HTTP_IN_HEAD, 0);
}

/* The server sends data. Before a request that is awaited, they shift its answer. */
static __always_inline void http_hear(struct ea_said_stream *s) {
  if (http_part(s) != HTTP_AWAIT) s->body |= HTTP_HEARD;
}

/* The head in http_work() passes: what comes behind it. */
GLOBAL_FUNCTION int http_begin(struct ea_said_stream *s) {
  const struct http_work *w = http_work();
  if (!s || !w) return 0;
  __u8 asks = 0;
  if (!(s->body & (HTTP_LATER | HTTP_HEARD)))
    asks = (w->upgrades ? HTTP_UPGRADES : 0) | (w->connects ? HTTP_CONNECTS : 0);
  s->body = HTTP_LATER | asks;
  if (w->chunked)
    set_part(s, HTTP_SIZE, 0);
  else if (w->content)
    set_part(s, HTTP_CONTENT, w->content);
  else
    end_request(s);
  return 0;
}

/* Goes over those of the next bytes that need not be looked at, `available` at most. Returns how many they are. */
static __always_inline __u32 http_skip(struct ea_said_stream *s, __u32 available) {
  const __u32 part = http_part(s);
  const __u64 left = s->left;
  if (part == HTTP_OPAQUE) return available;
  if (part != HTTP_CONTENT && part != HTTP_CHUNK) return 0;
  if (left > available) {
    s->left = left - available;
    return available;
  }
  if (part == HTTP_CHUNK)
    set_part(s, HTTP_CHUNK_CR, 0);
  else
    end_request(s);
  return left;
}

enum { SIZE_DIGITS = 8 };

/* One byte between chunks. */
static __always_inline void follow_byte(struct ea_said_stream *s, __u8 byte) {
  const __u32 part = http_part(s);
  const __u64 left = s->left;
  if (part == HTTP_SIZE) {
    const __u32 digits = left >> 32;
    const __u8 letter = (byte | 0x20) - 'a', digit = byte - '0';
    if (digits < SIZE_DIGITS && (letter < 6 || digit < 10))
      set_part(s, HTTP_SIZE,
               (__u64)(digits + 1) << 32 | (__u32)left << 4 | (digit < 10 ? digit : letter + 10));
    else if (digits && byte == '\r')
      set_part(s, HTTP_SIZE_LF, (__u32)left);
    else
      set_part(s, HTTP_BROKEN, HTTP_BAD_CHUNK);
  } else if (part == HTTP_SIZE_LF && byte == '\n') {
    set_part(s, left ? HTTP_CHUNK : HTTP_LAST_CR, left);
  } else if (part == HTTP_CHUNK_CR && byte == '\r') {
    set_part(s, HTTP_CHUNK_LF, 0);
  } else if (part == HTTP_CHUNK_LF && byte == '\n') {
    set_part(s, HTTP_SIZE, 0);
  } else if (part == HTTP_LAST_CR && byte == '\r') {
    set_part(s, HTTP_LAST_LF, 0);
  } else if (part == HTTP_LAST_LF && byte == '\n') {
    end_request(s);
  } else {
    set_part(s, HTTP_BROKEN, part == HTTP_LAST_CR ? HTTP_TRAILER : HTTP_BAD_CHUNK);
  }
}

static __always_inline int is_followed(__u32 part) {
  return part != HTTP_IN_HEAD && part != HTTP_AWAIT && part != HTTP_BROKEN;
}

struct http_follow {
  const struct http_bytes *m;
  struct ea_said_stream *s;
  __u32 at;
  __u32 end;
};

enum { FOLLOW_BYTES_A_STEP = 4 };
static long follow_step(__u32 i, struct http_follow *f) {
  struct ea_said_stream *s = f->s;
  (void)i;
#pragma clang loop unroll(disable)
  for (int n = 0; n < FOLLOW_BYTES_A_STEP; n++) {
    f->at += http_skip(s, f->end - f->at);
    if (f->at >= f->end || !is_followed(http_part(s))) return 1;
    if (http_part(s) == HTTP_CHUNK || http_part(s) == HTTP_CONTENT) continue;
    follow_byte(s, http_byte(f->m, f->at));
    f->at++;
  }
  return 0;
}

/* Reads `length` bytes of a buffer from an offset on, together HTTP_BUFFER at most. Returns how many of them were
 * read: all, or those before the next head (HTTP_IN_HEAD), before what comes too early (HTTP_AWAIT), or up to the
 * byte that broke it (HTTP_BROKEN). */
GLOBAL_FUNCTION int http_follow(const struct http_bytes *m, struct ea_said_stream *s, __u32 from,
                                __u32 length) {
  if (!m || !s || from > HTTP_BUFFER || length > HTTP_BUFFER - from) return 0;
  struct http_follow f = {.m = m, .s = s, .at = from, .end = from + length};
  bpf_loop(HTTP_BUFFER, follow_step, &f, 0);
  return f.at - from;
}

/* HTTP_AWAIT: what `left` is. In the low byte the place in a response; above it, the status so far (16 bits),
 * how many interim responses there were (8), and bytes of this one (16). */
enum http_answer {
  ANSWER_STATUS = 9,  /* behind "HTTP/1.1 " */
  ANSWER_BEHIND = 12, /* behind the status */
  ANSWER_LINES = 13,  /* of an interim response: plus how much of CRLF CRLF was just read */
  ANSWER_END = 17,
  ANSWER_MOST = 16, /* interim responses */
};

/* The byte that must stand there in a status line; 0: a digit. It is longer than the index can be, and of no size
 * that compilers put into a section for constants of their own. */
static const __u8 answer_begins[20] = "HTTP/1.\0 ";

/* Whether a byte fits into a status line, up to the one behind the status. */
static __always_inline int fits_answer(__u32 at, __u8 byte) {
  const __u8 digit = byte - '0';
  if (at == ANSWER_BEHIND) return byte == ' ' || byte == '\r';
  if (at >= ANSWER_STATUS) return at == ANSWER_STATUS ? digit >= 1 && digit <= 5 : digit <= 9;
  const __u8 wanted = answer_begins[at & 15];
  return wanted ? byte == wanted : digit <= 1;
}

/* The end of a status line. 101 where nobody asked for it: nobody knows what the server expects then, and nothing
 * may follow. Returns whether it is a final response's. */
static __always_inline int ends_wait(struct ea_said_stream *s, __u32 status) {
  const __u8 agreed = status == 101       ? s->body & HTTP_UPGRADES
                      : status / 100 == 2 ? s->body & HTTP_CONNECTS
                                          : 0;
  if (status < 200 && status != 101) return 0;
  if (status == 101 && !agreed)
    set_part(s, HTTP_BROKEN, HTTP_BAD_ANSWER);
  else
    set_part(s, agreed ? HTTP_OPAQUE : HTTP_IN_HEAD, 0);
  return 1;
}

static __always_inline void answer_byte(struct ea_said_stream *s, __u8 byte) {
  const __u64 left = s->left;
  __u32 at = (__u8)left, status = (__u16)(left >> 8), interim = (__u8)(left >> 24),
        bytes = (__u16)(left >> 32) + 1;
  if (bytes > HTTP_HEAD_BYTES || (at < ANSWER_LINES && !fits_answer(at, byte))) {
    set_part(s, HTTP_BROKEN, HTTP_BAD_ANSWER);
    return;
  }
  if (at == ANSWER_BEHIND) {
    if (ends_wait(s, status)) return;
    if (++interim > ANSWER_MOST) {
      set_part(s, HTTP_BROKEN, HTTP_BAD_ANSWER);
      return;
    }
    at = ANSWER_LINES + (byte == '\r');
  } else if (at >= ANSWER_LINES) {
    const __u8 wanted = (at - ANSWER_LINES) & 1 ? '\n' : '\r';
    at = byte == wanted ? at + 1 : ANSWER_LINES + (byte == '\r');
    if (at == ANSWER_END) at = status = bytes = 0;
  } else {
    if (at >= ANSWER_STATUS) status = status * 10 + (byte - '0');
    at++;
  }
  set_part(s, HTTP_AWAIT, at | (__u64)status << 8 | (__u64)interim << 24 | (__u64)bytes << 32);
}

static long answer_step(__u32 i, struct http_follow *f) {
  (void)i;
  if (f->at >= f->end || http_part(f->s) != HTTP_AWAIT) return 1;
  answer_byte(f->s, http_byte(f->m, f->at));
  f->at++;
  return 0;
}

/* HTTP_AWAIT: reads what the server sends, in sequence from the first byte of its stream on: `length` bytes of a
 * buffer from an offset on. Returns the part in which the client's stream is then: HTTP_AWAIT as long as no final
 * status has come (100 and the like are none), HTTP_OPAQUE where the server agrees, HTTP_IN_HEAD where it goes on
 * with HTTP/1, HTTP_BROKEN where it does not speak HTTP/1. */
GLOBAL_FUNCTION int http_answer(const struct http_bytes *m, struct ea_said_stream *s, __u32 from,
                                __u32 length) {
  if (!m || !s || from > HTTP_BUFFER || length > HTTP_BUFFER - from) return HTTP_BROKEN;
  struct http_follow f = {.m = m, .s = s, .at = from, .end = from + length};
  bpf_loop(HTTP_BUFFER, answer_step, &f, 0);
  return http_part(s);
}

#endif
