// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Parts of bpf/quic.h by themselves, for a test that runs them by hand. The packet is the datagram. */
#include "../../bpf/quic.h"

char _license[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct quic_stream);
} quic_stream SEC(".maps");

/* Bytes before the datagram: a frame has them at least. */
enum { BEFORE = 14 };

/* Reads a datagram into the stream. cb[0]: 1 to begin a new stream, by the keys of the datagram's first id.
 * Results: what quic_read() returns, or 100 and what quic_begin() does; cb[1]: w->seen; cb[2]: s->have;
 * cb[3]: w->crypto. */
SEC("tc")
int read_datagram(struct __sk_buff *skb) {
  __u32 zero = 0;
  struct quic_work *w = quic_work();
  struct quic_stream *s = bpf_map_lookup_elem(&quic_stream, &zero);
  if (!w || !s) return -1;
  w->at = BEFORE;
  w->end = skb->len;
  const int kind = quic_begin(skb, w);
  if (kind != QUIC_INITIAL) return 100 + kind;
  if (skb->cb[0]) quic_make_keys(w, &s->keys, &w->packet.to, w->packet.version);
  const int result = quic_read(skb, w, s);
  skb->cb[1] = w->seen;
  skb->cb[2] = s->have;
  skb->cb[3] = w->crypto;
  return result;
}
