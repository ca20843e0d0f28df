// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* A ClientHello on one connection after the other, in one run of BPF_PROG_TEST_RUN: it runs with the same bytes again and
 * again, so the port is written here. Beside it a program that does that and nothing else. */
#include "../../bpf/egress.bpf.c"

#include <linux/tcp.h>

#define CONNECTIONS 128

struct hello_port {
  __be16 port;
  __sum16 sum; /* of the segment from that port */
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, CONNECTIONS);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, __u64); /* struct hello_port */
} hello_ports SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, __u64);
} hello_turn SEC(".maps");

static __always_inline int hello_port(struct __sk_buff *skb) {
  __u32 zero = 0;
  __u64 *turn = bpf_map_lookup_elem(&hello_turn, &zero);
  if (!turn) return 0;
  __u32 at = (*turn)++ % CONNECTIONS;
  const struct hello_port *from = bpf_map_lookup_elem(&hello_ports, &at);
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct tcphdr *tcp = data + sizeof(struct ethhdr) + sizeof(struct iphdr);
  if (!from || (void *)(tcp + 1) > end) return 0;
  tcp->source = from->port;
  tcp->check = from->sum;
  return 1;
}

SEC("tc")
int hello_floor(struct __sk_buff *skb) {
  return hello_port(skb) ? PASS : DROP;
}

/* As from_pod. */
SEC("tc")
int hello_sent(struct __sk_buff *skb) {
  if (!hello_port(skb)) return PASS;
  const int verdict = fast_sent(skb);
  return likely(verdict < SLOW_PATH) ? verdict : slow_path(skb, verdict);
}
