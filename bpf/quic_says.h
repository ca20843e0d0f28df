/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Flows of UDP whose verdict depends on what they say: a hello of QUIC, or something else (quic_flow.h has the rules).
 *
 * Such a flow is inspected as long as it lives (EA_TCP_SAYS), for a server tells connections apart by their ids, and
 * the next datagram may begin another one. It is stored before anything of it passes. What was decided about its last
 * hello is its verdict; before that, whether anything that it may say is allowed, and nobody is told of it. */
#ifndef EA_QUIC_SAYS_H
#define EA_QUIC_SAYS_H

#include "l7_ech.h"
#include "l7_received.h"
#include "quic_hello.h"

/* Steps, as those of says.h. */
enum {
  NEXT_DATAGRAM = 14,        /* hear_datagram() */
  NEXT_READ_HELLO = 15,      /* read_datagram(); from here on the flow is held */
  NEXT_JUDGE_DATAGRAM = 16,  /* judge_datagram() */
  NEXT_SETTLE_DATAGRAM = 17, /* settle_datagram() */
};

/* Whether what a packet says is judged as datagrams. What is asked of resolvers is judged by itself. */
static __always_inline int says_in_datagrams(const struct packet *p) {
  return p->key.protocol == IPPROTO_UDP && !is_dns_server(p);
}

/* Finds the datagrams of a packet. 0: it is not made of such, or its bytes will not be those that are judged. */
static __always_inline int open_datagrams(struct __sk_buff *skb, const struct packet *p,
                                          struct quic_work *q) {
  const __u32 header = p->l4 - p->l3 + 8;
  if (p->fragment || header > p->length || !is_as_judged(skb, p)) return 0;
  q->next = p->l4 + 8;
  q->left = q->piece = p->length - header;
  q->endpoint = p->key.endpoint;
  if (likely(!skb->gso_size)) return 1;
  q->piece = skb->gso_size;
  return is_cut_into_datagrams(skb);
}

/* Whether a packet is one datagram that begins with no long header: of a connection that is open, if of any. */
static __always_inline int continues(struct __sk_buff *skb, const struct packet *p) {
  __u8 first = 0;
  if (p->fragment || skb->gso_size || is_sum_behind(skb, p) || p->length <= p->l4 - p->l3 + 8U ||
      hold_bytes(skb, p->l4 + 9) || bpf_skb_load_bytes(skb, p->l4 + 8, &first, 1))
    return 0;
  return !(first & 0x80);
}

/* Writes the decision in p->decision into its flow, but for the verdict's label. */
static __always_inline void put_decision(const struct packet *p, struct ea_flow *flow) {
  const struct decision *d = &p->decision;
  if (d->service)
    flow->flags |= EA_FLOW_SERVICE;
  else
    flow->flags &= ~EA_FLOW_SERVICE;
  if (p->set & EA_SET_NAMES) name_flow(flow);
  flow->rule = d->rule;
  flow->audit_rule = d->audit_rule;
  flow->audit_verdict = d->audit_verdict;
  flow->reason = d->reason;
  /* Where only some backends of a Service may get it: nothing passes before it is judged. */
  flow->verdict = d->verdict == EA_VERDICT_PARTIAL ? EA_VERDICT_DENY : d->verdict;
  WRITE_ONCE(flow->set, p->set);
  WRITE_ONCE(flow->epoch, p->epoch);
}

/* Writes the decision about what a flow says into it, and tells of that. `told`: it was told of before. */
GLOBAL_FUNCTION int tell_datagrams(struct __sk_buff *skb, struct packet *p, int told) {
  if (!p) return 0;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return 0;
  const int changed = flow->verdict != p->decision.verdict;
  struct quic_state *st = quic_of(flow);
  put_decision(p, flow);
  if (flow->verdict == EA_VERDICT_DENY)
    st->flags &= ~QUIC_FLOW_OPEN;
  else
    st->flags |= QUIC_FLOW_OPEN;
  if (told && !changed) return 0;
  flow->reported_ns = bpf_ktime_get_ns();
  return report(skb, p, flow, told ? EA_EVENT_CHANGED : EA_EVENT_VERDICT);
}

/* From now on the packet's flow is inspected; p->decision is about it. It is held locked afterwards. 0: it is not. */
GLOBAL_FUNCTION int hear_datagrams(struct __sk_buff *skb, struct packet *p) {
  const struct l7_work *w = l7_work();
  struct scratch *s = scratch();
  if (!p || !w || !s) return 0;
  struct ea_flow *flow = held_flow(p);
  const int known = !!flow;
  if (!flow) flow = begin(p);
  if (!flow) return 0;
  if (!(flow->tcp_state & EA_TCP_SAYS)) {
    /* Queries stand in the same place. */
    if (flow->tcp_state & EA_TCP_INSPECT) __builtin_memset(&flow->extra, 0, sizeof(flow->extra));
    flow->extra.name.quic[0] = flow->extra.name.quic[1] = 0;
    flow->tcp_state |= EA_TCP_INSPECT | EA_TCP_SAYS;
    count(EA_COUNT_SAID_INSPECTED);
  }
  struct quic_state *st = quic_of(flow);
  if (p->says == SAID_AUDITS)
    st->flags |= QUIC_FLOW_AUDITED;
  else
    st->flags &= ~QUIC_FLOW_AUDITED;
  if (known && w->anew == ANEW_RECALLED) {
    tell_datagrams(skb, p, 1);
    return 1;
  }
  flow->extra.name.said = EA_SAID_NONE;
  st->flags &= ~QUIC_FLOW_OPEN;
  put_decision(p, flow);
  return known || enter(p, flow);
}

/* Ends with a packet as its flow's verdict says. */
static __always_inline int pass_datagrams(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow,
                                          __u32 endpoint_flags) {
  int verdict = PASS;
  if (flow->verdict == EA_VERDICT_DENY)
    verdict = drop_denied(skb, p, flow, endpoint_flags);
  else
    account(flow, p);
  release(p);
  return verdict;
}

/* Ends with a packet that does not pass, and may come again. */
static __always_inline int hold_back(struct __sk_buff *skb, struct packet *p, __u8 reason) {
  release(p);
  if (p->fragment) remember_first(p, 0);
  return drop(skb, p, reason);
}

/* Does what a verdict of quic_flow.h says, unless something is to be judged. */
static __always_inline int end_datagrams(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow,
                                         int verdict, __u32 endpoint_flags) {
  const int told = flow->extra.name.said != EA_SAID_NONE;
  struct quic_state *st = quic_of(flow);
  /* Its client sends the same hello several times. */
  if (verdict == QUIC_HELLO_TOO_LARGE && !(st->flags & QUIC_FLOW_LARGE)) {
    count(EA_COUNT_SAID_OVERSIZE);
    st->flags |= QUIC_FLOW_LARGE;
  }
  if (unlikely(st->flags & QUIC_FLOW_AUDITED)) {
    if (verdict != QUIC_PASS) {
      stop_hearing(p, flow);
      if (!told) report(skb, p, flow, EA_EVENT_VERDICT);
    }
    return pass_datagrams(skb, p, flow, endpoint_flags);
  }
  switch (verdict) {
  case QUIC_PASS:
    /* Nothing of a hello passes where whatever it says is denied. */
    if (flow->verdict == EA_VERDICT_DENY && !told) break;
    return pass_datagrams(skb, p, flow, endpoint_flags);
  case QUIC_DENY:
  case QUIC_SAYS_OTHER:
    if (flow->verdict == EA_VERDICT_DENY) return pass_datagrams(skb, p, flow, endpoint_flags);
    break;
  case QUIC_NO_ROOM:
    count(EA_COUNT_SAID_NO_ROOM);
    break;
  case QUIC_UNREADABLE:
  case QUIC_VERSION:
  case QUIC_HELLO_TOO_LARGE:
    return hold_back(skb, p, EA_REASON_UNREADABLE_HELLO);
  }
  return hold_back(skb, p, EA_REASON_UNSAID);
}

/* Reads the datagrams of a packet. */
GLOBAL_FUNCTION int hear_datagram(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  struct l7_work *w = l7_work();
  struct quic_work *q = quic_work();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (!p || !w || !q || !ep) return DROP;
  const __u32 flags = ep->flags;
  take(p);
  struct ea_flow *flow = held_flow(p);
  if (flow && (flow->flags & EA_FLOW_INBOUND)) return hold_back(skb, p, EA_REASON_UNSAID);
  if (w->anew != ANEW_NOT) {
    if (!hear_datagrams(skb, p)) return hold_back(skb, p, EA_REASON_UNSAID);
    flow = held_flow(p);
  }
  if (!flow || (flow->tcp_state & EA_TCP_SAYS) == 0 || flow->epoch != p->epoch || flow->set != p->set)
    return hold_back(skb, p, EA_REASON_UNSAID);
  struct quic_state *st = quic_of(flow);
  if (likely((st->flags & QUIC_FLOW_OPEN) ||
             (flow->verdict == EA_VERDICT_DENY && flow->extra.name.said == EA_SAID_OTHER)) &&
      continues(skb, p))
    return pass_datagrams(skb, p, flow, flags);
  if (!open_datagrams(skb, p, q)) {
    const int why = p->fragment ? QUIC_HOLD : QUIC_UNREADABLE;
    return end_datagrams(skb, p, flow, why, flags);
  }
  const int verdict = quic_sent(skb, st);
  w->heard = verdict == QUIC_JUDGE ? HEARD_HELLO : HEARD_OTHER;
  if (verdict == QUIC_JUDGE) return NEXT_READ_HELLO;
  if (verdict == QUIC_SAYS_OTHER && flow->extra.name.said == EA_SAID_NONE) return NEXT_JUDGE_DATAGRAM;
  return end_datagrams(skb, p, flow, verdict, flags);
}

/* Reads a hello. */
GLOBAL_FUNCTION int read_datagram(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  const struct quic_work *q = quic_work();
  if (!p || !ep || !w || !q) return DROP;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return DROP;
  struct quic_state *st = quic_of(flow);
  const struct quic_attempt *a = quic_attempt(st);
  w->heard = a && quic_read_hello(&a->stream, q) == TLS_HELLO ? HEARD_HELLO : HEARD_UNREADABLE;
  if (w->heard == HEARD_UNREADABLE && unlikely(st->flags & QUIC_FLOW_AUDITED)) {
    quic_judged(skb, st, 0);
    return end_datagrams(skb, p, flow, QUIC_UNREADABLE, ep->flags);
  }
  return NEXT_JUDGE_DATAGRAM;
}

/* What a hello of QUIC says, for the rows of a set: each rule may refuse QUIC. */
static __always_inline void say_in_quic(struct said_work *said) {
  said->classes[1] = EA_CLASS_QUIC;
  said->count = 2;
}

/* Decides about what a flow says. */
GLOBAL_FUNCTION int judge_datagram(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  if (!p || !ep || !w) return DROP;
  w->hidden = 0;
  count(EA_COUNT_SAID_JUDGED);
  if (w->heard == HEARD_UNREADABLE) {
    deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
    return NEXT_SETTLE_DATAGRAM;
  }
  const int tls = w->heard == HEARD_HELLO;
  struct said_work *said = tls ? begin_hello(p, w) : begin_saying(EA_SAID_OTHER, 0);
  if (said && tls) say_in_quic(said);
  p->tells = !!(p->set & EA_SET_LOGS);
  if (unlikely(p->tells)) describe(skb, p);
  if (p->set & EA_SET_NAMES) note_learned(slot_of(p->payer));
  decide_said_inline(ep, p);
  tell_hidden(p, w);
  if (p->decision.verdict == EA_VERDICT_PARTIAL) deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  return NEXT_SETTLE_DATAGRAM;
}

/* Does what was decided. */
GLOBAL_FUNCTION int settle_datagram(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  struct l7_work *w = l7_work();
  struct quic_work *q = quic_work();
  const struct said_work *said = said_work();
  if (!p || !ep || !w || !q || !said) return DROP;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return DROP;
  struct quic_state *st = quic_of(flow);
  const int allowed = p->decision.verdict == EA_VERDICT_ALLOW, told = flow->extra.name.said != EA_SAID_NONE;
  const int other = w->heard == HEARD_OTHER, audited = st->flags & QUIC_FLOW_AUDITED;
  int verdict = allowed ? QUIC_PASS : QUIC_DENY;
  if (!other) {
    q->rule = p->decision.rule;
    verdict = quic_judged(skb, st, allowed);
    /* A second hello must be judged as the first was. */
    if (verdict == QUIC_DENY && allowed) deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
  }
  const __u32 kind = other ? EA_SAID_OTHER : EA_SAID_TLS;
  if (w->heard == HEARD_UNREADABLE) w->named = TLS_ODDLY_NAMED;
  keep_said_in_datagrams(flow, kind, said->classes[0]);
  tell_datagrams(skb, p, told);
  if (flow->verdict == EA_VERDICT_DENY) count(EA_COUNT_SAID_DENIED);
  st->flags &= ~QUIC_FLOW_LARGE;
  if (!other) report_server_name(p, EA_SAID_TLS, w->named == TLS_NAMED, 1);
  if (unlikely(audited)) {
    if (verdict == QUIC_JUDGE) quic_judged(skb, st, 0);
    stop_hearing(p, flow);
    return pass_datagrams(skb, p, flow, ep->flags);
  }
  /* Behind it, the packet may have datagrams that begin a connection. */
  if (other && allowed) verdict = quic_sent(skb, st);
  w->heard = HEARD_HELLO;
  return verdict == QUIC_JUDGE ? NEXT_READ_HELLO : end_datagrams(skb, p, flow, verdict, ep->flags);
}

/* A packet with more hellos than are judged at once. Its client sends them again, in other packets. */
GLOBAL_FUNCTION int too_many_hellos(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return DROP;
  struct ea_flow *flow = held_flow(p);
  if (flow) quic_judged(skb, quic_of(flow), 0);
  return hold_back(skb, p, EA_REASON_UNSAID);
}

/* Notes what the peer of an inspected flow of UDP answers. Returns the tc verdict. The flow is held locked. */
GLOBAL_FUNCTION int datagrams_received(struct __sk_buff *skb, const struct packet *p) {
  struct quic_work *q = quic_work();
  if (!p || !q) return PASS;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return PASS;
  struct quic_state *st = quic_of(flow);
  const __u32 header = p->l4 - p->l3 + 8;
  if (!st->buffer || p->fragment || header >= p->length || skb->ingress_ifindex == skb->ifindex ||
      !is_genuine_answer(skb, p) || !came_by_route(skb, p))
    return PASS;
  q->next = p->l4 + 8;
  q->left = q->piece = p->length - header;
  if (skb->gso_size) q->piece = skb->gso_size;
  q->endpoint = p->key.endpoint;
  quic_received(skb, st);
  return PASS;
}

#endif
