/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Answers to refused DNS queries, so that applications fail at once. The query itself is rewritten as its
 * answer: the same id and question, no records. Over UDP it is a datagram (RFC 1035, 4.2.1). Over TCP it is a
 * segment that acknowledges the query and closes the connection (RFC 7766, 6.2.1): the server never saw the
 * query, so the byte streams do not fit any more. */
#ifndef EA_REFUSE_H
#define EA_REFUSE_H

#include "dns_stream.h"

enum { RCODE_NONE = 0, RCODE_NXDOMAIN = 3, RCODE_REFUSED = 5 };
enum { DNS_RA = 0x0080 };
/* The header of TCP, the length of a message, and the message: header and question. In units of four. */
enum { MOST_ANSWER = 300 };

/* The answer code of refused queries, by the agent's options. */
static __always_inline __u16 refusal_code(void) {
  const struct ea_name_state_words *st = name_words();
  if (!st) return RCODE_REFUSED;
  if (st->flags & EA_DNS_REFUSE_NODATA) return RCODE_NONE;
  return st->flags & EA_DNS_REFUSE_NXDOMAIN ? RCODE_NXDOMAIN : RCODE_REFUSED;
}

/* Whether the query that was read last asks for records that the agent's options withhold (--https-records):
 * with them an application could encrypt the name that it goes to. */
static __always_inline int is_withheld(const struct dns_work *w) {
  const struct ea_name_state_words *st = name_words();
  return st && (st->flags & (EA_DNS_STRIP_HTTPS | EA_DNS_DENY_HTTPS)) && w->question.type == DNS_HTTPS;
}

static __always_inline __u32 withheld_code(void) {
  const struct ea_name_state_words *st = name_words();
  return st && (st->flags & EA_DNS_DENY_HTTPS) ? refusal_code() : RCODE_NONE;
}

/* Where the message of an answer is put together, in the buffer behind the query; its L4 header stands before
 * it. */
enum { ANSWER_AT = 4096 };

/* Puts the answer with its L4 header together. Returns its size in bytes; 0: it does not fit. */
GLOBAL_FUNCTION __u32 build_refusal(const struct packet *p, struct dns_buffer *m, __u32 rcode) {
  struct dns_work *w = dns_work();
  if (!p || !m || !w) return 0;
  const int tcp = p->key.protocol == IPPROTO_TCP;
  __u64 question = w->question.end;
  const __u32 header = tcp ? 22 : 8;
  __u8 *message = m->bytes + ANSWER_AT, *l4 = tcp ? message - 22 : message - 8;
  if (question < DNS_HEADER + 5 || question > DNS_QUERY_BYTES) return 0;
  for (__u32 i = 0; i < (DNS_QUERY_BYTES + 7) / 8; i++)
    ((__u64 *)message)[i] = ((const __u64 *)m->bytes)[i];
  asm volatile("%0 &= 0x1ff" : "+r"(question));
  *(__u64 *)(message + question) = 0;
  __u16 *dns = (__u16 *)message;
  dns[1] = bpf_htons(DNS_QR | (w->question.flags & DNS_RD) | DNS_RA | rcode);
  dns[2] = bpf_htons(1);
  dns[3] = dns[4] = dns[5] = 0;
  const __u32 size = header + question;
  __be16 *ports = (__be16 *)l4;
  ports[0] = p->key.remote_port;
  ports[1] = p->key.local_port;
  if (!tcp) {
    ports[2] = bpf_htons(size);
    ports[3] = 0;
    return size;
  }
  *(__be32 *)(l4 + 4) = p->ack;
  *(__be32 *)(l4 + 8) =
      bpf_htonl(bpf_ntohl(p->seq) + p->length - (p->l4 - p->l3) - p->header_end + !!(p->tcp_flags & TCP_FIN));
  l4[12] = 5 << 4;
  l4[13] = TCP_ACK | TCP_FIN | 8; /* PSH */
  ports[7] = bpf_htons(65535);
  ports[8] = ports[9] = 0;
  *(__be16 *)(l4 + 20) = bpf_htons(question);
  return size;
}

/* Answers the query in dns_work.buffer that was read last, and drops it. Returns the tc verdict. */
GLOBAL_FUNCTION int refuse_query(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_flags,
                                 __u32 rcode) {
  struct dns_work *w = dns_work();
  if (!p || !w) return DROP;
  struct dns_buffer *m = dns_buffer(w->buffer);
  __u8 macs[12] = {};
  const int link = !(endpoint_flags & EA_EP_L3), tcp = p->key.protocol == IPPROTO_TCP;
  if (!m || (link && bpf_skb_load_bytes(skb, 0, macs, sizeof(macs))) || !may_answer(p, macs)) return DROP;
  const __u32 size = build_refusal(p, m, rcode);
  if (!size) return DROP;
  __u8 *l4 = tcp ? m->bytes + ANSWER_AT - 22 : m->bytes + ANSWER_AT - 8;
  __u64 padded = (size + 3) & ~3u;
  asm volatile("%0 &= 0x1fc" : "+r"(padded));
  if (padded > MOST_ANSWER) return DROP;
  const __u16 check = checksum_of(p, l4, size, padded, tcp ? IPPROTO_TCP : IPPROTO_UDP);
  *(__u16 *)(l4 + (tcp ? 16 : 6)) = check || tcp ? check : 0xffff;
  if (bpf_skb_change_tail(skb, p->l4 + size, 0)) return DROP;
  if (put_ip(skb, p, tcp ? IPPROTO_TCP : IPPROTO_UDP, size)) return DROP;
  __u64 exact = size;
  asm volatile("%0 &= 0x1ff" : "+r"(exact));
  if (!exact || exact > MOST_ANSWER || bpf_skb_store_bytes(skb, p->l4, l4, exact, 0)) return DROP;
  if (link && (bpf_skb_store_bytes(skb, 0, macs + 6, 6, 0) || bpf_skb_store_bytes(skb, 6, macs, 6, 0)))
    return DROP;
  count(EA_COUNT_REJECTED);
  const int to_stack = p->hook != EA_HOOK_FROM_POD || (endpoint_flags & EA_EP_IN_POD);
  return bpf_redirect(skb->ifindex, to_stack ? BPF_F_INGRESS : 0);
}

#endif
