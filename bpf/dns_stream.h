/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The DNS messages in a packet: one in a datagram; over TCP any number, each behind two bytes with its length
 * (RFC 1035, 4.2.2; RFC 7766), in segments that are cut anywhere.
 *
 *   dns_open()    what is in the packet
 *   dns_next()    the next message that is whole, in the buffer dns_work.buffer
 *   dns_close()   the packet passes or is dropped
 *
 * A stream is read in sequence only. A segment behind a gap is dropped, TCP sends it again; what was read
 * before is skipped. A stream whose beginning was not seen is not read: whoever can choose where reading
 * begins can choose what is read. Its state is in the flow, which the packet's program holds locked. */
#ifndef EA_DNS_STREAM_H
#define EA_DNS_STREAM_H

#include "dns.h"
#include "dns_memory.h"
#include "flow.h"
#include "skb.h"

/* Results of dns_open(). READ: call dns_next() until it finds nothing more, then dns_close(). NOTHING: the
 * packet has nothing to read. UNREADABLE: it has, but it cannot be read. GAP: drop it, it will come again. */
enum { DNS_READ = 0, DNS_NOTHING = 1, DNS_UNREADABLE = 2, DNS_GAP = 3 };

/* Bytes of a query that are read: header, question, and the OPT record that may follow. */
enum { DNS_OPT_BYTES = 11, DNS_QUERY_BYTES = DNS_HEADER + 255 + 4 + DNS_OPT_BYTES };

/* Copies a message of `length` bytes, 65535 at most, into a CPU's buffer. Of what an endpoint sends, only the
 * first DNS_QUERY_BYTES. */
static __always_inline int load_message(struct __sk_buff *skb, const struct packet *p, __u32 at, __u32 length,
                                        struct dns_work *w) {
  const __u32 index = EA_DNS_STREAMS + bpf_get_smp_processor_id();
  struct dns_buffer *m = dns_buffer(index);
  __u64 size = p->out && length > DNS_QUERY_BYTES ? DNS_QUERY_BYTES : length;
  if (!m) return -1;
  asm volatile("%0 &= 0xffff" : "+r"(size));
  m->length = size;
  w->buffer = index;
  w->loaded = 1;
  return size && bpf_skb_load_bytes(skb, at, m->bytes, size) ? -1 : 0;
}

static __always_inline struct ea_dns_stream *stream_of(struct ea_flow *flow, const struct packet *p) {
  return p->out ? &flow->extra.streams[0] : &flow->extra.streams[1];
}

/* Gives back the buffer of a stream that ends. */
static __always_inline void end_stream(struct ea_dns_stream *stream, __u32 endpoint) {
  if (busy_buffer(stream, endpoint)) rest_buffer(stream, endpoint, 0);
}

static __always_inline int open_datagram(struct __sk_buff *skb, const struct packet *p, struct dns_work *w) {
  const __u32 ip = p->l4 - p->l3;
  __be16 field = 0;
  if (p->fragment || (p->out && !is_as_judged(skb, p)) || load(skb, p->l4 + 4, &field)) return DNS_UNREADABLE;
  __u32 length = bpf_ntohs(field);
  w->piece = 65535;
  if (unlikely(skb->gso_size)) {
    /* Several datagrams, joined on their way in; it is not told how what an endpoint sends will be cut. */
    if (p->out) return DNS_UNREADABLE;
    w->piece = skb->gso_size;
    length = p->length - ip;
  }
  if (length < 8 || ip + length > p->length) return DNS_UNREADABLE;
  w->unread_at = p->l4 + 8;
  w->unread = length - 8;
  return DNS_READ;
}

static __always_inline int open_segment(const struct packet *p, struct dns_work *w) {
  const __u32 headers = p->l4 - p->l3 + p->header_end;
  __u32 seq = bpf_ntohl(p->seq);
  struct ea_flow *flow = held_flow(p);
  w->unread = p->fragment || headers > p->length ? 0 : p->length - headers;
  w->unread_at = p->l3 + headers;
  if (p->fragment) return DNS_UNREADABLE;
  if (p->tcp_flags & TCP_RST) return DNS_NOTHING;
  if (!flow) return w->unread || (p->tcp_flags & TCP_SYN) ? DNS_GAP : DNS_NOTHING;
  struct ea_dns_stream *stream = stream_of(flow, p);
  if (p->tcp_flags & TCP_SYN) {
    seq++;
    if (p->out || !(stream->flags & EA_STREAM_SYNCED)) {
      end_stream(stream, p->key.endpoint);
      *stream = (struct ea_dns_stream){.next_seq = seq, .flags = EA_STREAM_SYNCED};
    }
    if (p->out) {
      /* A new connection: the peer's answer says where its stream begins. */
      end_stream(&flow->extra.streams[1], p->key.endpoint);
      flow->extra.streams[1] = (struct ea_dns_stream){};
    }
  }
  if (!w->unread) return DNS_NOTHING;
  /* Where queries are not followed any more, answers to them would teach nothing. */
  const __u8 lost = (stream->flags | flow->extra.streams[0].flags) & EA_STREAM_LOST;
  if (lost || !(stream->flags & EA_STREAM_SYNCED)) return DNS_UNREADABLE;
  const __s32 old = stream->next_seq - seq;
  if (old < 0) return DNS_GAP;
  if ((__u32)old >= w->unread) return DNS_NOTHING;
  w->end_seq = seq + w->unread;
  w->unread_at += old;
  w->unread -= old;
  w->stream = *stream;
  return DNS_READ;
}

/* Finds out what is to be read in a packet: DNS_READ and the like. */
GLOBAL_FUNCTION int dns_open(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  if (!p || !w) return DNS_UNREADABLE;
  w->stream.buffer = w->done.buffer = w->loaded = 0;
  return p->key.protocol == IPPROTO_TCP ? open_segment(p, w) : open_datagram(skb, p, w);
}

/* Appends the next bytes of the packet to the message in a stream's buffer: `size` bytes. */
GLOBAL_FUNCTION int append_bytes(struct __sk_buff *skb, struct dns_buffer *b, struct dns_work *w,
                                 __u32 size) {
  if (!b || !w) return -1;
  w->limit = size;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < 17; i++) {
    const __u32 left = w->limit;
    if (!left) return 0;
    __u64 part = left < 4096 ? left : 4096;
    asm volatile("%0 &= 0x1fff" : "+r"(part));
    if (!part || part > 4096) return -1;
    if (bpf_skb_load_bytes(skb, w->unread_at, b->bytes + in_message(w->stream.have), part)) return -1;
    w->limit = left - part;
    w->stream.have += part;
    w->unread_at += part;
    w->unread -= part;
  }
  return -1;
}

/* Goes on in the segment. 1: a message is whole. 0: there is none any more. -1: drop the packet. */
static __always_inline int next_in_stream(struct __sk_buff *skb, const struct packet *p, struct dns_work *w) {
  struct ea_dns_stream *s = &w->stream;
  if (!w->unread) return 0;
  if (!(s->flags & EA_STREAM_LENGTH)) {
    __u8 field[2] = {s->first, 0};
    const __u32 half = s->flags & EA_STREAM_HALF ? 1 : 0;
    if (half ? bpf_skb_load_bytes(skb, w->unread_at, field + 1, 1)
             : bpf_skb_load_bytes(skb, w->unread_at, field, 1))
      return -1;
    if (!half) {
      if (w->unread == 1) {
        s->first = field[0];
        s->flags |= EA_STREAM_HALF;
        w->unread = 0;
        return 0;
      }
      if (bpf_skb_load_bytes(skb, w->unread_at + 1, field + 1, 1)) return -1;
    }
    w->unread_at += 2 - half;
    w->unread -= 2 - half;
    s->length = field[0] << 8 | field[1];
    s->have = 0;
    s->flags = (s->flags & ~EA_STREAM_HALF) | EA_STREAM_LENGTH;
  }
  const __u32 length = s->length;
  if (!s->have && w->unread >= length) {
    const __u32 at = w->unread_at;
    w->unread_at += length;
    w->unread -= length;
    s->flags &= ~EA_STREAM_LENGTH;
    return load_message(skb, p, at, length, w) ? -1 : 1;
  }
  if (!w->unread) return 0;
  if (!s->buffer && !take_buffer(s, p->key.endpoint)) return -1;
  struct dns_buffer *b = s->have ? busy_buffer(s, p->key.endpoint) : dns_buffer((__u32)s->buffer - 1);
  if (!b) {
    struct ea_flow *flow = held_flow(p);
    if (flow) stream_of(flow, p)->flags |= EA_STREAM_LOST;
    return -1;
  }
  const __u32 missing = length - s->have;
  if (append_bytes(skb, b, w, missing < w->unread ? missing : w->unread)) return -1;
  if (s->have < length) return 0;
  b->length = length;
  w->buffer = (__u32)s->buffer - 1;
  w->done = *s;
  s->buffer = s->have = 0;
  s->flags &= ~EA_STREAM_LENGTH;
  return 1;
}

/* Goes on in the packet. 1: the next message is in the buffer dns_work.buffer; it may be malformed. 0: there
 * is none any more. -1: the packet must be dropped. */
GLOBAL_FUNCTION int dns_next(struct __sk_buff *skb, const struct packet *p) {
  struct dns_work *w = dns_work();
  if (!p || !w) return -1;
  if (p->key.protocol == IPPROTO_TCP) return next_in_stream(skb, p, w);
  if (!w->unread) return 0;
  const __u32 at = w->unread_at, size = w->unread < w->piece ? w->unread : w->piece;
  w->unread_at += size;
  w->unread -= size;
  return load_message(skb, p, at, size, w) ? -1 : 1;
}

/* Ends the reading of a packet. If it does not pass, its bytes will come again, and the stream stays where it
 * was. */
GLOBAL_FUNCTION int dns_close(const struct packet *p, int passes) {
  struct dns_work *w = dns_work();
  if (!p || !w || p->key.protocol != IPPROTO_TCP) return 0;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return 0;
  const __u32 endpoint = p->key.endpoint;
  struct ea_dns_stream *stream = stream_of(flow, p);
  const int taken = w->stream.buffer && w->stream.buffer != stream->buffer;
  rest_buffer(&w->done, endpoint, !passes);
  rest_buffer(&w->stream, endpoint, passes || !taken);
  if (!passes) return 0;
  w->stream.next_seq = w->end_seq;
  *stream = w->stream;
  return 0;
}

#endif
