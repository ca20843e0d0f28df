// SPDX-License-Identifier: Apache-2.0
/* DNS queries for the benchmarks, several of them in flight, each over a socket of its own.
 *   ask turns ADDR PORT SECONDS A B MS ZONE NAMES FRESH   in two network namespaces (files) by turns, MS milliseconds each, in the
 *                                     order AB BA AB …, for n0.ZONE, n1.ZONE, … up to NAMES; FRESH 1: over a new socket each
 *                                     time. For each pair a line: answers a second in A and in B
 *   ask count ADDR PORT SECONDS RATE ZONE NAMES COUNT     COUNT queries, RATE a second (0: as fast as they are answered); prints
 *                                     how many were answered */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  inet_pton(AF_INET, argv[2], &a.sin_addr);
  return a;
}

static uint64_t micros(void) {
  struct timeval t;
  gettimeofday(&t, NULL);
  return t.tv_sec * 1000000ull + t.tv_usec;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* After a turn's change the other's memory is cold: that is not counted. */
#define SETTLE 0.002

#define IN_FLIGHT 8
struct asker {
  struct sockaddr_in to;
  const char *zone;
  uint32_t names, next;
  int fresh, socks[IN_FLIGHT];
  uint16_t ids[IN_FLIGHT];
  uint64_t sent[IN_FLIGHT];
};

static void open_socket(struct asker *a, int i) {
  if (a->socks[i] >= 0) close(a->socks[i]);
  a->socks[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  if (connect(a->socks[i], (const void *)&a->to, sizeof(a->to))) die("connect");
}

static void ask_one(struct asker *a, int i) {
  uint8_t query[300] = {0, 0, 1, 0, 0, 1};
  char label[16];
  size_t at = 12;
  if (a->fresh || a->socks[i] < 0) open_socket(a, i);
  const uint16_t id = ++a->ids[i];
  query[0] = id >> 8;
  query[1] = id;
  query[at] = snprintf(label, sizeof(label), "n%u", a->next++ % a->names);
  memcpy(query + at + 1, label, query[at]);
  at += 1 + query[at];
  for (const char *from = a->zone; *from && at < 280;) {
    const size_t n = strcspn(from, ".");
    query[at] = n;
    memcpy(query + at + 1, from, n);
    at += 1 + n;
    from += n + (from[n] == '.');
  }
  at++; /* the root */
  query[at + 1] = query[at + 3] = 1;
  a->sent[i] = micros();
  if (send(a->socks[i], query, at + 4, 0) < 0 && errno != EPERM && errno != ECONNREFUSED) die("send");
}

/* Whether the answer to the query of a socket has come. */
static int is_answered(struct asker *a, int i) {
  uint8_t answer[1500];
  const ssize_t n = recv(a->socks[i], answer, sizeof(answer), 0);
  return n >= 12 && (answer[0] << 8 | answer[1]) == a->ids[i] && (answer[3] & 15) == 0 && answer[7];
}

/* Asks for so long; how many answers a second. What is lost is asked again. */
static double queries(struct asker *a, double seconds) {
  struct pollfd p[IN_FLIGHT];
  const uint64_t start = micros(), stop = start + (uint64_t)(seconds * 1e6);
  uint64_t done = 0;
  for (int i = 0; i < IN_FLIGHT; i++) ask_one(a, i);
  for (uint64_t now = start; now < stop; now = micros()) {
    for (int i = 0; i < IN_FLIGHT; i++) p[i] = (struct pollfd){.fd = a->socks[i], .events = POLLIN};
    poll(p, IN_FLIGHT, 100);
    for (int i = 0; i < IN_FLIGHT; i++) {
      if (p[i].revents && is_answered(a, i)) done++;
      else if (now - a->sent[i] < 100000) continue;
      ask_one(a, i);
    }
  }
  return done * 1e6 / (micros() - start);
}

static int turns(char **argv) {
  const uint64_t end = micros() + (uint64_t)(atof(argv[4]) * 1e6);
  const int where[2] = {open(argv[5], O_RDONLY), open(argv[6], O_RDONLY)};
  const double slice = atof(argv[7]) / 1e3;
  static struct asker askers[2];
  for (int i = 0; i < 2; i++) {
    askers[i] = (struct asker){.to = address(argv), .zone = argv[8], .names = atoi(argv[9]), .fresh = atoi(argv[10])};
    if (setns(where[i], CLONE_NEWNET)) die("setns");
    for (int k = 0; k < IN_FLIGHT; k++) {
      askers[i].socks[k] = -1;
      open_socket(&askers[i], k);
    }
  }
  for (int n = 0; micros() < end; n++) {
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      if (setns(where[who], CLONE_NEWNET)) die("setns");
      queries(&askers[who], SETTLE);
      rate[who] = queries(&askers[who], slice);
    }
    printf("%.1f %.1f\n", rate[0], rate[1]);
  }
  return 0;
}

static int count(char **argv) {
  static struct asker a;
  struct pollfd p[IN_FLIGHT];
  const double rate = atof(argv[5]);
  const uint64_t start = micros(), stop = start + (uint64_t)(atof(argv[4]) * 1e6), wanted = atoi(argv[8]);
  uint64_t done = 0, asked = 0;
  int waits[IN_FLIGHT] = {0};
  a = (struct asker){.to = address(argv), .zone = argv[6], .names = atoi(argv[7])};
  for (int i = 0; i < IN_FLIGHT; i++) a.socks[i] = -1;
  for (uint64_t now = start; done < wanted && now < stop; now = micros()) {
    int out = 0;
    for (int i = 0; i < IN_FLIGHT; i++) {
      if (!waits[i] && asked < wanted && (rate == 0 || asked < (now - start) * rate / 1e6)) {
        ask_one(&a, i);
        waits[i] = 1;
        asked++;
      }
      p[i] = (struct pollfd){.fd = a.socks[i], .events = POLLIN};
      out += waits[i];
    }
    if (poll(p, IN_FLIGHT, out == IN_FLIGHT || rate == 0 ? 20 : 1) <= 0) continue;
    for (int i = 0; i < IN_FLIGHT; i++)
      if (waits[i] && p[i].revents) {
        done += is_answered(&a, i);
        waits[i] = 0;
      }
  }
  printf("%llu\n", (unsigned long long)done);
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 11 && !strcmp(argv[1], "turns")) return turns(argv);
  if (argc >= 9 && !strcmp(argv[1], "count")) return count(argv);
  fprintf(stderr, "usage: ask turns|count ADDR PORT SECONDS …\n");
  return 2;
}
