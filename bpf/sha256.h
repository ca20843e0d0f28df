/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* SHA-256 (FIPS 180-4) and HMAC (RFC 2104) with it, as far as the keys of QUIC need them: messages that fit
 * into one block. No helper of the kernel's hashes with keys of a program's own. */
#ifndef EA_SHA256_H
#define EA_SHA256_H

#include "config.h"

/* `words` is one block of the message: words of big-endian bytes, in host order. Hashing overwrites it. */
struct sha256 {
  __u32 state[8];
  __u32 words[16];
  __u32 variables[8];
};

/* The states behind the two blocks that an HMAC's key fills. */
struct hmac_key {
  __u32 inner[8];
  __u32 outer[8];
};

static const __u32 sha256_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

/* A word twice in one register: three rotations of it are three shifts, since BPF has no rotation. */
static __always_inline __u64 twice(__u32 x) {
  return (__u64)x << 32 | x;
}

#define ROTATED(x, i, j, k)                                                                                  \
  ({                                                                                                         \
    const __u64 both = twice(x);                                                                             \
    (__u32)(both >> (i) ^ both >> (j) ^ both >> (k));                                                        \
  })
#define ROTATED_SHIFTED(x, i, j, k)                                                                          \
  ({                                                                                                         \
    const __u64 both = twice(x);                                                                             \
    (__u32)(both >> (i) ^ both >> (j)) ^ (x) >> (k);                                                         \
  })

/* One of the variables a to h (0 to 7), which move on by one with each round. */
#define VARIABLE(i) v[((i)-n) & 7]

/* Adds a block to the state. Variables and words stay in memory: the compiler would keep them on the stack,
 * which has no room for them. */
GLOBAL_FUNCTION int sha256_add(struct sha256 *s) {
  if (!s) return 0;
  __u32 *w = s->words, *v = s->variables;
  __builtin_memcpy(v, s->state, sizeof(s->state));
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < 64; i += 16) {
    const __u32 *constants = sha256_constants + i;
    if (i) {
#pragma unroll
      for (int n = 0; n < 16; n++) {
        const __u32 near = w[(n + 1) & 15], far = w[(n + 14) & 15];
        w[n] += ROTATED_SHIFTED(near, 7, 18, 3) + w[(n + 9) & 15] + ROTATED_SHIFTED(far, 17, 19, 10);
        asm volatile("" : : : "memory");
      }
    }
#pragma unroll
    for (int n = 0; n < 16; n++) {
      const __u32 e = VARIABLE(4), f = VARIABLE(5), g = VARIABLE(6);
      const __u32 one = VARIABLE(7) + ROTATED(e, 6, 11, 25) + (g ^ (e & (f ^ g))) + constants[n] + w[n];
      const __u32 a = VARIABLE(0), b = VARIABLE(1), c = VARIABLE(2);
      VARIABLE(3) += one;
      VARIABLE(7) = one + ROTATED(a, 2, 13, 22) + ((a & b) | (c & (a | b)));
      asm volatile("" : : : "memory");
    }
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
    s->state[i] += v[i];
  return 0;
}

/* The HMAC of the message in s->words, which is padded already, as one that follows the block of the key. The
 * result is in s->state. */
static __always_inline void hmac(struct sha256 *s, const struct hmac_key *key) {
  __builtin_memcpy(s->state, key->inner, sizeof(s->state));
  sha256_add(s);
  __builtin_memcpy(s->words, s->state, sizeof(s->state));
  __builtin_memset(s->words + 8, 0, 32);
  s->words[8] = 1U << 31;
  s->words[15] = (64 + 32) * 8;
  __builtin_memcpy(s->state, key->outer, sizeof(s->state));
  sha256_add(s);
}

static __always_inline void begin_sha256(struct sha256 *s) {
  s->state[0] = 0x6a09e667;
  s->state[1] = 0xbb67ae85;
  s->state[2] = 0x3c6ef372;
  s->state[3] = 0xa54ff53a;
  s->state[4] = 0x510e527f;
  s->state[5] = 0x9b05688c;
  s->state[6] = 0x1f83d9ab;
  s->state[7] = 0x5be0cd19;
}

static __always_inline void fill_pad(struct sha256 *s, const __u32 *digest, const __u32 pad) {
  for (int i = 0; i < 8; i++)
    s->words[i] = digest[i] ^ pad;
  for (int i = 8; i < 16; i++)
    s->words[i] = pad;
  begin_sha256(s);
}

/* Makes the result of the last HMAC the key of others. */
static __always_inline void hmac_use(struct sha256 *s, struct hmac_key *key) {
  __builtin_memcpy(key->inner, s->state, sizeof(key->inner));
  fill_pad(s, key->inner, 0x5c5c5c5c);
  sha256_add(s);
  __builtin_memcpy(key->outer, s->state, sizeof(key->outer));
  fill_pad(s, key->inner, 0x36363636);
  sha256_add(s);
  __builtin_memcpy(key->inner, s->state, sizeof(key->inner));
}

#endif
