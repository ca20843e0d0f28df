/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a policy set asks of an HTTP request: its program (http_types.h), run over the head that http_head() read. */
#ifndef EA_HTTP_RULES_H
#define EA_HTTP_RULES_H

#include "http.h"
#include "said_work.h"

/* An offset in `http_cells`, of something of `size` bytes, a power of two. Whatever a program says, nothing beyond
 * the cells is read. */
static __always_inline __u64 in_cells(__u64 at, __u64 size) {
  const __u64 mask = sizeof(struct ea_http_cells) - size;
  asm volatile("%0 &= %1" : "+r"(at) : "i"(mask));
  return at;
}

struct http_match {
  const struct http_bytes *m;
  struct http_work *w;
  const struct ea_http_cells *cells;
  const struct ea_http_step *step;
};

static __always_inline __u32 next_match(const struct ea_http_cells *cells, const struct http_work *w,
                                        __u32 state, __u8 byte) {
  const __u32 class = cells->bytes[in_cells(w->bytes + byte, 1)];
  return *(const __u16 *)(cells->bytes + in_cells(w->next + 2ULL * (state * w->classes + class), 2));
}

enum { MATCH_BYTES_A_STEP = 32 };
static long match_step(__u32 i, struct http_match *k) {
  struct http_work *w = k->w;
  __u32 state = READ_ONCE(w->match), at = READ_ONCE(w->at);
  const __u32 end = READ_ONCE(w->end), settled = READ_ONCE(w->settled);
  (void)i;
#pragma clang loop unroll(disable)
  for (int n = 0; n < MATCH_BYTES_A_STEP && at < end && state > settled; n++, at++)
    state = next_match(k->cells, w, state, http_byte(k->m, at));
  w->match = state;
  w->at = at;
  return at >= end || state <= settled;
}

static __always_inline void match_piece(struct http_match *k, const struct http_piece *piece) {
  k->w->at = piece->from;
  k->w->end = piece->to;
  bpf_loop(HTTP_HEAD_BYTES, match_step, k, 0);
}

/* Whether a line has the name that a step asks for. */
static __always_inline int is_named(const struct http_bytes *m, const struct http_line *line,
                                    const struct ea_http_step *step) {
  const __u32 length = step->length, at = line->name;
  if (line->colon - at != length) return 0;
#pragma clang loop unroll(disable)
  for (__u32 n = 0; n < sizeof(step->name); n += 8) {
    if (n >= length) break;
    const __u32 size = length - n < 8 ? length - n : 8;
    const __u64 wanted = *(const __u64 *)(step->name + n);
    if (first_bytes(lower_token(http_word(m, at + n)), size) != wanted) return 0;
  }
  return 1;
}

/* Several lines of a name count as one, with commas between their values (RFC 9110, 5.3). */
static long line_step(__u32 i, struct http_match *k) {
  struct http_work *w = k->w;
  const __u32 number = w->line;
  (void)i;
  if (!number) return 1;
  const struct http_line *line = &w->lines[(number - 1) & (HTTP_LINES - 1)];
  w->line = line->next;
  if (!is_named(k->m, line, k->step)) return 0;
  if (w->found++) w->match = next_match(k->cells, w, w->match & 0xffff, ',');
  find_value(k->m, w, number - 1);
  match_piece(k, &w->piece);
  return 0;
}

/* The class of the field that a step asks for. */
GLOBAL_FUNCTION __u64 http_class_of(const struct http_bytes *m, const struct ea_http_step *step) {
  struct http_work *w = http_work();
  __u32 zero = 0;
  const struct ea_http_cells *cells = bpf_map_lookup_elem(&http_cells, &zero);
  if (!m || !step || !w || !cells) return 0;
  struct http_match k = {.m = m, .w = w, .cells = cells, .step = step};
  const __u32 field = step->field;
  w->bytes = step->bytes * EA_HTTP_CELL;
  w->next = step->next * EA_HTTP_CELL;
  w->classes = step->classes;
  w->settled = step->settled;
  w->match = step->start;
  w->found = field != EA_HTTP_HEADER;
  if (field == EA_HTTP_HEADER) {
    const __u64 first = *(const __u64 *)step->name;
    w->line = w->chains[chain_of(first, step->length) & (HTTP_CHAINS - 1)].first;
    if (w->line) bpf_loop(HTTP_LINES, line_step, &k, 0);
  } else {
    w->piece = field == EA_HTTP_METHOD ? w->method : field == EA_HTTP_PATH ? w->path : w->host;
    if (field == EA_HTTP_HOST) w->found = w->has_host;
    if (field == EA_HTTP_PATH && w->rooted) w->match = next_match(cells, w, w->match, '/');
    match_piece(&k, &w->piece);
  }
  if (!w->found) return step->absent;
  const __u64 accepts = step->accepts * EA_HTTP_CELL, ids = step->ids * EA_HTTP_CELL;
  const __u64 set = *(const __u16 *)(cells->bytes + in_cells(accepts + 2ULL * w->match, 2));
  return *(const __u64 *)(cells->bytes + in_cells(ids + 8 * set, 8));
}

/* Adds to said_work() the classes of what a set asks of the request, but for that of its host, unless
 * http_work().no_hosts says that it is not asked for. A set that asks for nothing has a program too,
 * of no steps. -1: there is none, or not all of them are known: nothing can be said for the request. */
GLOBAL_FUNCTION int http_match(const struct http_bytes *m, __u64 set) {
  struct said_work *said = said_work();
  const struct ea_http_program *program = bpf_map_lookup_elem(&http_programs, &set);
  if (!m || !said || !program) return -1;
  const __u32 count = program->count;
  struct http_work *w = http_work();
  if (w) w->no_hosts = program->no_hosts;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_HTTP_STEPS; i++) {
    if (i >= count) return 0;
    const __u32 at = said->count;
    if (at >= EA_SAID_ROWS) return -1;
    const __u64 class = http_class_of(m, &program->steps[i]);
    if (!class) return -1;
    said->classes[at] = class;
    said->count = at + 1;
  }
  return count > EA_HTTP_STEPS ? -1 : 0;
}

#endif
