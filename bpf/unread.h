/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the endpoint gets in place of a trusted resolver's answer that cannot be read. Nothing could be learned
 * of it, and the application would use addresses that are denied. */
#ifndef EA_UNREAD_H
#define EA_UNREAD_H

#include "refuse.h"

/* The header's flags that say that the records were verified (RFC 4035, 3.2.3): there are none any more. */
enum { DNS_AD = 0x0020 };

/* Writes what was put together at RESET_AT over the packet's headers. With it the packet ends, but for `more`
 * bytes. No sum of the kernel's may go by the bytes that were there. 0: done. */
static __always_inline int put_headers(struct __sk_buff *skb, const struct packet *p,
                                       const struct dns_buffer *m, __u64 size, __u32 more) {
  asm volatile("%0 &= 0x3f" : "+r"(size));
  if (!size || size > 60 || bpf_skb_change_tail(skb, p->l3 + size + more, 0)) return -1;
  return bpf_skb_store_bytes(skb, p->l3, m->bytes + RESET_AT, size, BPF_F_RECOMPUTE_CSUM);
}

/* Rewrites a fragment as a truncated answer: its header and question, which are in this CPU's buffer and were
 * read, and no records (RFC 1035, 4.1.1; RFC 2181, 9). The client then asks over TCP. 0: done. */
GLOBAL_FUNCTION int put_truncated(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  struct dns_buffer *m = own_buffer();
  /* Fragments never leave a kernel without their sum. */
  if (!p || !w || !m || is_sum_partial(skb)) return -1;
  __u64 end = w->question.end;
  asm volatile("%0 &= 0x1ff" : "+r"(end));
  if (end < DNS_HEADER || end > MOST_MESSAGE) return -1;
  __be16 *header = (__be16 *)m->bytes;
  header[1] = bpf_htons((w->question.flags & ~DNS_AD) | DNS_QR | DNS_TC);
  header[3] = header[4] = header[5] = 0;
  m->length = end;
  *(__u32 *)(m->bytes + end) = 0; /* the sum goes by whole words */
  const __u32 size = 8 + end;
  __be16 udp[4] = {p->key.remote_port, p->key.local_port, bpf_htons(size), 0};
  __u64 sum = (__u32)bpf_csum_diff(NULL, 0, (void *)udp, sizeof(udp), pseudo_sum(p, size));
  sum = fold((__u32)bpf_csum_diff(NULL, 0, (void *)m->bytes, (end + 3) & 0x1fc, sum));
  udp[3] = sum ? sum : 0xffff;
  __u8 *to = m->bytes + RESET_AT;
  const __u32 ip = build_ip(to, p, 0, size);
  if (ip == sizeof(struct iphdr))
    __builtin_memcpy(to + sizeof(struct iphdr), udp, sizeof(udp));
  else
    __builtin_memcpy(to + sizeof(struct ipv6hdr), udp, sizeof(udp));
  if (put_headers(skb, p, m, ip + sizeof(udp), end)) return -1;
  return bpf_skb_store_bytes(skb, p->l3 + ip + sizeof(udp), m->bytes, end, BPF_F_RECOMPUTE_CSUM);
}

/* Rewrites a segment as one without data, with these flags, and with the sequence number that the endpoint
 * waits for. 0: done. */
GLOBAL_FUNCTION int put_bare(struct __sk_buff *skb, const struct packet *p, __u32 seq, __u32 flags) {
  const struct dns_buffer *m = own_buffer();
  if (!p || !m) return -1;
  struct bare_tcp tcp = {
      .seq = bpf_htonl(seq), .ack = p->ack, .flags = flags, .window = bpf_htons(flags & TCP_RST ? 0 : 1024)};
  /* The kernel or the device will write the sum where the header was. */
  const __u32 ip = p->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
  if (is_sum_partial(skb) && p->l4 != p->l3 + ip) return -1;
  return put_headers(skb, p, m, build_bare(skb, p, &tcp, 0), 0);
}

#endif
