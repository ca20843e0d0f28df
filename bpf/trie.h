/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* class_of4(): the class of an IPv4 destination, in at most seven reads, however many prefixes there are.
 * agent/maps/tables/flat-trie.ts writes what is read here.
 *
 * Each read is of one aligned word that the agent changes by one store. A node is complete before a slot
 * names it, and is used again only when every program that ran at its removal has ended. So a packet reads
 * what an address meant at some moment during its own look-up, and never a mixture. */
#ifndef EA_TRIE_H
#define EA_TRIE_H

#include "maps.h"

/* No class: the trie is inconsistent. Nothing passes. */
#define CLASS_BROKEN (~0ULL)
#define SLOT_NODE (1ULL << 63)
#define SLOT_CLASS ((1ULL << EA_TRIE_CLASS_BITS) - 1)

/* EA_CLASS_NONE (0) where no prefix covers the address. `addr`: in host order. */
static __always_inline __u64 class_of4(__u32 addr) {
  __u32 at = addr >> (32 - EA_TRIE_ROOT_BITS); /* one variable for all keys: the stack is short */
  const __u64 *root = bpf_map_lookup_elem(&destinations4_root, &at);
  if (!root) return CLASS_BROKEN;
  __u64 slot = *(const volatile __u64 *)root;
  _Static_assert((32 - EA_TRIE_ROOT_BITS) % EA_TRIE_NODE_BITS == 0, "the last node ends with the address");
  for (int rest = 32 - EA_TRIE_ROOT_BITS; rest > 0; rest -= EA_TRIE_NODE_BITS) {
    if (!(slot & SLOT_NODE)) break;
    at = (__u32)slot >> EA_TRIE_CHUNK_BITS;
    void *nodes = bpf_map_lookup_elem(&destinations4_nodes, &at);
    if (!nodes) return CLASS_BROKEN;
    at = slot & ((1 << EA_TRIE_CHUNK_BITS) - 1);
    const struct ea_dest4_node *node = bpf_map_lookup_elem(nodes, &at);
    if (!node) return CLASS_BROKEN;
    const __u32 child = addr >> (rest - EA_TRIE_NODE_BITS) & ((1 << EA_TRIE_NODE_BITS) - 1);
    slot = *(const volatile __u64 *)&node->slots[child];
  }
  return slot & SLOT_NODE ? CLASS_BROKEN : slot & SLOT_CLASS;
}

#endif
