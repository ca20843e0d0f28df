// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* bpf/quic_flow.h by itself, for a test that runs it by hand: flows are entries of an array, and a hello is
 * judged by two of its bytes. The packet is what a flow's datagrams carry, behind some bytes. */
#include "../../bpf/quic_flow.h"

char _license[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 16384);
  __type(key, __u32);
  __type(value, struct quic_state);
} quic_flows SEC(".maps");

/* The hellos that were judged: their first bytes. */
struct judged_hello {
  __u32 size;
  __u8 bytes[60];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct judged_hello);
} quic_judged_hello SEC(".maps");

/* The first and the last byte of a hello make its rule; odd ones allow. */
static __always_inline int decide_on(struct quic_work *w, const struct quic_state *st, int each) {
  __u32 zero = 0;
  struct judged_hello *judged = bpf_map_lookup_elem(&quic_judged_hello, &zero);
  const struct quic_attempt *a = quic_attempt(st);
  __u64 from = w->hello_at, last = w->hello_at + w->hello_size - 1;
  asm volatile("" : "+r"(from), "+r"(last));
  if (!judged || !a || from > QUIC_STREAM - 64 || last >= QUIC_STREAM) return 0;
  const __u8 *bytes = (const __u8 *)a->stream.words;
  judged->size = w->hello_size;
  __builtin_memcpy(judged->bytes, bytes + from, sizeof(judged->bytes));
  w->rule = bytes[from + 4] ^ bytes[last];
  if (each) w->rule = each;
  return w->rule & 1;
}

enum { BEFORE = 14 };

static __always_inline struct quic_state *begin(struct __sk_buff *skb) {
  struct quic_work *w = quic_work();
  __u32 flow = skb->cb[0];
  if (!w) return NULL;
  w->next = BEFORE;
  w->left = skb->len - BEFORE;
  w->piece = skb->gso_size ? skb->gso_size : w->left;
  w->endpoint = skb->cb[1];
  return bpf_map_lookup_elem(&quic_flows, &flow);
}

/* cb[0]: the flow; cb[1]: its endpoint; cb[2]: 1: each hello is allowed; 2: denied. Returns enum
 * quic_verdict; cb[2]: whether a hello was judged; cb[3]: the rule. */
SEC("tc")
int sent(struct __sk_buff *skb) {
  struct quic_state *st = begin(skb);
  struct quic_work *w = quic_work();
  if (!st || !w) return -1;
  const int each = skb->cb[2];
  int verdict = quic_sent(skb, st);
#pragma clang loop unroll(disable)
  for (int i = 0; i < 4 && verdict == QUIC_JUDGE; i++)
    verdict = quic_judged(skb, st, decide_on(w, st, each));
  if (verdict == QUIC_JUDGE) quic_judged(skb, st, 0);
  skb->cb[2] = w->judged;
  skb->cb[3] = w->rule;
  return verdict;
}

SEC("tc")
int received(struct __sk_buff *skb) {
  struct quic_state *st = begin(skb);
  return st ? quic_received(skb, st) : -1;
}

SEC("tc")
int has_long_header(struct __sk_buff *skb) {
  begin(skb);
  return quic_has_long_header(skb);
}

/* As if a minute had passed: forgets. cb[1]: the endpoint, cb[2]: the minute. Returns its row, plus 1. */
SEC("tc")
int row_of(struct __sk_buff *skb) {
  return quic_row_of(skb->cb[1], skb->cb[2]);
}
