/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The head of an HTTP/1 request (RFC 9112), as it stands in a buffer: whole, a beginning, or nothing that all
 * servers understand alike.
 *
 *   http_head()    reads a head, or the part of it that has arrived; http_work() says what is in it
 *   http_match()   adds what a policy set asks of it to what is said: http_rules.h
 *   http_begin()   the request passes
 *   http_follow()  reads what comes behind the head, up to the next one: http_body.h
 *
 * These are functions of the bytes alone. Who calls them keeps the stream in order, and keeps for each stream a
 * struct ea_said_stream, of which they use `body` and `left`.
 *
 * A beginning passes before its end is known. Servers act at the end of a line at the earliest: so a line is refused
 * before its end passes, or with the first byte that no strict head has. No server gets a request that was not
 * judged because its lines end with a bare LF, for one. */
#ifndef EA_HTTP_H
#define EA_HTTP_H

#include "http_walk.h"

static long trim_step(__u32 i, struct http_walk *k) {
  struct http_piece *p = &k->w->piece;
  const __u32 from = READ_ONCE(p->from), to = READ_ONCE(p->to);
  (void)i;
  if (from >= to) return 1;
  const __u8 first = http_byte(k->m, from), last = http_byte(k->m, to - 1);
  if (first == ' ' || first == '\t')
    p->from = from + 1;
  else if (last == ' ' || last == '\t')
    p->to = to - 1;
  else
    return 1;
  return 0;
}

/* The value of a line, without the white space around it: in w->piece. */
static __always_inline void find_value(const struct http_bytes *m, struct http_work *w, __u32 line) {
  const struct http_line *l = &w->lines[line & (HTTP_LINES - 1)];
  struct http_walk k = {.m = m, .w = w};
  w->piece.from = (__u32)l->colon + 1;
  w->piece.to = l->end;
  bpf_loop(HTTP_HEAD_BYTES, trim_step, &k, 0);
}
GLOBAL_FUNCTION int http_value(const struct http_bytes *m, struct http_work *w, __u32 line) {
  if (m && w) find_value(m, w, line);
  return 0;
}

/* HOST_MOST: a name with a final dot, and a port. What is told of a request would have no room for its path behind a
 * longer one (l7_http.h). */
enum { PORT_DIGITS = 5, ADDRESS_LEAST = 2, ADDRESS_MOST = 45, HOST_MOST = 253 + 1 + 1 + PORT_DIGITS };

/* Whether w->host is one, with or without a port. */
static __always_inline int is_host(const struct http_bytes *m, struct http_work *w) {
  const __u32 from = w->host.from, to = w->host.to;
  w->at = from;
  w->end = to;
  w->state = S_HOST_FIRST;
  w->notes = 0;
  if (from >= to || to - from > HOST_MOST) return 0;
  walk_head(m, w);
  const __u32 state = w->state;
  if (w->at != to || (state != S_HOST && state != S_HOST_BRACKETED && state != S_HOST_DIGITS)) return 0;
  __u32 behind = to; /* the host without its port */
  if (state == S_HOST_DIGITS) {
#pragma clang loop unroll(disable)
    for (__u32 n = 0; n <= PORT_DIGITS; n++) {
      behind--;
      if (http_byte(m, behind) == ':') break;
    }
    if (http_byte(m, behind) != ':') return 0;
  }
  w->host_end = behind;
  const __u32 address = behind - from - 2;
  return http_byte(m, from) != '[' || (address >= ADDRESS_LEAST && address <= ADDRESS_MOST);
}

struct http_equal {
  const struct http_bytes *m;
  __u32 one;
  __u32 other;
  __u32 left;
};

static long equal_step(__u32 i, struct http_equal *e) {
  const __u32 left = e->left, size = left < 8 ? left : 8;
  (void)i;
  if (!size) return 1;
  const __u64 one = lower_token(http_word(e->m, e->one)), other = lower_token(http_word(e->m, e->other));
  if (first_bytes(one ^ other, size)) return 1;
  e->one += size;
  e->other += size;
  e->left = left - size;
  return 0;
}

/* Whether the `length` bytes at two offsets are the same, but for capital letters. */
static __always_inline int is_same_host(const struct http_bytes *m, __u32 one, __u32 other, __u32 length) {
  struct http_equal e = {.m = m, .one = one, .other = other, .left = length};
  bpf_loop(HTTP_HEAD_BYTES / 8, equal_step, &e, 0);
  return !e.left;
}

/* Whether w->piece, a Host line, says what the target says. To CONNECT many clients leave out the port. */
static __always_inline int repeats_host(const struct http_bytes *m, const struct http_work *w) {
  const __u32 line = w->piece.from, line_length = w->piece.to - line;
  const __u32 from = w->host.from, length = w->host.to - from, behind = from + line_length;
  if (line_length > length || !is_same_host(m, line, from, line_length)) return 0;
  if (line_length == length) return 1;
  if (!w->connects || http_byte(m, behind) != ':') return 0;
  return http_byte(m, from) != '[' || http_byte(m, behind - 1) == ']';
}

/* The host of a whole head. What the target says counts (RFC 9112, 3.2.2); as some servers go by the Host line, it
 * must say the same. Returns why it is refused, or 0. */
static __always_inline int find_host(const struct http_bytes *m, struct http_work *w) {
  const __u32 line = w->special[LINE_HOST];
  const int is_uri = http_byte(m, w->target.from) == 'h' && !w->connects, is_named = is_uri || w->connects;
  if (!line && w->minor) return HTTP_NO_HOST;
  if (line) http_value(m, w, line - 1);
  w->has_host = line || is_named;
  w->host = is_named ? w->target : w->piece;
  w->path = w->target;
  w->rooted = 0;
  if (w->connects) w->path.from = w->path.to;
  if (is_uri) {
    const __u32 uri = w->uri;
    w->host.from += sizeof("http://") - 1;
    w->host.to = w->path.from = uri;
    w->rooted = http_byte(m, uri) != '/';
  }
  if (!w->has_host) return HTTP_FINE;
  if (!is_host(m, w)) return is_named ? HTTP_BAD_TARGET : HTTP_BAD_HOST;
  return line && is_named && !repeats_host(m, w) ? HTTP_BAD_HOST : HTTP_FINE;
}

enum { LENGTH_DIGITS = 15 };

/* How the body of a whole head is framed. Returns why it is refused, or 0. */
static __always_inline int find_framing(const struct http_bytes *m, struct http_work *w) {
  const __u32 length = w->special[LINE_LENGTH], coding = w->special[LINE_CODING];
  w->content = w->chunked = 0;
  if (length && coding) return HTTP_TWO_FRAMINGS;
  if (length) {
    http_value(m, w, length - 1);
    const __u32 from = w->piece.from, digits = w->piece.to - from;
    __u64 content = 0;
    if (!digits || digits > LENGTH_DIGITS) return HTTP_BAD_LENGTH;
#pragma clang loop unroll(disable)
    for (__u32 i = 0; i < LENGTH_DIGITS; i++) {
      if (i >= digits) break;
      const __u8 digit = http_byte(m, from + i) - '0';
      if (digit > 9) return HTTP_BAD_LENGTH;
      content = content * 10 + digit;
    }
    if (digits > 1 && http_byte(m, from) == '0') return HTTP_BAD_LENGTH;
    w->content = content;
  }
  if (coding) {
    http_value(m, w, coding - 1);
    const __u64 word = first_bytes(http_word(m, w->piece.from), 7);
    if (!w->minor || w->piece.to - w->piece.from != 7 ||
        word != AS_WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0))
      return HTTP_BAD_CODING;
    w->chunked = 1;
  }
  return w->connects && (w->content || w->chunked || w->special[LINE_UPGRADE]) ? HTTP_BAD_CONNECT : HTTP_FINE;
}

/* Whether a line that ends with w->piece names a protocol that carries requests: h2c, HTTP/2.0 or TLS. */
static long carries_step(__u32 i, struct http_walk *k) {
  struct http_work *w = k->w;
  const __u32 from = READ_ONCE(w->piece.from), to = READ_ONCE(w->piece.to);
  (void)i;
  if (from + 3 > to) return 1;
  const __u64 word = first_bytes(lower_token(http_word(k->m, from)), 3);
  w->piece.from = from + 1;
  if (word != AS_WORD('h', '2', 'c', 0, 0, 0, 0, 0) && word != AS_WORD('t', 'l', 's', 0, 0, 0, 0, 0) &&
      word != AS_WORD('h', 't', 't', 0, 0, 0, 0, 0))
    return 0;
  w->upgrades = 0;
  return 1;
}

/* One line of a head; 1: all were looked at, or one asks for such a protocol. */
static long upgrade_step(__u32 i, struct http_walk *k) {
  struct http_work *w = k->w;
  if (i >= READ_ONCE(w->count) || !READ_ONCE(w->upgrades)) return 1;
  const struct http_line *l = &w->lines[i & (HTTP_LINES - 1)];
  const __u32 name = l->name, colon = l->colon;
  if (colon - name != 7 ||
      first_bytes(lower_token(http_word(k->m, name)), 7) != AS_WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', 0))
    return 0;
  w->piece.from = colon + 1;
  w->piece.to = l->end;
  bpf_loop(HTTP_HEAD_BYTES, carries_step, k, 0);
  return 0;
}

/* Whether a head asks for another protocol, of which nothing is to be read. One that carries requests in another form
 * is none: nobody would judge those. What follows is read as HTTP/1, so the server may agree, but nothing passes. */
static __always_inline void find_upgrade(const struct http_bytes *m, struct http_work *w) {
  w->upgrades = w->special[LINE_UPGRADE] != 0;
  struct http_walk k = {.m = m, .w = w};
  if (unlikely(w->upgrades)) bpf_loop(HTTP_LINES, upgrade_step, &k, 0);
}

/* What the notes about a whole head come to. Returns why it is refused, or 0. */
GLOBAL_FUNCTION int http_finish(const struct http_bytes *m, struct http_work *w) {
  if (!m || !w) return HTTP_BAD_TARGET;
  w->length = w->at - w->begin;
  w->minor = http_byte(m, w->target.to + sizeof(" HTTP/1.") - 1) - '0';
  find_upgrade(m, w);
  const int why = find_host(m, w);
  return why ? why : find_framing(m, w);
}

static __always_inline void start_walk(struct http_work *w, __u32 state) {
  w->at = w->begin;
  w->state = state;
  w->why = w->uri = 0;
  w->notes = state == S_START;
  if (!w->notes) return;
  w->method.from = w->begin;
  w->count = 0;
  __builtin_memset(w->special, 0, sizeof(w->special));
  __builtin_memset(w->chains, 0, sizeof(w->chains));
}

/* Whether a line that ends at w->at is the preface of HTTP/2. */
static __always_inline int is_http2(const struct http_bytes *m, const struct http_work *w) {
  const __u32 begin = w->begin;
  return w->at - begin == sizeof("PRI * HTTP/2.0\r\n") - 1 &&
         http_word(m, begin) == AS_WORD('P', 'R', 'I', ' ', '*', ' ', 'H', 'T') &&
         http_word(m, begin + 8) == AS_WORD('T', 'P', '/', '2', '.', '0', '\r', '\n');
}

/* `left` of a head: the state, how far it was read, and where the word begins. The beginning may have been read on
 * another processor. */
static __always_inline void resume_walk(struct http_work *w, __u64 left) {
  w->why = w->uri = 0;
  w->state = left & 0xff;
  w->at = w->begin + (__u16)(left >> 8);
  w->word = w->begin + (__u16)(left >> 24);
  w->notes = 0;
}
static __always_inline __u64 left_of(const struct http_work *w) {
  const __u64 read = (__u16)(w->at - w->begin), word = (__u16)(w->word - w->begin);
  return w->state | read << 8 | word << 24;
}

/* A first word that goes on for too long. */
static __always_inline void check_word(struct http_work *w) {
  const __u32 state = w->state, from = state == S_METHOD ? w->begin : w->word;
  if ((state != S_METHOD && state != S_LAX_WORD) || w->at - from <= HTTP_METHOD_BYTES) return;
  w->before = state;
  w->state = S_NOWHERE;
  w->why = HTTP_BAD_METHOD;
}

/* Whether a first line that was read for the last time is another protocol's. */
static __always_inline int is_other(const struct http_bytes *m, const struct http_work *w) {
  const __u32 before = w->before, byte = http_byte(m, w->at - 1);
  if (before < S_LAX_CR) return before >= S_LAX_BEFORE;
  return byte == '\n' && (before == S_LAX_CR || (before == S_LAX_FOUND_CR && is_http2(m, w)));
}

/* The state in which a head is to be read once more from its beginning; 0: it is not. `strict`: the lax reading refused
 * it, so it is only to be found why the strict one does. */
static __always_inline __u32 next_walk(const struct http_bytes *m, const struct http_work *w, int first,
                                       int *strict) {
  const __u32 state = w->state, before = w->before;
  if (state == S_DONE) return w->notes ? 0 : S_START;
  if (state != S_NOWHERE || *strict) return 0;
  if (before < S_LINE) return first ? S_LAX_BEFORE : 0;
  if (before < S_LAX_BEFORE || is_other(m, w)) return 0;
  *strict = 1;
  return S_START;
}

/* The walks of http_head(), whose result it returns; HTTP_HEAD: what the notes come to is not known yet. */
GLOBAL_FUNCTION int http_walk(const struct http_bytes *m, struct ea_said_stream *s, __u32 length) {
  struct http_work *w = http_work();
  if (!m || !s || !w) return HTTP_REFUSED;
  const int first = !(s->body & HTTP_LATER);
  __u32 from = s->left ? 0 : S_START;
  int strict = 0;
  if (!from) resume_walk(w, s->left);
#pragma clang loop unroll(disable)
  for (int n = 0; n < 4; n++) {
    if (from) start_walk(w, from);
    w->end = w->begin + (length < HTTP_HEAD_BYTES ? length : HTTP_HEAD_BYTES);
    walk_head(m, w);
    check_word(w);
    from = next_walk(m, w, first, &strict);
    if (!from) break;
  }
  const __u32 state = w->state, before = w->before;
  if (state == S_DONE) return HTTP_HEAD;
  if (state == S_NOWHERE && is_other(m, w)) return HTTP_OTHER;
  if (state == S_NOWHERE && !w->why) w->why = http_why(before, http_byte(m, w->at - 1));
  if (state != S_NOWHERE && w->at - w->begin >= HTTP_HEAD_BYTES) w->why = HTTP_TOO_LARGE;
  if (w->why) return HTTP_REFUSED;
  s->left = left_of(w);
  return HTTP_MORE;
}

/* Whether the stream is in the middle of a head, where it must not end. */
static __always_inline int http_is_cut(const struct ea_said_stream *s) {
  return (s->body & HTTP_PART_MASK) == HTTP_IN_HEAD && s->left;
}

/* Reads what has arrived of a head: `length` bytes from an offset on, together HTTP_BUFFER at most. If it is
 * MORE, the same bytes and what follows them are given again; s->left says how far they were read, and is 0 for a
 * new head. A head that is whole is in http_work(); bytes may follow it.
 *
 * The first line of a connection may be another protocol's: OTHER. But servers that are lax take more for a
 * request than we do: "GET /" and headers, for one, as if HTTP/0.9 had any. So if it is none, it is read once more up to
 * its end: it is refused if it has a word and what may be a target.
 *
 * Some servers take the end of the stream for the end of a head: http_is_cut(). */
GLOBAL_FUNCTION int http_head(const struct http_bytes *m, struct ea_said_stream *s, __u32 from,
                              __u32 length) {
  struct http_work *w = http_work();
  if (!m || !s || !w || from > HTTP_BUFFER || length > HTTP_BUFFER - from) return HTTP_REFUSED;
  w->begin = w->word = from;
  const int result = http_walk(m, s, length);
  if (result != HTTP_HEAD) return result;
  s->left = 0;
  w->why = http_finish(m, w);
  return w->why ? HTTP_REFUSED : HTTP_HEAD;
}

#endif
