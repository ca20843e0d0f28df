/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Finds the original source of a packet whose source was translated, by the kernel's connection tracking.
 * Kernels from 6.2 on show BPF the connection that the packet itself carries. Otherwise the connection is
 * looked up, for TCP and UDP (5.18). Older kernels load the programs too, and find no source. */
#ifndef EA_CONNTRACK_H
#define EA_CONNTRACK_H

#include "skb.h"

/* The parts of the kernel's structs that are read; offsets are relocated when the program is loaded. */
union nf_inet_addr {
  __u32 all[4];
} __attribute__((preserve_access_index));
union nf_conntrack_man_proto {
  __be16 all;
} __attribute__((preserve_access_index));
struct nf_conntrack_man {
  union nf_inet_addr u3;
  union nf_conntrack_man_proto u;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple {
  struct nf_conntrack_man src;
  struct {
    union nf_inet_addr u3;
    union {
      __be16 all;
    } u;
  } dst;
} __attribute__((preserve_access_index));
struct nf_conntrack_tuple_hash {
  struct nf_conntrack_tuple tuple;
} __attribute__((preserve_access_index));
struct nf_conn {
  struct nf_conntrack_tuple_hash tuplehash[2];
} __attribute__((preserve_access_index));

struct bpf_ct_opts___ea {
  __s32 netns_id;
  __s32 error;
  __u8 l4proto;
  __u8 dir;
  __u8 reserved[2];
};

extern struct nf_conn *bpf_skb_ct_lookup(struct __sk_buff *skb, struct bpf_sock_tuple *tuple,
                                         __u32 tuple_size, struct bpf_ct_opts___ea *opts,
                                         __u32 opts_size) __ksym __weak;
extern void bpf_ct_release(struct nf_conn *ct) __ksym __weak;

/* linux/netfilter/nf_conntrack_common.h: the low bits of sk_buff._nfct. From CT_IS_REPLY on: packets to the
 * opener. */
enum { CT_INFO_MASK = 7, CT_IS_REPLY = 3 };

enum { SOURCE_FOUND = 0, SOURCE_IS_REPLY = 1, SOURCE_UNKNOWN = -1 };

static __always_inline void copy_address(const union nf_inet_addr *from, const struct packet *p, __u8 *addr) {
  __u32 *to = (__u32 *)addr;
  if (p->family == 4) {
    to[0] = to[1] = 0;
    map_v4(addr, from->all[0]);
  } else {
    to[0] = from->all[0];
    to[1] = from->all[1];
    to[2] = from->all[2];
    to[3] = from->all[3];
  }
}

/* Sixteen bytes of kernel memory, read through this type: conntrack may be a module, and its types are
 * unknown to the kernel when a pointer is cast. */
struct in6_addr___ea {
  union {
    __u32 u6_addr32[4];
  } in6_u;
} __attribute__((preserve_access_index));

/* Copies an address of a carried connection, from `at`, and the port that belongs to it, from `port_at`. */
static __always_inline void copy_carried(const struct packet *p, unsigned long at, unsigned long port_at,
                                         __u8 *addr, __be16 *port) {
  const __u32 type = bpf_core_type_id_kernel(struct in6_addr___ea);
  const struct in6_addr___ea *source = bpf_rdonly_cast((void *)at, type);
  const struct in6_addr___ea *behind = bpf_rdonly_cast((void *)port_at, type);
  __u32 *to = (__u32 *)addr;
  to[0] = to[1] = 0;
  if (p->family == 4) {
    map_v4(addr, source->in6_u.u6_addr32[0]);
  } else {
    to[0] = source->in6_u.u6_addr32[0];
    to[1] = source->in6_u.u6_addr32[1];
    to[2] = source->in6_u.u6_addr32[2];
    to[3] = source->in6_u.u6_addr32[3];
  }
  *port = (__be16)behind->in6_u.u6_addr32[0];
}

/* The connection that the packet carries, with its direction in the low bits (CT_INFO_MASK). 0: it carries
 * none, or the kernel does not show it. */
static __always_inline unsigned long carried_connection(struct __sk_buff *skb) {
  if (!bpf_cast_to_kern_ctx || !bpf_rdonly_cast || !bpf_core_type_exists(struct nf_conn)) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  const unsigned long nfct = k->_nfct;
  return nfct & ~(unsigned long)CT_INFO_MASK ? nfct : 0;
}

static __always_inline int is_reply_direction(unsigned long nfct) {
  return (nfct & CT_INFO_MASK) >= CT_IS_REPLY;
}

/* The original source, by the connection that the packet carries. */
static __always_inline int source_of_carried(struct __sk_buff *skb, const struct packet *p, __u8 *addr,
                                             __be16 *port) {
  const unsigned long nfct = carried_connection(skb), ct = nfct & ~(unsigned long)CT_INFO_MASK;
  if (!nfct) return SOURCE_UNKNOWN;
  if (is_reply_direction(nfct)) return SOURCE_IS_REPLY;
  copy_carried(p, ct + bpf_core_field_offset(struct nf_conn, tuplehash[0].tuple.src.u3),
               ct + bpf_core_field_offset(struct nf_conn, tuplehash[0].tuple.src.u), addr, port);
  return SOURCE_FOUND;
}

/* The connection that has this tuple, in either direction. `dir` 1: the tuple is that of the replies. The
 * caller releases it. */
static __always_inline struct nf_conn *connection_of(struct __sk_buff *skb, __u8 family, __u8 protocol,
                                                     const __u8 *src, __be16 sport, const __u8 *dst,
                                                     __be16 dport, __u8 *dir) {
  struct bpf_ct_opts___ea opts = {.netns_id = -1, .l4proto = protocol};
  struct bpf_sock_tuple tuple = {};
  struct nf_conn *ct;
  if (family == 4) {
    tuple.ipv4.saddr = v4_of(src);
    tuple.ipv4.daddr = v4_of(dst);
    tuple.ipv4.sport = sport;
    tuple.ipv4.dport = dport;
    ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
  } else {
    __builtin_memcpy(tuple.ipv6.saddr, src, 16);
    __builtin_memcpy(tuple.ipv6.daddr, dst, 16);
    tuple.ipv6.sport = sport;
    tuple.ipv6.dport = dport;
    ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
  }
  *dir = opts.dir;
  return ct;
}

/* The connection of a packet, by the addresses and ports that it has now. `dir` 1: the packet goes the same
 * way as the connection's first one. The caller releases it. */
static __always_inline struct nf_conn *lookup_connection(struct __sk_buff *skb, const struct packet *p,
                                                         __u8 *dir) {
  const __u8 *src = p->out ? p->key.local : p->key.remote, *dst = p->out ? p->key.remote : p->key.local;
  const __be16 sport = p->out ? p->key.local_port : p->key.remote_port;
  const __be16 dport = p->out ? p->key.remote_port : p->key.local_port;
  if (!bpf_skb_ct_lookup || !bpf_ct_release) return NULL;
  if (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP) return NULL;
  return connection_of(skb, p->family, p->key.protocol, dst, dport, src, sport, dir);
}

static __always_inline int source_by_lookup(struct __sk_buff *skb, const struct packet *p, __u8 *addr,
                                            __be16 *port) {
  __u8 dir = 0;
  struct nf_conn *ct = lookup_connection(skb, p, &dir);
  if (!ct) return SOURCE_UNKNOWN;
  copy_address(&ct->tuplehash[0].tuple.src.u3, p, addr);
  *port = ct->tuplehash[0].tuple.src.u.all;
  bpf_ct_release(ct);
  return dir == 1 ? SOURCE_FOUND : SOURCE_IS_REPLY;
}

/* Whether the node translates a reply to its own address back to the pod whose packets it masqueraded: only
 * while conntrack knows the connection. Without that the packet would reach the node itself, on a port that
 * the pod could choose. */
GLOBAL_FUNCTION int is_masqueraded_reply(struct __sk_buff *skb, const struct packet *p) {
  __u8 dir = 0;
  if (!p) return 0;
  if (!bpf_skb_ct_lookup || !bpf_ct_release || is_icmp(p->key.protocol)) return 1;
  if (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP) return 0;
  struct nf_conn *ct = connection_of(skb, p->family, p->key.protocol, p->key.local, p->key.local_port,
                                     p->key.remote, p->key.remote_port, &dir);
  if (!ct) return 0;
  bpf_ct_release(ct);
  return dir == 1;
}

/* Whether a packet that arrives at the node is the reply of a connection that the node has translated. Such a
 * packet goes to whoever opened that connection. */
GLOBAL_FUNCTION int is_reply_to_translated(struct __sk_buff *skb, const struct packet *p) {
  __u8 dir = 0;
  if (!p) return 1;
  if (!bpf_skb_ct_lookup || !bpf_ct_release) return 1;
  if (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP) return 1;
  struct nf_conn *ct = connection_of(skb, p->family, p->key.protocol, p->key.remote, p->key.remote_port,
                                     p->key.local, p->key.local_port, &dir);
  if (!ct) return 0;
  bpf_ct_release(ct);
  return dir == 1;
}

/* The source of the connection's first packet before any translation, into `addr` and `port`.
 * SOURCE_IS_REPLY: the packet goes the other way. */
static __always_inline int original_source(struct __sk_buff *skb, const struct packet *p, __u8 *addr,
                                           __be16 *port) {
  const int found = source_of_carried(skb, p, addr, port);
  return found == SOURCE_UNKNOWN ? source_by_lookup(skb, p, addr, port) : found;
}

/* The destination that a reply had when it was sent, into `addr` and `port`: conntrack translates it back to
 * the opener's. 0: the packet is no reply, or conntrack does not know it. */
static __always_inline int reply_destination(struct __sk_buff *skb, const struct packet *p, __u8 *addr,
                                             __be16 *port) {
  const unsigned long nfct = carried_connection(skb), held = nfct & ~(unsigned long)CT_INFO_MASK;
  if (nfct) {
    if (!is_reply_direction(nfct)) return 0;
    copy_carried(p, held + bpf_core_field_offset(struct nf_conn, tuplehash[1].tuple.dst.u3),
                 held + bpf_core_field_offset(struct nf_conn, tuplehash[1].tuple.dst.u), addr, port);
    return 1;
  }
  __u8 dir = 0;
  struct nf_conn *ct = lookup_connection(skb, p, &dir);
  if (!ct) return 0;
  copy_address(&ct->tuplehash[1].tuple.dst.u3, p, addr);
  *port = ct->tuplehash[1].tuple.dst.u.all;
  bpf_ct_release(ct);
  return dir == 0;
}

#endif
