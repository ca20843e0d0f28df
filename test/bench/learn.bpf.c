// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A DNS answer again and again, in one run of BPF_PROG_TEST_RUN. The run has the same bytes each time, so what is to be
 * new is written here; and the query is remembered again, because it goes with its answer. Beside each program one that does
 * that and nothing else. */
#include "../../bpf/egress.bpf.c"

/* The last records of the packet: A, with a compressed owner. */
enum { RECORDS = 8, RECORD = 16, TTL = 6, ADDRESS = 12 };

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} learn_turn SEC(".maps");

static __always_inline int write_addresses(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u64 *turn = bpf_map_lookup_elem(&learn_turn, &zero);
  if (!turn || skb->len < RECORDS * RECORD) return 0;
  const __u32 first = (*turn)++ * RECORDS, at = skb->len - RECORDS * RECORD + ADDRESS;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < RECORDS; i++) {
    const __be32 to = bpf_htonl(0x64400000 | ((first + i) & 0x3fffff)); /* 100.64.0.0/10 */
    if (bpf_skb_store_bytes(skb, at + i * RECORD, &to, sizeof(to), 0)) return 0;
  }
  return 1;
}

/* Another TTL: nothing is new, but it is no answer of before. */
static __always_inline int write_ttl(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u64 *turn = bpf_map_lookup_elem(&learn_turn, &zero);
  if (!turn || skb->len < RECORD) return 0;
  const __be32 ttl = bpf_htonl(60 + ((*turn)++ & 0x3ffff));
  return !bpf_skb_store_bytes(skb, skb->len - RECORD + TTL, &ttl, sizeof(ttl), 0);
}

/* As to_pod. */
static __always_inline int receive(struct __sk_buff *skb) {
  int verdict = fast_received(skb);
  if (likely(verdict < SLOW_PATH)) return verdict;
  verdict = pod_receives(skb, verdict == PACKET_FILLED);
  if (likely(verdict != TO_BE_READ)) return verdict;
  struct packet *p = this_packet();
  if (!p) return DROP;
  verdict = dns_received(skb, p);
  release(p);
  return verdict;
}

/* The query of the last answer. */
static __always_inline int ask_again(struct __sk_buff *skb) {
  struct packet *p = this_packet();
  if (!p) return PASS;
  take(p);
  remember_query(skb, p);
  release(p);
  return PASS;
}

#define DEFINE_LEARN(kind, write)                                                                            \
  SEC("tc") int floor_##kind(struct __sk_buff *skb) {                                                        \
    return write ? ask_again(skb) : DROP;                                                                    \
  }                                                                                                          \
  SEC("tc") int learn_##kind(struct __sk_buff *skb) {                                                        \
    if (!write) return DROP;                                                                                 \
    const int verdict = receive(skb);                                                                        \
    ask_again(skb);                                                                                          \
    return verdict;                                                                                          \
  }
DEFINE_LEARN(fresh, write_addresses(skb))
DEFINE_LEARN(renewed, write_ttl(skb))
DEFINE_LEARN(again, 1)
