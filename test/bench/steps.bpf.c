// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* What a packet of a known flow pays for, step by step: the agent's own programs, and beside them some that go its way
 * and stop after one more step each. Each differs from the one before by one step, so the difference is what it takes.
 * Nothing is copied here: the steps are the functions of bpf/, in the order in which from_pod calls them. */
#include "../../bpf/egress.bpf.c"

/* The compiler would leave out what nobody looks at. */
#define USED(x) asm volatile("" : : "r"((__u64)(x)))
#define USED_ALL(pointer) asm volatile("" : : "r"(pointer) : "memory")

SEC("tc")
int step_nothing(struct __sk_buff *skb) {
  USED(skb);
  return PASS;
}

/* Who the packet is from, and the policy in force: the beginning of both ways. */
static __always_inline const struct ea_endpoint *endpoint_step(struct __sk_buff *skb, struct packet *p) {
  return identify_endpoint(skb, p, EA_HOOK_FROM_POD);
}

SEC("tc")
int step_endpoint(struct __sk_buff *skb) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_step(skb, &p);
  if (!ep) return DROP;
  USED(p.set);
  USED(p.epoch);
  return PASS;
}

static __always_inline int header_step(struct __sk_buff *skb, struct quick *q) {
  const void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  const void *l3 = data + sizeof(struct ethhdr);
  const __u32 available = skb->len - sizeof(struct ethhdr);
  if (l3 > end) return 0;
  if (*(const __u16 *)(data + offsetof(struct ethhdr, h_proto)) == bpf_htons(ETH_P_IP))
    return read_v4(q, l3, end, available, 1) && !is_unfinished(skb, q, sizeof(struct ethhdr) + 20);
  return read_v6(q, l3, end, available, 1) && !is_unfinished(skb, q, sizeof(struct ethhdr) + 40);
}

/* Headers read and checked. */
SEC("tc")
int step_parse(struct __sk_buff *skb) {
  struct packet p = {};
  struct quick q;
  const struct ea_endpoint *ep = endpoint_step(skb, &p);
  if (!ep || !header_step(skb, &q)) return DROP;
  USED(p.set);
  USED(p.epoch);
  USED(q.length + q.flags + q.ports + q.local[3] + q.remote[3]);
  return PASS;
}

/* The key's hash. */
SEC("tc")
int step_key(struct __sk_buff *skb) {
  struct packet p = {};
  struct quick q;
  const struct ea_endpoint *ep = endpoint_step(skb, &p);
  const struct ea_state *st = current_state();
  if (!ep || !st || !header_step(skb, &q)) return DROP;
  USED(quick_hash(&q, ep->id, st, 0));
  USED(q.length);
  return PASS;
}

static __always_inline struct ea_flow *lookup_step(struct __sk_buff *skb, struct quick *q) {
  struct packet p = {};
  const struct ea_endpoint *ep = endpoint_step(skb, &p);
  const struct ea_state *st = current_state();
  if (!ep || !st || !header_step(skb, q)) return NULL;
  const __u64 hash = quick_hash(q, ep->id, st, 0);
  __u32 seen = 0;
  struct ea_entry *e = find_quick_in(first_bucket(hash, st), tag_of(hash), q, ep->id, &seen);
  if (!e || READ_ONCE(e->flow.epoch) != p.epoch || READ_ONCE(e->flow.set) != p.set) return NULL;
  asm volatile("" : "+r"(e));
  return &e->flow;
}

SEC("tc")
int step_lookup(struct __sk_buff *skb) {
  struct quick q;
  return lookup_step(skb, &q) ? PASS : DROP;
}

SEC("tc")
int step_counters(struct __sk_buff *skb) {
  struct quick q;
  struct ea_flow *flow = lookup_step(skb, &q);
  if (!flow) return DROP;
  add_packet(flow, 1, q.length);
  const __u64 now = bpf_jiffies64();
  if (flow->last_jiffies != now) flow->last_jiffies = now;
  return PASS;
}
