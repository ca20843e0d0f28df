/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The keys of QUIC's Initial packets, and how such a packet is opened: versions 1 (RFC 9001, 5) and 2 (RFC
 * 9369). The keys come from a connection id that the client chose. So they keep nothing secret, but only
 * who has read the packet can write one that its receiver takes for valid: the tag is checked before a byte
 * counts. */
#ifndef EA_QUIC_KEYS_H
#define EA_QUIC_KEYS_H

#include "aes.h"
#include "sha256.h"

#define QUIC_V1 1
#define QUIC_V2 0x6b3343cf

/* QUIC_HEADER, QUIC_PAYLOAD: bytes of an Initial packet that is read, up to its number and behind it. */
enum {
  QUIC_ID_BYTES = 20,
  QUIC_TAG = 16,
  QUIC_SAMPLE_AT = 4,
  QUIC_HEADER = 1024,
  QUIC_PAYLOAD = 4096,
  QUIC_ROOM = 8
};

/* A connection id; behind its `length` bytes are zeros. */
struct quic_id {
  __u32 length;
  __u8 bytes[QUIC_ID_BYTES];
};

/* Those of what the client of a connection sends. `version` 0: there are none. */
struct quic_keys {
  struct gcm_key payload;
  struct aes_key header;
  __u32 iv[3]; /* little endian, like struct aes_block */
  __u32 version;
  struct quic_id id;
};

/* A packet of a datagram. Offsets are in the sk_buff. */
struct quic_packet {
  __u32 kind; /* enum quic_kind */
  __u32 version;
  __u32 at;
  __u32 number_at; /* of its number, behind the length */
  __u32 end;
  __u32 token; /* bytes */
  struct quic_id to;
  struct quic_id from;
};

/* Work memory, one for each CPU. */
struct quic_work {
  /* Keys. */
  struct sha256 hash;
  struct hmac_key secret;
  struct aes_block block;
  struct ghash_word ghash;
  struct quic_keys keys; /* those of a packet's own id */
  /* The datagram: quic.h. */
  __u32 at; /* of the next packet */
  __u32 end;
  __u32 seen;        /* kinds of packets behind its Initial packets: 1 << enum quic_kind */
  __u32 crypto;      /* bytes of CRYPTO frames */
  struct quic_id to; /* the first packet's */
  struct quic_packet packet;
  /* The packet's frames. */
  __u32 number;
  __u32 header_size;
  __u32 size; /* of the payload */
  __u32 position;
  __u32 skip; /* fields of an ACK frame that are left */
  __u32 bad;  /* enum quic_result; not 0: nothing more is read */
  __u64 value;
  __u32 frame_offset, frame_from, frame_length;
  __u32 pad;
  /* What quic_flow.h is given and gives. */
  __u32 next; /* the next datagram */
  __u32 left;
  __u32 piece;
  __u32 endpoint;
  __u32 reading; /* a hello waits for its decision */
  __u32 hello_at;
  __u32 hello_size;
  __u32 judged; /* a hello was, in this packet */
  __u64 rule;
  /* Bytes of the packet, each with what a look-up may read too far. */
  __u64 tag[2];
  __u8 head[64 + 32];
  __u8 header[QUIC_HEADER + 32];
  __u8 room[QUIC_ROOM + QUIC_PAYLOAD + 16]; /* the payload, and room before it */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct quic_work);
} quic_works SEC(".maps");

static __always_inline struct quic_work *quic_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&quic_works, &zero);
}

static __always_inline __u8 *payload_of(struct quic_work *w) {
  return w->room + QUIC_ROOM;
}

static __always_inline int same_id(const struct quic_id *a, const struct quic_id *b) {
  const __u64 *x = (const __u64 *)a, *y = (const __u64 *)b;
  return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/* The salts of both versions, as keys of HMAC. */
static const struct hmac_key quic_salts[2] = {{.inner = {0x2d5eed97, 0x70d71abf, 0x4c9b8799, 0xc4eb86b0,
                                                         0xe9b16e41, 0xd04322f6, 0xf73a0cb2, 0x9e23a203},
                                               .outer = {0x0d3d813d, 0xcffa6f1f, 0x7dbcb03e, 0x923042dc,
                                                         0xd15a45f6, 0x55ab0325, 0xf3c23aab, 0x37426939}},
                                              {.inner = {0x9f201982, 0x7e771bd0, 0x601a8795, 0x5d7ab60d,
                                                         0x2ff30d4b, 0x72201a09, 0x6eaa0d12, 0xca4e4d6b},
                                               .outer = {0xbb153200, 0x003bcf3a, 0xf99876d1, 0xf698c9aa,
                                                         0x804d4d49, 0x7a379cfe, 0xc1eb346e, 0xadaf299f}}};

/* What HKDF-Expand-Label hashes for each key (RFC 8446, 7.1): the length, the label, no context, and the
 * counter. Behind it stands the first bit of SHA-256's padding. */
struct quic_label {
  char bytes[31];
  __u8 size; /* without that bit */
};
enum { LABEL_CLIENT = 0, LABEL_KEY = 1, LABEL_IV = 2, LABEL_HEADER = 3, LABELS_V2 = 4 };
#define LABEL(length, text)                                                                                  \
  { "\x00" length text "\x00\x01\x80", sizeof("\x00" length text "\x00\x01") - 1 }
static const struct quic_label quic_labels[8] = {
    LABEL("\x20", "\x0ftls13 client in"), LABEL("\x10", "\x0etls13 quic key"),
    LABEL("\x0c", "\x0dtls13 quic iv"),   LABEL("\x10", "\x0dtls13 quic hp"),
    LABEL("\x20", "\x0ftls13 client in"), LABEL("\x10", "\x10tls13 quicv2 key"),
    LABEL("\x0c", "\x0ftls13 quicv2 iv"), LABEL("\x10", "\x0ftls13 quicv2 hp")};

/* Derives what a label names from the secret; the result is in w->hash.state. */
static __always_inline void derive(struct quic_work *w, __u32 label) {
  const struct quic_label *l = &quic_labels[label & 7];
  const __u32 *words = (const __u32 *)l->bytes;
  __u32 *to = w->hash.words;
#pragma unroll
  for (int i = 0; i < 7; i++)
    to[i] = bpf_ntohl(words[i]);
#pragma unroll
  for (int i = 7; i < 15; i++)
    to[i] = 0;
  to[15] = (64 + l->size) * 8;
  hmac(&w->hash, &w->secret);
}

static __always_inline void take_key(const struct quic_work *w, __u32 *to, const int words) {
  for (int i = 0; i < words; i++)
    to[i] = bpf_htonl(w->hash.state[i]);
}

/* Makes the keys of the client that chose this id as the first one of its server. */
GLOBAL_FUNCTION int quic_make_keys(struct quic_work *w, struct quic_keys *k, const struct quic_id *id,
                                   __u32 version) {
  if (!w || !k || !id) return 0;
  const __u32 v2 = version == QUIC_V2, labels = v2 * LABELS_V2;
  const __u32 *bytes = (const __u32 *)id->bytes;
  __u32 *to = w->hash.words;
  k->id = *id;
  k->version = version;
#pragma unroll
  for (int i = 0; i < 5; i++)
    to[i] = bpf_ntohl(bytes[i]);
#pragma unroll
  for (int i = 5; i < 15; i++)
    to[i] = 0;
  to[id->length >> 2 & 7] |= 0x80000000U >> 8 * (id->length & 3);
  to[15] = (64 + (id->length & 31)) * 8;
  w->secret = quic_salts[v2];
  hmac(&w->hash, &w->secret);
  hmac_use(&w->hash, &w->secret);
  derive(w, labels + LABEL_CLIENT);
  hmac_use(&w->hash, &w->secret);
  derive(w, labels + LABEL_KEY);
  take_key(w, k->payload.aes.words, 4);
  derive(w, labels + LABEL_IV);
  take_key(w, k->iv, 3);
  derive(w, labels + LABEL_HEADER);
  take_key(w, k->header.words, 4);
  aes_expand(&k->header);
  gcm_expand(&k->payload, &w->block);
  return 0;
}

/* Hashes a block of the header or of the payload. */
GLOBAL_FUNCTION int quic_hash(struct quic_work *w, const struct gcm_key *key, const struct aes_block *block) {
  if (!w || !key || !block) return 0;
  struct ghash_word hash = w->ghash;
  ghash_add(&hash, (const __u64 *)block->words);
  ghash_multiply(key, &hash);
  w->ghash = hash;
  return 0;
}

/* Encrypts the counter of a block: 1 for the tag, and 2 and so on for the payload. */
static __always_inline void encrypt_counter(const struct quic_work *w, const struct quic_keys *k,
                                            __u32 counter, struct aes_block *block) {
  block->words[0] = k->iv[0];
  block->words[1] = k->iv[1];
  block->words[2] = k->iv[2] ^ bpf_htonl(w->number);
  block->words[3] = bpf_htonl(counter);
  aes_encrypt(&k->payload.aes, block);
}

/* Decrypts a block of the payload. */
GLOBAL_FUNCTION int quic_decrypt(struct quic_work *w, const struct quic_keys *k, struct aes_block *block,
                                 __u32 counter) {
  if (!w || !k || !block) return 0;
  struct aes_block stream;
  encrypt_counter(w, k, counter, &stream);
#pragma unroll
  for (int i = 0; i < 4; i++)
    block->words[i] ^= stream.words[i];
  return 0;
}

/* Whether w->tag is the tag of what is in w->header and in the room for the payload. */
static __always_inline int has_tag(struct quic_work *w, const struct quic_keys *k) {
  w->ghash.high = w->ghash.low = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_HEADER / 16; i++) {
    if (i * 16 >= w->header_size) break;
    quic_hash(w, &k->payload, (const struct aes_block *)(w->header + i * 16));
  }
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_PAYLOAD / 16; i++) {
    if (i * 16 >= w->size) break;
    quic_hash(w, &k->payload, (const struct aes_block *)(payload_of(w) + i * 16));
  }
  struct ghash_word hash = w->ghash;
  hash.high ^= (__u64)w->header_size * 8;
  hash.low ^= (__u64)w->size * 8;
  ghash_multiply(&k->payload, &hash);
  struct aes_block stream;
  encrypt_counter(w, k, 1, &stream);
  const __u64 high = stream.words[0] | (__u64)stream.words[1] << 32;
  const __u64 low = stream.words[2] | (__u64)stream.words[3] << 32;
  return (w->tag[0] ^ high) == bpf_cpu_to_be64(hash.high) && (w->tag[1] ^ low) == bpf_cpu_to_be64(hash.low);
}

#endif
