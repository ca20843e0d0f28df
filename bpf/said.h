/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a connection says of itself as something to judge: the server name of a TLS or QUIC hello, or an HTTP/1
 * request. A rule may ask for it (EA_SET_SAYS).
 *
 * Whether a flow depends on what it will say is found by two decisions: with every such rule taken as met, and
 * with none. If both are the same rule's, nothing is inspected. */
#ifndef EA_SAID_H
#define EA_SAID_H

#include "services.h"

/* Decides about a packet whose set has rules about what connections say. Result in p->decision. SAID_DECIDES: its
 * flow is to be inspected, and the decision is about its handshake, which passes if anything that it says may.
 * SAID_AUDITS: only the audit verdict depends on it. Rules about DNS queries do not match here: what depends on
 * them is judged by them alone (queries.h). */
enum { SAID_DECIDES = 1, SAID_AUDITS = 2 };
static __always_inline int depends_on_said(const struct ea_endpoint *ep, struct packet *p) {
  struct name_work *w = name_work();
  if (!w) return 1;
  p->query = 0;
  p->query_mode = QUERY_NONE;
#pragma clang loop unroll(disable)
  for (__u8 mode = SAID_MET + 1; mode > SAID_NONE; mode--) {
    p->said_mode = mode - 1;
    w->met = p->decision;
    p->decision = (struct decision){};
    decide(ep, p, &p->decision);
    p->named = 1; /* for the other decisions about this packet */
  }
  const struct decision *met = &w->met, *none = &p->decision;
  if (met->verdict == none->verdict && met->rule == none->rule && met->audit_rule == none->audit_rule)
    return 0;
  if (met->verdict == none->verdict && met->rule == none->rule) {
    /* Nothing is told as a violation before it is one. */
    if (p->decision.verdict != EA_VERDICT_DENY && none->audit_verdict == EA_VERDICT_DENY) {
      p->decision.audit_verdict = met->audit_verdict;
      p->decision.audit_rule = met->audit_rule;
    }
    return SAID_AUDITS;
  }
  w->none = *none;
  if (none->verdict == EA_VERDICT_DENY) {
    p->decision = w->met;
    p->said_mode = SAID_MET;
  }
  return SAID_DECIDES;
}

/* What neither is a hello nor a request, or is one that names nobody. Afterwards the caller may set classes[0]
 * (TLS: class_of_text(EA_CELL_SERVER), HTTP: class_of_text(EA_CELL_HOST)), and add classes of a request's fields.
 * `named`: a name is said. */
static __always_inline struct said_work *begin_saying(__u32 kind, int named) {
  struct said_work *w = said_work();
  if (!w) return NULL;
  w->kind = kind;
  w->count = 1;
  w->classes[0] = 0;
  w->fixed = kind == EA_SAID_HTTP ? (named ? EA_CLASS_REQUEST : EA_CLASS_REQUEST_SILENT)
                                  : (named ? EA_CLASS_UNSAID : EA_CLASS_SILENT);
  return w;
}

/* Decides about a connection that says what is in said_work(). Result in p->decision. Inlined where little of the
 * stack is left. */
static __always_inline void decide_said_inline(const struct ea_endpoint *ep, struct packet *p) {
  struct said_work *w = said_work();
  if (!w) return;
  w->key = scattered(w->fixed);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_SAID_ROWS && i < w->count; i++)
    w->key = mixed(w->key + scattered(w->classes[i] + i));
  p->query = 0;
  p->query_mode = QUERY_NONE;
  p->said_mode = SAID_KNOWN;
  p->decision = (struct decision){};
  decide(ep, p, &p->decision);
}
GLOBAL_FUNCTION int decide_said(const struct ea_endpoint *ep, struct packet *p) {
  if (ep && p) decide_said_inline(ep, p);
  return 0;
}

#endif
