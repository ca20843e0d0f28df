/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Which packets are judged by what they say: whether their flow depends on it, was judged already, or says it now. */
#ifndef EA_L7_BEGIN_H
#define EA_L7_BEGIN_H

#include "l7_received.h"
#include "quic_says.h"

/* Each step is called from the hook itself: the stack has no room for a decision
 * below another call. In place of a verdict, a step says which one is next. */
enum {
  NEXT_DEPENDS = 9, /* find_dependence() */
  NEXT_OPENING = 8, /* judge_opening() */
  NEXT_RECALL = 10, /* judge_recalled() */
  NEXT_HEAR = 11,   /* hear_segment() */
  NEXT_JUDGE = 12,  /* judge_heard(); the flow is held */
  NEXT_SETTLE = 13, /* end_hearing(); the flow is held */
};

static __always_inline int carries_more_than_control(const struct packet *p) {
  return p->carries || p->fragment || (p->tcp_flags & TCP_URG);
}

/* Whether a packet of a flow that is inspected is to be heard: what carries something, and the end of a stream. */
static __always_inline int says_something(const struct packet *p) {
  return carries_more_than_control(p) || (p->tcp_flags & (TCP_FIN | TCP_RST)) == TCP_FIN;
}

/* What is to be done with a packet of a set with rules about what connections say, before its flow is taken. */
GLOBAL_FUNCTION int begin_hearing(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  struct l7_work *w = l7_work();
  if (!p || !w) return DROP;
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (unlikely(!ep)) return drop(skb, p, EA_REASON_NO_ENDPOINT);
  if (p->kind != PACKET_FLOW || p->inspected) return FOLLOW_FLOW;
  const int known = know_flow(p), syn = is_syn(p);
  w->known = known;
  w->anew = ANEW_NOT;
  /* What belongs to a flow that a peer opened is not judged; what is inspected for DNS says nothing else. */
  /* A datagram to a trusted resolver counts as neither hello nor request, the first of its flow and each other. */
  const int asks = p->key.protocol == IPPROTO_UDP && is_dns_server(p);
  if ((known & FLOW_INBOUND || (known & FLOW_DNS && !asks)) && !syn) return FOLLOW_FLOW;
  if ((ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);
  if (says_in_datagrams(p))
    return !(known & FLOW_CURRENT) ? NEXT_DEPENDS : known & FLOW_SAYS ? NEXT_DATAGRAM : FOLLOW_FLOW;
  if (p->key.protocol != IPPROTO_TCP) {
    w->said = EA_SAID_OTHER;
    w->said_length = 0;
    return known & FLOW_CURRENT ? FOLLOW_FLOW : NEXT_DEPENDS;
  }
  if (is_dns_server(p)) return FOLLOW_FLOW;
  if (!(known & FLOW_CURRENT) || syn) return NEXT_DEPENDS;
  const int control = !carries_more_than_control(p);
  /* A reset ends what its peer has open, if that was accepted before it was denied. */
  if ((known & FLOW_DENIED) && w->said && p->tcp_flags == TCP_RST && control && p->header_end == 20)
    return PASS;
  return (known & FLOW_SAYS) && says_something(p) ? NEXT_HEAR : FOLLOW_FLOW;
}

/* The first packet of a connection, whose flow depends on what it will say. */
static __always_inline int hear_syn(struct __sk_buff *skb, struct packet *p, struct l7_work *w, int depends) {
  const __u32 known = w->known;
  const int unreadable = carries_more_than_control(p);
  if (depends == SAID_AUDITS) {
    if (unreadable || p->decision.verdict == EA_VERDICT_PARTIAL) return FOLLOW_FLOW;
  } else if (p->decision.verdict == EA_VERDICT_PARTIAL) {
    /* Where only some backends of a Service may get it: the check behind the translation does not know what is
     * said. */
    deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
    return FOLLOW_FLOW;
  } else if (unreadable) {
    /* Without its data, it comes again. */
    return drop_for(skb, p, EA_REASON_UNREADABLE_HELLO, &p->decision);
  }
  p->says = depends;
  if (!(known & FLOW_CURRENT) || (known & (FLOW_INBOUND | FLOW_CLOSED))) return FOLLOW_FLOW;
  if ((known & FLOW_SAYS) && w->state == EA_SAID_HANDSHAKE && w->next_seq == bpf_ntohl(p->seq) + 1)
    return FOLLOW_FLOW;
  /* Another connection with the same addresses and ports: what was judged does not count any more. */
  take(p);
  struct ea_flow *flow = held_flow(p);
  if (flow) WRITE_ONCE(flow->epoch, p->epoch - 1);
  release(p);
  return FOLLOW_FLOW;
}

/* What becomes of a datagram whose flow depends on what it says, and was not judged under the policies in force. */
static __always_inline int begin_datagram(struct packet *p, struct l7_work *w, int depends) {
  if (depends == SAID_AUDITS && p->decision.verdict == EA_VERDICT_PARTIAL) return FOLLOW_FLOW;
  p->says = depends;
  w->anew = ANEW_BEGINS;
  if (w->known && w->said) return NEXT_RECALL;
  return depends == SAID_DECIDES && p->decision.verdict == EA_VERDICT_DENY ? NEXT_OPENING : NEXT_DATAGRAM;
}

/* Whether the packet's flow depends on what it says. p->decision is then about the packet (p->decided). */
GLOBAL_FUNCTION int find_dependence(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  struct l7_work *w = l7_work();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (!p || !w || !ep) return DROP;
  const int depends = depends_on_said(ep, p);
  p->decided = 1;
  if (!depends) return FOLLOW_FLOW;
  if (says_in_datagrams(p)) return begin_datagram(p, w, depends);
  if (p->key.protocol != IPPROTO_TCP) return NEXT_RECALL;
  if (is_syn(p)) {
    if (p->decision.verdict != EA_VERDICT_DENY) return hear_syn(skb, p, w, depends);
    return depends == SAID_AUDITS ? FOLLOW_FLOW : NEXT_OPENING;
  }
  const __u32 known = w->known;
  if ((known & FLOW_SAYS) && (w->state < EA_SAID_JUDGED || w->said == EA_SAID_HTTP)) {
    if (p->decision.verdict == EA_VERDICT_PARTIAL) {
      if (depends == SAID_AUDITS) return FOLLOW_FLOW;
      deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
    }
    if (p->decision.verdict == EA_VERDICT_DENY) return FOLLOW_FLOW;
    p->says = depends;
    return says_something(p) ? NEXT_HEAR : FOLLOW_FLOW;
  }
  /* What was denied for what it said has ended, whether its peer has believed the reset or not. */
  const int ended = (known & FLOW_DENIED) && (known & FLOW_CLOSED);
  if (known && !(known & FLOW_SAYS) && !ended && w->said == EA_SAID_HTTP &&
      (w->said_length & HTTP_PART_MASK) == HTTP_OPAQUE)
    return FOLLOW_FLOW; /* another protocol by now */
  if (known && !ended && w->said && w->said != EA_SAID_HTTP) {
    if (known & FLOW_SAYS) p->says = depends;
    return NEXT_RECALL;
  }
  /* Its beginning was not seen: the pod itself may have let it be forgotten, by a reset that its peer does not take.
   * Or nobody knows any more where a request begins. */
  if (depends == SAID_AUDITS) return FOLLOW_FLOW;
  if (!known && !carries_more_than_control(p) && p->decision.verdict == EA_VERDICT_ALLOW) return PASS;
  deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  return FOLLOW_FLOW;
}

/* Decides about a handshake that is denied by what may be said, and if nothing is: a rule that denies what it asks
 * for may stand before one that allows something else. Taken as met are the rules that do not deny. */
static __noinline int judge_opening(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  const struct name_work *names = name_work();
  struct said_work *said = begin_saying(EA_SAID_NONE, 0);
  if (!p || !ep || !w || !names || !said) return DROP;
  said->fixed = EA_CLASS_OPENING;
  decide_said_inline(ep, p);
  if (says_in_datagrams(p)) {
    if (p->decision.verdict == EA_VERDICT_DENY) p->decision = names->met;
    return NEXT_DATAGRAM;
  }
  if (p->decision.verdict != EA_VERDICT_DENY) return hear_syn(skb, p, w, SAID_DECIDES);
  p->decision = names->met;
  p->said_mode = SAID_MET;
  return FOLLOW_FLOW;
}

/* Decides about a flow by what it has said before, in l7_work. */
GLOBAL_FUNCTION int judge_recalled(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  struct said_work *said = said_work();
  if (!p || !ep || !w || !said || !recall_said()) return DROP;
  const int datagrams = says_in_datagrams(p);
  if (datagrams && w->said == EA_SAID_TLS) say_in_quic(said);
  if (datagrams && (p->set & EA_SET_NAMES)) note_learned(slot_of(p->payer));
  p->tells = !!(p->set & EA_SET_LOGS);
  if (unlikely(p->tells)) describe(skb, p);
  decide_said_inline(ep, p);
  p->decided = 1;
  if (p->decision.verdict == EA_VERDICT_PARTIAL) deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  if (datagrams && p->says == SAID_DECIDES) {
    w->anew = ANEW_RECALLED;
    return NEXT_DATAGRAM;
  }
  if (p->key.protocol != IPPROTO_TCP) {
    p->says = 0;
    return FOLLOW_FLOW;
  }
  if (p->decision.verdict == EA_VERDICT_DENY) p->says = 0;
  return p->says && says_something(p) ? NEXT_HEAR : FOLLOW_FLOW;
}

#endif
