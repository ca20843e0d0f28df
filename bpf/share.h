/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The event ring, shared fairly. While it fills faster than it is read, each endpoint may write only so many
 * events in a tick; the rest of its events are lost. Without this, a pod that floods the ring could hide what
 * other pods do. While there is room, nobody is limited. */
#ifndef EA_SHARE_H
#define EA_SHARE_H

#include "config.h"

/* About an eighth of a second. */
#define TICK_SHIFT 27
/* While the ring is filling, events of Log rules are lost once their endpoint has written so many events in a
 * tick. */
#define MORE_THAN_SHARE 64

/* Events that one endpoint may write in a tick, by how many quarters of the ring are full. 24,000 events fit
 * into the three upper quarters of 8 MiB: some dozens of endpoints that write as much as they can leave room
 * for all others. */
static __always_inline __u32 share_of(__u32 quarters) {
  return quarters == 1 ? 1024 : quarters == 2 ? 256 : 64;
}

/* The part of the kernel's struct that is read: the loader sets the ring's size. */
struct bpf_map {
  __u32 max_entries;
} __attribute__((preserve_access_index));

/* How many quarters of the ring are filled with events that were not read yet, 0 to 3. */
static __always_inline __u32 quarters_waiting(void) {
  const struct bpf_map *ring = (const struct bpf_map *)&events;
  const __u32 quarter = ring->max_entries / 4, waiting = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
  if (likely(waiting < quarter)) return 0;
  return waiting < 2 * quarter ? 1 : waiting < 3 * quarter ? 2 : 3;
}

/* Whether an endpoint may write another event in this tick. Two CPUs may both take the last one. Little of
 * the stack is left where this is called: a new share is made in scratch memory, where nothing else is under
 * construction at that moment. */
GLOBAL_FUNCTION int has_share(const struct ea_flow_key *key, __u64 now_ns, __u32 quarters) {
  const __u64 tick = now_ns >> TICK_SHIFT;
  if (!key) return 1;
  struct ea_share *share = bpf_map_lookup_elem(&event_shares, &key->endpoint);
  if (!share) {
    struct scratch *s = scratch();
    if (!s) return 1;
    struct ea_share *new_share = (struct ea_share *)s->bytes;
    __builtin_memset(new_share, 0, sizeof(*new_share));
    new_share->tick = tick;
    new_share->reported = 1;
    bpf_map_update_elem(&event_shares, &key->endpoint, new_share, BPF_NOEXIST);
    return 1;
  }
  if (share->tick != tick) {
    share->tick = tick;
    share->reported = 0;
  }
  if (share->reported >= share_of(quarters)) return 0;
  share->reported++;
  return 1;
}

static __always_inline int may_report(const struct ea_flow_key *key, __u64 now_ns) {
  const __u32 quarters = quarters_waiting();
  return likely(!quarters) || has_share(key, now_ns, quarters);
}

/* Counts a lost event, in `counters` and in its endpoint's share. A full ring has been filling before, so the
 * endpoint has a share. */
static __always_inline int count_lost(const struct ea_flow_key *key) {
  count(EA_COUNT_EVENTS_LOST);
  struct ea_share *share = bpf_map_lookup_elem(&event_shares, &key->endpoint);
  if (share) __sync_fetch_and_add(&share->lost, 1);
  return 0;
}

/* The same for an event that accompanies another one of the endpoint; that one is counted in the share. */
static __always_inline int may_report_more(const struct ea_flow_key *key, __u64 now_ns) {
  const struct ea_share *share = bpf_map_lookup_elem(&event_shares, &key->endpoint);
  return !share || share->reported < MORE_THAN_SHARE || share->tick != now_ns >> TICK_SHIFT;
}

/* Writes an event from scratch memory to the ring. */
static __always_inline void output(struct scratch *s, int allowed) {
  if (!allowed || bpf_ringbuf_output(&events, &s->event, sizeof(s->event), BPF_RB_NO_WAKEUP))
    count_lost(&s->event.flow);
  else
    count(EA_COUNT_EVENTS);
}

#endif
