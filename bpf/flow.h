/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The flow table: what is remembered between packets. One entry serves both directions, as the endpoint sees it.
 *
 * A flow's verdict holds while (set, epoch) are those it was judged by. An inbound flow, one that a peer opened to
 * the endpoint, is not judged: its replies pass. */
#ifndef EA_FLOW_H
#define EA_FLOW_H

#include "events.h"
#include "reject.h"

static __always_inline int is_syn(const struct packet *p) {
  return p->key.protocol == IPPROTO_TCP && p->opens;
}

static __always_inline void touch(struct ea_flow *flow, const struct packet *p) {
  const __u64 now = bpf_jiffies64();
  if (flow->last_jiffies != now) flow->last_jiffies = now;
  if (p->tcp_flags & ~flow->tcp_flags) flow->tcp_flags |= p->tcp_flags;
}

static __always_inline void account(struct ea_flow *flow, const struct packet *p) {
  if (p->out) {
    __sync_fetch_and_add(&flow->packets_out, 1);
    __sync_fetch_and_add(&flow->bytes_out, p->length);
  } else {
    __sync_fetch_and_add(&flow->packets_in, 1);
    __sync_fetch_and_add(&flow->bytes_in, p->length);
  }
  touch(flow, p);
}

/* A flow that begins with this packet; its verdict is the caller's. In scratch memory, until enter(). */
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
  return flow;
}

static __always_inline void enter(const struct packet *p, const struct ea_flow *flow) {
  count(bpf_map_update_elem(&flows, &p->key, flow, BPF_ANY) ? EA_COUNT_FLOWS_NOT_STORED
                                                            : EA_COUNT_FLOWS_CREATED);
}

/* The peer has what it asked for: from now on the connection outlives its entry in the flow table. */
APART int confirm(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  __u64 now = bpf_jiffies64();
  if (!p || !flow || (flow->flags & EA_FLOW_CONFIRMED)) return 0;
  flow->flags |= EA_FLOW_CONFIRMED;
  bpf_map_update_elem(&accepted, &p->key, &now, BPF_ANY);
  return tell(skb, p, flow, EA_EVENT_VERDICT);
}

APART int end(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  if (!p || !flow) return 0;
  count(EA_COUNT_FLOWS_CLOSED);
  if (flow->flags & EA_FLOW_INBOUND) {
    bpf_map_delete_elem(&accepted, &p->key);
    if (!(flow->flags & EA_FLOW_CONFIRMED)) return 0; /* never told of */
  } else {
    struct ea_pending_key client = {.port = p->key.local_port, .protocol = p->key.protocol};
    __builtin_memcpy(client.addr, p->key.local, 16);
    if (flow->verdict == EA_VERDICT_PARTIAL) bpf_map_delete_elem(&pending, &client);
  }
  if (p->hook == EA_HOOK_UPLINK && (flow->flags & EA_FLOW_SECOND_LOOK))
    return 0; /* the client's own flow tells */
  return tell(skb, p, flow, EA_EVENT_END);
}

/* State enough to know when a connection opened and when it ended (RFC 9293, 3.3.2). The flow may have left the table
 * when it returns: its memory is another's then. */
APART int tcp_step(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  if (!p || !flow) return 0;
  const __u8 flags = p->tcp_flags, before = flow->tcp_state;
  const __u8 both = EA_TCP_FIN_OUT | EA_TCP_FIN_IN;
  const int inbound = !!(flow->flags & EA_FLOW_INBOUND);
  __u8 after = before;

  if (before & EA_TCP_CLOSED) {
    /* The last acknowledgement of a connection that the endpoint opened: its place is free, while it is warm, for the
     * next one. What a peer opened stays until it is swept: should the peer's FIN have been forged, answers go on. */
    if ((before & both) == both && !inbound && !(flags & (TCP_SYN | TCP_FIN | TCP_RST)) &&
        flow->verdict != EA_VERDICT_DENY && !(flow->flags & EA_FLOW_SECOND_LOOK)) {
      bpf_map_delete_elem(&flows, &p->key);
      return 0;
    }
    /* A reset is believed, not verified. Who goes on talking was not meant by it. */
    if ((before & both) != both && p->out && !(flags & (TCP_RST | TCP_SYN | TCP_FIN))) {
      flow->tcp_state = EA_TCP_OPEN;
      flow->flags &= ~EA_FLOW_CONFIRMED;
      if (inbound) confirm(skb, p, flow);
    }
    return 0;
  }
  /* The side that did not open answers. */
  if ((flags & TCP_ACK) && p->out == inbound) after |= EA_TCP_OPEN;
  if (flags & TCP_FIN) after |= p->out ? EA_TCP_FIN_OUT : EA_TCP_FIN_IN;
  if ((flags & TCP_RST) || (after & both) == both) after |= EA_TCP_CLOSED;
  if (after != before) flow->tcp_state = after;
  /* Handshake complete: the peer acknowledged what it was answered. No flood of SYNs can do that. */
  if (inbound && !p->out && (before & EA_TCP_OPEN) && (flags & TCP_ACK) && !(flags & TCP_RST))
    confirm(skb, p, flow);
  if ((after & EA_TCP_CLOSED) && flow->verdict != EA_VERDICT_DENY) {
    end(skb, p, flow);
    /* Who opened it takes it back: nobody else could have said so. */
    if ((flags & TCP_RST) && p->out && !inbound && !(flow->flags & EA_FLOW_SECOND_LOOK))
      bpf_map_delete_elem(&flows, &p->key);
  }
  return 0;
}

/* What an established packet changes, beyond its counters. */
static __always_inline void step(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
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

/* A packet of a denied flow. */
APART int denied(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow, __u32 endpoint_flags) {
  if (!p || !flow) return DROP;
  __sync_fetch_and_add(&flow->drops, 1);
  touch(flow, p);
  count(EA_COUNT_DROPS + (flow->reason & 31));
  const __u64 now = bpf_ktime_get_ns(), before = flow->reported_ns;
  if (now - before >= SECOND_NS && __sync_val_compare_and_swap(&flow->reported_ns, before, now) == before) {
    tell(skb, p, flow, EA_EVENT_DROP);
  }
  return answer(skb, p, endpoint_flags);
}

#endif
