// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* DNS answers with addresses that nobody has learned yet, in one run of BPF_PROG_TEST_RUN: it runs with the same bytes again
 * and again, so the addresses are written here. Beside it a program that does that and nothing else. */
#include "../../bpf/egress.bpf.c"

/* The last records of the packet: A, with a compressed owner. */
enum { RECORDS = 8, RECORD = 16, ADDRESS = 12 };

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

SEC("tc")
int learn_floor(struct __sk_buff *skb) {
  return write_addresses(skb) ? PASS : DROP;
}

/* As to_pod. */
SEC("tc")
int learn_fresh(struct __sk_buff *skb) {
  if (!write_addresses(skb)) return DROP;
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
