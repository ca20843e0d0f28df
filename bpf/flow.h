/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Flows: what a packet does to the entry of its flow. One entry serves both directions, as the endpoint sees
 * it.
 *
 * A flow's verdict holds while its set and epoch are those under which it was judged. An inbound flow, which
 * a peer opened to the endpoint, is not judged: the endpoint's replies pass. */
#ifndef EA_FLOW_H
#define EA_FLOW_H

#include "events.h"
#include "reject.h"

static __always_inline int is_syn(const struct packet *p) {
  return p->key.protocol == IPPROTO_TCP && p->opens;
}

static __always_inline void touch(struct ea_flow *flow, const struct packet *p) {
  const __u64 now_jiffies = bpf_jiffies64();
  /* Packets on a closed connection do not keep its entry alive, neither data nor those that close it once
   * more. */
  if (flow->last_jiffies != now_jiffies && !(flow->tcp_state & EA_TCP_CLOSED))
    flow->last_jiffies = now_jiffies;
  add_flags(flow, p->tcp_flags);
}

/* Counts a packet of a flow that is not locked. */
static __always_inline void account_for(const struct ea_flow_key *key, const struct packet *p) {
  struct place at = {};
  struct ea_entry *e = find(key, &at);
  if (!e) return;
  add_shared(&e->flow, p->out, p->length);
  touch(&e->flow, p);
}

/* The flow of a packet, locked until release(): nobody else changes it meanwhile. If others hold it locked
 * for too long, a copy: changes to it are lost. NULL: there is no such flow. */
static __always_inline struct ea_flow *take_inline(struct packet *p) {
  struct ea_entry *e = find_inline(&p->key, &p->at);
  if (!e) return NULL;
  if (likely(lock_entry(e, &p->at))) {
    p->held = 1;
    return &e->flow;
  }
  struct scratch *s = scratch();
  if (!s) return NULL;
  count(EA_COUNT_FLOWS_BUSY);
  s->shadow = e->flow;
  return same_state(state_of(e), p->at.seen) ? &s->shadow : NULL;
}

static __noinline struct ea_flow *take(struct packet *p) {
  return take_inline(p);
}

static __always_inline struct ea_entry *entry_of(__u32 slot) {
  return bpf_map_lookup_elem(&flows, &slot);
}

/* The entry that this packet's program holds locked. */
static __always_inline struct ea_entry *held_entry(const struct packet *p) {
  return p->held ? entry_of(p->at.slot) : NULL;
}

/* Its flow. The asm keeps the compiler from adding to the pointer before it is checked. */
static __always_inline struct ea_flow *held_flow(const struct packet *p) {
  struct ea_entry *e = held_entry(p);
  if (!e) return NULL;
  asm volatile("" : "+r"(e));
  return &e->flow;
}

/* The flow that others hold locked for too long. Only its counters may be written: they need no lock. */
static __always_inline struct ea_flow *contended_flow(const struct packet *p) {
  struct ea_entry *e = entry_of(p->at.slot);
  if (!e || !p->at.seen || !same_state(state_of(e), p->at.seen)) return NULL;
  asm volatile("" : "+r"(e));
  return &e->flow;
}

/* Counts a packet in its flow. The direction's first packet makes this CPU the owner of the counters. */
static __always_inline void account(struct ea_flow *flow, const struct packet *p) {
  if (unlikely(!p->held)) {
    struct ea_flow *stored = contended_flow(p);
    if (stored) add_shared(stored, p->out, p->length);
    return;
  }
  __u16 *owner_cpu = p->out ? &flow->cpu_out : &flow->cpu_in;
  if (*owner_cpu == EA_NO_CPU) WRITE_ONCE(*owner_cpu, bpf_get_smp_processor_id());
  add_packet(flow, p->out, p->length);
  touch(flow, p);
}

/* Counts a dropped packet in its flow. */
static __always_inline void account_drop(struct ea_flow *flow, const struct packet *p) {
  struct ea_flow *stored = likely(p->held) ? flow : contended_flow(p);
  if (stored) __sync_fetch_and_add(&stored->drops, 1);
  if (p->held) touch(flow, p);
}

static __always_inline void release(struct packet *p) {
  struct ea_entry *e = held_entry(p);
  if (e) unlock_entry(e, p->at.seen);
  p->held = 0;
}

/* Removes a packet's flow from the table. */
static __always_inline void leave(struct packet *p) {
  struct ea_entry *e = held_entry(p);
  if (e) clear(e, &p->at);
  p->held = 0;
}

/* A new flow that begins with this packet, in scratch memory until enter(). The caller sets the verdict. */
static __always_inline struct ea_flow *begin(const struct packet *p) {
  struct scratch *s = scratch();
  if (!s) return NULL;
  struct ea_flow *flow = &s->flow;
  __builtin_memset(flow, 0, sizeof(*flow));
  flow->epoch = p->epoch;
  flow->created_ns = bpf_ktime_get_ns();
  flow->last_jiffies = bpf_jiffies64();
  flow->tcp_flags = p->tcp_flags;
  if (p->key.protocol == IPPROTO_TCP) flow->tcp_state = p->opens ? EA_TCP_SYN : EA_TCP_OPEN;
  flow->payer = slot_of(p->payer);
  flow->cpu_out = flow->cpu_in = EA_NO_CPU;
  return flow;
}

/* Stores a new flow in the table and keeps it locked, in place of the one that was locked for this packet, if
 * any. 0: it is not stored. */
GLOBAL_FUNCTION int enter(struct packet *p, const struct ea_flow *flow) {
  if (!p || !flow) return 0;
  struct ea_entry *e = held_entry(p);
  struct scratch *s = scratch();
  if (e) {
    replace(&e->flow, flow);
  } else if (s) {
    p->held = insert(&p->key, flow, &p->at, (struct insertion *)s->bytes);
  }
  count(p->held ? EA_COUNT_FLOWS_CREATED : EA_COUNT_FLOWS_NOT_STORED);
  struct ea_flow *stored = p->held ? NULL : contended_flow(p);
  if (stored) {
    __sync_fetch_and_add(&stored->shared_packets_out, flow->packets_out);
    __sync_fetch_and_add(&stored->shared_bytes_out, flow->bytes_out);
    __sync_fetch_and_add(&stored->drops, flow->drops);
  }
  return p->held;
}

/* Confirms an inbound flow: the peer got its answer. From now on the flow is among the last to be
 * replaced. */
GLOBAL_FUNCTION int confirm(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  if (!p || !flow || (flow->flags & EA_FLOW_CONFIRMED)) return 0;
  flow->flags |= EA_FLOW_CONFIRMED;
  return flow->flags & EA_FLOW_REPORTED ? 0 : report(skb, p, flow, EA_EVENT_VERDICT);
}

GLOBAL_FUNCTION int end(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  if (!p || !flow) return 0;
  count(EA_COUNT_FLOWS_CLOSED);
  if ((flow->flags & EA_FLOW_INBOUND) && !(flow->flags & (EA_FLOW_CONFIRMED | EA_FLOW_REPORTED)))
    return 0; /* its beginning was not reported */
  if (p->hook == EA_HOOK_UPLINK && (flow->flags & EA_FLOW_POST_DNAT))
    return 0; /* the client's own flow reports its end */
  return report(skb, p, flow, EA_EVENT_END);
}

/* Tracks TCP state, as far as needed to know when a connection opened and ended (RFC 9293, 3.3.2). The flow
 * may have left the table when this returns: then its memory may hold another flow. */
GLOBAL_FUNCTION int tcp_step(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow) {
  if (!p || !flow) return 0;
  const __u8 flags = p->tcp_flags, before = flow->tcp_state;
  const __u8 both = EA_TCP_FIN_OUT | EA_TCP_FIN_IN;
  const int inbound = !!(flow->flags & EA_FLOW_INBOUND);
  __u8 after = before;

  if (before & EA_TCP_CLOSED) {
    /* A packet after the end of a connection that the endpoint opened. If it is the last acknowledgement, the
     * entry is freed while it is still in the cache, for the next connection. If it carries data, the entry
     * is freed so that this becomes a new flow, which is reported. An inbound flow stays until it is swept:
     * if the peer's FIN was forged, answers still pass. */
    if ((before & both) == both && !inbound &&
        (p->carries ? p->out : !(flags & (TCP_SYN | TCP_FIN | TCP_RST))) &&
        flow->verdict != EA_VERDICT_DENY && !(flow->flags & EA_FLOW_POST_DNAT)) {
      leave(p);
      return 0;
    }
    /* A reset is not verified. If the endpoint goes on sending (data with any flags, or a packet without RST,
     * SYN and FIN), the reset did not end the connection: the flow is open again. */
    if ((before & both) != both && p->out && (p->carries || !(flags & (TCP_RST | TCP_SYN | TCP_FIN)))) {
      flow->tcp_state = EA_TCP_OPEN | (before & (EA_TCP_INSPECT | EA_TCP_SAYS));
      flow->flags &= ~(EA_FLOW_CONFIRMED | EA_FLOW_REPORTED);
      if (inbound) confirm(skb, p, flow);
    }
    return 0;
  }
  /* An ACK from the side that did not open the connection. */
  if ((flags & TCP_ACK) && p->out == inbound) after |= EA_TCP_OPEN;
  if (flags & TCP_FIN) after |= p->out ? EA_TCP_FIN_OUT : EA_TCP_FIN_IN;
  if ((flags & TCP_RST) || (after & both) == both) after |= EA_TCP_CLOSED;
  if (after != before) flow->tcp_state = after;
  /* What the endpoint sends on an inbound flow is reported, even if its peer stays silent. */
  if (inbound && p->out && (p->carries || !(flags & (TCP_SYN | TCP_RST))) &&
      !(flow->flags & (EA_FLOW_CONFIRMED | EA_FLOW_REPORTED))) {
    flow->flags |= EA_FLOW_REPORTED;
    report(skb, p, flow, EA_EVENT_VERDICT);
  }
  /* The handshake is complete: the peer acknowledged the answer. A flood of SYNs cannot do that. */
  if (inbound && !p->out && (before & EA_TCP_OPEN) && (flags & TCP_ACK) && !(flags & TCP_RST))
    confirm(skb, p, flow);
  if ((after & EA_TCP_CLOSED) && flow->verdict != EA_VERDICT_DENY) {
    end(skb, p, flow);
    /* The endpoint resets a connection that it opened itself: the entry is freed. Only the endpoint can have
     * sent this. */
    if ((flags & TCP_RST) && p->out && !inbound && !(flow->flags & EA_FLOW_POST_DNAT)) leave(p);
  }
  return 0;
}

/* What a packet of an existing flow changes beyond its counters. */
static __always_inline void step(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow) {
  const int inbound = flow->flags & EA_FLOW_INBOUND,
            unconfirmed = inbound && !(flow->flags & EA_FLOW_CONFIRMED);
  if (p->key.protocol == IPPROTO_TCP) {
    if (unlikely((p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST)) || unconfirmed ||
                 (flow->tcp_state & EA_TCP_CLOSED)))
      tcp_step(skb, p, flow);
  } else if (unlikely(unconfirmed && p->out)) {
    confirm(skb, p, flow);
  }
}

/* Drops a packet of a denied flow. */
GLOBAL_FUNCTION int drop_denied(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow,
                                __u32 endpoint_flags) {
  if (!p || !flow) return DROP;
  account_drop(flow, p);
  count(EA_COUNT_DROPS + (flow->reason & 31));
  if (is_due(&flow->reported_ns)) report(skb, p, flow, EA_EVENT_DROP);
  return answer(skb, p, endpoint_flags);
}

#endif
