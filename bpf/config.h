/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What every other header stands on: kernel interface, shorthands, scratch memory, counters. */
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

/* Verdicts as tc knows them. UNSPEC (TCX_NEXT): the programs behind this one have their say. */
#define PASS TC_ACT_UNSPEC
#define DROP TC_ACT_SHOT

/* A function that the verifier looks at once, by itself, not again for each path that leads to it: what keeps the
 * programs within its limits. It knows nothing of its callers, so pointers are checked. */
#define APART __attribute__((noinline))

#define SET_ID(ref) ((ref) & ((1ULL << 53) - 1))
#define SECOND_NS 1000000000ULL

/* Too large for the stack. One for each CPU: tc programs of one CPU never interrupt each other. */
struct scratch {
  __u64 words[EA_LARGE_WORDS]; /* rules that match, staged ones included */
  __u64 live[EA_LARGE_WORDS];  /* the same without the staged ones */
  struct ea_event event;
  struct ea_flow flow; /* about to enter the table */
  __u8 bytes[160];     /* an answer under construction */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

static __always_inline struct scratch *scratch(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&scratches, &zero);
}

static __always_inline struct ea_state *state_now(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&state, &zero);
}

static __always_inline void count(__u32 which) {
  __u64 *value = bpf_map_lookup_elem(&counters, &which);
  if (value) *value += 1; /* per CPU */
}

/* The endpoint of an interface whose own slot another one has. */
static __noinline const struct ea_endpoint *endpoint_elsewhere(__u32 ifindex) {
  const __u32 *found = bpf_map_lookup_elem(&endpoints_more, &ifindex);
  if (!found) return NULL;
  __u32 slot = *found;
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  return ep && ep->ifindex == ifindex ? ep : NULL;
}

/* The endpoint of an interface; NULL where it has none. */
static __always_inline const struct ea_endpoint *endpoint_of(__u32 ifindex) {
  __u32 slot = ifindex & (EA_OWN_SLOTS - 1);
  const struct ea_endpoint *ep = bpf_map_lookup_elem(&endpoints, &slot);
  if (likely(ep && ep->ifindex == ifindex)) return ep;
  return endpoint_elsewhere(ifindex);
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

#endif
