/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The text of a name, as it is read from DNS messages, and the memory in which names are worked on. */
#ifndef EA_NAME_TEXT_H
#define EA_NAME_TEXT_H

#include "decided.h"

/* A name: lower case, without the final dot. Behind the text, zeros up to a multiple of eight bytes. */
struct name_text {
  __u64 hash; /* hash_text() */
  __u16 length;
  __u16 pad[3];
  __u8 bytes[EA_NAME_TEXT + 8];
};

/* A name as `names` has it. */
struct packed_name {
  __u64 hash;
  __u16 length; /* of the text */
  __u16 pad[3];
  __u16 units[EA_NAME_UNITS]; /* ea_name.text */
};

enum { SYMBOLS_BEFORE = 16 };

/* Texts of a message: the question, the targets of its CNAMEs, and one to compare with. */
enum { TEXT_QUESTION = 0, TEXT_SERVER = 0, NAME_SCRATCH = 17, NAME_TEXTS = 18 };

/* An address that is about to be learned, and under which name. */
struct learning {
  __u32 endpoint; /* id */
  __u32 payer;    /* its slot in `endpoints` */
  __u32 text;     /* which of the texts */
  __u32 alias;    /* not 0: the endpoint asked for another name */
  __u32 ttl_s;
  __u32 flags; /* enum ea_name_flags to add */
  __u8 addr[16];
  __u8 resolver[16];
  __be16 resolver_port;
  __u16 pad[3];
};

/* A power of two, so that an index can be masked for the verifier; more than links of an address. */
enum { MAX_NAME_CLASSES = 128 };
_Static_assert(EA_NAME_PAGES *EA_NAME_LINKS < MAX_NAME_CLASSES, "a class for each link");

struct name_work {
  struct learning learning;
  __u32 names[NAME_TEXTS];        /* slots in `names` of the texts; valid with `incarnations` */
  __u32 incarnations[NAME_TEXTS]; /* 0: not stored yet */
  struct name_text texts[NAME_TEXTS];
  struct packed_name packed;                   /* the text that is stored or looked for */
  __u8 symbols[SYMBOLS_BEFORE + EA_NAME_TEXT]; /* of a text that is packed, behind zeros */
  /* Of an address that is judged: the classes of its names, and their sum, which stands for all of them. */
  __u64 classes[MAX_NAME_CLASSES];
  __u64 key;
  __u64 name_class, alias_class; /* of the name that was classified last */
  __u32 count;
  __u32 name; /* one of its names: slot and incarnation (0: none); if possible, one that a pattern matches */
  __u32 incarnation;
  __u32 endpoint;
  __u8 collected[16]; /* the address */
  __u32 learned; /* what the endpoint had learned before its packet was judged: ea_name_holding.learned */
  struct decision met;  /* queries.h, said.h */
  struct decision none; /* said.h */
  /* Rows under construction; a small row is the beginning of one. */
  struct ea_row_large names_row; /* of these classes, ORed */
  struct ea_row_large peers_row; /* of the address, with what the endpoint itself, names and queries change */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct name_work);
} name_works SEC(".maps");

/* An index into `classes`, in a form in which the verifier sees the bound. */
static __always_inline __u32 class_index(__u32 i) {
  asm volatile("%0 &= 127" : "+r"(i));
  return i;
}

static __always_inline struct name_work *name_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&name_works, &zero);
}

static __always_inline const struct ea_name_state_words *name_words(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&name_state, &zero);
}

#define EACH_BYTE 0x0101010101010101ULL

/* For each of eight bytes below 0x80: its highest bit is set if it is `low` or more. */
static __always_inline __u64 at_least(__u64 bytes, __u8 low) {
  return bytes + (0x80 - low) * EACH_BYTE;
}

/* Eight bytes of a label as they stand in a text. */
static __always_inline __u64 clean_bytes(__u64 bytes) {
  const __u64 high = 0x80 * EACH_BYTE;
  const __u64 beyond = bytes & high; /* not ASCII */
  bytes &= ~high;
  bytes |= (at_least(bytes, 'A') & ~at_least(bytes, 'Z' + 1) & high) >> 2; /* 0x20: lower case */
  const __u64 letter = at_least(bytes, 'a') & ~at_least(bytes, 'z' + 1),
              digit = at_least(bytes, '0') & ~at_least(bytes, '9' + 1),
              sign = at_least(bytes, '-') & ~at_least(bytes, '-' + 1),
              line = at_least(bytes, '_') & ~at_least(bytes, '_' + 1);
  const __u64 odd = (~(letter | digit | sign | line) & high) | beyond;
  const __u64 mask = (odd << 1) - (odd >> 7); /* all bits of the odd bytes */
  return (bytes & ~mask) | ('?' * EACH_BYTE & mask);
}

/* Eight bytes of a name as they stand in a text: lower case. `odd`: there is a byte that no name has. */
static __always_inline __u64 clean_name(__u64 bytes, __u64 *odd) {
  const __u64 high = 0x80 * EACH_BYTE;
  const __u64 dot = at_least(bytes & ~high, '.') & ~at_least(bytes & ~high, '.' + 1) & ~bytes & high;
  const __u64 mask = (dot << 1) - (dot >> 7);
  const __u64 clean = clean_bytes(bytes) & ~mask;
  const __u64 marked = clean ^ ('?' * EACH_BYTE); /* zero where a byte is odd */
  *odd |= ~(((marked & ~high) + 0x7f * EACH_BYTE) | marked) & high;
  return clean | ('.' * EACH_BYTE & mask);
}

/* Multilinear hashing, as of the flow table's keys: halves of words, each plus a secret of its own, are
 * multiplied in pairs, and the products added. After five words the sum takes the place of a word, so that
 * twelve secrets are enough. Two texts that somebody chose without the secrets have the same hash with a
 * probability of some 2^-32. A text contains no zeros, so what it is padded with tells nothing. */
static __always_inline __u64 hash_text(const struct name_text *text, const struct ea_name_state_words *st) {
  const __u64 *w = (const __u64 *)text->bytes, *s = st->secret;
  const __u32 words = (text->length + 7) / 8;
  __u64 h = s[0] * s[1];
#pragma clang loop unroll(disable)
  for (__u32 i = 0, at = 2; i < EA_NAME_TEXT / 8; i++) {
    if (i >= words) break;
    h += (s[at] + (__u32)w[i]) * (s[at + 1] + (w[i] >> 32));
    at += 2;
    if (at < EA_NAME_SECRETS) continue;
    h = (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
    h = (s[0] + (__u32)h) * (s[1] + (h >> 32));
    at = 2;
  }
  return (h ^ h >> 32) * 0x9e3779b97f4a7c15ULL;
}

/* Of bytes of which some have their highest bit set: one in each of these, zero in the others. */
static __always_inline __u64 ones(__u64 high) {
  return (high & 0x80 * EACH_BYTE) >> 7;
}

/* The symbols of eight bytes of a text. */
static __always_inline __u64 symbols_of(__u64 bytes) {
  const __u64 ascii = ~(ones(bytes) * 0xff); /* not of a clean text */
  bytes &= ~(0x80 * EACH_BYTE);
  const __u64 letter = ones(at_least(bytes, 'a') & ~at_least(bytes, 'z' + 1)),
              digit = ones(at_least(bytes, '0') & ~at_least(bytes, '9' + 1)),
              dot = ones(at_least(bytes, '.') & ~at_least(bytes, '.' + 1)),
              hyphen = ones(at_least(bytes, '-') & ~at_least(bytes, '-' + 1)),
              line = ones(at_least(bytes, '_') & ~at_least(bytes, '_' + 1));
  return ascii & ((bytes & letter * 0xff) - letter * ('a' - EA_SYMBOL_LETTER) + (bytes & digit * 0xff) -
                  digit * ('0' - EA_SYMBOL_DIGIT) + dot * EA_SYMBOL_DOT + hyphen * EA_SYMBOL_HYPHEN +
                  line * EA_SYMBOL_LINE);
}

/* An index that is compared and used as it is, so that the verifier sees the bound. */
static __always_inline __u32 as_compared(__u32 at) {
  asm volatile("" : "+r"(at));
  return at;
}

/* The unit of the three symbols before a place. */
static __always_inline __u64 unit_of(const __u8 *end) {
  return end[-1] + EA_NAME_SYMBOLS * end[-2] + EA_NAME_SYMBOLS * EA_NAME_SYMBOLS * end[-3];
}

/* Spells texts[text] in symbols, in name_work.symbols. */
GLOBAL_FUNCTION int spell_name(__u32 text) {
  struct name_work *w = name_work();
  if (!w || text >= NAME_TEXTS) return 0;
  const __u64 *bytes = (const __u64 *)w->texts[text].bytes;
  __u64 *symbols = (__u64 *)(w->symbols + SYMBOLS_BEFORE);
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_TEXT / 8; i++) {
    if (i * 8 >= w->texts[text].length) break;
    symbols[i] = symbols_of(bytes[i]);
  }
  return 0;
}

/* Packs texts[text] into name_work.packed. Behind the words of the text, that is undefined. */
GLOBAL_FUNCTION int pack_name(__u32 text) {
  struct name_work *w = name_work();
  if (!w || text >= NAME_TEXTS) return 0;
  spell_name(text);
  const __u32 length = w->texts[text].length;
  w->packed.hash = w->texts[text].hash;
  w->packed.length = length;
  __u64 *words = (__u64 *)w->packed.units;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_UNITS / 4; i++) {
    const __u32 end = as_compared(SYMBOLS_BEFORE + length - i * 12);
    if (end <= SYMBOLS_BEFORE || end > SYMBOLS_BEFORE + EA_NAME_TEXT) break;
    const __u8 *at = w->symbols + end;
    words[i] = unit_of(at) | unit_of(at - 3) << 16 | unit_of(at - 6) << 32 | unit_of(at - 9) << 48;
  }
  return 0;
}

#endif
