/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The messages that a pod may send on its link without a rule: ARP (RFC 826), neighbour discovery (RFC 4861)
 * and reports of multicast listeners (RFC 2710, 3810). It may send them for its own addresses only, as a host
 * and never as a router, and every byte is checked. These messages reach neighbours that the rules may deny:
 * without the checks, a pod could take over a neighbour's address, or carry data to denied destinations in
 * them. */
#ifndef EA_NEIGHBOUR_H
#define EA_NEIGHBOUR_H

#include "services.h"

/* Results besides a reason to drop. LINK_ALLOWED: the message passes. LINK_AS_PACKET: the rules judge it like
 * any packet. */
enum { LINK_ALLOWED = 0, LINK_AS_PACKET = -1 };

#define MAX_LISTENER_RECORDS 16

static __always_inline int is_link_local(const __u8 *a) {
  return a[0] == 0xfe && (a[1] & 0xc0) == 0x80;
}

static __always_inline int is_unspecified(const __u8 *a) {
  const __u32 *w = (const __u32 *)a;
  return !(w[0] | w[1] | w[2] | w[3]);
}

/* Whether an address is the endpoint's own. While its addresses are not known, any address counts as its
 * own. */
static __always_inline int is_own(const struct ea_endpoint *ep, const __u8 *addr) {
  return !(ep->flags & EA_EP_CHECK_SOURCE) || owns(ep, addr);
}

/* Whether the interface identifier of an address is made of an Ethernet address (RFC 4291, appendix A). */
static __always_inline int is_derived_from_mac(const __u8 *addr) {
  return addr[11] == 0xff && addr[12] == 0xfe;
}

/* Whether a link-local address is the endpoint's own: if it is made of its Ethernet address, as kernels make
 * it. Which other link-local addresses it has cannot be known, and the gateway's is one that it could
 * claim. */
static __always_inline int is_own_on_link(const struct ea_endpoint *ep, const __u8 *addr) {
  if (!is_link_local(addr)) return 0;
  if (!(ep->flags & EA_EP_CHECK_MAC)) return 1;
  const __u8 *mac = ep->mac;
  return is_derived_from_mac(addr) && addr[8] == (mac[0] ^ 2) && addr[9] == mac[1] && addr[10] == mac[2] &&
         addr[13] == mac[3] && addr[14] == mac[4] && addr[15] == mac[5];
}

static __always_inline int is_own_mac(const struct ea_endpoint *ep, const __u8 *mac) {
  return !(ep->flags & EA_EP_CHECK_MAC) || same_mac(mac, ep->mac);
}

/* Whether an ARP message is a request or a reply for an own address, or a probe (RFC 5227) without one,
 * followed by nothing but the zeros that fill a frame. */
static __always_inline int is_valid_arp(struct __sk_buff *skb, const struct packet *p,
                                        const struct ea_endpoint *ep) {
  struct {
    __be16 hardware, protocol;
    __u8 hardware_size, protocol_size;
    __be16 operation;
    __u16 sender_mac[3];
    __u16 sender[2];
    __u16 target_mac[3];
    __u16 target[2];
  } arp;
  __u16 to[3], padding[9];
  if (load(skb, p->l3, &arp) || load(skb, 0, &to)) return 0;
  if (arp.hardware != bpf_htons(1) || arp.protocol != bpf_htons(ETH_P_IP) || arp.hardware_size != 6 ||
      arp.protocol_size != 4)
    return 0;
  if (!is_own_mac(ep, (const __u8 *)arp.sender_mac)) return 0;
  const __u32 sender = arp.sender[0] | (__u32)arp.sender[1] << 16;
  __u8 addr[16] = {};
  map_v4(addr, sender);
  if (sender ? !is_own(ep, addr) : arp.operation != bpf_htons(1)) return 0;
  const __u16 *t = arp.target_mac;
  if (arp.operation == bpf_htons(1)) {
    /* The target's MAC address, which nobody reads in a request: empty, the broadcast address, or that of the
     * frame. */
    const int empty = !(t[0] | t[1] | t[2]), all = (t[0] & t[1] & t[2]) == 0xffff;
    if (!empty && !all && !same_mac((const __u8 *)t, (const __u8 *)to)) return 0;
  } else {
    /* A reply names the station that asked; an announcement to all names the sender itself. */
    const int announces = arp.target[0] == arp.sender[0] && arp.target[1] == arp.sender[1];
    const int empty = !(t[0] | t[1] | t[2]), all = (t[0] & t[1] & t[2]) == 0xffff;
    if (arp.operation != bpf_htons(2)) return 0;
    if (!same_mac((const __u8 *)t, (const __u8 *)to) &&
        !(announces && (empty || all || is_own_mac(ep, (const __u8 *)t))))
      return 0;
    __u8 target[16] = {};
    map_v4(target, arp.target[0] | (__u32)arp.target[1] << 16);
    if (!announces && (ep->flags & EA_EP_CHECK_NEXT_HOP) && !address_of(target)) return 0;
  }
  const __u32 end = p->l3 + sizeof(arp);
  if (skb->len == end) return 1;
  if (skb->len != end + sizeof(padding) || load(skb, end, &padding)) return 0;
  __u16 any = 0;
  for (int i = 0; i < 9; i++)
    any |= padding[i];
  return !any;
}

/* Whether the frame goes to the Ethernet address of this group (RFC 2464, 7). */
static __always_inline int is_framed_for(struct __sk_buff *skb, const __u8 *group) {
  __u16 mac[3];
  const __u16 *low = (const __u16 *)(group + 12);
  return !load(skb, 0, &mac) && mac[0] == 0x3333 && mac[1] == low[0] && mac[2] == low[1];
}

/* Whether an option is the one that contains the sender's own Ethernet address. */
static __always_inline int is_valid_option(struct __sk_buff *skb, __u32 pos, __u8 type,
                                           const struct ea_endpoint *ep) {
  struct {
    __u8 type, length;
    __u16 mac[3];
  } option;
  return !load(skb, pos, &option) && option.type == type && option.length == 1 &&
         is_own_mac(ep, (const __u8 *)option.mac);
}

/* Whether a message is a valid solicitation of a router (133) or a neighbour (135), or advertisement of an
 * own address (136). */
static __always_inline int is_valid_discovery(struct __sk_buff *skb, const struct packet *p,
                                              const struct ea_endpoint *ep, __u8 type) {
  const __u8 *src = p->key.local, *dst = p->key.remote;
  const __u32 pos = p->l4, end = p->l3 + p->length, fixed = type == 133 ? 8 : 24;
  struct {
    __be32 head, reserved;
    __u32 target[4];
  } nd = {};
  if (skb->len != end || pos - p->l3 != sizeof(struct ipv6hdr) || pos + fixed > end) return 0;
  if (type == 133) {
    struct {
      __be32 head, reserved;
    } rs;
    if (load(skb, pos, &rs) || rs.reserved) return 0;
  } else {
    if (load(skb, pos, &nd)) return 0;
    /* An advertisement may have the flags Solicited and Override. The flag Router is for routers only. */
    if (nd.reserved & (type == 136 ? bpf_htonl(0x9fffffff) : ~0u)) return 0;
  }
  const __u8 *target = (const __u8 *)nd.target;
  const int to_all = dst[0] == 0xff;
  if (to_all && (dst[1] != 2 || !is_framed_for(skb, dst))) return 0;
  /* A multicast solicitation goes to the group of those that may have the target address (RFC 4291,
   * 2.7.1). */
  const __u32 *group = (const __u32 *)dst;
  if (type == 135 && to_all &&
      (group[0] != bpf_htonl(0xff020000) || group[1] || group[2] != bpf_htonl(1) ||
       group[3] != (nd.target[3] | bpf_htonl(0xff000000))))
    return 0;
  /* Without an address, a host asks whether another one has the address that it wants to take (RFC 4862,
   * 5.4). */
  if (is_unspecified(src) && (!to_all || type == 136)) return 0;
  if (type == 135 && (is_unspecified(src) ? !is_own_on_link(ep, target) && !is_own(ep, target)
                                          : !to_all && !same16(target, dst)))
    return 0;
  if (type == 136 && !is_own_on_link(ep, target) && !is_own(ep, target)) return 0;
  const __u32 rest = end - pos - fixed;
  if (rest == 0) return 1;
  if (rest == 8 && is_unspecified(src)) {
    struct {
      __u8 type, length;
    } nonce; /* RFC 7527: distinguishes the own solicitation from another's */
    return type == 135 && !load(skb, pos + fixed, &nonce) && nonce.type == 14 && nonce.length == 1;
  }
  return rest == 8 && is_valid_option(skb, pos + fixed, type == 136 ? 2 : 1, ep);
}

/* Whether a message is a valid report about groups (131, 132; 143 for several), which routers and snooping
 * switches read. */
static __always_inline int is_valid_report(struct __sk_buff *skb, const struct packet *p, __u8 type) {
  const __u32 pos = p->l4, end = p->l3 + p->length;
  /* Hop by hop options: next header, length 0, Router Alert, PadN of no bytes before or behind it. */
  __u64 alert;
  if (skb->len != end || pos - p->l3 > sizeof(struct ipv6hdr) + sizeof(alert)) return 0;
  if (pos - p->l3 != sizeof(struct ipv6hdr)) {
    if (load(skb, p->l3 + sizeof(struct ipv6hdr), &alert)) return 0;
    if (alert != bpf_cpu_to_be64(0x3a00050200000100ULL) && alert != bpf_cpu_to_be64(0x3a00010005020000ULL))
      return 0;
  }
  struct {
    __u8 type, code;
    __be16 checksum, delay, count; /* of 143: reserved, number of records */
    __u32 group[4];
  } mld;
  if (type != 143) {
    if (end - pos != sizeof(mld) || load(skb, pos, &mld)) return 0;
    return !mld.code && !mld.delay && !mld.count && (mld.group[0] & 0xff) == 0xff;
  }
  struct {
    __u8 type, code;
    __be16 checksum, reserved, count;
  } head;
  if (load(skb, pos, &head) || head.code || head.reserved) return 0;
  const __u32 records = bpf_ntohs(head.count);
  if (records < 1 || records > MAX_LISTENER_RECORDS || end - pos != 8 + records * 20) return 0;
  for (__u32 i = 0; i < MAX_LISTENER_RECORDS; i++) {
    struct {
      __u8 type, aux;
      __be16 sources;
      __u32 group[4];
    } record;
    if (i >= records) break;
    if (load(skb, pos + 8 + i * 20, &record)) return 0;
    if (record.type < 1 || record.type > 6 || record.aux || record.sources ||
        (record.group[0] & 0xff) != 0xff)
      return 0;
  }
  return 1;
}

/* Checks a link message of an endpoint that a policy governs: LINK_*, or a reason to drop. */
GLOBAL_FUNCTION int check_link_message(struct __sk_buff *skb, const struct packet *p,
                                       const struct ea_endpoint *ep) {
  if (!p || !ep) return EA_REASON_SPOOFED_NEIGHBOUR;
  if (p->ethertype == ETH_P_ARP) return is_valid_arp(skb, p, ep) ? LINK_ALLOWED : EA_REASON_SPOOFED_NEIGHBOUR;

  const __u8 type = bpf_ntohs(p->port) >> 8, code = bpf_ntohs(p->port) & 0xff;
  const __u8 *src = p->key.local, *dst = p->key.remote;
  __be32 first;
  if (load(skb, p->l3, &first) || (first & bpf_htonl(0x0fffffff))) return EA_REASON_SPOOFED_NEIGHBOUR;
  /* For routers only: advertisement, redirect, query for groups. */
  if (type == 134 || type == 137 || type == 130 || p->fragment || code) return EA_REASON_SPOOFED_NEIGHBOUR;
  /* A report does not bind an address to a MAC address. Of link-local sources, only one that is made of
   * another's Ethernet address is refused. */
  const int reports = type == 131 || type == 132 || type == 143;
  if (!is_own(ep, src) && !is_unspecified(src) &&
      !(is_own_on_link(ep, src) || (reports && is_link_local(src) && !is_derived_from_mac(src))))
    return EA_REASON_SPOOFED_ADDRESS;
  if (reports) return is_valid_report(skb, p, type) ? LINK_ALLOWED : EA_REASON_SPOOFED_NEIGHBOUR;
  if (dst[0] != 0xff && !is_link_local(dst)) {
    /* A unicast message goes to a neighbour or the node. Other addresses are not on the link, so the rules
     * judge it. */
    const struct ea_address *neighbour = address_of(dst);
    if (type == 133 || !neighbour || (!neighbour->ifindex && !(neighbour->flags & EA_ADDR_OWN_NODE)))
      return LINK_AS_PACKET;
  }
  return is_valid_discovery(skb, p, ep, type) ? LINK_ALLOWED : EA_REASON_SPOOFED_NEIGHBOUR;
}

/* Whether a frame's MAC address is the next hop of its packet: the gateway, or the local pod that has the
 * destination's address. Without this check, a pod on a bridge could send a frame to a neighbour that the
 * rules deny, with an allowed address in the packet. */
GLOBAL_FUNCTION int is_valid_next_hop(struct __sk_buff *skb, const struct packet *p,
                                      const struct ea_endpoint *ep) {
  __u16 mac[3];
  if (!p || !ep || load(skb, 0, &mac)) return 0;
  const __u8 *to = (const __u8 *)mac, *dst = p->key.remote;
  if (same_mac(to, ep->gateway)) return 1;
  if (to[0] & 1)
    return p->family == 4 ? (bpf_ntohl(v4_of(dst)) >> 28) == 14 || v4_of(dst) == ~0u : dst[0] == 0xff;
  const struct ea_address *owner = address_of(dst);
  if (!owner || !owner->ifindex) return 0;
  const struct ea_endpoint *neighbour = endpoint_of(owner->ifindex);
  /* The neighbour must be on the same bridge. A neighbour on a link of its own would not get the frame, and
   * the bridge would flood it to all, as it does with an unknown MAC address. */
  return neighbour && owns(neighbour, dst) && same_mac(to, neighbour->mac) &&
         (neighbour->flags & EA_EP_CHECK_NEXT_HOP) && same_mac(neighbour->gateway, ep->gateway);
}

#endif
