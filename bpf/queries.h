/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* DNS queries as something to judge. A rule may ask for the name in a query (EA_SET_QUERIES). Then each query
 * is judged for itself, and a flow has no verdict of its own: it is inspected (EA_TCP_INSPECT).
 *
 * Whether a flow depends on the names that it will ask for is found by two decisions: with every such rule
 * taken as met, and with none. If both are the same rule's, nothing is inspected. */
#ifndef EA_QUERIES_H
#define EA_QUERIES_H

#include "fragment.h"

/* struct packet, `query_mode`: what is known of the name that is asked for. */
enum { QUERY_NONE = 0, QUERY_MET = 1, QUERY_KNOWN = 2 };

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
  }
  const struct decision *met = &w->met, *none = &p->decision;
  if (met->verdict == none->verdict && met->rule == none->rule && met->audit_rule == none->audit_rule)
    return 0;
  if (none->verdict == EA_VERDICT_DENY) p->decision = w->met;
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
static __always_inline int judge_query(const struct ea_endpoint *ep, struct packet *p) {
  p->query = class_of_query();
  p->query_mode = QUERY_KNOWN;
  p->decision = (struct decision){};
  decide(ep, p, &p->decision);
  if (p->decision.verdict == EA_VERDICT_PARTIAL) deny_unreadable(p);
  return p->decision.verdict != EA_VERDICT_DENY;
}

/* Whether a packet belongs to a flow that a peer opened to the endpoint: no query of its own. */
static __always_inline int answers_peer(const struct packet *p) {
  struct name_work *w = name_work();
  if (!w) return 0;
  struct peeked *known = (struct peeked *)w->known;
  return peek(&p->key, known) && (known->flags & EA_FLOW_INBOUND) && !is_syn(p);
}

/* Decides about a packet of a set with rules about queries, before its flow is taken: the stack has no room to
 * do it there. FOLLOW_FLOW: p->decision is about it (p->decided), or it is for the flow to decide. */
static __noinline int pod_asks(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = endpoint_of(skb->ifindex);
  if (unlikely(!ep)) return drop(skb, p, EA_REASON_NO_ENDPOINT);
  if (p->kind != PACKET_FLOW || answers_peer(p)) return FOLLOW_FLOW;
  p->inspected = depends_on_query(ep, p);
  p->decided = 1;
  if (!p->inspected || (p->key.protocol == IPPROTO_TCP && !p->carries)) return FOLLOW_FLOW;
  if (p->decision.verdict == EA_VERDICT_DENY) return FOLLOW_FLOW; /* no query may pass */
  deny_unreadable(p);
  return drop_for(skb, p, p->decision.reason, &p->decision);
}

#endif
