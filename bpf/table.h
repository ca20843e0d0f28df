/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The flow table: what the programs remember between packets, for all endpoints, shared fairly.
 *
 * WHERE A KEY IS STORED. A keyed hash gives each key two buckets of eight ways each, a tag, and one preferred
 * way. The tags of a bucket say which of its ways may hold the key. A flow enters its first bucket while that
 * has room, in its preferred way if that is free. After that it enters the emptier of the two buckets. With
 * half of the table in use, no bucket overflows.
 *
 * WHO PAYS FOR AN ENTRY. Each entry is charged to one endpoint, its payer: the sender, or, for what a pod of
 * this node opens to another pod, the opener. While there is room, an endpoint may use all of it. Where both
 * buckets are full:
 *   - a payer that holds its share or more replaces one of its own entries, or its flow is not stored;
 *   - a payer that holds less replaces an entry of a payer that holds more than its share, or else one of its
 *     own.
 * So nobody can take what an endpoint holds within its share, as long as that endpoint exists. Everybody may
 * replace the entries of an endpoint that was removed.
 *
 * Among the entries that may be replaced, the one of least worth is replaced (worth_of: denied, half open,
 * answered, established); among equals, the one that was silent for longest. A payer never replaces an entry
 * of its own that is worth more than the new one. A flow that is denied, or that goes to the sender itself,
 * takes free ways and ways of others only until its payer holds a quarter of its share in such entries.
 *
 * A flow that is not stored is judged packet by packet. If the endpoint opened it, this costs time and its
 * counters, but never changes its verdict. Replies to an inbound connection that was not stored are judged as
 * the endpoint's own packets, and a later fragment whose first was not stored is judged by rules without
 * ports.
 *
 * CONCURRENCY. All CPUs, both hooks of a device and the agent use the table at once. Nobody waits for another
 * for more than some microseconds.
 *
 * The lock: an entry's `state` holds its generation, VALID and LOCKED. To change anything but counters, a
 * program sets LOCKED by a compare-and-swap from exactly the state under which it found the key, and clears
 * it the same way when it is done. A program is not interrupted by another one on its CPU, does not sleep and
 * always ends, so a lock is held for about a microsecond. A program that does not get the lock in time works
 * on a copy, and its changes are lost (FLOWS_BUSY). Only the holder of the lock clears VALID and gives the
 * entry another key, under the next generation.
 *
 * Readers take no lock. They read the state, the key, the fields that they need, and the state again. If
 * generation and VALID are the same both times, all of it belonged to one flow. Epoch, verdict, reason and
 * flags are one aligned word, so a verdict is never read with another verdict's label. The set is written
 * after the verdict, and read before that word.
 *
 * Counters and TCP flags are added without a lock, after the state was read again. One CPU owns the counters
 * of a direction and adds to them without atomic operations; the other CPUs add atomically to the shared
 * counters. TCP flags are always added atomically. Between the last read of the state and the addition the
 * entry may pass to another flow, which then counts one packet too many or has a flag too many. This is
 * harmless. Counters decide only which entry of one payer is replaced first, how long a flow may be silent,
 * and that a peer's datagram does not reopen a denied flow that once passed. TCP flags decide nothing: they
 * are only reported.
 *
 * No key is stored twice: a program that inserts a key holds the lock of its first bucket and looks the key
 * up again before it inserts. Ways, also those of the second bucket, are taken by the locks of their entries.
 * A way is free while its tag is 0; the tag is written after the key, while the entry is locked.
 *
 * The agent frees an entry by one compare-and-swap of its state, from unlocked to free under the next
 * generation, and then clears the tag. Nobody uses a way that is free but still has its tag. If the agent is
 * killed in between, the tag is cleared once it has stayed so over two of the sweeper's passes. The agent
 * never locks. */
#ifndef EA_TABLE_H
#define EA_TABLE_H

#include "config.h"

/* Adds a packet to the counters of a flow that any CPU may add to. */
static __always_inline void add_shared(struct ea_flow *flow, const int out, __u32 length) {
  __sync_fetch_and_add(out ? &flow->shared_packets_out : &flow->shared_packets_in, 1);
  __sync_fetch_and_add(out ? &flow->shared_bytes_out : &flow->shared_bytes_in, length);
}
static __always_inline void add_packet(struct ea_flow *flow, const int out, __u32 length) {
  if (unlikely((out ? READ_ONCE(flow->cpu_out) : READ_ONCE(flow->cpu_in)) != bpf_get_smp_processor_id())) {
    add_shared(flow, out, length);
  } else if (out) {
    flow->packets_out += 1;
    flow->bytes_out += length;
  } else {
    flow->packets_in += 1;
    flow->bytes_in += length;
  }
}
/* Adds to the TCP flags that a flow's packets had. Like counters, without the lock: therefore by one atomic
 * operation on the word that contains them. */
static __always_inline void add_flags(struct ea_flow *flow, __u8 flags) {
  if (likely(!(flags & ~flow->tcp_flags))) return;
  _Static_assert(__builtin_offsetof(struct ea_flow, tcp_flags) % 4 == 1, "the second byte of its word");
  __sync_fetch_and_or((__u32 *)(&flow->tcp_flags - 1), (__u32)flags << 8);
}
static __always_inline __u64 packets_out_of(const struct ea_flow *flow) {
  return flow->packets_out + flow->shared_packets_out;
}
static __always_inline __u64 packets_in_of(const struct ea_flow *flow) {
  return flow->packets_in + flow->shared_packets_in;
}

/* The position of an entry, and the state under which its key was found there. */
struct place {
  __u32 slot;
  __u32 seen; /* without LOCKED */
};

/* Reads an entry's state, ordered with the reads before and after it. x86 keeps loads in order by itself.
 * Elsewhere an atomic operation that returns a value is a full barrier. */
#if defined(__TARGET_ARCH_x86)
#define state_of(e) READ_ONCE((e)->state)
#else
#define state_of(e) __sync_fetch_and_or((__u32 *)&(e)->state, 0)
#endif

#define same_state(a, b) ((((a) ^ (b)) & ~(__u32)EA_ENTRY_LOCKED) == 0)

static __always_inline __u64 mixed(__u64 h) {
  return (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
}

/* The same for numbers that are added: mixed() keeps differences, so that sums of other numbers would be the
 * same. */
static __always_inline __u64 scattered(__u64 h) {
  h = mixed(h);
  return (h ^ h >> 29) * 0xbf58476d1ce4e5b9ULL;
}

/* Multilinear hashing: pairs of words, each word plus a secret of its own, are multiplied and the products
 * added. Without the secrets, a pod could not find two keys of one bucket more often than by chance, so it
 * cannot fill a chosen bucket. The result is mixed at the end, because consecutive ports would otherwise be
 * evenly spaced and might fall into few buckets. */
static __always_inline __u64 hash_of(const struct ea_flow_key *key, const struct ea_state *st) {
  const __u32 *w = (const __u32 *)key;
  const __u64 *s = st->secret;
  __u64 h = (s[0] + w[0]) * (s[1] + w[1]) + (s[2] + w[2]) * (s[3] + w[3]);
  h += (s[4] + w[4]) * (s[5] + w[5]) + (s[6] + w[6]) * (s[7] + w[7]);
  h += (s[8] + w[8]) * (s[9] + w[9]) + (s[10] + w[10]) * s[11];
  return mixed(h);
}

static __always_inline __u32 tag_of(__u64 hash) {
  return (__u32)(hash >> 5) | 1;
}

static __always_inline __u32 first_bucket(__u64 hash, const struct ea_state *st) {
  return (__u32)(hash >> 40) & st->last_bucket;
}

/* The preferred way of a key: it is taken if it is free, and searched first. */
static __always_inline __u32 way_of(__u64 hash) {
  return (__u32)(hash >> 37) & (EA_WAYS - 1);
}

/* The other bucket of a key. Symmetric: applied to either bucket, it gives the other. */
static __always_inline __u32 other_bucket(__u32 bucket, __u32 tag, const struct ea_state *st) {
  return (bucket ^ ((tag * 0x5bd1e995u) >> 8 | 1)) & st->last_bucket;
}

static __always_inline int same_key(const struct ea_flow_key *a, const struct ea_flow_key *b) {
  const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
  const __u32 *v = (const __u32 *)a, *w = (const __u32 *)b;
  return x[4] == y[4] && x[3] == y[3] && x[1] == y[1] && v[10] == w[10] && x[0] == y[0] && x[2] == y[2];
}

/* Whether an entry has this key. The state is the first and the last word that is read. */
static __always_inline int is_at(const struct ea_entry *e, const struct ea_flow_key *key, __u32 slot,
                                 struct place *at) {
  const __u32 state = state_of(e);
  if (!(state & EA_ENTRY_VALID) || !same_key(&e->key, key) || !same_state(state, state_of(e))) return 0;
  at->slot = slot;
  at->seen = state & ~(__u32)EA_ENTRY_LOCKED;
  return 1;
}

/* Finds the entry of a key in one bucket, by its tag. */
static __always_inline struct ea_entry *find_in(__u32 bucket, __u32 tag, const struct ea_flow_key *key,
                                                struct place *at) {
  const struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
  if (!b) return NULL;
#pragma clang loop unroll(disable)
  for (__u32 way = 0; way < EA_WAYS; way++) {
    if (READ_ONCE(b->tags[way]) != tag) continue;
    __u32 slot = bucket * EA_WAYS + way;
    struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
    if (e && is_at(e, key, slot, at)) return e;
  }
  return NULL;
}

/* Finds the entry of a key; its preferred way first, where most keys are and no tag is needed. If that way
 * has another key, or none, a new flow will probably be stored there. Then the rest of the entry is read at
 * once, so that its cache misses and those of the tags are served in parallel. */
static __always_inline struct ea_entry *find_inline(const struct ea_flow_key *key, struct place *at) {
  const struct ea_state *st = current_state();
  if (!st) return NULL;
  const __u64 hash = hash_of(key, st);
  const __u32 tag = tag_of(hash), first = first_bucket(hash, st);
  __u32 own = first * EA_WAYS + way_of(hash);
  struct ea_entry *e = bpf_map_lookup_elem(&flows, &own);
  if (e) {
    if (likely(is_at(e, key, own, at))) return e;
    (void)READ_ONCE(e->flow.packets_in);
    (void)READ_ONCE(e->flow.shared_packets_in);
    (void)READ_ONCE(e->flow.rule);
  }
  e = find_in(first, tag, key, at);
  return likely(e) ? e : find_in(other_bucket(first, tag, st), tag, key, at);
}

/* The same as a function. Others may change the entry meanwhile: see peek() and take(). */
static __noinline struct ea_entry *find(const struct ea_flow_key *key, struct place *at) {
  return find_inline(key, at);
}

/* What a verdict depends on. The same layout as the beginning of struct ea_flow. */
struct peeked {
  __u32 epoch;
  __u8 verdict;
  __u8 audit_verdict;
  __u8 reason;
  __u8 flags;
  __u64 set;
};

/* Reads what a flow's verdict depends on, as of one moment. 0: there is no such flow. */
GLOBAL_FUNCTION int peek(const struct ea_flow_key *key, struct peeked *out) {
  struct place at = {};
  if (!key || !out) return 0;
  const struct ea_entry *e = find(key, &at);
  if (!e) return 0;
  out->set = READ_ONCE(e->flow.set);
  *(__u64 *)out = READ_ONCE(*(const __u64 *)&e->flow);
  return same_state(state_of(e), at.seen);
}

/* A try to lock an entry. `got` 1: this program holds it until unlock_entry(). 0: the entry has changed since
 * it was found, or others held it for too long. */
struct attempt {
  __u32 slot, seen;
  int got;
};
static long lock_entry_step(__u32 i, struct attempt *a) {
  (void)i;
  __u32 slot = a->slot;
  struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
  if (!e) return 1;
  const __u32 was = __sync_val_compare_and_swap(&e->state, a->seen, a->seen | EA_ENTRY_LOCKED);
  a->got = was == a->seen;
  return a->got || !same_state(was, a->seen);
}

/* Attempts to get a lock: some ten microseconds, longer than any running program holds one. Only a program
 * whose virtual CPU was descheduled holds it for longer. */
#define MAX_LOCK_ATTEMPTS 1024

/* A try to lock a bucket, as a step of bpf_loop(): the bucket's highest bit is set when it is locked. A program
 * must name the map, so each table has a function of its own. */
#define DEFINE_BUCKET_LOCK(step, buckets)                                                                    \
  static long step(__u32 i, __u32 *bucket) {                                                                 \
    (void)i;                                                                                                 \
    __u32 which = *bucket & ~(1u << 31);                                                                     \
    struct ea_bucket *b = bpf_map_lookup_elem(&buckets, &which);                                             \
    if (!b) return 1;                                                                                        \
    if (__sync_val_compare_and_swap(&b->lock, 0, 1)) return 0;                                               \
    *bucket |= 1u << 31;                                                                                     \
    return 1;                                                                                                \
  }

static __always_inline int lock_entry(struct ea_entry *e, const struct place *at) {
  if (likely(__sync_bool_compare_and_swap(&e->state, at->seen, at->seen | EA_ENTRY_LOCKED))) return 1;
  struct attempt a = {.slot = at->slot, .seen = at->seen};
  bpf_loop(MAX_LOCK_ATTEMPTS, lock_entry_step, &a, 0);
  return a.got;
}

static __always_inline void unlock_entry(struct ea_entry *e, __u32 seen) {
  __sync_bool_compare_and_swap(&e->state, seen | EA_ENTRY_LOCKED, seen);
}

/* Adds `entries` (1 or -1) to what the payer of a flow holds. */
static __always_inline void charge_payer(const struct ea_flow *flow, __s32 entries) {
  __u32 payer = flow->payer;
  struct ea_holding *h = bpf_map_lookup_elem(&flow_holdings, &payer);
  if (!h) return;
  __sync_fetch_and_add(&h->entries, entries);
  if (flow->worthless) __sync_fetch_and_add(&h->worthless, entries);
}

/* Frees an entry that this program has locked. */
static __always_inline void clear(struct ea_entry *e, const struct place *at) {
  __u32 bucket = at->slot / EA_WAYS;
  struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
  charge_payer(&e->flow, -1);
  if (b) WRITE_ONCE(b->tags[at->slot % EA_WAYS], 0);
  __sync_lock_test_and_set(&e->state, (at->seen & ~(__u32)EA_ENTRY_VALID) + EA_ENTRY_NEXT);
}

/* A side record: what the table remembers that is no flow (enum ea_kind). Epoch and content as of one moment.
 * 0: there is none. */
struct side_record {
  __u32 epoch;
  __u32 pad;
  __u8 bytes[24];
};
GLOBAL_FUNCTION int read_side_record(const struct ea_flow_key *key, struct side_record *out) {
  struct place at = {};
  if (!key || !out) return 0;
  const struct ea_entry *e = find(key, &at);
  if (!e) return 0;
  out->epoch = READ_ONCE(e->flow.epoch);
  __builtin_memcpy(out->bytes, e->flow.side_record, sizeof(out->bytes));
  return state_of(e) == at.seen;
}

/* Frees the entry that was found at this place, unless it has changed since. */
GLOBAL_FUNCTION int forget(const struct place *at) {
  if (!at) return 0;
  __u32 slot = at->slot;
  struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
  if (e && __sync_bool_compare_and_swap(&e->state, at->seen, at->seen | EA_ENTRY_LOCKED)) clear(e, at);
  return 0;
}

/* What is known of a flow that the endpoint sends on. JUDGED: its packets are queries, each of which is judged
 * under the policy in force, as its last one was. */
enum { KNOWN_INBOUND = 1, KNOWN_JUDGED = 2 };
GLOBAL_FUNCTION int known_as(const struct ea_flow_key *key, __u32 epoch, __u64 set) {
  struct place at = {};
  if (!key) return 0;
  const struct ea_entry *e = find(key, &at);
  if (!e) return 0;
  const struct ea_flow *flow = &e->flow;
  int known = 0;
  if (flow->flags & EA_FLOW_INBOUND)
    known = KNOWN_INBOUND;
  else if ((flow->tcp_state & (EA_TCP_INSPECT | EA_TCP_SAYS)) == EA_TCP_INSPECT &&
           (flow->extra.streams[0].flags & EA_STREAM_JUDGED) && flow->verdict == EA_VERDICT_ALLOW &&
           READ_ONCE(flow->epoch) == epoch && READ_ONCE(flow->set) == set)
    known = KNOWN_JUDGED;
  return same_state(state_of(e), at.seen) ? known : 0;
}

#endif
