/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The post-DNAT check: a packet that a pod of this node sent is judged once more after the node's
 * translations (Services, host ports), by the address and port that it goes to now, and by the policy in
 * force now. Without it, a pod could reach a backend that its policy denies through a Service or a host port.
 *
 * The owner of a packet is the pod that sent it. Only evidence that no pod can forge says who that is: the
 * source address, which from_pod has checked, or, where the source was translated too, the kernel's
 * connection tracking. Exempt are only replies on connections that the receiver opened to the pod, and
 * packets whose very addresses and ports from_pod allowed under this set and epoch, unless from_pod judged
 * the backends of a Service there. */
#ifndef EA_POST_DNAT_H
#define EA_POST_DNAT_H

#include "conntrack.h"
#include "fragment.h"
#include "icmp.h"

/* OWNER_NOBODY: no pod of this node sent the packet. OWNER_UNKNOWN: its source was translated, and the
 * original sender cannot be found. */
enum { OWNER_NOBODY = 0, OWNER_FOUND = 1, OWNER_UNKNOWN = 2 };

struct owner {
  __u8 addr[16]; /* source before the translation */
  __u32 ifindex;
  __be16 port;
  __u8 from_node;   /* the source is an address of this node */
  __u8 masqueraded; /* and the packet came in by another device: its source was translated */
};

static __always_inline const __u8 *source_of(const struct packet *p) {
  return p->out ? p->key.local : p->key.remote;
}

static __always_inline const __u8 *destination_of(const struct packet *p) {
  return p->out ? p->key.remote : p->key.local;
}

/* Whether the node itself sent the packet: it has a socket and came in by no device. */
static __always_inline int is_nodes_own(struct __sk_buff *skb) {
  return skb->sk && !skb->ingress_ifindex;
}

static __always_inline int find_owner(struct __sk_buff *skb, const struct packet *p, struct owner *o) {
  const struct ea_address *a = address_of(source_of(p));
  __builtin_memcpy(o->addr, source_of(p), 16);
  o->port = p->out || is_icmp(p->key.protocol) ? p->key.local_port : p->key.remote_port;
  if (a && a->ifindex) {
    o->ifindex = a->ifindex;
    return OWNER_FOUND;
  }
  o->from_node = a && (a->flags & EA_ADDR_OWN_NODE);
  if (is_nodes_own(skb)) return OWNER_NOBODY;
  const struct ea_state *st = current_state();
  const int post_dnat = st && st->post_dnat;
  o->masqueraded = o->from_node;
  if (!o->masqueraded && !post_dnat) return OWNER_NOBODY;
  const int found = original_source(skb, p, o->addr, &o->port);
  if (found == SOURCE_FOUND) {
    a = address_of(o->addr);
    if (!a || !a->ifindex) return OWNER_NOBODY;
    o->ifindex = a->ifindex;
    return OWNER_FOUND;
  }
  /* Not forwarded for a pod: a tunnel's own packet, or a reply. No Service translates what has no ports. */
  if (found == SOURCE_IS_REPLY || !o->masqueraded || !post_dnat || !skb->ingress_ifindex) return OWNER_NOBODY;
  /* Sent back by the device by which it came: our own answer to a packet that was denied. */
  if (skb->ingress_ifindex == skb->ifindex) return OWNER_NOBODY;
  if (!has_ports(p->key.protocol)) return OWNER_NOBODY;
  return is_tunnel_packet(p) ? OWNER_NOBODY : OWNER_UNKNOWN;
}

/* The key of the owner's flow to where the packet goes now: the source as it was before any translation. */
static __always_inline void owner_key(struct ea_flow_key *key, const struct packet *p, const struct owner *o,
                                      __u32 endpoint) {
  *key = p->key;
  key->endpoint = endpoint;
  __builtin_memcpy(key->local, o->addr, 16);
  key->local_port = o->port;
  if (p->out) return;
  __builtin_memcpy(key->remote, p->key.local, 16);
  /* The ports of an ICMP key mean the same at both ends: the identifier, and type and code of the request. */
  if (is_icmp(p->key.protocol))
    key->opened_remotely = !p->key.opened_remotely;
  else
    key->remote_port = p->key.local_port;
}

/* Whether the owner's own flow with these addresses and ports exempts the packet from the check. */
static __always_inline int is_exempt(const struct ea_flow_key *key, const struct packet *p, __u64 set) {
  struct peeked direct;
  if (!peek(key, &direct)) return 0;
  if (direct.verdict != EA_VERDICT_ALLOW || (direct.flags & EA_FLOW_SERVICE)) return 0;
  if (direct.flags & EA_FLOW_INBOUND) return 1;
  return direct.epoch == p->epoch && direct.set == set;
}

/* Whether the packet replies to a connection that the owner's peer opened from another address or port than
 * the packet goes to now. Conntrack changes a client's port where another connection already uses the same
 * ports, and translates the replies back. For replies only: a packet in the direction of the opener may lead
 * to somebody else than the connection's first packet came from. */
GLOBAL_FUNCTION int is_translated_reply(struct __sk_buff *skb, const struct packet *p,
                                        const struct ea_flow_key *key) {
  if (!p || !key || !has_ports(key->protocol)) return 0;
  struct ea_flow_key sent = *key;
  if (!reply_destination(skb, p, sent.remote, &sent.remote_port)) return 0;
  struct peeked flow;
  return peek(&sent, &flow) && (flow.flags & EA_FLOW_INBOUND) && flow.verdict == EA_VERDICT_ALLOW;
}

/* Reports a post-DNAT verdict, as an event of the owner's flow. */
GLOBAL_FUNCTION int report_post_dnat(struct __sk_buff *skb, const struct packet *p,
                                     const struct ea_flow_key *key, struct ea_flow *flow, __u8 type) {
  struct scratch *s = scratch();
  if (!s || !p || !key || !flow) return 0;
  describe(skb, p);
  struct ea_event *e = &s->event;
  e->flow = *key;
  e->set = flow->set;
  e->rule = flow->rule;
  e->audit_rule = flow->audit_rule;
  e->verdict = flow->verdict;
  e->audit_verdict = flow->audit_verdict;
  e->reason = flow->reason;
  e->flow_flags = EA_FLOW_POST_DNAT;
  e->created_ns = flow->created_ns;
  e->drops = unreported_drops(flow);
  struct ea_flow_key client;
  struct side_record *found = (struct side_record *)s->bytes; /* the stack is short */
  pending_key(&client, key);
  if (read_side_record(&client, found)) {
    const struct ea_pending *service = (const struct ea_pending *)found->bytes;
    e->service_port = service->service_port;
    __builtin_memcpy(e->service, service->service, 16);
  }
  send_event(s, type);
  return 0;
}

/* Drops a packet of a flow that the post-DNAT check has denied. */
static __always_inline int drop_post_dnat(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow,
                                          const struct ea_flow_key *key, __u32 endpoint_flags) {
  account_drop(flow, p);
  count(EA_COUNT_DROPS + (flow->reason & 31));
  if (is_due(&flow->reported_ns)) report_post_dnat(skb, p, key, flow, EA_EVENT_DROP);
  return answer(skb, p, endpoint_flags);
}

/* Drops a packet that has no flow here. The event names the owner's flow. */
static __always_inline int drop_as_owner(struct __sk_buff *skb, struct packet *p,
                                         const struct ea_flow_key *key, const struct decision *d) {
  p->key = *key;
  return drop_for(skb, p, d->reason, d);
}

/* Whether the packet must be dropped because its owner is not known: its source was translated and the
 * original sender cannot be found, or the owner (`ep`, if it exists) is just being added or removed. The
 * agent writes a pod's address before its endpoint and deletes it a moment after. In between, the pod's own
 * hook drops what the pod sends, so such packets are dropped here, too, with or without Services: a host port
 * needs none. Without this, a pod could use the moment to reach denied destinations. */
static __always_inline int has_unknown_owner(int owner_result, const struct ea_endpoint *ep,
                                             const struct owner *o) {
  return owner_result == OWNER_UNKNOWN || (owner_result == OWNER_FOUND && (!ep || !owns(ep, o->addr)));
}

/* Drops a packet without a known owner. It never arrived, so a flow that it has just opened gives no right to
 * answer. The next packet with the same ports is checked again. */
static __always_inline int drop_unowned(struct __sk_buff *skb, const struct packet *p, struct ea_flow *flow) {
  if (flow) {
    flow->reason = EA_REASON_NO_OWNER;
    flow->verdict = EA_VERDICT_DENY;
    flow->owner = 0;
    flow->flags |= EA_FLOW_POST_DNAT;
  }
  return drop(skb, p, EA_REASON_NO_OWNER);
}

/* Judges a packet after the translation, if a pod of this node sent it. `entry`: this hook's entry under the
 * packet's key, if there is one. If the packet does not belong to that entry's flow (p->unrelated), the entry
 * only learns that its peer has the node's address (EA_FLOW_PEER_IS_NODE). Returns the tc verdict. */
GLOBAL_FUNCTION int post_dnat_check(struct __sk_buff *skb, struct packet *p, struct ea_flow *entry,
                                    __u32 endpoint_flags) {
  if (!p) return DROP;
  struct ea_flow *flow = p->unrelated ? NULL : entry;
  struct owner o = {};
  const int owner_result = find_owner(skb, p, &o);
  const struct ea_endpoint *ep = owner_result == OWNER_FOUND ? endpoint_of(o.ifindex) : NULL;
  if (has_unknown_owner(owner_result, ep, &o)) return drop_unowned(skb, p, flow);
  if (ep) p->payer = o.ifindex; /* the owner pays, not the uplink or the receiver */
  if (entry && o.from_node && !(entry->flags & EA_FLOW_PEER_IS_NODE)) entry->flags |= EA_FLOW_PEER_IS_NODE;
  if (flow && o.masqueraded && !(flow->flags & EA_FLOW_MASQUERADED)) flow->flags |= EA_FLOW_MASQUERADED;
  struct ea_flow_key key;
  const __u64 set = ep ? READ_ONCE(ep->set) : 0;
  if (ep) owner_key(&key, p, &o, ep->id);
  if (!set || is_exempt(&key, p, set) || is_translated_reply(skb, p, &key)) {
    if (p->fragment == FRAGMENT_FIRST && (ep || o.masqueraded)) remember_first(p, 1);
    if (!flow) return PASS;
    if (flow->flags & EA_FLOW_POST_DNAT) {
      flow->verdict = EA_VERDICT_ALLOW;
      flow->flags &= ~EA_FLOW_POST_DNAT;
    }
    flow->epoch = p->epoch;
    return PASS;
  }
  if (flow && (flow->flags & EA_FLOW_POST_DNAT) && flow->owner == ep->id && flow->epoch == p->epoch &&
      flow->set == set && !is_syn(p)) {
    const int denied = flow->verdict == EA_VERDICT_DENY;
    if (p->fragment == FRAGMENT_FIRST) remember_first(p, !denied);
    return denied ? drop_post_dnat(skb, p, flow, &key, endpoint_flags) : PASS;
  }

  count(EA_COUNT_POST_DNAT_CHECKS);
  struct decision d = {};
  struct target *t = &p->target;
  *t = (struct target){
      .set = set, .port = p->port, .protocol = p->key.protocol, .epoch = p->epoch, .endpoint = ep->id};
  __builtin_memcpy(t->addr, key.remote, 16);
  t->flags = TARGET_MET | TARGET_SAID_MET; /* queries, and what is said, were judged where they were sent */
  mark_self(ep, t);
  judge_target(t, &d);
  const int denied = d.verdict == EA_VERDICT_DENY;
  if (p->fragment == FRAGMENT_FIRST) remember_first(p, !denied);

  /* The last packets of a connection that the sender's own hook has already removed from the table store no
   * new flow. */
  const int ends_connection =
      p->key.protocol == IPPROTO_TCP && !p->opens && (!p->carries || (p->tcp_flags & (TCP_FIN | TCP_RST)));
  if (!flow && p->hook == EA_HOOK_UPLINK && p->kind == PACKET_FLOW && !p->unrelated && !ends_connection) {
    flow = begin(p);
    flow = flow && enter(p, flow) ? held_flow(p) : NULL;
    if (flow && o.masqueraded) flow->flags |= EA_FLOW_MASQUERADED;
  }
  if (!flow) return denied ? drop_as_owner(skb, p, &key, &d) : PASS;
  const int first = !(flow->flags & EA_FLOW_POST_DNAT) || flow->owner != ep->id;
  const int changed = first || flow->verdict != d.verdict;
  flow->rule = d.rule;
  flow->audit_rule = d.audit_rule;
  flow->audit_verdict = d.audit_verdict;
  flow->reason = d.reason;
  flow->verdict = d.verdict;
  flow->owner = ep->id;
  flow->flags |= EA_FLOW_POST_DNAT;
  flow->set = set;
  flow->epoch = p->epoch;
  if (denied) {
    account_drop(flow, p);
    count(EA_COUNT_DROPS + (d.reason & 31));
    if (changed) flow->reported_ns = bpf_ktime_get_ns();
  }
  if (changed) report_post_dnat(skb, p, &key, flow, first ? EA_EVENT_VERDICT : EA_EVENT_CHANGED);
  return denied ? answer(skb, p, endpoint_flags) : PASS;
}

/* In place of a verdict: a packet without ports of its own now has the key of a flow, and is to be checked as
 * a packet of that flow. */
enum { CHECK_AS_FLOW = 1 };

/* Checks a later fragment after the translation. It gets the verdict of its first fragment. If policies have
 * changed since, it is judged as a packet of its first's flow. */
GLOBAL_FUNCTION int check_later_fragment(struct __sk_buff *skb, struct packet *p) {
  if (!p) return DROP;
  /* The node's own fragments pass, without a look-up: a masqueraded datagram has the same source, and may
   * have the same id. */
  if (is_nodes_own(skb)) return PASS;
  const int first = first_of(p, 1);
  if (first == FIRST_PASSED) return PASS;
  if (first == FIRST_DROPPED) return drop(skb, p, EA_REASON_FRAGMENT);
  if (first == FIRST_OF_OLD_POLICY) return CHECK_AS_FLOW;
  struct owner o = {};
  const int owner_result = find_owner(skb, p, &o);
  const struct ea_endpoint *ep = owner_result == OWNER_FOUND ? endpoint_of(o.ifindex) : NULL;
  if (has_unknown_owner(owner_result, ep, &o)) return drop_unowned(skb, p, NULL);
  if (!ep || !ep->set) return PASS;
  struct decision d = {};
  struct ea_flow_key key;
  owner_key(&key, p, &o, ep->id);
  struct target *t = &p->target;
  *t = (struct target){.set = READ_ONCE(ep->set),
                       .protocol = p->key.protocol,
                       .flags = TARGET_FRAGMENT,
                       .epoch = p->epoch,
                       .endpoint = ep->id};
  __builtin_memcpy(t->addr, key.remote, 16);
  mark_self(ep, t);
  judge_target(t, &d);
  return d.verdict == EA_VERDICT_DENY ? drop_as_owner(skb, p, &key, &d) : PASS;
}

/* Checks an ICMP error after the translation. If a pod of this node sent it to the peer of the flow that it
 * quotes, it is judged as a packet of that flow, and otherwise as an ICMP packet. */
GLOBAL_FUNCTION int check_icmp_error(struct __sk_buff *skb, struct packet *p) {
  if (!p) return DROP;
  const struct ea_address *a = address_of(source_of(p));
  if (!a || (!a->ifindex && (!(a->flags & EA_ADDR_OWN_NODE) || !skb->ingress_ifindex))) return PASS;
  const int from_pod_addr = !!a->ifindex;
  struct ea_flow_key q = {};
  if (!quoted_flow(skb, p, &q) && same16(q.remote, destination_of(p)) &&
      (!from_pod_addr || same16(q.local, source_of(p)))) {
    const int swap = !p->out && !is_icmp(q.protocol);
    p->port = q.remote_port;
    p->key.protocol = q.protocol;
    p->key.local_port = swap ? q.remote_port : q.local_port;
    p->key.remote_port = swap ? q.local_port : q.remote_port;
    p->key.opened_remotely = is_icmp(q.protocol) && !p->out ? !q.opened_remotely : q.opened_remotely;
    __builtin_memcpy(p->out ? p->key.local : p->key.remote, q.local, 16);
    p->kind = PACKET_RELATED;
  }
  return CHECK_AS_FLOW;
}

/* Checks a packet after the translation that parse() did not take for one of a flow. */
static __always_inline int check_without_flow(struct __sk_buff *skb, struct packet *p, int kind,
                                              __u32 endpoint_flags) {
  const int verdict = kind == PACKET_LATER   ? check_later_fragment(skb, p)
                      : kind == PACKET_ERROR ? check_icmp_error(skb, p)
                                             : PASS;
  if (verdict != CHECK_AS_FLOW) return verdict;
  p->unrelated = 1;
  return post_dnat_check(skb, p, NULL, endpoint_flags);
}

#endif
