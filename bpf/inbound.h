/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Packets to an endpoint: which of them open a flow that the endpoint may answer, and the verdict on the
 * others. */
#ifndef EA_INBOUND_H
#define EA_INBOUND_H

#include "post_dnat.h"

/* The interface of the pod of this node that opens a flow to an endpoint; 0: no pod of this node does. It is
 * the device by which the packet came in, or, on a bridge, that of the pod that has the source address, as
 * far as that pod's own hook has checked it. */
static __noinline __u32 opening_interface(__u32 ingress, const struct packet *p) {
  if (!ingress) return 0;
  const struct ea_endpoint *from = endpoint_of(ingress);
  if (from) return from->flags & EA_EP_NODE ? 0 : ingress;
  const struct ea_address *a = address_of(p->key.remote);
  return a ? a->ifindex : 0;
}

/* Stores a flow that a peer opens to the endpoint, whose replies will pass. The opener pays, if it is a pod
 * of this node. NULL: there is no room. */
static __noinline struct ea_flow *open_inbound(struct __sk_buff *skb, struct packet *p) {
  const __u32 opener = opening_interface(skb->ingress_ifindex, p);
  if (opener) p->payer = opener;
  struct ea_flow *flow = begin(p);
  if (!flow) return NULL;
  flow->verdict = EA_VERDICT_ALLOW;
  flow->reason = EA_REASON_REPLY;
  flow->flags = EA_FLOW_INBOUND;
  flow->epoch = p->epoch - 1; /* not checked yet */
  if (enter(p, flow)) return held_flow(p);
  /* Another CPU has just stored the flow and holds it locked: the packet is counted there. */
  return contended_flow(p) ? flow : NULL;
}

/* Whether a delivered packet is addressed to the endpoint itself. A packet to a group, or one that is flooded
 * on the link, gives the endpoint no right to send from the address that it was sent to. */
static __always_inline int is_addressed_to(const struct ea_endpoint *ep, const __u8 *addr) {
  return !(ep->flags & EA_EP_CHECK_SOURCE) || owns(ep, addr) || (addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80);
}

/* Whether the source address of a packet is genuine. It is checked if the packet came from a pod of this node
 * that a policy governs, or from the endpoint itself. The node's own address is genuine where the source was
 * masqueraded. Without this check, a pod could forge packets that open flows to itself or to another pod,
 * which would then be allowed to answer. */
static __noinline int has_genuine_source(struct __sk_buff *skb, const struct packet *p,
                                         const struct ea_endpoint *ep) {
  if (!skb->ingress_ifindex) return 1;
  const struct ea_endpoint *from = endpoint_of(skb->ingress_ifindex);
  if (!from || (from->flags & EA_EP_NODE) || (!from->set && from->id != ep->id)) return 1;
  if (owns(from, p->key.remote)) return 1;
  const struct ea_address *a = address_of(p->key.remote);
  return a && (a->flags & EA_ADDR_OWN_NODE);
}

/* Whether a packet replies to one that the endpoint sent before it was attached, or whose flow the table
 * forgot: such a packet opens no inbound flow. For TCP, the flags say so already. */
static __noinline int is_reply_to_endpoint(struct __sk_buff *skb, const struct packet *p) {
  __u8 addr[16] = {};
  __be16 port = 0;
  return p->key.protocol != IPPROTO_TCP && original_source(skb, p, addr, &port) == SOURCE_IS_REPLY;
}

/* Whether this packet begins an inbound flow in place of the existing one. Not in place of a flow that the
 * endpoint opened: then it is a reply, even if a change of policy denies that flow by now. A datagram that
 * was on its way, or a peer that goes on sending, must not turn a denied flow into one that may be
 * answered. */
static __always_inline int begins_inbound(const struct ea_flow *flow, const struct packet *p) {
  if (!p->opens) return 0;
  if (!flow || (flow->tcp_state & EA_TCP_CLOSED)) return 1;
  if (flow->flags & EA_FLOW_INBOUND) return 0;
  if (p->key.opened_remotely) return 1;
  return flow->verdict == EA_VERDICT_DENY && (is_syn(p) || packets_out_of(flow) == 0);
}

/* The verdict on a packet that is delivered to the endpoint. */
static __always_inline int deliver(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow,
                                   __u32 flags) {
  if (unlikely(!flow || !(flow->flags & EA_FLOW_INBOUND))) {
    /* It looks like a reply to what the endpoint opened. Whether its sender may send here is checked once an
     * epoch: a packet from a pod behind a Service may carry the same addresses and ports. */
    const int answers = flow && flow->verdict == EA_VERDICT_ALLOW && flow->owner == ~p->epoch && !is_syn(p) &&
                        !p->fragment && !((flow->flags & EA_FLOW_PEER_IS_NODE) && skb->ingress_ifindex);
    if (!answers) {
      p->unrelated = 1;
      const int verdict = post_dnat_check(skb, p, flow, flags);
      if (verdict != PASS) return verdict;
      if (flow && flow->verdict == EA_VERDICT_ALLOW) flow->owner = ~p->epoch;
    }
  } else if (unlikely(flow->epoch != p->epoch || flow->verdict == EA_VERDICT_DENY || is_syn(p) ||
                      p->fragment || ((flow->flags & EA_FLOW_PEER_IS_NODE) && skb->ingress_ifindex))) {
    const int verdict = post_dnat_check(skb, p, flow, flags);
    if (verdict != PASS) return verdict;
  }
  if (!flow) return PASS;
  account(flow, p);
  step(skb, p, flow);
  return PASS;
}

#endif
