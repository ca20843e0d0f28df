// SPDX-License-Identifier: Apache-2.0
/* One frame again and again, a few of its fields another each time, as fast as a pod can send past its own kernel.
 *   flood DEVICE COUNT RATE FRAME FIELD...
 * FRAME: hex, link-layer header first. RATE: frames a second; 0: as fast as it goes.
 * FIELD: OFFSET:FIRST:HOW-MANY[:CHECKSUM...], 16 bits of the frame at OFFSET, which take HOW-MANY values from FIRST on, and
 * the offsets of the checksums that cover them. The first field counts fastest, the next one with each of its rounds.
 * Prints how many it sent, and in how many seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE 64
#define FIELDS 6
#define SUMS 2
#define ROOM 2048

struct field {
  int offset, sums;
  unsigned first, many;
  int sum_at[SUMS]; /* 0: there is none in this frame */
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static uint16_t read16(const uint8_t *at) {
  return at[0] << 8 | at[1];
}

static void write16(uint8_t *at, uint16_t value) {
  at[0] = value >> 8;
  at[1] = value;
}

/* RFC 1624: the checksum over one word that was changed. */
static void resum(uint8_t *at, uint16_t before, uint16_t after) {
  uint32_t sum = (uint16_t)~read16(at) + (uint32_t)(uint16_t)~before + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  write16(at, ~sum);
}

static void put(uint8_t *frame, const struct field *f, uint16_t value) {
  for (int i = 0; i < f->sums; i++)
    if (f->sum_at[i]) resum(frame + f->sum_at[i], read16(frame + f->offset), value);
  write16(frame + f->offset, value);
}

static void parse_field(struct field *f, char *text) {
  char *part = strtok(text, ":");
  for (int i = 0; part; i++, part = strtok(NULL, ":")) {
    const unsigned n = strtoul(part, NULL, 0);
    if (i == 0) f->offset = n;
    if (i == 1) f->first = n;
    if (i == 2) f->many = n;
    if (i > 2 && f->sums < SUMS) f->sum_at[f->sums++] = n;
  }
  if (!f->many || f->offset + 2 > ROOM) exit(2);
}

int main(int argc, char **argv) {
  static uint8_t frames[AT_ONCE][ROOM];
  static struct iovec parts[AT_ONCE];
  static struct mmsghdr messages[AT_ONCE];
  static struct field fields[FIELDS];
  const int many = argc - 5;
  if (many < 1 || many > FIELDS) return 2;
  const unsigned long long count = strtoull(argv[2], NULL, 0);
  const double rate = atof(argv[3]);
  for (int i = 0; i < many; i++) parse_field(&fields[i], argv[5 + i]);
  int length = 0;
  for (unsigned byte; length < ROOM && sscanf(argv[4] + 2 * length, "%2x", &byte) == 1; length++)
    for (int i = 0; i < AT_ONCE; i++) frames[i][length] = byte;

  /* A checksum of 0 stays: there is none. */
  for (int i = 0; i < many; i++)
    for (int k = 0; k < fields[i].sums; k++)
      if (!read16(frames[0] + fields[i].sum_at[k])) fields[i].sum_at[k] = 0;

  int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
  if (bind(fd, (struct sockaddr *)&to, sizeof(to))) die("bind");
  for (int i = 0; i < AT_ONCE; i++) {
    parts[i] = (struct iovec){frames[i], length};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }

  const double start = now();
  unsigned long long sent = 0;
  for (unsigned long long n = 0; n < count; n += AT_ONCE) {
    const int these = count - n < AT_ONCE ? count - n : AT_ONCE;
    for (int i = 0; i < these; i++) {
      unsigned long long rest = n + i;
      for (int k = 0; k < many; k++) {
        put(frames[i], &fields[k], fields[k].first + rest % fields[k].many);
        rest /= fields[k].many;
      }
    }
    const int done = sendmmsg(fd, messages, these, 0);
    if (done > 0) sent += done;
    if (rate > 0) {
      const double ahead = sent / rate - (now() - start);
      if (ahead > 0.001) usleep(ahead * 1e6);
    }
  }
  printf("%llu %.3f\n", sent, now() - start);
  return 0;
}
