/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Two memories of what classify() found: the class of an address, and the decision about a class. The second
 * serves every address of the class: a pod that calls a thousand addresses, and a Service of many backends,
 * have each of their classes judged once. The first serves every protocol and port.
 *
 * Both are labelled with the set, and with the epoch that the packet read before the set and before anything
 * of the policy maps. Every update ends with another epoch.
 *
 * Why the class needs the set as a label: an update changes classes, then sets, then the epoch. A packet that
 * reads the new set with the old epoch must not find a class from before the update. The new set may ask for
 * atoms that this class does not have yet, and the packet would pass although both policies deny it. A class
 * that was found for the new set was read after the classes had changed. A change that comes without a new
 * epoch is seen within a tick. */
#ifndef EA_DECIDED_H
#define EA_DECIDED_H

#include "config.h"

/* MET: it is not known which name is asked for; rules that ask for one match. NAMED: this packet's names may
 * have been collected already. */
enum { TARGET_FRAGMENT = 1, TARGET_SELF = 2, TARGET_LOG = 4, TARGET_MET = 8, TARGET_NAMED = 16 };
/* The same for what a connection says: not known, any rule that asks for it matches; known, it is in
 * said_work(). Neither: it says nothing. */
enum { TARGET_SAID_MET = 32, TARGET_SAID = 64 };

struct target {
  __u64 set; /* reference, with its flags */
  __u8 addr[16];
  __be16 port;
  __u8 protocol;
  __u8 flags;
  __u32 epoch;    /* as the packet read it before `set` */
  __u32 endpoint; /* id of the sender, whose names count; 0: nobody's */
  __u32 pad;
  __u64 query; /* the class of the name in a DNS query; 0: there is none, or no pattern matches it */
};

struct decision {
  __u64 rule;
  __u64 audit_rule;
  __u8 verdict;
  __u8 audit_verdict;
  __u8 reason;
  __u8 logged;  /* a Log rule matched */
  __u8 service; /* decided by a Service's backends */
  __u8 dns;     /* enum ea_rule_dns, of the rule */
  __u8 pad[2];
};

/* 32 and 64 KiB for each CPU. A long list of networks is some hundred classes. */
#define CLASS_SLOT_BITS 10
#define DECISION_SLOT_BITS 10
/* A tick is 2^7 jiffies: 128 ms to 1.3 s, by the kernel's configuration. */
#define MEMORY_TICK_SHIFT 7

struct class_entry {
  __u64 set;
  __u8 addr[16];
  __u64 class_id; /* with CLASS_VALID; 0: nothing yet */
  __u32 epoch;
  __u32 tick;
};
#define CLASS_VALID (1ULL << 63)

/* One cache line. */
struct decision_entry {
  __u64 set;       /* 0: nothing yet */
  __u64 class_key; /* the class of the address, and what the names add to it */
  __u32 epoch;
  __u32 tick;
  __be16 port;
  __u8 protocol;
  __u8 self;
  __u32 pad;
  struct decision decision;
};

/* Direct mapped: of entries that share a slot, the last one stays. One memory for each CPU, whose tc programs
 * never interrupt each other: nobody reads half an entry. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1 << CLASS_SLOT_BITS);
  __type(key, __u32);
  __type(value, struct class_entry);
} classes SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1 << DECISION_SLOT_BITS);
  __type(key, __u32);
  __type(value, struct decision_entry);
} decisions SEC(".maps");

static __always_inline __u32 current_tick(void) {
  return bpf_jiffies64() >> MEMORY_TICK_SHIFT;
}

static __always_inline struct class_entry *class_slot(const struct target *t) {
  const __u32 *w = (const __u32 *)t->addr;
  const __u32 mixed = (w[0] ^ w[1] * 3 ^ w[2] * 5 ^ w[3] * 7 ^ (__u32)t->set * 11) * 0x9e3779b1u;
  __u32 slot = mixed >> (32 - CLASS_SLOT_BITS);
  return bpf_map_lookup_elem(&classes, &slot);
}

static __always_inline int has_class(const struct class_entry *r, const struct target *t) {
  const struct ea_state *st = current_state();
  return st && (r->class_id & CLASS_VALID) && r->set == t->set && same16(r->addr, t->addr) &&
         r->epoch == t->epoch && r->tick == current_tick() && !(st->flags & EA_STATE_NO_CACHE);
}

static __always_inline void remember_class(struct class_entry *r, const struct target *t, __u64 class_id) {
  r->set = t->set;
  __builtin_memcpy(r->addr, t->addr, 16);
  r->class_id = class_id | CLASS_VALID;
  r->epoch = t->epoch;
  r->tick = current_tick();
}

static __always_inline struct decision_entry *decision_slot(const struct target *t, __u64 class_key) {
  /* The ids of sets and classes are hashes already. */
  const __u64 mixed =
      (class_key ^ t->set * 3 ^ ((__u64)t->port << 8 | t->protocol) * 5) * 0x9e3779b97f4a7c15ULL;
  __u32 slot = mixed >> (64 - DECISION_SLOT_BITS);
  return bpf_map_lookup_elem(&decisions, &slot);
}

static __always_inline int has_decision(const struct decision_entry *r, const struct target *t,
                                        __u64 class_key) {
  const struct ea_state *st = current_state();
  return st && r->set == t->set && r->class_key == class_key && r->epoch == t->epoch && r->port == t->port &&
         r->protocol == t->protocol && r->self == (t->flags & TARGET_SELF) && r->tick == current_tick() &&
         !(t->flags & TARGET_FRAGMENT) && !(st->flags & EA_STATE_NO_CACHE);
}

/* Not remembered: decisions with a Log rule, which is reported for each flow; a missing row; fragments, which
 * have no port. */
static __always_inline void remember_decision(struct decision_entry *r, const struct target *t,
                                              __u64 class_key, const struct decision *d) {
  if (d->logged || d->reason == EA_REASON_NO_SET || (t->flags & TARGET_FRAGMENT)) return;
  r->set = t->set;
  r->class_key = class_key;
  r->epoch = t->epoch;
  r->tick = current_tick();
  r->port = t->port;
  r->protocol = t->protocol;
  r->self = t->flags & TARGET_SELF;
  r->decision = *d;
}

#endif
