/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the kernel knows of a packet beyond its bytes: which of them it will still write, and its connection.
 * Kernels before 6.2 do not show this to BPF, but load the programs too; README says what is not checked
 * there. */
#ifndef EA_SKB_H
#define EA_SKB_H

#include <bpf/bpf_core_read.h>

#include "parse.h"

/* The parts of the kernel's structs that are read; offsets are relocated when the program is loaded. */
struct sk_buff {
  unsigned char *head, *data;
  unsigned int end; /* end of the linear part, from head: the position of struct skb_shared_info */
  unsigned long _nfct;
  __u16 csum_start, csum_offset;
  __u8 ip_summed : 2;
} __attribute__((preserve_access_index));
struct skb_shared_info {
  unsigned int gso_type;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
extern void *bpf_rdonly_cast(void *obj, __u32 btf_id) __ksym __weak;

/* linux/skbuff.h */
enum { CHECKSUM_IS_PARTIAL = 3 };
enum {
  GSO_TCP = 1 << 0 | 1 << 4,      /* TCPV4, TCPV6 */
  GSO_UDP_L4 = 1 << 17,           /* to datagrams */
  GSO_UDP = 1 << 16 | GSO_UDP_L4, /* and to fragments */
  GSO_SCTP = 1 << 14,
  GSO_GRE = 1 << 6 | 1 << 7,
  GSO_IPIP = 1 << 8 | 1 << 9,
  GSO_UDP_TUNNEL = 1 << 10 | 1 << 11,
  GSO_ESP = 1 << 15,
};

/* How a large packet of this protocol may be cut, so that each piece gets the headers that were judged. */
static __always_inline __u32 gso_of(__u8 protocol) {
  return protocol == IPPROTO_TCP                                ? GSO_TCP
         : protocol == IPPROTO_UDP                              ? GSO_UDP | GSO_UDP_TUNNEL
         : protocol == IPPROTO_SCTP                             ? GSO_SCTP
         : protocol == IPPROTO_GRE                              ? GSO_GRE
         : protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 ? GSO_IPIP
         : protocol == IPPROTO_ESP                              ? GSO_ESP
                                                                : 0;
}

/* Offset of a protocol's checksum in its header; 0: it has none that a kernel would leave to the device. */
static __always_inline __u32 checksum_field(__u8 protocol) {
  return protocol == IPPROTO_TCP                                  ? 16
         : protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ? 6
         : protocol == IPPROTO_SCTP                               ? 8
                                                                  : 0;
}

/* Whether the kernel will write a sum behind the header that was judged: right, but where what is there is
 * judged, too. */
static __always_inline int is_sum_behind(struct __sk_buff *skb, const struct packet *p) {
  if (!bpf_cast_to_kern_ctx) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  if (likely(BPF_CORE_READ_BITFIELD(k, ip_summed) != CHECKSUM_IS_PARTIAL)) return 0;
  const __u32 start = k->csum_start - (__u32)((unsigned long)k->data - (unsigned long)k->head);
  return start != p->l4 || k->csum_offset != checksum_field(p->key.protocol);
}

/* Whether a large packet of UDP will be cut into datagrams, and not into fragments. */
static __always_inline int is_cut_into_datagrams(struct __sk_buff *skb) {
  if (!bpf_cast_to_kern_ctx || !bpf_rdonly_cast) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  const struct skb_shared_info *info =
      bpf_rdonly_cast(k->head + k->end, bpf_core_type_id_kernel(struct skb_shared_info));
  return !!(info->gso_type & GSO_UDP_L4);
}

/* Whether all bytes of a packet that the endpoint sends will be those that are judged now. */
static __always_inline int is_as_judged(struct __sk_buff *skb, const struct packet *p) {
  return !is_sum_behind(skb, p) && !hold_bytes(skb, p->l3 + p->length);
}

/* Whether the kernel will change a packet after it was judged. A sender chooses where the kernel is to fill
 * in a checksum, and how it is to cut a large packet (PACKET_VNET_HDR). Without this check, a pod could have
 * a "checksum" written over a port, or payload sent as a header. Right are the checksum of the header that
 * was judged, and places behind that header. Fragments, ARP, neighbour discovery and ICMP errors never leave
 * a kernel unfinished. */
GLOBAL_FUNCTION int rewritten(struct __sk_buff *skb, const struct packet *p, int kind) {
  if (!p || !bpf_cast_to_kern_ctx || !bpf_rdonly_cast) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  const int partial = BPF_CORE_READ_BITFIELD(k, ip_summed) == CHECKSUM_IS_PARTIAL;
  __u32 cut = 0;
  if (skb->gso_size) {
    const struct skb_shared_info *info =
        bpf_rdonly_cast(k->head + k->end, bpf_core_type_id_kernel(struct skb_shared_info));
    cut = info->gso_type;
    if (!(cut & gso_of(p->key.protocol))) return 1;
  }
  if (!partial) return 0;
  if (kind != PACKET_FLOW || p->fragment) return 1;
  const __u32 start = k->csum_start - (__u32)((unsigned long)k->data - (unsigned long)k->head);
  const __u32 field = checksum_field(p->key.protocol), offset = k->csum_offset;
  if (field && start == p->l4 && offset == field) return 0;
  if (cut && !(cut & ~(GSO_TCP | GSO_UDP | GSO_SCTP))) return 1;
  /* The checksum of a packet inside this one. For SCTP, the first chunk's type was judged, too. */
  const __u32 behind = p->l4 + p->header_end + (p->key.protocol == IPPROTO_SCTP ? 4 : 0);
  return start + offset < behind || start > 0xffff;
}

/* The same, quickly where the kernel has nothing left to do. */
static __always_inline int will_be_rewritten(struct __sk_buff *skb, const struct packet *p, int kind) {
  if (!bpf_cast_to_kern_ctx) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  if (BPF_CORE_READ_BITFIELD(k, ip_summed) != CHECKSUM_IS_PARTIAL && likely(!skb->gso_size)) return 0;
  /* What a kernel leaves to the device for a segment of TCP: its own checksum. */
  if (likely(kind == PACKET_FLOW && p->key.protocol == IPPROTO_TCP && !p->fragment && !skb->gso_size &&
             k->csum_offset == 16 &&
             k->csum_start - (__u32)((unsigned long)k->data - (unsigned long)k->head) == p->l4))
    return 0;
  return rewritten(skb, p, kind);
}

#endif
