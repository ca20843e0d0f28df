/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* AES-128 (FIPS 197) and what GCM needs of it (NIST SP 800-38D), by tables. The kernel's ciphers are no
 * help: a program cannot give them a key of its own. The keys are no secrets, whoever sees a packet can
 * derive them: so it does not matter what the time of a look-up tells.
 *
 * Words of a state and of round keys have their bytes in little-endian order, as they stand in memory. */
#ifndef EA_AES_H
#define EA_AES_H

#include "config.h"

struct aes_key {
  __u32 words[44];
};
/* Of GHASH: `table` has the products of the hash's key with all polynomials of four terms. */
struct ghash_word {
  __u64 high, low;
};
struct gcm_key {
  struct aes_key aes;
  struct ghash_word table[16];
};
struct aes_block {
  __u32 words[4];
};

/* The share of each byte, substituted, in a column of the next state: multiplied with the column (2, 1, 1,
 * 3), and with its rotations. The parts that are multiplied with 1 are all that the last round takes. */
#define DOUBLED(s) (((s) << 1 ^ ((s) >> 7) * 0x1b) & 0xff)
#define COLUMN(a, b, c, d) ((a) | (b) << 8 | (c) << 16 | (__u32)(d) << 24)
#define S(s)                                                                                                 \
  {                                                                                                          \
    {                                                                                                        \
      COLUMN(DOUBLED(s), s, s, DOUBLED(s) ^ (s)), COLUMN(DOUBLED(s) ^ (s), DOUBLED(s), s, s),                \
          COLUMN(s, DOUBLED(s) ^ (s), DOUBLED(s), s), COLUMN(s, s, DOUBLED(s) ^ (s), DOUBLED(s))             \
    }                                                                                                        \
  }
static const struct aes_block aes_shares[256] = {
    S(0x63), S(0x7c), S(0x77), S(0x7b), S(0xf2), S(0x6b), S(0x6f), S(0xc5), S(0x30), S(0x01), S(0x67),
    S(0x2b), S(0xfe), S(0xd7), S(0xab), S(0x76), S(0xca), S(0x82), S(0xc9), S(0x7d), S(0xfa), S(0x59),
    S(0x47), S(0xf0), S(0xad), S(0xd4), S(0xa2), S(0xaf), S(0x9c), S(0xa4), S(0x72), S(0xc0), S(0xb7),
    S(0xfd), S(0x93), S(0x26), S(0x36), S(0x3f), S(0xf7), S(0xcc), S(0x34), S(0xa5), S(0xe5), S(0xf1),
    S(0x71), S(0xd8), S(0x31), S(0x15), S(0x04), S(0xc7), S(0x23), S(0xc3), S(0x18), S(0x96), S(0x05),
    S(0x9a), S(0x07), S(0x12), S(0x80), S(0xe2), S(0xeb), S(0x27), S(0xb2), S(0x75), S(0x09), S(0x83),
    S(0x2c), S(0x1a), S(0x1b), S(0x6e), S(0x5a), S(0xa0), S(0x52), S(0x3b), S(0xd6), S(0xb3), S(0x29),
    S(0xe3), S(0x2f), S(0x84), S(0x53), S(0xd1), S(0x00), S(0xed), S(0x20), S(0xfc), S(0xb1), S(0x5b),
    S(0x6a), S(0xcb), S(0xbe), S(0x39), S(0x4a), S(0x4c), S(0x58), S(0xcf), S(0xd0), S(0xef), S(0xaa),
    S(0xfb), S(0x43), S(0x4d), S(0x33), S(0x85), S(0x45), S(0xf9), S(0x02), S(0x7f), S(0x50), S(0x3c),
    S(0x9f), S(0xa8), S(0x51), S(0xa3), S(0x40), S(0x8f), S(0x92), S(0x9d), S(0x38), S(0xf5), S(0xbc),
    S(0xb6), S(0xda), S(0x21), S(0x10), S(0xff), S(0xf3), S(0xd2), S(0xcd), S(0x0c), S(0x13), S(0xec),
    S(0x5f), S(0x97), S(0x44), S(0x17), S(0xc4), S(0xa7), S(0x7e), S(0x3d), S(0x64), S(0x5d), S(0x19),
    S(0x73), S(0x60), S(0x81), S(0x4f), S(0xdc), S(0x22), S(0x2a), S(0x90), S(0x88), S(0x46), S(0xee),
    S(0xb8), S(0x14), S(0xde), S(0x5e), S(0x0b), S(0xdb), S(0xe0), S(0x32), S(0x3a), S(0x0a), S(0x49),
    S(0x06), S(0x24), S(0x5c), S(0xc2), S(0xd3), S(0xac), S(0x62), S(0x91), S(0x95), S(0xe4), S(0x79),
    S(0xe7), S(0xc8), S(0x37), S(0x6d), S(0x8d), S(0xd5), S(0x4e), S(0xa9), S(0x6c), S(0x56), S(0xf4),
    S(0xea), S(0x65), S(0x7a), S(0xae), S(0x08), S(0xba), S(0x78), S(0x25), S(0x2e), S(0x1c), S(0xa6),
    S(0xb4), S(0xc6), S(0xe8), S(0xdd), S(0x74), S(0x1f), S(0x4b), S(0xbd), S(0x8b), S(0x8a), S(0x70),
    S(0x3e), S(0xb5), S(0x66), S(0x48), S(0x03), S(0xf6), S(0x0e), S(0x61), S(0x35), S(0x57), S(0xb9),
    S(0x86), S(0xc1), S(0x1d), S(0x9e), S(0xe1), S(0xf8), S(0x98), S(0x11), S(0x69), S(0xd9), S(0x8e),
    S(0x94), S(0x9b), S(0x1e), S(0x87), S(0xe9), S(0xce), S(0x55), S(0x28), S(0xdf), S(0x8c), S(0xa1),
    S(0x89), S(0x0d), S(0xbf), S(0xe6), S(0x42), S(0x68), S(0x41), S(0x99), S(0x2d), S(0x0f), S(0xb0),
    S(0x54), S(0xbb), S(0x16)};
#undef S

/* What the four terms that a shift by four pushes out of a polynomial are modulo that of GCM. */
#define REMAINDER(r) (__u64)(r) << 48
static const __u64 ghash_remainders[16] = {
    REMAINDER(0x0000), REMAINDER(0x1c20), REMAINDER(0x3840), REMAINDER(0x2460),
    REMAINDER(0x7080), REMAINDER(0x6ca0), REMAINDER(0x48c0), REMAINDER(0x54e0),
    REMAINDER(0xe100), REMAINDER(0xfd20), REMAINDER(0xd940), REMAINDER(0xc560),
    REMAINDER(0x9180), REMAINDER(0x8da0), REMAINDER(0xa9c0), REMAINDER(0xb5e0)};

/* The n-th byte of a word, by which a table is read: without a bound, the verifier knows that it is one. */
#define BYTE(x, n) ((x) >> 8 * (n)&0xff)

/* A column of the next state, of the columns that its bytes are in. */
#define AES_COLUMN(a, b, c, d)                                                                               \
  (aes_shares[BYTE(a, 0)].words[0] ^ aes_shares[BYTE(b, 1)].words[1] ^ aes_shares[BYTE(c, 2)].words[2] ^     \
   aes_shares[BYTE(d, 3)].words[3])
#define AES_LAST_COLUMN(a, b, c, d)                                                                          \
  ((aes_shares[BYTE(a, 0)].words[2] & 0xff) | (aes_shares[BYTE(b, 1)].words[3] & 0xff00) |                   \
   (aes_shares[BYTE(c, 2)].words[0] & 0xff0000) | (aes_shares[BYTE(d, 3)].words[1] & 0xff000000))

/* Encrypts a block in place. */
static __always_inline void aes_encrypt(const struct aes_key *key, struct aes_block *block) {
  const __u32 *k = key->words;
  __u32 a = block->words[0] ^ k[0], b = block->words[1] ^ k[1];
  __u32 c = block->words[2] ^ k[2], d = block->words[3] ^ k[3];
#pragma clang loop unroll(disable)
  for (__u32 i = 4; i < 40; i += 4) {
    const __u32 w = AES_COLUMN(a, b, c, d) ^ k[i], x = AES_COLUMN(b, c, d, a) ^ k[i + 1];
    const __u32 y = AES_COLUMN(c, d, a, b) ^ k[i + 2], z = AES_COLUMN(d, a, b, c) ^ k[i + 3];
    a = w;
    b = x;
    c = y;
    d = z;
  }
  block->words[0] = AES_LAST_COLUMN(a, b, c, d) ^ k[40];
  block->words[1] = AES_LAST_COLUMN(b, c, d, a) ^ k[41];
  block->words[2] = AES_LAST_COLUMN(c, d, a, b) ^ k[42];
  block->words[3] = AES_LAST_COLUMN(d, a, b, c) ^ k[43];
}

/* The same as a function. */
GLOBAL_FUNCTION int aes_encrypt_block(const struct aes_key *key, struct aes_block *block) {
  if (!key || !block) return 0;
  aes_encrypt(key, block);
  return 0;
}

/* Makes the round keys of the key that is their beginning. */
GLOBAL_FUNCTION int aes_expand(struct aes_key *key) {
  if (!key) return 0;
  __u32 *k = key->words;
  __u32 round = 1;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < 40; i += 4) {
    const __u32 last = k[i + 3], turned = last >> 8 | last << 24;
    k[i + 4] = k[i] ^ AES_LAST_COLUMN(turned, turned, turned, turned) ^ round;
    k[i + 5] = k[i + 1] ^ k[i + 4];
    k[i + 6] = k[i + 2] ^ k[i + 5];
    k[i + 7] = last ^ k[i + 6];
    round = DOUBLED(round);
  }
  return 0;
}

/* Multiplies a polynomial with its variable. */
static __always_inline struct ghash_word ghash_shifted(struct ghash_word x) {
  const __u64 carry = -(x.low & 1) & (0xe1ULL << 56);
  return (struct ghash_word){x.high >> 1 ^ carry, x.low >> 1 | x.high << 63};
}

/* Makes what GCM needs of the AES key that is the key's beginning. */
static __always_inline void gcm_expand(struct gcm_key *key, struct aes_block *block) {
  aes_expand(&key->aes);
  __builtin_memset(block, 0, sizeof(*block));
  aes_encrypt_block(&key->aes, block);
  const __u64 *hash_key = (const __u64 *)block->words;
  struct ghash_word x = {bpf_be64_to_cpu(hash_key[0]), bpf_be64_to_cpu(hash_key[1])};
  struct ghash_word *t = key->table;
  t[0].high = t[0].low = 0;
#pragma unroll
  for (int bit = 8; bit; bit >>= 1) {
    t[bit] = x;
    x = ghash_shifted(x);
  }
#pragma unroll
  for (int n = 3; n < 16; n++) {
    const int lowest = n & -n;
    if (n == lowest) continue;
    t[n].high = t[lowest].high ^ t[n - lowest].high;
    t[n].low = t[lowest].low ^ t[n - lowest].low;
  }
}

/* Adds the lowest four terms of a word, and shifts them out. The asm keeps the compiler from finding all
 * terms first: they would need room on the stack. */
#define GHASH_TERMS(word)                                                                                    \
  {                                                                                                          \
    const struct ghash_word *product = &table[(word)&15];                                                    \
    const __u64 remainder = ghash_remainders[low & 15];                                                      \
    low = (low >> 4 | high << 60) ^ product->low;                                                            \
    high = high >> 4 ^ remainder ^ product->high;                                                            \
    (word) >>= 4;                                                                                            \
    asm volatile("" : "+r"(word), "+r"(low), "+r"(high));                                                    \
  }

/* Multiplies what was hashed so far with the key. */
static __always_inline void ghash_multiply(const struct gcm_key *key, struct ghash_word *hash) {
  const struct ghash_word *table = key->table;
  __u64 first = hash->high, last = hash->low;
  __u64 high = 0, low = 0;
#pragma unroll
  for (int n = 0; n < 64; n += 4)
    GHASH_TERMS(last)
#pragma unroll
  for (int n = 0; n < 64; n += 4)
    GHASH_TERMS(first)
  hash->high = high;
  hash->low = low;
}

static __always_inline void ghash_add(struct ghash_word *hash, const __u64 *block) {
  hash->high ^= bpf_be64_to_cpu(block[0]);
  hash->low ^= bpf_be64_to_cpu(block[1]);
}

#endif
