/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is heard for the audit verdict alone (EA_SAID_AUDITED): a hello, or each request of a connection. Nothing is
 * dropped for it, so what would have to wait or to come again ends the hearing. */
#ifndef EA_L7_AUDIT_H
#define EA_L7_AUDIT_H

#include "l7_http.h"

/* Goes on without inspection, where only the audit verdict depended, or depends, on it. The flow is held. */
static __always_inline int give_up(struct packet *p, struct ea_flow *flow) {
  const struct l7_work *w = l7_work();
  if (w && w->busy) l7_rest(said_stream(flow), p->key.endpoint, 0);
  stop_hearing(p, flow);
  p->says = 0;
  release(p);
  return FOLLOW_FLOW;
}

/* Whether a verdict depends on a stream that was heard for the audit alone, with nothing to compare what comes again
 * with: other bytes may have arrived than were read. */
static __always_inline int is_loose(struct ea_flow *flow) {
  const int says = (flow->tcp_state & EA_TCP_SAYS) != 0;
  return says && (said_stream(flow)->flags & (EA_SAID_AUDITED | EA_SAID_LOOSE)) == EA_SAID_LOOSE;
}

/* Keeps what only the audit verdict depended on. The verdict was told with the handshake. Of several requests, the flow
 * keeps the first one that the audit denies, so it is told of twice at most; each request is told of by itself. */
static __always_inline void settle_audit(struct __sk_buff *skb, struct packet *p, const struct ea_flow *flow,
                                         const struct l7_work *w) {
  struct decision *d = &p->decision;
  int differs = flow->audit_verdict != d->audit_verdict || flow->audit_rule != d->audit_rule;
  if (w->again && (flow->audit_verdict == EA_VERDICT_DENY || d->audit_verdict != EA_VERDICT_DENY)) {
    d->audit_verdict = flow->audit_verdict;
    d->audit_rule = flow->audit_rule;
    differs = 0;
  }
  settle(skb, p, differs ? EA_EVENT_CHANGED : 0);
}

#endif
