/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Later fragments have no ports: they get the verdict of their first fragment. RFC 1858, 3128, 5722. */
#ifndef EA_FRAGMENT_H
#define EA_FRAGMENT_H

#include "services.h"

static __always_inline void fragment_key(struct ea_flow_key *key, const struct packet *p) {
  *key = p->key;
  key->local_port = p->fragment_id >> 16;
  key->remote_port = (__u16)p->fragment_id;
  key->protocol = p->fragment_protocol;
  key->opened_remotely = 0;
  const __u16 direction = p->forwarded ? EA_DIRECTION_FORWARDED : p->out ? EA_DIRECTION_OUT : EA_DIRECTION_IN;
  key->kind = EA_KIND_FRAGMENT | direction << 8;
}

/* Remembers the verdict on a datagram's first fragment. */
GLOBAL_FUNCTION int remember_first(const struct packet *p, int passed) {
  struct scratch *s = scratch();
  if (!p || !s) return 0;
  struct ea_flow *flow = &s->side_flow;
  __builtin_memset(flow, 0, sizeof(*flow));
  flow->kind = EA_KIND_FRAGMENT;
  flow->epoch = p->epoch;
  flow->last_jiffies = bpf_jiffies64();
  flow->payer = slot_of(p->payer);
  struct ea_fragment *value = (struct ea_fragment *)flow->side_record;
  value->local_port = p->key.local_port;
  value->remote_port = p->key.remote_port;
  value->port = p->port;
  value->header_end = p->header_end;
  value->protocol = p->key.protocol;
  value->opened_remotely = p->key.opened_remotely;
  value->passed = !!passed;
  fragment_key(&s->side_key, p);
  return put_side_record(&s->side_key, flow, s);
}

/* The verdict on a later fragment's first: under the policies in force (PASSED, DROPPED), under earlier ones
 * (OF_OLD_POLICY), or none that is known. OVERLAPPED: the fragment overlaps the first's header. */
enum {
  FIRST_UNKNOWN = 0,
  FIRST_PASSED = 1,
  FIRST_DROPPED = 2,
  FIRST_OF_OLD_POLICY = 3,
  FIRST_OVERLAPPED = 4
};

/* Finds a later fragment's first, and gives it the key of the first's flow. `may_overlap`: it may overlap the
 * header. */
GLOBAL_FUNCTION int first_of(struct packet *p, int may_overlap) {
  if (!p) return FIRST_UNKNOWN;
  struct ea_flow_key key;
  struct side_record found;
  fragment_key(&key, p);
  if (!read_side_record(&key, &found)) return FIRST_UNKNOWN;
  const struct ea_fragment *first = (const struct ea_fragment *)found.bytes;
  if (!may_overlap && p->fragment_offset < first->header_end) return FIRST_OVERLAPPED;
  p->key.local_port = first->local_port;
  p->key.remote_port = first->remote_port;
  p->key.protocol = first->protocol;
  p->key.opened_remotely = first->opened_remotely;
  p->port = first->port;
  p->header_end = first->header_end;
  if (found.epoch != p->epoch) return FIRST_OF_OLD_POLICY;
  return first->passed ? FIRST_PASSED : FIRST_DROPPED;
}

/* Notes that a first fragment to the endpoint passes, where a dropped one had the same id before. */
GLOBAL_FUNCTION int pass_first(const struct packet *p) {
  struct scratch *s = scratch();
  if (!p || !s) return 0;
  struct side_record *found = (struct side_record *)s->bytes;
  fragment_key(&s->side_key, p);
  if (!read_side_record(&s->side_key, found)) return 0;
  return ((const struct ea_fragment *)found->bytes)->passed ? 0 : remember_first(p, 1);
}

/* Judges a later fragment that the endpoint sends: the tc verdict, or FOLLOW_FLOW. It gets the verdict of its
 * first. If policies have changed since, it is judged as a packet of its first's flow. */
enum { FOLLOW_FLOW = 1 };
GLOBAL_FUNCTION int follow_first(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  if (!p || !ep) return DROP;
  const int first = first_of(p, !p->set);
  if (first == FIRST_OVERLAPPED) return drop(skb, p, EA_REASON_OVERLAPPING_FRAGMENT);
  if (first == FIRST_PASSED) {
    account_for(&p->key, p);
    return PASS;
  }
  if (first != FIRST_UNKNOWN) return FOLLOW_FLOW;
  if (!p->set) return PASS;
  /* Without a known first, only rules without ports can match. A fragment within a TCP header that was never
   * seen is dropped: it would be part of a header that nobody judged. */
  if (p->fragment_offset < 20 && p->fragment_protocol == IPPROTO_TCP)
    return drop(skb, p, EA_REASON_OVERLAPPING_FRAGMENT);
  if ((ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);
  struct decision *d = &p->decision;
  *d = (struct decision){};
  struct target *t = &p->target;
  *t = (struct target){.set = p->set,
                       .protocol = p->key.protocol,
                       .flags = TARGET_FRAGMENT,
                       .epoch = p->epoch,
                       .endpoint = ep->id};
  __builtin_memcpy(t->addr, p->key.remote, 16);
  mark_self(ep, t);
  if (ep->flags & EA_EP_NODE)
    classify(t, d);
  else
    judge_target(t, d);
  if (d->verdict != EA_VERDICT_DENY) return PASS;
  return drop_for(skb, p, d->reason, d);
}

#endif
