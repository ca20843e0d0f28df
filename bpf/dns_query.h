/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Queries and answers: what an endpoint asked, and which answers count. An answer counts if it comes from the
 * server that it says, if the endpoint asked for it a moment ago (same addresses and ports, id, name, type and
 * class), and if the server is trusted, or was named by the rule that allowed the query. */
#ifndef EA_DNS_QUERY_H
#define EA_DNS_QUERY_H

#include "dns_again.h"
#include "dns_asked.h"
#include "inbound.h"
#include "unread.h"

/* Messages in one packet. */
enum { DNS_MAX_MESSAGES = 128 };

/* Whether the packet's peer is a trusted resolver. */
static __noinline int is_listed_server(const struct packet *p) {
  struct ea_service_key key = {.port = p->key.remote_port};
  __builtin_memcpy(key.addr, p->key.remote, 16);
  return !!bpf_map_lookup_elem(&dns_servers, &key);
}
static __always_inline int is_dns_server(const struct packet *p) {
  const __u8 protocol = p->key.protocol;
  if (protocol != IPPROTO_UDP && protocol != IPPROTO_TCP) return 0;
  return unlikely(is_in_filter(p->key.remote, p->key.remote_port, protocol)) && is_listed_server(p);
}

/* Whether a packet that an endpoint sends says that it is from a trusted resolver. */
GLOBAL_FUNCTION int says_server(const struct packet *p) {
  if (!p) return 0;
  struct ea_service_key key = {.port = p->key.local_port};
  __builtin_memcpy(key.addr, p->key.local, 16);
  return !!bpf_map_lookup_elem(&dns_servers, &key);
}
static __always_inline int speaks_for_server(const struct packet *p) {
  return has_ports(p->key.protocol) &&
         unlikely(is_in_filter(p->key.local, p->key.local_port, p->key.protocol)) && says_server(p);
}

/* Whether a packet to the endpoint that seems to come from a trusted resolver does so. Nobody but the node
 * itself and the network can send it, with two exceptions: a pod of this node sends from its own address, and
 * what comes from a Service's address was translated by the node. For that the packet's own connection is the
 * evidence: only a packet that has the addresses and ports which the chosen backend's answer must have is a
 * reply of it. */
GLOBAL_FUNCTION int is_genuine_answer(struct __sk_buff *skb, const struct packet *p) {
  if (!p) return 0;
  if (!skb->ingress_ifindex) return 1;
  const struct ea_endpoint *from = endpoint_of(skb->ingress_ifindex);
  if (from && (from->flags & EA_EP_NODE)) from = NULL;
  __u8 addr[16] = {};
  __be16 port = 0;
  {
    struct ea_service_key key = {.port = p->key.remote_port, .protocol = p->key.protocol};
    __builtin_memcpy(key.addr, p->key.remote, 16);
    if (!bpf_map_lookup_elem(&services, &key)) return !from || owns(from, p->key.remote);
  }
  const unsigned long nfct = carried_connection(skb), held = nfct & ~(unsigned long)CT_INFO_MASK;
  if (nfct) {
    if (!is_reply_direction(nfct)) return 0;
    if (!from) return 1;
    copy_carried(p, held + bpf_core_field_offset(struct nf_conn, tuplehash[1].tuple.src.u3),
                 held + bpf_core_field_offset(struct nf_conn, tuplehash[1].tuple.src.u), addr, &port);
    return owns(from, addr);
  }
  __u8 dir = 0;
  struct nf_conn *ct = lookup_connection(skb, p, &dir);
  if (!ct) return 0;
  copy_address(&ct->tuplehash[1].tuple.src.u3, p, addr);
  bpf_ct_release(ct);
  return dir == 0 && (!from || owns(from, addr));
}

/* Reads the query in the buffer dns_work.buffer: its name into texts[0], the rest into dns_work.question. 0:
 * done. -1: it is no query, is malformed, or asks another number of questions. */
GLOBAL_FUNCTION int read_query(void) {
  struct dns_work *w = dns_work();
  if (!w) return -1;
  const struct dns_buffer *m = dns_buffer(w->buffer);
  if (!m || read_question(m, &w->question)) return -1;
  return w->question.flags & (DNS_QR | DNS_OPCODE) ? -1 : 0;
}

/* Reads the answer in the buffer dns_work.buffer, for the endpoint in name_work.learning. 1: it counts, and is
 * well-formed. 2: the same, and all of it is known already. 0: it teaches nothing. -1: nobody asked for it. */
GLOBAL_FUNCTION int read_expected_answer(const struct packet *p) {
  struct name_work *names = name_work();
  struct dns_work *w = dns_work();
  if (!p || !names || !w) return 0;
  const struct dns_buffer *m = dns_buffer(w->buffer);
  w->asked_ns = 0;
  if (!m || read_question(m, &w->question)) return 0;
  if (!was_asked(p, w, names->texts[0].hash)) return -1;
  w->answer = hash_answer(m);
  if (is_learned_again(w->answer)) return 2;
  if (read_answer(m, &w->question, names, w)) return 0;
  if (!is_learned_again(w->said)) return 1;
  note_learned_answer(w->answer);
  return 2;
}

/* Reads what a datagram's first fragment has of an answer, as far as its question. 1: the endpoint asked for it.
 * 0: it did not. -1: the question is not there, or is malformed. */
GLOBAL_FUNCTION int read_first_fragment(struct __sk_buff *skb, const struct packet *p) {
  const struct name_work *names = name_work();
  struct dns_work *w = dns_work();
  if (!p || !names || !w) return -1;
  const __u32 headers = p->l4 - p->l3 + 8, most = DNS_QUERY_BYTES;
  w->asked_ns = 0;
  if (p->length < headers) return -1;
  const __u32 length = p->length - headers;
  if (load_message(skb, p, p->l4 + 8, length < most ? length : most, w)) return -1;
  const struct dns_buffer *m = dns_buffer(w->buffer);
  if (!m || read_question(m, &w->question)) return -1;
  return was_asked(p, w, names->texts[0].hash);
}

static __always_inline int count_untrusted(struct __sk_buff *skb, const struct packet *p) {
  struct ea_name_holding *h = name_holding(slot_of(skb->ifindex));
  if (h) __sync_fetch_and_add(&h->untrusted, 1);
  report_dns(p, EA_DNS_UNTRUSTED);
  return PASS;
}

/* Whether the flow's queries are judged: then a rule says that its peer may be asked. */
static __always_inline int is_judged(const struct packet *p) {
  const struct ea_flow *flow = held_flow(p);
  return flow && !(flow->tcp_state & EA_TCP_SAYS) && (flow->extra.streams[0].flags & EA_STREAM_JUDGED);
}

/* Notes that the peer has acknowledged all that the endpoint sent, and that it has accepted the connection. */
static __always_inline void note_acknowledged(const struct packet *p) {
  struct ea_flow *flow = held_flow(p);
  if (!flow || !(p->tcp_flags & TCP_ACK)) return;
  struct ea_dns_stream *sent = &flow->extra.streams[0];
  if (bpf_ntohl(p->ack) != sent->next_seq) return;
  if ((p->tcp_flags & (TCP_SYN | TCP_RST)) == TCP_SYN && sent->stamp == sent->next_seq)
    sent->flags |= EA_STREAM_ACCEPTED;
  sent->stamp = sent->next_seq;
}

/* A first fragment of what a trusted resolver sends. Its datagram cannot be read: the other fragments come each
 * by itself. So it becomes a truncated answer, and the others are dropped. Returns the tc verdict. */
static __always_inline int receive_fragment(struct __sk_buff *skb, const struct packet *p) {
  const int asked = read_first_fragment(skb, p);
  if (asked == 0) return count_untrusted(skb, p);
  remember_first(p, 0);
  if (asked < 0 || put_truncated(skb, p)) return drop(skb, p, EA_REASON_UNREADABLE_ANSWER);
  report_dns(p, EA_DNS_ANSWERED);
  return PASS;
}

/* Whether the segment cannot be read when it comes again. `more`: it has more messages than are read in one; a
 * large one, of several, comes again in its parts. */
static __always_inline int is_unreadable_for_good(const struct __sk_buff *skb, const struct packet *p,
                                                  int more) {
  const struct ea_flow *flow = held_flow(p);
  if (p->key.protocol != IPPROTO_TCP) return 0;
  return more > 0 ? !skb->gso_size : flow && (flow->extra.streams[1].flags & EA_STREAM_LOST);
}

/* Ends a connection with a trusted resolver whose stream cannot be read any more. In place of the segment, the
 * endpoint gets a reset, so that the client tries anew. What the resolver sends again loses its data, and is
 * answered by the endpoint's kernel, which no longer has such a connection, by a reset (RFC 9293, 3.10.7.1). If
 * it still has the connection, the next one is a reset again. Returns the tc verdict. */
static __always_inline int end_connection(struct __sk_buff *skb, const struct packet *p) {
  struct ea_flow *flow = held_flow(p);
  __u32 seq = bpf_ntohl(p->seq), flags = TCP_RST | TCP_ACK;
  if (flow) {
    struct ea_dns_stream *stream = stream_of(flow, p);
    if (stream->flags & EA_STREAM_SYNCED) {
      /* Who does not know the place, such as a forger, ends nothing. */
      if (stream->next_seq - seq > p->length) return drop(skb, p, EA_REASON_UNREADABLE_ANSWER);
      seq = stream->next_seq;
    }
    end_stream(stream, p->key.endpoint);
    if (stream->flags & EA_STREAM_ENDED) flags = TCP_ACK;
    stream->flags = (stream->flags | EA_STREAM_LOST) ^ EA_STREAM_ENDED;
  }
  if (p->fragment) remember_first(p, 0);
  drop(skb, p, EA_REASON_UNREADABLE_ANSWER);
  return put_bare(skb, p, seq, flags) ? DROP : PASS;
}

/* Learns what a packet to the endpoint answers. Returns the tc verdict. The flow, if it is of TCP, is held
 * locked. */
GLOBAL_FUNCTION int dns_received(struct __sk_buff *skb, const struct packet *p) {
  struct name_work *names = name_work();
  struct dns_work *w = dns_work();
  /* What comes from the device that it goes to is this program's own answer to a query (refuse.h). */
  if (!p || !names || !w || (p->hook == EA_HOOK_TO_POD && skb->ingress_ifindex == skb->ifindex)) return PASS;
  const int tcp = p->key.protocol == IPPROTO_TCP, judged = is_judged(p);
  const int reads = !tcp || p->carries || (p->tcp_flags & TCP_SYN);
  if (!reads && !judged) return PASS;
  w->trusted = is_dns_server(p);
  if ((!judged && !w->trusted) || !is_genuine_answer(skb, p)) return count_untrusted(skb, p);
  if (tcp && judged) note_acknowledged(p);
  if (!reads) return PASS;
  if (!tcp && unlikely(p->fragment)) return receive_fragment(skb, p);
  const int found = dns_open(skb, p);
  if (found == DNS_GAP) return drop(skb, p, EA_REASON_OUT_OF_ORDER);
  if (found == DNS_UNREADABLE) return tcp ? end_connection(skb, p) : PASS;
  if (found == DNS_NOTHING) return PASS;
  struct learning *learning = &names->learning;
  learning->endpoint = p->key.endpoint;
  learning->payer = slot_of(skb->ifindex);
  __builtin_memcpy(learning->resolver, p->key.remote, 16);
  learning->resolver_port = p->key.remote_port;
  int more = 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < DNS_MAX_MESSAGES; i++) {
    more = dns_next(skb, p);
    if (more <= 0) break;
    const int counts = read_expected_answer(p);
    if (counts < 0) count_untrusted(skb, p);
    if (counts == 1) {
      if (w->ech_lists) learn_ech();
      if (learn_answer()) {
        more = -1;
        break;
      }
      note_learned_answer(w->answer);
      note_learned_answer(w->said);
    }
    /* Who asks much would fill its share of the flow table with records of queries. */
    if (counts > 0) forget_query(p, w);
    if (counts >= 0 && w->asked_ns) report_dns(p, EA_DNS_ANSWERED);
    if (!tcp && !w->unread) return PASS;
  }
  dns_close(p, !more);
  if (likely(!more)) return PASS;
  if (is_unreadable_for_good(skb, p, more)) return end_connection(skb, p);
  return drop(skb, p, EA_REASON_UNREADABLE_ANSWER);
}

/* In place of a verdict of dns_sent(). WITHHELD: the query that was read last is to be answered, and goes no
 * further. UNREAD: the packet may have such a query, and cannot be read. */
enum { WITHHELD = 10, UNREAD = 11 };

/* From now on each packet of the flow is read. Its memory for streams may have a name in it. */
static __always_inline void inspect_flow(struct ea_flow *flow) {
  if (flow->tcp_state & EA_TCP_INSPECT) return;
  __builtin_memset(&flow->extra, 0, sizeof(flow->extra));
  flow->tcp_state |= EA_TCP_INSPECT;
}

/* Remembers the queries in a packet that the endpoint sends. Returns the tc verdict. The flow, if it is of
 * TCP, is held locked. */
GLOBAL_FUNCTION int dns_sent(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  if (!p || !w) return PASS;
  const int tcp = p->key.protocol == IPPROTO_TCP;
  if (tcp && !p->carries && !(p->tcp_flags & TCP_SYN)) return PASS;
  const int found = dns_open(skb, p);
  if (found == DNS_GAP) return drop(skb, p, EA_REASON_OUT_OF_ORDER);
  if (unlikely(found == DNS_UNREADABLE) && withholds()) return UNREAD;
  if (found != DNS_READ) return PASS;
  int more = 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < DNS_MAX_MESSAGES; i++) {
    more = dns_next(skb, p);
    if (more <= 0) break;
    if (!read_query()) {
      if (unlikely(is_withheld(w))) {
        dns_close(p, 0);
        return WITHHELD;
      }
      remember_query(skb, p);
    }
    if (!tcp && !w->unread) return PASS;
  }
  dns_close(p, !more);
  return more ? drop(skb, p, EA_REASON_UNREADABLE_QUERY) : PASS;
}

#endif
