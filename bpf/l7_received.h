/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What the peer of an inspected flow answers: what it has got, and that it accepts the connection. */
#ifndef EA_L7_RECEIVED_H
#define EA_L7_RECEIVED_H

#include "dns_query.h"
#include "l7_http.h"

/* sys/socket.h */
enum { AF_INET = 2, AF_INET6 = 10 };

/* The random of a HelloRetryRequest (RFC 8446, 4.1.3), as four words of this byte order. */
static __always_inline int is_retry(const __u64 *random) {
  return random[0] == 0x11619ae574ad21cfULL && random[1] == 0x91b8651e028c1dbeULL &&
         random[2] == 0x5e8cbb7a1611a2c2ULL && random[3] == 0x9c33a8c8e2099e07ULL;
}

/* Whether the peer's first bytes accept a hello that announced early data, as far as they are in this segment. */
static __always_inline int accepts_hello(struct __sk_buff *skb, const struct packet *p) {
  struct l7_buffer *own = l7_own();
  const __u32 headers = p->l4 - p->l3 + p->header_end;
  if (!own || headers + 43 > p->length || bpf_skb_load_bytes(skb, p->l3 + headers, own->bytes, 43)) return 0;
  if (own->bytes[0] == TLS_ALERT) return 1;
  if (own->bytes[0] != TLS_HANDSHAKE || own->bytes[5] != TLS_SERVER_HELLO) return 0;
  __u64 random[4];
  __builtin_memcpy(random, own->bytes + 11, 32);
  return !is_retry(random);
}

/* Whether a packet that came in by a device which is no endpoint's came by the route to its sender. Behind a bridge
 * it is not seen which pod a packet is from, and one that no policy governs may send in anybody's name: it could
 * acknowledge for a server what never arrived there. */
GLOBAL_FUNCTION int came_by_route(struct __sk_buff *skb, const struct packet *p) {
  if (!p) return 0;
  const __u32 ingress = skb->ingress_ifindex;
  if (!ingress || endpoint_of(ingress)) return 1;
  struct bpf_fib_lookup route = {.family = p->family == 4 ? AF_INET : AF_INET6,
                                 .l4_protocol = p->key.protocol,
                                 .sport = p->key.local_port,
                                 .dport = p->key.remote_port,
                                 .ifindex = skb->ifindex};
  if (p->family == 4) {
    route.ipv4_src = v4_of(p->key.local);
    route.ipv4_dst = v4_of(p->key.remote);
  } else {
    __builtin_memcpy(route.ipv6_src, p->key.local, 16);
    __builtin_memcpy(route.ipv6_dst, p->key.remote, 16);
  }
  const long found = bpf_fib_lookup(skb, &route, sizeof(route), 0);
  return (found != BPF_FIB_LKUP_RET_SUCCESS && found != BPF_FIB_LKUP_RET_NO_NEIGH) ||
         route.ifindex == ingress;
}

/* The answer cannot be judged: nothing is dropped for the audit, which ends. */
static __always_inline int end_audit(const struct packet *p, struct ea_flow *flow) {
  stop_hearing(p, flow);
  return PASS;
}

/* Reads what the peer answers to a request for another protocol. Returns the tc verdict. */
static __always_inline int hear_answer(struct __sk_buff *skb, struct packet *p) {
  struct l7_buffer *own = l7_own();
  if (!p || !own) return DROP;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return DROP;
  struct ea_said_stream *s = said_stream(flow);
  const __u32 headers = p->l4 - p->l3 + p->header_end, size = p->length - headers;
  struct l7_buffer *b = l7_use(s, p->key.endpoint);
  const int audited = s->flags & EA_SAID_AUDITED;
  if (unlikely(!b && audited)) return end_audit(p, flow);
  if (!b || headers > p->length) return drop(skb, p, EA_REASON_OUT_OF_ORDER);
  const __s32 old = b->peer_seq - bpf_ntohl(p->seq);
  int part = HTTP_AWAIT;
  if (old < 0) {
    l7_rest(s, p->key.endpoint, 1);
    return unlikely(audited) ? end_audit(p, flow) : drop(skb, p, EA_REASON_OUT_OF_ORDER);
  }
  if ((__u32)old < size) {
    const __u32 fresh = size - old, read = fresh < HTTP_HEAD_BYTES ? fresh : HTTP_HEAD_BYTES;
    b->peer_seq += fresh;
    part = l7_load(skb, own, 0, p->l3 + headers + old, read) ? HTTP_BROKEN
                                                             : http_answer(http_bytes_of(own), s, 0, read);
    /* A status line takes less than that. */
    if (part == HTTP_AWAIT && read < fresh) part = HTTP_BROKEN;
  }
  l7_rest(s, p->key.endpoint, 1);
  if (part == HTTP_OPAQUE) s->state = EA_SAID_DONE;
  if (part != HTTP_BROKEN) return PASS;
  if (unlikely(audited)) return end_audit(p, flow);
  deny_unheard(p, EA_REASON_UNREADABLE_REQUEST);
  settle(skb, p, EA_EVENT_CHANGED);
  return put_bare(skb, p, bpf_ntohl(p->seq), TCP_RST | TCP_ACK) ? DROP : PASS;
}

/* Notes what the peer of an inspected flow acknowledges. Returns the tc verdict. The flow is held locked. */
GLOBAL_FUNCTION int said_received(struct __sk_buff *skb, struct packet *p) {
  if (!p) return PASS;
  struct ea_flow *flow = held_flow(p);
  if (!flow || !(p->tcp_flags & TCP_ACK) || (p->tcp_flags & TCP_RST) ||
      skb->ingress_ifindex == skb->ifindex || p->fragment || !is_genuine_answer(skb, p) ||
      !came_by_route(skb, p))
    return PASS;
  struct ea_said_stream *s = said_stream(flow);
  const __u32 ack = bpf_ntohl(p->ack);
  if (p->tcp_flags & TCP_SYN) {
    if (s->state != EA_SAID_HANDSHAKE || ack != s->next_seq) return PASS;
    s->flags |= EA_SAID_ACCEPTED;
    /* Where an answer begins, the peer says: what the endpoint acknowledges may be a lie. */
    if (!s->buffer) s->stamp = bpf_ntohl(p->seq) + 1;
    return PASS;
  }
  if (!(s->flags & EA_SAID_ACCEPTED)) return PASS;
  /* A FIN counts as one. */
  const __s32 gained = ack - s->acked_seq, open = s->next_seq - s->acked_seq;
  if (gained > 0 && gained <= open + 1) s->acked_seq = gained > open ? s->next_seq : ack;
  if (unlikely((s->flags & (EA_SAID_EARLY | EA_SAID_ANSWERED)) == EA_SAID_EARLY) && p->carries) {
    if (!accepts_hello(skb, p)) {
      if (s->flags & EA_SAID_AUDITED) return end_audit(p, flow);
      deny_unheard(p, EA_REASON_UNREADABLE_HELLO);
      settle(skb, p, EA_EVENT_CHANGED);
      return put_bare(skb, p, bpf_ntohl(p->seq), TCP_RST | TCP_ACK) ? DROP : PASS;
    }
    s->flags |= EA_SAID_ANSWERED;
    if (s->state == EA_SAID_JUDGED) s->state = EA_SAID_DONE;
  }
  if (unlikely(s->kind == EA_SAID_HTTP && http_part(s) == HTTP_AWAIT && p->carries)) {
    const int verdict = hear_answer(skb, p);
    if (verdict != PASS || !(flow->tcp_state & EA_TCP_SAYS)) return verdict;
  }
  if (s->state == EA_SAID_DONE) {
    if ((__s32)(s->acked_seq - s->base_seq - s->have) >= 0 &&
        (s->flags & (EA_SAID_EARLY | EA_SAID_ANSWERED)) != EA_SAID_EARLY)
      stop_hearing(p, flow);
  } else if (s->kind == EA_SAID_HTTP) {
    const __u32 part = http_part(s);
    const int idle = part == HTTP_CONTENT || (part == HTTP_IN_HEAD && !s->left && (s->body & HTTP_LATER));
    /* The bytes of a body are free, so it needs no buffer once its head has arrived, however long it takes. */
    const __u32 kept_end = part == HTTP_CONTENT ? s->base_seq + s->have : s->next_seq;
    if (idle && s->buffer && (__s32)(s->acked_seq - kept_end) >= 0) l7_drop(s, p->key.endpoint);
  } else if (s->state == EA_SAID_JUDGED && s->buffer && s->acked_seq == s->next_seq) {
    const struct l7_buffer *b = l7_use(s, p->key.endpoint);
    if (b) l7_rest(s, p->key.endpoint, b->begin != s->have);
  }
  return PASS;
}

#endif
