// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* First packets to one address after the other, in one run of BPF_PROG_TEST_RUN: it runs with the same bytes again and again,
 * so the destination is written here. Beside it a program that does that and nothing else. */
#include "../../bpf/egress.bpf.c"

#define ADDRESSES 2048

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, ADDRESSES);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64); /* IPv4, as on the wire */
} many_addresses SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} many_turn SEC(".maps");

static __always_inline int address(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u64 *turn = bpf_map_lookup_elem(&many_turn, &zero);
  if (!turn) return 0;
  __u32 at = (*turn)++ % ADDRESSES;
  const __u64 *to = bpf_map_lookup_elem(&many_addresses, &at);
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct iphdr *ip = data + sizeof(struct ethhdr);
  if (!to || (void *)(ip + 1) > end) return 0;
  ip->daddr = *to;
  return 1;
}

SEC("tc")
int many_floor(struct __sk_buff *skb) {
  return address(skb) ? PASS : DROP;
}

/* As from_pod. */
SEC("tc")
int many_sent(struct __sk_buff *skb) {
  if (!address(skb)) return PASS;
  const int verdict = fast_sent(skb);
  return likely(verdict < SLOW_PATH) ? verdict : slow_path(skb, verdict);
}
