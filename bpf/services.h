/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Services. The judging hook sees a Service's address before kube-proxy has chosen a backend, so it asks the
 * rules about each backend: all allowed → allow; none → deny; some → PARTIAL: the packet passes, and the
 * hooks after the translation judge it there: the post-DNAT check (post_dnat.h). */
#ifndef EA_SERVICES_H
#define EA_SERVICES_H

#include "recall.h"

static __always_inline int owns(const struct ea_endpoint *ep, const __u8 *addr) {
  if (is_v4(addr)) {
    const __be32 v4 = v4_of(addr);
    if (v4 && (ep->addr4[0] == v4 || ep->addr4[1] == v4)) return 1;
  } else {
    const __u32 *w = (const __u32 *)addr;
    if ((w[0] | w[1] | w[2] | w[3]) == 0) return 0; /* the value of unused slots */
    if (same16(ep->addr6[0], addr) || same16(ep->addr6[1], addr)) return 1;
  }
  if (likely(!(ep->flags & EA_EP_MORE_SOURCES))) return 0;
  struct ea_source_key key = {.endpoint = ep->id};
  __builtin_memcpy(key.addr, addr, 16);
  return !!bpf_map_lookup_elem(&sources, &key);
}

/* The result of owns(), where two comparisons decide; -1: call it. The call costs more than they do. */
static __always_inline int owns_inline(const struct ea_endpoint *ep, const __u8 *addr) {
  if (!is_v4(addr)) return -1;
  const __be32 v4 = v4_of(addr);
  if (v4 && (ep->addr4[0] == v4 || ep->addr4[1] == v4)) return 1;
  return ep->flags & EA_EP_MORE_SOURCES ? -1 : 0;
}

/* Marks a target that is the endpoint itself. */
GLOBAL_FUNCTION int mark_self(const struct ea_endpoint *ep, struct target *t) {
  if (ep && t && owns(ep, t->addr)) t->flags |= TARGET_SELF;
  return 0;
}

/* Whether an endpoint may use a packet's source address: one of its own; none, in a packet to all of the link
 * (it has no address yet); its link-local one, on the link. Without this check, a pod could send under
 * another pod's address. */
GLOBAL_FUNCTION int source_allowed(const struct ea_endpoint *ep, const struct packet *p) {
  if (!ep || !p) return 0;
  const __u8 *src = p->key.local, *dst = p->key.remote;
  if (owns(ep, src)) return 1;
  if (p->family == 4) return v4_of(src) == 0 && v4_of(dst) == ~0u;
  if (src[0] == 0xfe && (src[1] & 0xc0) == 0x80)
    return dst[0] == 0xff || (dst[0] == 0xfe && (dst[1] & 0xc0) == 0x80);
  const __u32 *w = (const __u32 *)src;
  return dst[0] == 0xff && (w[0] | w[1] | w[2] | w[3]) == 0;
}

/* Whether a Service may have this address, port and protocol. 0: none has, and `services` need not be asked.
 *
 * Never 0 where `services` has an entry. The agent sets the bit before it writes the entry, and clears it
 * only after it has deleted the last entry with this hash (agent/maps/tables/service-filter.ts). An agent
 * that takes over the maps of another sets the bits of all entries before it writes anything. A version
 * without the filter has maps of its own. So 0 means the same as a miss in `services`: at that moment there
 * was no entry. */
static __always_inline int is_in_filter(const __u8 *addr, __be16 port, __u8 protocol) {
  const __u32 *w = (const __u32 *)addr;
  const __u32 mixed =
      (w[0] ^ w[1] * 3 ^ w[2] * 5 ^ w[3] * 7 ^ (port | (__u32)protocol << 16) * 11) * 0x9e3779b1u;
  __u32 at = mixed >> (32 - EA_FILTER_BITS + 6);
  const __u64 *word = bpf_map_lookup_elem(&service_filter, &at);
  return !word || (READ_ONCE(*word) >> (mixed >> (32 - EA_FILTER_BITS) & 63) & 1);
}

static __always_inline int may_be_service(const struct packet *p) {
  return has_ports(p->key.protocol) && is_in_filter(p->key.remote, p->port, p->key.protocol);
}

static __noinline const struct ea_service *service_of(const struct packet *p) {
  struct ea_service_key key = {.port = p->port, .protocol = p->key.protocol};
  __builtin_memcpy(key.addr, p->key.remote, 16);
  return bpf_map_lookup_elem(&services, &key);
}

/* Whether a packet is tunnelled, in a way that nodes unwrap. */
static __noinline int is_tunnel_packet(const struct packet *p) {
  struct ea_tunnel_key key = {.protocol = p->key.protocol,
                              .port = p->key.protocol == IPPROTO_UDP ? p->port : 0};
  return !!bpf_map_lookup_elem(&tunnels, &key);
}

/* Whether any station on the link takes an address for its own: unspecified, loopback, link-local, multicast,
 * broadcast. As in src/net/tunnels.ts. */
static __always_inline int is_on_link(const __u8 *a) {
  if (is_v4(a)) return a[12] >= 224 || a[12] == 127 || a[12] == 0;
  const __u32 *w = (const __u32 *)a;
  return a[0] == 0xff || (a[0] == 0xfe && (a[1] & 0xc0) == 0x80) ||
         (!(w[0] | w[1] | w[2]) && bpf_ntohl(w[3]) <= 1);
}

/* Whether a node would unwrap a packet. Nobody judges the packet inside, and it would come out within the
 * node: without this check, a pod could reach any destination by a tunnel to a node. A tunnel to anybody else
 * is judged like any packet. A later fragment is recognized by its protocol alone: its port is 0. */
GLOBAL_FUNCTION int is_tunnel_to_node(const struct target *t) {
  if (!t || t->protocol == IPPROTO_TCP) return 0;
  struct ea_tunnel_key key = {.protocol = t->protocol, .port = t->protocol == IPPROTO_UDP ? t->port : 0};
  const __u32 *denied = bpf_map_lookup_elem(&tunnels, &key);
  if (likely(!denied || !*denied)) return 0;
  if (is_on_link(t->addr)) return 1;
  const struct ea_address *to = address_of(t->addr);
  return to && (to->flags & EA_ADDR_NODE);
}

/* The verdict of the rules; tunnels to nodes are denied without asking them. */
static __always_inline void judge_target(const struct target *t, struct decision *d) {
  if (likely(t->protocol == IPPROTO_TCP || !is_tunnel_to_node(t))) {
    classify(t, d);
    return;
  }
  __builtin_memset(d, 0, sizeof(*d));
  d->verdict = EA_VERDICT_DENY;
  d->reason = EA_REASON_ENCAPSULATION;
  if (t->set & EA_SET_STAGED) d->audit_verdict = EA_VERDICT_DENY;
}

/* What a decision about a packet has to do and to take as given. */
static __always_inline __u8 flags_of(const struct packet *p, const struct ea_state *st) {
  return (p->tells && !(st->flags & EA_STATE_QUIET) ? TARGET_LOG : 0) |
         (p->query_mode == QUERY_MET ? TARGET_MET : 0) | (p->named ? TARGET_NAMED : 0) |
         (p->said_mode == SAID_MET     ? TARGET_SAID_MET
          : p->said_mode == SAID_KNOWN ? TARGET_SAID
                                       : 0);
}

/* Decisions about Services that depend on more than the Service are not remembered for it. */
static __always_inline int depends_on_more(const struct packet *p) {
  return !!(p->set & EA_SET_ASKS);
}

/* The verdict on the first packet of a flow that the endpoint opens. With p->tells, Log rules send events. 1:
 * the result is not reliable. The agent replaces Services' entries while they are read, and the memory of an
 * old entry may hold another Service's at once. What was read counts only if the entry is still
 * where it was, and no update (which ends with another epoch) came meanwhile. */
GLOBAL_FUNCTION int try_decide(const struct ea_endpoint *ep, struct packet *p, struct decision *d) {
  const struct ea_state *st = current_state();
  if (!ep || !p || !d || !st) return 0;
  if (!p->set) {
    d->verdict = EA_VERDICT_ALLOW;
    d->reason = EA_REASON_NO_POLICY;
    return 0;
  }
  struct target *t = &p->target;
  *t = (struct target){.set = p->set,
                       .port = p->port,
                       .protocol = p->key.protocol,
                       .epoch = p->epoch,
                       .endpoint = ep->id,
                       .query = p->query};
  __builtin_memcpy(t->addr, p->key.remote, 16);
  if (p->key.protocol != IPPROTO_TCP && !(ep->flags & EA_EP_NODE) && is_tunnel_to_node(t)) {
    judge_target(t, d);
    return 0;
  }
  /* The node's own packets are seen after the translation: no Service is looked up. */
  const struct ea_service *service = NULL;
  struct recall_entry *r = NULL;
  if (unlikely(!(ep->flags & EA_EP_NODE) && may_be_service(p))) {
    r = recall_slot(p);
    if (!depends_on_more(p) && recall(r, p, d)) return 0;
    p->service_epoch = READ_ONCE(st->epoch);
    service = service_of(p);
  }
  if (likely(!service || (!service->many && !service->count))) {
    t->flags = flags_of(p, st);
    mark_self(ep, t);
    classify_own(t, d);
    if (p->kind == PACKET_ERROR && d->verdict == EA_VERDICT_DENY && d->reason == EA_REASON_RULE)
      d->reason = EA_REASON_UNRELATED_ERROR;
    return 0;
  }
  __u32 allowed = 0, judged = 0, denied_here = 0;
  struct decision *backend = &p->backend;
  for (__u32 i = 0; i < EA_MAX_BACKENDS; i++) {
    if (i >= service->count) break;
    __builtin_memcpy(t->addr, service->backends[i].addr, 16);
    t->port = service->backends[i].port;
    t->flags = flags_of(p, st) & (TARGET_MET | TARGET_SAID_MET | TARGET_SAID);
    mark_self(ep, t);
    judge_target(t, backend);
    judged++;
    allowed += backend->verdict == EA_VERDICT_ALLOW;
    /* No hook judges a packet after its translation to a backend on the node itself, so one that is denied
     * closes the Service. */
    const int denied_on_node = !denied_here && (service->backends[i].flags & EA_BACKEND_OWN_NODE) &&
                               backend->verdict == EA_VERDICT_DENY;
    if (denied_on_node) denied_here = 1;
    if (i == 0 || denied_on_node) *d = *backend;
  }
  if (!denied_here && (service->many || !judged || (allowed != 0 && allowed != judged))) {
    __builtin_memset(d, 0, sizeof(*d));
    d->verdict = EA_VERDICT_PARTIAL;
  }
  d->service = 1;
  if (service_of(p) != service || READ_ONCE(st->epoch) != p->service_epoch) return 1;
  if (!depends_on_more(p)) remember(r, p, d);
  return 0;
}

/* Whether a packet goes to no Service and is no tunnel: then decide() does the same as try_decide(), without
 * a call for each step. */
static __always_inline int is_plain(const struct ea_endpoint *ep, const struct packet *p) {
  return p->set && p->key.protocol == IPPROTO_TCP && p->kind == PACKET_FLOW &&
         ((ep->flags & EA_EP_NODE) || !may_be_service(p));
}

/* Decides about a first packet. If a Service's entry was replaced three times in a row, the verdict is
 * PARTIAL: the post-DNAT check judges by the backend itself. */
static __always_inline void decide(const struct ea_endpoint *ep, struct packet *p, struct decision *d) {
  const struct ea_state *st = current_state();
  if (likely(st && is_plain(ep, p))) {
    struct target *t = &p->target;
    *t = (struct target){.set = p->set,
                         .port = p->port,
                         .protocol = p->key.protocol,
                         .epoch = p->epoch,
                         .endpoint = ep->id,
                         .query = p->query};
    __builtin_memcpy(t->addr, p->key.remote, 16);
    t->flags = flags_of(p, st);
    if (owns_inline(ep, t->addr)) mark_self(ep, t);
    classify_own(t, d);
    return;
  }
  if (likely(!try_decide(ep, p, d)) || !try_decide(ep, p, d) || !try_decide(ep, p, d)) return;
  __builtin_memset(d, 0, sizeof(*d));
  d->verdict = EA_VERDICT_PARTIAL;
}

/* The key of the side record of a PARTIAL flow: its client, for all Services. */
static __always_inline void pending_key(struct ea_flow_key *key, const struct ea_flow_key *client) {
  __builtin_memset(key, 0, sizeof(*key));
  __builtin_memcpy(key->local, client->local, 16);
  key->local_port = client->local_port;
  key->protocol = client->protocol;
  key->endpoint = client->endpoint;
  key->kind = EA_KIND_PENDING;
}

/* Remembers which Service a PARTIAL flow goes to, for the events of its post-DNAT check, and turns that check
 * on at the uplinks. No verdict depends on the record: the sender could have it replaced. */
GLOBAL_FUNCTION int remember_service(const struct packet *p) {
  struct ea_state *st = current_state();
  struct scratch *s = scratch();
  if (!p || !s) return 0;
  if (st && !st->post_dnat) __sync_fetch_and_add(&st->post_dnat, 1);
  struct ea_flow_key *key = &s->side_key;
  struct side_record old;
  pending_key(key, &p->key);
  const struct ea_pending *before = (const struct ea_pending *)old.bytes;
  if (read_side_record(key, &old) && before->service_port == p->port &&
      same16(before->service, p->key.remote))
    return 0;
  struct ea_flow *flow = &s->side_flow;
  __builtin_memset(flow, 0, sizeof(*flow));
  flow->kind = EA_KIND_PENDING;
  flow->epoch = p->epoch;
  flow->last_jiffies = bpf_jiffies64();
  flow->payer = slot_of(p->payer);
  struct ea_pending *value = (struct ea_pending *)flow->side_record;
  value->service_port = p->port;
  __builtin_memcpy(value->service, p->key.remote, 16);
  return put_side_record(key, flow, s);
}

#endif
