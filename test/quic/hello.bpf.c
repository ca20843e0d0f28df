// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* bpf/quic_hello.h by itself, for a test that runs it by hand: as flow.bpf.c, but hellos are TLS's, and
 * each that is one is allowed. */
#include "../../bpf/quic_hello.h"

char _license[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct quic_state);
} quic_flows SEC(".maps");

/* What was said last. */
struct said_name {
  __u32 read;
  __u32 named;
  __u32 length;
  __u32 ech;
  __u32 ech_id;
  __u8 bytes[EA_NAME_TEXT];
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct said_name);
} quic_said SEC(".maps");

static __noinline int decide_on(const struct quic_state *st) {
  __u32 zero = 0;
  struct said_name *said = bpf_map_lookup_elem(&quic_said, &zero);
  const struct quic_attempt *a = quic_attempt(st);
  const struct quic_work *w = quic_work();
  const struct l7_work *l7 = l7_work();
  const struct name_work *names = name_work();
  if (!said || !a || !w || !l7 || !names) return 0;
  said->read = quic_read_hello(&a->stream, w);
  said->named = l7->named;
  said->length = l7->name_length;
  said->ech = l7->ech;
  said->ech_id = l7->ech_id;
  __builtin_memcpy(said->bytes, names->texts[TEXT_SERVER].bytes, sizeof(said->bytes));
  return said->read == TLS_HELLO;
}

enum { BEFORE = 14 };

/* cb[0]: 1 to begin a new flow. Returns enum quic_verdict; cb[2]: whether a hello was judged. */
SEC("tc")
int sent(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct quic_state *st = bpf_map_lookup_elem(&quic_flows, &zero);
  struct quic_work *w = quic_work();
  if (!st || !w) return -1;
  if (skb->cb[0]) {
    if (quic_use(st, 1)) quic_rest(st, 1, 0);
    __builtin_memset(st, 0, sizeof(*st));
  }
  w->next = BEFORE;
  w->left = w->piece = skb->len - BEFORE;
  w->endpoint = 1;
  int verdict = quic_sent(skb, st);
#pragma clang loop unroll(disable)
  for (int i = 0; i < 4 && verdict == QUIC_JUDGE; i++)
    verdict = quic_judged(skb, st, decide_on(st));
  skb->cb[2] = w->judged;
  return verdict;
}
