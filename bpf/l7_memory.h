/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Who has which buffer of `l7_memory`: what a connection has said, while it is not whole, and what was judged of
 * it, until its peer has acknowledged it.
 *
 * A buffer is held for some milliseconds. Each endpoint may hold as many as are free: then two that take all they
 * can get hold a third each, and a third stays free for the others. Where none is free, or an endpoint holds its
 * share, it takes one that has been held for long, and the stream that had it is lost, which its stamp tells. It may be
 * its own, or that of an endpoint that holds as many: who holds few loses none to who holds many, until it has not used
 * it for so long that its connection is gone.
 *
 * `holder`: the endpoint in the high half, 0 where the buffer is free; in the low half a stamp that changes with
 * each holder, and L7_BUSY while a program uses the buffer. It is changed by compare-and-swap only, so nobody
 * takes a buffer that is in use. */
#ifndef EA_L7_MEMORY_H
#define EA_L7_MEMORY_H

#include "said.h"

#define L7_BUSY (1u << 31)
/* A power of two. */
#define L7_GIVEN_BACK 16
#define L7_OLD_NS (10 * SECOND_NS)
#define L7_GONE_NS (300 * SECOND_NS)
_Static_assert(EA_SAID_BUFFERS <= 256, "l7_work.given_back has their numbers");
_Static_assert((EA_SAID_BUFFERS & (EA_SAID_BUFFERS - 1)) == 0, "a power of two");

/* What is told of a connection (l7_events.h). Behind the text, zeros up to a multiple of eight bytes. */
struct said_text {
  __u32 length;
  __u32 pad;
  __u8 bytes[2 * EA_SAID_EVENT_BYTES]; /* what one copy may write too far */
};

/* NOT: the flow was judged under the policies in force. BEGINS: it was not. RECALLED: it is judged again, by what it
 * has said before. */
enum l7_anew { ANEW_NOT = 0, ANEW_BEGINS = 1, ANEW_RECALLED = 2 };

/* Work memory, one for each CPU. What loops need in each round is here and not in registers: then the verifier
 * knows nothing of it, and need not follow each value by itself. */
struct l7_work {
  /* The search for a buffer. */
  __u32 next;  /* where the next search begins */
  __u32 given; /* buffers that were given back last, whose memory is still in the cache: a stack */
  __u8 given_back[L7_GIVEN_BACK];
  __u32 endpoint;
  __u32 held;     /* buffers that the endpoint holds */
  __u32 may_grow; /* that is less than is free */
  __u32 found;    /* plus 1; 0: none */
  __u32 stamp;
  /* The segment. */
  __u32 seq, end_seq; /* of its data, host order */
  __u32 at;           /* offset of the next byte to read, in the packet */
  __u32 size;         /* bytes from there on */
  __u32 compare_at;   /* what it tells again: offset in the packet */
  __u32 compare_from; /* offset in the buffer */
  __u32 compare_size;
  __u32 differs;
  /* A hello (tls.h), in the buffer that is read. */
  __u32 have;    /* bytes in the buffer */
  __u32 begin;   /* where its first record begins */
  __u32 record;  /* where the record begins that is read next */
  __u32 message; /* bytes of the message in the records before that */
  __u32 whole;   /* bytes of the message, with its header; 0: not known yet */
  __u32 sealed;  /* its first record may be encrypted, and no hello */
  __u32 read;    /* result */
  /* What is copied: offsets, and bytes left. */
  __u32 to;
  __u32 from;
  __u32 left;
  __u32 sum;
  __u32 field; /* where the extension begins that is read next */
  __u32 end;   /* behind the last one */
  __u32 name_at;
  __u32 name_length;
  __u32 odd;   /* of what is read: it is no name */
  __u32 named; /* enum tls_name */
  __u32 early; /* early data follows */
  __u32 ech;   /* enum tls_ech */
  __u32 ech_id;
  __u32 hidden; /* the name that counts is encrypted (l7_ech.h) */
  __u64 seen;   /* types of extensions, by some of their bits */
  __u16 types[64];
  /* From one step of says.h to the next. */
  __u32 known;                  /* of the flow */
  __u32 anew;                   /* UDP, enum l7_anew: what p->decision is about */
  __u32 heard;                  /* what a segment says */
  __u32 audited;                /* only the audit verdict depends on it */
  __u32 again;                  /* the flow has said something before */
  __u32 busy;                   /* its stream has a buffer, which this program uses */
  __u32 piece_end;              /* HTTP: behind the last piece, then */
  __u32 heads, head_length;     /* of the buffer, and of its last one, then */
  __u32 requests;               /* HTTP: in this segment */
  struct ea_said_stream before; /* the stream, as it is if the segment does not pass */
  /* What a flow has said before. */
  __u32 next_seq;
  __u8 state, said, said_length, flags;
  __u64 said_more;
  __u64 units[4];
  struct said_text told;
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct l7_work);
} l7_works SEC(".maps");

static __always_inline struct l7_work *l7_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&l7_works, &zero);
}

static __always_inline struct l7_buffer *l7_buffer(__u32 index) {
  return bpf_map_lookup_elem(&l7_memory, &index);
}

/* The buffer of this CPU, behind those of streams. */
static __always_inline struct l7_buffer *l7_own(void) {
  return l7_buffer(EA_SAID_BUFFERS + bpf_get_smp_processor_id());
}

/* Buffers that an endpoint holds, by its slot in `endpoints`; EA_SAID_ALL: all that are held. */
static __always_inline __u32 *l7_held(__u32 slot) {
  return bpf_map_lookup_elem(&l7_holdings, &slot);
}

static __always_inline void l7_charge(__u32 slot, __s32 buffers) {
  __u32 *held = l7_held(slot);
  if (held) __sync_fetch_and_add(held, buffers);
}

/* Whether a buffer that is held may be taken from its stream. */
static __always_inline int may_be_taken(const struct l7_work *w, const struct l7_buffer *b, __u64 now_ns) {
  if ((__s64)(now_ns - READ_ONCE(b->taken_ns)) < (__s64)L7_OLD_NS) return 0;
  if ((__s64)(now_ns - READ_ONCE(b->used_ns)) >= (__s64)L7_GONE_NS) return 1;
  const __u32 *held = l7_held(READ_ONCE(b->payer));
  return held && (__s32)*held >= (__s32)w->held;
}

/* Tries the next buffer; 1: it is taken, and busy. */
static long l7_try(__u32 i, __u64 *now_ns) {
  struct l7_work *w = l7_work();
  if (!w) return 1;
  const __u32 index = (w->next + i) & (EA_SAID_BUFFERS - 1);
  struct l7_buffer *b = l7_buffer(index);
  if (!b) return 1;
  const __u64 holder = READ_ONCE(b->holder);
  const int is_free = !(holder >> 32);
  if (holder & L7_BUSY) return 0;
  if (is_free != !!w->may_grow || (!is_free && !may_be_taken(w, b, *now_ns))) return 0;
  const __u32 stamp = ((__u32)holder + 1) & ~L7_BUSY;
  if (!__sync_bool_compare_and_swap(&b->holder, holder, (__u64)w->endpoint << 32 | stamp | L7_BUSY)) return 0;
  if (is_free)
    l7_charge(EA_SAID_ALL, 1);
  else
    l7_charge(b->payer, -1);
  b->taken_ns = b->used_ns = *now_ns;
  w->found = index + 1;
  w->stamp = stamp;
  return 1;
}

/* Gives a stream a buffer, which is empty, and busy until l7_rest(). 0: there is none. */
GLOBAL_FUNCTION int l7_take(struct ea_said_stream *s, __u32 endpoint, __u32 payer) {
  struct l7_work *w = l7_work();
  const __u32 *held = l7_held(payer), *all = l7_held(EA_SAID_ALL);
  if (!s || !w || !held || !all) return 0;
  __u64 now_ns = bpf_ktime_get_coarse_ns();
  w->endpoint = endpoint;
  w->held = *held;
  w->may_grow = (__s32)w->held < EA_SAID_BUFFERS - (__s32)*all;
  w->found = 0;
  const __u32 next = w->next, given = w->given;
  if (given) {
    w->given = given - 1;
    w->next = w->given_back[(given - 1) & (L7_GIVEN_BACK - 1)];
  }
  bpf_loop(EA_SAID_BUFFERS, l7_try, &now_ns, 0);
  w->next = given ? next : w->found;
  if (!w->found) return 0;
  l7_charge(payer, 1);
  struct l7_buffer *b = l7_buffer(w->found - 1);
  if (!b) return 0;
  b->payer = payer;
  b->begin = b->record = b->message = b->whole = b->first_piece = b->pieces = b->heads = 0;
  /* Until the first buffer is taken, its stamp is where the peer's data begins (l7_received.h). */
  if (s->state == EA_SAID_HANDSHAKE) b->peer_seq = s->stamp;
  s->buffer = w->found;
  s->stamp = w->stamp;
  s->have = 0;
  s->base_seq = s->next_seq;
  return 1;
}

/* The buffer that a stream holds, which is then busy. NULL: it has none, or it was taken away. */
static __always_inline struct l7_buffer *l7_use(const struct ea_said_stream *s, __u32 endpoint) {
  const __u64 holder = (__u64)endpoint << 32 | s->stamp;
  if (!s->buffer || s->buffer > EA_SAID_BUFFERS) return NULL;
  struct l7_buffer *b = l7_buffer((__u32)s->buffer - 1);
  if (!b) return NULL;
  return __sync_bool_compare_and_swap(&b->holder, holder, holder | L7_BUSY) ? b : NULL;
}

/* Ends the use of a buffer that is busy. `keep`: the stream still holds it. */
GLOBAL_FUNCTION int l7_rest(struct ea_said_stream *s, __u32 endpoint, int keep) {
  if (!s || !s->buffer || s->buffer > EA_SAID_BUFFERS) return 0;
  const __u64 holder = (__u64)endpoint << 32 | s->stamp;
  struct l7_buffer *b = l7_buffer((__u32)s->buffer - 1);
  const __u32 stamp = s->stamp, buffer = (__u32)s->buffer - 1;
  if (!keep) s->buffer = s->have = 0;
  if (!b) return 0;
  const __u32 payer = b->payer;
  if (!__sync_bool_compare_and_swap(&b->holder, holder | L7_BUSY, keep ? holder : stamp) || keep) return 0;
  l7_charge(payer, -1);
  l7_charge(EA_SAID_ALL, -1);
  struct l7_work *w = l7_work();
  if (w && w->given < L7_GIVEN_BACK) w->given_back[w->given++ & (L7_GIVEN_BACK - 1)] = buffer;
  return 0;
}

/* Gives back the buffer of a stream that needs it no more, and is not using it. */
static __always_inline void l7_drop(struct ea_said_stream *s, __u32 endpoint) {
  if (l7_use(s, endpoint)) l7_rest(s, endpoint, 0);
  s->buffer = s->have = 0;
}

#endif
