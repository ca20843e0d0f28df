/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* classify(): which rule of a policy set decides about a destination. Reads the
 * policy maps, writes nothing (but the events of Log rules, where asked).
 *
 * Precedence, the same list as in ARCHITECTURE.md and src/ir/evaluate.ts:
 *   1. tiers in order: their rules stand in the set in this order
 *   2. first match: Allow and Deny decide; Log is told and the next rule is tried; Pass goes on at the next tier
 *   3. what the dialect always allows, and
 *   4. the tier's default: both are rules of the set, at the end of their tier
 *   5. no rule left: allowed
 * Staged rules are skipped by the verdict and count in a second scan: the audit. */
#ifndef EA_POLICY_H
#define EA_POLICY_H

#include "config.h"

enum { TARGET_FRAGMENT = 1, TARGET_SELF = 2, TARGET_LOG = 4 };

struct target {
  __u64 set; /* reference, with its flags */
  __u8 addr[16];
  __be16 port;
  __u8 protocol;
  __u8 flags;
  __u32 pad;
};

struct decision {
  __u64 rule;
  __u64 audit_rule;
  __u8 verdict;
  __u8 audit_verdict;
  __u8 reason;
  __u8 logged; /* a Log rule matched */
  __u8 pad[4];
};

/* Position of the lowest bit set; x is not 0. The machine has no instruction for it: the ones below it are counted,
 * in parallel, without a branch that the verifier would have to follow both ways. */
static __always_inline __u32 lowest_bit(__u64 x) {
  x = (x & -x) - 1;
  x -= (x >> 1) & 0x5555555555555555ULL;
  x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return (x * 0x0101010101010101ULL) >> 56;
}

/* 0 where no prefix covers the address: EA_CLASS_NONE. */
static __always_inline __u64 class_of(const __u8 *addr) {
  __u64 *found;
  if (is_v4(addr)) {
    struct ea_dest4_key key = {.prefixlen = 32};
    __builtin_memcpy(key.addr, addr + 12, 4);
    found = bpf_map_lookup_elem(&destinations4, &key);
  } else {
    struct ea_dest6_key key = {.prefixlen = 128};
    __builtin_memcpy(key.addr, addr, 16);
    found = bpf_map_lookup_elem(&destinations6, &key);
  }
  return found ? *found : EA_CLASS_NONE;
}

/* 1 if x is not 0, else 0; without a branch (see lowest_bit), also where the compiler would find one. */
static __always_inline __u64 is_some(__u64 x) {
  __u64 y = -x;
  asm volatile("" : "+r"(y));
  return (x | y) >> 63;
}

/* Peers AND ports, for the two sizes of sets. Result in s->words (and s->live where rules are staged), and which
 * words are not zero. -1: a row is missing. */
#define DEFINE_GATHER(name, row, peer_map, port_map, WORDS)                                                  \
  static __always_inline int name(struct scratch *s, const struct target *t, __u64 class_id,                 \
                                  const struct ea_port_key *port_key, __u64 *any, __u64 *any_live) {         \
    struct ea_class_key key = {.set = SET_ID(t->set), .class_id = class_id};                                 \
    const struct row *peers = bpf_map_lookup_elem(&peer_map, &key), *self = NULL, *staged = NULL;            \
    if (!peers && class_id) {                                                                                \
      key.class_id = EA_CLASS_NONE;                                                                          \
      peers = bpf_map_lookup_elem(&peer_map, &key);                                                          \
    }                                                                                                        \
    if (!peers) return -1;                                                                                   \
    const struct row *ports = bpf_map_lookup_elem(&port_map, port_key);                                      \
    if (!ports) return -1;                                                                                   \
    if (t->flags & TARGET_SELF) {                                                                            \
      key.class_id = EA_CLASS_SELF;                                                                          \
      self = bpf_map_lookup_elem(&peer_map, &key);                                                           \
    }                                                                                                        \
    if (t->set & EA_SET_STAGED) {                                                                            \
      key.class_id = EA_CLASS_STAGED;                                                                        \
      staged = bpf_map_lookup_elem(&peer_map, &key);                                                         \
      if (!staged) return -1;                                                                                \
    }                                                                                                        \
    for (int i = 0; i < WORDS; i++) {                                                                        \
      __u64 word = peers->words[i];                                                                          \
      if (self) word |= self->words[i];                                                                      \
      word &= ports->words[i];                                                                               \
      s->words[i] = word;                                                                                    \
      *any |= is_some(word) << i;                                                                            \
      if (staged) {                                                                                          \
        word &= ~staged->words[i];                                                                           \
        s->live[i] = word;                                                                                   \
        *any_live |= is_some(word) << i;                                                                     \
      }                                                                                                      \
    }                                                                                                        \
    return 0;                                                                                                \
  }
DEFINE_GATHER(gather_small, ea_row_small, class_rules, port_rules, EA_SMALL_WORDS)
DEFINE_GATHER(gather_large, ea_row_large, class_rules_large, port_rules_large, EA_LARGE_WORDS)

enum { LOG_TELL = 1, LOG_MET = 2 }; /* the second is a result */

struct scan {
  struct scratch *s;
  __u64 set;  /* id */
  __u64 any;  /* words that are not zero */
  __u64 rule; /* result */
  __u32 position;
  __u8 live;    /* which of the two bitmaps */
  __u8 log;     /* LOG_TELL, LOG_MET */
  __u8 verdict; /* result */
  __u8 reason;
};

/* One matching rule; 1: done. */
static long scan_step(__u32 i, struct scan *c) {
  (void)i;
  struct scratch *s = c->s;
  __u32 w = c->position >> 6, shift = c->position & 63;
  if (w >= EA_LARGE_WORDS) return 1;
  __u64 word = (c->live ? s->live[w] : s->words[w]) & (~0ULL << shift);
  if (!(c->any >> w & 1)) word = 0; /* beyond the set's size the scratch holds another packet's words */
  if (!word) {
    __u64 rest = w == 63 ? 0 : c->any & (~0ULL << (w + 1));
    if (!rest) return 1;
    w = lowest_bit(rest) & (EA_LARGE_WORDS - 1);
    word = c->live ? s->live[w] : s->words[w];
    if (!word) return 1;
  }
  struct ea_rule_key key = {.set = c->set, .bit = w * 64 + lowest_bit(word)};
  const struct ea_rule *rule = bpf_map_lookup_elem(&rules, &key);
  if (!rule || (rule->action == EA_ACTION_PASS && rule->tier_end <= key.bit)) {
    c->verdict = EA_VERDICT_DENY;
    c->reason = EA_REASON_NO_SET;
    return 1;
  }
  if (rule->action == EA_ACTION_PASS) {
    c->position = rule->tier_end;
    return 0;
  }
  if (rule->action == EA_ACTION_LOG) {
    if (c->log & LOG_TELL) {
      s->event.type = EA_EVENT_LOG;
      s->event.rule = rule->id;
      count(bpf_ringbuf_output(&events, &s->event, sizeof(s->event), BPF_RB_NO_WAKEUP) ? EA_COUNT_EVENTS_LOST
                                                                                       : EA_COUNT_EVENTS);
    }
    c->log |= LOG_MET;
    c->position = key.bit + 1;
    return 0;
  }
  c->rule = rule->id;
  c->verdict = rule->action == EA_ACTION_ALLOW ? EA_VERDICT_ALLOW : EA_VERDICT_DENY;
  c->reason = EA_REASON_RULE;
  return 1;
}

/* TARGET_LOG: scratch()->event describes the packet; Log rules send copies of it. t->set is not 0. */
APART int classify(const struct target *t, struct decision *d) {
  if (!t || !d) return 0;
  d->rule = d->audit_rule = 0;
  d->verdict = EA_VERDICT_DENY;
  d->audit_verdict = EA_VERDICT_NONE;
  d->reason = EA_REASON_NO_SET;
  d->logged = 0;
  struct scratch *s = scratch();
  if (!s) return 0;
  count(EA_COUNT_CLASSIFIED);

  __u64 any = 0, any_live = 0;
  struct ea_port_key port = {
      .prefixlen = t->flags & TARGET_FRAGMENT ? 80 : 96, .protocol = t->protocol, .port = t->port};
  __be64 id = bpf_cpu_to_be64(SET_ID(t->set));
  __builtin_memcpy(port.set, &id, 8);
  const __u64 class_id = class_of(t->addr);
  if (t->set & EA_SET_LARGE ? gather_large(s, t, class_id, &port, &any, &any_live)
                            : gather_small(s, t, class_id, &port, &any, &any_live))
    return 0;

  const int staged = !!(t->set & EA_SET_STAGED);
  struct scan scan = {
      .s = s,
      .set = SET_ID(t->set),
      .any = staged ? any_live : any,
      .live = staged,
      .log = t->flags & TARGET_LOG ? LOG_TELL : 0,
      .verdict = EA_VERDICT_ALLOW,
      .reason = EA_REASON_NO_POLICY,
  };
  bpf_loop(EA_LARGE_WORDS * 64 + 1, scan_step, &scan, 0);
  d->rule = scan.rule;
  d->verdict = scan.verdict;
  d->reason = scan.reason;
  d->logged = !!(scan.log & LOG_MET);
  if (!staged) return 0;

  scan.any = any;
  scan.live = scan.log = 0;
  scan.rule = scan.position = 0;
  scan.verdict = EA_VERDICT_ALLOW;
  bpf_loop(EA_LARGE_WORDS * 64 + 1, scan_step, &scan, 0);
  d->audit_rule = scan.rule;
  d->audit_verdict = scan.verdict;
  return 0;
}

#endif
