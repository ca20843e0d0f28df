/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* QUIC packets in a datagram (RFC 9000, 17; RFC 9369), and what the client's Initial packets among them
 * say: the bytes of its CRYPTO frames.
 *
 *   quic_begin()  what the first packet is, and whose
 *   quic_read()   opens its Initial packets with the keys of a stream, and adds their bytes to it
 *
 * A stream is read in any order: CRYPTO frames say where their bytes belong (RFC 9000, 19.6). A byte is
 * never replaced: a frame that says another one for its place is refused, and the datagram with it. */
#ifndef EA_QUIC_H
#define EA_QUIC_H

#include "quic_keys.h"

/* What a packet is. OTHER: neither a long header nor a short one. */
enum quic_kind {
  QUIC_OTHER = 0,
  QUIC_SHORT = 1,
  QUIC_UNKNOWN_VERSION = 2,
  QUIC_NEGOTIATION = 3, /* of versions: by a server only */
  QUIC_MALFORMED = 4,
  QUIC_INITIAL = 5,
  QUIC_ZERO_RTT = 6,
  QUIC_HANDSHAKE = 7,
  QUIC_RETRY = 8, /* by a server only */
};

/* Results of quic_read(). READ: all Initial packets are valid, and their bytes were added. Otherwise none
 * or some were. REFUSED: a packet is malformed, or its tag is wrong. CONFLICT: a byte is another one than
 * before. TOO_LARGE: more than is read. */
enum quic_result { QUIC_READ = 0, QUIC_REFUSED = 1, QUIC_CONFLICT = 2, QUIC_TOO_LARGE = 3 };

/* STREAM: bytes of a stream that are kept. FIRST_ID: the shortest id that a client may choose. */
enum { QUIC_STREAM = 16384, QUIC_MAX_PACKETS = 8, QUIC_MAX_STEPS = 2048, QUIC_FIRST_ID = 8 };

/* What a client said so far. Bit n % 8 of known[n / 8]: byte n was said. */
struct quic_stream {
  struct quic_keys keys;
  __u32 have; /* all bytes before it were said */
  __u32 pad;
  __u8 known[QUIC_STREAM / 8];
  __u64 words[QUIC_STREAM / 8];
};

/* An offset that is below the mask's next power of two wherever it is used. The asm keeps the compiler from
 * leaving the mask out where it knows that: the verifier does not. */
static __always_inline __u64 bounded(__u64 at, const __u64 mask) {
  asm volatile("%0 &= %1" : "+r"(at) : "ri"(mask));
  return at;
}

/* Copies `size` bytes, 1 to `most`, of the datagram. */
#define load_bytes(skb, at, to, size, most)                                                                  \
  ({                                                                                                         \
    __u64 bytes = (size);                                                                                    \
    asm volatile("%0 &= 0x1fff" : "+r"(bytes));                                                              \
    !bytes || bytes > (most) || bpf_skb_load_bytes(skb, at, to, bytes);                                      \
  })

/* Reads a variable-length integer (RFC 9000, 16) whose bytes begin at `bytes`, of which eight can be read.
 * Returns its size. */
static __always_inline __u32 read_integer(const __u8 *bytes, __u64 *value) {
  const __u64 word = bpf_be64_to_cpu(*(const __u64 *)bytes);
  const __u32 size = 1 << (word >> 62);
  *value = word << 2 >> (66 - 8 * size);
  return size;
}

/* Copies an id behind its length, which stands at `at` in w->head; `have` bytes of that were loaded.
 * Returns the offset behind it; 0: the id is not whole, or too long. */
static __always_inline __u32 read_id(const struct quic_work *w, __u32 at, __u32 have, struct quic_id *id) {
  const __u32 length = w->head[bounded(at, 63)];
  if (length > QUIC_ID_BYTES || at + 1 + length > have) return 0;
  const __u8 *from = w->head + bounded(at + 1, 63);
  id->length = length;
#pragma unroll
  for (__u32 i = 0; i < QUIC_ID_BYTES; i++)
    id->bytes[i] = i < length ? from[i] : 0;
  return at + 1 + length;
}

/* Reads the header of the packet at w->at into w->packet. Returns enum quic_kind. */
GLOBAL_FUNCTION int quic_next(struct __sk_buff *skb, struct quic_work *w) {
  if (!w) return QUIC_OTHER;
  struct quic_packet *p = &w->packet;
  const __u32 left = w->end - w->at, have = left < 64 ? left : 64;
  p->at = w->at;
  p->end = w->end;
  if (w->at >= w->end || load_bytes(skb, w->at, w->head, have, 64)) return QUIC_OTHER;
  const __u8 first = w->head[0];
  if (!(first & 0x80)) return first & 0x40 ? QUIC_SHORT : QUIC_OTHER;
  if (have < 7) return QUIC_MALFORMED;
  const __u32 version = bpf_ntohl(*(const __be32 *)(w->head + 1));
  if (!version) return QUIC_NEGOTIATION;
  if (version != QUIC_V1 && version != QUIC_V2) return QUIC_UNKNOWN_VERSION;
  if (!(first & 0x40)) return QUIC_MALFORMED;
  p->version = version;
  __u32 at = read_id(w, 5, have, &p->to);
  if (!at || at >= have) return QUIC_MALFORMED;
  at = read_id(w, at, have, &p->from);
  if (!at) return QUIC_MALFORMED;
  /* 0 to 3 as in version 1. */
  const __u32 type = ((first >> 4) - (version == QUIC_V2)) & 3;
  if (type == 3) return QUIC_RETRY;
  __u64 value = 0;
  p->token = 0;
  if (type == 0) {
    if (at >= have) return QUIC_MALFORMED;
    const __u32 size = read_integer(w->head + bounded(at, 63), &value);
    if (value > QUIC_HEADER || size + value >= left - at) return QUIC_MALFORMED;
    p->token = value;
    at += size + value;
  }
  if (at >= left) return QUIC_MALFORMED;
  const __u32 rest = left - at;
  if (load_bytes(skb, w->at + at, w->head, rest < 8 ? rest : 8, 8)) return QUIC_MALFORMED;
  const __u32 size = read_integer(w->head, &value);
  /* A number of one byte at least, so that with the tag there is a sample to be taken. */
  if (size > rest || value > rest - size || value < QUIC_SAMPLE_AT + QUIC_TAG) return QUIC_MALFORMED;
  p->number_at = w->at + at + size;
  p->end = p->number_at + value;
  return type == 0 ? QUIC_INITIAL : type == 1 ? QUIC_ZERO_RTT : QUIC_HANDSHAKE;
}

/* What the first packet in w->at to w->end is: enum quic_kind. */
GLOBAL_FUNCTION int quic_begin(struct __sk_buff *skb, struct quic_work *w) {
  if (!w) return QUIC_OTHER;
  const int kind = quic_next(skb, w);
  w->packet.kind = kind;
  w->seen = w->crypto = 0;
  w->to = w->packet.to;
  return kind;
}

/* Loads the Initial packet in w->packet, takes the protection off its header (RFC 9001, 5.4), and checks
 * its tag. 0: it is valid under these keys. */
static __always_inline int load_packet(struct __sk_buff *skb, struct quic_work *w,
                                       const struct quic_keys *k) {
  const struct quic_packet *p = &w->packet;
  const __u32 fields = p->number_at - p->at;
  if (fields > QUIC_HEADER - 4 || bpf_skb_load_bytes(skb, p->number_at + QUIC_SAMPLE_AT, &w->block, 16) ||
      load_bytes(skb, p->at, w->header, fields + 4, QUIC_HEADER))
    return -1;
  aes_encrypt_block(&k->header, &w->block);
  w->header[0] ^= w->block.words[0] & 0x0f;
  const __u32 bytes = (w->header[0] & 3) + 1, others = 8 * (4 - bytes);
  const __u32 clear_mask = 0xffffffffU >> others;
  __u32 *number = (__u32 *)(w->header + bounded(fields, QUIC_HEADER - 1));
  const __u32 clear = *number ^ (w->block.words[0] >> 8 | w->block.words[1] << 24);
  /* Behind the number there are zeros, as far as its block goes. */
  number[0] = clear & clear_mask;
  number[1] = number[2] = number[3] = number[4] = 0;
  w->number = bpf_ntohl(clear) >> others;
  w->header_size = fields + bytes;
  const __u32 at = p->number_at + bytes, size = p->end - at - QUIC_TAG;
  if (p->end < at + QUIC_TAG || size > QUIC_PAYLOAD) return -1;
  w->size = size;
  __u64 *last = (__u64 *)(payload_of(w) + bounded(size % QUIC_PAYLOAD, QUIC_PAYLOAD - 16));
  if (size < QUIC_PAYLOAD) last[0] = last[1] = 0;
  if (load_bytes(skb, at, payload_of(w), size, QUIC_PAYLOAD) ||
      bpf_skb_load_bytes(skb, at + size, w->tag, 16))
    return -1;
  return has_tag(w, k) ? 0 : -1;
}

/* Opens the Initial packet in w->packet, its frames are then in the room for the payload; or only checks
 * its tag. 0: it is valid. */
GLOBAL_FUNCTION int quic_open(struct __sk_buff *skb, struct quic_work *w, const struct quic_keys *k,
                              int only_check) {
  if (!w || !k || load_packet(skb, w, k)) return -1;
  if (only_check) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_PAYLOAD / 16; i++) {
    if (i * 16 >= w->size) break;
    quic_decrypt(w, k, (struct aes_block *)(payload_of(w) + i * 16), i + 2);
  }
  /* Bits 2 and 3 are reserved, and 0 (RFC 9000, 17.2). */
  return w->header[0] & 0x0c ? -1 : 0;
}

/* The lowest 8 bits, each as a whole byte. */
static __always_inline __u64 widened(__u64 bits) {
  const __u64 apart = ((bits & 0xff) * 0x0101010101010101ULL) & 0x8040201008040201ULL;
  return ((apart + 0x7f7f7f7f7f7f7f7fULL) >> 7 & 0x0101010101010101ULL) * 0xff;
}

/* A CRYPTO frame that is added to a stream, by whole words of it. */
struct frame_adding {
  struct quic_work *w;
  struct quic_stream *s;
  __u32 first, last;  /* words */
  __u32 begins, ends; /* which bytes of these are the frame's */
  __u32 from;         /* in the room: the byte that stands where the first word begins */
  __u32 pad;
  __u64 conflict;
};

static long add_word(__u32 i, struct frame_adding *f) {
  const __u32 word = f->first + i;
  __u64 room = f->from + i * 8;
  asm volatile("" : "+r"(room));
  if (room > QUIC_ROOM + QUIC_PAYLOAD) return 1;
  const __u64 at = bounded(word, QUIC_STREAM / 8 - 1);
  const __u64 said = *(const __u64 *)(f->w->room + room), old = f->s->words[at];
  const __u32 known = f->s->known[at];
  const __u32 bytes = (i ? 0xff : f->begins) & (word == f->last ? f->ends : 0xff);
  f->conflict |= (old ^ said) & widened(known & bytes);
  const __u64 added = widened(bytes & ~known);
  f->s->words[at] = (old & ~added) | (said & added);
  f->s->known[at] = known | bytes;
  return 0;
}

/* Adds the bytes of a CRYPTO frame: w->frame_length ones at w->frame_from in the payload, which belong at
 * w->frame_offset. Returns enum quic_result. */
static __always_inline int add_frame(struct quic_work *w, struct quic_stream *s) {
  const __u32 offset = w->frame_offset, turn = offset & 7, end = offset + w->frame_length - 1;
  if (!w->frame_length) return QUIC_READ;
  struct frame_adding f = {
      .w = w,
      .s = s,
      .first = offset / 8,
      .last = end / 8,
      .begins = 0xff << turn & 0xff,
      .ends = 0xff >> (7 - (end & 7)),
      .from = QUIC_ROOM + w->frame_from - turn,
  };
  bpf_loop(f.last - f.first + 1, add_word, &f, 0);
  return f.conflict ? QUIC_CONFLICT : QUIC_READ;
}

struct frame_reading {
  struct quic_work *w;
  struct quic_stream *s;
};

/* Reads the integer at w->position into w->value. 0: it is whole. */
static __noinline int take_integer(struct quic_work *w) {
  const __u32 at = w->position;
  if (at >= w->size) return -1;
  const __u32 size = read_integer(payload_of(w) + bounded(at, QUIC_PAYLOAD - 1), &w->value);
  w->position = at + size;
  return w->position > w->size ? -1 : 0;
}

/* Skips `count` integers. */
static __always_inline int skip_integers(struct quic_work *w, const int count) {
  for (int i = 0; i < count; i++)
    if (take_integer(w)) return -1;
  return 0;
}

static __always_inline int read_ack(struct quic_work *w, __u8 type) {
  if (skip_integers(w, 3) || w->value > QUIC_PAYLOAD) return QUIC_REFUSED;
  /* The first range, pairs of more, and the three counts of ECN. */
  w->skip = 1 + w->value * 2 + (type == 3 ? 3 : 0);
  return QUIC_READ;
}

static __always_inline int read_crypto(struct quic_work *w, struct quic_stream *s) {
  if (take_integer(w)) return QUIC_REFUSED;
  const __u64 offset = w->value;
  if (take_integer(w) || w->value > w->size - w->position) return QUIC_REFUSED;
  if (offset + w->value > QUIC_STREAM) return QUIC_TOO_LARGE;
  w->frame_offset = offset;
  w->frame_from = w->position;
  w->frame_length = w->value;
  w->position += w->value;
  w->crypto += w->value;
  return add_frame(w, s);
}

static __always_inline int read_close(struct quic_work *w) {
  if (skip_integers(w, 3) || w->value > w->size - w->position) return QUIC_REFUSED;
  w->position += w->value;
  return QUIC_READ;
}

/* Reads a frame, or a part of one. Others than these are not allowed in an Initial packet (RFC 9000, 12.4). */
static long read_frame(__u32 i, struct frame_reading *r) {
  (void)i;
  struct quic_work *w = r->w;
  if (w->position >= w->size) return 1;
  if (w->skip) {
    w->skip--;
    if (take_integer(w)) w->bad = QUIC_REFUSED;
    return !!w->bad;
  }
  const __u8 *at = payload_of(w) + bounded(w->position, QUIC_PAYLOAD - 1);
  if (!*(const __u64 *)at) {
    w->position += 8;
    return 0;
  }
  const __u8 type = at[0];
  w->position++;
  if (type <= 1) return 0; /* PADDING, PING */
  w->bad = type == 2 || type == 3 ? read_ack(w, type)
           : type == 6            ? read_crypto(w, r->s)
           : type == 0x1c         ? read_close(w)
                                  : QUIC_REFUSED;
  return !!w->bad;
}

/* Adds what the frames of an opened packet say. */
static __always_inline int read_frames(struct quic_work *w, struct quic_stream *s) {
  struct frame_reading r = {.w = w, .s = s};
  w->position = w->skip = w->bad = 0;
  bpf_loop(QUIC_MAX_STEPS, read_frame, &r, 0);
  if (w->bad) return w->bad;
  return w->skip || w->position < w->size ? QUIC_REFUSED : QUIC_READ;
}

/* Moves s->have over what was said without a gap. */
GLOBAL_FUNCTION int quic_find_gap(struct quic_stream *s) {
  if (!s) return 0;
  const __u64 *known = (const __u64 *)s->known;
  __u32 at = s->have / 64;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_STREAM / 64; i++) {
    if (at >= QUIC_STREAM / 64 || known[bounded(at, QUIC_STREAM / 64 - 1)] != ~0ULL) break;
    at++;
  }
  __u64 missing = at < QUIC_STREAM / 64 ? ~known[bounded(at, QUIC_STREAM / 64 - 1)] : 0;
  s->have = at * 64 + (missing ? lowest_bit(missing) : 0);
  return 0;
}

/* Whether nothing but zeros is left of the datagram: some clients pad so. No server takes them for a
 * packet. */
GLOBAL_FUNCTION int quic_is_padding(struct __sk_buff *skb, struct quic_work *w) {
  if (!w) return 0;
  const __u32 size = w->end - w->at;
  __u64 *words = (__u64 *)w->room, rest = 0;
  __u64 last = size / 8;
  asm volatile("" : "+r"(last));
  if (last > QUIC_PAYLOAD / 8) return 0;
  words[last] = 0; /* what is behind the last byte */
  if (load_bytes(skb, w->at, w->room, size, QUIC_PAYLOAD)) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i <= QUIC_PAYLOAD / 8; i++) {
    if (i * 8 >= size) break;
    rest |= words[i];
  }
  return !rest;
}

/* Puts the keys of the packet's own id into w->keys. */
static __always_inline void quic_own_keys(struct quic_work *w) {
  if (w->keys.version != w->packet.version || !same_id(&w->keys.id, &w->packet.to))
    quic_make_keys(w, &w->keys, &w->packet.to, w->packet.version);
}

/* Opens the Initial packet in w->packet with the keys of a stream. What would open with those of its own id
 * as well was made to say two things, since GCM does not commit to its key: it is refused. 0: it is valid. */
static __always_inline int open_only_with(struct __sk_buff *skb, struct quic_work *w,
                                          const struct quic_keys *k) {
  if (!same_id(&k->id, &w->packet.to)) {
    quic_own_keys(w);
    if (!quic_open(skb, w, &w->keys, 1)) return -1;
  }
  return quic_open(skb, w, k, 0);
}

/* Opens the Initial packets of a datagram, of which quic_begin() has read the first header, and adds what
 * they say to the stream, by whose keys. w->seen: which others are behind them. Returns enum quic_result. */
GLOBAL_FUNCTION int quic_read(struct __sk_buff *skb, struct quic_work *w, struct quic_stream *s) {
  if (!w || !s) return QUIC_REFUSED;
  int kind = w->packet.kind;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_MAX_PACKETS; i++) {
    if (i) kind = quic_next(skb, w);
    if (kind == QUIC_INITIAL || kind == QUIC_ZERO_RTT || kind == QUIC_HANDSHAKE) {
      /* One datagram is for one connection (RFC 9000, 12.2). */
      if (w->packet.version != s->keys.version || !same_id(&w->packet.to, &w->to)) return QUIC_REFUSED;
    } else if (kind != QUIC_SHORT && kind != QUIC_OTHER) {
      return QUIC_REFUSED;
    }
    if (kind == QUIC_INITIAL) {
      if (open_only_with(skb, w, &s->keys)) return QUIC_REFUSED;
      const int result = read_frames(w, s);
      if (result) return result;
    } else if (kind != QUIC_OTHER || !quic_is_padding(skb, w)) {
      w->seen |= 1 << kind;
    }
    w->at = w->packet.end;
    if (w->at >= w->end) {
      quic_find_gap(s);
      return QUIC_READ;
    }
  }
  return QUIC_REFUSED;
}

#endif
