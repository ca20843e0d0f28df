/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Names: which classes of names an address has for an endpoint, and how an endpoint learns addresses. The
 * tables, and who may change them when, are in name_table.h. */
#ifndef EA_NAMES_H
#define EA_NAMES_H

#include "matcher.h"

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
static __always_inline int add_link(const struct ea_name_link *l) {
  struct name_work *w = name_work();
  if (!w || !l) return 0;
  const __u32 name = READ_ONCE(l->name), incarnation = READ_ONCE(l->life) >> 32;
  struct ea_name *n = name_of_link(l, w->endpoint);
  if (!n) return 0;
  if (unlikely(!recall_classes(w, n))) classify_name(n);
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
  w->key += scattered(class_id);
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
  return !READ_ONCE(e->more);
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
  __builtin_memcpy(w->collected, t->addr, 16);
  /* Nearly every address has no name, or one page of them. */
  __u32 unused = 0;
  if (!collect_step(0, q)) bpf_loop(EA_NAME_PAGES - 1, collect_more_step, &unused, 0);
  return 0;
}

/* Whether the names that were collected last are those of this target. */
static __always_inline int are_collected(const struct target *t) {
  const struct name_work *w = name_work();
  return w && w->endpoint == t->endpoint && same16(w->collected, t->addr);
}

/* Reads how much an endpoint has learned, before its packet is judged. */
static __always_inline int note_learned(__u32 payer) {
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
  pack_name(text);
  const struct packed_name *t = &w->packed;
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
      __builtin_memcpy(n->text, t->units, sizeof(n->text));
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

/* In place of a result, of one page: it has no room; the link is in it, and nothing is new. */
enum { LINK_PAGE_FULL = 1, LINK_RENEWED = 2 };

/* Looks for a page of the learned address: find_page() says whether it is there. */
static __always_inline void seek_page(const struct name_work *w, struct name_search *q, __u32 page,
                                      const struct ea_name_state_words *st) {
  q->endpoint = w->learning.endpoint;
  q->payer = w->learning.payer;
  q->page = page;
  __builtin_memcpy(q->addr, w->learning.addr, 16);
  q->hash = page_hash(q->endpoint, q->addr, page, st);
  q->tag = tag_of(q->hash);
  q->last = st->last_page_bucket;
  q->share = st->page_share;
}

/* Puts the later expiry into the link to a name, if it is in this page of the address, without a lock: nobody
 * gives a link of a living name away; only the agent clears it, by a compare-and-swap, and not before it is
 * over. LINK_RENEWED: done. LINK_PAGE_FULL: it may be in the next page. 0: it is nowhere. */
GLOBAL_FUNCTION int renew_link(__u32 page, __u32 name, __u64 life) {
  const struct ea_name_state_words *st = name_words();
  const struct name_work *w = name_work();
  struct name_search *q = name_search();
  if (!st || !w || !q) return 0;
  seek_page(w, q, page, st);
  if (!find_page(q, NULL)) return 0;
  __u32 slot = q->slot;
  struct ea_name_page *e = bpf_map_lookup_elem(&name_pages, &slot);
  if (!e) return 0;
  int result = READ_ONCE(e->more) ? LINK_PAGE_FULL : 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_LINKS; i++) {
    struct ea_name_link *l = &e->links[i];
    const __u64 was = READ_ONCE(l->life);
    if (was >> 32 != life >> 32 || READ_ONCE(l->name) != name) continue;
    if ((__u32)was < (__u32)life && !__sync_bool_compare_and_swap(&l->life, was, life)) return 0;
    if (l->ttl_s != w->learning.ttl_s) l->ttl_s = w->learning.ttl_s;
    result = LINK_RENEWED;
    break;
  }
  const __u32 state = READ_ONCE(e->state);
  return same_name_state(state, q->state) && !(state & EA_NAME_LEAVING) ? result : 0;
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
  e->more = 0;
  __builtin_memcpy(e->addr, q->addr, 16);
  __builtin_memset(e->links, 0, sizeof(e->links));
  e->links[0].name = name;
  e->links[0].ttl_s = w->learning.ttl_s;
  e->links[0].life = life;
  const __u32 fresh = ((q->claimed & ~(__u32)(EA_NAME_NEXT - 1)) + EA_NAME_NEXT) | EA_NAME_VALID;
  __sync_lock_test_and_set(&e->state, fresh);
  WRITE_ONCE(b->tags[slot % EA_WAYS], q->tag);
}

/* Links the learned address to a name in this page of it, if that has room. */
GLOBAL_FUNCTION int link_in_page(__u32 page, __u32 name, __u64 life) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *w = name_work();
  struct name_search *q = name_search();
  if (!st || !w || !q) return NAME_NO_ROOM;
  seek_page(w, q, page, st);
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
    if (e && result == LINK_PAGE_FULL) WRITE_ONCE(e->more, 1);
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
      if (unlikely(!recall_classes(w, n))) classify_name(n);
    }
    const __u32 name = slot | (l->alias ? EA_LINK_ALIAS : 0);
    const __u64 life = (__u64)w->incarnations[text] << 32 | until;
    /* The link may be in any page of the address. If it is in none, it goes into the first that has room. */
    result = LINK_PAGE_FULL;
    for (__u32 page = 0; page < EA_NAME_PAGES && result == LINK_PAGE_FULL; page++)
      result = renew_link(page, name, life);
    if (likely(result == LINK_RENEWED)) return LEARNED;
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
