/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Answers that come again. Applications look up a name for each connection, and get the same answer each time.
 * What an endpoint has learned in this second needs not be learned again: nothing would change but an expiry,
 * by less than a second.
 *
 * Such an answer is known by one of two hashes: of its bytes, without the id, before its records are read; or of
 * what its records say, in any order (say_record), since resolvers rotate them. Both are hashed with the second,
 * and with how many names and pages the endpoint holds and has ever learned: if one of them is freed or gives
 * way to another, the answer is learned anew.
 * Whatever a collision may bring about, it opens nothing. The hashes stand in an array, each in place of the one
 * before; who asks much costs others time, and nothing else. */
#ifndef EA_DNS_AGAIN_H
#define EA_DNS_AGAIN_H

#include "dns.h"

enum { AGAIN_SLOTS = 4096, AGAIN_WORDS = 64 };

struct learned_answers {
  __u64 keys[AGAIN_SLOTS];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct learned_answers);
} learned_answers SEC(".maps");

/* The hash of the answer in `m`. 0: it is too long to be remembered. */
GLOBAL_FUNCTION __u64 hash_answer(const struct dns_buffer *m) {
  const struct ea_name_state_words *st = name_words();
  if (!m || !st || m->length <= DNS_HEADER || m->length > AGAIN_WORDS * 8) return 0;
  const __u64 *words = (const __u64 *)m->bytes, factor = st->secret[5] | 1;
  const __u32 whole = m->length / 8, rest = m->length % 8;
  __u64 h = m->length;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < AGAIN_WORDS; i++) {
    if (i > whole) break;
    __u64 word = words[i];
    if (i == whole) word &= ~(~0ULL << (rest * 8));
    if (i == 0) word >>= 16; /* the id */
    h = (h + word) * factor;
    h = h << 31 | h >> 33;
  }
  return h;
}

/* Where the answer is known as learned by the endpoint in name_work.learning; `key`: as what. NULL: nowhere. */
static __always_inline __u64 *again_slot(__u64 hash, __u64 *key) {
  const struct ea_name_state_words *st = name_words();
  const struct name_work *w = name_work();
  /* What may expire in the second in which it was learned has to be learned again. */
  if (!hash || !w || !st || st->ttl_min_s + st->ttl_extra_s < 2) return NULL;
  __u32 payer = w->learning.payer;
  const struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);
  __u32 zero = 0;
  struct learned_answers *all = bpf_map_lookup_elem(&learned_answers, &zero);
  if (!h || !all) return NULL;
  const __u64 held = scattered((__u64)READ_ONCE(h->names) << 32 | READ_ONCE(h->pages));
  const __u64 when = scattered((__u64)w->learning.endpoint << 32 | seconds());
  *key = mixed(hash + scattered(held + scattered(when + READ_ONCE(h->learned))));
  __u64 slot = hash >> 20;
  asm volatile("%0 &= 0xfff" : "+r"(slot));
  return &all->keys[slot];
}

/* Whether the endpoint has learned this answer in this second. */
GLOBAL_FUNCTION int is_learned_again(__u64 hash) {
  __u64 key = 0;
  const __u64 *slot = again_slot(hash, &key);
  return slot && READ_ONCE(*slot) == key;
}

/* Notes that the endpoint has learned it. */
GLOBAL_FUNCTION int note_learned_answer(__u64 hash) {
  __u64 key = 0;
  __u64 *slot = again_slot(hash, &key);
  if (slot) WRITE_ONCE(*slot, key);
  return 0;
}

#endif
