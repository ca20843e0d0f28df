/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The memory of decisions about Services, for the next flow of the same endpoint to the same Service: its
 * backends are judged once, not for each connection. decided.h remembers decisions about other destinations.
 *
 * It is sound for the same reason, and has the same labels and the endpoint, which may be one of the backends
 * itself. An entry of `services` changes only with an update, which ends with another epoch. */
#ifndef EA_RECALL_H
#define EA_RECALL_H

#include "flow.h"

#define RECALL_SLOTS 512

/* One cache line. */
struct recall_entry {
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

/* Direct mapped: of entries that share a slot, the last one stays. One memory for each CPU, whose tc programs
 * never interrupt each other: nobody reads half an entry. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, RECALL_SLOTS);
  __type(key, __u32);
  __type(value, struct recall_entry);
} recalls SEC(".maps");

static __always_inline struct recall_entry *recall_slot(const struct packet *p) {
  const __u32 *w = (const __u32 *)p->key.remote;
  const __u32 mixed =
      (w[0] ^ w[1] * 3 ^ w[2] * 5 ^ w[3] * 7 ^ p->port * 11 ^ p->key.endpoint * 13) * 0x9e3779b1u;
  __u32 slot = mixed >> 23; /* 32 bits to log2(RECALL_SLOTS) */
  return bpf_map_lookup_elem(&recalls, &slot);
}

/* Finds the decision about such a packet, into `d`. `r`: its slot. 1: found. */
GLOBAL_FUNCTION int recall(const struct recall_entry *r, const struct packet *p, struct decision *d) {
  if (!p || !d || !p->set) return 0;
  const struct ea_state *st = current_state();
  if (!r || !st || !r->valid || r->set != p->set || r->epoch != p->epoch || r->endpoint != p->key.endpoint ||
      r->port != p->port || r->protocol != p->key.protocol || !same16(r->remote, p->key.remote) ||
      r->tick != current_tick() || p->fragment || p->kind != PACKET_FLOW || (st->flags & EA_STATE_NO_CACHE))
    return 0;
  *d = r->decision;
  return 1;
}

/* Not remembered: decisions with a Log rule, which is reported for each flow; PARTIAL ones, which are judged
 * after the translation; a missing row. */
GLOBAL_FUNCTION int remember(struct recall_entry *r, const struct packet *p, const struct decision *d) {
  if (!r || !p || !d || !p->set || d->logged || d->verdict == EA_VERDICT_PARTIAL ||
      d->reason == EA_REASON_NO_SET || p->fragment || p->kind != PACKET_FLOW)
    return 0;
  r->set = p->set;
  __builtin_memcpy(r->remote, p->key.remote, 16);
  r->epoch = p->epoch;
  r->endpoint = p->key.endpoint;
  r->tick = current_tick();
  r->port = p->port;
  r->protocol = p->key.protocol;
  r->decision = *d;
  r->valid = 1;
  return 0;
}

#endif
