/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The base of all other headers: kernel interface, macros, scratch memory, counters. */
#ifndef EA_CONFIG_H
#define EA_CONFIG_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* Verdicts as tc codes. UNSPEC (TCX_NEXT): the next program on the hook decides. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

/* A global function: the verifier checks it once, by itself, and not again for each path that calls it.
 * Without that, the programs exceed the verifier's limits. It assumes nothing about the callers, so pointers
 * are checked for NULL. */
#define GLOBAL_FUNCTION __attribute__((noinline))

/* Sets whose rules ask for more than address, protocol and port. */
#define EA_SET_ASKS (EA_SET_NAMES | EA_SET_QUERIES | EA_SET_SAYS)
#define SET_ID(ref) ((ref) & ((1ULL << 53) - 1))
#define SECOND_NS 1000000000ULL

/* Memory for what is too large for the stack, one for each CPU. tc programs of one CPU never interrupt each
 * other. Only `seed`, which is run by hand, can be interrupted: kernels before 6.3 process packets meanwhile.
 * It has scratch memory of its own (seed_scratch). */
struct scratch {
  struct ea_event event;
  struct ea_flow flow;      /* about to be stored in the table */
  struct ea_flow shadow;    /* copy of a flow that others hold locked for too long */
  struct ea_flow side_flow; /* a side record that is about to be stored, and its key */
  struct ea_flow_key side_key;
  /* Keys of classify(): the stack is short. */
  struct ea_port_key port_key;
  struct ea_class_key class_key;
  struct ea_rule_key rule_key;
  __u8 bytes[160]; /* a packet or record under construction */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 2);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline struct scratch *seed_scratch(void) {
  __u32 one = 1;
  return bpf_map_lookup_elem(&scratches, &one);
}

static __always_inline struct ea_state *current_state(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&state, &zero);
}

/* Whether drops are due to be reported: a second has passed since `reported_ns` (CLOCK_MONOTONIC), which is
 * then set to now, by one caller only. Uses the coarse clock, which is cheap and may be a tick behind. */
static __always_inline int is_due(__u64 *reported_ns) {
  const __u64 now_ns = bpf_ktime_get_coarse_ns(), last_ns = *reported_ns;
  return (__s64)(now_ns - last_ns) >= (__s64)SECOND_NS &&
         __sync_val_compare_and_swap(reported_ns, last_ns, now_ns) == last_ns;
}

static __always_inline void count(__u32 which) {
  __u64 *value = bpf_map_lookup_elem(&counters, &which);
  if (value) *value += 1; /* per CPU */
}

/* The endpoint of an interface whose own slot is taken by another interface. */
static __noinline const struct ea_endpoint *displaced_endpoint(__u32 ifindex) {
  const __u32 *found = bpf_map_lookup_elem(&endpoints_more, &ifindex);
  if (!found) return NULL;
  __u32 slot = *found;
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  return ep && ep->ifindex == ifindex ? ep : NULL;
}

/* The slot in `endpoints` of an interface that has one. */
static __noinline __u32 slot_of(__u32 ifindex) {
  __u32 slot = ifindex & (EA_OWN_SLOTS - 1);
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  if (likely(ep && ep->ifindex == ifindex)) return slot;
  const __u32 *found = bpf_map_lookup_elem(&endpoints_more, &ifindex);
  return found ? *found : slot;
}

/* The endpoint of an interface; NULL where it has none. */
static __always_inline const struct ea_endpoint *endpoint_of(__u32 ifindex) {
  __u32 slot = ifindex & (EA_OWN_SLOTS - 1);
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  if (likely(ep && ep->ifindex == ifindex)) return ep;
  return displaced_endpoint(ifindex);
}

/* Position of the lowest bit set; x is not 0. BPF has no instruction for it. The ones below that bit are
 * counted in parallel, without a branch, which the verifier would have to follow both ways. */
static __always_inline __u32 lowest_bit(__u64 x) {
  x = (x & -x) - 1;
  x -= (x >> 1) & 0x5555555555555555ULL;
  x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return (x * 0x0101010101010101ULL) >> 56;
}

static __always_inline int same16(const __u8 *a, const __u8 *b) {
  const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
  return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3];
}

static __always_inline int same_mac(const __u8 *a, const __u8 *b) {
  const __u16 *x = (const __u16 *)a, *y = (const __u16 *)b;
  return x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

static __always_inline int is_v4(const __u8 *addr) {
  const __u32 *w = (const __u32 *)addr;
  return w[0] == 0 && w[1] == 0 && w[2] == bpf_htonl(0xffff);
}

static __always_inline __be32 v4_of(const __u8 *addr) {
  return ((const __u32 *)addr)[3];
}

/* What is known of an address; NULL: it is no local pod's and no node's. The caller confirms by the endpoint
 * that it has the address (owns()): the entry may be replaced while it is read. */
static __noinline const struct ea_address *address_of(const __u8 *addr) {
  struct ea_address_key key;
  __builtin_memcpy(key.addr, addr, 16);
  return bpf_map_lookup_elem(&addresses, &key);
}

#endif
