/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* ICMP errors about a flow pass with it, by the header they quote; they are no flow of their own. */
#ifndef EA_ICMP_H
#define EA_ICMP_H

#include "services.h"

/* Whether an ICMP error that the endpoint sends is about a flow of its own that passes, and goes to that flow's peer.
 * Of a flow that was judged by another policy it becomes a packet, which is judged: PACKET_RELATED. The quoted packet was on
 * its way to the endpoint. RFC 792, 4443 (3): at least 8 bytes of its L4 header are quoted. */
APART int is_related(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  if (!p || !ep) return 0;
  if (p->set && (ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p)) return 0;
  struct ea_flow_key key = {.endpoint = p->key.endpoint};
  __u32 off = p->l4 + 8;
  if (p->family == 4) {
    struct iphdr ip;
    if (load(skb, off, &ip) || ip.version != 4 || ip.ihl < 5) return 0;
    if (ip.frag_off & bpf_htons(0x1fff)) return 0;
    map_v4(key.remote, ip.saddr);
    map_v4(key.local, ip.daddr);
    key.protocol = ip.protocol;
    off += ip.ihl * 4;
  } else {
    struct ipv6hdr ip;
    if (load(skb, off, &ip) || ip.version != 6) return 0;
    __builtin_memcpy(key.remote, &ip.saddr, 16);
    __builtin_memcpy(key.local, &ip.daddr, 16);
    key.protocol = ip.nexthdr;
    off += sizeof(ip);
  }
  if (!same16(key.remote, p->key.remote)) return 0;
  if (has_ports(key.protocol)) {
    __be16 ports[2];
    if (load(skb, off, &ports)) return 0;
    key.remote_port = ports[0];
    key.local_port = ports[1];
  } else if (key.protocol == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
    struct {
      __u8 type, code;
      __be16 checksum, id, sequence;
    } icmp;
    if (load(skb, off, &icmp)) return 0;
    icmp_key(&key, p->family == 6, icmp.type, icmp.code, icmp.id, 0);
  }
  struct ea_flow *flow = bpf_map_lookup_elem(&flows, &key);
  if (!flow) return !!bpf_map_lookup_elem(&accepted, &key);
  if (flow->flags & EA_FLOW_INBOUND) return 1;
  if (flow->epoch == p->epoch && flow->set == p->set) return flow->verdict != EA_VERDICT_DENY;
  p->key = key;
  p->port = key.remote_port;
  p->kind = PACKET_RELATED;
  p->fragment = FRAGMENT_NONE;
  return 0;
}

#endif
