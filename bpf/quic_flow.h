/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A UDP flow whose verdict depends on the server name in QUIC's hello: which of its datagrams pass.
 *
 * How from_pod uses it, for a packet of a flow that depends on what is said, if it is no fragment, if its
 * bytes will be those that are judged (is_as_judged()), and if it is not to be cut, or into datagrams
 * (SKB_GSO_UDP_L4). Any other packet of such a flow is denied.
 *   1. It fills in quic_work: `next`, the offset of the first datagram; `left`, the bytes of all; `piece`,
 *      those of each (skb->gso_size, or `left`); `endpoint`, its id.
 *   2. It holds the flow locked and calls quic_sent() with the flow's struct quic_state, which is all zero
 *      first.
 *   3. On QUIC_JUDGE it decides about the hello that is w->hello_size bytes, from its type on, at
 *      w->hello_at of the bytes of quic_attempt(st)->stream (quic_hello.h reads it), sets w->rule, and
 *      calls quic_judged(), whatever it has decided: the buffer is busy until then. If that says QUIC_JUDGE
 *      once more, it does the same, or denies. Each of these is a step of its own, called from the hook
 *      itself, since the stack has no room for a decision below another call; the flow stays locked.
 *   4. It acts upon the result, enum quic_verdict. w->judged: a hello was judged by it.
 * A flow that is not stored in the table is not judged: it is denied. Where only the audit verdict depends
 * on what is said, nothing is dropped: what does not pass here passes nevertheless, and is not inspected
 * any more.
 *
 * A flow that was allowed is not done with: a server tells connections apart by their ids, so the same
 * addresses and ports may carry another connection, with another name. Therefore a packet of a judged flow
 * passes by itself only if each of its datagrams begins with a short header; what begins otherwise comes
 * here, also when the flow was allowed as one that says nothing (QUIC_SAYS_OTHER; then set QUIC_FLOW_OPEN).
 * quic_has_long_header() tells; of one datagram whose first byte is in the linear part of the buffer, bit 7
 * of that byte does, and the fast path can ask it. A first fragment is asked in the same way, and denied if
 * it has a long header. A denied flow may begin anew.
 *
 * to_pod calls quic_received() for what such a flow's peer sends, with quic_work and the flow as above; the
 * datagrams pass in any case.
 *
 * THE RULES
 *   - The client's keys come from the id by which it first called its server (RFC 9001, 5.2). An Initial
 *     packet with another id belongs to the flow's connection if it opens with the same keys: the server
 *     has chosen that id, and nobody need see it choose. If it opens with those of its own id instead,
 *     another connection begins: a client's next one, or the same after a Retry or in another version. A
 *     packet that opens with both is refused: it was made to say two things.
 *   - A connection that begins in place of another has a stream of its own, which is judged by itself. The
 *     one before is forgotten; if parts of it have passed, its id is noted, and it cannot go on
 *     (quic_memory.h).
 *   - A part of a hello may pass: it names nobody before it is whole. With the byte that completes it, the
 *     verdict falls. Until then everything else is held back: 0-RTT, handshakes, short headers, and
 *     datagrams in which they stand behind an Initial packet. Clients send them again.
 *   - An Initial packet stands first in its datagram, or behind others that do. A datagram that begins with
 *     another long header has none.
 *   - After the verdict, Initial packets may only repeat what was judged, byte by byte, or say nothing
 *     (ACK), or add a second hello after a HelloRetryRequest, which must be allowed by the same rule.
 *   - With its first Handshake packet a client has sent its last Initial packet (RFC 9001, 4.9.1): the
 *     bytes are forgotten. A client that sends one nevertheless has to say everything again. */
#ifndef EA_QUIC_FLOW_H
#define EA_QUIC_FLOW_H

#include "quic_memory.h"

enum quic_flow_flags {
  QUIC_FLOW_OPEN = 1 << 0, /* a hello was allowed, or that there is none: short headers and handshakes pass */
  QUIC_FLOW_AUDITED = 1 << 1, /* only the audit verdict depends on what is said (quic_says.h) */
  QUIC_FLOW_LARGE = 1 << 2,   /* what it says is larger than is kept, which was counted */
};

/* HOLD: the packet must not pass now; the client sends it again. SAYS_OTHER: it says nothing, and nothing
 * was said before: to be judged as such. DENY: the hello was denied, or a second one was allowed by another
 * rule. The others deny, each with its own reason. UNREADABLE: malformed, or not valid by the keys that it
 * must have, or another byte than was judged. VERSION: it is unknown. TOO_LARGE: the hello is larger than
 * is kept. LOST: parts have passed that are not remembered any more. NO_ROOM: to remember it. */
enum quic_verdict {
  QUIC_PASS = 0,
  QUIC_HOLD = 1,
  QUIC_SAYS_OTHER = 2,
  QUIC_DENY = 3,
  QUIC_UNREADABLE = 4,
  QUIC_VERSION = 5,
  QUIC_HELLO_TOO_LARGE = 6,
  QUIC_LOST = 7,
  QUIC_NO_ROOM = 8,
  QUIC_JUDGE = 9, /* not a verdict yet */
};

/* The most datagrams that a kernel cuts a packet into (UDP_MAX_SEGMENTS). */
enum { QUIC_MAX_PIECES = 128 };
/* FIRST_DATAGRAM: bytes that a client's first datagram has at least (RFC 9000, 14.1). A smaller one that
 * would be of an unknown version is something else, unless a hello is awaited: NTP, DNS and RTP look so. */
enum { QUIC_CLIENT_HELLO = 1, QUIC_MAX_HELLOS = 2, QUIC_SERVER_IDS = 4, QUIC_FIRST_DATAGRAM = 1200 };

/* Whether all that is known of the connection was judged. */
static __always_inline int all_judged(const struct quic_attempt *a) {
  return a->judged && a->judged == a->stream.have;
}

/* Begins a connection with the keys in w->keys. */
static __always_inline void begin_attempt(const struct quic_work *w, struct quic_attempt *a) {
  __u64 *known = (__u64 *)a->stream.known;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_STREAM / 64; i++)
    WRITE_ONCE(known[i], 0);
  a->stream.keys = w->keys;
  a->stream.have = a->judged = a->hellos = a->noted = a->ids = 0;
  a->rule = 0;
}

static __always_inline int why_noted(const int note) {
  return note == NOTE_NONE ? QUIC_PASS : note == NOTE_FULL ? QUIC_NO_ROOM : QUIC_LOST;
}

/* Finds the connection of an Initial packet: the one that the flow has, whose buffer is busy then, or a new
 * one. Returns enum quic_verdict; QUIC_PASS: it is found. */
GLOBAL_FUNCTION int quic_find(struct __sk_buff *skb, struct quic_work *w, struct quic_state *st) {
  if (!w || !st) return QUIC_UNREADABLE;
  const int held = quic_use(st, w->endpoint);
  struct quic_attempt *a = held ? quic_attempt(st) : NULL;
  if (a) {
    struct quic_keys *k = &a->stream.keys;
    /* A connection may go on in another version (RFC 9368): its keys come from the same id. */
    if (k->version != w->packet.version) quic_make_keys(w, k, &k->id, w->packet.version);
    if (same_id(&k->id, &w->packet.to)) return QUIC_PASS;
    if (!quic_open(skb, w, k, 1)) return QUIC_PASS; /* quic_read() looks at its own keys, too */
  }
  int verdict = QUIC_UNREADABLE;
  quic_own_keys(w);
  if (w->packet.to.length >= QUIC_FIRST_ID && !quic_open(skb, w, &w->keys, 1))
    verdict = why_noted(quic_note(&w->packet.to, w->endpoint, NOTE_FIND));
  if (verdict == QUIC_PASS && !held && !quic_take(st, w->endpoint)) return QUIC_NO_ROOM;
  if (verdict == QUIC_PASS) {
    a = quic_attempt(st);
    if (a) begin_attempt(w, a);
  } else if (held) {
    quic_rest(st, w->endpoint, 1);
  }
  return verdict;
}

/* Finds the next hello, if it is whole. QUIC_PASS: it is not. */
static __always_inline int find_hello(struct quic_work *w, const struct quic_attempt *a) {
  const __u32 at = a->judged, have = a->stream.have;
  if (have <= at) return QUIC_PASS;
  const __u8 *bytes = (const __u8 *)a->stream.words;
  __u64 begin = at;
  asm volatile("" : "+r"(begin));
  if (begin > QUIC_STREAM - 4) return QUIC_HELLO_TOO_LARGE;
  if (bytes[begin] != QUIC_CLIENT_HELLO || a->hellos >= QUIC_MAX_HELLOS) return QUIC_UNREADABLE;
  if (have < at + 4) return QUIC_PASS;
  const __u32 size = 4 + (bytes[begin + 1] << 16 | bytes[begin + 2] << 8 | bytes[begin + 3]);
  if (at + size > QUIC_STREAM) return QUIC_HELLO_TOO_LARGE;
  if (have < at + size) return QUIC_PASS;
  w->hello_at = at;
  w->hello_size = size;
  return QUIC_JUDGE;
}

/* The verdict on a datagram whose Initial packets were read. */
static __always_inline int verdict_on_initial(struct quic_work *w, struct quic_state *st,
                                              struct quic_attempt *a) {
  const int verdict = find_hello(w, a);
  if (verdict != QUIC_PASS) return verdict;
  if (a->judged) st->flags |= QUIC_FLOW_OPEN;
  if (!a->judged && w->seen) return QUIC_HOLD;
  /* Also where nothing more is said: it keeps its server waiting for the rest. */
  if (w->crypto || a->noted) {
    const int why = why_noted(quic_note(&a->stream.keys.id, w->endpoint, NOTE_ADD));
    if (why == QUIC_NO_ROOM || (why == QUIC_LOST && !a->noted)) return why;
    a->noted = 1;
  }
  return QUIC_PASS;
}

/* Goes on with such a datagram, as far as to its verdict or to the next hello. */
GLOBAL_FUNCTION int quic_finish(struct quic_work *w, struct quic_state *st) {
  if (!w || !st) return QUIC_UNREADABLE;
  struct quic_attempt *a = quic_attempt(st);
  if (!a) return QUIC_UNREADABLE;
  const int verdict = verdict_on_initial(w, st, a);
  w->reading = verdict == QUIC_JUDGE;
  if (w->reading) return verdict;
  const int last = all_judged(a) && w->seen & 1 << QUIC_HANDSHAKE;
  quic_rest(st, w->endpoint, !(verdict == QUIC_PASS && last));
  return verdict;
}

/* A datagram that begins with an Initial packet. */
static __always_inline int sent_initial(struct __sk_buff *skb, struct quic_work *w, struct quic_state *st) {
  const int verdict = quic_find(skb, w, st);
  if (verdict != QUIC_PASS) return verdict;
  struct quic_attempt *a = quic_attempt(st);
  if (!a) return QUIC_NO_ROOM;
  const int result = quic_read(skb, w, &a->stream);
  if (!result) return quic_finish(w, st);
  quic_rest(st, w->endpoint, 1);
  return result == QUIC_TOO_LARGE ? QUIC_HELLO_TOO_LARGE : QUIC_UNREADABLE;
}

/* What a client sends in its Handshake packets, it sends behind its last Initial packet. */
static __always_inline void end_attempt(struct quic_work *w, struct quic_state *st) {
  if (!st->buffer || !quic_use(st, w->endpoint)) return;
  const struct quic_attempt *a = quic_attempt(st);
  quic_rest(st, w->endpoint, a && !all_judged(a));
}

/* Whether the flow has a connection whose hello was not judged. */
static __always_inline int awaits_hello(const struct quic_state *st) {
  const struct quic_attempt *a = st->buffer ? quic_attempt(st) : NULL;
  return a && !a->judged;
}

/* Whether something stands behind the first packet of a datagram, which is no Initial one, that a server may read as an
 * Initial packet: it reads all packets, and none of them was judged. Clients put Initial packets first (RFC 9000, 12.2). */
GLOBAL_FUNCTION int quic_hides_initial(struct __sk_buff *skb, struct quic_work *w) {
  if (!w) return 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_MAX_PACKETS; i++) {
    w->at = w->packet.end;
    if (w->at >= w->end) return 0;
    const int kind = quic_next(skb, w);
    /* The last two take all that is left. */
    if (kind != QUIC_ZERO_RTT && kind != QUIC_HANDSHAKE) return kind != QUIC_SHORT && kind != QUIC_OTHER;
  }
  return 1;
}

/* Judges the datagram in w->at to w->end. */
GLOBAL_FUNCTION int quic_sent_datagram(struct __sk_buff *skb, struct quic_work *w, struct quic_state *st) {
  if (!w || !st) return QUIC_UNREADABLE;
  const int open = st->flags & QUIC_FLOW_OPEN;
  int kind = quic_begin(skb, w);
  if ((kind == QUIC_UNKNOWN_VERSION || kind == QUIC_NEGOTIATION) && w->end - w->at < QUIC_FIRST_DATAGRAM &&
      !awaits_hello(st))
    kind = QUIC_OTHER;
  switch (kind) {
  case QUIC_INITIAL:
    return sent_initial(skb, w, st);
  case QUIC_SHORT:
  case QUIC_OTHER:
    return open ? QUIC_PASS : st->buffer ? QUIC_HOLD : QUIC_SAYS_OTHER;
  case QUIC_HANDSHAKE:
    if (!open) return QUIC_HOLD;
    if (quic_hides_initial(skb, w)) return QUIC_UNREADABLE;
    end_attempt(w, st);
    return QUIC_PASS;
  case QUIC_ZERO_RTT:
    if (!open || awaits_hello(st)) return QUIC_HOLD;
    return quic_hides_initial(skb, w) ? QUIC_UNREADABLE : QUIC_PASS;
  case QUIC_UNKNOWN_VERSION:
  case QUIC_NEGOTIATION:
    return QUIC_VERSION;
  }
  return QUIC_UNREADABLE;
}

/* Takes the next datagram of the packet. 0: there is none any more. */
static __always_inline int next_datagram(struct quic_work *w) {
  const __u32 size = w->left < w->piece ? w->left : w->piece;
  w->at = w->next;
  w->end = w->next + size;
  w->next += size;
  w->left -= size;
  return size;
}

static __always_inline int judge_rest(struct __sk_buff *skb, struct quic_work *w, struct quic_state *st) {
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_MAX_PIECES; i++) {
    if (!next_datagram(w)) return QUIC_PASS;
    const int verdict = quic_sent_datagram(skb, w, st);
    if (verdict != QUIC_PASS) return verdict;
  }
  return w->left ? QUIC_UNREADABLE : QUIC_PASS;
}

/* Judges what a client sends: all datagrams of a packet pass, or none does. Returns enum quic_verdict. */
GLOBAL_FUNCTION int quic_sent(struct __sk_buff *skb, struct quic_state *st) {
  struct quic_work *w = quic_work();
  if (!w || !st) return QUIC_UNREADABLE;
  w->judged = w->reading = 0;
  w->rule = 0;
  if (!w->left) return st->flags & QUIC_FLOW_OPEN ? QUIC_PASS : st->buffer ? QUIC_HOLD : QUIC_SAYS_OTHER;
  return judge_rest(skb, w, st);
}

/* Goes on after QUIC_JUDGE, with the decision about the hello. Returns enum quic_verdict. */
GLOBAL_FUNCTION int quic_judged(struct __sk_buff *skb, struct quic_state *st, int allowed) {
  struct quic_work *w = quic_work();
  if (!w || !st || !w->reading) return QUIC_UNREADABLE;
  struct quic_attempt *a = quic_attempt(st);
  if (!a) return QUIC_UNREADABLE;
  w->judged = 1;
  if (!allowed || (a->hellos && w->rule != a->rule)) {
    w->reading = 0;
    quic_rest(st, w->endpoint, 0);
    return QUIC_DENY;
  }
  a->rule = w->rule;
  a->hellos++;
  a->judged = w->hello_at + w->hello_size;
  const int verdict = quic_finish(w, st);
  return verdict == QUIC_PASS ? judge_rest(skb, w, st) : verdict;
}

/* Whether one of the datagrams of a packet begins with a long header, or cannot be read. */
GLOBAL_FUNCTION int quic_has_long_header(struct __sk_buff *skb) {
  struct quic_work *w = quic_work();
  if (!w) return 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_MAX_PIECES; i++) {
    __u8 first = 0;
    if (!next_datagram(w)) return 0;
    if (bpf_skb_load_bytes(skb, w->at, &first, 1) || first & 0x80) return 1;
  }
  return !!w->left;
}

/* Notes the ids that a server chooses while parts of a hello have passed to it: to begin another connection
 * by one of them would mean to say something to this one. Called with what the flow's peer sends. */
GLOBAL_FUNCTION int quic_received(struct __sk_buff *skb, struct quic_state *st) {
  struct quic_work *w = quic_work();
  if (!w || !st || !quic_use(st, w->endpoint)) return 0;
  struct quic_attempt *a = quic_attempt(st);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_MAX_PIECES; i++) {
    if (!a || !a->noted || a->ids >= QUIC_SERVER_IDS || !next_datagram(w)) break;
    const int kind = quic_begin(skb, w);
    if ((kind != QUIC_INITIAL && kind != QUIC_HANDSHAKE) || w->packet.from.length < QUIC_FIRST_ID) continue;
    if (quic_note(&w->packet.from, w->endpoint, NOTE_ADD) == NOTE_NONE) a->ids++;
  }
  return quic_rest(st, w->endpoint, 1);
}

#endif
