/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Service addresses. The judging hook sees them before kube-proxy has chosen a backend, so it asks the rules about
 * each backend: all allowed → allow; none → deny; some → PARTIAL: the packet passes, its source is written down in
 * `pending`, and whoever meets it after the translation (to_pod, uplink) judges it there: the second look. */
#ifndef EA_SERVICES_H
#define EA_SERVICES_H

#include "conntrack.h"
#include "flow.h"

static __always_inline int owns(const struct ea_endpoint *ep, const __u8 *addr) {
  if (is_v4(addr)) {
    const __be32 v4 = v4_of(addr);
    if (v4 && (ep->addr4[0] == v4 || ep->addr4[1] == v4)) return 1;
  } else {
    const __u32 *w = (const __u32 *)addr;
    if ((w[0] | w[1] | w[2] | w[3]) == 0) return 0; /* what unused slots hold */
    if (same16(ep->addr6[0], addr) || same16(ep->addr6[1], addr)) return 1;
  }
  if (likely(!(ep->flags & EA_EP_MORE_SOURCES))) return 0;
  struct ea_source_key key = {.endpoint = ep->id};
  __builtin_memcpy(key.addr, addr, 16);
  return !!bpf_map_lookup_elem(&sources, &key);
}

/* Whether a target is the endpoint itself. */
APART int mark_self(const struct ea_endpoint *ep, struct target *t) {
  if (ep && t && owns(ep, t->addr)) t->flags |= TARGET_SELF;
  return 0;
}

/* An endpoint sends from its own addresses; before it has one, from none; on the link, from its link-local one. */
APART int source_allowed(const struct ea_endpoint *ep, const struct packet *p) {
  if (!ep || !p) return 0;
  const __u8 *src = p->key.local, *dst = p->key.remote;
  if (owns(ep, src)) return 1;
  if (p->family == 4) return v4_of(src) == 0;
  if (src[0] == 0xfe && (src[1] & 0xc0) == 0x80)
    return dst[0] == 0xff || (dst[0] == 0xfe && (dst[1] & 0xc0) == 0x80);
  const __u32 *w = (const __u32 *)src;
  return (w[0] | w[1] | w[2] | w[3]) == 0;
}

static __noinline const struct ea_service *service_of(const struct packet *p) {
  if (!has_ports(p->key.protocol)) return NULL;
  struct ea_service_key key = {.port = p->port, .protocol = p->key.protocol};
  __builtin_memcpy(key.addr, p->key.remote, 16);
  return bpf_map_lookup_elem(&services, &key);
}

/* The verdict on the first packet of a flow that the endpoint opens. After describe(): Log rules send events.
 * 1: not to be relied on. Entries of Services are replaced while they are read, and the memory of the old one may hold
 * another Service's at once: what was read counts if the entry is where it was, and no update (which ends with another
 * epoch) went by meanwhile. */
APART int try_decide(const struct ea_endpoint *ep, const struct packet *p, struct decision *d) {
  const struct ea_state *st = state_now();
  if (!ep || !p || !d || !st) return 0;
  if (!p->set) {
    d->verdict = EA_VERDICT_ALLOW;
    d->reason = EA_REASON_NO_POLICY;
    return 0;
  }
  const __u32 epoch = READ_ONCE(st->epoch);
  struct target t = {.set = p->set, .port = p->port, .protocol = p->key.protocol};
  /* What the node sends is met after the translation. */
  const struct ea_service *service = ep->flags & EA_EP_NODE ? NULL : service_of(p);
  if (likely(!service || (!service->many && !service->count))) {
    __builtin_memcpy(t.addr, p->key.remote, 16);
    t.flags = st->flags & EA_STATE_QUIET ? 0 : TARGET_LOG;
    mark_self(ep, &t);
    classify(&t, d);
    if (p->kind == PACKET_ERROR && d->verdict == EA_VERDICT_DENY && d->reason == EA_REASON_RULE)
      d->reason = EA_REASON_UNRELATED_ERROR;
    return 0;
  }
  __u32 allowed = 0, judged = 0;
  if (!service->many) {
    struct decision other = {};
    for (__u32 i = 0; i < EA_MAX_BACKENDS; i++) {
      if (i >= service->count) break;
      __builtin_memcpy(t.addr, service->backends[i].addr, 16);
      t.port = service->backends[i].port;
      t.flags = 0;
      mark_self(ep, &t);
      classify(&t, &other);
      if (i == 0) *d = other;
      judged++;
      allowed += other.verdict == EA_VERDICT_ALLOW;
    }
  }
  if (!judged || (allowed != 0 && allowed != judged)) {
    __builtin_memset(d, 0, sizeof(*d));
    d->verdict = EA_VERDICT_PARTIAL;
  }
  return service_of(p) != service || READ_ONCE(st->epoch) != epoch;
}

/* Replaced three times in a row: the second look judges by the backend itself. */
static __always_inline void decide(const struct ea_endpoint *ep, const struct packet *p, struct decision *d) {
  if (likely(!try_decide(ep, p, d)) || !try_decide(ep, p, d) || !try_decide(ep, p, d)) return;
  __builtin_memset(d, 0, sizeof(*d));
  d->verdict = EA_VERDICT_PARTIAL;
}

/* Writes down who a PARTIAL flow belongs to. Called for each of its packets: the entry is there whenever one is met
 * again. An open flow that becomes PARTIAL makes the hooks behind look again at what they know (ea_state.looks). */
APART int write_down(struct __sk_buff *skb, const struct packet *p) {
  if (!p) return 0;
  struct ea_pending_key key = {.port = p->key.local_port, .protocol = p->key.protocol};
  __builtin_memcpy(key.addr, p->key.local, 16);
  const struct ea_pending *old = bpf_map_lookup_elem(&pending, &key);
  if (old && old->set == p->set && old->endpoint == p->key.endpoint && old->service_port == p->port &&
      same16(old->service, p->key.remote))
    return 0;
  struct ea_pending value = {
      .set = p->set, .endpoint = p->key.endpoint, .ifindex = skb->ifindex, .service_port = p->port};
  __builtin_memcpy(value.service, p->key.remote, 16);
  const int known = !!old;
  bpf_map_update_elem(&pending, &key, &value, BPF_ANY);
  struct ea_state *st = state_now();
  if (st && (!st->looks || (!known && !is_syn(p)))) __sync_fetch_and_add(&st->looks, 1);
  return 0;
}

/* The flow as its owner would have it without the Service: from the client to the backend. */
static __always_inline void owner_key(struct ea_flow_key *key, const struct packet *p, __u32 owner) {
  *key = p->key;
  key->endpoint = owner;
  if (p->out) return;
  __builtin_memcpy(key->local, p->key.remote, 16);
  __builtin_memcpy(key->remote, p->key.local, 16);
  key->local_port = p->key.remote_port;
  key->remote_port = p->key.local_port;
}

static __always_inline const struct ea_pending *owner_of(struct __sk_buff *skb, const struct packet *p,
                                                         struct ea_pending_key *client) {
  client->protocol = p->key.protocol;
  client->port = p->out ? p->key.local_port : p->key.remote_port;
  __builtin_memcpy(client->addr, p->out ? p->key.local : p->key.remote, 16);
  const struct ea_pending *owner = bpf_map_lookup_elem(&pending, client);
  if (owner || skb->sk || original_source(skb, p, client)) return owner;
  return bpf_map_lookup_elem(&pending, client);
}

/* Event of a second look: it speaks of the owner's flow. */
APART int tell_look(struct __sk_buff *skb, const struct packet *p, const struct ea_pending *owner,
                    const struct ea_flow *flow, __u8 type) {
  struct scratch *s = scratch();
  if (!s || !p || !owner || !flow) return 0;
  describe(skb, p);
  struct ea_event *e = &s->event;
  owner_key(&e->flow, p, owner->endpoint);
  e->set = flow->set;
  e->rule = flow->rule;
  e->audit_rule = flow->audit_rule;
  e->verdict = flow->verdict;
  e->audit_verdict = flow->audit_verdict;
  e->reason = flow->reason;
  e->flow_flags = EA_FLOW_SECOND_LOOK;
  e->created_ns = flow->created_ns;
  e->drops = flow->drops - flow->drops_reported;
  e->service_port = owner->service_port;
  __builtin_memcpy(e->service, owner->service, 16);
  send(s, type);
  return 0;
}

/* Judges a packet after the translation, if it belongs to a PARTIAL flow. `flow`: where to remember it; NULL at the
 * uplink before the first look, and where the table refused. Returns the tc verdict. */
APART int second_look(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow,
                      __u32 endpoint_flags) {
  if (!p) return DROP;
  struct ea_pending_key client = {};
  const struct ea_state *st = state_now();
  const struct ea_pending *owner = owner_of(skb, p, &client);
  struct ea_flow_key key;
  if (owner) {
    /* What the owner sent to this very address was judged when it sent it. */
    owner_key(&key, p, owner->endpoint);
    const struct ea_flow *direct = bpf_map_lookup_elem(&flows, &key);
    if (direct && direct->verdict != EA_VERDICT_PARTIAL) owner = NULL;
  }
  if (!owner) {
    if (!flow) return PASS;
    if (flow->flags & EA_FLOW_SECOND_LOOK) {
      flow->verdict = EA_VERDICT_ALLOW;
      flow->flags &= ~EA_FLOW_SECOND_LOOK;
    }
    flow->epoch = p->epoch;
    if (st) flow->looks = st->looks;
    return PASS;
  }

  count(EA_COUNT_SECOND_LOOKS);
  const struct ea_endpoint *ep = endpoint_of(owner->ifindex);
  const int there = ep && ep->id == owner->endpoint;
  struct decision d = {.verdict = EA_VERDICT_ALLOW, .reason = EA_REASON_NO_POLICY};
  struct target t = {
      .set = there ? READ_ONCE(ep->set) : owner->set, .port = p->port, .protocol = p->key.protocol};
  __builtin_memcpy(t.addr, key.remote, 16);
  if (there) mark_self(ep, &t);
  if (t.set) classify(&t, &d);

  if (!flow) {
    if (p->hook != EA_HOOK_UPLINK)
      return d.verdict == EA_VERDICT_DENY ? drop_for(skb, p, d.reason, &d) : PASS;
    flow = begin(p);
    if (flow) enter(p, flow);
    flow = bpf_map_lookup_elem(&flows, &p->key);
    if (!flow) return d.verdict == EA_VERDICT_DENY ? drop_for(skb, p, d.reason, &d) : PASS;
  }
  const int first = !(flow->flags & EA_FLOW_SECOND_LOOK), changed = first || flow->verdict != d.verdict;
  flow->rule = d.rule;
  flow->audit_rule = d.audit_rule;
  flow->audit_verdict = d.audit_verdict;
  flow->reason = d.reason;
  flow->verdict = d.verdict;
  flow->owner = owner->endpoint;
  flow->flags |= EA_FLOW_SECOND_LOOK;
  flow->set = t.set;
  if (st) flow->looks = st->looks;
  flow->epoch = p->epoch;
  if (d.verdict == EA_VERDICT_DENY) {
    __sync_fetch_and_add(&flow->drops, 1);
    count(EA_COUNT_DROPS + (d.reason & 31));
    if (changed) flow->reported_ns = bpf_ktime_get_ns();
  }
  if (changed) {
    tell_look(skb, p, owner, flow, first ? EA_EVENT_VERDICT : EA_EVENT_CHANGED);
    flow->drops_reported = flow->drops;
  }
  return d.verdict == EA_VERDICT_DENY ? answer(skb, p, endpoint_flags) : PASS;
}

/* A later packet of a flow that a second look denied. */
APART int denied_again(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow,
                       __u32 endpoint_flags) {
  if (!p || !flow) return DROP;
  __sync_fetch_and_add(&flow->drops, 1);
  touch(flow, p);
  count(EA_COUNT_DROPS + (flow->reason & 31));
  const __u64 now = bpf_ktime_get_ns(), before = flow->reported_ns;
  if (now - before >= SECOND_NS && __sync_val_compare_and_swap(&flow->reported_ns, before, now) == before) {
    struct ea_pending_key client = {};
    const struct ea_pending *owner = owner_of(skb, p, &client);
    if (owner) {
      tell_look(skb, p, owner, flow, EA_EVENT_DROP);
      flow->drops_reported = flow->drops;
    }
  }
  return answer(skb, p, endpoint_flags);
}

#endif
