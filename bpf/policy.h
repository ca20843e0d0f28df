/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* classify(): which rule of a policy set decides about a destination. Reads the policy maps. Writes only the
 * memories of decided.h, and the events of Log rules where asked.
 *
 * Precedence, the same list as in ARCHITECTURE.md and src/ir/evaluate.ts:
 *   1. tiers in order: their rules are in the set in this order
 *   2. first match: Allow and Deny decide; Log is reported and the next rule is tried; Pass continues with
 *      the next tier
 *   3. what the dialect always allows, and
 *   4. the tier's default: both are rules of the set, at the end of their tier
 *   5. no rule left: allowed
 * The verdict skips staged rules. A second scan, the audit, counts them, and skips what stands for them in the
 * verdict only (EA_CLASS_UNAUDITED). */
#ifndef EA_POLICY_H
#define EA_POLICY_H

#include "names.h"
#include "said_work.h"
#include "share.h"
#include "trie.h"

/* 0 where no prefix covers the address: EA_CLASS_NONE. */
static __always_inline __u64 class_of(const __u8 *addr) {
  if (is_v4(addr)) {
    __be32 word;
    __builtin_memcpy(&word, __builtin_assume_aligned(addr + 12, 4), 4);
    return class_of4(bpf_ntohl(word));
  }
  struct ea_dest6_key key = {.prefixlen = 128};
  __builtin_memcpy(key.addr, addr, 16);
  const __u64 *found = bpf_map_lookup_elem(&destinations6, &key);
  return found ? *found : EA_CLASS_NONE;
}

/* 1 if x is not 0, else 0. Without a branch (see lowest_bit); the asm keeps the compiler from making one. */
static __always_inline __u64 is_nonzero(__u64 x) {
  __u64 y = -x;
  asm volatile("" : "+r"(y));
  return (x | y) >> 63;
}

enum { LOG_REPORT = 1, LOG_MATCHED = 2 }; /* LOG_REPORT: write events; LOG_MATCHED: result */

struct scan {
  /* Rows of one size; NULL: there is none. */
  const void *peers, *ports, *staged;
  struct scratch *s;
  __u64 any;  /* words that may be non-zero */
  __u64 rule; /* result */
  __u32 position;
  __u8 log;     /* LOG_REPORT, LOG_MATCHED */
  __u8 verdict; /* result */
  __u8 reason;
  __u8 dns;
};

/* Applies a rule that matches. 1: the verdict is known. */
static __always_inline long apply_rule(struct scan *c, __u32 bit) {
  struct ea_rule_key *key = &c->s->rule_key;
  key->bit = bit; /* of the set that classify_collected() has written */
  const struct ea_rule *rule = bpf_map_lookup_elem(&rules, key);
  if (!rule || (rule->action == EA_ACTION_PASS && rule->tier_end <= bit)) {
    c->verdict = EA_VERDICT_DENY;
    c->reason = EA_REASON_NO_SET;
    return 1;
  }
  if (rule->action == EA_ACTION_PASS) {
    c->position = rule->tier_end;
    return 0;
  }
  if (rule->action == EA_ACTION_LOG) {
    struct scratch *s = c->s;
    /* A rule may have several bits, which follow each other: it is told once. */
    if ((c->log & LOG_REPORT) && s->event.rule != rule->id) {
      s->event.type = EA_EVENT_LOG;
      s->event.rule = rule->id;
      output(s, may_report_more(&s->event.flow, s->event.time_ns));
    }
    c->log |= LOG_MATCHED;
    c->position = bit + 1;
    return 0;
  }
  c->rule = rule->id;
  c->verdict = rule->action == EA_ACTION_ALLOW ? EA_VERDICT_ALLOW : EA_VERDICT_DENY;
  c->reason = EA_REASON_RULE;
  c->dns = rule->dns;
  return 1;
}

/* Functions for the two sizes of sets:
 *   row    a row of the set
 *   merge  ORs the row of one class of an address's names into work memory
 *   names  ANDs the rules that match by an address's names
 *   said   ANDs the rules that match by what the connection says
 *   amend  the row of the address, ORed with that of the endpoint itself, ANDed with those of names, queries
 *          and what is said, in work memory. NULL: a row is missing
 *   find   finds the rows, and from their summaries which words may be non-zero. -1: a row is missing
 *   word   the matching rules of one word: peers AND ports
 *   next   applies the next rule that matches; 1: done
 *   step   the same as a step of bpf_loop()
 *   scan   applies all rules in order. Nearly always the first word decides, and only that is read. Otherwise
 *          all words are read once: two rows may both be non-zero in a word and have no bit in common */
#define DEFINE_SIZE(size, peer_map, port_map, WORDS)                                                         \
  static __always_inline const struct ea_row_##size *row_##size(struct ea_class_key *key, __u64 class_id) {  \
    key->class_id = class_id;                                                                                \
    return bpf_map_lookup_elem(&peer_map, key);                                                              \
  }                                                                                                          \
                                                                                                             \
  static long merge_##size(__u32 i, __u32 *unused) {                                                         \
    struct name_work *w = name_work();                                                                       \
    struct scratch *s = scratch();                                                                           \
    (void)unused;                                                                                            \
    if (!w || !s || i >= w->count) return 1;                                                                 \
    const struct ea_row_##size *row = row_##size(&s->class_key, w->classes[class_index(i)]);                 \
    if (!row) return 0;                                                                                      \
    w->names_row.filled |= row->filled;                                                                      \
    _Pragma("clang loop unroll(disable)") for (int n = 0; n < WORDS; n++) w->names_row.words[n] |=           \
        row->words[n];                                                                                       \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __always_inline void and_##size(struct name_work *w, const struct ea_row_##size *row) {             \
    w->peers_row.filled &= row->filled;                                                                      \
    _Pragma("clang loop unroll(disable)") for (int n = 0; n < WORDS; n++) w->peers_row.words[n] &=           \
        row->words[n];                                                                                       \
  }                                                                                                          \
                                                                                                             \
  static __always_inline int names_##size(struct name_work *w, struct ea_class_key *key) {                   \
    const struct ea_row_##size *row = w->count == 1 ? row_##size(key, w->classes[0]) : NULL;                 \
    if (!row) row = row_##size(key, EA_CLASS_UNNAMED);                                                       \
    if (!row) return -1;                                                                                     \
    if (likely(w->count < 2)) {                                                                              \
      and_##size(w, row);                                                                                    \
      return 0;                                                                                              \
    }                                                                                                        \
    __u32 unused = 0;                                                                                        \
    __builtin_memcpy(&w->names_row, row, sizeof(*row));                                                      \
    bpf_loop(MAX_NAME_CLASSES, merge_##size, &unused, 0);                                                    \
    and_##size(w, (const struct ea_row_##size *)&w->names_row);                                              \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __noinline int said_##size(struct name_work *w, struct ea_class_key *key, __u32 said) {             \
    const struct said_work *s = said_work();                                                                 \
    if (!s || !w || !key) return -1;                                                                         \
    const struct ea_row_##size *row = said && s->classes[0] ? row_##size(key, s->classes[0]) : NULL;         \
    if (!row) row = row_##size(key, said ? s->fixed : EA_CLASS_UNSAID);                                      \
    if (!row) return -1;                                                                                     \
    and_##size(w, row);                                                                                      \
    if (!said) return 0;                                                                                     \
    _Pragma("clang loop unroll(disable)") for (__u32 i = 1; i < EA_SAID_ROWS && i < s->count; i++) {         \
      row = row_##size(key, s->classes[i]);                                                                  \
      if (!row) return -1;                                                                                   \
      and_##size(w, row);                                                                                    \
    }                                                                                                        \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __always_inline const struct ea_row_##size *amend_##size(                                           \
      const struct target *t, const struct ea_row_##size *peers, struct ea_class_key *key) {                 \
    struct name_work *w = name_work();                                                                       \
    if (!w) return NULL;                                                                                     \
    __builtin_memcpy(&w->peers_row, peers, sizeof(*peers));                                                  \
    if (t->flags & TARGET_SELF) {                                                                            \
      const struct ea_row_##size *self = row_##size(key, EA_CLASS_SELF);                                     \
      if (self) {                                                                                            \
        w->peers_row.filled |= self->filled;                                                                 \
        _Pragma("clang loop unroll(disable)") for (int n = 0; n < WORDS; n++) w->peers_row.words[n] |=       \
            self->words[n];                                                                                  \
      }                                                                                                      \
    }                                                                                                        \
    if ((t->set & EA_SET_NAMES) && names_##size(w, key)) return NULL;                                        \
    if ((t->set & EA_SET_QUERIES) && !(t->flags & TARGET_MET)) {                                             \
      const struct ea_row_##size *asked = t->query ? row_##size(key, t->query) : NULL;                       \
      if (!asked) asked = row_##size(key, EA_CLASS_UNASKED);                                                 \
      if (!asked) return NULL;                                                                               \
      and_##size(w, asked);                                                                                  \
    }                                                                                                        \
    if ((t->set & EA_SET_SAYS) && !(t->flags & TARGET_SAID_MET) &&                                           \
        said_##size(w, key, t->flags & TARGET_SAID))                                                         \
      return NULL;                                                                                           \
    return (const struct ea_row_##size *)&w->peers_row;                                                      \
  }                                                                                                          \
                                                                                                             \
  static __always_inline int find_##size(struct scan *c, const struct target *t, __u64 class_id,             \
                                         const struct ea_port_key *port_key) {                               \
    struct ea_class_key *key = &c->s->class_key;                                                             \
    *key = (struct ea_class_key){.set = SET_ID(t->set), .class_id = class_id};                               \
    const struct ea_row_##size *peers = bpf_map_lookup_elem(&peer_map, key);                                 \
    if (!peers && class_id) peers = row_##size(key, EA_CLASS_NONE);                                          \
    if (!peers) return -1;                                                                                   \
    if (unlikely((t->flags & TARGET_SELF) || (t->set & EA_SET_ASKS))) {                                      \
      peers = amend_##size(t, peers, key);                                                                   \
      if (!peers) return -1;                                                                                 \
    }                                                                                                        \
    const struct ea_row_##size *ports = bpf_map_lookup_elem(&port_map, port_key);                            \
    if (!ports) return -1;                                                                                   \
    c->any = peers->filled & ports->filled;                                                                  \
    if (t->set & EA_SET_STAGED) {                                                                            \
      c->staged = row_##size(key, EA_CLASS_STAGED);                                                          \
      if (!c->staged) return -1;                                                                             \
    }                                                                                                        \
    c->peers = peers;                                                                                        \
    c->ports = ports;                                                                                        \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static __always_inline __u64 word_##size(const struct scan *c, __u32 w) {                                  \
    const struct ea_row_##size *peers = c->peers, *ports = c->ports, *staged = c->staged;                    \
    if (!peers || !ports) return 0; /* for the verifier */                                                   \
    __u64 word = peers->words[w] & ports->words[w];                                                          \
    if (staged) word &= ~staged->words[w];                                                                   \
    return word;                                                                                             \
  }                                                                                                          \
                                                                                                             \
  static __always_inline long next_##size(struct scan *c) {                                                  \
    __u32 w = c->position >> 6;                                                                              \
    if (w >= WORDS) return 1;                                                                                \
    const __u64 rest = c->any & (~0ULL << w);                                                                \
    if (!rest) return 1;                                                                                     \
    const __u32 at = lowest_bit(rest) & (WORDS - 1);                                                         \
    __u64 word = word_##size(c, at);                                                                         \
    if (at == w) word &= ~0ULL << (c->position & 63);                                                        \
    if (word) return apply_rule(c, at * 64 + lowest_bit(word));                                              \
    c->position = (at + 1) * 64;                                                                             \
    return 0;                                                                                                \
  }                                                                                                          \
                                                                                                             \
  static long step_##size(__u32 i, struct scan *c) {                                                         \
    (void)i;                                                                                                 \
    return next_##size(c);                                                                                   \
  }                                                                                                          \
                                                                                                             \
  static __always_inline void scan_##size(struct scan *c) {                                                  \
    if (likely(next_##size(c))) return;                                                                      \
    __u64 any = 0;                                                                                           \
    for (int i = 0; i < WORDS; i++)                                                                          \
      any |= is_nonzero(word_##size(c, i)) << i;                                                             \
    c->any = any;                                                                                            \
    bpf_loop(WORDS * 64 + WORDS, step_##size, c, 0);                                                         \
  }
DEFINE_SIZE(small, class_rules, port_rules, EA_SMALL_WORDS)
DEFINE_SIZE(large, class_rules_large, port_rules_large, EA_LARGE_WORDS)

/* Decides about a target whose names were collected. t->set is not 0. With TARGET_LOG, scratch()->event describes the packet, and Log
 * rules send copies of it. */
GLOBAL_FUNCTION int classify_collected(const struct target *t, struct decision *d) {
  if (!t || !d) return 0;
  d->rule = d->audit_rule = 0;
  d->verdict = EA_VERDICT_DENY;
  d->audit_verdict = EA_VERDICT_NONE;
  d->reason = EA_REASON_NO_SET;
  d->logged = d->service = d->dns = 0;

  struct class_entry *remembered = class_slot(t);
  if (!remembered) return 0;
  __u64 class_id = remembered->class_id & ~CLASS_VALID;
  if (!has_class(remembered, t)) {
    class_id = class_of(t->addr);
    if (class_id == CLASS_BROKEN) return 0;
    remember_class(remembered, t, class_id);
  }
  /* What the names of the address, and the name in a query, add to its class. */
  __u64 class_key = class_id;
  if (unlikely(t->set & EA_SET_NAMES)) {
    const struct name_work *w = name_work();
    if (!w) return 0;
    class_key += w->key;
  }
  if (unlikely(t->set & EA_SET_QUERIES)) class_key += scattered(t->flags & TARGET_MET ? 3 : t->query ^ 5);
  if (unlikely(t->set & EA_SET_SAYS)) {
    const struct said_work *said = said_work();
    if (!said) return 0;
    class_key += scattered(t->flags & TARGET_SAID_MET ? 7 : t->flags & TARGET_SAID ? said->key : 11);
  }
  struct decision_entry *decision = decision_slot(t, class_key);
  if (!decision) return 0;
  if (has_decision(decision, t, class_key)) {
    *d = decision->decision;
    return 0;
  }
  struct scratch *s = scratch();
  if (!s) return 0;
  count(EA_COUNT_CLASSIFIED);

  struct ea_port_key *port = &s->port_key;
  *port = (struct ea_port_key){
      .prefixlen = t->flags & TARGET_FRAGMENT ? 80 : 96, .protocol = t->protocol, .port = t->port};
  __be64 id = bpf_cpu_to_be64(SET_ID(t->set));
  __builtin_memcpy(port->set, &id, 8);
  const int large = !!(t->set & EA_SET_LARGE);
  s->rule_key = (struct ea_rule_key){.set = SET_ID(t->set)};
  struct scan scan = {
      .s = s,
      .log = t->flags & TARGET_LOG ? LOG_REPORT : 0,
      .verdict = EA_VERDICT_ALLOW,
      .reason = EA_REASON_NO_POLICY,
  };
  if (large ? find_large(&scan, t, class_id, port) : find_small(&scan, t, class_id, port)) return 0;
  const __u64 any = scan.any;

  if (large)
    scan_large(&scan);
  else
    scan_small(&scan);
  d->rule = scan.rule;
  d->verdict = scan.verdict;
  d->reason = scan.reason;
  d->dns = scan.dns;
  d->logged = !!(scan.log & LOG_MATCHED);
  if (t->set & EA_SET_STAGED) {
    scan.any = any;
    scan.staged = large ? (const void *)row_large(&s->class_key, EA_CLASS_UNAUDITED)
                        : (const void *)row_small(&s->class_key, EA_CLASS_UNAUDITED);
    scan.log = 0;
    scan.rule = scan.position = 0;
    scan.verdict = EA_VERDICT_ALLOW;
    if (large)
      scan_large(&scan);
    else
      scan_small(&scan);
    d->audit_rule = scan.rule;
    d->audit_verdict = scan.verdict;
  }
  remember_decision(decision, t, class_key, d);
  return 0;
}

/* Decides about a target. Names are collected by a call of their own: the stack of one call less is all that
 * is left for them. */
static __always_inline void classify(const struct target *t, struct decision *d) {
  if (unlikely(t->set & EA_SET_NAMES)) collect_names(t->endpoint, t);
  classify_collected(t, d);
}

/* The same about the packet's own destination. NAMED: its names have been collected, unless those of a Service's
 * backends came in between. */
static __always_inline void classify_own(const struct target *t, struct decision *d) {
  if (unlikely(t->set & EA_SET_NAMES) && !(t->flags & TARGET_NAMED && are_collected(t)))
    collect_names(t->endpoint, t);
  classify_collected(t, d);
}

#endif
