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
#include "l7_begin.h"
#include "l7_end.h"
#include "l7_http.h"
#include "l7_received.h"

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
