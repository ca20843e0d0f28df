/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Room in the flow table: who gets it, and which entry is replaced for it. The rules are in table.h. */
#ifndef EA_ROOM_H
#define EA_ROOM_H

#include "table.h"

/* The worth of a flow when room is needed. A flood of packets that nobody answers stays at the two lowest. */
enum { WORTH_NOTHING = 0, WORTH_HALF_OPEN = 1, WORTH_ANSWERED = 2, WORTH_ESTABLISHED = 3 };

static __always_inline __u32 worth_of(const struct ea_flow_key *key, const struct ea_flow *flow) {
  if (flow->kind == EA_KIND_QUERY) return WORTH_HALF_OPEN;
  if (flow->kind != EA_KIND_FLOW || flow->verdict == EA_VERDICT_DENY || (flow->tcp_state & EA_TCP_CLOSED))
    return WORTH_NOTHING;
  const int inbound = flow->flags & EA_FLOW_INBOUND;
  if (key->protocol == IPPROTO_TCP)
    return (inbound ? flow->flags & EA_FLOW_CONFIRMED
                    : (flow->tcp_state & EA_TCP_OPEN) && packets_in_of(flow) > 0)
               ? WORTH_ESTABLISHED
               : WORTH_HALF_OPEN;
  return (inbound ? flow->flags & EA_FLOW_CONFIRMED : packets_in_of(flow) > 0 && packets_out_of(flow) > 0)
             ? WORTH_ANSWERED
             : WORTH_HALF_OPEN;
}

/* A flow that is to be stored, and what was found out to make room for it. */
struct insertion {
  __u32 payer;
  __u32 way;
  __u32 share;
  __u32 bucket[2];
  __u32 worth;
  __u32 held; /* entries that its payer holds */
  __u32 worthless;
  __u32 own_only; /* takes no free way and replaces no entry of others */
  __u64 least;
  struct place at; /* the entry of least worth so far; seen 0: none */
};

/* Locks a free way of a bucket. 1: n->at says which. */
GLOBAL_FUNCTION int lock_free_way(struct insertion *n, __u32 bucket) {
  if (!n) return 0;
  const struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
  if (!b) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_WAYS; i++) {
    const __u32 way = (n->way + i) & (EA_WAYS - 1);
    if (READ_ONCE(b->tags[way])) continue;
    __u32 slot = bucket * EA_WAYS + way;
    struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
    if (!e) continue;
    const __u32 state = READ_ONCE(e->state);
    if (state & (EA_ENTRY_VALID | EA_ENTRY_LOCKED)) continue;
    if (!__sync_bool_compare_and_swap(&e->state, state, state | EA_ENTRY_LOCKED)) continue;
    /* Another flow may have been stored here meanwhile, and the agent may just be freeing it: the agent will
     * still store a tag of 0, which would hide the new entry. */
    if (unlikely(READ_ONCE(b->tags[way]))) {
      __sync_lock_test_and_set(&e->state, state);
      continue;
    }
    n->at.slot = slot;
    n->at.seen = state;
    return 1;
  }
  return 0;
}

GLOBAL_FUNCTION int free_ways(__u32 bucket) {
  const struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
  int n = 0;
  if (!b) return 0;
  for (__u32 way = 0; way < EA_WAYS; way++)
    n += !READ_ONCE(b->tags[way]);
  return n;
}

/* A count as it was read. It may be below zero for a while: an agent was killed between two of its writes, or
 * the agent corrects it while it changes. */
static __always_inline __u32 at_least_zero(__s32 entries) {
  return entries < 0 ? 0 : entries;
}
static __always_inline __u32 entries_of(const struct ea_holding *h) {
  return h ? at_least_zero(READ_ONCE(h->entries)) : 0;
}

/* Compares entry `i` of the two buckets with the best candidate for replacement so far. */
GLOBAL_FUNCTION int compare_worth(struct insertion *n, __u32 i) {
  if (!n) return 0;
  __u32 slot = n->bucket[(i / EA_WAYS) & 1] * EA_WAYS + i % EA_WAYS;
  const struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
  if (!e) return 0;
  const __u32 state = state_of(e);
  if ((state & (EA_ENTRY_VALID | EA_ENTRY_LOCKED)) != EA_ENTRY_VALID) return 0;
  __u32 payer = READ_ONCE(e->flow.payer);
  const __u32 worth = worth_of(&e->key, &e->flow);
  __u64 rank = ((__u64)worth << 58) | (e->flow.last_jiffies & ((1ULL << 58) - 1));
  if (payer == n->payer) {
    if (worth > n->worth) return 0;
    rank |= 1ULL << 62;
  } else {
    if (n->own_only) return 0;
    const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &payer);
    if (ep && ep->ifindex) {
      if (n->held >= n->share || entries_of(bpf_map_lookup_elem(&flow_holdings, &payer)) <= n->share)
        return 0;
    } else {
      rank &= (1ULL << 58) - 1; /* a removed endpoint has no share */
    }
  }
  if (n->at.seen && rank >= n->least) return 0;
  n->least = rank;
  n->at.slot = slot;
  n->at.seen = state;
  return 0;
}

/* Replaces the entry of least worth where no way is free. 1: n->at is locked and has no key any more. */
static __always_inline int evict(struct insertion *n) {
  n->at.seen = 0;
  for (__u32 i = 0; i < 2 * EA_WAYS; i++)
    compare_worth(n, i);
  if (!n->at.seen) return 0;
  __u32 slot = n->at.slot;
  struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
  const __u32 free = n->at.seen & ~(__u32)EA_ENTRY_VALID;
  if (!e || !__sync_bool_compare_and_swap(&e->state, n->at.seen, free | EA_ENTRY_LOCKED)) return 0;
  charge_payer(&e->flow, -1);
  count(EA_COUNT_FLOWS_EVICTED);
  n->at.seen = free;
  return 1;
}

static __always_inline int make_room(struct insertion *n) {
  /* Flows of no worth leave room for others: beyond a quarter of the share they replace only their payer's
   * own entries. */
  n->own_only = n->worth == WORTH_NOTHING && n->worthless >= n->share / 4;
  if (!n->own_only) {
    const int free_here = free_ways(n->bucket[0]);
    if (free_here < 3 && free_here < free_ways(n->bucket[1]) && lock_free_way(n, n->bucket[1])) return 1;
    if (lock_free_way(n, n->bucket[0]) || lock_free_way(n, n->bucket[1])) return 1;
  }
  return evict(n);
}

DEFINE_BUCKET_LOCK(lock_bucket_step, flow_buckets)

/* Puts another flow into an entry that this program has locked. Its payer, and how it is counted there,
 * stay. */
static __always_inline void replace(struct ea_flow *stored, const struct ea_flow *flow) {
  const __u32 payer = stored->payer;
  const __u8 worthless = stored->worthless;
  *stored = *flow;
  stored->payer = payer;
  stored->worthless = worthless;
}

/* Merges a flow into the locked entry of the same key, because two CPUs stored it at the same moment: the
 * later verdict and the sum of the counters. An entry that is no such flow is replaced. */
static __always_inline void merge(struct ea_flow *stored, const struct ea_flow *flow) {
  if (flow->kind != EA_KIND_FLOW || (flow->flags & EA_FLOW_SEEDED)) {
    replace(stored, flow);
    return;
  }
  __sync_fetch_and_add(&stored->shared_packets_out, flow->packets_out);
  __sync_fetch_and_add(&stored->shared_bytes_out, flow->bytes_out);
  __sync_fetch_and_add(&stored->drops, flow->drops);
  if (flow->tcp_state & ~stored->tcp_state & EA_TCP_INSPECT) {
    stored->extra = flow->extra;
    stored->tcp_state |= flow->tcp_state & (EA_TCP_INSPECT | EA_TCP_SAYS);
  }
  if (stored->set == flow->set && *(const __u64 *)stored == *(const __u64 *)flow) return;
  /* If a peer opened the connection meanwhile, the endpoint may answer, whatever its own packet met. */
  if ((stored->flags & EA_FLOW_INBOUND) && !(flow->flags & EA_FLOW_INBOUND)) return;
  stored->rule = flow->rule;
  stored->audit_rule = flow->audit_rule;
  stored->tcp_state = flow->tcp_state | (stored->tcp_state & (EA_TCP_INSPECT | EA_TCP_SAYS));
  stored->owner = flow->owner;
  WRITE_ONCE(*(__u64 *)stored, *(const __u64 *)flow);
  WRITE_ONCE(stored->set, flow->set);
}

/* Stores a flow or side record under its key, in place of what the table has there. 1: it is stored, and
 * locked, at `at`. 0: there is no room, or others held the lock for too long; then `at` is the existing entry
 * of the key, if there is one. `n`: in scratch memory. */
GLOBAL_FUNCTION int insert(const struct ea_flow_key *key, const struct ea_flow *flow, struct place *at,
                           struct insertion *n) {
  const struct ea_state *st = current_state();
  if (!key || !flow || !at || !st || !n) return 0;
  const __u64 hash = hash_of(key, st);
  const __u32 tag = tag_of(hash), first = first_bucket(hash, st);
  __u32 locked = first;
  __u32 which = first;
  struct ea_bucket *home = bpf_map_lookup_elem(&flow_buckets, &which);
  if (home && unlikely(!__sync_bool_compare_and_swap(&home->lock, 0, 1))) {
    bpf_loop(MAX_LOCK_ATTEMPTS, lock_bucket_step, &locked, 0);
    if (locked == first) home = NULL;
  }

  int stored = 0;
  at->seen = 0;
  struct ea_entry *e = find(key, at);
  if (!home) return 0;
  if (e) {
    stored = lock_entry(e, at);
    if (stored) merge(&e->flow, flow);
  } else {
    __u32 payer = flow->payer;
    struct ea_holding *h = bpf_map_lookup_elem(&flow_holdings, &payer);
    n->payer = payer;
    n->way = way_of(hash);
    n->share = st->share;
    n->bucket[0] = first;
    n->bucket[1] = other_bucket(first, tag, st);
    /* A side record is the first to be replaced, but is stored like a half open flow: without the record of
     * its first fragment, a later fragment could get another verdict. A query is stored like a flow that was
     * answered: of an endpoint that goes on asking, those are what it holds. */
    n->worth = flow->kind == EA_KIND_QUERY       ? WORTH_ANSWERED
               : same16(key->local, key->remote) ? WORTH_NOTHING
               : flow->kind != EA_KIND_FLOW      ? WORTH_HALF_OPEN
                                                 : worth_of(key, flow);
    n->held = entries_of(h);
    n->worthless = h ? at_least_zero(READ_ONCE(h->worthless)) : 0;
    if (make_room(n)) {
      __u32 slot = n->at.slot;
      e = bpf_map_lookup_elem(&flows, &slot);
      __u32 bucket = slot / EA_WAYS;
      struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
      if (e && b) {
        e->key = *key;
        e->flow = *flow;
        e->flow.worthless = n->worth == WORTH_NOTHING;
        charge_payer(&e->flow, 1);
        at->slot = slot;
        at->seen = (n->at.seen + EA_ENTRY_NEXT) | EA_ENTRY_VALID;
        __sync_lock_test_and_set(&e->state, at->seen | EA_ENTRY_LOCKED);
        WRITE_ONCE(b->tags[slot % EA_WAYS], tag);
        stored = 1;
      }
    }
  }
  __sync_lock_test_and_set(&home->lock, 0);
  return stored;
}

/* Stores a side record, while there is room. `flow`: in scratch memory; its `side_record` is the content. */
static __always_inline int put_side_record(const struct ea_flow_key *key, const struct ea_flow *flow,
                                           struct scratch *s) {
  struct place at = {};
  if (!insert(key, flow, &at, (struct insertion *)s->bytes)) return 0;
  __u32 slot = at.slot;
  struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
  if (e) unlock_entry(e, at.seen);
  return 1;
}

#endif
