/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events: what user space learns of packets. An event of a flow is built in the ring, other events in scratch
 * memory. They wake nobody: the reader comes on a timer. An event is lost, and counted, if the ring is full,
 * or if its endpoint has used up its share of a ring that is filling. */
#ifndef EA_EVENTS_H
#define EA_EVENTS_H

#include "parse.h"
#include "policy.h"

/* Fills in what an event says of the packet. The caller sets the verdict. */
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

/* Prepares an event about the packet in scratch memory. */
GLOBAL_FUNCTION int describe(struct __sk_buff *skb, const struct packet *p) {
  struct scratch *s = scratch();
  if (!s || !p) return 0;
  struct ea_event *e = &s->event;
  __builtin_memset(e, 0, sizeof(*e));
  e->time_ns = bpf_ktime_get_ns();
  fill(skb, p, e);
  return 0;
}

static __always_inline void send_event(struct scratch *s, __u8 type) {
  const struct ea_state *st = current_state();
  if (!st || (st->flags & EA_STATE_QUIET)) return;
  s->event.type = type;
  output(s, may_report(&s->event.flow, s->event.time_ns));
}

/* The drops of a flow that no event has reported yet. Marks them as reported. */
static __always_inline __u64 unreported_drops(struct ea_flow *flow) {
  const __u64 drops = flow->drops, reported = flow->drops_reported;
  flow->drops_reported = drops;
  return drops > reported ? drops - reported : 0;
}

/* Reports a flow, with all that the flow table knows of it. The event is built in the ring, so every field is
 * set. */
GLOBAL_FUNCTION int report(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow, __u8 type) {
  const struct ea_state *st = current_state();
  if (!p || !flow) return 0;
  if (!st || (st->flags & EA_STATE_QUIET)) return 0;
  const int inbound = flow->flags & EA_FLOW_INBOUND;
  /* An outbound flow is reported when it begins. */
  const __u64 now_ns = type == EA_EVENT_VERDICT && !inbound ? flow->created_ns : bpf_ktime_get_ns();
  if (!may_report(&p->key, now_ns)) return count_lost(&p->key);
  struct ea_event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
  if (!e) return count_lost(&p->key);
  const __u64 drops = unreported_drops(flow);
  fill(skb, p, e);
  e->time_ns = now_ns;
  e->rule = flow->rule;
  e->audit_rule = flow->audit_rule;
  if (!inbound) e->set = flow->set;
  __builtin_memset(e->service, 0, sizeof(e->service));
  e->service_port = e->sport_wire = 0;
  e->packets_out = packets_out_of(flow);
  e->bytes_out = flow->bytes_out + flow->shared_bytes_out;
  e->packets_in = packets_in_of(flow);
  e->bytes_in = flow->bytes_in + flow->shared_bytes_in;
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
  /* The state of an inspected flow stands in the place of its name, but for what is said over UDP. */
  const int other = (flow->tcp_state & EA_TCP_INSPECT) &&
                    !((flow->tcp_state & EA_TCP_SAYS) && p->key.protocol == IPPROTO_UDP);
  const int named = !inbound && !other;
  e->name = named ? flow->extra.name.name : 0;
  e->name_incarnation = named ? flow->extra.name.incarnation : 0;
  /* A flow that is heard has no room for the name. It was looked for with the decision that is told. */
  const struct name_work *names = name_work();
  if (unlikely(flow->tcp_state & EA_TCP_SAYS) && names && names->endpoint == e->flow.endpoint &&
      same16(names->collected, e->flow.remote)) {
    e->name = names->name;
    e->name_incarnation = names->incarnation;
  }
  bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
  count(EA_COUNT_EVENTS);
  return 0;
}

/* Drops a packet that belongs to no flow. Such drops are reported once a second for each endpoint and reason,
 * with their number. `d`: the rule that decided. */
GLOBAL_FUNCTION int drop_for(struct __sk_buff *skb, const struct packet *p, __u8 reason,
                             const struct decision *d) {
  if (!p || !d) return DROP;
  struct ea_note_key key = {.endpoint = p->key.endpoint, .reason = reason};
  __u64 drops = 1;
  count(EA_COUNT_DROPS + (reason & 31));
  struct ea_note *note = bpf_map_lookup_elem(&drop_notes, &key);
  if (note) {
    __sync_fetch_and_add(&note->drops, 1);
    if (!is_due(&note->reported_ns)) return DROP;
    drops = note->drops - note->drops_reported;
    note->drops_reported = note->drops;
  } else {
    struct ea_note new_note = {.reported_ns = bpf_ktime_get_coarse_ns(), .drops = 1, .drops_reported = 1};
    bpf_map_update_elem(&drop_notes, &key, &new_note, BPF_NOEXIST);
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
  send_event(s, EA_EVENT_DROP);
  return DROP;
}

/* The same, without a call where the drop only has to be counted: for nearly every packet of a flood. */
static __always_inline int drop_quickly(struct __sk_buff *skb, struct packet *p, __u8 reason,
                                        const struct decision *d) {
  p->note = (struct ea_note_key){.endpoint = p->key.endpoint, .reason = reason};
  struct ea_note *note = bpf_map_lookup_elem(&drop_notes, &p->note);
  if (!note || bpf_ktime_get_coarse_ns() - note->reported_ns >= SECOND_NS) return drop_for(skb, p, reason, d);
  __sync_fetch_and_add(&note->drops, 1);
  count(EA_COUNT_DROPS + (reason & 31));
  return DROP;
}

/* The same where no rule decided. */
static __always_inline int drop(struct __sk_buff *skb, const struct packet *p, __u8 reason) {
  const struct decision none = {};
  return drop_for(skb, p, reason, &none);
}

#endif
