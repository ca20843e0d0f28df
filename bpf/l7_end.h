/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The end of a connection that is denied by what it says: a reset to the pod, and one to its peer, which has
 * accepted the connection. The denied segment becomes both: first the one to the pod, of which a copy is sent back,
 * then the other, which goes on in place of the segment. */
#ifndef EA_L7_END_H
#define EA_L7_END_H

#include "unread.h"

/* What the pod gets in place of an answer to a denied request. Whole words, for the sum. */
#define DENIED_ANSWER                                                                                        \
  "HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain\r\nContent-Length: 15\r\nConnection: close\r\n\r\n"    \
  "Access denied\r\n\0\0\0"
enum {
  DENIED_ANSWER_BYTES = sizeof(DENIED_ANSWER) - 4,
  DENIED_ANSWER_WORDS = (DENIED_ANSWER_BYTES + 3) & ~3
};

/* Rewrites a segment as that answer, which ends the server's side of the connection, too. 0: done. */
static __always_inline int put_denied(struct __sk_buff *skb, const struct packet *p, struct dns_buffer *m) {
  const char answer[] = DENIED_ANSWER;
  const __u32 built = build_header(skb, p, m, 0);
  if (built < 20 + 2) return -1;
  const __u32 header = built - 2, size = header + DENIED_ANSWER_BYTES;
  __u64 first = header;
  asm volatile("%0 &= 0x3f" : "+r"(first));
  __builtin_memcpy(m->bytes + MESSAGE_AT, answer, DENIED_ANSWER_WORDS);
  __u64 sum = pseudo_sum(p, size);
  if (is_sum_partial(skb)) {
    sum = (__u16)~fold(sum);
  } else {
    sum = (__u32)bpf_csum_diff(NULL, 0, (void *)(m->bytes + ANSWER_AT), first & 0x3c, sum);
    sum = fold((__u32)bpf_csum_diff(NULL, 0, (void *)(m->bytes + MESSAGE_AT), DENIED_ANSWER_WORDS, sum));
  }
  *(__u16 *)(m->bytes + ANSWER_AT + 16) = sum;
  if (bpf_skb_change_tail(skb, p->l4 + size, 0) || put_ip(skb, p, IPPROTO_TCP, size)) return -1;
  if (!first || first > MOST_HEADER) return -1;
  return bpf_skb_store_bytes(skb, p->l4, m->bytes + ANSWER_AT, first, BPF_F_RECOMPUTE_CSUM) ||
         bpf_skb_store_bytes(skb, p->l4 + header, m->bytes + MESSAGE_AT, DENIED_ANSWER_BYTES,
                             BPF_F_RECOMPUTE_CSUM);
}

GLOBAL_FUNCTION int put_denied_answer(struct __sk_buff *skb, const struct packet *p) {
  struct dns_buffer *own = own_buffer();
  return p && own ? put_denied(skb, p, own) : -1;
}

/* Ends a connection. `seq`: what the peer waits for, host order; `answers`: the pod gets an answer to its request, and
 * then the end, in place of a reset. The flow is not held. Returns the tc verdict. */
GLOBAL_FUNCTION int end_both(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_flags, __u32 seq,
                             int answers) {
  struct dns_buffer *own = own_buffer();
  __u8 macs[12] = {};
  const int link = !(endpoint_flags & EA_EP_L3);
  if (!p || !own || (link && bpf_skb_load_bytes(skb, 0, macs, sizeof(macs))) || !may_answer(p, macs))
    return DROP;
  const __u32 l3 = p->l3, ends = bpf_ntohl(p->seq) + p->length - (p->l4 - p->l3) - p->header_end;
  struct bare_tcp bare = {.seq = p->ack, .ack = bpf_htonl(ends), .flags = TCP_RST | TCP_ACK};
  if (answers ? put_denied_answer(skb, p) : put_headers(skb, p, own, build_bare(skb, p, &bare, 0), 0))
    return DROP;
  bare = (struct bare_tcp){.seq = bpf_htonl(seq), .ack = p->ack, .flags = TCP_RST | TCP_ACK};
  __u64 reset = build_bare(skb, p, &bare, 1);
  if (link && (bpf_skb_store_bytes(skb, 0, macs + 6, 6, 0) || bpf_skb_store_bytes(skb, 6, macs, 6, 0)))
    return DROP;
  count(EA_COUNT_REJECTED);
  const __u64 to = p->hook != EA_HOOK_FROM_POD || (endpoint_flags & EA_EP_IN_POD) ? BPF_F_INGRESS : 0;
  /* The copy goes through to_pod before this returns: then the work memory of this CPU, and `p`, are another
   * packet's, but for this buffer, which to_pod does not use for what comes from the same device. */
  if (bpf_clone_redirect(skb, skb->ifindex, to)) return DROP;
  if (link && bpf_skb_store_bytes(skb, 0, macs, 12, 0)) return DROP;
  asm volatile("%0 &= 0x3f" : "+r"(reset));
  if (!reset || reset > 60 || bpf_skb_change_tail(skb, l3 + reset, 0)) return DROP;
  return bpf_skb_store_bytes(skb, l3, own->bytes + RESET_AT, reset, BPF_F_RECOMPUTE_CSUM) ? DROP : PASS;
}

#endif
