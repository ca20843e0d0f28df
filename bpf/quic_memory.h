/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What is remembered of QUIC connections while they begin: who has which buffer of `quic_memory`, and which
 * ids must not begin anew (`quic_notes`).
 *
 * BUFFERS. The bytes that a client has said are kept until its first Handshake packet: about a round trip.
 * Each endpoint may hold as many buffers as are free: then two that take all they can get hold a third
 * each, and a third stays free for the others. Where none is free, or an endpoint holds its share, it takes
 * the one of its own, or of anybody, that was not used for long. Who had it has lost it, which its stamp
 * tells.
 *
 * `holder`: the endpoint in the high half, 0 where the buffer is free; in the low half a stamp that changes
 * with each holder, and QUIC_BUSY while a program uses the buffer. It is changed by compare-and-swap only.
 *
 * NOTES. A server puts a hello together from packets that have the same id, wherever they come from; a
 * buffer may be lost, and another flow has a buffer of its own. So parts of a hello could pass that were
 * never seen together. Therefore, before a part passes, the id by which the server knows the connection is
 * noted. Nobody begins with an id that is noted: not another flow, and not one that has lost its buffer. A
 * note lives for one to two minutes, longer than servers wait for the rest of a hello, and cannot be pushed
 * out: where there is no room for one, the part does not pass. Each endpoint that uses QUIC has a row of
 * notes, in which up to QUIC_NOTES fit each minute.
 *
 * A row is a Bloom filter for each of the last two minutes: each note sets four bits. An id that was never
 * noted may look so, in about one of a hundred cases in a row that is full, and hardly ever otherwise. */
#ifndef EA_QUIC_MEMORY_H
#define EA_QUIC_MEMORY_H

#include "quic.h"
#include "table.h"

enum {
  QUIC_BUFFERS = 128,
  QUIC_ROWS = 512,
  QUIC_NOTES = 5400,
  QUIC_NOTE_SECONDS = 64,
  QUIC_NOTE_WORDS = 1024
};
#define QUIC_BUSY (1u << 31)
#define QUIC_OLD_NS (10 * SECOND_NS)

/* A connection that begins. */
struct quic_attempt {
  struct quic_stream stream;
  __u64 rule;   /* that allowed its hello */
  __u32 judged; /* bytes of hellos that were allowed */
  __u32 hellos;
  __u32 noted; /* its id is */
  __u32 ids;   /* of its server: how many were */
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, QUIC_BUFFERS);
  __type(key, __u32);
  __type(value, struct quic_attempt);
} quic_memory SEC(".maps");

struct quic_holder {
  __u64 holder;
  __u64 used_ns; /* CLOCK_MONOTONIC */
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, QUIC_BUFFERS);
  __type(key, __u32);
  __type(value, struct quic_holder);
} quic_holders SEC(".maps");

/* The notes of an endpoint. */
struct quic_row {
  __u32 lock;
  __u32
      minute; /* the last one in which something was noted, in units of QUIC_NOTE_SECONDS of CLOCK_MONOTONIC */
  __u32 count; /* in it */
  __u32 pad;
  __u64 words[2][QUIC_NOTE_WORDS]; /* of even and odd minutes */
};
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, QUIC_ROWS);
  __type(key, __u32);
  __type(value, struct quic_row);
} quic_rows SEC(".maps");

/* Whose a row is: the endpoint in the high half, and in the low half the last minute in which it was used.
 * Of a row that was not used in the last two minutes all notes are dead, and it may become another
 * endpoint's. */
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, QUIC_ROWS);
  __type(key, __u32);
  __type(value, __u64);
} quic_owners SEC(".maps");

/* What a flow knows of its connection. */
struct quic_state {
  __u32 stamp;  /* of the buffer when it was taken; another one: it was taken away */
  __u16 buffer; /* plus 1; 0: there is none */
  __u8 flags;   /* enum quic_flow_flags */
  __u8 pad;
};
_Static_assert(sizeof(struct quic_state) == sizeof(((struct ea_flow_name *)0)->quic), "it is in the flow");

/* That of a flow of UDP with EA_TCP_SAYS. */
static __always_inline struct quic_state *quic_of(struct ea_flow *flow) {
  return (struct quic_state *)flow->extra.name.quic;
}

static __always_inline struct quic_attempt *quic_attempt(const struct quic_state *st) {
  __u32 index = (__u32)st->buffer - 1;
  return bpf_map_lookup_elem(&quic_memory, &index);
}
static __always_inline struct quic_holder *quic_holder(__u32 index) {
  return bpf_map_lookup_elem(&quic_holders, &index);
}

/* The search for a buffer. */
struct quic_choice {
  __u64 now_ns;
  __u64 holder; /* of the best one */
  __u32 endpoint;
  __u32 held;
  __u32 free;
  __u32 best; /* plus 1 */
  __u32 old;  /* plus 1: one that was not used for long */
  __u32 pad;
  __u64 old_holder;
};

static long quic_compare(__u32 i, struct quic_choice *c) {
  const struct quic_holder *h = quic_holder(i);
  if (!h) return 1;
  const __u64 holder = READ_ONCE(h->holder);
  const __u32 endpoint = holder >> 32;
  if (endpoint == c->endpoint) c->held++;
  if (holder & QUIC_BUSY) return 0;
  if (!endpoint) {
    c->free++;
    c->best = i + 1;
    c->holder = holder;
  } else if ((__s64)(c->now_ns - READ_ONCE(h->used_ns)) > (__s64)QUIC_OLD_NS) {
    c->old = i + 1;
    c->old_holder = holder;
  }
  return 0;
}

/* Gives a flow a buffer, which is busy until quic_rest(). 0: there is none. */
GLOBAL_FUNCTION int quic_take(struct quic_state *st, __u32 endpoint) {
  if (!st || !endpoint) return 0;
  struct quic_choice c = {.now_ns = bpf_ktime_get_coarse_ns(), .endpoint = endpoint};
  bpf_loop(QUIC_BUFFERS, quic_compare, &c, 0);
  const int may_grow = c.held < c.free;
  const __u32 best = may_grow ? c.best : c.old;
  const __u64 seen = may_grow ? c.holder : c.old_holder;
  struct quic_holder *h = best ? quic_holder(best - 1) : NULL;
  const __u32 stamp = ((__u32)seen + 1) & ~QUIC_BUSY;
  if (!h || !__sync_bool_compare_and_swap(&h->holder, seen, (__u64)endpoint << 32 | stamp | QUIC_BUSY))
    return 0;
  h->used_ns = c.now_ns;
  st->buffer = best;
  st->stamp = stamp;
  return 1;
}

/* Makes the buffer that a flow holds busy. 0: it holds none, or it was taken away. */
GLOBAL_FUNCTION int quic_use(struct quic_state *st, __u32 endpoint) {
  if (!st || !st->buffer) return 0;
  struct quic_holder *h = quic_holder((__u32)st->buffer - 1);
  const __u64 holder = (__u64)endpoint << 32 | st->stamp;
  if (!h || !__sync_bool_compare_and_swap(&h->holder, holder, holder | QUIC_BUSY)) {
    st->buffer = 0;
    return 0;
  }
  h->used_ns = bpf_ktime_get_coarse_ns();
  return 1;
}

/* Ends the use of a buffer; `keep`: the flow still holds it. */
GLOBAL_FUNCTION int quic_rest(struct quic_state *st, __u32 endpoint, int keep) {
  if (!st || !st->buffer) return 0;
  struct quic_holder *h = quic_holder((__u32)st->buffer - 1);
  const __u64 holder = (__u64)endpoint << 32 | st->stamp;
  if (h) __sync_bool_compare_and_swap(&h->holder, holder | QUIC_BUSY, keep ? holder : st->stamp);
  if (!keep) st->buffer = 0;
  return 0;
}

/* The search for an endpoint's row. */
struct quic_search {
  __u32 endpoint;
  __u32 minute;
  __u32 row;  /* plus 1 */
  __u32 free; /* plus 1: one that may be taken */
  __u64 owner, free_owner;
};

static long quic_try_row(__u32 i, struct quic_search *f) {
  __u32 row = (f->endpoint + i) & (QUIC_ROWS - 1);
  const __u64 *at = bpf_map_lookup_elem(&quic_owners, &row);
  if (!at) return 1;
  const __u64 owner = READ_ONCE(*at);
  if (owner >> 32 == f->endpoint) {
    f->row = row + 1;
    f->owner = owner;
    return 1;
  }
  if (!f->free && (!owner || (__s32)(f->minute - (__u32)owner) > 1)) {
    f->free = row + 1;
    f->free_owner = owner;
  }
  return 0;
}

/* Finds the row of an endpoint, or takes one for it. Returns its number plus 1; 0: there is none. */
static __noinline __u32 quic_row_of(__u32 endpoint, __u32 minute) {
  struct quic_search f = {.endpoint = endpoint, .minute = minute};
  bpf_loop(QUIC_ROWS, quic_try_row, &f, 0);
  const __u32 found = f.row ? f.row : f.free;
  const __u64 seen = f.row ? f.owner : f.free_owner, mine = (__u64)endpoint << 32 | minute;
  __u32 row = found - 1;
  __u64 *at = bpf_map_lookup_elem(&quic_owners, &row);
  if (!at) return 0;
  return seen == mine || __sync_bool_compare_and_swap(at, seen, mine) ? found : 0;
}

static long quic_try_lock(__u32 i, __u32 *row) {
  (void)i;
  __u32 which = *row & ~(1u << 31);
  struct quic_row *r = bpf_map_lookup_elem(&quic_rows, &which);
  if (!r) return 1;
  if (__sync_val_compare_and_swap(&r->lock, 0, 1)) return 0;
  *row |= 1u << 31;
  return 1;
}

static __always_inline void forget_minute(struct quic_row *r, __u32 minute) {
  __u64 *words = r->words[minute & 1];
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_NOTE_WORDS; i++)
    WRITE_ONCE(words[i], 0);
}

/* Forgets what is older than the minute before this one. */
GLOBAL_FUNCTION int quic_forget(struct quic_row *r, __u32 minute) {
  if (!r) return 0;
  const __s32 passed = minute - r->minute;
  if (passed < 1) return 0;
  forget_minute(r, minute);
  if (passed > 1) forget_minute(r, minute + 1);
  r->minute = minute;
  r->count = 0;
  return 0;
}

/* What quic_note() is to do, and what it found. FULL: it could not be noted, or looked up. */
enum { NOTE_FIND = 0, NOTE_ADD = 1 };
enum { NOTE_NONE = 0, NOTE_FOUND = 1, NOTE_FULL = 2 };

static __always_inline int note_in(struct quic_row *r, __u64 hash, const int what) {
  __u32 now = 0, before = 0, minute = r->minute & 1;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const __u32 bit = hash >> 16 * i & 0xffff;
    now += r->words[minute][bit >> 6] >> (bit & 63) & 1;
    before += r->words[!minute][bit >> 6] >> (bit & 63) & 1;
  }
  const int found = now == 4 || before == 4 ? NOTE_FOUND : NOTE_NONE;
  if (what == NOTE_FIND || now == 4) return found;
  if (r->count >= QUIC_NOTES) return NOTE_FULL;
  r->count++;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const __u32 bit = hash >> 16 * i & 0xffff;
    r->words[minute][bit >> 6] |= 1ULL << (bit & 63);
  }
  return found;
}

/* Looks up an id of an endpoint among its notes, and notes it with NOTE_ADD. */
GLOBAL_FUNCTION int quic_note(const struct quic_id *id, __u32 endpoint, int what) {
  const struct ea_state *state = current_state();
  if (!id || !state || !endpoint) return NOTE_FULL;
  const __u32 *w = (const __u32 *)id;
  const __u64 *secret = state->secret;
  __u64 hash = (secret[0] + w[0]) * (secret[1] + w[1]) + (secret[2] + w[2]) * (secret[3] + w[3]);
  hash = scattered(hash + (secret[4] + w[4]) * (secret[5] + w[5]));
  const __u32 minute = bpf_ktime_get_coarse_ns() / (QUIC_NOTE_SECONDS * SECOND_NS);
  const __u32 found = quic_row_of(endpoint, minute);
  if (!found) return NOTE_FULL;
  __u32 row = found - 1;
  bpf_loop(MAX_LOCK_ATTEMPTS, quic_try_lock, &row, 0);
  if (!(row >> 31)) return NOTE_FULL;
  row &= ~(1u << 31);
  struct quic_row *r = bpf_map_lookup_elem(&quic_rows, &row);
  if (!r) return NOTE_FULL;
  quic_forget(r, minute);
  const int result = what == NOTE_ADD ? note_in(r, hash, NOTE_ADD) : note_in(r, hash, NOTE_FIND);
  __sync_lock_test_and_set(&r->lock, 0);
  return result;
}

#endif
