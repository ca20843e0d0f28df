/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The end of a connection that is denied by what it says: a reset to the pod, and one to its peer, which has
 * accepted the connection. The denied segment becomes both: first the one to the pod, of which a copy is sent back,
 * then the other, which goes on in place of the segment. */
#ifndef EA_L7_END_H
#define EA_L7_END_H

#include "unread.h"

/* Ends a connection. `seq`: what the peer waits for, host order. The flow is not held. Returns the tc verdict. */
GLOBAL_FUNCTION int end_both(struct __sk_buff *skb, const struct packet *p, __u32 endpoint_flags, __u32 seq) {
  struct dns_buffer *own = own_buffer();
  __u8 macs[12] = {};
  const int link = !(endpoint_flags & EA_EP_L3);
  if (!p || !own || (link && bpf_skb_load_bytes(skb, 0, macs, sizeof(macs))) || !may_answer(p, macs))
    return DROP;
  const __u32 l3 = p->l3, ends = bpf_ntohl(p->seq) + p->length - (p->l4 - p->l3) - p->header_end;
  struct bare_tcp bare = {.seq = p->ack, .ack = bpf_htonl(ends), .flags = TCP_RST | TCP_ACK};
  if (put_headers(skb, p, own, build_bare(skb, p, &bare, 0), 0)) return DROP;
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
  if (!reset || reset > 60) return DROP;
  return bpf_skb_store_bytes(skb, l3, own->bytes + RESET_AT, reset, BPF_F_RECOMPUTE_CSUM) ? DROP : PASS;
}

#endif
