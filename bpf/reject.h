/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Answers to denied packets, so that applications fail at once: TCP RST (RFC 9293, 3.10.7), ICMP
 * administratively prohibited (RFC 1812, 5.2.7.1; RFC 4443, 3.1). The denied packet itself is rewritten as
 * the answer and sent back. */
#ifndef EA_REJECT_H
#define EA_REJECT_H

#include "parse.h"

#define QUOTED_V6 (sizeof(struct ipv6hdr) + 8)

struct pseudo_v6 {
  __u8 src[16], dst[16];
  __be32 length;
  __be32 next;
};

static __always_inline __u16 fold(__u64 sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

/* Writes the IP header of an answer, from the destination of the denied packet to its source. */
static __always_inline int put_ip(struct __sk_buff *skb, const struct packet *p, __u8 protocol,
                                  __u16 payload) {
  const __u8 *to = p->out ? p->key.local : p->key.remote, *from = p->out ? p->key.remote : p->key.local;
  if (p->family == 4) {
    struct iphdr ip = {
        .version = 4, .ihl = 5, .ttl = 64, .frag_off = bpf_htons(0x4000), .protocol = protocol};
    ip.tot_len = bpf_htons(sizeof(ip) + payload);
    ip.saddr = v4_of(from);
    ip.daddr = v4_of(to);
    ip.check = fold(bpf_csum_diff(NULL, 0, (void *)&ip, sizeof(ip), 0));
    return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), 0);
  }
  struct ipv6hdr ip = {.version = 6, .hop_limit = 64, .nexthdr = protocol};
  ip.payload_len = bpf_htons(payload);
  __builtin_memcpy(&ip.saddr, from, 16);
  __builtin_memcpy(&ip.daddr, to, 16);
  return bpf_skb_store_bytes(skb, p->l3, &ip, sizeof(ip), 0);
}

/* Checksum of L4 bytes (a multiple of 4) with the pseudo header of the answer. */
static __always_inline __u16 checksum(const struct packet *p, void *l4, __u32 size, __u8 protocol) {
  const __u8 *to = p->out ? p->key.local : p->key.remote, *from = p->out ? p->key.remote : p->key.local;
  struct pseudo_v6 pseudo = {.length = bpf_htonl(size), .next = bpf_htonl(protocol)};
  /* For IPv4 only the last four bytes of each address count: the mapped prefix is no part of the sum. */
  if (p->family == 4) {
    *(__be32 *)(pseudo.src + 12) = v4_of(from);
    *(__be32 *)(pseudo.dst + 12) = v4_of(to);
  } else {
    __builtin_memcpy(pseudo.src, from, 16);
    __builtin_memcpy(pseudo.dst, to, 16);
  }
  const __u32 sum = bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
  return fold(bpf_csum_diff(NULL, 0, l4, size, sum));
}

static __always_inline int put_reset(struct __sk_buff *skb, const struct packet *p) {
  const __u32 ip = p->l4 - p->l3, syn_fin = !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);
  struct {
    __be16 source, dest;
    __be32 seq, ack;
    __u8 doff, flags;
    __be16 window, check, urgent;
  } tcp = {.doff = 5 << 4, .flags = TCP_RST};
  __u8 doff = 0;
  if (load(skb, p->l4 + 12, &doff)) return -1;
  tcp.source = p->out ? p->key.remote_port : p->key.local_port;
  tcp.dest = p->out ? p->key.local_port : p->key.remote_port;
  if (p->tcp_flags & TCP_ACK) {
    tcp.seq = p->ack;
  } else {
    tcp.flags |= TCP_ACK;
    tcp.ack = bpf_htonl(bpf_ntohl(p->seq) + p->length - ip - (doff >> 4) * 4 + syn_fin);
  }
  tcp.check = checksum(p, &tcp, sizeof(tcp), IPPROTO_TCP);
  if (bpf_skb_change_tail(skb, p->l4 + sizeof(tcp), 0)) return -1;
  if (put_ip(skb, p, IPPROTO_TCP, sizeof(tcp))) return -1;
  return bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), 0);
}

static __always_inline int put_prohibited(struct __sk_buff *skb, const struct packet *p) {
  struct scratch *s = scratch();
  if (!s) return -1;
  const int v4 = p->family == 4;
  const __u32 quoted = v4 ? sizeof(struct iphdr) + 8 : QUOTED_V6;
  const __u8 protocol = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
  if (p->length < quoted) return -1;
  __u8 *icmp = s->bytes;
  __builtin_memset(icmp, 0, 8);
  icmp[0] = v4 ? 3 : 1;
  icmp[1] = v4 ? 13 : 1;
  if (v4 ? bpf_skb_load_bytes(skb, p->l3, icmp + 8, sizeof(struct iphdr) + 8)
         : bpf_skb_load_bytes(skb, p->l3, icmp + 8, QUOTED_V6))
    return -1;
  __u16 check;
  if (v4)
    check = fold(bpf_csum_diff(NULL, 0, (void *)icmp, 8 + sizeof(struct iphdr) + 8, 0));
  else
    check = checksum(p, icmp, 8 + QUOTED_V6, protocol);
  *(__u16 *)(icmp + 2) = check;
  const __u32 ip = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
  if (bpf_skb_change_tail(skb, p->l3 + ip + 8 + quoted, 0)) return -1;
  if (put_ip(skb, p, protocol, 8 + quoted)) return -1;
  return v4 ? bpf_skb_store_bytes(skb, p->l3 + ip, icmp, 8 + sizeof(struct iphdr) + 8, 0)
            : bpf_skb_store_bytes(skb, p->l3 + ip, icmp, 8 + QUOTED_V6, 0);
}

/* Whether a packet may be answered. Resets and ICMP errors are not answered, nor are broadcasts and
 * multicasts (RFC 1122, 3.2.2). */
static __always_inline int may_answer(const struct packet *p, const __u8 *macs) {
  const __u8 *from = p->out ? p->key.local : p->key.remote, *to = p->out ? p->key.remote : p->key.local;
  if (p->kind != PACKET_FLOW || p->fragment == FRAGMENT_LATER || (p->tcp_flags & TCP_RST)) return 0;
  if ((macs[0] & 1) || p->l4 - p->l3 != (p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))
    return 0;
  if (p->family == 4)
    return (bpf_ntohl(v4_of(to)) >> 28) < 14 && v4_of(from) != 0 && (bpf_ntohl(v4_of(from)) >> 28) < 14;
  return to[0] != 0xff && from[0] != 0xff && !(from[0] == 0 && from[15] == 0);
}

/* Drops a denied packet, or sends it back as an answer. Returns the tc verdict. */
GLOBAL_FUNCTION int answer(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_flags) {
  if (!p) return DROP;
  __u8 macs[12] = {};
  const int link = !(endpoint_flags & EA_EP_L3);
  if (likely(!(endpoint_flags & EA_EP_REJECT))) return DROP;
  if (link && bpf_skb_load_bytes(skb, 0, macs, sizeof(macs))) return DROP;
  if (!may_answer(p, macs)) return DROP;
  if (p->key.protocol == IPPROTO_TCP ? put_reset(skb, p) : put_prohibited(skb, p)) return DROP;
  if (link && (bpf_skb_store_bytes(skb, 0, macs + 6, 6, 0) || bpf_skb_store_bytes(skb, 6, macs, 6, 0)))
    return DROP;
  count(EA_COUNT_REJECTED);
  /* Egress of the device leads to the sender only if the packet was caught on the host side of the sender's
   * own veth. */
  const int to_stack = p->hook != EA_HOOK_FROM_POD || (endpoint_flags & EA_EP_IN_POD);
  return bpf_redirect(skb->ifindex, to_stack ? BPF_F_INGRESS : 0);
}

#endif
