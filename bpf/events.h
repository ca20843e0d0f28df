/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What user space is told. An event of a flow is made in the ring, others in scratch memory, never with a wake-up: the
 * reader comes on a timer. A full ring loses the event and counts it. */
#ifndef EA_EVENTS_H
#define EA_EVENTS_H

#include "parse.h"
#include "policy.h"

/* What an event says of the packet; the verdict is the caller's. */
static __always_inline void fill(struct __sk_buff *skb, const struct packet *p, struct ea_event *e) {
  e->set = p->set;
  e->flow = p->key;
  e->ifindex = skb->ifindex;
  e->epoch = p->epoch;
  e->length = p->length;
  e->hook = p->hook;
  e->tcp_flags = p->tcp_flags;
  e->family = p->family;
  e->ethertype = p->ethertype;
  __u16 macs[6] = {};
  if (p->l3 >= sizeof(struct ethhdr) && load(skb, 0, &macs)) __builtin_memset(macs, 0, sizeof(macs));
  __builtin_memcpy(e->mac_dst, macs, 6);
  __builtin_memcpy(e->mac_src, macs + 3, 6);
}

/* Everything about the packet, into scratch memory. */
APART int describe(struct __sk_buff *skb, const struct packet *p) {
  struct scratch *s = scratch();
  if (!s || !p) return 0;
  struct ea_event *e = &s->event;
  __builtin_memset(e, 0, sizeof(*e));
  e->time_ns = bpf_ktime_get_ns();
  fill(skb, p, e);
  return 0;
}

static __always_inline void send(struct scratch *s, __u8 type) {
  const struct ea_state *st = state_now();
  if (!st || (st->flags & EA_STATE_QUIET)) return;
  s->event.type = type;
  count(bpf_ringbuf_output(&events, &s->event, sizeof(s->event), BPF_RB_NO_WAKEUP) ? EA_COUNT_EVENTS_LOST
                                                                                   : EA_COUNT_EVENTS);
}

/* Drops of a flow that no event has told of yet, and marks them as told. */
static __always_inline __u64 untold_drops(struct ea_flow *flow) {
  const __u64 drops = flow->drops, told = flow->drops_reported;
  flow->drops_reported = drops;
  return drops > told ? drops - told : 0;
}

/* An event with all that the flow table knows; made in the ring, each of its fields. */
APART int tell(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow, __u8 type) {
  const struct ea_state *st = state_now();
  if (!p || !flow) return 0;
  const __u64 drops = untold_drops(flow);
  if (!st || (st->flags & EA_STATE_QUIET)) return 0;
  struct ea_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
  if (!e) {
    count(EA_COUNT_EVENTS_LOST);
    return 0;
  }
  const int inbound = flow->flags & EA_FLOW_INBOUND;
  fill(skb, p, e);
  /* An outbound flow is told of when it begins. */
  e->time_ns = type == EA_EVENT_VERDICT && !inbound ? flow->created_ns : bpf_ktime_get_ns();
  e->rule = flow->rule;
  e->audit_rule = flow->audit_rule;
  if (!inbound) e->set = flow->set;
  __builtin_memset(e->service, 0, sizeof(e->service));
  e->service_port = e->sport_wire = 0;
  e->packets_out = flow->packets_out;
  e->bytes_out = flow->bytes_out;
  e->packets_in = flow->packets_in;
  e->bytes_in = flow->bytes_in;
  e->drops = drops;
  e->created_ns = flow->created_ns;
  e->type = type;
  e->verdict = flow->verdict;
  e->audit_verdict = flow->audit_verdict;
  e->reason = flow->reason;
  if (type == EA_EVENT_END) e->tcp_flags = flow->tcp_flags;
  e->flow_flags = flow->flags;
  e->is_reply = !!inbound == p->out;
  e->pad[0] = 0;
  bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
  count(EA_COUNT_EVENTS);
  return 0;
}

/* Drops a packet that belongs to no flow. Told of once a second for each endpoint and reason, with the number.
 * `d`: the rule that decided. */
APART int drop_for(struct __sk_buff *skb, const struct packet *p, __u8 reason, const struct decision *d) {
  if (!p || !d) return DROP;
  struct ea_note_key key = {.endpoint = p->key.endpoint, .reason = reason};
  const __u64 now = bpf_ktime_get_ns();
  __u64 drops = 1;
  count(EA_COUNT_DROPS + (reason & 31));
  struct ea_note *note = bpf_map_lookup_elem(&drop_notes, &key);
  if (note) {
    __sync_fetch_and_add(&note->drops, 1);
    const __u64 before = note->reported_ns;
    if (now - before < SECOND_NS || __sync_val_compare_and_swap(&note->reported_ns, before, now) != before)
      return DROP;
    drops = note->drops - note->drops_reported;
    note->drops_reported = note->drops;
  } else {
    struct ea_note fresh = {.reported_ns = now, .drops = 1, .drops_reported = 1};
    bpf_map_update_elem(&drop_notes, &key, &fresh, BPF_NOEXIST);
  }
  struct scratch *s = scratch();
  if (!s) return DROP;
  describe(skb, p);
  s->event.verdict = EA_VERDICT_DENY;
  s->event.reason = reason;
  s->event.drops = drops;
  s->event.rule = d->rule;
  s->event.audit_rule = d->audit_rule;
  s->event.audit_verdict = d->audit_verdict;
  send(s, EA_EVENT_DROP);
  return DROP;
}

/* The same where no rule decided. */
static __always_inline int drop(struct __sk_buff *skb, const struct packet *p, __u8 reason) {
  const struct decision none = {};
  return drop_for(skb, p, reason, &none);
}

#endif
