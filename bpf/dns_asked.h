/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What endpoints have asked and what was not answered yet: an answer counts if its query is here.
 *
 * Two queries of a UDP flow stand in the flow's own entry (struct ea_flow_queries), which a packet of the flow
 * has read anyway: the C library asks for A and AAAA over one socket. A flow that has more in flight, and all of
 * TCP, has side records for them in the flow table (EA_KIND_QUERY), which count as the endpoint's. So there is
 * no room of its own here that somebody could fill, and no query takes the place of another that may still be
 * answered. */
#ifndef EA_DNS_ASKED_H
#define EA_DNS_ASKED_H

#include "dns_events.h"
#include "dns_stream.h"

/* How long an answer may take. */
#define DNS_ANSWER_NS (30 * SECOND_NS)
/* The unit of ea_flow_queries.asked, in nanoseconds: 2^16. */
#define ASKED_SHIFT 16

_Static_assert(__builtin_offsetof(struct ea_flow_queries, flags) ==
                   __builtin_offsetof(struct ea_dns_stream, flags),
               "flows of UDP and of TCP tell at the same place that they are judged");

/* The key of the side record of a query: its flow's, with the question in place of the endpoint's address. */
static __always_inline void query_key(struct ea_flow_key *key, const struct packet *p,
                                      const struct dns_question *q, __u64 name) {
  *key = p->key;
  __u32 *local = (__u32 *)key->local;
  local[0] = name;
  local[1] = name >> 32;
  local[2] = q->id | (__u32)q->type << 16;
  local[3] = q->class;
  key->kind = EA_KIND_QUERY;
}

/* The key of a query within its flow. Never 0. The hash of the name is keyed. */
static __always_inline __u64 question_key(const struct dns_question *q, __u64 name) {
  return scattered(name + scattered(q->id | (__u64)q->type << 16 | (__u64)q->class << 32)) | 1;
}

/* Stores a query in its flow, which this program holds locked. 0: there is no room. */
static __always_inline int ask_in_flow(const struct packet *p, const struct dns_question *q, __u64 name,
                                       int teaches) {
  struct ea_flow *flow = held_flow(p);
  if (!flow || p->key.protocol != IPPROTO_UDP || (flow->tcp_state & EA_TCP_SAYS)) return 0;
  struct ea_flow_queries *queries = &flow->extra.queries;
  const __u32 now = bpf_ktime_get_coarse_ns() >> ASKED_SHIFT, most = DNS_ANSWER_NS >> ASKED_SHIFT;
  const __u64 key = question_key(q, name);
  int at = -1;
  for (int i = 0; i < 2; i++)
    if (!queries->keys[i] || now - queries->asked[i] > most) at = i;
  for (int i = 0; i < 2; i++)
    if (queries->keys[i] == key) at = i; /* it is sent again */
  if (at < 0) return 0;
  WRITE_ONCE(queries->keys[at & 1], 0);
  queries->asked[at & 1] = now;
  queries->teaches[at & 1] = teaches;
  WRITE_ONCE(queries->keys[at & 1], key);
  return 1;
}

/* Remembers that the endpoint sent the query that read_query() has read. */
GLOBAL_FUNCTION int remember_query(struct __sk_buff *skb, const struct packet *p) {
  const struct name_work *names = name_work();
  const struct dns_work *w = dns_work();
  struct scratch *s = scratch();
  if (!p || !names || !w || !s) return 0;
  const __u64 name = names->texts[TEXT_QUESTION].hash;
  const int teaches = p->query_mode == QUERY_KNOWN && p->decision.dns == EA_TEACHES;
  if (likely(ask_in_flow(p, &w->question, name, teaches))) return report_dns(p, EA_DNS_ASKED);
  struct ea_flow *flow = &s->side_flow;
  __builtin_memset(flow, 0, sizeof(*flow));
  flow->kind = EA_KIND_QUERY;
  flow->epoch = p->epoch;
  flow->last_jiffies = bpf_jiffies64();
  flow->payer = slot_of(skb->ifindex);
  struct ea_query *query = (struct ea_query *)flow->side_record;
  query->asked_ns = bpf_ktime_get_coarse_ns();
  query->teaches = teaches;
  query_key(&s->side_key, p, &w->question, name);
  put_side_record(&s->side_key, flow, s);
  return report_dns(p, EA_DNS_ASKED);
}

/* Looks for the query that the message answers in its flow. 1: it is there; w->asked_in and w->asked_ns say
 * more. 2: the same, and its rule names the servers whose answers count. */
static __always_inline int find_in_flow(const struct packet *p, struct dns_work *w, __u64 name,
                                        __u64 now_ns) {
  const struct ea_flow *flow = contended_flow(p);
  w->asked_in = 0;
  if (!flow || p->key.protocol != IPPROTO_UDP || (flow->tcp_state & EA_TCP_SAYS)) return 0;
  const struct ea_flow_queries *queries = &flow->extra.queries;
  const __u64 key = question_key(&w->question, name);
  for (int i = 0; i < 2; i++) {
    if (READ_ONCE(queries->keys[i]) != key) continue;
    const __u32 asked = READ_ONCE(queries->asked[i]), ago = (__u32)(now_ns >> ASKED_SHIFT) - asked;
    const int teaches = READ_ONCE(queries->teaches[i]);
    if (READ_ONCE(queries->keys[i]) != key) continue; /* others hold the flow locked */
    w->asked_in = i + 1;
    w->asked_ns = now_ns - ((__u64)ago << ASKED_SHIFT);
    return 1 + teaches;
  }
  return 0;
}

/* Whether the endpoint sent the query that the message answers, a moment ago, and the answers of its server
 * count: it is trusted, or the query says so. */
static __always_inline int was_asked(const struct packet *p, struct dns_work *w, __u64 name) {
  struct scratch *s = scratch();
  if (!s) return 0;
  const __u64 now_ns = bpf_ktime_get_coarse_ns();
  const int found = find_in_flow(p, w, name, now_ns);
  int teaches = found == 2;
  if (!found) {
    query_key(&s->side_key, p, &w->question, name);
    const struct ea_entry *e = find(&s->side_key, &w->asked_at);
    if (!e) return 0;
    const struct ea_query *query = (const struct ea_query *)e->flow.side_record;
    const __u64 asked_ns = READ_ONCE(query->asked_ns);
    teaches = READ_ONCE(query->teaches);
    if (state_of(e) != w->asked_at.seen) return 0;
    w->asked_ns = asked_ns;
  }
  if (now_ns - w->asked_ns > DNS_ANSWER_NS) return 0;
  return teaches || w->trusted;
}

/* Forgets the query that was_asked() found: it is answered once. */
static __always_inline void forget_query(const struct packet *p, const struct dns_work *w) {
  if (unlikely(!w->asked_in)) {
    forget(&w->asked_at);
    return;
  }
  struct ea_flow *flow = contended_flow(p);
  const struct name_work *names = name_work();
  if (!flow || !names) return;
  const __u64 key = question_key(&w->question, names->texts[TEXT_QUESTION].hash);
  __sync_bool_compare_and_swap(&flow->extra.queries.keys[(w->asked_in - 1) & 1], key, 0);
}

#endif
