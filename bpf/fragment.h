/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Later fragments have no ports: they follow their first. RFC 1858, 3128, 5722. */
#ifndef EA_FRAGMENT_H
#define EA_FRAGMENT_H

#include "services.h"

static __always_inline void fragment_key(struct ea_fragment_key *key, const struct packet *p) {
  __builtin_memset(key, 0, sizeof(*key));
  __builtin_memcpy(key->src, p->key.local, 16);
  __builtin_memcpy(key->dst, p->key.remote, 16);
  key->endpoint = p->key.endpoint;
  key->id = p->fragment_id;
  key->protocol = p->fragment_protocol;
  key->to_pod = !p->out;
}

/* What became of a datagram's first fragment. */
APART int remember_first(const struct packet *p, int passed) {
  if (!p) return 0;
  struct ea_fragment_key key;
  struct ea_fragment value = {
      .epoch = p->epoch,
      .local_port = p->key.local_port,
      .remote_port = p->key.remote_port,
      .port = p->port,
      .header_end = p->header_end,
      .protocol = p->key.protocol,
      .opened_remotely = p->key.opened_remotely,
      .passed = !!passed,
  };
  fragment_key(&key, p);
  bpf_map_update_elem(&fragments, &key, &value, BPF_ANY);
  return 0;
}

/* A later fragment that the endpoint sends: the tc verdict, or FOLLOW_FLOW. In force is what its first met, until
 * policies change: from then on it is a packet of its first's flow, and judged as that. */
enum { FOLLOW_FLOW = 1 };
APART int follow_first(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  if (!p || !ep) return DROP;
  struct ea_fragment_key key;
  fragment_key(&key, p);
  const struct ea_fragment *first = bpf_map_lookup_elem(&fragments, &key);
  if (first) {
    if (p->set && p->fragment_offset < first->header_end) return drop(skb, p, EA_REASON_OVERLAPPING_FRAGMENT);
    p->key.local_port = first->local_port;
    p->key.remote_port = first->remote_port;
    p->key.protocol = first->protocol;
    p->key.opened_remotely = first->opened_remotely;
    p->port = first->port;
    p->header_end = first->header_end;
    if (!first->passed || first->epoch != p->epoch) return FOLLOW_FLOW;
    struct ea_flow *flow = bpf_map_lookup_elem(&flows, &p->key);
    if (flow) account(flow, p);
    return PASS;
  }
  if (!p->set) return PASS;
  /* Before its first, or without one: only rules without ports can match. Into a header that nobody has seen: never. */
  if (p->fragment_offset < 20 && p->fragment_protocol == IPPROTO_TCP)
    return drop(skb, p, EA_REASON_OVERLAPPING_FRAGMENT);
  if ((ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p))
    return drop(skb, p, EA_REASON_SPOOFED_ADDRESS);
  struct decision d = {};
  struct target t = {.set = p->set, .protocol = p->key.protocol, .flags = TARGET_FRAGMENT};
  __builtin_memcpy(t.addr, p->key.remote, 16);
  mark_self(ep, &t);
  classify(&t, &d);
  if (d.verdict != EA_VERDICT_DENY) return PASS;
  return drop_for(skb, p, d.reason, &d);
}

#endif
