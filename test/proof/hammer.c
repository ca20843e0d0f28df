// SPDX-License-Identifier: Apache-2.0
/* Packets through a loaded program by BPF_PROG_TEST_RUN, one after the other on one CPU, while the policies behind it
 * change: each verdict, and each event's rule, must be one of those given.
 *   hammer CPU PROGRAM-ID EVENTS-MAP-ID COUNTERS-MAP-ID     a map id of 0: no look at it
 * Standard input, a line a packet; then `go`. It ends when the input does, and prints its counts as JSON.
 *   each SPORT-OFFSET ADDRESS PORT PROTOCOL OUTCOMES FRAME  a flow of its own each time: another source port
 *   pass REPEAT FRAME                                       over and over; none may be dropped
 *   drop REPEAT FRAME                                       over and over; all must be
 * ADDRESS: 32 hex digits; OUTCOMES: `verdict/rule,…`, the numbers of ea_event; FRAME: hex. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/bpf.h>
#include <linux/types.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "../../bpf/types.h"

#define PACKETS 512
#define OUTCOMES 8
#define RING_BUSY 0x80000000u
#define RING_DISCARD 0x40000000u
#define TC_ACT_UNSPEC (-1)
#define SHOWN 20

enum mode { EACH, PASS_ALL, DROP_ALL };
struct outcome {
  unsigned verdict;
  unsigned long long rule;
};
struct item {
  enum mode mode;
  int sport_at, length, outcomes;
  unsigned repeat;
  struct outcome may[OUTCOMES];
  __u8 addr[16], protocol;
  __u16 port;
  __u8 frame[512];
};

static struct item items[PACKETS];
static int count;
static unsigned long long packets, told, wrong;
static int program, counters_fd;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static long bpf(int cmd, union bpf_attr *attr) {
  return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int by_id(int cmd, unsigned id) {
  union bpf_attr attr = {.map_id = id};
  int fd = bpf(cmd, &attr);
  if (fd < 0) die("by id");
  return fd;
}

static int hex(__u8 *to, const char *text, int room) {
  int n = 0;
  unsigned byte;
  for (; n < room && sscanf(text + 2 * n, "%2x", &byte) == 1; n++) to[n] = byte;
  return n;
}

static void complain(const struct item *it, const char *what, unsigned verdict, unsigned long long rule) {
  if (++wrong > SHOWN) return;
  fprintf(stderr, "wrong: packet %d: %s: verdict %u rule %llu\n", (int)(it - items), what, verdict, rule);
}

/* Drops on this CPU, by reason; nothing else runs programs on these maps here. */
static unsigned long long drops(unsigned long long by_reason[EA_COUNT_MAX]) {
  unsigned long long values[256], sum = 0;
  for (__u32 key = EA_COUNT_DROPS; key < EA_COUNT_MAX; key++) {
    union bpf_attr attr = {
        .map_fd = counters_fd, .key = (uintptr_t)&key, .value = (uintptr_t)values};
    if (bpf(BPF_MAP_LOOKUP_ELEM, &attr)) die("counters");
    by_reason[key] = values[sched_getcpu()];
    sum += by_reason[key];
  }
  return sum;
}

static int run(const struct item *it, unsigned repeat) {
  __u8 ctx[192] = {};
  *(__u32 *)(ctx + 40) = 1; /* ifindex: lo */
  union bpf_attr attr = {.test = {.prog_fd = program,
                                  .data_in = (uintptr_t)it->frame,
                                  .data_size_in = it->length,
                                  .repeat = repeat,
                                  .ctx_in = (uintptr_t)ctx,
                                  .ctx_size_in = sizeof(ctx)}};
  while (bpf(BPF_PROG_TEST_RUN, &attr))
    if (errno != EINTR) die("test run");
  packets += repeat;
  return attr.test.retval;
}

static int may(const struct item *it, unsigned verdict, unsigned long long rule) {
  for (int i = 0; i < it->outcomes; i++)
    if (it->may[i].verdict == verdict && (it->may[i].rule == rule || verdict == EA_VERDICT_PARTIAL)) return 1;
  return 0;
}

static void judge(const struct ea_event *e) {
  if (e->type != EA_EVENT_VERDICT && e->type != EA_EVENT_CHANGED && e->type != EA_EVENT_DROP) return;
  for (int i = 0; i < count; i++) {
    const struct item *it = &items[i];
    if (it->mode != EACH || e->flow.protocol != it->protocol || e->flow.remote_port != it->port ||
        memcmp(e->flow.remote, it->addr, 16))
      continue;
    told++;
    if (!may(it, e->verdict, e->rule)) {
      char what[96];
      snprintf(what, sizeof(what), "event %u, reason %u, epoch %u, set %llx", e->type, e->reason, e->epoch,
               (unsigned long long)e->set);
      complain(it, what, e->verdict, e->rule);
    }
    return;
  }
}

static volatile unsigned long *consumer, *producer;
static __u8 *ring;
static unsigned long ring_size;

static void open_ring(unsigned id) {
  const long page = sysconf(_SC_PAGESIZE);
  int fd = by_id(BPF_MAP_GET_FD_BY_ID, id);
  struct bpf_map_info info = {};
  union bpf_attr attr = {.info = {.bpf_fd = fd, .info_len = sizeof(info), .info = (uintptr_t)&info}};
  if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr)) die("info");
  ring_size = info.max_entries;
  consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  producer = mmap(NULL, page + 2 * ring_size, PROT_READ, MAP_SHARED, fd, page);
  if (consumer == MAP_FAILED || producer == MAP_FAILED) die("mmap");
  ring = (__u8 *)producer + page;
  *consumer = *producer;
}

static void drain(void) {
  unsigned long at = *consumer;
  const unsigned long end = __atomic_load_n(producer, __ATOMIC_ACQUIRE);
  while (at < end) {
    const __u32 head = __atomic_load_n((__u32 *)(ring + (at & (ring_size - 1))), __ATOMIC_ACQUIRE);
    if (head & RING_BUSY) break;
    if (!(head & RING_DISCARD)) judge((void *)(ring + (at & (ring_size - 1)) + 8));
    at += ((head & ~RING_DISCARD) + 8 + 7) & ~7ul;
  }
  __atomic_store_n(consumer, at, __ATOMIC_RELEASE);
}

static void read_items(void) {
  static char line[4096], text[2048], frame[2048], addr[64];
  while (fgets(line, sizeof(line), stdin)) {
    struct item *it = &items[count];
    unsigned port, protocol;
    if (!strncmp(line, "go", 2)) return;
    if (count == PACKETS) die("too many packets");
    if (sscanf(line, "each %d %63s %u %u %2047s %2047s", &it->sport_at, addr, &port, &protocol, text, frame) == 6) {
      hex(it->addr, addr, 16);
      it->port = htobe16(port);
      it->protocol = protocol;
      for (char *p = strtok(text, ","); p && it->outcomes < OUTCOMES; p = strtok(NULL, ",")) {
        struct outcome *o = &it->may[it->outcomes++];
        sscanf(p, "%u/%llu", &o->verdict, &o->rule);
      }
    } else if (sscanf(line, "pass %u %2047s", &it->repeat, frame) == 2) {
      it->mode = PASS_ALL;
    } else if (sscanf(line, "drop %u %2047s", &it->repeat, frame) == 2) {
      it->mode = DROP_ALL;
    } else {
      fprintf(stderr, "not understood: %s", line);
      exit(2);
    }
    it->length = hex(it->frame, frame, sizeof(it->frame));
    count++;
  }
}

static void once(struct item *it, unsigned round) {
  unsigned long long before[EA_COUNT_MAX], after[EA_COUNT_MAX], dropped;
  if (it->mode == EACH) {
    const __u16 sport = 1024 + round % 64000;
    if (it->sport_at) *(__u16 *)(it->frame + it->sport_at) = htobe16(sport);
    const int passed = run(it, 1) == TC_ACT_UNSPEC;
    int fine = 0;
    for (int i = 0; i < it->outcomes; i++) fine |= (it->may[i].verdict != EA_VERDICT_DENY) == passed;
    if (!fine) complain(it, "returned", passed ? EA_VERDICT_ALLOW : EA_VERDICT_DENY, 0);
    return;
  }
  dropped = drops(before);
  run(it, it->repeat);
  dropped = drops(after) - dropped;
  const unsigned long long expected = it->mode == DROP_ALL ? it->repeat : 0;
  if (dropped == expected) return;
  for (int r = EA_COUNT_DROPS; r < EA_COUNT_MAX; r++)
    if (after[r] != before[r])
      fprintf(stderr, "  drops for reason %d: %llu of %u\n", r - EA_COUNT_DROPS, after[r] - before[r], it->repeat);
  complain(it, it->mode == DROP_ALL ? "passed though it must not" : "dropped though it must not", 0,
           dropped > expected ? dropped - expected : expected - dropped);
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(atoi(argv[1]), &set);
  if (sched_setaffinity(0, sizeof(set), &set)) die("affinity");
  program = by_id(BPF_PROG_GET_FD_BY_ID, atoi(argv[2]));
  if (atoi(argv[3])) open_ring(atoi(argv[3]));
  counters_fd = by_id(BPF_MAP_GET_FD_BY_ID, atoi(argv[4]));
  setvbuf(stdin, NULL, _IONBF, 0);
  read_items();
  puts("ready");
  fflush(stdout);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  for (unsigned round = 0;; round++) {
    /* Each on its own finds more: the others are many at once. */
    for (int i = 0; i < count; i++)
      if (items[i].mode == EACH || (round & 15) == 0) once(&items[i], round);
    if (ring) drain();
    if ((round & 15) == 0 && poll(&input, 1, 0) > 0) break;
  }
  if (ring) drain();
  printf("{\"packets\": %llu, \"told\": %llu, \"wrong\": %llu}\n", packets, told, wrong);
  return 0;
}
