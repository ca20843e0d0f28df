/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The tables of names: what endpoints learned from DNS answers.
 *
 * TWO TABLES. `names` has each name that an endpoint learned, once. `name_pages` has, for each address that an
 * endpoint learned, the names of it: two in a page, and further pages for more. Both are stored as the flow
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
#ifndef EA_NAME_TABLE_H
#define EA_NAME_TABLE_H

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

static __always_inline __u64 name_hash(const struct packed_name *t, __u32 endpoint,
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
GLOBAL_FUNCTION int same_text(const struct ea_name *n, const struct packed_name *t) {
  if (!n || !t || n->hash != t->hash || n->length != t->length) return 0;
  const __u64 *a = (const __u64 *)n->text, *b = (const __u64 *)t->units;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_UNITS / 4; i++) {
    if (i * 12 >= t->length) break;
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
                                   const struct packed_name *t) {
  return n->endpoint == q->endpoint && t && same_text(n, t);
}
static __always_inline int is_page(const struct ea_name_page *n, const struct name_search *q,
                                   const struct packed_name *t) {
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

DEFINE_BUCKET_LOCK(lock_name_bucket_step, name_buckets)
DEFINE_BUCKET_LOCK(lock_page_bucket_step, page_buckets)

/* Functions for the two tables:
 *   search   finds the entry of a key
 *   compare  compares an entry with the best candidate for replacement so far
 *   claim    takes a free way, or the one whose entry is replaced: it is BUSY then. 0: there is no room */
#define DEFINE_NAME_TABLE(it, type, map, buckets, held_field)                                                \
  static __always_inline int find_##it##_in(struct name_search *q, __u32 bucket,                             \
                                            const struct packed_name *t) {                                   \
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
  static __always_inline int find_##it(struct name_search *q, const struct packed_name *t) {                 \
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

#endif
