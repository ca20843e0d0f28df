/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Connections that are judged by what they say of themselves. A flow is inspected (EA_TCP_SAYS) only if its verdict
 * depends on it. Its handshake passes if anything that it says may. Then its data is judged as it comes: what is
 * not whole passes while it may become a hello, for it names nobody yet; the verdict falls with the byte that makes
 * it whole. When the peer has acknowledged what was judged, the flow is like any other.
 *
 * After a hello, the next record says whether a second one follows (HelloRetryRequest, RFC 8446, 4.1.4): it is
 * judged, too. The Finished of a resumed TLS 1.2 session may look like the beginning of one; then the record behind
 * it says what it was (tls.h). Where early data was announced, nothing in the stream tells. There the server's
 * answer must be no HelloRetryRequest.
 *
 * What a flow said is kept in it (struct ea_flow_name), and judged again after a change of policy. */
#ifndef EA_SAYS_H
#define EA_SAYS_H

#include "l7_audit.h"
#include "l7_end.h"
#include "l7_http.h"
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

static __always_inline __u8 reason_to_drop(int segment, int http) {
  return segment == SEGMENT_GAP      ? EA_REASON_OUT_OF_ORDER
         : segment == SEGMENT_RETOLD ? EA_REASON_RETOLD
         : http                      ? EA_REASON_UNREADABLE_REQUEST
                                     : EA_REASON_UNREADABLE_HELLO;
}

/* Which step is next, by what was heard. */
static __always_inline int next_step(const struct l7_work *w) {
  return w->heard == HEARD_HELLO || w->heard == HEARD_OTHER || w->heard == HEARD_REQUEST ? NEXT_JUDGE
                                                                                         : NEXT_SETTLE;
}

/* Reads a segment that says something. */
GLOBAL_FUNCTION int hear_segment(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  struct l7_work *w = l7_work();
  if (!p || !w) return DROP;
  take(p);
  w->busy = w->requests = 0;
  struct ea_flow *flow = held_flow(p);
  if (flow && p->says) hear_for(flow, p);
  if (flow && is_loose(flow)) {
    w->before = *said_stream(flow);
    w->audited = 0;
    w->again = 1;
    w->heard = HEARD_UNREADABLE;
    return NEXT_SETTLE;
  }
  const int segment = open_said(skb, p);
  flow = held_flow(p);
  if (segment == SEGMENT_PASSES) {
    release(p);
    return FOLLOW_FLOW;
  }
  if (segment == SEGMENT_UNHEARD || !flow) {
    release(p);
    return drop(skb, p, EA_REASON_UNSAID);
  }
  const struct ea_said_stream *s = said_stream(flow);
  w->audited = s->flags & EA_SAID_AUDITED;
  if (segment != SEGMENT_NEW) {
    const int http = s->kind == EA_SAID_HTTP;
    if (unlikely(w->audited)) return give_up(p, flow);
    release(p);
    if (p->fragment) remember_first(p, 0);
    return drop(skb, p, reason_to_drop(segment, http));
  }
  w->again = s->state == EA_SAID_JUDGED || (s->kind == EA_SAID_HTTP && (s->body & HTTP_LATER));
  w->heard = hear_any(skb, p);
  if (s->flags & EA_SAID_SECOND) w->again = 1;
  return next_step(w);
}

/* Decides about what a flow says. */
GLOBAL_FUNCTION int judge_heard(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  if (!p || !ep || !w) return DROP;
  p->decided = 1;
  w->hidden = 0;
  count(EA_COUNT_SAID_JUDGED);
  if (w->heard == HEARD_REQUEST) {
    const struct ea_flow *flow = held_flow(p);
    const struct l7_buffer *b = flow ? l7_buffer((__u32)flow->extra.said.buffer - 1) : NULL;
    if (!b || say_request(b, p->set)) {
      if (unlikely(w->audited))
        w->heard = HEARD_UNREADABLE;
      else
        deny_unheard(p, EA_REASON_NO_SET);
      return NEXT_SETTLE;
    }
  } else if (w->heard == HEARD_HELLO) {
    begin_hello(p, w);
  } else {
    begin_saying(EA_SAID_OTHER, 0);
  }
  p->tells = !!(p->set & EA_SET_LOGS);
  if (unlikely(p->tells)) describe(skb, p);
  decide_said_inline(ep, p);
  tell_hidden(p, w);
  if (p->decision.verdict == EA_VERDICT_PARTIAL) deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  return NEXT_SETTLE;
}

/* Keeps what was decided about, and tells of it. */
static __always_inline void note_judged(struct packet *p, struct ea_flow *flow, struct l7_work *w) {
  const struct said_work *said = said_work();
  struct ea_said_stream *s = said_stream(flow);
  if (w->heard == HEARD_REQUEST) {
    const struct l7_buffer *b = l7_buffer((__u32)s->buffer - 1);
    if (b) report_request(p, b);
    return;
  }
  const __u32 kind = w->heard == HEARD_HELLO ? EA_SAID_TLS : EA_SAID_OTHER;
  /* A second hello must be judged as the first was. */
  if (w->again && !w->audited && p->decision.verdict == EA_VERDICT_ALLOW && p->decision.rule != flow->rule)
    deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  if (said) keep_said(flow, kind, said->classes[0]);
  report_server_name(p, kind, kind == EA_SAID_TLS && w->named == TLS_NAMED, 0);
}

/* Goes on behind what was allowed. */
static __always_inline void hear_on(struct __sk_buff *skb, struct packet *p, struct ea_said_stream *s,
                                    struct l7_work *w) {
  if (w->heard == HEARD_OTHER) {
    /* The bytes that say so are those that were looked at: the first, or a line that might have been a request's. */
    w->heard = HEARD_DONE;
  } else if (w->heard == HEARD_HELLO) {
    if (w->early) s->flags |= EA_SAID_EARLY;
    w->heard = hear_behind(p);
    /* No client sends a second hello before it has an answer. */
    if (w->heard == HEARD_HELLO) w->heard = HEARD_UNREADABLE;
  } else {
    http_begin(s);
    w->requests++;
    s->state = EA_SAID_JUDGED;
    w->heard = hear_http(skb, p);
  }
  w->again = 1;
}

/* Whether a flow was judged under the policies in force, and may pass. */
static __always_inline int is_judged_now(const struct ea_flow *flow, const struct packet *p) {
  return flow->verdict == EA_VERDICT_ALLOW && !(flow->flags & EA_FLOW_INBOUND) &&
         READ_ONCE(flow->epoch) == p->epoch && READ_ONCE(flow->set) == p->set;
}

/* Does what was decided. */
GLOBAL_FUNCTION int end_hearing(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  if (!p || !ep || !w) return DROP;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return DROP;
  struct ea_said_stream *s = said_stream(flow);
  const __u32 seq = w->before.next_seq, http = s->kind == EA_SAID_HTTP;
  if (next_step(w) == NEXT_JUDGE) {
    note_judged(p, flow, w);
    if (unlikely(w->audited) && w->heard != HEARD_REQUEST) {
      if (w->busy) l7_rest(s, p->key.endpoint, 0);
      w->busy = 0;
      stop_hearing(p, flow);
      settle_audit(skb, p, flow, w);
      return give_up(p, flow);
    }
    if (p->decision.verdict == EA_VERDICT_ALLOW) {
      if (unlikely(w->audited))
        settle_audit(skb, p, flow, w);
      else
        settle(skb, p, w->again ? 0 : EA_EVENT_VERDICT);
      hear_on(skb, p, s, w);
      if (next_step(w) == NEXT_JUDGE) return NEXT_JUDGE;
    } else {
      w->heard = HEARD_DENIED;
    }
  }
  if (w->heard == HEARD_MORE && (p->tcp_flags & TCP_FIN) && http && http_is_cut(s))
    w->heard = HEARD_UNREADABLE;
  if (w->heard == HEARD_MORE || w->heard == HEARD_DONE) {
    commit_said(p, flow, w->heard);
    /* What pod_sends() would do, without a second look-up. */
    const int follows = !is_judged_now(flow, p);
    if (!follows) {
      account(flow, p);
      step(skb, p, flow);
    }
    release(p);
    return follows ? FOLLOW_FLOW : PASS;
  }
  if (unlikely(w->audited) && w->heard != HEARD_DENIED) return give_up(p, flow);
  if (w->heard == HEARD_NO_ROOM) {
    count(EA_COUNT_SAID_NO_ROOM);
    unhear(p, flow);
    release(p);
    return drop(skb, p, EA_REASON_UNSAID);
  }
  if (w->heard == HEARD_UNREADABLE)
    deny_unheard(p, http ? EA_REASON_UNREADABLE_REQUEST : EA_REASON_UNREADABLE_HELLO);
  count(EA_COUNT_SAID_DENIED);
  if (w->busy) l7_rest(s, p->key.endpoint, 1);
  settle(skb, p, w->again ? EA_EVENT_CHANGED : EA_EVENT_VERDICT);
  release(p);
  return end_both(skb, p, ep->flags, seq, http && !w->requests);
}

/* A segment with more requests than are judged at once comes again in its parts, if it is large; otherwise it ends the
 * connection. */
GLOBAL_FUNCTION int too_much_said(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return DROP;
  struct ea_flow *flow = held_flow(p);
  const struct l7_work *w = l7_work();
  if (flow && w && unlikely(w->audited)) return give_up(p, flow);
  if (flow) unhear(p, flow);
  release(p);
  return drop(skb, p, EA_REASON_UNREADABLE_REQUEST);
}

/* Requests in a segment, and hellos in datagrams of one packet. */
enum { MAX_REQUESTS = 64, MAX_HELLOS = 2 };

/* Judges what the packet says. FOLLOW_FLOW: it passes as far as that goes. */
static __always_inline int pod_says(struct __sk_buff *skb) {
  int next = begin_hearing(skb);
  if (next == NEXT_DEPENDS) next = find_dependence(skb);
  if (next == NEXT_OPENING) next = judge_opening(skb);
  if (next == NEXT_RECALL) next = judge_recalled(skb);
  if (next == NEXT_DATAGRAM) next = hear_datagram(skb);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < MAX_HELLOS; i++) {
    if (next == NEXT_READ_HELLO) next = read_datagram(skb);
    if (next == NEXT_JUDGE_DATAGRAM) next = judge_datagram(skb);
    if (next == NEXT_SETTLE_DATAGRAM) next = settle_datagram(skb);
  }
  if (next == NEXT_READ_HELLO) return too_many_hellos(skb);
  if (next == NEXT_HEAR) next = hear_segment(skb);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < MAX_REQUESTS; i++) {
    if (next == NEXT_JUDGE) next = judge_heard(skb);
    if (next != NEXT_SETTLE) break;
    next = end_hearing(skb);
  }
  return next == NEXT_JUDGE ? too_much_said(skb) : next;
}

#endif
