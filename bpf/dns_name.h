/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Memory for DNS messages, and the names in them (RFC 1035, 4.1.4). */
#ifndef EA_DNS_NAME_H
#define EA_DNS_NAME_H

#include "names.h"
#include "parse.h"

enum {
  DNS_HEADER = 12,
  DNS_MAX_JUMPS = 16, /* pointers of a name */
  DNS_MAX_RECORDS = 4096,
  DNS_MAX_LINKS = 8192,   /* addresses, times the names that each belongs to, that one answer may teach */
  DNS_SAID_RECORDS = 256, /* with more, DNS_MAX_LINKS may leave some out, and their order counts */
  DNS_MAX_PARAMS = 64,    /* of an HTTPS record */
  DNS_MAX_ECH = 16,       /* lists of configurations of ECH that one answer may teach */
  DNS_NOWHERE = 65536,    /* no offset in a message */
};

/* The header and the question of a message. */
struct dns_question {
  __u16 id;
  __u16 flags;
  __u16 type;
  __u16 class;
  __u32 end; /* where the records begin; 0: it could not be read */
};

/* The search for a stream's buffer (dns_memory.h). */
struct dns_choice {
  __u64 now_ns;
  __u64 least_ns; /* when the best one was used last */
  __u64 seen;     /* its holder */
  __u32 best;     /* plus 1; 0: none yet */
  __u32 found;    /* it is free */
  __u32 endpoint;
  __u32 held;
};

/* A list of configurations of ECH in a message. */
struct ech_list {
  __u32 at;
  __u32 length;
  __u32 ttl_s;
};

/* Work memory, one for each CPU. What loops need in each round is here and not in registers: then the
 * verifier knows nothing of it, and need not follow each value by itself. */
struct dns_work {
  /* The message that is read, and the packet that it is in: dns_stream.h. */
  struct dns_question question;
  struct ea_dns_stream stream; /* a copy, until the packet is known to pass */
  struct ea_dns_stream done;   /* its buffer is given back when the packet passes */
  struct dns_choice choice;
  __u32 end_seq;         /* behind the packet */
  __u32 buffer;          /* of the message */
  __u32 loaded;          /* a query is in the buffer */
  __u32 unread_at;       /* offset in the packet */
  __u32 unread;          /* bytes */
  __u32 piece;           /* UDP: bytes of each datagram in the packet */
  __u32 trusted;         /* of what is received: its sender is a trusted resolver */
  __u64 asked_ns;        /* when the query was sent that the message answers; 0: it was not */
  __u64 answer;          /* its hash: dns_again.h */
  __u64 said;            /* a hash of what it says, in any order; 0: none */
  struct place asked_at; /* its record */
  __u32 asked_in;        /* not 0: it stands in its flow, one less is where (dns_asked.h) */
  /* read_name() */
  __u32 at;
  __u32 begin;
  __u32 malformed;
  __u32 limit; /* pointers lead below it */
  __u32 length;
  __u32 wire;  /* result: bytes that the name takes where it began */
  __u32 jumps; /* result */
  /* The record that was read last. */
  __u32 next; /* where the next record begins */
  __u32 data;
  __u32 data_length;
  __u32 ttl_s;
  __u16 type;
  __u16 class;
  __u64 owner; /* hash */
  /* The name that was last read as an owner. */
  __u32 owner_at;
  __u32 owner_jumps;
  /* The message. */
  __u32 bad;    /* not 0: it is malformed */
  __u32 hinted; /* it has HTTPS or SVCB records */
  __u32 answers;
  __u32 records; /* left */
  /* Its CNAMEs: 1 to `aliases`, like their targets in name_work.texts. */
  __u32 aliases;
  __u64 alias_owner[NAME_TEXTS];
  __u32 alias_ttl_s[NAME_TEXTS];
  __u32 start[NAME_TEXTS]; /* where the text begins in the message */
  __u32 jumps_of[NAME_TEXTS];
  /* From the question to the last target. */
  __u32 chained; /* how many of these */
  __u32 chain[NAME_TEXTS];
  __u32 chain_ttl_s[NAME_TEXTS];
  /* The addresses of a record. */
  __u32 address_at;
  __u32 address_size; /* 4 or 16 */
  __u32 addresses;    /* left */
  __u32 hints6_at;
  __u32 hints6;
  __u32 position; /* of its owner in the chain */
  __u32 level;    /* of the name that is next in the chain */
  __u32 links;    /* left of DNS_MAX_LINKS */
  /* ECH (ech.h): the list in the record that was read last (length 0: none); those of the message, of which the last
   * stands for all that found no place; how far they were read. */
  __u32 ech_at;
  __u32 ech_length;
  __u32 ech_lists;
  __u32 ech_read;
  __u32 ech_left; /* configurations that are still read */
  struct ech_list ech[DNS_MAX_ECH];
  struct ea_ech no_ech; /* never written */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct dns_work);
} dns_works SEC(".maps");

static __always_inline struct dns_work *dns_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&dns_works, &zero);
}

static __always_inline struct dns_buffer *dns_buffer(__u32 index) {
  return bpf_map_lookup_elem(&dns_memory, &index);
}

static __always_inline struct dns_buffer *own_buffer(void) {
  return dns_buffer(EA_DNS_STREAMS + bpf_get_smp_processor_id());
}

/* Offsets in a message are below 65536 wherever they are used. The asm keeps the compiler from leaving the
 * mask out where it knows that: the verifier does not. */
static __always_inline __u64 in_message(__u64 at) {
  asm volatile("%0 &= 0xffff" : "+r"(at));
  return at;
}

static __always_inline __u8 byte_at(const struct dns_buffer *m, __u32 at) {
  return m->bytes[in_message(at)];
}
static __always_inline __u16 be16_at(const struct dns_buffer *m, __u32 at) {
  return bpf_ntohs(*(const __u16 *)(m->bytes + in_message(at)));
}
static __always_inline __u32 be32_at(const struct dns_buffer *m, __u32 at) {
  return bpf_ntohl(*(const __u32 *)(m->bytes + in_message(at)));
}

/* Appends a label of `length` bytes, 63 at most, that stands behind its length byte at w->at. */
static __always_inline void append_label(const struct dns_buffer *m, struct name_text *to, struct dns_work *w,
                                         __u32 length) {
  const __u32 from = w->at + 1, behind = w->length;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < 64; i += 8) {
    if (i >= length) break;
    const __u64 bytes = *(const __u64 *)(m->bytes + in_message(from + i));
    __u64 at = behind + i;
    asm volatile("%0 &= 0xff" : "+r"(at));
    *(__u64 *)(to->bytes + at) = clean_bytes(bytes);
  }
  __u64 dot = behind + length;
  asm volatile("%0 &= 0xff" : "+r"(dot));
  to->bytes[dot] = '.';
  w->length = behind + length + 1;
  w->at = from + length;
}

struct dns_reading {
  const struct dns_buffer *m;
  struct name_text *to;
  struct dns_work *w;
};

/* One label or pointer. 0: go on. 1: that was the end of the name. -1: malformed. */
static __always_inline int read_label(const struct dns_reading *r) {
  const struct dns_buffer *m = r->m;
  struct dns_work *w = r->w;
  const __u32 at = READ_ONCE(w->at), end = READ_ONCE(m->length);
  if (at >= end) return -1;
  const __u8 c = byte_at(m, at);
  if (c >= 0xc0) {
    if (at + 2 > end) return -1;
    const __u32 target = be16_at(m, at) & 0x3fff;
    if (!w->wire) w->wire = at + 2 - w->begin;
    if (target < DNS_HEADER || target >= w->limit || w->jumps >= DNS_MAX_JUMPS) return -1;
    w->jumps++;
    w->at = w->limit = target;
    return 0;
  }
  if (c == 0) {
    if (!w->wire) w->wire = at + 1 - w->begin;
    return 1;
  }
  /* The text with its dots, and the root's byte, are as long as the name is on the wire. */
  if (c > 63 || w->length + c + 2 > 255 || at + 1 + c > end) return -1;
  append_label(m, r->to, w, c);
  return 0;
}

/* A few labels: most names need one call. */
enum { LABELS_A_STEP = 5 };
static long name_step(__u32 i, struct dns_reading *r) {
  (void)i;
#pragma clang loop unroll(disable)
  for (__u32 n = 0; n < LABELS_A_STEP; n++) {
    const int ends = read_label(r);
    if (ends == 0) continue;
    if (ends < 0) r->w->malformed = 1;
    return 1;
  }
  return 0;
}

/* Reads the name at `at` into `to`. 0: done; w->wire and w->jumps say more. -1: it is malformed: a label or
 * pointer out of bounds, a pointer that does not lead backwards, too many of them, more than 255 bytes. */
GLOBAL_FUNCTION int read_name(const struct dns_buffer *m, struct name_text *to, struct dns_work *w,
                              __u32 at) {
  const struct ea_name_state_words *st = name_words();
  if (!m || !to || !w || !st) return -1;
  struct dns_reading r = {.m = m, .to = to, .w = w};
  w->at = w->begin = w->limit = at;
  w->length = w->jumps = w->wire = w->malformed = 0;
  /* Its labels are 127 at most. */
  bpf_loop((128 + DNS_MAX_JUMPS) / LABELS_A_STEP + 1, name_step, &r, 0);
  if (w->malformed || !w->wire) return -1;
  const __u32 dots = w->length;
  __u64 length = dots ? dots - 1 : 0;
  to->length = length;
  asm volatile("%0 &= 0xff" : "+r"(length));
  *(__u64 *)(to->bytes + length) = 0;
  to->hash = hash_text(to, st);
  return 0;
}

#endif
