/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Decisions about first packets, remembered for the next flow of the same endpoint to the same destination.
 *
 * Sound for the same reason as the verdict of a known flow: a decision is labelled with the set and with the epoch that
 * the packet read before the set, and before anything of the policy maps; every update ends with another epoch. What
 * is written without one, a row that was repaired, is seen within a tick. */
#ifndef EA_RECALL_H
#define EA_RECALL_H

#include "services.h"

#define RECALL_SLOTS 512
/* Jiffies of a tick: 128 ms to 1.3 s, as the kernel was built. */
#define RECALL_TICK_SHIFT 7

/* One cache line. */
struct recalled {
  __u64 set;
  __u8 remote[16];
  __u32 epoch;
  __u32 endpoint;
  __u32 tick;
  __be16 port;
  __u8 protocol;
  __u8 valid;
  struct decision decision;
};

/* Direct mapped: the last of those that share a slot stays. One for each CPU, whose tc programs never interrupt each other:
 * nobody sees half an entry. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, RECALL_SLOTS);
  __type(key, __u32);
  __type(value, struct recalled);
} recalls SEC(".maps");

static __always_inline struct recalled *slot_of(const struct packet *p) {
  const __u32 *w = (const __u32 *)p->key.remote;
  const __u32 mixed =
      (w[0] ^ w[1] * 3 ^ w[2] * 5 ^ w[3] * 7 ^ p->port * 11 ^ p->key.endpoint * 13) * 0x9e3779b1u;
  __u32 slot = mixed >> 23; /* 32 bits to log2(RECALL_SLOTS) */
  return bpf_map_lookup_elem(&recalls, &slot);
}

static __always_inline __u32 tick_now(void) {
  return bpf_jiffies64() >> RECALL_TICK_SHIFT;
}

/* What was decided about such a packet a moment ago, into `d`. */
APART int recall(const struct packet *p, struct decision *d) {
  if (!p || !d || !p->set) return 0;
  const struct ea_state *st = state_now();
  const struct recalled *r = slot_of(p);
  if (!r || !st || !r->valid || r->set != p->set || r->epoch != p->epoch || r->endpoint != p->key.endpoint ||
      r->port != p->port || r->protocol != p->key.protocol || !same16(r->remote, p->key.remote) ||
      r->tick != tick_now() || p->fragment || p->kind != PACKET_FLOW || (st->flags & EA_STATE_AFRESH))
    return 0;
  *d = r->decision;
  return 1;
}

/* Not remembered: what Log rules tell of for each flow, what waits for its translation, what a missing row decided. */
APART int remember(const struct packet *p, const struct decision *d) {
  if (!p || !d || !p->set || d->logged || d->verdict == EA_VERDICT_PARTIAL || d->reason == EA_REASON_NO_SET ||
      p->fragment || p->kind != PACKET_FLOW)
    return 0;
  struct recalled *r = slot_of(p);
  if (!r) return 0;
  r->set = p->set;
  __builtin_memcpy(r->remote, p->key.remote, 16);
  r->epoch = p->epoch;
  r->endpoint = p->key.endpoint;
  r->tick = tick_now();
  r->port = p->port;
  r->protocol = p->key.protocol;
  r->decision = *d;
  r->valid = 1;
  return 0;
}

#endif
