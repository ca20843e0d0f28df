/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* DNS queries as something to judge. A rule may ask for the name in a query (EA_SET_QUERIES). Then each query
 * is judged for itself, and a flow has no verdict of its own: it is inspected (EA_TCP_INSPECT).
 *
 * Whether a flow depends on the names that it will ask for is found by two decisions: with every such rule
 * taken as met, and with none. If both are the same rule's, nothing is inspected. */
#ifndef EA_QUERIES_H
#define EA_QUERIES_H

#include "dns_query.h"
#include "refuse.h"

/* Queries in a segment. */
enum { MAX_QUERIES = 16 };

/* Decides about a packet whose set has rules about queries. Result in p->decision; 1: its flow is to be
 * inspected, and the decision is about what is no query: handshakes pass if any query might. Inlined where it
 * is used, as the others: the stack has no room for one more call. */
static __always_inline int depends_on_query(const struct ea_endpoint *ep, struct packet *p) {
  struct name_work *w = name_work();
  if (!w) return 1;
  p->query = 0;
#pragma clang loop unroll(disable)
  for (__u8 mode = QUERY_MET + 1; mode > QUERY_NONE; mode--) {
    p->query_mode = mode - 1;
    w->met = p->decision;
    p->decision = (struct decision){};
    decide(ep, p, &p->decision);
    p->named = 1; /* for the other decisions about this packet */
  }
  const struct decision *met = &w->met, *none = &p->decision;
  if (met->verdict == none->verdict && met->rule == none->rule && met->audit_rule == none->audit_rule)
    return 0;
  if (none->verdict == EA_VERDICT_DENY) {
    p->decision = w->met;
    p->query_mode = QUERY_MET;
  }
  return 1;
}

/* The decision about what should be a query and cannot be judged as one. */
static __always_inline void deny_unreadable(struct packet *p) {
  p->decision = (struct decision){.verdict = EA_VERDICT_DENY,
                                  .reason = EA_REASON_UNREADABLE_QUERY,
                                  .audit_verdict = p->set & EA_SET_STAGED ? EA_VERDICT_DENY : 0};
}

/* Decides about a query whose name is in texts[TEXT_QUESTION]. Result in p->decision; 1: it may pass. Where
 * only some backends of a Service may get it, it is refused: the check behind the translation does not know
 * the name. */
static __always_inline int judge_query(struct __sk_buff *skb, const struct ea_endpoint *ep,
                                       struct packet *p) {
  p->tells = !!(p->set & EA_SET_LOGS);
  if (unlikely(p->tells)) describe(skb, p);
  p->query = class_of_query();
  p->query_mode = QUERY_KNOWN;
  p->decision = (struct decision){};
  decide(ep, p, &p->decision);
  if (p->decision.verdict == EA_VERDICT_PARTIAL) deny_unreadable(p);
  return p->decision.verdict != EA_VERDICT_DENY;
}

/* Types of queries that no filter lets pass: incremental and whole zone transfers. */
enum { DNS_IXFR = 251, DNS_AXFR = 252 };

/* Judges the message in dns_work.buffer. 1: it may pass. A query over UDP is remembered with its flow
 * (read_dns), another one here. */
static __always_inline int judge_message(struct __sk_buff *skb, const struct ea_endpoint *ep,
                                         struct packet *p) {
  const struct dns_work *w = dns_work();
  if (!w || read_query() || w->question.type == DNS_IXFR || w->question.type == DNS_AXFR) {
    deny_unreadable(p);
    return 0;
  }
  if (!judge_query(skb, ep, p)) return 0;
  if (p->key.protocol != IPPROTO_UDP) remember_query(skb, p);
  return 1;
}

/* Answers what may not pass: as a query, if the packet has one, and a segment otherwise by a reset. */
static __always_inline int refuse(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  const struct dns_work *w = dns_work();
  drop_for(skb, p, p->decision.reason, &p->decision);
  if (!w) return DROP;
  if (w->loaded) return refuse_query(skb, p, ep->flags, refusal_code(p->decision.dns));
  report_dns(p, EA_DNS_REFUSED);
  return p->key.protocol == IPPROTO_TCP ? answer(skb, p, ep->flags | EA_EP_REJECT) : DROP;
}

/* Begins to read the queries in a segment. Each segment must consist of whole messages, and the peer must get
 * the messages that are read here: whoever could choose where it begins to read could hide one in another. So
 * a segment follows what the peer has acknowledged, beginning with its SYN; until it is acknowledged, only the
 * same bytes pass again, by number; and it is not cut on its way. 1: it is to be read; its flow is held
 * locked. 0: it cannot be judged. -1: it is to be dropped, and TCP sends it again if it is needed. */
GLOBAL_FUNCTION int open_queries(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  if (!p || !w) return 0;
  w->loaded = 0;
  const struct ea_flow *flow = held_flow(p);
  const __u32 headers = p->l4 - p->l3 + p->header_end, seq = bpf_ntohl(p->seq);
  if (!flow || p->fragment || skb->gso_size || !is_as_judged(skb, p) || headers >= p->length ||
      (p->tcp_flags & (TCP_SYN | TCP_URG)) || !(flow->extra.streams[0].flags & EA_STREAM_SYNCED))
    return 0;
  const struct ea_dns_stream *sent = &flow->extra.streams[0];
  w->unread_at = p->l3 + headers;
  w->unread = p->length - headers;
  w->end_seq = seq + w->unread;
  if (!(sent->flags & EA_STREAM_ACCEPTED)) return 0;
  if (seq != sent->stamp) return -1;
  return sent->next_seq == sent->stamp || w->end_seq == sent->next_seq ? 1 : -1;
}

/* The next query of the segment, into dns_work.buffer. 0: there is none any more. -1: it is not whole. */
GLOBAL_FUNCTION int next_query(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  __be16 field = 0;
  if (!p || !w) return -1;
  if (!w->unread) return 0;
  w->loaded = 0;
  if (w->unread < 2 || bpf_skb_load_bytes(skb, w->unread_at, &field, 2)) return -1;
  const __u32 length = bpf_ntohs(field);
  if (length + 2 > w->unread || load_message(skb, p, w->unread_at + 2, length, w)) return -1;
  w->unread_at += length + 2;
  w->unread -= length + 2;
  return 1;
}

/* All queries of the segment may pass. */
static __always_inline void close_queries(const struct packet *p) {
  struct ea_flow *flow = held_flow(p);
  const struct dns_work *w = dns_work();
  if (!flow || !w) return;
  if ((__s32)(w->end_seq - flow->extra.streams[0].next_seq) > 0) flow->extra.streams[0].next_seq = w->end_seq;
}

/* In place of a verdict: the packet may carry queries, which are judged next. */
enum { ASKS_IN_DATAGRAM = 7, ASKS_IN_SEGMENT = 8 };

/* Decides about a packet of a set with rules about queries, before its flow is taken: the stack has no room to
 * do it there. FOLLOW_FLOW: p->decision is about it (p->decided), or it is for the flow to decide. */
static __noinline int begin_asking(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (unlikely(!ep)) return drop(skb, p, EA_REASON_NO_ENDPOINT);
  if (p->kind != PACKET_FLOW) return FOLLOW_FLOW;
  const int known = known_as(&p->key, p->epoch, p->set);
  /* What belongs to a flow that a peer opened is no query of the endpoint's own. */
  if ((known & KNOWN_INBOUND) && !is_syn(p)) return FOLLOW_FLOW;
  if ((ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);
  if ((known & KNOWN_JUDGED) && p->key.protocol == IPPROTO_UDP) {
    p->inspected = p->decided = 1;
    return ASKS_IN_DATAGRAM; /* which decides */
  }
  p->inspected = depends_on_query(ep, p);
  p->decided = 1;
  if (!p->inspected || p->decision.verdict == EA_VERDICT_DENY) return FOLLOW_FLOW;
  if (p->key.protocol == IPPROTO_UDP) return ASKS_IN_DATAGRAM;
  /* In fragments the data may come later, and nobody would read it: open_queries() refuses them. */
  if (p->key.protocol == IPPROTO_TCP) return p->carries || p->fragment ? ASKS_IN_SEGMENT : FOLLOW_FLOW;
  deny_unreadable(p);
  return drop_for(skb, p, p->decision.reason, &p->decision);
}

static __noinline int ask_in_datagram(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct dns_work *w = dns_work();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (!p || !ep || !w) return DROP;
  if (dns_open(skb, p) != DNS_READ || dns_next(skb, p) != 1 || w->unread)
    deny_unreadable(p);
  else if (judge_message(skb, ep, p))
    return is_withheld(w) ? refuse_query(skb, p, ep->flags, withheld_code()) : FOLLOW_FLOW;
  return refuse(skb, p, ep);
}

static __noinline int ask_in_segment(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (!p || !ep) return DROP;
  take(p);
  int more = open_queries(skb, p);
  if (more < 0) {
    release(p);
    return drop(skb, p, EA_REASON_OUT_OF_ORDER);
  }
  if (more == 0) more = -1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < MAX_QUERIES && more > 0; i++) {
    more = next_query(skb, p);
    if (more <= 0) break;
    if (!judge_message(skb, ep, p)) {
      release(p);
      return refuse(skb, p, ep);
    }
    const struct dns_work *w = dns_work();
    if (w && unlikely(is_withheld(w))) {
      release(p);
      return refuse_query(skb, p, ep->flags, withheld_code());
    }
  }
  if (more == 0) close_queries(p);
  release(p);
  if (more == 0) return FOLLOW_FLOW;
  deny_unreadable(p);
  return refuse(skb, p, ep);
}

/* Judges what the packet asks for. FOLLOW_FLOW: it passes as far as that goes. */
static __always_inline int pod_asks(struct __sk_buff *skb) {
  const int kind = begin_asking(skb);
  return kind == ASKS_IN_DATAGRAM  ? ask_in_datagram(skb)
         : kind == ASKS_IN_SEGMENT ? ask_in_segment(skb)
                                   : kind;
}

#endif
