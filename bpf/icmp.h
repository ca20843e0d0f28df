/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* ICMP errors: an error passes if the flow of the packet that it quotes passes. Errors are no flow of their
 * own. */
#ifndef EA_ICMP_H
#define EA_ICMP_H

#include "services.h"

/* The key of the flow of the packet that an ICMP error quotes, as seen by its local end: the quoted packet
 * was on its way to that. 0: the key was read. RFC 792, 4443 (3): at least 8 bytes of its L4 header are
 * quoted. */
GLOBAL_FUNCTION int quoted_flow(struct __sk_buff *skb, const struct packet *p, struct ea_flow_key *key) {
  if (!p || !key) return -1;
  __u32 off = p->l4 + 8;
  if (p->family == 4) {
    struct iphdr ip;
    if (load(skb, off, &ip) || ip.version != 4 || ip.ihl < 5) return -1;
    if (ip.frag_off & bpf_htons(0x1fff)) return -1;
    map_v4(key->remote, ip.saddr);
    map_v4(key->local, ip.daddr);
    key->protocol = ip.protocol;
    off += ip.ihl * 4;
  } else {
    struct ipv6hdr ip;
    if (load(skb, off, &ip) || ip.version != 6) return -1;
    __builtin_memcpy(key->remote, &ip.saddr, 16);
    __builtin_memcpy(key->local, &ip.daddr, 16);
    key->protocol = ip.nexthdr;
    off += sizeof(ip);
  }
  if (has_ports(key->protocol)) {
    __be16 ports[2];
    if (load(skb, off, &ports)) return -1;
    key->remote_port = ports[0];
    key->local_port = ports[1];
  } else if (key->protocol == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
    struct {
      __u8 type, code;
      __be16 checksum, id, sequence;
    } icmp;
    if (load(skb, off, &icmp)) return -1;
    icmp_key(key, p->family == 6, icmp.type, icmp.code, icmp.id, 0);
  }
  return 0;
}

/* Whether an ICMP error that the endpoint sends passes: it is about a flow of its own that passes, and goes
 * to that flow's peer. Without this check, errors with any content could carry data to denied destinations.
 * If the flow was judged under another policy, the error becomes a packet of that flow, which is judged:
 * PACKET_RELATED. If the flow is PARTIAL, the error passes, and gets the post-DNAT check like the flow's
 * packets. */
GLOBAL_FUNCTION int is_related(struct __sk_buff *skb, struct packet *p, const struct ea_endpoint *ep) {
  if (!p || !ep) return 0;
  if (p->set && (ep->flags & EA_EP_CHECK_SOURCE) && !source_allowed(ep, p)) return 0;
  struct ea_flow_key key = {.endpoint = p->key.endpoint};
  if (quoted_flow(skb, p, &key) || !same16(key.remote, p->key.remote)) return 0;
  struct peeked flow;
  if (!peek(&key, &flow)) return 0;
  const int current = flow.epoch == p->epoch && flow.set == p->set;
  if ((flow.flags & EA_FLOW_INBOUND) || current) {
    if (flow.verdict == EA_VERDICT_DENY) return 0;
    account_for(&key, p); /* its bytes count for the flow */
    return 1;
  }
  p->key = key;
  p->port = key.remote_port;
  p->kind = PACKET_RELATED;
  p->fragment = FRAGMENT_NONE;
  return 0;
}

#endif
