/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The fast path, for the most frequent packets: a packet of TCP or UDP that belongs to a flow which was
 * judged under the policies in force, and that changes nothing of it but counters and the TCP flags that were
 * seen. It is the slow path (from_pod, to_pod) reduced to what that does for such a packet. A packet that it
 * does not recognize takes the slow path, and is not counted here. So no packet passes here that would not
 * pass there. A packet that opens or closes a connection takes the slow path, which uses what was read and
 * checked here. */
#ifndef EA_FAST_H
#define EA_FAST_H

#include "skb.h"

/* In place of a verdict. NOT_IN_OWN_WAY: the flow may be in another way than its preferred one.
 * PACKET_FILLED: take the slow path, whose first part is done (fill_packet()). IS_INSPECTED: what the endpoint sends
 * there is read, so it takes the slow path. */
enum { SLOW_PATH = 3, NOT_IN_OWN_WAY = 4, PACKET_FILLED = 5, IS_INSPECTED = 6 };

/* The headers of an unfragmented packet without options, extension headers or VLAN tags, in the linear part
 * of the buffer. `flags` is 0 for UDP. */
struct quick {
  __u32 local[4], remote[4];
  __u32 ports;
  __u32 length;
  __u8 protocol;
  __u8 flags;
  __u8 header; /* of TCP, bytes */
};

/* Opens or closes a connection: changes more than counters. */
static __always_inline int opens_or_closes(const struct quick *q) {
  return q->flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* Reads the transport header behind the IP header, which says that `payload` bytes follow it. */
static __always_inline int read_ports(struct quick *q, const void *l4, const void *end, __u32 payload,
                                      const int out) {
  if (q->protocol == IPPROTO_TCP) {
    const __u8 *tcp = l4;
    if (l4 + 20 > end) return 0;
    q->header = (tcp[12] >> 4) * 4;
    q->flags = tcp[13];
    if (q->header < 20 || q->header > payload) return 0;
  } else {
    if (q->protocol != IPPROTO_UDP || l4 + 8 > end || payload < 8) return 0;
    q->flags = q->header = 0;
  }
  /* Local, then remote, as in struct ea_flow_key. */
  const __u32 ports = *(const __u32 *)l4;
  q->ports = out ? ports : ports << 16 | ports >> 16;
  return 1;
}

static __always_inline int read_v4(struct quick *q, const void *l3, const void *end, __u32 available,
                                   const int out) {
  const struct iphdr *ip = l3;
  if (l3 + sizeof(*ip) > end) return 0;
  const __u32 total = bpf_ntohs(ip->tot_len);
  if (*(const __u8 *)ip != 0x45 || (ip->frag_off & bpf_htons(0x3fff)) || total < sizeof(*ip) ||
      total > available)
    return 0;
  q->local[0] = q->local[1] = q->remote[0] = q->remote[1] = 0;
  q->local[2] = q->remote[2] = bpf_htonl(0xffff);
  q->local[3] = out ? ip->saddr : ip->daddr;
  q->remote[3] = out ? ip->daddr : ip->saddr;
  q->protocol = ip->protocol;
  q->length = total;
  return read_ports(q, l3 + sizeof(*ip), end, total - sizeof(*ip), out);
}

static __always_inline int read_v6(struct quick *q, const void *l3, const void *end, __u32 available,
                                   const int out) {
  const struct ipv6hdr *ip = l3;
  if (l3 + sizeof(*ip) > end) return 0;
  const __u32 payload = bpf_ntohs(ip->payload_len);
  if ((*(const __u8 *)ip >> 4) != 6 || payload == 0 || payload + sizeof(*ip) > available) return 0;
  const __u32 *local = out ? (const __u32 *)&ip->saddr : (const __u32 *)&ip->daddr;
  const __u32 *remote = out ? (const __u32 *)&ip->daddr : (const __u32 *)&ip->saddr;
  __builtin_memcpy(q->local, local, 16);
  __builtin_memcpy(q->remote, remote, 16);
  if (is_v4((const __u8 *)local) || is_v4((const __u8 *)remote)) return 0;
  q->protocol = ip->nexthdr;
  q->length = payload + sizeof(*ip);
  return read_ports(q, l3 + sizeof(*ip), end, payload, out);
}

/* Whether the kernel may still write into the packet in a way that needs the full check of skb.h. */
static __always_inline int is_unfinished(struct __sk_buff *skb, const struct quick *q, const __u32 l4) {
  if (!bpf_cast_to_kern_ctx) return 0;
  const struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
  if (unlikely(skb->gso_size)) {
    /* A large segment of TCP, which the kernel or the device will cut. */
    if (q->protocol != IPPROTO_TCP || !bpf_rdonly_cast) return 1;
    const struct skb_shared_info *info =
        bpf_rdonly_cast(k->head + k->end, bpf_core_type_id_kernel(struct skb_shared_info));
    if (!(info->gso_type & GSO_TCP)) return 1;
  }
  if (BPF_CORE_READ_BITFIELD(k, ip_summed) != CHECKSUM_IS_PARTIAL) return 0;
  return k->csum_offset != (q->protocol == IPPROTO_TCP ? 16 : 6) ||
         k->csum_start - (__u32)((unsigned long)k->data - (unsigned long)k->head) != l4;
}

static __always_inline __u64 both(__u32 low, __u32 high) {
  return low | (__u64)high << 32;
}

/* Whether an entry has this packet's key, compared from registers. `seen`: the entry's state meanwhile. */
static __always_inline int has_key(const struct ea_entry *e, const struct quick *q, __u32 endpoint,
                                   __u32 *seen) {
  const __u64 *x = (const __u64 *)&e->key;
  const __u32 state = state_of(e);
  *seen = state;
  return (state & EA_ENTRY_VALID) && x[4] == both(q->ports, endpoint) &&
         x[3] == both(q->remote[2], q->remote[3]) && x[1] == both(q->local[2], q->local[3]) &&
         *(const __u32 *)(x + 5) == q->protocol && x[0] == both(q->local[0], q->local[1]) &&
         x[2] == both(q->remote[0], q->remote[1]);
}

/* find_in() of table.h for a key in registers. */
static __always_inline struct ea_entry *find_quick_in(__u32 bucket, __u32 tag, const struct quick *q,
                                                      __u32 endpoint, __u32 *seen) {
  const struct ea_bucket *b = bpf_map_lookup_elem(&flow_buckets, &bucket);
  if (!b) return NULL;
#pragma clang loop unroll(disable)
  for (__u32 way = 0; way < EA_WAYS; way++) {
    if (likely(READ_ONCE(b->tags[way]) != tag)) continue;
    __u32 slot = bucket * EA_WAYS + way;
    struct ea_entry *e = bpf_map_lookup_elem(&flows, &slot);
    if (!e) continue;
    if (!has_key(e, q, endpoint, seen)) continue;
    return e;
  }
  return NULL;
}

/* hash_of() of table.h. For IPv4, the state holds the part of the hash that is the same for all mapped
 * addresses. */
static __always_inline __u64 quick_hash(const struct quick *q, __u32 endpoint, const struct ea_state *st,
                                        const int v4) {
  const __u64 *s = st->secret;
  __u64 h = v4 ? st->mapped
               : (s[0] + q->local[0]) * (s[1] + q->local[1]) + (s[4] + q->remote[0]) * (s[5] + q->remote[1]);
  h += (s[2] + q->local[2]) * (s[3] + q->local[3]);
  h += (s[6] + q->remote[2]) * (s[7] + q->remote[3]);
  h += (s[8] + q->ports) * (s[9] + endpoint) + (s[10] + q->protocol) * s[11];
  return mixed(h);
}

/* The first eight bytes of struct ea_flow as one word. */
union label {
  __u64 all;
  struct {
    __u32 epoch;
    __u8 verdict, audit_verdict, reason, flags;
  };
};

static __always_inline int try_known_flow(struct __sk_buff *skb, const struct quick *q,
                                          const struct ea_state *st, const struct ea_endpoint *ep, __u64 set,
                                          __u32 epoch, const int out, const int v4, const int own_way) {
  const __u32 endpoint = ep->id;
  const __u64 hash = quick_hash(q, endpoint, st, v4);
  const __u32 tag = tag_of(hash), first = first_bucket(hash, st);
  __u32 seen = 0, slot = first * EA_WAYS + way_of(hash);
  struct ea_entry *e;
  if (own_way) {
    e = bpf_map_lookup_elem(&flows, &slot);
    if (unlikely(!e || !has_key(e, q, endpoint, &seen))) return NOT_IN_OWN_WAY;
  } else {
    e = find_quick_in(first, tag, q, endpoint, &seen);
    if (!e) e = find_quick_in(other_bucket(first, tag, st), tag, q, endpoint, &seen);
    if (!e) return SLOW_PATH;
  }
  struct ea_flow *flow = &e->flow;
  const __u64 flow_set = READ_ONCE(flow->set); /* before the label, which is written before it */
  const union label l = {.all = READ_ONCE(*(const __u64 *)flow)};
  const int inbound = l.flags & EA_FLOW_INBOUND;
  const __u8 tcp_state = flow->tcp_state;
  if (l.verdict != EA_VERDICT_ALLOW || (tcp_state & (EA_TCP_CLOSED | EA_TCP_INSPECT)))
    return out && (tcp_state & EA_TCP_INSPECT) ? IS_INSPECTED : SLOW_PATH;
  if (inbound && !(l.flags & EA_FLOW_CONFIRMED)) return SLOW_PATH;
  if (out) {
    if (inbound ? l.flags & EA_FLOW_MASQUERADED : l.epoch != epoch || flow_set != set) return SLOW_PATH;
  } else {
    if (inbound ? l.epoch != epoch : READ_ONCE(flow->owner) != ~epoch) return SLOW_PATH;
    if ((l.flags & EA_FLOW_PEER_IS_NODE) && skb->ingress_ifindex) return SLOW_PATH;
  }
  const __u64 now_jiffies = bpf_jiffies64();
  if (unlikely(!same_state(state_of(e), seen))) return SLOW_PATH;
  add_packet(flow, out, q->length);
  add_flags(flow, q->flags);
  if (flow->last_jiffies != now_jiffies) flow->last_jiffies = now_jiffies;
  return PASS;
}

/* Fills in what parse() and identify_endpoint() would find out about a packet of TCP, for the slow path. Each
 * field is written once, for a fresh_packet() would cost as much again: test/bpf/fill-packet.test.ts finds
 * one that is forgotten, and would keep the value of the packet before. */
static __always_inline int fill_packet(struct __sk_buff *skb, const struct quick *q,
                                       const struct ea_endpoint *ep, __u64 set, __u32 epoch,
                                       const __be32 *tcp, const int out, const int v4) {
  struct packet *p = this_packet();
  if (!p) return SLOW_PATH;
  const __u32 header = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
  p->set = set;
  p->epoch = epoch;
  p->length = q->length;
  __builtin_memcpy(p->key.local, q->local, 16);
  __builtin_memcpy(p->key.remote, q->remote, 16);
  p->key.local_port = q->ports;
  p->key.remote_port = q->ports >> 16;
  p->key.endpoint = ep->id;
  p->key.protocol = IPPROTO_TCP;
  p->key.opened_remotely = 0;
  p->key.kind = EA_KIND_FLOW;
  p->fragment_id = 0;
  p->l3 = sizeof(struct ethhdr);
  p->l4 = sizeof(struct ethhdr) + header;
  p->ethertype = v4 ? ETH_P_IP : ETH_P_IPV6;
  p->fragment_offset = 0;
  p->header_end = q->header;
  p->port = out ? p->key.remote_port : p->key.local_port;
  p->family = v4 ? 4 : 6;
  p->tcp_flags = q->flags;
  p->fragment = FRAGMENT_NONE;
  p->fragment_protocol = 0;
  p->opens = (q->flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
  p->carries = header + q->header < q->length;
  p->out = out;
  p->hook = out ? EA_HOOK_FROM_POD : EA_HOOK_TO_POD;
  p->kind = PACKET_FLOW;
  p->unrelated = p->forwarded = p->held = 0;
  p->at = (struct place){};
  p->at = (struct place){};
  p->seq = tcp[1];
  p->ack = tcp[2];
  p->payer = skb->ifindex;
  p->query = 0;
  p->query_mode = p->said_mode = p->decided = p->inspected = p->says = p->tells = p->named = 0;
  return PACKET_FILLED;
}

/* PASS, or a value in place of a verdict. `out`: sent by the endpoint; `v4`: an IPv4 packet; `own_way`:
 * search the key's preferred way only. */
static __always_inline int fast_path(struct __sk_buff *skb, const int out, const int v4, const int own_way) {
  const struct ea_state *st = current_state();
  const __u32 ifindex = skb->ifindex;
  __u32 slot = ifindex & (EA_OWN_SLOTS - 1);
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  if (unlikely(!st || !ep || ep->ifindex != ifindex)) return SLOW_PATH;
  const __u32 epoch = READ_ONCE(st->epoch), flags = ep->flags;
  const __u64 set = READ_ONCE(ep->set);
  if (unlikely(flags & (EA_EP_L3 | EA_EP_CHECK_NEXT_HOP))) return SLOW_PATH;
  const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end,
             *l3 = data + sizeof(struct ethhdr);
  const __u32 available = skb->len - sizeof(struct ethhdr),
              header = v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
  if (l3 > end) return SLOW_PATH;
  if (out && set && (flags & EA_EP_CHECK_MAC) && !same_mac(data + ETH_ALEN, ep->mac)) return SLOW_PATH;
  if (*(const __u16 *)(data + offsetof(struct ethhdr, h_proto)) != bpf_htons(v4 ? ETH_P_IP : ETH_P_IPV6))
    return SLOW_PATH;
  struct quick q;
  if (unlikely(!(v4 ? read_v4(&q, l3, end, available, out) : read_v6(&q, l3, end, available, out))))
    return SLOW_PATH;
  if (out && set && unlikely(is_unfinished(skb, &q, sizeof(struct ethhdr) + header))) return SLOW_PATH;
  if (likely(!opens_or_closes(&q))) {
    const int verdict = try_known_flow(skb, &q, st, ep, set, epoch, out, v4, own_way);
    if (likely(verdict != IS_INSPECTED)) return verdict;
  }
  const __be32 *tcp = l3 + header;
  if (!own_way || q.protocol != IPPROTO_TCP || (void *)(tcp + 3) > end) return SLOW_PATH;
  return fill_packet(skb, &q, ep, set, epoch, tcp, out, v4);
}

/* The search of the preferred way is inlined into the hooks: a call costs as much as some of its steps
 * together. The search of the other ways is rare, and is a function so that it does not lengthen the stack of
 * the slow path. */
static __always_inline int fast_sent_v4(struct __sk_buff *skb) {
  return fast_path(skb, 1, 1, 1);
}
static __always_inline int fast_sent_v6(struct __sk_buff *skb) {
  return fast_path(skb, 1, 0, 1);
}
static __always_inline int fast_received_v4(struct __sk_buff *skb) {
  return fast_path(skb, 0, 1, 1);
}
static __always_inline int fast_received_v6(struct __sk_buff *skb) {
  return fast_path(skb, 0, 0, 1);
}
static __noinline int search_sent_v4(struct __sk_buff *skb) {
  return fast_path(skb, 1, 1, 0);
}
static __noinline int search_sent_v6(struct __sk_buff *skb) {
  return fast_path(skb, 1, 0, 0);
}
static __noinline int search_received_v4(struct __sk_buff *skb) {
  return fast_path(skb, 0, 1, 0);
}
static __noinline int search_received_v6(struct __sk_buff *skb) {
  return fast_path(skb, 0, 0, 0);
}

static __always_inline int fast_sent(struct __sk_buff *skb) {
  const int v6 = skb->protocol == bpf_htons(ETH_P_IPV6), verdict = v6 ? fast_sent_v6(skb) : fast_sent_v4(skb);
  if (likely(verdict != NOT_IN_OWN_WAY)) return verdict;
  return v6 ? search_sent_v6(skb) : search_sent_v4(skb);
}
static __always_inline int fast_received(struct __sk_buff *skb) {
  const int v6 = skb->protocol == bpf_htons(ETH_P_IPV6),
            verdict = v6 ? fast_received_v6(skb) : fast_received_v4(skb);
  if (likely(verdict != NOT_IN_OWN_WAY)) return verdict;
  return v6 ? search_received_v6(skb) : search_received_v4(skb);
}

#endif
