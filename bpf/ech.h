/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Encrypted ClientHello (RFC 9849): what endpoints were given for it, and which hellos are real (--ech deny-known).
 *
 * WHAT IS SEEN. A client that encrypts its hello takes a configuration from an HTTPS or SVCB record (RFC 9848). Its
 * outer hello says the configuration's public name in place of the server's, and its config_id, one byte. Browsers
 * send the same extension in ordinary hellos too (GREASE, RFC 9849, 6.2): there the config_id is chosen by chance, and
 * the name is the real one. So the extension alone tells nothing, and denies nothing.
 *
 * THE RULE. A hello with the extension is of a configuration that its endpoint was given, in an answer that counts,
 * and whose time is not over, if
 *   1. it says the public name of it, whatever its config_id: clients may choose that by chance (RFC 9849, 10.4), and
 *      servers give them other configurations in the handshake, mostly with the same name (6.1.6); or
 *   2. it says the config_id of it, whatever its name: servers need not look at the outer name; or
 *   3. no config_id can be read in it: no client writes such an extension.
 * Price of 1: the public name itself cannot be visited by who sends GREASE. Price of 2: of such hellos, one of 256 is
 * denied for each config_id that is known at a time, mostly one or two, and passes when it is sent again.
 * What no answer has given is not known: a configuration that a program brings along is told by nothing from GREASE.
 *
 * ROOM. EA_ECH_CONFIGS for each endpoint, in an entry that nobody else can take. A configuration that is over gives
 * way to the next, and none before. One that finds no room closes its endpoint for as long as it would have counted:
 * then each hello with the extension is taken for real.
 *
 * A configuration counts as long as an address of the same answer would: its TTL, with the agent's options for it.
 * Unlike a name it is over by the clock, for what is over denies nothing; so no agent needs to run. */
#ifndef EA_ECH_H
#define EA_ECH_H

#include "dns_name.h"

enum {
  ECH_VERSION = 0xfe0d,
  ECH_MAX_READ = 64,      /* configurations in one answer */
  ECH_MAX_TTL_S = 604800, /* as learn_address() */
};

/* Takes a note of the list in the record that was read last. */
static __always_inline void note_ech(struct dns_work *w) {
  const struct ea_name_state_words *st = name_words();
  if (likely(!w->ech_length) || !st || !(st->flags & EA_ECH_DENY_KNOWN)) return;
  __u64 n = w->ech_lists;
  if (n >= DNS_MAX_ECH) {
    /* The last one stands for all that follow: it has no place in the message, and so closes the endpoint. */
    struct ech_list *last = &w->ech[DNS_MAX_ECH - 1];
    last->length = 0;
    if (last->ttl_s < w->ttl_s) last->ttl_s = w->ttl_s;
    return;
  }
  asm volatile("%0 &= 0xf" : "+r"(n));
  w->ech[n] = (struct ech_list){.at = w->ech_at, .length = w->ech_length, .ttl_s = w->ttl_s};
  w->ech_lists++;
}

/* Until when something counts that was answered with this TTL, as learn_address() has it. */
static __always_inline __u32 ech_until(__u32 ttl_s, const struct ea_name_state_words *st) {
  if (ttl_s > ECH_MAX_TTL_S) ttl_s = ECH_MAX_TTL_S;
  if (ttl_s < st->ttl_min_s) ttl_s = st->ttl_min_s;
  return seconds() + ttl_s + st->ttl_extra_s;
}

/* A configuration found no room. */
static __always_inline void close_for_ech(const struct learning *l, __u32 until) {
  struct ea_name_holding *h = name_holding(l->payer);
  count(EA_COUNT_ECH_NO_ROOM);
  if (!h || (READ_ONCE(h->ech_full_of) == l->endpoint && READ_ONCE(h->ech_full_s) >= until)) return;
  WRITE_ONCE(h->ech_full_s, until);
  WRITE_ONCE(h->ech_full_of, l->endpoint);
}

/* Puts a configuration into an endpoint's entry, or the later end of it. Others may do the same on other CPUs: a place
 * is taken by a compare-and-swap of its life. 1: done. 0: there is no room. */
static __always_inline int put_ech(struct ea_ech *known, __u64 name, __u32 id, __u32 until) {
  const __u32 now = seconds();
  const __u64 life = (__u64)id << 32 | until;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_ECH_CONFIGS; i++) {
    struct ea_ech_config *c = &known->configs[i];
    const __u64 was = READ_ONCE(c->life);
    if (READ_ONCE(c->name) != name || was >> 32 != id || (__u32)was <= now) continue;
    if ((__u32)was >= until || __sync_bool_compare_and_swap(&c->life, was, life)) return 1;
  }
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_ECH_CONFIGS; i++) {
    struct ea_ech_config *c = &known->configs[i];
    const __u64 was = READ_ONCE(c->life);
    if ((__u32)was > now || !__sync_bool_compare_and_swap(&c->life, was, life)) continue;
    WRITE_ONCE(c->name, name);
    return 1;
  }
  return 0;
}

/* Remembers a configuration for the endpoint in name_work.learning; `name`: the hash of its public name, or 0. */
GLOBAL_FUNCTION int remember_ech(__u64 name, __u32 id, __u32 ttl_s) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *names = name_work();
  const struct dns_work *w = dns_work();
  if (!st || !names || !w) return 0;
  const struct learning *l = &names->learning;
  const __u32 until = ech_until(ttl_s, st);
  __u32 endpoint = l->endpoint;
  struct ea_ech *known = bpf_map_lookup_elem(&ech_known, &endpoint);
  if (!known) {
    bpf_map_update_elem(&ech_known, &endpoint, &w->no_ech, BPF_NOEXIST);
    known = bpf_map_lookup_elem(&ech_known, &endpoint);
  }
  if (!known || !put_ech(known, name, id & 0xff, until)) close_for_ech(l, until);
  return 0;
}

/* The hash of `length` bytes of a message, as of a server name in a hello. 0: no hello that names somebody has it. */
GLOBAL_FUNCTION __u64 hash_public_name(const struct dns_buffer *m, __u32 at, __u32 length) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *names = name_work();
  if (!m || !st || !names || !length || length > 253) return 0;
  struct name_text *t = &names->texts[NAME_SCRATCH];
  __u64 odd = 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_NAME_TEXT; i += 8) {
    if (i >= length) break;
    const __u32 rest = length - i;
    const __u64 keep = rest >= 8 ? ~0ULL : (1ULL << (rest * 8)) - 1;
    const __u64 bytes = *(const __u64 *)(m->bytes + in_message(at + i));
    const __u64 clean = clean_name((bytes & keep) | ('a' * EACH_BYTE & ~keep), &odd);
    *(__u64 *)(t->bytes + i) = clean & keep;
  }
  if (odd) return 0;
  t->length = length;
  return hash_text(t, st);
}

/* Reads an ECHConfigContents (RFC 9849, 4) from `at` to `end`, and remembers it. One that is malformed is of use to no
 * client. */
GLOBAL_FUNCTION int read_ech_config(const struct dns_buffer *m, __u32 at, __u32 end, __u32 ttl_s) {
  if (!m || at + 5 > end || end > DNS_BYTES - 4096) return 0;
  const __u32 id = byte_at(m, at), key = be16_at(m, at + 3);
  at += 5;
  if (!key || at + key + 2 > end) return 0;
  at += key;
  const __u32 suites = be16_at(m, at);
  at += 2;
  if (suites < 4 || suites % 4 || at + suites + 2 > end) return 0;
  at += suites + 1; /* maximum_name_length */
  const __u32 length = byte_at(m, at);
  at++;
  if (!length || at + length + 2 > end || at + length + 2 + be16_at(m, at + length) != end) return 0;
  return remember_ech(hash_public_name(m, at, length), id, ttl_s);
}

/* Goes on to the next list, or reads the next configuration of one: from w->at on, up to w->limit. 1: that is all. */
static long ech_step(__u32 i, const struct dns_buffer **message) {
  struct dns_work *w = dns_work();
  const struct name_work *names = name_work();
  const struct ea_name_state_words *st = name_words();
  const struct dns_buffer *m = *message;
  (void)i;
  if (!w || !names || !st || !m) return 1;
  __u64 list = w->ech_read;
  const __u32 at = READ_ONCE(w->at), end = READ_ONCE(w->limit);
  if (at + 4 > end) {
    if (list >= w->ech_lists || list >= DNS_MAX_ECH) return 1;
    asm volatile("%0 &= 0xf" : "+r"(list));
    const __u32 begin = w->ech[list].at, length = w->ech[list].length;
    w->ech_read = list + 1;
    if (!length) close_for_ech(&names->learning, ech_until(w->ech[list].ttl_s, st));
    if (length < 2 || be16_at(m, begin) != length - 2) return 0;
    w->at = begin + 2;
    w->limit = begin + length;
    return 0;
  }
  const __u32 next = at + 4 + be16_at(m, at + 2);
  w->at = next;
  if (next > end || be16_at(m, at) != ECH_VERSION) return 0;
  list = list - 1;
  asm volatile("%0 &= 0xf" : "+r"(list));
  const __u32 ttl_s = w->ech[list].ttl_s;
  if (!w->ech_left) {
    close_for_ech(&names->learning, ech_until(ttl_s, st));
    w->at = end;
    return 0;
  }
  w->ech_left--;
  read_ech_config(m, at + 4, next, ttl_s);
  return 0;
}

/* Learns the configurations of ECH in the answer in the buffer dns_work.buffer, which read_answer() has read, for the
 * endpoint in name_work.learning. */
GLOBAL_FUNCTION int learn_ech(void) {
  struct dns_work *w = dns_work();
  if (!w) return 0;
  const struct dns_buffer *m = dns_buffer(w->buffer);
  if (!m) return 0;
  w->ech_read = w->at = w->limit = 0;
  w->ech_left = ECH_MAX_READ;
  /* Of other versions there may be as many as fit into a message. */
  bpf_loop(DNS_BYTES / 4, ech_step, &m, 0);
  return 0;
}

#endif
