/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Bytes → struct packet. Knows no policy and writes no map but a counter.
 *
 * Contract: every header is read through load(), which works for linear and non-linear buffers alike. No
 * length is used before it is checked: a header's against the length in the IP header, and that against the
 * buffer's. */
#ifndef EA_PARSE_H
#define EA_PARSE_H

#include "packet.h"

#define MAX_EXT_HEADERS 8
#define MAX_VLAN_TAGS 2

/* Copies the packet's first bytes to the buffer's linear part, if they are not there. What is beyond it may be
 * memory that the sender still writes to (splice, MSG_ZEROCOPY): what is judged must not change any more. 0:
 * done. */
static __always_inline int hold_bytes(struct __sk_buff *skb, __u32 size) {
  return skb->data_end - skb->data < size && bpf_skb_pull_data(skb, size);
}

/* A pointer by which a header can be read: into the packet, or, if the header was not in the buffer's linear
 * part, to a copy in `local`. NULL: the packet is shorter. Fields are read in units of their own size,
 * whatever the packet's alignment: the CPUs that BPF is compiled for allow that. */
static __always_inline const void *header_at(struct __sk_buff *skb, __u32 off, void *local,
                                             const __u32 size) {
  const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  /* The verifier follows packet offsets up to 65535 only, and only in the register where it saw the bound. */
  __u64 at = off;
  asm volatile("%0 &= 0x7fff" : "+r"(at));
  if (likely(at == off && data + at + size <= end)) return data + at;
  count(EA_COUNT_PULLED);
  if (hold_bytes(skb, off + size)) return NULL;
  return bpf_skb_load_bytes(skb, off, local, size) ? NULL : local;
}

/* Copies the header at `off` to `to`. 0: done. Not 0: the packet is shorter. */
#define load(skb, off, to)                                                                                   \
  ({                                                                                                         \
    typeof(*(to)) local;                                                                                     \
    const typeof(*(to)) *at = header_at(skb, off, &local, sizeof(local));                                    \
    if (at) __builtin_memcpy(to, __builtin_assume_aligned(at, _Alignof(typeof(*(to)))), sizeof(*(to)));      \
    !at;                                                                                                     \
  })

/* Writes an IPv4-mapped address. `to` is all zero before. */
static __always_inline void map_v4(__u8 *to, __be32 addr) {
  __u32 *w = (__u32 *)to;
  w[2] = bpf_htonl(0xffff);
  w[3] = addr;
}

static __always_inline int has_ports(__u8 protocol) {
  return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP ||
         protocol == IPPROTO_DCCP || protocol == IPPROTO_UDPLITE;
}

static __always_inline int is_icmp(__u8 protocol) {
  return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* The request that an ICMP reply answers; 0: not a reply. RFC 792, 950, 4443, 4620. */
static __always_inline __u8 icmp_request_of(int v6, __u8 type) {
  if (v6) return type == 129 ? 128 : type == 140 ? 139 : 0;
  return type == 0 ? 8 : type == 14 ? 13 : type == 16 ? 15 : type == 18 ? 17 : 0;
}

static __always_inline int icmp_is_request(int v6, __u8 type) {
  if (v6) return type == 128 || type == 139;
  return type == 8 || type == 13 || type == 15 || type == 17;
}

/* Destination unreachable, source quench, time exceeded, parameter problem; in IPv6 all types below 128. */
static __always_inline int icmp_is_error(int v6, __u8 type) {
  if (v6) return type < 128;
  return type == 3 || type == 4 || type == 11 || type == 12;
}

/* Whether an ICMPv6 message looks like neighbour discovery (RFC 4861: never forwarded, hop limit 255) or a
 * multicast listener report (RFC 2710, 3810). neighbour.h checks which of them a pod may send. */
static __always_inline int is_link_control(__u8 type, __u8 hop_limit, const __u8 *dst) {
  if (type >= 133 && type <= 137) return hop_limit == 255;
  return (type == 130 || type == 131 || type == 132 || type == 143) && hop_limit == 1 && dst[0] == 0xff;
}

/* Sets the ports of a flow key for an ICMP message; `out`: as its sender sees it. */
static __always_inline void icmp_key(struct ea_flow_key *key, int v6, __u8 type, __u8 code, __be16 id,
                                     int out) {
  __u8 request = icmp_request_of(v6, type);
  if (request || icmp_is_request(v6, type)) {
    key->local_port = id;
    key->remote_port = bpf_htons(((request ? request : type) << 8) | (request ? 0 : code));
    key->opened_remotely = request ? out : !out;
  } else {
    key->remote_port = bpf_htons((type << 8) | code);
    key->opened_remotely = !out;
  }
}

/* Parses the L4 header at p->l4. `end`: offset of the end of the IP packet. */
static __always_inline int parse_transport(struct __sk_buff *skb, struct packet *p, __u32 end,
                                           __u8 hop_limit) {
  const int cut = p->fragment ? -EA_REASON_TINY_FRAGMENT : -EA_REASON_MALFORMED;
  const __u32 l4 = p->l4;
  struct ea_flow_key *key = &p->key;
  __u32 header = 0;

  p->opens = 1;
  if (key->protocol == IPPROTO_TCP) {
    struct {
      __be16 source, dest;
      __be32 seq, ack;
      __u8 doff, flags;
      __be16 window;
    } tcp;
    if (l4 + 20 > end || load(skb, l4, &tcp)) return cut;
    header = (tcp.doff >> 4) * 4;
    if (header < 20) return -EA_REASON_MALFORMED;
    if (l4 + header > end) return cut;
    p->carries = l4 + header < end;
    key->local_port = p->out ? tcp.source : tcp.dest;
    key->remote_port = p->out ? tcp.dest : tcp.source;
    p->port = tcp.dest;
    p->tcp_flags = tcp.flags;
    p->seq = tcp.seq;
    p->ack = tcp.ack;
    p->opens = (tcp.flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
  } else if (has_ports(key->protocol)) {
    __be16 ports[2];
    header = key->protocol == IPPROTO_SCTP ? 12 : key->protocol == IPPROTO_DCCP ? 12 : 8;
    if (l4 + header > end || load(skb, l4, &ports)) return cut;
    key->local_port = p->out ? ports[0] : ports[1];
    key->remote_port = p->out ? ports[1] : ports[0];
    p->port = ports[1];
    if (key->protocol == IPPROTO_SCTP) {
      /* Only an INIT chunk, alone in its packet, opens an association (RFC 9260, 3.3.2). */
      __u8 chunk = 0;
      p->opens = l4 + 13 <= end && !load(skb, l4 + 12, &chunk) && chunk == 1;
    }
  } else if (key->protocol == (p->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
    struct {
      __u8 type, code;
      __be16 checksum, id, sequence;
    } icmp;
    const int v6 = p->family == 6;
    header = 8;
    if (l4 + header > end || load(skb, l4, &icmp)) return cut;
    p->port = bpf_htons((icmp.type << 8) | icmp.code);
    icmp_key(key, v6, icmp.type, icmp.code, icmp.id, p->out);
    p->opens = icmp_is_request(v6, icmp.type);
    if (v6 && is_link_control(icmp.type, hop_limit, p->out ? key->remote : key->local)) return PACKET_LINK;
    if (icmp_is_error(v6, icmp.type)) p->kind = PACKET_ERROR;
  }
  p->header_end += header;
  return p->kind;
}

/* A walk along IPv4 options. */
struct options {
  struct __sk_buff *skb;
  __u32 off, end;
  int refused; /* result: a reason, or 0 */
};

/* One option (RFC 791, 3.1); 1: done. */
static long option_step(__u32 i, struct options *o) {
  __u8 option[2] = {};
  (void)i;
  if (o->off >= o->end || bpf_skb_load_bytes(o->skb, o->off, option, 1) || option[0] == 0) return 1;
  if (option[0] == 1) {
    o->off++;
    return 0;
  }
  o->refused = EA_REASON_MALFORMED;
  if (o->off + 2 > o->end || bpf_skb_load_bytes(o->skb, o->off, option, 2) || option[1] < 2 ||
      o->off + option[1] > o->end)
    return 1;
  o->off += option[1];
  o->refused = option[0] == 131 || option[0] == 137 ? EA_REASON_EXT_HEADERS : 0;
  return !!o->refused;
}

/* Checks IPv4 options: 0, or a reason to drop. Source routes, strict and loose, are refused, because they
 * name other stations than the destination that is judged; and so is what is not a valid option. */
GLOBAL_FUNCTION int refused_options(struct __sk_buff *skb, __u32 off, __u32 end) {
  struct options o = {.skb = skb, .off = off, .end = end};
  bpf_loop(40, option_step, &o, 0);
  return o.refused;
}

/* For packets with extension headers: inlined, it would be verified again for each of their combinations. */
GLOBAL_FUNCTION int parse_transport_global(struct __sk_buff *skb, struct packet *p, __u32 end,
                                           __u8 hop_limit) {
  return p ? parse_transport(skb, p, end, hop_limit) : -EA_REASON_MALFORMED;
}

static __always_inline int parse_v4(struct __sk_buff *skb, struct packet *p) {
  struct iphdr ip;
  const __u32 l3 = p->l3;
  if (load(skb, l3, &ip)) return -EA_REASON_MALFORMED;
  const __u32 header = ip.ihl * 4, available = skb->len - l3;
  __u32 total = bpf_ntohs(ip.tot_len);
  if (total == 0 && skb->gso_size) total = available; /* larger than 64 KiB, to be cut later */
  if (ip.version != 4 || header < sizeof(ip) || total < header || total > available)
    return -EA_REASON_MALFORMED;
  if (unlikely(header > sizeof(ip)) && p->out) {
    const int refused = refused_options(skb, l3 + sizeof(ip), l3 + header);
    if (refused) return -refused;
  }

  map_v4(p->out ? p->key.local : p->key.remote, ip.saddr);
  map_v4(p->out ? p->key.remote : p->key.local, ip.daddr);
  p->key.protocol = ip.protocol;
  p->family = 4;
  p->length = total;
  p->l4 = l3 + header;

  const __u16 frag = bpf_ntohs(ip.frag_off);
  if (frag & 0x3fff) {
    p->fragment_id = bpf_ntohs(ip.id);
    p->fragment_protocol = ip.protocol;
    p->fragment_offset = (frag & 0x1fff) * 8;
    p->fragment = p->fragment_offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
    if (p->fragment == FRAGMENT_LATER) return PACKET_LATER;
  }
  return parse_transport(skb, p, l3 + total, ip.ttl);
}

/* A walk along IPv6 extension headers. */
struct chain {
  __u32 off, end;
  __u32 fragmentable; /* end of the fragment header; 0: none */
  __u8 next;
  __u8 pad[3];
};

static __always_inline int is_ext_header(__u8 next) {
  return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS ||
         next == IPPROTO_AH || next == IPPROTO_FRAGMENT;
}

/* Parses one extension header. 0: continue with the next. */
GLOBAL_FUNCTION int parse_ext_header(struct __sk_buff *skb, struct packet *p, struct chain *c) {
  struct {
    __u8 next, length;
    __be16 offset;
    __be32 id;
  } ext;
  if (!p || !c) return -EA_REASON_MALFORMED;
  if (c->off + 8 > c->end || load(skb, c->off, &ext))
    return p->fragment ? -EA_REASON_TINY_FRAGMENT : -EA_REASON_MALFORMED;
  const __u8 this = c->next;
  c->next = ext.next;
  if (this == IPPROTO_FRAGMENT) {
    const __u16 frag = bpf_ntohs(ext.offset);
    if (p->fragment) return -EA_REASON_MALFORMED; /* a fragment of a fragment */
    c->off += 8;
    if ((frag & 0xfff9) == 0) return 0; /* atomic: a whole packet (RFC 6946) */
    p->fragment_id = bpf_ntohl(ext.id);
    p->fragment_protocol = ext.next;
    p->fragment_offset = frag & 0xfff8;
    p->fragment = p->fragment_offset ? FRAGMENT_LATER : FRAGMENT_FIRST;
    c->fragmentable = c->off;
    if (p->fragment == FRAGMENT_FIRST) return 0;
    p->key.protocol = ext.next;
    return PACKET_LATER;
  }
  /* A routing header with segments left contains a final destination that the rules would not see. */
  if (this == IPPROTO_ROUTING && (ext.offset & bpf_htons(0x00ff))) return -EA_REASON_EXT_HEADERS;
  c->off += this == IPPROTO_AH ? (ext.length + 2) * 4 : (ext.length + 1) * 8;
  return 0;
}

GLOBAL_FUNCTION int parse_v6(struct __sk_buff *skb, struct packet *p) {
  struct ipv6hdr ip;
  if (!p) return -EA_REASON_MALFORMED;
  const __u32 l3 = p->l3;
  if (load(skb, l3, &ip)) return -EA_REASON_MALFORMED;
  const __u32 available = skb->len - l3;
  __u32 total = bpf_ntohs(ip.payload_len) + sizeof(ip);
  if (total == sizeof(ip) && skb->gso_size) total = available; /* RFC 2675 jumbogram */
  if (ip.version != 6 || total > available) return -EA_REASON_MALFORMED;
  /* A socket takes an IPv4-mapped address for IPv4. On the wire such addresses are invalid. */
  if (is_v4((const __u8 *)&ip.saddr) || is_v4((const __u8 *)&ip.daddr)) return -EA_REASON_MALFORMED;

  __builtin_memcpy(p->out ? p->key.local : p->key.remote, &ip.saddr, 16);
  __builtin_memcpy(p->out ? p->key.remote : p->key.local, &ip.daddr, 16);
  p->family = 6;
  p->length = total;

  const __u32 end = l3 + total;
  struct chain c = {.off = l3 + sizeof(ip), .end = end, .next = ip.nexthdr};
  for (int i = 0; is_ext_header(c.next); i++) {
    if (i == MAX_EXT_HEADERS) return -EA_REASON_EXT_HEADERS;
    const int stop = parse_ext_header(skb, p, &c);
    if (stop) return stop;
  }
  if (c.off > end) return p->fragment ? -EA_REASON_TINY_FRAGMENT : -EA_REASON_MALFORMED;
  p->key.protocol = c.next;
  p->l4 = c.off;
  if (c.fragmentable) p->header_end = c.off - c.fragmentable;
  return parse_transport_global(skb, p, end, ip.hop_limit);
}

/* Parses a packet. `p` is zero except for set, epoch, key.endpoint and hook. `how`: DIRECTION_*, PARSE_L3. */
static __always_inline int parse(struct __sk_buff *skb, struct packet *p, __u32 how) {
  __be16 type = skb->protocol;
  __u32 off = 0;
  p->out = how & DIRECTION_OUT;
  if (!(how & PARSE_L3)) {
    if (load(skb, offsetof(struct ethhdr, h_proto), &type)) return -EA_REASON_MALFORMED;
    off = sizeof(struct ethhdr);
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
      struct {
        __be16 tci, type;
      } vlan;
      if (likely(type != bpf_htons(ETH_P_8021Q) && type != bpf_htons(ETH_P_8021AD))) break;
      if (load(skb, off, &vlan)) return -EA_REASON_MALFORMED;
      type = vlan.type;
      off += sizeof(vlan);
    }
  }
  p->ethertype = bpf_ntohs(type);
  p->l3 = off;
  if (likely(type == bpf_htons(ETH_P_IP))) return parse_v4(skb, p);
  if (type == bpf_htons(ETH_P_IPV6)) return parse_v6(skb, p);
  if (type == bpf_htons(ETH_P_ARP)) return PACKET_LINK;
  return -EA_REASON_UNKNOWN_ETHERTYPE;
}

/* The same as a global function, for programs whose stack is short. */
GLOBAL_FUNCTION int parse_global(struct __sk_buff *skb, struct packet *p, __u32 how) {
  return p ? parse(skb, p, how) : -EA_REASON_MALFORMED;
}

#endif
