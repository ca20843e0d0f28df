/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Names: what endpoints learned from DNS answers, and which classes of names an address has for an endpoint.
 *
 * TWO TABLES. `names` has each name that an endpoint learned, once. `name_pages` has, for each address that an
 * endpoint learned, the names of it: six in a page, and further pages for more. Both are stored as the flow
 * table stores its entries: two buckets of eight ways for each key, found by tags, and fair by endpoint. A
 * payer within its share takes room from those who hold more; beyond it, it replaces what of its own expires
 * first. What finds no room is counted (ea_name_holding.refused), and opens nothing.
 *
 * NOTHING EXPIRES HERE. What is present is valid. Only the agent frees what has expired, because only it
 * sees which addresses are still in use. So while no agent runs, what was allowed stays allowed, and answers
 * are learned as before.
 *
 * CONCURRENCY. Whoever inserts a key, or changes the links of a page, holds the lock of the key's first
 * bucket. A way of any bucket is taken by setting BUSY in its entry's state. Readers take no lock: they read
 * the state before and after what they need. A link belongs to a name only if it has the name's incarnation,
 * so links to a name that was freed are dead at once. The agent frees an entry in two steps: it sets LEAVING,
 * reads the expiry again, and then clears VALID by a compare-and-swap. A program that renews an entry writes the expiry first and
 * reads the state afterwards; if it finds LEAVING, it clears that, and if it comes too late, it inserts the
 * entry anew. */
#ifndef EA_NAMES_H
#define EA_NAMES_H

#include "name_text.h"
#include "decided.h"
#include "table.h"

static __always_inline __u32 seconds(void) {
  return bpf_ktime_get_boot_ns() / SECOND_NS;
}

static __always_inline struct ea_name_holding *name_holding(__u32 payer) {
  return bpf_map_lookup_elem(&name_holdings, &payer);
}

static __always_inline __u32 incarnation_of(__u32 state) {
  return state / EA_NAME_NEXT;
}

/* Whether two states are of the same use of a slot. BUSY beside VALID: somebody gives the name its classes. */
static __always_inline int same_name_state(__u32 a, __u32 b) {
  return ((a ^ b) & ~(__u32)(EA_NAME_LEAVING | EA_NAME_BUSY)) == 0;
}

static __always_inline __u64 name_hash(const struct name_text *t, __u32 endpoint,
                                       const struct ea_name_state_words *st) {
  return mixed((t->hash ^ st->secret[4]) * ((st->secret[5] + endpoint) | 1));
}

static __always_inline __u64 page_hash(__u32 endpoint, const __u8 *addr, __u32 page,
                                       const struct ea_name_state_words *st) {
  const __u32 *w = (const __u32 *)addr;
  const __u64 *s = st->secret;
  return mixed((s[6] + w[0]) * (s[7] + w[1]) + (s[8] + w[2]) * (s[9] + w[3]) +
               (s[10] + endpoint) * (s[11] + page));
}

static __always_inline __u32 second_bucket(__u32 bucket, __u32 tag, __u32 last) {
  return (bucket ^ ((tag * 0x5bd1e995u) >> 8 | 1)) & last;
}

/* Compares a stored text with one in work memory. 1: they are the same. */
GLOBAL_FUNCTION int same_text(const struct ea_name *n, const struct name_text *t) {
  if (!n || !t || n->hash != t->hash || n->length != t->length) return 0;
  const __u64 *a = (const __u64 *)n->text, *b = (const __u64 *)t->bytes;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_TEXT / 8; i++) {
    if (i * 8 >= t->length) break;
    if (a[i] != b[i]) return 0;
  }
  return 1;
}

/* What is looked for, and where it is. In per-CPU memory, for the stack is short. */
struct name_search {
  __u64 hash;
  __u32 tag;
  __u32 last; /* number of buckets - 1 */
  __u32 endpoint;
  __u32 payer;
  __u32 page;
  __u32 share;
  __u32 held;
  __u32 slot;  /* result */
  __u32 state; /* of the entry when it was found; 0: it was not */
  __u32 claimed;
  __u64 least;
  __u8 addr[16];
};
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct name_search);
} name_searches SEC(".maps");
static __always_inline struct name_search *name_search(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&name_searches, &zero);
}

static __always_inline int is_name(const struct ea_name *n, const struct name_search *q,
                                   const struct name_text *t) {
  return n->endpoint == q->endpoint && t && same_text(n, t);
}
static __always_inline int is_page(const struct ea_name_page *n, const struct name_search *q,
                                   const struct name_text *t) {
  (void)t;
  return n->endpoint == q->endpoint && n->page == q->page && same16(n->addr, q->addr);
}

/* When an entry expires, for the choice of what is replaced. */
static __always_inline __u32 name_expiry(const struct ea_name *n) {
  return n->expires_s;
}
static __always_inline __u32 page_expiry(const struct ea_name_page *p) {
  __u32 last = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < EA_NAME_LINKS; i++) {
    const __u32 at = (__u32)p->links[i].life;
    if (at > last) last = at;
  }
  return last;
}

static long lock_name_bucket_step(__u32 i, __u32 *bucket) {
  (void)i;
  __u32 which = *bucket & ~(1u << 31);
  struct ea_bucket *b = bpf_map_lookup_elem(&name_buckets, &which);
  if (!b) return 1;
  if (__sync_val_compare_and_swap(&b->lock, 0, 1)) return 0;
  *bucket |= 1u << 31;
  return 1;
}
static long lock_page_bucket_step(__u32 i, __u32 *bucket) {
  (void)i;
  __u32 which = *bucket & ~(1u << 31);
  struct ea_bucket *b = bpf_map_lookup_elem(&page_buckets, &which);
  if (!b) return 1;
  if (__sync_val_compare_and_swap(&b->lock, 0, 1)) return 0;
  *bucket |= 1u << 31;
  return 1;
}

/* Functions for the two tables:
 *   search   finds the entry of a key
 *   compare  compares an entry with the best candidate for replacement so far
 *   claim    takes a free way, or the one whose entry is replaced: it is BUSY then. 0: there is no room */
#define DEFINE_NAME_TABLE(it, type, map, buckets, held_field)                                                \
  static __always_inline int find_##it##_in(struct name_search *q, __u32 bucket,                             \
                                            const struct name_text *t) {                                     \
    const struct ea_bucket *b = bpf_map_lookup_elem(&buckets, &bucket);                                      \
    if (!b) return 0;                                                                                        \
    _Pragma("clang loop unroll(disable)") for (__u32 way = 0; way < EA_WAYS; way++) {                        \
      if (READ_ONCE(b->tags[way]) != q->tag) continue;                                                       \
      __u32 slot = bucket * EA_WAYS + way;                                                                   \
      const type *e = bpf_map_lookup_elem(&map, &slot);                                                      \
      if (!e) continue;                                                                                      \
      const __u32 state = state_of(e);                                                                       \
      if (!(state & EA_NAME_VALID) || !is_##it(e, q, t) || !same_name_state(state_of(e), state)) continue;   \
      q->slot = slot;                                                                                        \
      q->state = state;                                                                                      \
      return 1;                                                                                              \
    }                                                                                                        \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __always_inline int find_##it(struct name_search *q, const struct name_text *t) {                   \
    const __u32 first = (__u32)(q->hash >> 40) & q->last;                                                    \
    q->state = 0;                                                                                            \
    return find_##it##_in(q, first, t) || find_##it##_in(q, second_bucket(first, q->tag, q->last), t);       \
  }                                                                                                          \
                                                                                                             \
  static __always_inline int take_free_##it(struct name_search *q, __u32 bucket) {                           \
    const struct ea_bucket *b = bpf_map_lookup_elem(&buckets, &bucket);                                      \
    if (!b) return 0;                                                                                        \
    _Pragma("clang loop unroll(disable)") for (__u32 way = 0; way < EA_WAYS; way++) {                        \
      if (READ_ONCE(b->tags[way])) continue;                                                                 \
      __u32 slot = bucket * EA_WAYS + way;                                                                   \
      type *e = bpf_map_lookup_elem(&map, &slot);                                                            \
      if (!e) continue;                                                                                      \
      const __u32 state = READ_ONCE(e->state);                                                               \
      if (state & (EA_NAME_VALID | EA_NAME_BUSY)) continue;                                                  \
      if (!__sync_bool_compare_and_swap(&e->state, state, state | EA_NAME_BUSY)) continue;                   \
      if (unlikely(READ_ONCE(b->tags[way]))) {                                                               \
        __sync_lock_test_and_set(&e->state, state);                                                          \
        continue;                                                                                            \
      }                                                                                                      \
      q->slot = slot;                                                                                        \
      q->claimed = state;                                                                                    \
      return 1;                                                                                              \
    }                                                                                                        \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static long compare_##it(__u32 i, __u32 *unused) {                                                         \
    struct name_search *q = name_search();                                                                   \
    (void)unused;                                                                                            \
    if (!q) return 1;                                                                                        \
    const __u32 first = (__u32)(q->hash >> 40) & q->last;                                                    \
    const __u32 bucket = i < EA_WAYS ? first : second_bucket(first, q->tag, q->last);                        \
    __u32 slot = bucket * EA_WAYS + i % EA_WAYS;                                                             \
    const type *e = bpf_map_lookup_elem(&map, &slot);                                                        \
    if (!e) return 0;                                                                                        \
    const __u32 state = state_of(e);                                                                         \
    if ((state & (EA_NAME_VALID | EA_NAME_BUSY)) != EA_NAME_VALID) return 0;                                 \
    __u32 payer = READ_ONCE(e->payer);                                                                       \
    __u64 rank = (__u64)it##_expiry(e) + 1;                                                                  \
    if (payer == q->payer) {                                                                                 \
      rank |= 1ULL << 40;                                                                                    \
    } else {                                                                                                 \
      const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &payer);                                \
      const struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);                         \
      if (ep && ep->ifindex) {                                                                               \
        if (q->held >= q->share || !h || (__s32)READ_ONCE(h->held_field) <= (__s32)q->share) return 0;       \
        rank |= 1ULL << 39;                                                                                  \
      }                                                                                                      \
    }                                                                                                        \
    if (q->least && rank >= q->least) return 0;                                                              \
    q->least = rank;                                                                                         \
    q->slot = slot;                                                                                          \
    q->claimed = state;                                                                                      \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __always_inline int claim_##it(struct name_search *q) {                                             \
    const __u32 first = (__u32)(q->hash >> 40) & q->last;                                                    \
    __u32 payer = q->payer, unused = 0;                                                                      \
    struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);                                 \
    q->held = h ? at_least_zero_name(h->held_field) : 0;                                                     \
    if (take_free_##it(q, first) || take_free_##it(q, second_bucket(first, q->tag, q->last))) {              \
      if (h) __sync_fetch_and_add(&h->held_field, 1);                                                        \
      return 1;                                                                                              \
    }                                                                                                        \
    q->least = 0;                                                                                            \
    bpf_loop(2 * EA_WAYS, compare_##it, &unused, 0);                                                         \
    if (!q->least) return 0;                                                                                 \
    __u32 slot = q->slot;                                                                                    \
    type *e = bpf_map_lookup_elem(&map, &slot);                                                              \
    const __u32 busy = (q->claimed & ~(__u32)(EA_NAME_VALID | EA_NAME_LEAVING)) | EA_NAME_BUSY;              \
    if (!e || !__sync_bool_compare_and_swap(&e->state, q->claimed, busy)) return 0;                          \
    __u32 loser = e->payer;                                                                                  \
    struct ea_name_holding *theirs = bpf_map_lookup_elem(&name_holdings, &loser);                            \
    if (theirs) __sync_fetch_and_add(&theirs->held_field, -1);                                               \
    if (h) __sync_fetch_and_add(&h->held_field, 1);                                                          \
    q->claimed = busy;                                                                                       \
    return 1;                                                                                                \
  }

static __always_inline __u32 at_least_zero_name(__s32 entries) {
  return entries < 0 ? 0 : entries;
}
DEFINE_NAME_TABLE(name, struct ea_name, names, name_buckets, names)
DEFINE_NAME_TABLE(page, struct ea_name_page, name_pages, page_buckets, pages)

/* THE MATCHER (name_types.h). */

/* The symbol of a byte of a name; 0: no pattern has it. */
static __always_inline __u32 symbol_of(__u8 c) {
  if (c == '.') return 1;
  const __u8 letter = c - 'a', digit = c - '0';
  if (letter < 26) return 2 + letter;
  if (digit < 10) return 28 + digit;
  return c == '-' ? 38 : c == '_' ? 39 : 0;
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

/* A walk through the matcher, from the last byte of a text. `state` 0: nowhere. */
#define DEFINE_WALK(it, type, field)                                                                         \
  struct walk_##it {                                                                                         \
    __u32 state, left;                                                                                       \
    const type *text;                                                                                        \
  };                                                                                                         \
  static long step_##it(__u32 i, struct walk_##it *w) {                                                      \
    (void)i;                                                                                                 \
    if (!w->left || !w->state) return 1;                                                                     \
    const __u32 at = (w->left - 1) & (EA_NAME_TEXT - 1);                                                     \
    const __u32 symbol = symbol_of(w->text->field[at]);                                                      \
    w->left--;                                                                                               \
    if (!symbol) {                                                                                           \
      w->state = 0;                                                                                          \
      return 1;                                                                                              \
    }                                                                                                        \
    const struct ea_cell *c = cell_at(w->state + symbol);                                                    \
    if (c && c->owner == w->state) {                                                                         \
      w->state = c->next;                                                                                    \
      return 0;                                                                                              \
    }                                                                                                        \
    c = symbol == 1 ? NULL : cell_at(w->state);                                                              \
    w->state = c ? c->next : 0;                                                                              \
    return 0;                                                                                                \
  }                                                                                                          \
  /* The accepting state of a text; 0: no pattern matches it. */                                             \
  static __always_inline __u32 state_of_##it(const type *text, __u32 length, __u32 root) {                   \
    struct walk_##it w = {.state = root, .left = length, .text = text};                                      \
    bpf_loop(EA_NAME_TEXT, step_##it, &w, 0);                                                                \
    if (!w.state || w.left) return 0;                                                                        \
    const struct ea_cell *c = cell_at(w.state);                                                              \
    return c && (c->owner & EA_CELL_ACCEPTS) ? w.state : 0;                                                  \
  }
DEFINE_WALK(entry, struct ea_name, text)
DEFINE_WALK(text, struct name_text, bytes)

/* The classes of a name by the matcher in force, into name_work.name_class and alias_class. They are stored in
 * the entry too, with the generation of the matcher, for the next time. Only who sets BUSY stores them: so the
 * entry is not given to another name meanwhile, and two programs with two matchers do not mix theirs. */
GLOBAL_FUNCTION int classify_name(struct ea_name *n) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  if (!n || !st || !w) return 0;
  const __u64 matcher = READ_ONCE(st->matcher);
  const __u32 generation = matcher >> 32, seen = state_of(n);
  w->name_class = READ_ONCE(n->class_id);
  w->alias_class = READ_ONCE(n->alias_class);
  if (likely(READ_ONCE(n->generation) == generation && !(seen & EA_NAME_BUSY) && state_of(n) == seen))
    return 0;
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

/* The class of a name that is asked for in a query, in texts[TEXT_QUESTION]. */
GLOBAL_FUNCTION __u64 class_of_query(void) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  if (!st || !w) return 0;
  const __u32 root = (__u32)READ_ONCE(st->matcher);
  const __u32 state =
      root ? state_of_text(&w->texts[TEXT_QUESTION], w->texts[TEXT_QUESTION].length, root) : 0;
  return state ? cell_class(state, EA_CELL_QUERY) : 0;
}

/* JUDGING. */

/* Whether a link belongs to a living name. */
static __always_inline struct ea_name *name_of_link(const struct ea_name_link *l, __u32 endpoint) {
  const __u64 life = READ_ONCE(l->life);
  __u32 slot = READ_ONCE(l->name) & ~EA_LINK_ALIAS;
  if (!(life >> 32)) return NULL;
  struct ea_name *n = bpf_map_lookup_elem(&names, &slot);
  if (!n) return NULL;
  const __u32 state = state_of(n);
  return (state & EA_NAME_VALID) && incarnation_of(state) == life >> 32 && n->endpoint == endpoint ? n : NULL;
}

/* Adds the class of one link's name. */
GLOBAL_FUNCTION int add_link(const struct ea_name_link *l) {
  struct name_work *w = name_work();
  if (!w || !l) return 0;
  const __u32 name = READ_ONCE(l->name), incarnation = READ_ONCE(l->life) >> 32;
  struct ea_name *n = name_of_link(l, w->endpoint);
  if (!n) return 0;
  classify_name(n);
  const __u64 class_id = name & EA_LINK_ALIAS ? w->alias_class : w->name_class;
  const __u32 state = state_of(n);
  if (!(state & EA_NAME_VALID) || incarnation_of(state) != incarnation) return 0;
  if (!w->incarnation || (class_id && !w->count)) {
    w->name = name & ~EA_LINK_ALIAS;
    w->incarnation = incarnation;
  }
  const __u32 count = w->count;
  if (!class_id || count >= EA_NAME_PAGES * EA_NAME_LINKS) return 0;
  if (count && w->classes[class_index(count - 1)] == class_id) return 0;
  w->classes[class_index(count)] = class_id;
  w->count = count + 1;
  w->key += mixed(class_id);
  return 0;
}

static __always_inline long collect_step(__u32 page, struct name_search *q) {
  const struct ea_name_state_words *st = name_words();
  if (!st) return 1;
  q->page = page;
  q->hash = page_hash(q->endpoint, q->addr, page, st);
  q->tag = tag_of(q->hash);
  if (!find_page(q, NULL)) return 1;
  __u32 slot = q->slot;
  const struct ea_name_page *e = bpf_map_lookup_elem(&name_pages, &slot);
  if (!e) return 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_LINKS; i++)
    if (READ_ONCE(e->links[i].life)) add_link(&e->links[i]);
  return 0;
}

static long collect_more_step(__u32 i, __u32 *page) {
  struct name_search *q = name_search();
  (void)page;
  return q ? collect_step(i + 1, q) : 1;
}

/* Collects the classes of the names of an address in work memory, as an endpoint learned them. */
GLOBAL_FUNCTION int collect_names(__u32 endpoint, const struct target *t) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  struct name_search *q = name_search();
  if (!w || !q || !st || !t) return 0;
  w->endpoint = endpoint;
  w->count = w->name = w->incarnation = 0;
  w->key = 0;
  q->endpoint = endpoint;
  q->last = st->last_page_bucket;
  __builtin_memcpy(q->addr, t->addr, 16);
  /* Nearly every address has no name, or one page of them. */
  __u32 unused = 0;
  if (!collect_step(0, q)) bpf_loop(EA_NAME_PAGES - 1, collect_more_step, &unused, 0);
  return 0;
}

/* Reads how much an endpoint has learned, before its packet is judged. */
GLOBAL_FUNCTION int note_learned(__u32 payer) {
  struct name_work *w = name_work();
  const struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);
  if (w) w->learned = h ? READ_ONCE(h->learned) : 0;
  return 0;
}

/* Writes into a flow under which name its address was judged. */
static __always_inline void name_flow(struct ea_flow *flow) {
  const struct name_work *w = name_work();
  if (!w) return;
  flow->extra.name.name = w->name;
  flow->extra.name.incarnation = w->incarnation;
  flow->extra.name.learned = w->learned;
}

/* LEARNING. */

/* What could not be done. BUSY: others held a lock for too long; the caller drops the answer, and it comes
 * again. */
enum { LEARNED = 0, NAME_NO_ROOM = -1, NAME_BUSY = -2 };

/* After an entry was renewed: whether it is still the same, and stays. */
static __always_inline int keep_renewed(__u32 *state, __u32 seen) {
  return same_name_state(__sync_fetch_and_and(state, ~(__u32)EA_NAME_LEAVING), seen);
}

/* Puts the later of two expiries into an entry. */
static __always_inline void extend(__u32 *expires_s, __u32 until) {
  if (READ_ONCE(*expires_s) < until) WRITE_ONCE(*expires_s, until);
}

static __always_inline int renew_name(struct name_work *w, struct name_search *q, __u32 text, __u32 until,
                                      __u32 now) {
  __u32 slot = q->slot;
  struct ea_name *n = bpf_map_lookup_elem(&names, &slot);
  if (!n) return 0;
  extend(&n->expires_s, until);
  n->answered_s = now;
  if (w->learning.flags & ~n->flags) n->flags |= w->learning.flags;
  __builtin_memcpy(n->resolver, w->learning.resolver, 16);
  n->resolver_port = w->learning.resolver_port;
  if (!keep_renewed(&n->state, q->state)) return 0;
  w->names[text & 31] = slot;
  w->incarnations[text & 31] = incarnation_of(q->state);
  return 1;
}

/* Stores the name of texts[text], or renews it, for learning.endpoint. */
GLOBAL_FUNCTION int remember_name(__u32 text, __u32 until) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  struct name_search *q = name_search();
  if (!st || !w || !q || text >= NAME_TEXTS) return NAME_NO_ROOM;
  const struct name_text *t = &w->texts[text];
  const __u32 now = seconds();
  q->endpoint = w->learning.endpoint;
  q->payer = w->learning.payer;
  q->hash = name_hash(t, q->endpoint, st);
  q->tag = tag_of(q->hash);
  q->last = st->last_name_bucket;
  q->share = st->name_share;
  if (find_name(q, t) && renew_name(w, q, text, until, now)) return LEARNED;

  __u32 first = (__u32)(q->hash >> 40) & q->last, locked = first;
  bpf_loop(MAX_LOCK_ATTEMPTS, lock_name_bucket_step, &locked, 0);
  if (locked == first) return NAME_BUSY;
  int result = NAME_NO_ROOM;
  if (find_name(q, t) && renew_name(w, q, text, until, now)) {
    result = LEARNED;
  } else if (claim_name(q)) {
    __u32 slot = q->slot, bucket = slot / EA_WAYS;
    struct ea_name *n = bpf_map_lookup_elem(&names, &slot);
    struct ea_bucket *b = bpf_map_lookup_elem(&name_buckets, &bucket);
    if (n && b) {
      WRITE_ONCE(b->tags[slot % EA_WAYS], 0);
      n->endpoint = q->endpoint;
      n->hash = t->hash;
      n->payer = q->payer;
      n->class_id = n->alias_class = 0;
      n->generation = 0;
      n->learned_s = n->answered_s = now;
      n->expires_s = until;
      n->length = t->length;
      n->flags = w->learning.flags;
      __builtin_memcpy(n->resolver, w->learning.resolver, 16);
      n->resolver_port = w->learning.resolver_port;
      __builtin_memcpy(n->text, t->bytes, EA_NAME_TEXT);
      const __u32 fresh = ((q->claimed & ~(__u32)(EA_NAME_NEXT - 1)) + EA_NAME_NEXT) | EA_NAME_VALID;
      __sync_lock_test_and_set(&n->state, fresh);
      WRITE_ONCE(b->tags[slot % EA_WAYS], q->tag);
      w->names[text & 31] = slot;
      w->incarnations[text & 31] = incarnation_of(fresh);
      result = LEARNED;
    }
  }
  struct ea_bucket *home = bpf_map_lookup_elem(&name_buckets, &first);
  if (home) __sync_lock_test_and_set(&home->lock, 0);
  return result;
}

/* Puts a link to a name into the page that was found, whose bucket is locked. 1: done. 0: the page is full. */
static __always_inline int link_into(struct name_work *w, struct name_search *q, __u32 name, __u64 life) {
  __u32 page = q->slot, free = EA_NAME_LINKS;
  struct ea_name_page *e = bpf_map_lookup_elem(&name_pages, &page);
  if (!e) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_LINKS; i++) {
    struct ea_name_link *l = &e->links[i];
    const __u64 was = READ_ONCE(l->life);
    if (was >> 32 == life >> 32 && READ_ONCE(l->name) == name) {
      if ((__u32)was < (__u32)life) __sync_lock_test_and_set(&l->life, life);
      l->ttl_s = w->learning.ttl_s;
      return 1;
    }
    if (free == EA_NAME_LINKS && (!was || !name_of_link(l, q->endpoint))) free = i;
  }
  if (free >= EA_NAME_LINKS) return 0;
  struct ea_name_link *l = &e->links[free];
  __sync_lock_test_and_set(&l->life, 0);
  WRITE_ONCE(l->name, name);
  l->ttl_s = w->learning.ttl_s;
  __sync_lock_test_and_set(&l->life, life);
  return 1;
}

static __always_inline void new_page(struct name_work *w, struct name_search *q, __u32 name, __u64 life) {
  __u32 slot = q->slot, bucket = slot / EA_WAYS;
  struct ea_name_page *e = bpf_map_lookup_elem(&name_pages, &slot);
  struct ea_bucket *b = bpf_map_lookup_elem(&page_buckets, &bucket);
  if (!e || !b) return;
  WRITE_ONCE(b->tags[slot % EA_WAYS], 0);
  e->endpoint = q->endpoint;
  e->payer = q->payer;
  e->page = q->page;
  __builtin_memcpy(e->addr, q->addr, 16);
  __builtin_memset(e->links, 0, sizeof(e->links));
  e->links[0].name = name;
  e->links[0].ttl_s = w->learning.ttl_s;
  e->links[0].life = life;
  const __u32 fresh = ((q->claimed & ~(__u32)(EA_NAME_NEXT - 1)) + EA_NAME_NEXT) | EA_NAME_VALID;
  __sync_lock_test_and_set(&e->state, fresh);
  WRITE_ONCE(b->tags[slot % EA_WAYS], q->tag);
}

/* Links an address to a name, in the first of its pages that has room. In place of a result: LINK_PAGE_FULL. */
enum { LINK_PAGE_FULL = 1 };
GLOBAL_FUNCTION int link_in_page(__u32 page, __u32 name, __u64 life) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  struct name_search *q = name_search();
  if (!st || !w || !q) return NAME_NO_ROOM;
  q->endpoint = w->learning.endpoint;
  q->payer = w->learning.payer;
  q->page = page;
  __builtin_memcpy(q->addr, w->learning.addr, 16);
  q->hash = page_hash(q->endpoint, q->addr, page, st);
  q->tag = tag_of(q->hash);
  q->last = st->last_page_bucket;
  q->share = st->page_share;
  __u32 first = (__u32)(q->hash >> 40) & q->last, locked = first;
  struct ea_bucket *home = bpf_map_lookup_elem(&page_buckets, &first);
  if (!home) return NAME_NO_ROOM;
  if (unlikely(!__sync_bool_compare_and_swap(&home->lock, 0, 1))) {
    bpf_loop(MAX_LOCK_ATTEMPTS, lock_page_bucket_step, &locked, 0);
    if (locked == first) return NAME_BUSY;
  }
  int result = NAME_NO_ROOM;
  if (find_page(q, NULL)) {
    result = link_into(w, q, name, life) ? LEARNED : LINK_PAGE_FULL;
    __u32 slot = q->slot;
    struct ea_name_page *e = bpf_map_lookup_elem(&name_pages, &slot);
    if (e && !keep_renewed(&e->state, q->state)) q->state = 0;
  }
  if (!q->state && claim_page(q)) {
    new_page(w, q, name, life);
    result = LEARNED;
  }
  __sync_lock_test_and_set(&home->lock, 0);
  return result;
}

/* Remembers learning.addr as an address of texts[learning.text]. */
GLOBAL_FUNCTION int learn_address(void) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  if (!st || !w) return NAME_NO_ROOM;
  struct learning *l = &w->learning;
  const __u32 text = l->text;
  if (text >= NAME_TEXTS) return NAME_NO_ROOM;
  __u32 ttl = l->ttl_s < 604800 ? l->ttl_s : 604800; /* a week: RFC 8767 advises caches to stop there */
  if (ttl < st->ttl_min_s) ttl = st->ttl_min_s;
  const __u32 until = seconds() + ttl + st->ttl_extra_s;
  __u32 payer = l->payer;
  struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);
  int result = LEARNED;
  if (!w->incarnations[text]) result = remember_name(text, until);
  if (result == LEARNED) {
    __u32 slot = w->names[text];
    struct ea_name *n = bpf_map_lookup_elem(&names, &slot);
    if (n) {
      extend(&n->expires_s, until);
      classify_name(n);
    }
    const __u32 name = slot | (l->alias ? EA_LINK_ALIAS : 0);
    const __u64 life = (__u64)w->incarnations[text] << 32 | until;
    result = LINK_PAGE_FULL;
    for (__u32 page = 0; page < EA_NAME_PAGES && result == LINK_PAGE_FULL; page++)
      result = link_in_page(page, name, life);
  }
  if (!h) return result;
  if (result == LEARNED)
    __sync_fetch_and_add(&h->learned, 1);
  else if (result == LINK_PAGE_FULL)
    __sync_fetch_and_add(&h->overflow, 1);
  else if (result == NAME_NO_ROOM)
    __sync_fetch_and_add(&h->refused, 1);
  return result == NAME_BUSY ? NAME_BUSY : result == LEARNED ? LEARNED : NAME_NO_ROOM;
}

#endif
