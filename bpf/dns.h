/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a DNS answer says (RFC 1035; HTTPS and SVCB: RFC 9460). src/names/message.ts reads the same, and says
 * what counts.
 *
 * An answer is read twice: once to see that it is well-formed to its last record and which names its CNAMEs
 * lead to, and once more to learn addresses. So a malformed answer teaches nothing, and the records may stand
 * in any order. */
#ifndef EA_DNS_H
#define EA_DNS_H

#include "ech.h"

enum { DNS_A = 1, DNS_CNAME = 5, DNS_AAAA = 28, DNS_SVCB = 64, DNS_HTTPS = 65, DNS_IN = 1 };
/* Flags in the header (RFC 1035, 4.1.1). */
enum { DNS_QR = 0x8000, DNS_OPCODE = 0x7800, DNS_TC = 0x0200, DNS_RD = 0x0100, DNS_RCODE = 0x000f };
enum { SVCB_IPV4HINT = 4, SVCB_ECH = 5, SVCB_IPV6HINT = 6 };

/* Reads the header and the only question; its name into texts[0]. 0: done. -1: it is malformed, or asks
 * another number of questions. */
GLOBAL_FUNCTION int read_question(const struct dns_buffer *m, struct dns_question *q) {
  struct name_work *names = name_work();
  struct dns_work *w = dns_work();
  if (!m || !q || !names || !w) return -1;
  q->end = 0;
  if (m->length < DNS_HEADER || be16_at(m, 4) != 1) return -1;
  q->id = be16_at(m, 0);
  q->flags = be16_at(m, 2);
  if (read_name(m, &names->texts[0], w, DNS_HEADER)) return -1;
  names->incarnations[0] = 0;
  const __u32 at = DNS_HEADER + w->wire;
  if (at + 4 > m->length) return -1;
  q->type = be16_at(m, at);
  q->class = be16_at(m, at + 2);
  q->end = at + 4;
  return 0;
}

/* The hash of a CNAME's target, which begins at `at`, into w->owner. 0: no target begins there. A function, as
 * are other loops here: inlined, the verifier would follow the rest of the caller for each round. */
GLOBAL_FUNCTION int is_known_target(const struct name_work *names, struct dns_work *w, __u32 at) {
  if (!names || !w) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < NAME_SCRATCH; i++) {
    if (i > w->aliases) break;
    if (w->start[i] != at || w->jumps_of[i] >= DNS_MAX_JUMPS) continue;
    w->owner = names->texts[i].hash;
    w->owner_at = at;
    w->owner_jumps = w->jumps_of[i];
    return 1;
  }
  return 0;
}

/* The hash of a name that was read before and begins at `at`, into w->owner. 0: it was not. */
static __always_inline int is_known_name(const struct name_work *names, struct dns_work *w, __u32 at) {
  if (likely(at == DNS_HEADER)) {
    w->owner = names->texts[0].hash;
    w->owner_at = at;
    w->owner_jumps = 0;
    return 1;
  }
  if (at == w->owner_at && w->owner_jumps < DNS_MAX_JUMPS) return 1; /* that of the record before */
  return is_known_target(names, w, at);
}

/* Reads the record at w->next, all but its data. Its owner's name is expanded only if it is none of those that
 * were read before: mostly it is a pointer to the question. -1: malformed. */
static __always_inline int read_record(const struct dns_buffer *m, struct name_work *names,
                                       struct dns_work *w) {
  const __u32 end = m->length;
  __u32 at = w->next;
  const __u16 pointer = be16_at(m, at);
  if (likely(pointer >= 0xc000 && at + 2 <= end && (pointer & 0x3fff) < at &&
             is_known_name(names, w, pointer & 0x3fff))) {
    at += 2;
  } else {
    if (read_name(m, &names->texts[NAME_SCRATCH], w, at)) return -1;
    w->owner = names->texts[NAME_SCRATCH].hash;
    w->owner_at = at;
    w->owner_jumps = w->jumps;
    at += w->wire;
  }
  if (at + 10 > end) return -1;
  w->type = be16_at(m, at);
  w->class = be16_at(m, at + 2);
  const __u32 ttl_s = be32_at(m, at + 4), data = at + 10, length = be16_at(m, at + 8);
  w->ttl_s = ttl_s >> 31 ? 0 : ttl_s; /* RFC 2181, 8 */
  w->data = data;
  w->data_length = length;
  w->next = data + length;
  return data + length > end ? -1 : 0;
}

/* Reads the parameter of an HTTPS or SVCB record at w->at. `w->limit`: the least that its key may be. 0: go
 * on. 1: there are no more. -1: malformed. */
GLOBAL_FUNCTION int read_param(const struct dns_buffer *m, struct dns_work *w) {
  if (!m || !w) return -1;
  const __u32 at = w->at, end = w->data + w->data_length;
  if (at == end) return 1;
  if (at + 4 > end) return -1;
  const __u32 key = be16_at(m, at), length = be16_at(m, at + 2);
  if (key < w->limit || at + 4 + length > end) return -1;
  w->limit = key + 1;
  w->at = at + 4 + length;
  if (key == SVCB_IPV4HINT) {
    if (length == 0 || length % 4) return -1;
    w->address_at = at + 4;
    w->addresses = length / 4;
  } else if (key == SVCB_IPV6HINT) {
    if (length == 0 || length % 16) return -1;
    w->hints6_at = at + 4;
    w->hints6 = length / 16;
  } else if (key == SVCB_ECH) {
    w->ech_at = at + 4;
    w->ech_length = length;
  }
  return 0;
}

/* Checks the data of an HTTPS or SVCB record, and finds the addresses in it, and what it has for ECH. -1: malformed. In alias mode
 * (priority 0) parameters do not count. */
GLOBAL_FUNCTION int read_hints(const struct dns_buffer *m, struct dns_work *w) {
  struct name_work *names = name_work();
  if (!m || !w || !names) return -1;
  const __u32 start = w->data, end = start + w->data_length;
  w->addresses = w->hints6 = w->ech_length = 0;
  if (start + 3 > end || read_name(m, &names->texts[NAME_SCRATCH], w, start + 2)) return -1;
  /* Its target is not compressed (RFC 9460, 2.2). */
  if (w->jumps || start + 2 + w->wire > end) return -1;
  w->at = start + 2 + w->wire;
  w->limit = 0;
  int more = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i <= DNS_MAX_PARAMS; i++) {
    more = read_param(m, w);
    if (more) break;
  }
  if (more <= 0) return -1;
  if (be16_at(m, start) == 0) w->addresses = w->hints6 = w->ech_length = 0;
  return 0;
}

/* Notes a CNAME. The first sixteen of an answer count. -1: malformed. */
GLOBAL_FUNCTION int note_alias(const struct dns_buffer *m, struct dns_work *w) {
  struct name_work *names = name_work();
  if (!m || !w || !names) return -1;
  const __u32 i = w->aliases + 1, which = i < NAME_SCRATCH ? i : NAME_SCRATCH;
  if (which >= NAME_TEXTS || read_name(m, &names->texts[which], w, w->data) || w->wire != w->data_length)
    return -1;
  if (which == NAME_SCRATCH) return 0;
  names->incarnations[which] = 0;
  w->alias_owner[which] = w->owner;
  w->alias_ttl_s[which] = w->ttl_s;
  w->start[which] = w->data;
  w->jumps_of[which] = w->jumps;
  w->aliases = which;
  return 0;
}

struct dns_walk {
  const struct dns_buffer *m;
  struct name_work *names;
  struct dns_work *w;
};

/* Adds a record that may teach something to w->said. A sum does not depend on the order: resolvers rotate the
 * addresses of a name from answer to answer. The order of CNAMEs counts. */
static __always_inline void say_record(const struct dns_buffer *m, const struct name_work *names,
                                       struct dns_work *w) {
  const __u64 *data = (const __u64 *)(m->bytes + in_message(w->data));
  const __u32 alias = w->aliases;
  __u64 h = mixed(w->owner + w->type) + ((__u64)w->ttl_s << 32);
  if (w->type == DNS_A)
    h += (__u32)data[0];
  else if (w->type == DNS_AAAA)
    h = mixed(h + data[0]) + data[1];
  else if (alias < NAME_SCRATCH)
    h = mixed(h + alias) + names->texts[alias].hash;
  w->said += scattered(h);
}

/* Checks one record. */
static long check_step(__u32 i, struct dns_walk *walk) {
  const struct dns_buffer *m = walk->m;
  struct dns_work *w = walk->w;
  if (read_record(m, walk->names, w)) goto bad;
  if (w->class != DNS_IN) return 0;
  if (i >= w->answers) {
    /* Resolvers add what an alias leads to (RFC 9460, 4.2), and clients may use it. */
    if ((w->type == DNS_HTTPS || w->type == DNS_SVCB) && !read_hints(m, w)) note_ech(w);
    return 0;
  }
  if (w->type == DNS_A) {
    if (w->data_length != 4) goto bad;
    say_record(m, walk->names, w);
  } else if (w->type == DNS_AAAA) {
    if (w->data_length != 16) goto bad;
    say_record(m, walk->names, w);
  } else if (w->type == DNS_CNAME) {
    if (note_alias(m, w)) goto bad;
    say_record(m, walk->names, w);
  } else if (w->type == DNS_HTTPS || w->type == DNS_SVCB) {
    if (read_hints(m, w)) goto bad;
    note_ech(w);
    w->hinted = 1;
  }
  return 0;
bad:
  w->bad = 1;
  return 1;
}

/* The first CNAME with this owner. 0: there is none. */
GLOBAL_FUNCTION __u32 alias_of(const struct dns_work *w, __u64 owner) {
  if (!w) return 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < NAME_SCRATCH; i++) {
    if (i > w->aliases) break;
    if (w->alias_owner[i] == owner) return i;
  }
  return 0;
}

/* Where a name stands in the chain. NAME_TEXTS: nowhere. */
GLOBAL_FUNCTION __u32 position_in_chain(const struct name_work *names, const struct dns_work *w, __u64 name) {
  if (!names || !w) return NAME_TEXTS;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < NAME_SCRATCH; i++) {
    if (i > w->chained) break;
    const __u32 text = w->chain[i];
    if (text < NAME_TEXTS && names->texts[text].hash == name) return i;
  }
  return NAME_TEXTS;
}

/* Appends to the chain the target of the CNAME whose owner is its last name. 1: there is none, or it is in the
 * chain already. */
GLOBAL_FUNCTION int follow_alias(const struct name_work *names, struct dns_work *w) {
  if (!names || !w) return 1;
  const __u32 chained = w->chained;
  if (chained >= NAME_SCRATCH - 1) return 1;
  const __u32 last = w->chain[chained];
  if (last >= NAME_TEXTS) return 1;
  const __u32 found = alias_of(w, names->texts[last].hash);
  if (!found || found >= NAME_SCRATCH) return 1;
  if (position_in_chain(names, w, names->texts[found].hash) < NAME_TEXTS) return 1;
  const __u32 ttl_s = w->alias_ttl_s[found], before_s = w->chain_ttl_s[chained];
  w->chain[chained + 1] = found;
  w->chain_ttl_s[chained + 1] = ttl_s < before_s ? ttl_s : before_s;
  w->chained = chained + 1;
  return 0;
}

/* Reads an answer, the message in `m`, whose question was read into `q`. 0: it is well-formed, and may teach
 * addresses. -1: it teaches nothing. Inlined: the chain of calls must not be longer. */
static __always_inline int read_answer(const struct dns_buffer *m, const struct dns_question *q,
                                       struct name_work *names, struct dns_work *w) {
  const __u32 answers = be16_at(m, 6), records = answers + be16_at(m, 8) + be16_at(m, 10);
  if ((q->flags & (DNS_QR | DNS_OPCODE | DNS_RCODE)) != DNS_QR || records > DNS_MAX_RECORDS) return -1;
  struct dns_walk walk = {.m = m, .names = names, .w = w};
  w->next = q->end;
  w->owner_at = DNS_NOWHERE;
  w->bad = w->aliases = w->hinted = w->ech_lists = 0;
  w->answers = answers;
  w->said = names->texts[TEXT_QUESTION].hash + q->type;
  bpf_loop(records, check_step, &walk, 0);
  if (w->bad) return -1;
  if (w->hinted || w->ech_lists || answers > DNS_SAID_RECORDS) w->said = 0;
  w->next = q->end;
  w->owner_at = DNS_NOWHERE;
  w->records = answers;
  w->addresses = w->hints6 = 0;
  w->links = DNS_MAX_LINKS;
  w->chain[0] = w->chained = 0;
  w->chain_ttl_s[0] = ~0u;
#pragma clang loop unroll(disable)
  for (__u32 i = 1; i < NAME_SCRATCH; i++)
    if (!w->aliases || follow_alias(names, w)) break;
  return 0;
}

/* Goes on to the next record with addresses that belong to a name in the chain. 0: there is none. The records
 * are well-formed. */
static __always_inline int next_addresses(const struct dns_walk *walk) {
  const struct dns_buffer *m = walk->m;
  struct dns_work *w = walk->w;
  if (read_record(m, walk->names, w)) return 0;
  w->addresses = w->hints6 = 0;
  if (w->class != DNS_IN) return 0;
  const int svcb = w->type == DNS_HTTPS || w->type == DNS_SVCB;
  if (w->type != DNS_A && w->type != DNS_AAAA && !svcb) return 0;
  __u32 position = w->chained;
  const __u32 last = position < NAME_SCRATCH ? w->chain[position] : NAME_TEXTS;
  if (last >= NAME_TEXTS || walk->names->texts[last].hash != w->owner)
    position = position_in_chain(walk->names, w, w->owner);
  if (position >= NAME_TEXTS) return 0;
  w->position = position;
  w->level = 0;
  const __u32 limit_s = w->chain_ttl_s[position];
  if (limit_s < w->ttl_s) w->ttl_s = limit_s;
  w->address_size = w->type == DNS_AAAA ? 16 : 4;
  if (svcb) return !read_hints(m, w);
  w->address_at = w->data;
  w->addresses = 1;
  return 1;
}

/* Learns one address for one name, after it went on to the next record if it has to. 1: done. */
static long learn_step(__u32 i, struct dns_walk *walk) {
  struct dns_work *w = walk->w;
  struct learning *learning = &walk->names->learning;
  (void)i;
  if (!w->addresses) {
    if (w->hints6) {
      w->address_at = w->hints6_at;
      w->address_size = 16;
      w->addresses = w->hints6;
      w->hints6 = 0;
    } else {
      if (!w->records) return 1;
      w->records--;
      if (!next_addresses(walk) || !w->addresses) return 0;
    }
  }
  const __u32 level = w->level;
  if (level >= NAME_SCRATCH || !w->links) return 1;
  w->links--;
  if (level == 0) {
    const __u32 *from = (const __u32 *)(walk->m->bytes + in_message(w->address_at));
    __u32 *to = (__u32 *)learning->addr;
    if (w->address_size == 4) {
      to[0] = to[1] = 0;
      to[2] = bpf_htonl(0xffff);
      to[3] = from[0];
    } else {
      __builtin_memcpy(to, from, 16);
    }
    learning->ttl_s = w->ttl_s;
  }
  learning->text = w->chain[level];
  learning->alias = level > 0;
  learning->flags = level > 0 ? 0 : EA_NAME_ASKED;
  if (unlikely(learn_address() == NAME_BUSY)) {
    w->bad = 1;
    return 1;
  }
  if (level < w->position) {
    w->level = level + 1;
    return 0;
  }
  w->level = 0;
  w->addresses--;
  w->address_at += w->address_size;
  return 0;
}

/* Learns the addresses of the answer in the buffer dns_work.buffer, which read_answer() has read. The caller
 * has set who learns, and from whom, in name_work.learning. 0: done, as far as there was room. -1: others held a
 * lock for too long, and the answer should be sent again. */
GLOBAL_FUNCTION int learn_answer(void) {
  struct name_work *names = name_work();
  struct dns_work *w = dns_work();
  if (!names || !w) return 0;
  const struct dns_buffer *m = dns_buffer(w->buffer);
  if (!m) return 0;
  struct dns_walk walk = {.m = m, .names = names, .w = w};
  bpf_loop(w->answers + DNS_MAX_LINKS, learn_step, &walk, 0);
  return w->bad ? -1 : 0;
}

#endif
