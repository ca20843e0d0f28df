/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Answers to refused DNS queries, so that applications fail at once. The query itself is rewritten as its
 * answer: the same id and question, no records. If the query has EDNS, the answer has it, too, and says
 * "blocked" (RFC 6891, 7; RFC 8914, 4.16). What cannot be read gets a header alone.
 *
 * Over UDP it is a datagram. Over TCP it is a segment that acknowledges the query and closes the connection
 * (RFC 7766, 6.2.1): the server never saw the query, so the byte streams do not fit any more. Therefore the
 * packet then goes on to the server as a reset. */
#ifndef EA_REFUSE_H
#define EA_REFUSE_H

#include "dns_events.h"
#include "dns_stream.h"

enum { RCODE_NONE = 0, RCODE_NXDOMAIN = 3, RCODE_REFUSED = 5 };
enum { DNS_RA = 0x0080, DNS_CD = 0x0010 };
enum { DNS_TYPE_OPT = 41, EDNS_ERROR = 15, EDNS_BLOCKED = 15 };

/* An OPT record with an Extended DNS Error. */
struct dns_opt {
  __u8 root;
  __be16 type, payload;
  __u8 rcode, version;
  __be16 flags, length;
  __be16 option, option_length, info;
} __attribute__((packed));

/* An answer is put together in the buffer behind the query, in parts, each followed by zeros up to a multiple
 * of four: its L4 header with the message's length, and the message. */
enum { ANSWER_AT = 4096, MESSAGE_AT = 4160, RESET_AT = 8192, MOST_HEADER = 32 + 2, MOST_MESSAGE = 288 };

/* The answer code of refused queries: as the rule says that refuses them (enum ea_rule_dns), or else the agent's
 * options. */
static __always_inline __u16 refusal_code(__u8 refusal) {
  const struct ea_name_state_words *st = name_words();
  const __u32 options = st ? st->flags : 0;
  if (refusal == EA_REFUSAL_OPTION)
    refusal = options & EA_DNS_REFUSE_NODATA     ? EA_REFUSAL_NODATA
              : options & EA_DNS_REFUSE_NXDOMAIN ? EA_REFUSAL_NXDOMAIN
                                                 : EA_REFUSAL_REFUSED;
  if (refusal == EA_REFUSAL_NODATA) return RCODE_NONE;
  return refusal == EA_REFUSAL_NXDOMAIN ? RCODE_NXDOMAIN : RCODE_REFUSED;
}

/* Whether the agent's options withhold records (--https-records): with them an application could encrypt the
 * name that it goes to. */
static __always_inline int withholds(void) {
  const struct ea_name_state_words *st = name_words();
  return st && (st->flags & (EA_DNS_STRIP_HTTPS | EA_DNS_DENY_HTTPS));
}

/* Whether the query that was read last asks for such records. */
static __always_inline int is_withheld(const struct dns_work *w) {
  return withholds() && w->question.type == DNS_HTTPS;
}

static __always_inline __u32 withheld_code(void) {
  const struct ea_name_state_words *st = name_words();
  return st && (st->flags & EA_DNS_DENY_HTTPS) ? refusal_code(EA_REFUSAL_OPTION) : RCODE_NONE;
}

/* Puts the message of the answer together, at MESSAGE_AT. Returns its size in bytes; 0: the packet has no
 * query. */
GLOBAL_FUNCTION __u32 build_message(struct dns_buffer *m, const struct dns_question *q, __u32 rcode) {
  if (!m || !q || m->length < DNS_HEADER) return 0;
  const __u16 flags = be16_at(m, 2);
  if (flags & DNS_QR) return 0;
  __u64 end = q->end ? q->end : DNS_HEADER;
  if (end > DNS_QUERY_BYTES - DNS_OPT_BYTES) return 0;
  asm volatile("%0 &= 0x1ff" : "+r"(end));
  __u8 *message = m->bytes + MESSAGE_AT;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < MOST_MESSAGE; i += 8)
    *(__u64 *)(message + i) = *(const __u64 *)(m->bytes + i);
  __be16 *header = (__be16 *)message;
  const int edns = q->end && m->length >= end + DNS_OPT_BYTES && header[5] && byte_at(m, end) == 0 &&
                   be16_at(m, end + 1) == DNS_TYPE_OPT;
  header[1] = bpf_htons(DNS_QR | DNS_RA | (flags & (DNS_OPCODE | DNS_RD | DNS_CD)) | rcode);
  header[2] = bpf_htons(q->end ? 1 : 0);
  header[3] = header[4] = 0;
  header[5] = bpf_htons(edns);
  if (edns) {
    struct dns_opt opt = {.type = bpf_htons(DNS_TYPE_OPT),
                          .payload = bpf_htons(1232),
                          .flags = bpf_htons(be16_at(m, end + 7) & 0x8000), /* DO */
                          .length = bpf_htons(6),
                          .option = bpf_htons(EDNS_ERROR),
                          .option_length = bpf_htons(2),
                          .info = bpf_htons(EDNS_BLOCKED)};
    __builtin_memcpy(message + end, &opt, sizeof(opt));
    end += sizeof(opt);
  }
  *(__u32 *)(message + end) = 0;
  return end;
}

/* A TCP header; with timestamps, if the packet has them where Linux puts them. */
struct refusal_tcp {
  __be16 source, dest;
  __be32 seq, ack;
  __u8 doff, flags;
  __be16 window, check, urgent;
  __be32 option, value, echo;
};
#define TCP_TIMESTAMPS bpf_htonl(0x0101080a) /* two paddings, kind, length */

/* Puts the L4 header of the answer together, at ANSWER_AT, all but its checksum. Returns its size in bytes,
 * with that of the message's length field. */
GLOBAL_FUNCTION __u32 build_header(struct __sk_buff *skb, const struct packet *p, struct dns_buffer *m,
                                   __u32 message) {
  if (!p || !m) return 0;
  __u64 *words = (__u64 *)(m->bytes + ANSWER_AT);
  words[0] = words[1] = words[2] = words[3] = words[4] = 0;
  if (p->key.protocol == IPPROTO_UDP) {
    __be16 *udp = (__be16 *)words;
    udp[0] = p->key.remote_port;
    udp[1] = p->key.local_port;
    udp[2] = bpf_htons(8 + message);
    return 8;
  }
  struct refusal_tcp *tcp = (struct refusal_tcp *)words;
  __be32 stamps[3] = {};
  __u32 size = 20;
  if (p->header_end >= 32 && !bpf_skb_load_bytes(skb, p->l4 + 20, stamps, sizeof(stamps)) &&
      stamps[0] == TCP_TIMESTAMPS) {
    size = 32;
    tcp->option = stamps[0];
    tcp->value = stamps[2]; /* the server's last one */
    tcp->echo = stamps[1];
  }
  tcp->source = p->key.remote_port;
  tcp->dest = p->key.local_port;
  tcp->seq = p->ack;
  tcp->ack =
      bpf_htonl(bpf_ntohl(p->seq) + p->length - (p->l4 - p->l3) - p->header_end + !!(p->tcp_flags & TCP_FIN));
  tcp->doff = size << 2;
  tcp->flags = TCP_ACK | TCP_FIN | 8; /* PSH */
  tcp->window = bpf_htons(65535);
  if (size == 20)
    *(__be16 *)&tcp->option = bpf_htons(message);
  else
    *(__be16 *)(tcp + 1) = bpf_htons(message);
  return size + 2;
}

/* Whether the kernel or the device will add the sum of the L4 bytes to what the checksum field holds, which is
 * then the sum of the pseudo header. Kernels before 6.2 do not say. */
static __always_inline int is_sum_partial(struct __sk_buff *skb) {
  if (!bpf_cast_to_kern_ctx) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  return BPF_CORE_READ_BITFIELD(k, ip_summed) == CHECKSUM_IS_PARTIAL;
}

static __always_inline __u64 pseudo_sum(const struct packet *p, __u32 size) {
  struct pseudo_v6 pseudo = {.length = bpf_htonl(size), .next = bpf_htonl(p->key.protocol)};
  if (p->family == 4) {
    *(__be32 *)(pseudo.src + 12) = v4_of(p->key.local);
    *(__be32 *)(pseudo.dst + 12) = v4_of(p->key.remote);
  } else {
    __builtin_memcpy(pseudo.src, p->key.local, 16);
    __builtin_memcpy(pseudo.dst, p->key.remote, 16);
  }
  return (__u32)bpf_csum_diff(NULL, 0, (void *)&pseudo, sizeof(pseudo), 0);
}

/* Rewrites the packet as the answer in the buffer. 0: done. */
GLOBAL_FUNCTION int put_refusal(struct __sk_buff *skb, const struct packet *p, struct dns_buffer *m,
                                __u32 rcode) {
  struct dns_work *w = dns_work();
  if (!p || !m || !w) return -1;
  const int tcp = p->key.protocol == IPPROTO_TCP;
  const __u32 message = build_message(m, &w->question, rcode);
  if (!message) return -1;
  const __u32 header = build_header(skb, p, m, message), size = header + message;
  __u64 first = header, second = message;
  asm volatile("%0 &= 0x3f" : "+r"(first));
  asm volatile("%0 &= 0x1ff" : "+r"(second));
  if (!first || first > MOST_HEADER || !second || second > MOST_MESSAGE) return -1;
  __u64 sum = pseudo_sum(p, size);
  if (is_sum_partial(skb)) {
    sum = (__u16)~fold(sum);
  } else {
    sum = (__u32)bpf_csum_diff(NULL, 0, (void *)(m->bytes + ANSWER_AT), 36, sum);
    sum = fold((__u32)bpf_csum_diff(NULL, 0, (void *)(m->bytes + MESSAGE_AT), (second + 3) & 0x1fc, sum));
    if (!tcp && !sum) sum = 0xffff;
  }
  *(__u16 *)(m->bytes + ANSWER_AT + (tcp ? 16 : 6)) = sum;
  if (bpf_skb_change_tail(skb, p->l4 + size, 0)) return -1;
  if (put_ip(skb, p, p->key.protocol, size)) return -1;
  return bpf_skb_store_bytes(skb, p->l4, m->bytes + ANSWER_AT, first, 0) ||
         bpf_skb_store_bytes(skb, p->l4 + header, m->bytes + MESSAGE_AT, second, 0);
}

/* Writes the IP header of a packet with so much payload, to the packet's peer or to the endpoint. Returns its
 * size. */
static __always_inline __u32 build_ip(__u8 *to, const struct packet *p, int to_peer, __u32 payload) {
  const __u8 *from = to_peer ? p->key.local : p->key.remote, *dest = to_peer ? p->key.remote : p->key.local;
  if (p->family == 4) {
    struct iphdr *ip = (struct iphdr *)to;
    __builtin_memset(ip, 0, sizeof(*ip));
    ip->version = 4;
    ip->ihl = 5;
    ip->ttl = 64;
    ip->frag_off = bpf_htons(0x4000);
    ip->protocol = p->key.protocol;
    ip->tot_len = bpf_htons(sizeof(*ip) + payload);
    ip->saddr = v4_of(from);
    ip->daddr = v4_of(dest);
    ip->check = fold((__u32)bpf_csum_diff(NULL, 0, (void *)ip, sizeof(*ip), 0));
    return sizeof(*ip);
  }
  struct ipv6hdr *ip = (struct ipv6hdr *)to;
  __builtin_memset(ip, 0, sizeof(*ip));
  ip->version = 6;
  ip->hop_limit = 64;
  ip->nexthdr = p->key.protocol;
  ip->payload_len = bpf_htons(payload);
  __builtin_memcpy(&ip->saddr, from, 16);
  __builtin_memcpy(&ip->daddr, dest, 16);
  return sizeof(*ip);
}

/* A segment without data. */
struct bare_tcp {
  __be16 source, dest;
  __be32 seq, ack;
  __u8 doff, flags;
  __be16 window, check, urgent;
};

/* Puts a segment without data together, at RESET_AT: its IP header, and this TCP header, all but its ports and
 * checksum. Returns their size. */
GLOBAL_FUNCTION __u32 build_bare(struct __sk_buff *skb, const struct packet *p, struct bare_tcp *tcp,
                                 int to_peer) {
  struct dns_buffer *m = own_buffer();
  if (!p || !m || !tcp) return 0;
  tcp->source = to_peer ? p->key.local_port : p->key.remote_port;
  tcp->dest = to_peer ? p->key.remote_port : p->key.local_port;
  tcp->doff = 5 << 4;
  tcp->check = tcp->urgent = 0;
  const __u64 sum = pseudo_sum(p, sizeof(*tcp));
  const __u16 check =
      fold(is_sum_partial(skb) ? sum : (__u32)bpf_csum_diff(NULL, 0, (void *)tcp, sizeof(*tcp), sum));
  tcp->check = is_sum_partial(skb) ? (__u16)~check : check;
  __u8 *to = m->bytes + RESET_AT;
  const __u32 ip = build_ip(to, p, to_peer, sizeof(*tcp));
  if (ip == sizeof(struct iphdr))
    __builtin_memcpy(to + sizeof(struct iphdr), tcp, sizeof(*tcp));
  else
    __builtin_memcpy(to + sizeof(struct ipv6hdr), tcp, sizeof(*tcp));
  return ip + sizeof(*tcp);
}

/* Answers the query in dns_work.buffer that was read last, in place of the packet. Returns the tc verdict. */
GLOBAL_FUNCTION int refuse_query(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_flags,
                                 __u32 rcode) {
  const struct dns_work *w = dns_work();
  if (!p || !w) return DROP;
  report_dns(p, p->decision.verdict == EA_VERDICT_DENY ? EA_DNS_REFUSED : EA_DNS_WITHHELD);
  struct dns_buffer *m = dns_buffer(w->buffer), *own = own_buffer();
  __u8 macs[12] = {};
  const int link = !(endpoint_flags & EA_EP_L3), tcp = p->key.protocol == IPPROTO_TCP;
  if (!m || !own || (link && bpf_skb_load_bytes(skb, 0, macs, sizeof(macs))) || !may_answer(p, macs))
    return DROP;
  const __u32 l3 = p->l3;
  struct bare_tcp bare = {.seq = p->seq, .ack = p->ack, .flags = TCP_RST | TCP_ACK};
  __u64 reset = tcp ? build_bare(skb, p, &bare, 1) : 0;
  if (put_refusal(skb, p, m, rcode)) return DROP;
  if (link && (bpf_skb_store_bytes(skb, 0, macs + 6, 6, 0) || bpf_skb_store_bytes(skb, 6, macs, 6, 0)))
    return DROP;
  count(EA_COUNT_REJECTED);
  const __u64 to = p->hook != EA_HOOK_FROM_POD || (endpoint_flags & EA_EP_IN_POD) ? BPF_F_INGRESS : 0;
  if (!tcp) return bpf_redirect(skb->ifindex, to);
  /* The copy goes through to_pod before this returns: then the work memory of this CPU, and `p`, are another
   * packet's, but for this buffer, which dns_received() does not use for what comes from the same device. */
  if (bpf_clone_redirect(skb, skb->ifindex, to)) return DROP;
  asm volatile("%0 &= 0x3f" : "+r"(reset));
  if (!reset || reset > 60 || bpf_skb_change_tail(skb, l3 + reset, 0)) return DROP;
  if (link && bpf_skb_store_bytes(skb, 0, macs, 12, 0)) return DROP;
  return bpf_skb_store_bytes(skb, l3, own->bytes + RESET_AT, reset, 0) ? DROP : PASS;
}

#endif
