// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The entry points: three hooks and a clock. Each hook reads straight down:
 * who (endpoint), what (parse), known? (flow table), judged (rules), told (event). */
#include "fragment.h"
#include "icmp.h"
#include "recall.h"

/* The kernel knows this name for what is dual-licensed with the GPL; its helpers are for such programs. */
char _license[] SEC("license") = "GPL";

/* 0: there is no endpoint. Epoch before set: a flow that remembers an old epoch is judged once more, never once less. */
static __always_inline const struct ea_endpoint *endpoint_here(struct __sk_buff *skb, struct packet *p,
                                                               __u8 hook) {
  const struct ea_state *st = state_now();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  p->hook = hook;
  if (!ep || !st) return NULL;
  p->epoch = READ_ONCE(st->epoch);
  p->set = READ_ONCE(ep->set);
  p->key.endpoint = ep->id;
  return ep;
}

/* A connection that the flow table has forgotten, though the endpoint had answered it. */
APART int remembered(struct __sk_buff *skb, const struct packet *p) {
  if (!p || !bpf_map_lookup_elem(&accepted, &p->key)) return 0;
  struct ea_flow *flow = begin(p);
  if (!flow) return 1;
  flow->verdict = EA_VERDICT_ALLOW;
  flow->reason = EA_REASON_REPLY;
  flow->flags = EA_FLOW_INBOUND | EA_FLOW_CONFIRMED;
  flow->tcp_state = p->key.protocol == IPPROTO_TCP ? EA_TCP_OPEN : EA_TCP_NONE;
  flow->packets_out = 1;
  flow->bytes_out = p->length;
  enter(p, flow);
  struct ea_flow *stored = bpf_map_lookup_elem(&flows, &p->key);
  if (stored) step(skb, p, stored);
  return 1;
}

/* A flow that was judged by another policy. */
APART int judge_again(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow,
                      const struct decision *d, __u32 endpoint_flags) {
  if (!p || !flow || !d) return DROP;
  const __u8 before = flow->verdict;
  flow->rule = d->rule;
  flow->audit_rule = d->audit_rule;
  flow->audit_verdict = d->audit_verdict;
  flow->reason = d->reason;
  flow->verdict = d->verdict;
  /* Last: who sees these sees the verdict. */
  WRITE_ONCE(flow->set, p->set);
  WRITE_ONCE(flow->epoch, p->epoch);
  if (d->verdict == EA_VERDICT_PARTIAL) write_down(skb, p);
  if (before != d->verdict && before != EA_VERDICT_PARTIAL && d->verdict != EA_VERDICT_PARTIAL) {
    if (d->verdict == EA_VERDICT_DENY) {
      __sync_fetch_and_add(&flow->drops, 1);
      touch(flow, p);
      flow->reported_ns = bpf_ktime_get_ns();
      count(EA_COUNT_DROPS + (flow->reason & 31));
    }
    tell(skb, p, flow, EA_EVENT_CHANGED);
    if (d->verdict == EA_VERDICT_DENY) return answer(skb, p, endpoint_flags);
  } else if (d->verdict == EA_VERDICT_DENY) {
    return denied(skb, p, flow, endpoint_flags);
  }
  account(flow, p);
  step(skb, p, flow);
  return PASS;
}

/* The first packet of a flow that the endpoint opens, or the first after a change of policy. */
APART int judge(struct __sk_buff *skb, const struct packet *p, const struct ea_endpoint *ep,
                struct ea_flow *old) {
  if (!p || !ep) return DROP;
  if (!old && !is_syn(p) && p->kind != PACKET_ERROR && remembered(skb, p)) return PASS;
  if (p->set && (ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);

  struct decision d = {};
  if (!recall(p, &d)) {
    describe(skb, p); /* for Log rules */
    decide(ep, p, &d);
    remember(p, &d);
  }

  if (old && !(old->flags & EA_FLOW_INBOUND) && !(is_syn(p) && (old->tcp_state & EA_TCP_CLOSED)))
    return judge_again(skb, p, old, &d, ep->flags);
  /* A connection in the other direction, with the same ports: its replies go on when this one is denied. */
  if (old && (old->flags & EA_FLOW_INBOUND)) {
    if (d.verdict == EA_VERDICT_DENY) return drop_for(skb, p, d.reason, &d);
    bpf_map_delete_elem(&accepted, &p->key);
  }

  struct ea_flow *flow = begin(p);
  if (!flow) return DROP;
  flow->set = p->set;
  flow->rule = d.rule;
  flow->audit_rule = d.audit_rule;
  flow->verdict = d.verdict;
  flow->audit_verdict = d.audit_verdict;
  flow->reason = d.reason;
  if (d.verdict == EA_VERDICT_DENY) {
    flow->drops = 1;
    flow->reported_ns = flow->created_ns;
    count(EA_COUNT_DROPS + (d.reason & 31));
  } else {
    flow->packets_out = 1;
    flow->bytes_out = p->length;
  }
  if (d.verdict == EA_VERDICT_PARTIAL)
    write_down(skb, p);
  else
    tell(skb, p, flow, EA_EVENT_VERDICT);
  enter(p, flow);
  return d.verdict == EA_VERDICT_DENY ? answer(skb, p, ep->flags) : PASS;
}

/* A packet of a flow that is known and judged by the policy in force. */
static __always_inline int known(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep,
                                 struct ea_flow *flow) {
  if (unlikely(flow->verdict == EA_VERDICT_DENY && !(flow->flags & EA_FLOW_INBOUND)))
    return denied(skb, p, flow, ep->flags);
  account(flow, p);
  if (unlikely(flow->verdict == EA_VERDICT_PARTIAL)) write_down(skb, p);
  step(skb, p, flow);
  return PASS;
}

static __always_inline int is_current(const struct ea_flow *flow, const struct packet *p) {
  if (flow->flags & EA_FLOW_INBOUND) return !is_syn(p);
  if (is_syn(p) && (flow->tcp_state & EA_TCP_CLOSED)) return 0;
  return READ_ONCE(flow->epoch) == p->epoch && READ_ONCE(flow->set) == p->set;
}

static __always_inline int known_or_judged(struct __sk_buff *skb, struct packet *p,
                                           const struct ea_endpoint *ep, struct ea_flow *flow) {
  const int verdict = likely(flow && is_current(flow, p)) ? known(skb, p, ep, flow) : judge(skb, p, ep, flow);
  if (unlikely(p->fragment)) remember_first(p, verdict == PASS);
  return verdict;
}

/* What the endpoint sends: judged. */
SEC("tc")
int from_pod(struct __sk_buff *skb) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_here(skb, &p, EA_HOOK_FROM_POD);
  if (unlikely(!ep)) return drop(skb, &p, EA_REASON_NO_ENDPOINT);

  const int kind = parse(skb, &p, DIRECTION_OUT | (ep->flags & EA_EP_L3 ? PARSE_L3 : 0));
  if ((ep->flags & EA_EP_CHECK_MAC) && p.set) {
    __u16 mac[3];
    if (load(skb, offsetof(struct ethhdr, h_source), &mac) || !same_mac((const __u8 *)mac, ep->mac))
      return drop(skb, &p, EA_REASON_SPOOFED_MAC);
  }
  if (unlikely(kind != PACKET_FLOW)) {
    if (kind == PACKET_LINK) return PASS;
    if (kind < 0) return p.set ? drop(skb, &p, -kind) : PASS;
    if (kind == PACKET_LATER) {
      const int verdict = follow_first(skb, &p, ep);
      if (verdict != FOLLOW_FLOW) return verdict;
    } else if (is_related(skb, &p, ep)) {
      return PASS;
    }
  }

  struct ea_flow *flow = bpf_map_lookup_elem(&flows, &p.key);
  return known_or_judged(skb, &p, ep, flow);
}

/* A flow that a peer opens to the endpoint: what the endpoint answers will pass. */
static __noinline struct ea_flow *open_inbound(struct packet *p) {
  struct ea_flow *flow = begin(p);
  if (!flow) return NULL;
  flow->verdict = EA_VERDICT_ALLOW;
  flow->reason = EA_REASON_REPLY;
  flow->flags = EA_FLOW_INBOUND;
  enter(p, flow);
  return bpf_map_lookup_elem(&flows, &p->key);
}

/* Whether this packet begins an inbound flow in place of the one that is there. Not in place of one that the endpoint
 * opened: that is a reply. Also when a change of policy denies the flow by now: a datagram that was on its way, or a
 * peer that goes on sending, must not turn what is denied into what may be answered. */
static __always_inline int begins_inbound(const struct ea_flow *flow, const struct packet *p) {
  if (!p->opens) return 0;
  if (!flow || (flow->tcp_state & EA_TCP_CLOSED)) return 1;
  if (flow->flags & EA_FLOW_INBOUND) return 0;
  if (p->key.opened_remotely) return 1;
  return flow->verdict == EA_VERDICT_DENY && (is_syn(p) || flow->packets_out == 0);
}

/* What is delivered to the endpoint: opens inbound flows, and is the second look for Services. */
SEC("tc")
int to_pod(struct __sk_buff *skb) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_here(skb, &p, EA_HOOK_TO_POD);
  if (unlikely(!ep)) return PASS;
  const int kind = parse_apart(skb, &p, ep->flags & EA_EP_L3 ? PARSE_L3 : 0);
  if (unlikely(kind != PACKET_FLOW)) return PASS;

  struct ea_flow *flow = bpf_map_lookup_elem(&flows, &p.key);
  if (unlikely(!flow || begins_inbound(flow, &p)) && p.opens) flow = open_inbound(&p);

  const struct ea_state *st = state_now();
  if (unlikely(st && st->looks)) {
    if (!flow || ((flow->flags & EA_FLOW_INBOUND) &&
                  (flow->epoch != p.epoch || flow->looks != (__u16)st->looks || is_syn(&p)))) {
      const int verdict = second_look(skb, &p, flow, ep->flags & ~EA_EP_IN_POD);
      if (verdict != PASS) return verdict;
    } else if ((flow->flags & EA_FLOW_SECOND_LOOK) && flow->verdict == EA_VERDICT_DENY) {
      return denied_again(skb, &p, flow, ep->flags & ~EA_EP_IN_POD);
    }
  }
  if (!flow) return PASS;
  account(flow, &p);
  step(skb, &p, flow);
  return PASS;
}

/* Whether something of the node's own waits for a datagram: the answer to a pod behind the node's address is not one. */
static __always_inline int has_socket(struct __sk_buff *skb, const struct packet *p) {
  struct bpf_sock_tuple tuple = {};
  struct bpf_sock *sk;
  if (p->family == 4) {
    tuple.ipv4.saddr = v4_of(p->key.remote);
    tuple.ipv4.daddr = v4_of(p->key.local);
    tuple.ipv4.sport = p->key.remote_port;
    tuple.ipv4.dport = p->key.local_port;
    sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
  } else {
    __builtin_memcpy(tuple.ipv6.saddr, p->key.remote, 16);
    __builtin_memcpy(tuple.ipv6.daddr, p->key.local, 16);
    tuple.ipv6.sport = p->key.remote_port;
    tuple.ipv6.dport = p->key.local_port;
    sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
  }
  if (!sk) return 0;
  bpf_sk_release(sk);
  return 1;
}

/* What arrives at a node that a policy governs: opens inbound flows, whose answers pass. */
SEC("tc")
int uplink_in(struct __sk_buff *skb) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_here(skb, &p, EA_HOOK_UPLINK);
  if (unlikely(!ep)) return PASS;
  if (parse_apart(skb, &p, ep->flags & EA_EP_L3 ? PARSE_L3 : 0) != PACKET_FLOW) return PASS;
  struct ea_flow *flow = bpf_map_lookup_elem(&flows, &p.key);
  if (flow && (flow->flags & EA_FLOW_SECOND_LOOK)) return PASS; /* a pod's, on its way back */
  if ((!flow || begins_inbound(flow, &p)) && p.opens && owns(ep, p.key.local) &&
      (p.key.protocol != IPPROTO_UDP || has_socket(skb, &p)))
    flow = open_inbound(&p);
  if (!flow) return PASS;
  account(flow, &p);
  step(skb, &p, flow);
  return PASS;
}

/* What leaves the node: its own traffic is judged if a policy governs the node, and observed otherwise; Services with remote
 * backends have their second look. A packet with a socket of its own came from no other device: what is forwarded, or wrapped for
 * a tunnel, has none by now. */
SEC("tc")
int uplink(struct __sk_buff *skb) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_here(skb, &p, EA_HOOK_UPLINK);
  if (unlikely(!ep)) return PASS;
  const struct ea_state *st = state_now();
  const int own = skb->sk && !skb->ingress_ifindex;
  if (!own && (!st || !st->looks)) return PASS;
  const int kind = parse_apart(skb, &p, DIRECTION_OUT | (ep->flags & EA_EP_L3 ? PARSE_L3 : 0));
  if (unlikely(kind != PACKET_FLOW)) {
    /* A router's errors are about the flows of others: never denied. */
    if (!own || !p.set || kind == PACKET_LINK || kind == PACKET_ERROR) return PASS;
    if (kind != PACKET_LATER) return drop(skb, &p, -kind);
    const int verdict = follow_first(skb, &p, ep);
    if (verdict != FOLLOW_FLOW) return verdict;
  }

  struct ea_flow *flow = bpf_map_lookup_elem(&flows, &p.key);
  if (st && st->looks &&
      (!flow || ((flow->flags & EA_FLOW_SECOND_LOOK) && (flow->epoch != p.epoch || is_syn(&p))))) {
    const int verdict = second_look(skb, &p, flow, ep->flags & ~EA_EP_IN_POD);
    if (verdict != PASS) return verdict;
    if (!own) return PASS;
  }
  if (flow && (flow->flags & EA_FLOW_SECOND_LOOK) && flow->verdict == EA_VERDICT_DENY)
    return denied_again(skb, &p, flow, ep->flags);
  if (own && p.set) return known_or_judged(skb, &p, ep, flow);
  if (!own && !flow) return PASS;
  if (!flow || (is_syn(&p) && (flow->tcp_state & EA_TCP_CLOSED))) {
    struct ea_flow *fresh = begin(&p);
    if (!fresh) return PASS;
    fresh->verdict = EA_VERDICT_ALLOW;
    fresh->reason = EA_REASON_OBSERVED;
    /* SYN and ACK: the node answers. Only what leaves is seen here. */
    if ((p.tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
      fresh->flags = EA_FLOW_INBOUND | EA_FLOW_CONFIRMED;
    fresh->packets_out = 1;
    fresh->bytes_out = p.length;
    tell(skb, &p, fresh, EA_EVENT_VERDICT);
    enter(&p, fresh);
    return PASS;
  }
  account(flow, &p);
  if (p.key.protocol == IPPROTO_TCP) tcp_step(skb, &p, flow);
  return PASS;
}

/* Not a hook: run by hand, it tells the kernel's jiffies, in cb[0] (low half) and cb[1]. */
SEC("tc")
int clock(struct __sk_buff *skb) {
  const __u64 now = bpf_jiffies64();
  skb->cb[0] = now;
  skb->cb[1] = now >> 32;
  return PASS;
}
