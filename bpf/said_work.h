/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a connection says, as the rows of a set ask for it: one piece of work memory for each CPU. */
#ifndef EA_SAID_WORK_H
#define EA_SAID_WORK_H

#include "config.h"

/* With TARGET_SAID, the row of classes[0] counts, or that of `fixed` if there is none; and then each of
 * classes[1] to classes[count - 1], which must all be there. */
struct said_work {
  __u64 fixed;                 /* EA_CLASS_UNSAID and those that follow it */
  __u64 classes[EA_SAID_ROWS]; /* [0]: of the name; 0: no pattern matches it */
  __u64 key;                   /* stands for all of them where decisions are remembered (decided.h) */
  __u32 count;                 /* of `classes`; 1 or more */
  __u32 kind;                  /* enum ea_said */
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct said_work);
} said_works SEC(".maps");

static __always_inline struct said_work *said_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&said_works, &zero);
}

#endif
