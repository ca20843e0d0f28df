// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The entry points: four hooks, and three programs that the agent runs by hand. Each hook reads straight down:
 * the endpoint, the packet (parse), its flow (flow table), the verdict (rules), the event. */
#include "sends.h"

/* The kernel's name for code that is dual-licensed with the GPL: some helpers are for such programs only. */
char _license[] SEC("license") = "GPL";

/* Hook: judges what the endpoint sends. */
SEC("tc")
int from_pod(struct __sk_buff *skb) {
  const int verdict = fast_sent(skb);
  return likely(verdict < SLOW_PATH) ? verdict : slow_path(skb, verdict);
}

/* In place of a verdict: the packet passes if the DNS message in it does. Its flow is still held. */
enum { TO_BE_READ = 6 };

/* Whether a packet comes from where the endpoint's queries are judged. It opens no flow: what the endpoint
 * sends there would pass as its answer. A resolver answers all who ask, so that an answer for which the flow is
 * gone would be one, and so would what an accomplice sends in its name. */
static __always_inline int is_late_answer(const struct packet *p) {
  return unlikely(p->set & EA_SET_QUERIES) && is_dns_server(p);
}

static __noinline int pod_receives(struct __sk_buff *skb, const int noted) {
  struct packet *p = noted ? this_packet() : fresh_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep =
      noted ? endpoint_of(skb->ifindex) : identify_endpoint(skb, p, EA_HOOK_TO_POD);
  if (unlikely(!ep)) return PASS;
  /* A denied packet is dropped here without an answer. The answer would be sent back through this interface,
   * where it would be judged and reported as the endpoint's own packet. */
  const __u32 flags = ep->flags & ~(EA_EP_IN_POD | EA_EP_REJECT);
  const int kind = noted ? PACKET_FLOW : parse_global(skb, p, flags & EA_EP_L3 ? PARSE_L3 : 0);
  if (unlikely(kind != PACKET_FLOW)) return check_without_flow(skb, p, kind, flags);

  struct ea_flow *flow = take(p);
  if (unlikely(!flow || begins_inbound(flow, p)) && p->opens && is_addressed_to(ep, p->key.local) &&
      has_genuine_source(skb, p, ep) && !is_reply_to_endpoint(skb, p) && !is_late_answer(p))
    flow = open_inbound(skb, p);
  const int inspected = flow && (flow->tcp_state & EA_TCP_INSPECT);
  const int verdict = deliver(skb, p, flow, flags);
  if (verdict == PASS && unlikely(p->fragment)) pass_first(p);
  if (verdict == PASS && unlikely(inspected)) return TO_BE_READ;
  release(p);
  return verdict;
}

/* Hook: what is delivered to the endpoint. Records inbound flows, and runs the post-DNAT check. */
SEC("tc")
int to_pod(struct __sk_buff *skb) {
  int verdict = fast_received(skb);
  if (likely(verdict < SLOW_PATH)) return verdict;
  verdict = pod_receives(skb, verdict == PACKET_FILLED);
  if (likely(verdict != TO_BE_READ)) return verdict;
  struct packet *p = this_packet();
  if (!p) return DROP;
  const struct ea_flow *flow = held_flow(p);
  const int says = flow && (flow->tcp_state & EA_TCP_SAYS);
  verdict = says && p->key.protocol == IPPROTO_UDP ? datagrams_received(skb, p)
            : says                                 ? said_received(skb, p)
                                                   : dns_received(skb, p);
  release(p);
  return verdict;
}

/* Whether a socket of the node's own waits for a datagram. A reply to a pod that is masqueraded with the
 * node's address has none. */
static __always_inline int has_socket(struct __sk_buff *skb, const struct packet *p) {
  struct bpf_sock_tuple tuple = {};
  struct bpf_sock *sk;
  if (p->family == 4) {
    tuple.ipv4.saddr = v4_of(p->key.remote);
    tuple.ipv4.daddr = v4_of(p->key.local);
    tuple.ipv4.sport = p->key.remote_port;
    tuple.ipv4.dport = p->key.local_port;
    sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
  } else {
    __builtin_memcpy(tuple.ipv6.saddr, p->key.remote, 16);
    __builtin_memcpy(tuple.ipv6.daddr, p->key.local, 16);
    tuple.ipv6.sport = p->key.remote_port;
    tuple.ipv6.dport = p->key.local_port;
    sk = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
  }
  if (!sk) return 0;
  bpf_sk_release(sk);
  return 1;
}

/* Hook: what arrives at a node that a policy governs. Records inbound flows, so that the node's replies
 * pass. */
SEC("tc")
int uplink_in(struct __sk_buff *skb) {
  struct packet *p = fresh_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = identify_endpoint(skb, p, EA_HOOK_UPLINK);
  if (unlikely(!ep)) return PASS;
  const int kind = parse_global(skb, p, ep->flags & EA_EP_L3 ? PARSE_L3 : 0);
  if (unlikely(kind != PACKET_FLOW)) {
    /* The first fragment was an answer to the node, and has become another packet: dns_received(). */
    const int follows = kind == PACKET_LATER && first_of(p, 1) == FIRST_DROPPED;
    return follows ? drop(skb, p, EA_REASON_FRAGMENT) : PASS;
  }
  struct ea_flow *flow = take(p);
  /* The entry belongs to a pod's connection: the packet is a reply on its way to the pod, unless it is a SYN
   * that no translated connection expects. */
  const int is_pods_reply =
      flow && (flow->flags & EA_FLOW_POST_DNAT) && !(is_syn(p) && !is_reply_to_translated(skb, p));
  const int begins = !flow || begins_inbound(flow, p) || (flow->flags & EA_FLOW_POST_DNAT);
  if (!is_pods_reply && begins && p->opens && owns(ep, p->key.local) &&
      (p->key.protocol != IPPROTO_UDP || has_socket(skb, p)))
    flow = open_inbound(skb, p);
  int verdict = PASS;
  if (unlikely(p->fragment)) pass_first(p);
  if (flow && !is_pods_reply) {
    const int inspected = flow->tcp_state & EA_TCP_INSPECT;
    account(flow, p);
    step(skb, p, flow);
    if (unlikely(inspected)) verdict = dns_received(skb, p);
  }
  release(p);
  return verdict;
}

/* A packet that the node forwards, after its translations: the post-DNAT check. */
static __always_inline int forward(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow,
                                   __u32 flags) {
  const int checked = flow && (flow->flags & EA_FLOW_POST_DNAT);
  if (!checked || flow->epoch != p->epoch || flow->verdict == EA_VERDICT_DENY || is_syn(p) || p->fragment ||
      (flow->flags & EA_FLOW_MASQUERADED)) {
    p->unrelated = flow && !checked; /* the entry is of the node's own flow */
    const int verdict = post_dnat_check(skb, p, checked ? flow : NULL, flags);
    if (verdict != PASS || !checked) return verdict;
  }
  account(flow, p);
  if (p->key.protocol == IPPROTO_TCP) tcp_step(skb, p, flow);
  return PASS;
}

/* A packet that the node itself sends, where no policy governs it: recorded and passed. */
GLOBAL_FUNCTION int observe(struct __sk_buff *skb, struct packet *p, struct ea_flow *flow) {
  if (!p) return PASS;
  /* A SYN begins a new flow. An entry that says that the node answered a peer under this key is out of
   * date. */
  const int restarts =
      flow && is_syn(p) && ((flow->tcp_state & EA_TCP_CLOSED) || (flow->flags & EA_FLOW_INBOUND));
  if (flow && !restarts && !(flow->flags & EA_FLOW_POST_DNAT)) {
    account(flow, p);
    if (p->key.protocol == IPPROTO_TCP) tcp_step(skb, p, flow);
    return PASS;
  }
  struct ea_flow *fresh = begin(p);
  if (!fresh) return PASS;
  fresh->verdict = EA_VERDICT_ALLOW;
  fresh->reason = EA_REASON_OBSERVED;
  /* SYN and ACK: the node answers a connection that a peer opened. Arriving packets are not seen here. */
  if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
    fresh->flags = EA_FLOW_INBOUND | EA_FLOW_CONFIRMED;
  fresh->cpu_out = bpf_get_smp_processor_id();
  fresh->packets_out = 1;
  fresh->bytes_out = p->length;
  report(skb, p, fresh, EA_EVENT_VERDICT);
  enter(p, fresh);
  return PASS;
}

/* Hook: what leaves the node. Its own traffic is judged if a policy governs the node, and observed otherwise.
 * Forwarded packets get the post-DNAT check, for Services with remote backends. A packet is the node's own if
 * it has a socket and came in by no device: what is forwarded, or wrapped for a tunnel, has no socket any
 * more. */
SEC("tc")
int uplink(struct __sk_buff *skb) {
  const struct ea_state *st = current_state();
  const int own = skb->sk && !skb->ingress_ifindex;
  if (!own && (!st || !st->post_dnat)) return PASS;
  struct packet *p = fresh_packet();
  if (!p) return DROP;
  const struct ea_endpoint *ep = identify_endpoint(skb, p, EA_HOOK_UPLINK);
  if (unlikely(!ep)) return PASS;
  p->forwarded = !own;
  const __u32 flags = ep->flags & ~EA_EP_IN_POD;
  const int kind = parse_global(skb, p, DIRECTION_OUT | (flags & EA_EP_L3 ? PARSE_L3 : 0));
  if (unlikely(kind != PACKET_FLOW)) {
    if (!own) return check_without_flow(skb, p, kind, flags);
    /* ICMP errors that the node sends as a router are about the flows of others: never denied. */
    if (!p->set || kind == PACKET_LINK || kind == PACKET_ERROR) return PASS;
    if (kind != PACKET_LATER) return drop(skb, p, -kind);
    const int verdict = follow_first(skb, p, ep);
    if (verdict != FOLLOW_FLOW) return verdict;
  }

  struct ea_flow *flow = take(p);
  int verdict = !own     ? forward(skb, p, flow, flags)
                : p->set ? verdict_on(skb, p, ep, flow)
                         : observe(skb, p, flow);
  if (own && p->set && verdict == PASS && unlikely(is_dns_server(p))) verdict = read_dns(skb, p, ep);
  release(p);
  return verdict;
}

/* Not a hook; the agent runs it by hand. Stores connections that were opened to an endpoint, and answered by
 * it, before the hooks were attached. The "packet" is a meaningless Ethernet header and a struct ea_flow_key.
 * cb[0]: 1 to replace an existing entry; cb[1]: the endpoint's interface. Result in cb[2]: enum ea_seeded. */
SEC("tc")
int seed(struct __sk_buff *skb) {
  struct scratch *s = seed_scratch();
  struct ea_flow_key key;
  struct place at = {};
  skb->cb[2] = EA_SEED_REFUSED;
  if (!s || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &key, sizeof(key))) return PASS;
  if (!skb->cb[0] && find(&key, &at)) {
    skb->cb[2] = EA_SEED_KNOWN;
    return PASS;
  }
  struct ea_flow *flow = &s->side_flow;
  __builtin_memset(flow, 0, sizeof(*flow));
  flow->verdict = EA_VERDICT_ALLOW;
  flow->reason = EA_REASON_REPLY;
  flow->flags = EA_FLOW_INBOUND | EA_FLOW_SEEDED | EA_FLOW_CONFIRMED;
  if (key.protocol == IPPROTO_TCP) flow->tcp_state = EA_TCP_OPEN;
  flow->created_ns = bpf_ktime_get_ns();
  flow->last_jiffies = bpf_jiffies64();
  flow->payer = slot_of(skb->cb[1]);
  flow->cpu_out = flow->cpu_in = EA_NO_CPU;
  if (put_side_record(&key, flow, s)) skb->cb[2] = EA_SEED_ENTERED;
  return PASS;
}

/* Not a hook; the agent runs it by hand. Learns an address for an endpoint, as if an answer had been
 * delivered. The "packet" is a meaningless Ethernet header, a struct ea_learn, and the text. Result in cb[2]:
 * 0, or why it was not learned (names.h). */
SEC("tc")
int learn(struct __sk_buff *skb) {
  struct name_work *w = name_work();
  const struct ea_name_state_words *st = name_words();
  struct ea_learn in;
  skb->cb[2] = NAME_NO_ROOM;
  if (!w || !st || bpf_skb_load_bytes(skb, sizeof(struct ethhdr), &in, sizeof(in))) return PASS;
  struct name_text *t = &w->texts[TEXT_QUESTION];
  __u32 length = in.length;
  asm volatile("%0 &= 0xff" : "+r"(length));
  if (length > EA_NAME_TEXT - 3) return PASS;
  __builtin_memset(t, 0, sizeof(*t));
  if (length && bpf_skb_load_bytes(skb, sizeof(struct ethhdr) + sizeof(in), t->bytes, length)) return PASS;
  t->length = length;
  t->hash = hash_text(t, st);
  w->incarnations[TEXT_QUESTION] = 0;
  w->learning = (struct learning){.endpoint = in.endpoint,
                                  .payer = slot_of(in.ifindex),
                                  .text = TEXT_QUESTION,
                                  .alias = in.alias,
                                  .ttl_s = in.ttl_s,
                                  .flags = in.flags,
                                  .resolver_port = in.resolver_port};
  __builtin_memcpy(w->learning.addr, in.addr, 16);
  __builtin_memcpy(w->learning.resolver, in.resolver, 16);
  skb->cb[2] = learn_address();
  return PASS;
}

/* Not a hook; the agent runs it by hand. Returns the kernel's jiffies in cb[0] (low half) and cb[1]. */
SEC("tc")
int clock(struct __sk_buff *skb) {
  const __u64 jiffies = bpf_jiffies64();
  skb->cb[0] = jiffies;
  skb->cb[1] = jiffies >> 32;
  return PASS;
}
