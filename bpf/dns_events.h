/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Events of DNS: queries that were refused, and, where asked for, all queries and answers. They have a ring of
 * their own. User space reads the message itself (src/flow/event/dns.ts): the programs copy its beginning. */
#ifndef EA_DNS_EVENTS_H
#define EA_DNS_EVENTS_H

#include "dns_memory.h"
#include "share.h"

/* Whether the ring has room for an event of this endpoint. From a quarter full on, each has a share. */
static __always_inline int may_report_dns(const struct ea_flow_key *key, __u64 now_ns) {
  const struct bpf_map *ring = (const struct bpf_map *)&dns_events;
  const __u32 quarter = ring->max_entries / 4, waiting = bpf_ringbuf_query(&dns_events, BPF_RB_AVAIL_DATA);
  if (likely(waiting < quarter)) return 1;
  return has_share(key, now_ns, 3);
}

/* Reports the message in dns_work.buffer, which a packet has; EA_DNS_UNTRUSTED: none was read. Without room in
 * the ring, or a share of it, the event is lost and counted. */
GLOBAL_FUNCTION int report_dns(const struct packet *p, __u32 kind) {
  const struct ea_name_state_words *st = name_words();
  const struct ea_state *state = current_state();
  const struct dns_work *w = dns_work();
  if (!p || !st || !state || !w || (state->flags & EA_STATE_QUIET)) return 0;
  const int always = kind != EA_DNS_ASKED && kind != EA_DNS_ANSWERED;
  if (likely(!(st->flags & (always ? EA_DNS_EVENTS_DENIED | EA_DNS_EVENTS_ALL : EA_DNS_EVENTS_ALL))))
    return 0;
  const __u64 now_ns = bpf_ktime_get_ns();
  struct ea_dns_event *e = NULL;
  if (may_report_dns(&p->key, now_ns)) e = bpf_ringbuf_reserve(&dns_events, sizeof(*e), 0);
  if (!e) {
    count(EA_COUNT_DNS_EVENTS_LOST);
    return 0;
  }
  const struct dns_buffer *m = kind == EA_DNS_UNTRUSTED ? NULL : dns_buffer(w->buffer);
  const int judged = kind == EA_DNS_REFUSED || (kind == EA_DNS_ASKED && p->inspected);
  e->time_ns = now_ns;
  e->asked_ns = kind == EA_DNS_ANSWERED ? w->asked_ns : 0;
  e->rule = judged ? p->decision.rule : 0;
  e->set = p->set;
  e->flow = p->key;
  e->ifindex = p->payer;
  e->length = m ? m->length : 0;
  e->kind = kind;
  e->family = p->family;
  e->verdict = kind == EA_DNS_REFUSED || kind == EA_DNS_WITHHELD ? EA_VERDICT_DENY : EA_VERDICT_ALLOW;
  e->reason = judged ? p->decision.reason : EA_REASON_NONE;
  e->pad[0] = e->pad[1] = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_DNS_EVENT_BYTES / 8; i++)
    ((__u64 *)e->bytes)[i] = m && i * 8 < m->length ? ((const __u64 *)m->bytes)[i] : 0;
  bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
  return 0;
}

#endif
