/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The matcher of names: an automaton of all patterns, in cells that the agent writes (name_types.h). */
#ifndef EA_MATCHER_H
#define EA_MATCHER_H

#include "name_table.h"

/* The symbol of a byte of a text. */
static __always_inline __u32 symbol_of(__u8 c) {
  if (c == '.') return EA_SYMBOL_DOT;
  const __u8 letter = c - 'a', digit = c - '0';
  if (letter < 26) return EA_SYMBOL_LETTER + letter;
  if (digit < 10) return EA_SYMBOL_DIGIT + digit;
  return c == '-' ? EA_SYMBOL_HYPHEN : c == '_' ? EA_SYMBOL_LINE : EA_SYMBOL_OTHER;
}

static __always_inline const struct ea_cell *cell_at(__u32 index) {
  __u32 chunk = index >> EA_CELL_CHUNK_BITS, at = index & ((1 << EA_CELL_CHUNK_BITS) - 1);
  void *cells = bpf_map_lookup_elem(&name_cells, &chunk);
  return cells ? bpf_map_lookup_elem(cells, &at) : NULL;
}

static __always_inline __u64 cell_class(__u32 state, __u32 which) {
  const struct ea_cell *c = cell_at(state + which);
  return c ? READ_ONCE(*(const __u64 *)c) : 0;
}

/* Where a symbol leads from a state; 0: nowhere. */
static __always_inline __u32 next_state(__u32 state, __u32 symbol) {
  const struct ea_cell *c = symbol ? cell_at(state + symbol) : NULL;
  if (!c || c->owner != state) c = symbol > EA_SYMBOL_DOT ? cell_at(state) : NULL;
  return c ? c->next : 0;
}

/* A walk through the matcher, from the last byte of a text. `state` 0: nowhere. A step of the loop is a call,
 * and costs more than a byte: so it goes some bytes far. */
#define DEFINE_WALK(it, type)                                                                                \
  struct walk_##it {                                                                                         \
    __u32 state, left;                                                                                       \
    const type *text;                                                                                        \
  };                                                                                                         \
  static long step_##it(__u32 i, struct walk_##it *w);                                                       \
  /* The accepting state of a text; 0: no pattern matches it. */                                             \
  static __always_inline __u32 state_of_##it(const type *text, __u32 length, __u32 root) {                   \
    struct walk_##it w = {.state = root, .left = length, .text = text};                                      \
    bpf_loop(EA_NAME_TEXT / WALK_BYTES, step_##it, &w, 0);                                                   \
    if (!w.state || w.left) return 0;                                                                        \
    const struct ea_cell *c = cell_at(w.state);                                                              \
    return c && (c->owner & EA_CELL_ACCEPTS) ? w.state : 0;                                                  \
  }
enum { WALK_BYTES = 8, WALK_UNITS = 4 };
_Static_assert(WALK_UNITS * 3 >= WALK_BYTES, "as many steps are enough for both");
DEFINE_WALK(entry, struct ea_name)
DEFINE_WALK(text, struct name_text)

static long step_text(__u32 i, struct walk_text *w) {
  __u32 state = w->state, left = w->left;
  (void)i;
#pragma clang loop unroll(disable)
  for (int n = 0; n < WALK_BYTES && left && state; n++) {
    left--;
    state = next_state(state, symbol_of(w->text->bytes[left & (EA_NAME_TEXT - 1)]));
  }
  w->state = state;
  w->left = left;
  return !left || !state;
}

static long step_entry(__u32 i, struct walk_entry *w) {
  const __u32 at = as_compared(i);
  __u32 state = w->state;
  if (at >= EA_NAME_UNITS / WALK_UNITS) return 1;
  __u64 word = READ_ONCE(((const __u64 *)w->text->text)[at]);
#pragma clang loop unroll(disable)
  for (int n = 0; n < WALK_UNITS; n++, word >>= 16) {
    __u32 unit = word & 0xffff;
#pragma clang loop unroll(disable)
    for (int k = 0; k < 3 && w->left && state; k++) {
      const __u32 above = unit * 52429 >> 21; /* / EA_NAME_SYMBOLS, for any 16 bits */
      state = next_state(state, unit - above * EA_NAME_SYMBOLS);
      unit = above;
      w->left--;
    }
  }
  w->state = state;
  return !w->left || !state;
}

/* The classes that the entry has from the matcher in force, into name_work.name_class and alias_class. 0: it
 * has none. */
static __always_inline int recall_classes(struct name_work *w, const struct ea_name *n) {
  const struct ea_name_state_words *st = name_words();
  const __u32 seen = state_of(n);
  w->name_class = READ_ONCE(n->class_id);
  w->alias_class = READ_ONCE(n->alias_class);
  return st && READ_ONCE(n->generation) == READ_ONCE(st->matcher) >> 32 && !(seen & EA_NAME_BUSY) &&
         state_of(n) == seen;
}

/* The classes of a name by the matcher in force, into name_work.name_class and alias_class. They are stored in
 * the entry too, with the generation of the matcher, for the next time. Only who sets BUSY stores them: so the
 * entry is not given to another name meanwhile, and two programs with two matchers do not mix theirs. */
GLOBAL_FUNCTION int classify_name(struct ea_name *n) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  if (!n || !st || !w) return 0;
  const __u64 matcher = READ_ONCE(st->matcher);
  const __u32 generation = matcher >> 32, seen = state_of(n);
  const __u32 state = (__u32)matcher ? state_of_entry(n, n->length, (__u32)matcher) : 0;
  w->name_class = state ? cell_class(state, EA_CELL_CLASS) : 0;
  w->alias_class = state ? cell_class(state, EA_CELL_ALIAS) : 0;
  if (!(seen & EA_NAME_VALID) || (seen & EA_NAME_BUSY) ||
      !__sync_bool_compare_and_swap(&n->state, seen, seen | EA_NAME_BUSY))
    return 0;
  n->class_id = w->name_class;
  n->alias_class = w->alias_class;
  n->generation = generation;
  __sync_fetch_and_and(&n->state, ~(__u32)EA_NAME_BUSY);
  return 0;
}

/* The class of the name in texts[TEXT_QUESTION], which is that in texts[TEXT_SERVER]: as the name in a query
 * (EA_CELL_QUERY), as a server name (EA_CELL_SERVER), or as the host of a request (EA_CELL_HOST). 0: no pattern
 * matches it. */
GLOBAL_FUNCTION __u64 class_of_text(__u32 which) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  if (!st || !w) return 0;
  const __u32 root = (__u32)READ_ONCE(st->matcher);
  const __u32 state =
      root ? state_of_text(&w->texts[TEXT_QUESTION], w->texts[TEXT_QUESTION].length, root) : 0;
  return state ? cell_class(state, which) : 0;
}
static __always_inline __u64 class_of_query(void) {
  return class_of_text(EA_CELL_QUERY);
}

#endif
