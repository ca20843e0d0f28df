/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What an endpoint sends: from the packet to the verdict. */
#ifndef EA_SENDS_H
#define EA_SENDS_H

#include "dns_query.h"
#include "fast.h"
#include "inbound.h"
#include "neighbour.h"
#include "queries.h"
#include "says.h"

/* The endpoint of the interface, with epoch and set for this packet. NULL: there is none. The epoch is read
 * before the set: if an update comes in between, the flow gets the old epoch, and is judged once too often,
 * never once too rarely. */
static __always_inline const struct ea_endpoint *identify_endpoint(struct __sk_buff *skb, struct packet *p,
                                                                   __u8 hook) {
  const struct ea_state *st = current_state();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  p->hook = hook;
  if (!ep || !st) return NULL;
  p->epoch = READ_ONCE(st->epoch);
  p->set = READ_ONCE(ep->set);
  p->key.endpoint = ep->id;
  p->payer = skb->ifindex;
  return ep;
}

/* Judges a flow again that was judged under another policy. */
GLOBAL_FUNCTION int judge_again(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow,
                                const struct decision *d, __u32 endpoint_flags) {
  if (!p || !flow || !d) return DROP;
  const __u8 old_verdict = flow->verdict;
  if (d->service)
    flow->flags |= EA_FLOW_SERVICE;
  else
    flow->flags &= ~EA_FLOW_SERVICE;
  /* Before the verdict: the fast path of another CPU must not see one without the other. */
  if (unlikely(p->inspected))
    inspect_flow(flow);
  else if (unlikely(p->says && is_syn(p)))
    hear_flow(flow, p);
  else if (unlikely(flow->tcp_state & EA_TCP_SAYS)) {
    if (!p->says) stop_hearing(p, flow); /* no rule asks what it says any more, or it is denied */
    hear_for(flow, p);
    /* From now on it may say something else. */
    if (p->key.protocol == IPPROTO_UDP && p->said_mode != SAID_KNOWN) flow->extra.name.said = EA_SAID_NONE;
  } else if (unlikely(flow->tcp_state & EA_TCP_INSPECT))
    flow->extra.streams[0].flags &= ~EA_STREAM_JUDGED; /* no rule asks for names any more */
  flow->rule = d->rule;
  flow->audit_rule = d->audit_rule;
  flow->audit_verdict = d->audit_verdict;
  flow->reason = d->reason;
  flow->verdict = d->verdict;
  if ((p->set & EA_SET_NAMES) && !(flow->tcp_state & EA_TCP_INSPECT)) name_flow(flow);
  /* Written last: a reader that sees these sees the verdict, too. */
  WRITE_ONCE(flow->set, p->set);
  WRITE_ONCE(flow->epoch, p->epoch);
  if (d->verdict == EA_VERDICT_PARTIAL) remember_service(p);
  if (old_verdict != d->verdict && old_verdict != EA_VERDICT_PARTIAL && d->verdict != EA_VERDICT_PARTIAL) {
    if (d->verdict == EA_VERDICT_DENY) {
      account_drop(flow, p);
      flow->reported_ns = bpf_ktime_get_ns();
      count(EA_COUNT_DROPS + (flow->reason & 31));
    }
    report(skb, p, flow, EA_EVENT_CHANGED);
    if (d->verdict == EA_VERDICT_DENY) return answer(skb, p, endpoint_flags);
  } else if (d->verdict == EA_VERDICT_DENY) {
    return drop_denied(skb, p, flow, endpoint_flags);
  }
  account(flow, p);
  step(skb, p, flow);
  return PASS;
}

/* Judges the first packet of a flow that the endpoint opens, or its first packet after a change of policy. */
static __always_inline int judge(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep,
                                 struct ea_flow *old) {
  if (!p || !ep) return DROP;
  /* A pod without policies may send in anybody's name but in that of a resolver whose answers count: behind a
   * bridge it is not seen any more which pod a packet is from. */
  if ((ep->flags & EA_EP_CHECK_SOURCE) && owns_inline(ep, p->key.local) != 1 &&
      (p->set || speaks_for_server(p)) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);

  struct decision *d = &p->decision;
  /* Queries, and what is said, have told of Log rules where they were judged, or will; the other decisions of
   * queries.h and said.h are silent. */
  p->tells = (p->set & EA_SET_LOGS) && p->query_mode != QUERY_KNOWN && p->said_mode != SAID_KNOWN && !p->says;
  if (unlikely(p->tells)) describe(skb, p);
  if (unlikely(p->set & EA_SET_NAMES)) note_learned(slot_of(p->payer));
  if (likely(!p->decided) || p->tells) {
    *d = (struct decision){};
    decide(ep, p, d);
  }

  if (old && !(old->flags & EA_FLOW_INBOUND) && !(is_syn(p) && (old->tcp_state & EA_TCP_CLOSED)))
    return judge_again(skb, p, old, d, ep->flags);
  /* A peer opened a connection with the same ports: replies on it still pass when this packet is denied. */
  if (old && (old->flags & EA_FLOW_INBOUND) && d->verdict == EA_VERDICT_DENY)
    return drop_quickly(skb, p, d->reason, d);

  struct ea_flow *flow = begin(p);
  if (!flow) return DROP;
  flow->set = p->set;
  if (d->service) flow->flags = EA_FLOW_SERVICE;
  flow->rule = d->rule;
  flow->audit_rule = d->audit_rule;
  flow->verdict = d->verdict;
  flow->audit_verdict = d->audit_verdict;
  flow->reason = d->reason;
  /* Other CPUs see the flow as soon as it is stored: their packets must not take the fast path. */
  if (unlikely(p->inspected))
    inspect_flow(flow);
  else if (unlikely(p->says))
    hear_flow(flow, p);
  else if (unlikely(p->set & EA_SET_NAMES))
    name_flow(flow);
  if (d->verdict == EA_VERDICT_DENY) {
    flow->drops = 1;
    flow->reported_ns = flow->created_ns;
    count(EA_COUNT_DROPS + (d->reason & 31));
  } else {
    flow->cpu_out = bpf_get_smp_processor_id();
    flow->packets_out = 1;
    flow->bytes_out = p->length;
  }
  if (d->verdict == EA_VERDICT_PARTIAL)
    remember_service(p);
  else if (likely(p->says != SAID_DECIDES)) /* otherwise it is told with what it says */
    report(skb, p, flow, EA_EVENT_VERDICT);
  enter(p, flow);
  return d->verdict == EA_VERDICT_DENY ? answer(skb, p, ep->flags) : PASS;
}

/* A packet of a flow that was judged under the policy in force. */
static __always_inline int pass_known(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep,
                                      struct ea_flow *flow) {
  if (unlikely(flow->verdict == EA_VERDICT_DENY && !(flow->flags & EA_FLOW_INBOUND)))
    return drop_denied(skb, p, flow, ep->flags);
  account(flow, p);
  if (unlikely(flow->verdict == EA_VERDICT_PARTIAL)) remember_service(p);
  step(skb, p, flow);
  return PASS;
}

/* A result of is_current(): the flow is current if conntrack knows its connection. */
enum { HOLDS_WHILE_TRACKED = 2 };

static __always_inline int is_current(const struct ea_flow *flow, const struct packet *p) {
  /* A packet that the post-DNAT check denied never arrived, so it gives no right to answer. */
  if (flow->flags & EA_FLOW_INBOUND) {
    if (is_syn(p) || flow->verdict == EA_VERDICT_DENY) return 0;
    return flow->flags & EA_FLOW_MASQUERADED ? HOLDS_WHILE_TRACKED : 1;
  }
  if (is_syn(p) && (flow->tcp_state & EA_TCP_CLOSED)) return 0;
  if (unlikely(flow->verdict == EA_VERDICT_DENY && (p->set & EA_SET_NAMES)) && may_have_name_now(flow, p))
    return 0;
  return READ_ONCE(flow->epoch) == p->epoch && READ_ONCE(flow->set) == p->set;
}

static __always_inline int verdict_on(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep,
                                      struct ea_flow *flow) {
  int holds = likely(flow) ? is_current(flow, p) : 0;
  if (unlikely(holds == HOLDS_WHILE_TRACKED)) holds = is_masqueraded_reply(skb, p);
  const int verdict = likely(holds) ? pass_known(skb, p, ep, flow) : judge(skb, p, ep, flow);
  if (unlikely(p->fragment)) remember_first(p, verdict == PASS);
  return verdict;
}

/* Reads a packet that the endpoint sends, and judges it if it has no flow of its own. FOLLOW_FLOW, in place
 * of a verdict: it has a flow, or will have one. */
static __noinline int read_sent(struct __sk_buff *skb) {
  struct packet *p = fresh_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = identify_endpoint(skb, p, EA_HOOK_FROM_POD);
  if (unlikely(!ep)) return drop(skb, p, EA_REASON_NO_ENDPOINT);
  const int kind = parse_global(skb, p, DIRECTION_OUT | (ep->flags & EA_EP_L3 ? PARSE_L3 : 0));
  if ((ep->flags & EA_EP_CHECK_MAC) && p->set) {
    __u16 mac[3];
    if (load(skb, offsetof(struct ethhdr, h_source), &mac) || !same_mac((const __u8 *)mac, ep->mac))
      return drop(skb, p, EA_REASON_SPOOFED_MAC);
  }
  if (p->set && likely(kind >= 0)) {
    if (unlikely(will_be_rewritten(skb, p, kind))) return drop(skb, p, EA_REASON_CHECKSUM_OFFLOAD);
    if ((ep->flags & EA_EP_CHECK_NEXT_HOP) && kind != PACKET_LINK && !is_valid_next_hop(skb, p, ep))
      return drop(skb, p, EA_REASON_NEXT_HOP);
  }
  if (unlikely(kind != PACKET_FLOW)) {
    if (kind < 0) return p->set ? drop(skb, p, -kind) : PASS;
    if (kind == PACKET_LINK) {
      const int why = p->set ? check_link_message(skb, p, ep) : LINK_ALLOWED;
      if (why == LINK_ALLOWED) return PASS;
      if (why != LINK_AS_PACKET) return drop(skb, p, why);
      if ((ep->flags & EA_EP_CHECK_NEXT_HOP) && !is_valid_next_hop(skb, p, ep))
        return drop(skb, p, EA_REASON_NEXT_HOP);
    } else if (kind == PACKET_LATER) {
      return follow_first(skb, p, ep);
    } else if (is_related(skb, p, ep)) {
      return PASS;
    }
  }
  return FOLLOW_FLOW;
}

/* What a DNS packet that passes leaves behind: the query, and that the flow is to be inspected. */
static __always_inline int read_dns(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  struct ea_flow *flow = held_flow(p);
  if (flow && unlikely(flow->tcp_state & EA_TCP_SAYS))
    stop_hearing(p, flow); /* its peer has become a resolver */
  if (flow) inspect_flow(flow);
  const int verdict = !p->inspected || is_syn(p) ? dns_sent(skb, p) : PASS;
  /* A judged datagram's query was read before its flow was there to remember it. */
  if (p->key.protocol == IPPROTO_UDP && p->query_mode == QUERY_KNOWN) remember_query(skb, p);
  if (unlikely(verdict == WITHHELD)) {
    release(p); /* the answer goes through to_pod at once */
    const int answered = refuse_query(skb, p, ep->flags, withheld_code());
    /* The query may be in a stream's buffer, which is busy until now. */
    const struct dns_work *w = dns_work();
    if (w) rest_buffer(&w->done, p->key.endpoint, 1);
    return answered;
  }
  if (unlikely(verdict == UNREAD)) {
    release(p);
    if (p->fragment) remember_first(p, 0);
    deny_unreadable(p);
    return refuse(skb, p, ep);
  }
  if (!p->inspected || verdict != PASS) return verdict;
  flow = held_flow(p);
  /* A segment that carries nothing may have ended the flow; what it carries, nobody would remember. */
  if (!flow) return p->carries || is_syn(p) ? drop(skb, p, EA_REASON_OUT_OF_ORDER) : PASS;
  struct ea_dns_stream *sent = &flow->extra.streams[0];
  if (is_syn(p)) sent->stamp = sent->next_seq;
  sent->flags |= EA_STREAM_JUDGED;
  return verdict;
}

/* The verdict on a packet that was read by read_sent() or on the fast path. */
static __noinline int pod_sends(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (unlikely(!ep)) return drop(skb, p, EA_REASON_NO_ENDPOINT);
  int verdict = verdict_on(skb, p, ep, take_inline(p));
  if (verdict == PASS && unlikely(p->inspected || is_dns_server(p))) verdict = read_dns(skb, p, ep);
  release(p);
  return verdict;
}

static __always_inline int slow_path(struct __sk_buff *skb, const int short_way) {
  if (short_way != PACKET_FILLED) {
    const int verdict = read_sent(skb);
    if (verdict != FOLLOW_FLOW) return verdict;
  }
  const struct packet *p = this_packet();
  if (unlikely(p && (p->set & EA_SET_QUERIES))) {
    const int verdict = pod_asks(skb);
    if (verdict != FOLLOW_FLOW) return verdict;
  }
  if (unlikely(p && (p->set & EA_SET_SAYS))) {
    const int verdict = pod_says(skb);
    if (verdict != FOLLOW_FLOW) return verdict;
  }
  return pod_sends(skb);
}

#endif
