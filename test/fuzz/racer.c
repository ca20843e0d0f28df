// SPDX-License-Identifier: Apache-2.0
/* Packets of a few thousand flows through loaded programs by BPF_PROG_TEST_RUN, in an order of its own, on one CPU, as fast as
 * it can: one of several that meet in the same table.
 *   racer CPU FROM-POD-ID TO-POD-ID SEED MOST BARRIER RACERS
 * Standard input, a line a frame: `out` or `in`, what must become of it (`pass`, `drop`, `any`), and the frame in hex; then `go`. When
 * all RACERS have come there (BARRIER: a file of 8 bytes that they share) each is sent once, in order, so that they meet in each flow's
 * beginning; then at random, up to MOST times in a row, until more lines come, or the input ends: then it prints for each frame how many went in, and
 * how often the last of a row became what it must not, as two JSON arrays. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/bpf.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ITEMS 65536
#define ROOM 192
/* What a tc program returns; ANY is none of it. */
enum { PASS = -1, DROP = 2, ANY = 99 };
/* Sent between two looks at the input. */
#define TURN 64

struct item {
  int program, length, must;
  unsigned long long sent, wrong;
  uint8_t frame[ROOM];
};

static struct item items[ITEMS];
static int count, first;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static long bpf(int cmd, union bpf_attr *attr) {
  return syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static int by_id(unsigned id) {
  union bpf_attr attr = {.prog_id = id};
  int fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
  if (fd < 0) die("by id");
  return fd;
}

static void run(struct item *it, unsigned repeat) {
  uint8_t ctx[192] = {};
  *(uint32_t *)(ctx + 40) = 1; /* ifindex: lo */
  union bpf_attr attr = {.test = {.prog_fd = it->program,
                                  .data_in = (uintptr_t)it->frame,
                                  .data_size_in = it->length,
                                  .repeat = repeat,
                                  .ctx_in = (uintptr_t)ctx,
                                  .ctx_size_in = sizeof(ctx)}};
  /* A run that a signal ends has sent nobody knows how many: none is sent here. */
  if (bpf(BPF_PROG_TEST_RUN, &attr)) die("test run");
  it->sent += repeat;
  if (it->must != ANY && (int)attr.test.retval != it->must) it->wrong++;
}

/* 0: the input has ended. */
static int read_items(const int programs[2]) {
  static char line[1024], frame[1024], way[8], must[8];
  first = count;
  while (fgets(line, sizeof(line), stdin)) {
    struct item *it = &items[count];
    if (!strncmp(line, "go", 2)) {
      puts("ready");
      fflush(stdout);
      return 1;
    }
    if (count == ITEMS || sscanf(line, "%7s %7s %1023s", way, must, frame) != 3) exit(2);
    unsigned byte;
    it->must = !strcmp(must, "pass") ? PASS : !strcmp(must, "drop") ? DROP : ANY;
    it->program = programs[!strcmp(way, "in")];
    for (; it->length < ROOM && sscanf(frame + 2 * it->length, "%2x", &byte) == 1; it->length++)
      it->frame[it->length] = byte;
    count++;
  }
  return 0;
}

/* Returns when all have come here. */
static void meet(unsigned *arrived, unsigned racers) {
  static unsigned round;
  __atomic_fetch_add(arrived, 1, __ATOMIC_SEQ_CST);
  round++;
  while (__atomic_load_n(arrived, __ATOMIC_SEQ_CST) < round * racers);
}

int main(int argc, char **argv) {
  if (argc < 8) return 2;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(atoi(argv[1]), &set);
  if (sched_setaffinity(0, sizeof(set), &set)) die("affinity");
  const int programs[2] = {by_id(atoi(argv[2])), by_id(atoi(argv[3]))};
  const unsigned most = atoi(argv[5]);
  srandom(atoi(argv[4]));
  int shared = open(argv[6], O_RDWR);
  unsigned *arrived = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, shared, 0);
  if (arrived == MAP_FAILED) die("barrier");
  struct pollfd input = {.fd = 0, .events = POLLIN};
  while (read_items(programs)) {
    const int these = count - first;
    meet(arrived, atoi(argv[7]));
    for (int i = first; i < count; i++) run(&items[i], 1);
    do
      for (int i = 0; i < TURN && these; i++)
        run(&items[first + random() % these], 1 + random() % most);
    while (poll(&input, 1, these ? 0 : -1) == 0); /* who writes waits for `ready`: nothing is left in a buffer */
  }
  for (int what = 0; what < 2; what++) {
    putchar('[');
    for (int i = 0; i < count; i++) printf("%s%llu", i ? "," : "", what ? items[i].wrong : items[i].sent);
    puts("]");
  }
  return 0;
}
