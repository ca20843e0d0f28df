/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who sent a packet whose source was masqueraded: the kernel's connection tracking knows. Kernels without the
 * functions (before 5.18, or without BTF for them) load the programs all the same; there it is not found out. */
#ifndef EA_CONNTRACK_H
#define EA_CONNTRACK_H

#include "parse.h"

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

/* Source of the connection's first packet, before any translation, into `client`. 0: found. TCP and UDP only. */
static __always_inline int original_source(struct __sk_buff *skb, const struct packet *p,
                                           struct ea_pending_key *client) {
  const __u8 *src = p->out ? p->key.local : p->key.remote, *dst = p->out ? p->key.remote : p->key.local;
  const __be16 sport = p->out ? p->key.local_port : p->key.remote_port;
  const __be16 dport = p->out ? p->key.remote_port : p->key.local_port;
  struct bpf_ct_opts___ea opts = {.netns_id = -1, .l4proto = p->key.protocol};
  struct bpf_sock_tuple tuple = {};
  struct nf_conn *ct;

  if (!bpf_skb_ct_lookup || !bpf_ct_release) return -1;
  if (p->key.protocol != IPPROTO_TCP && p->key.protocol != IPPROTO_UDP) return -1;
  /* The packet's own tuple is known to conntrack as that of the replies, turned round. */
  if (p->family == 4) {
    tuple.ipv4.saddr = v4_of(dst);
    tuple.ipv4.daddr = v4_of(src);
    tuple.ipv4.sport = dport;
    tuple.ipv4.dport = sport;
    ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv4), &opts, sizeof(opts));
  } else {
    __builtin_memcpy(tuple.ipv6.saddr, dst, 16);
    __builtin_memcpy(tuple.ipv6.daddr, src, 16);
    tuple.ipv6.sport = dport;
    tuple.ipv6.dport = sport;
    ct = bpf_skb_ct_lookup(skb, &tuple, sizeof(tuple.ipv6), &opts, sizeof(opts));
  }
  if (!ct) return -1;
  __u32 *to = (__u32 *)client->addr;
  if (p->family == 4) {
    map_v4(client->addr, ct->tuplehash[0].tuple.src.u3.all[0]);
  } else {
    to[0] = ct->tuplehash[0].tuple.src.u3.all[0];
    to[1] = ct->tuplehash[0].tuple.src.u3.all[1];
    to[2] = ct->tuplehash[0].tuple.src.u3.all[2];
    to[3] = ct->tuplehash[0].tuple.src.u3.all[3];
  }
  client->port = ct->tuplehash[0].tuple.src.u.all;
  bpf_ct_release(ct);
  return 0;
}

#endif
