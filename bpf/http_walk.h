/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The walk through a head, byte by byte, by the automaton of http_table.h; and what is noted on the way. */
#ifndef EA_HTTP_WALK_H
#define EA_HTTP_WALK_H

#include "http_table.h"
#include "http_work.h"

/* Why no head goes on with this byte in this state. */
GLOBAL_FUNCTION int http_why(__u32 state, __u32 byte) {
  const int hex =
      (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
  const int blank = byte == ' ' || byte == '\t';
  if (state == S_START || state == S_METHOD) return HTTP_BAD_METHOD;
  if (!byte) return HTTP_NUL;
  if (state == S_VALUE_LF || state == S_END_LF) return HTTP_BARE_CR;
  if (byte == '\n') return HTTP_BARE_LF;
  if (state == S_LINE && blank) return HTTP_FOLDED;
  if (state == S_NAME && blank) return HTTP_SPACED_NAME;
  if (state >= S_LINE) return HTTP_BAD_BYTE;
  if (state >= S_VERSION || byte == '\r') return HTTP_BAD_VERSION;
  if (state < S_SLASH) return HTTP_BAD_TARGET;
  if (byte == '#') return HTTP_FRAGMENT;
  if (state == S_QUERY) return HTTP_BAD_BYTE;
  if (state >= S_ESCAPE) {
    if (!hex) return HTTP_BROKEN_ESCAPE;
    if (state == S_ESCAPE_0 || (state == S_ESCAPE_2 && (byte | 0x20) == 'f') ||
        (state == S_ESCAPE_3 && (byte | 0x20) == 'b') || (state == S_ESCAPE_5 && (byte | 0x20) == 'c'))
      return HTTP_HIDDEN_BYTE;
    return HTTP_NEEDLESS_ESCAPE;
  }
  if (byte == '\\') return HTTP_BACKSLASH;
  if (byte == ';') return HTTP_SEMICOLON;
  if (byte == '/' && state == S_SLASH) return HTTP_EMPTY_SEGMENT;
  return (state == S_DOT || state == S_DOTS) && (byte == '/' || byte == '?' || byte == ' ') ? HTTP_DOT_SEGMENT
                                                                                            : HTTP_BAD_BYTE;
}

static __always_inline int is_method(const struct http_bytes *m, __u32 at, __u32 length, __u64 word,
                                     __u32 size) {
  return length == size && first_bytes(http_word(m, at), size) == word;
}
#define IS_CONNECT(m, at, length) is_method(m, at, length, AS_WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', 0), 7)
#define IS_OPTIONS(m, at, length) is_method(m, at, length, AS_WORD('O', 'P', 'T', 'I', 'O', 'N', 'S', 0), 7)
#define IS_PRI(m, at, length) is_method(m, at, length, AS_WORD('P', 'R', 'I', 0, 0, 0, 0, 0), 3)

/* Which of the special lines a name is for; HTTP_SPECIAL_LINES: none. `first`: its first eight bytes in
 * lower case. */
static __always_inline __u32 special_line(const struct http_bytes *m, __u32 at, __u32 length, __u64 first) {
  if (length == 4 && first == AS_WORD('h', 'o', 's', 't', 0, 0, 0, 0)) return LINE_HOST;
  if (length == 7 && first == AS_WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', 0)) return LINE_UPGRADE;
  if (length == 14 && first == AS_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-')) {
    const __u64 second = first_bytes(lower_token(http_word(m, at + 8)), 6);
    return second == AS_WORD('l', 'e', 'n', 'g', 't', 'h', 0, 0) ? LINE_LENGTH : HTTP_SPECIAL_LINES;
  }
  if (length == 17 && first == AS_WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r')) {
    const __u64 second = lower_token(http_word(m, at + 8));
    return second == AS_WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n') && (http_byte(m, at + 16) | 0x20) == 'g'
               ? LINE_CODING
               : HTTP_SPECIAL_LINES;
  }
  return HTTP_SPECIAL_LINES;
}

/* A header line ends with the CR at `at`. */
static __always_inline __u32 note_line(const struct http_bytes *m, struct http_work *w, __u32 at) {
  const __u32 n = w->count, name = w->name, colon = w->colon, length = colon - name;
  const __u64 first = first_bytes(lower_token(http_word(m, name)), length < 8 ? length : 8);
  struct http_line *line = &w->lines[n & (HTTP_LINES - 1)];
  struct http_chain *chain = &w->chains[chain_of(first, length) & (HTTP_CHAINS - 1)];
  const __u32 last = chain->last;
  line->name = name;
  line->colon = colon;
  line->end = at;
  line->next = 0;
  if (last)
    w->lines[(last - 1) & (HTTP_LINES - 1)].next = n + 1;
  else
    chain->first = n + 1;
  chain->last = n + 1;
  w->count = n + 1;
  w->name = at + 2;
  const __u32 which = special_line(m, name, length, first);
  if (which >= HTTP_SPECIAL_LINES) return S_VALUE_LF;
  if (w->special[which] && which != LINE_UPGRADE) {
    w->why = which == LINE_HOST ? HTTP_TWO_HOSTS : which == LINE_LENGTH ? HTTP_TWO_LENGTHS : HTTP_BAD_CODING;
    return S_NOWHERE;
  }
  w->special[which] = n + 1;
  return S_VALUE_LF;
}

/* What is known of the method when it ends at `at`. */
static __always_inline __u32 note_method(const struct http_bytes *m, struct http_work *w, __u32 at) {
  const __u32 begin = w->begin;
  if (at - begin > HTTP_METHOD_BYTES) {
    w->why = HTTP_BAD_METHOD;
    return S_NOWHERE;
  }
  w->method.to = at;
  w->target.from = at + 1;
  w->connects = IS_CONNECT(m, begin, at - begin);
  return w->connects ? S_PEER_FIRST : S_TARGET;
}

/* The target ends at `at`. `*` stands behind a space only where it is the whole target. */
static __always_inline __u32 note_target(const struct http_bytes *m, struct http_work *w, __u32 at) {
  const __u32 begin = w->begin, method = at - 2 - begin;
  if (http_byte(m, at - 1) == '*' && http_byte(m, at - 2) == ' ' && !IS_OPTIONS(m, begin, method)) {
    w->why = HTTP_BAD_TARGET;
    return S_NOWHERE;
  }
  w->target.to = at;
  if (!w->uri) w->uri = at;
  w->name = at + sizeof(" HTTP/1.1\r\n") - 1;
  return S_VERSION;
}

/* The first word of a line that is no request's ends at `at`. What CONNECT asks for looks like no target. */
static __always_inline __u32 note_word(const struct http_bytes *m, const struct http_work *w, __u32 state,
                                       __u32 at) {
  const __u32 length = at - w->word;
  if (length > HTTP_METHOD_BYTES) return S_NOWHERE;
  if (length < 7 ||
      first_bytes(lower_token(http_word(m, at - 7)), 7) != AS_WORD('c', 'o', 'n', 'n', 'e', 'c', 't', 0))
    return state;
  return state == S_LAX_CR ? S_LAX_FOUND_CR : S_LAX_FOUND;
}

/* The byte at `at` led to a state in which there is something to note. Returns the state to go on in. Of a head
 * whose beginning was read before, the notes are of no use; it is read again when it is whole. */
GLOBAL_FUNCTION __u32 note_event(const struct http_bytes *m, struct http_work *w, __u32 state, __u32 at) {
  if (!m || !w) return S_NOWHERE;
  switch (state) {
  case S_TARGET:
    return note_method(m, w, at);
  case S_VERSION:
    return note_target(m, w, at);
  case S_SLASH:
  case S_QUERY:
    w->uri = at;
    return state;
  case S_VALUE:
    w->colon = at;
    return state;
  case S_VALUE_LF:
    return w->notes ? note_line(m, w, at) : state;
  case S_LAX_WORD:
    w->word = at;
    return state;
  case S_LAX_LINE:
  case S_LAX_CR:
    return note_word(m, w, state, at);
  }
  return state;
}

struct http_walk {
  const struct http_bytes *m;
  struct http_work *w;
};

/* Whether eight bytes may all stand in a value: no control characters but the tab, which goes the long way. */
static __always_inline int is_value(__u64 bytes) {
  const __u64 high = 0x80 * EACH_BYTE, low = bytes & ~high;
  return ((bytes | (at_least(low, ' ') & ~at_least(low, 0x7f))) & high) == high;
}

enum { HEAD_BYTES_A_STEP = 32, HEAD_WORDS_A_STEP = 16 };
static __always_inline int head_round(const struct http_bytes *m, struct http_work *w) {
  __u32 at = READ_ONCE(w->at), state = READ_ONCE(w->state), before = state;
  const __u32 end = READ_ONCE(w->end);
  if (state == S_VALUE) {
#pragma clang loop unroll(disable)
    for (__u32 n = 0; n < HEAD_WORDS_A_STEP && at + 8 <= end && is_value(http_word(m, at)); n++)
      at += 8;
  }
#pragma clang loop unroll(disable)
  for (__u32 n = 0; n < HEAD_BYTES_A_STEP; n++) {
    if (at >= end) break;
    before = state;
    const __u32 index = state * HTTP_CLASSES | http_classes[http_byte(m, at)];
    state = ((const __u8 *)http_next)[index & (HTTP_STATES * HTTP_CLASSES - 1)];
    at++;
    /* Nowhere, or an event. */
    if ((__u8)(state - 1) >= S_EVENT - 1) break;
  }
  if (state & S_EVENT) state = note_event(m, w, state & ~S_EVENT, at - 1);
  /* What nearly every first line ends with, at once. */
  if (state == S_VERSION && at + 10 <= end &&
      http_word(m, at) == AS_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1') &&
      first_bytes(http_word(m, at + 8), 2) == AS_WORD('\r', '\n', 0, 0, 0, 0, 0, 0)) {
    at += 10;
    state = S_LINE;
  }
  w->at = at;
  w->before = before;
  w->state = state;
  return !state || state == S_DONE || at >= end;
}

/* To the next event but two. A step of the loop is a call, and costs as much as some bytes. */
static long head_step(__u32 i, struct http_walk *k) {
  (void)i;
  return head_round(k->m, k->w) || head_round(k->m, k->w) || head_round(k->m, k->w);
}

/* Walks from w->at and w->state up to w->end, or to the end of the head. */
static __always_inline void walk_head(const struct http_bytes *m, struct http_work *w) {
  struct http_walk k = {.m = m, .w = w};
  bpf_loop(HTTP_HEAD_BYTES + 1, head_step, &k, 0);
}

#endif
