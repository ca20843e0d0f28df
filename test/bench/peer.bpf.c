// SPDX-License-Identifier: Apache-2.0
/* A program of the shape of the closest peer's, AWS's network policy agent (tc hook of a pod, IPv4), to measure against:
 * written from its description, as plain as that, and a little faster than the original in what is not its shape.
 *
 *   - headers by direct access, only Ethernet, IPv4 without options, TCP and UDP
 *   - what holds for the pod (policies in force, nothing yet): a hash map of two entries, one for the policies of namespaces
 *     and one for those of the cluster; both are asked for each packet, as its releases do since there are both
 *   - connection tracking of its own: an LRU hash map, 5-tuple and the pod's address → one byte. A packet asks for its
 *     own tuple; where there is none, for the reverse one, so that an answer costs two look-ups. What was allowed under
 *     another state of the pod is judged again
 *   - a first packet asks an LPM trie for the address; its value is a list of protocols and ports, which is scanned
 *   - what is decided is told through a ring buffer, what is allowed enters the connection table
 *
 * It has no counters, no tiers, no post-DNAT check, no IPv6, no fragments, no check of sources; its users read the ring. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

char _license[] SEC("license") = "GPL";

#define PORTS_A_NETWORK 24

struct connection {
  __be32 from, to, pod;
  __be16 from_port, to_port;
  __u8 protocol;
  __u8 pad[3];
};

struct network {
  __u32 prefixlen;
  __be32 addr;
};

struct port_range {
  __u32 protocol; /* 0: any */
  __u32 first;    /* host order; 0: any */
  __u32 last;
};

struct ports {
  struct port_range ranges[PORTS_A_NETWORK]; /* the first one with `last` 0 ends the list */
};

struct told {
  struct connection what;
  __u32 allowed;
};

enum { STATE_NAMESPACES = 0, STATE_CLUSTER = 1 };

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, 2);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, __u32);
  __type(value, __u8);
} pod_state SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 512 * 1024);
  __type(key, struct connection);
  __type(value, __u8);
} connections SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_LPM_TRIE);
  __uint(max_entries, 131072);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __type(key, struct network);
  __type(value, struct ports);
} networks SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 256 * 1024);
} peer_events SEC(".maps");

static __always_inline int tell(const struct connection *what, __u32 allowed) {
  struct told t = {.what = *what, .allowed = allowed};
  bpf_ringbuf_output(&peer_events, &t, sizeof(t), 0);
  return allowed ? TC_ACT_OK : TC_ACT_SHOT;
}

/* The tuple as the packet has it; 0 where it has one. */
static __always_inline int read_tuple(struct __sk_buff *skb, struct connection *c) {
  const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  const struct ethhdr *eth = data;
  const struct iphdr *ip = data + sizeof(*eth);
  const __be16 *ports = (const void *)(ip + 1);
  if ((const void *)(ports + 2) > end || eth->h_proto != bpf_htons(ETH_P_IP)) return -1;
  c->from = ip->saddr;
  c->to = ip->daddr;
  c->protocol = ip->protocol;
  if (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) {
    c->from_port = ports[0];
    c->to_port = ports[1];
  }
  return 0;
}

static __always_inline void turn(const struct connection *c, struct connection *r) {
  r->from = c->to;
  r->to = c->from;
  r->pod = c->pod;
  r->from_port = c->to_port;
  r->to_port = c->from_port;
  r->protocol = c->protocol;
}

/* What a connection is remembered under; -1: nothing is known of the pod. */
static __always_inline int state_now(void) {
  const __u32 namespaces = STATE_NAMESPACES, cluster = STATE_CLUSTER;
  const __u8 *a = bpf_map_lookup_elem(&pod_state, &namespaces);
  const __u8 *b = bpf_map_lookup_elem(&pod_state, &cluster);
  return a && b ? *a * 4 + *b : -1;
}

static __always_inline int is_known(const struct connection *c, int state) {
  const __u8 *under = bpf_map_lookup_elem(&connections, c);
  return under && *under == state;
}

static __always_inline int first_packet(const struct connection *c, __be32 remote, __u8 state) {
  const struct network key = {.prefixlen = 32, .addr = remote};
  const struct ports *ports = bpf_map_lookup_elem(&networks, &key);
  if (!ports) return tell(c, 0);
  const __u32 port = bpf_ntohs(c->to_port);
  for (int i = 0; i < PORTS_A_NETWORK; i++) {
    const struct port_range *r = &ports->ranges[i];
    if (!r->last) break;
    if (r->protocol && r->protocol != c->protocol) continue;
    if (r->first && (port < r->first || port > r->last)) continue;
    bpf_map_update_elem(&connections, c, &state, BPF_ANY);
    return tell(c, 1);
  }
  return tell(c, 0);
}

static __always_inline int judged(struct connection *c, __be32 remote) {
  struct connection r = {};
  const int state = state_now();
  if (state < 0) return TC_ACT_SHOT;
  if (is_known(c, state)) return TC_ACT_OK;
  turn(c, &r);
  if (is_known(&r, state)) return TC_ACT_OK;
  return first_packet(c, remote, state);
}

/* What the pod sends. */
SEC("tc")
int peer_out(struct __sk_buff *skb) {
  struct connection c = {};
  if (read_tuple(skb, &c)) return TC_ACT_OK;
  c.pod = c.from;
  return judged(&c, c.to);
}

/* What is delivered to the pod. */
SEC("tc")
int peer_in(struct __sk_buff *skb) {
  struct connection c = {};
  if (read_tuple(skb, &c)) return TC_ACT_OK;
  c.pod = c.to;
  return judged(&c, c.from);
}
