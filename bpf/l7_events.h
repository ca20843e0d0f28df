/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events of what connections say, with the verdict on it. They accompany the events of flows, and have a ring of
 * their own. */
#ifndef EA_L7_EVENTS_H
#define EA_L7_EVENTS_H

#include "l7_memory.h"

/* Whether the ring has room for an event of this endpoint. From a quarter full on, each has a share. */
static __always_inline int may_report_said(const struct ea_flow_key *key, __u64 now_ns) {
  const struct bpf_map *ring = (const struct bpf_map *)&said_events;
  const __u32 quarter = ring->max_entries / 4, waiting = bpf_ringbuf_query(&said_events, BPF_RB_AVAIL_DATA);
  if (likely(waiting < quarter)) return 1;
  return has_share(key, now_ns, 3);
}

/* Reserves and sends an event whose text takes `bytes`. 0: there is no room. */
static __always_inline int send_said(const struct packet *p, const struct said_text *text, __u32 kind,
                                     __u32 quic, __u64 now_ns, const __u32 bytes) {
  struct ea_said_event *e =
      bpf_ringbuf_reserve(&said_events, offsetof(struct ea_said_event, text) + bytes, 0);
  if (!e) return 0;
  e->time_ns = now_ns;
  e->rule = p->decision.rule;
  e->audit_rule = p->decision.audit_rule;
  e->set = p->set;
  e->flow = p->key;
  e->ifindex = p->payer;
  e->length = text->length;
  e->kind = kind;
  e->family = p->family;
  e->verdict = p->decision.verdict;
  e->audit_verdict = p->decision.audit_verdict;
  e->reason = p->decision.reason;
  e->quic = quic;
  __builtin_memset(e->pad, 0, sizeof(e->pad));
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < bytes / 8; i++)
    ((__u64 *)e->text)[i] = i * 8 < text->length ? ((const __u64 *)text->bytes)[i] : 0;
  bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
  return 1;
}

/* Reports what a connection said: `length` bytes of `text`, which has room for EA_SAID_EVENT_BYTES, and the decision
 * about it in p->decision. Without room in the ring, or a share of it, the event is lost and counted. `kind`: enum
 * ea_said; `quic`: it was said in QUIC. */
GLOBAL_FUNCTION int report_said(const struct packet *p, const struct said_text *text, __u32 kind,
                                __u32 quic) {
  const struct ea_state *state = current_state();
  if (!p || !text || !state || (state->flags & EA_STATE_QUIET)) return 0;
  const __u64 now_ns = bpf_ktime_get_ns();
  int sent = 0;
  if (may_report_said(&p->key, now_ns))
    sent = text->length <= EA_SAID_SHORT_BYTES ? send_said(p, text, kind, quic, now_ns, EA_SAID_SHORT_BYTES)
                                               : send_said(p, text, kind, quic, now_ns, EA_SAID_EVENT_BYTES);
  if (!sent) count(EA_COUNT_SAID_EVENTS_LOST);
  return 0;
}

/* The same about the server name in texts[TEXT_SERVER]; `named` 0: none was said that can be told. */
GLOBAL_FUNCTION int report_server_name(const struct packet *p, __u32 kind, __u32 named, __u32 quic) {
  const struct name_work *names = name_work();
  struct l7_work *w = l7_work();
  if (!p || !names || !w) return 0;
  struct said_text *t = &w->told;
  const struct name_text *n = &names->texts[TEXT_SERVER];
  t->length = named && n->length <= EA_NAME_TEXT ? n->length : 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_TEXT / 8; i++)
    ((__u64 *)t->bytes)[i] = ((const __u64 *)n->bytes)[i];
  return report_said(p, t, kind, quic);
}

#endif
