// SPDX-License-Identifier: Apache-2.0
/* Traffic for the benchmarks, so that the generator is not what is measured.
 *   load serve ADDR PORT            TCP: answers each byte with a byte; UDP: sends back what comes
 *   load sink ADDR PORT             takes datagrams, and answers one now and then: known flows, to conntrack
 *   load discard ADDR PORT          takes connections, and throws away what comes
 *   load crr ADDR PORT SECONDS      connects, asks, hears the answer, closes; prints how often a second
 *   load pair ADDR PORT SECONDS A B MS   the same in two network namespaces (files) by turns, MS milliseconds each, in the order
 *                                   AB BA AB …; for each pair a line: how often a second in A and in B, and how
 *                                   often in A altogether
 *   load turns tcp|udp ADDR PORT SECONDS A B MS BYTES   a stream, or datagrams of BYTES, in two network namespaces by turns in the
 *                                   same order; for each pair a line: bytes, or datagrams, a second in A and in B
 *   load flip ADDR PORT             a datagram every 200 microseconds; prints `up T` and `down T`, T the time
 *                                   (microseconds since 1970) at which the first one was sent that was answered, or not
 *   load fresh ADDR PORT            the same, half as often, each from another port: what first packets of flows meet.
 *                                   When it is told to end (SIGTERM): `total SENT ANSWERED`
 *   load flood ADDR PORT SECONDS N  datagrams of N bytes as fast as they go; prints how many a second
 *   load rtt ADDR PORT SECONDS      a datagram, its answer, the next one; prints `P50 P99`, microseconds */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
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

static void serve(char **argv) {
  struct sockaddr_in a = address(argv);
  int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), u = socket(AF_INET, SOCK_DGRAM, 0), e = epoll_create1(0);
  setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(l, (void *)&a, sizeof(a)) || listen(l, 4096)) die("tcp");
  if (bind(u, (void *)&a, sizeof(a))) die("udp");
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
  epoll_ctl(e, EPOLL_CTL_ADD, l, &ev);
  ev.data.fd = u;
  epoll_ctl(e, EPOLL_CTL_ADD, u, &ev);
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct epoll_event evs[64];
    int n = epoll_wait(e, evs, 64, -1);
    for (int i = 0; i < n; i++) {
      int fd = evs[i].data.fd;
      char buf[2048];
      if (fd == l) {
        int c = accept(l, NULL, NULL);
        if (c < 0) continue;
        ev.data.fd = c;
        epoll_ctl(e, EPOLL_CTL_ADD, c, &ev);
      } else if (fd == u) {
        struct sockaddr_in from;
        socklen_t len = sizeof(from);
        ssize_t got = recvfrom(u, buf, sizeof(buf), 0, (void *)&from, &len);
        if (got > 0) sendto(u, buf, got, 0, (void *)&from, len);
      } else {
        ssize_t got = read(fd, buf, sizeof(buf));
        if (got <= 0 || write(fd, buf, 1) != 1) close(fd);
      }
    }
  }
}

static void sink(char **argv) {
  struct sockaddr_in a = address(argv);
  int u = socket(AF_INET, SOCK_DGRAM, 0);
  if (bind(u, (void *)&a, sizeof(a))) die("udp");
  for (;;) {
    struct sockaddr_in from;
    socklen_t len = sizeof(from);
    char c;
    int any = 0;
    /* Those of an earlier flow stand before those of this one. */
    while (recvfrom(u, &c, 1, MSG_DONTWAIT, (void *)&from, &len) >= 0 && any < 1000) any++;
    if (any) sendto(u, "x", 1, 0, (void *)&from, len);
    usleep(20000);
  }
}

static void discard(char **argv) {
  struct sockaddr_in a = address(argv);
  int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), e = epoll_create1(0);
  setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(l, (void *)&a, sizeof(a)) || listen(l, 64)) die("discard");
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
  epoll_ctl(e, EPOLL_CTL_ADD, l, &ev);
  for (;;) {
    struct epoll_event evs[16];
    int n = epoll_wait(e, evs, 16, -1);
    for (int i = 0; i < n; i++) {
      int fd = evs[i].data.fd;
      if (fd == l) {
        ev.data.fd = accept(l, NULL, NULL);
        epoll_ctl(e, EPOLL_CTL_ADD, ev.data.fd, &ev);
      } else if (recv(fd, NULL, 1 << 20, MSG_TRUNC) <= 0) {
        close(fd);
      }
    }
  }
}

/* Connects, asks, hears the answer, closes, for so long; how often a second, and, added to `made`, how often. */
static double connects(const struct sockaddr_in *a, double seconds, uint64_t *made) {
  const uint64_t start = micros(), end = start + (uint64_t)(seconds * 1e6), before = *made;
  struct linger reset = {.l_onoff = 1};
  while (micros() < end) {
    char c = 'x';
    int s = socket(AF_INET, SOCK_STREAM, 0);
    /* A reset leaves no TIME_WAIT: the ports do not run out. */
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (connect(s, (const void *)a, sizeof(*a))) die("connect");
    if (write(s, &c, 1) != 1 || read(s, &c, 1) != 1) die("request");
    close(s);
    *made += 1;
  }
  return (*made - before) * 1e6 / (micros() - start);
}

static int crr(char **argv) {
  const struct sockaddr_in a = address(argv);
  uint64_t made = 0;
  printf("%.1f\n", connects(&a, atof(argv[4]), &made));
  return 0;
}

/* After a turn's change the other's memory is cold, and its last packets are still under way: that is not counted. */
#define SETTLE 0.002
static int pair(char **argv) {
  const struct sockaddr_in a = address(argv);
  const uint64_t end = micros() + (uint64_t)(atof(argv[4]) * 1e6);
  const int where[2] = {open(argv[5], O_RDONLY), open(argv[6], O_RDONLY)};
  const double slice = atof(argv[7]) / 1e3;
  for (int n = 0; micros() < end; n++) {
    uint64_t made[2] = {0};
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      /* A socket stays where it was made. */
      if (setns(where[who], CLONE_NEWNET)) die("setns");
      connects(&a, SETTLE, &made[who]);
      rate[who] = connects(&a, slice, &made[who]);
    }
    printf("%.1f %.1f %llu\n", rate[0], rate[1], (unsigned long long)made[0]);
  }
  return 0;
}

#define BATCH 64
/* Bytes, or datagrams, a second, over a socket of its own; all of a stream has arrived when it returns. */
static double stream_or_datagrams(int s, int tcp, int bytes, double seconds) {
  static char data[65536];
  struct iovec io = {data, bytes};
  struct mmsghdr m[BATCH] = {0};
  for (int i = 0; i < BATCH; i++) m[i].msg_hdr = (struct msghdr){.msg_iov = &io, .msg_iovlen = 1};
  const uint64_t start = micros(), end = start + (uint64_t)(seconds * 1e6);
  uint64_t done = 0;
  while (micros() < end) {
    const long n = tcp ? send(s, data, sizeof(data), 0) : sendmmsg(s, m, BATCH, 0);
    if (n < 0 && tcp) die("send");
    if (n > 0) done += n;
  }
  for (int left = tcp; left > 0;)
    if (ioctl(s, SIOCOUTQ, &left) < 0) die("SIOCOUTQ");
  return done * 1e6 / (micros() - start);
}

static int turns(char **argv) {
  const int tcp = !strcmp(argv[2], "tcp"), bytes = atoi(argv[9]);
  const struct sockaddr_in a = address(argv + 1);
  const uint64_t end = micros() + (uint64_t)(atof(argv[5]) * 1e6);
  const double slice = atof(argv[8]) / 1e3;
  int socks[2];
  if (bytes > 65536) return 2;
  for (int i = 0; i < 2; i++) {
    if (setns(open(argv[6 + i], O_RDONLY), CLONE_NEWNET)) die("setns");
    socks[i] = socket(AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (connect(socks[i], (const void *)&a, sizeof(a))) die("connect");
  }
  for (int n = 0; micros() < end; n++) {
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      stream_or_datagrams(socks[who], tcp, bytes, SETTLE);
      rate[who] = stream_or_datagrams(socks[who], tcp, bytes, slice);
    }
    printf("%.1f %.1f\n", rate[0], rate[1]);
  }
  return 0;
}

#define WINDOW 4096
static void flip(char **argv) {
  struct sockaddr_in a = address(argv);
  int s = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), up = -1;
  static uint64_t sent[WINDOW];
  uint64_t next = 0, answered = 0;
  if (connect(s, (void *)&a, sizeof(a))) die("connect");
  for (;; next++) {
    sent[next % WINDOW] = micros();
    if (send(s, &next, sizeof(next), 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED && errno != EPERM) die("send");
    uint64_t n;
    while (recv(s, &n, sizeof(n), 0) == sizeof(n)) {
      if (up != 1) printf("up %llu\n", (unsigned long long)sent[n % WINDOW]);
      up = 1;
      if (n >= answered) answered = n + 1;
    }
    /* 60 ms without an answer to the oldest that is out: longer than a busy machine forgets a process. */
    if (up != 0 && next > answered && micros() - sent[answered % WINDOW] > 60000) {
      printf("down %llu\n", (unsigned long long)sent[answered % WINDOW]);
      up = 0;
    }
    if (up == 0) answered = next + 1;
    fflush(stdout);
    usleep(200);
  }
}

static volatile sig_atomic_t ended;
static void end(int signal) {
  (void)signal;
  ended = 1;
}

/* Ports come around after 2 s: conntrack, told to forget after 1 s, has forgotten. */
#define PORTS 4096
#define FIRST_PORT 20000
static int fresh(char **argv) {
  struct sockaddr_in to = address(argv), from = {.sin_family = AF_INET};
  static int socks[PORTS];
  static uint64_t sent[PORTS], number[PORTS];
  uint64_t next = 0, answered = 0, total = 0;
  int up = -1, e = epoll_create1(0);
  struct rlimit files = {PORTS + 64, PORTS + 64};
  setrlimit(RLIMIT_NOFILE, &files);
  for (int i = 0; i < PORTS; i++) {
    struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
    socks[i] = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    from.sin_port = htons(FIRST_PORT + i);
    if (socks[i] < 0 || bind(socks[i], (void *)&from, sizeof(from))) die("bind");
    epoll_ctl(e, EPOLL_CTL_ADD, socks[i], &ev);
  }
  signal(SIGTERM, end);
  for (uint64_t stop = 0;;) {
    struct epoll_event evs[64];
    int n = epoll_wait(e, evs, 64, 0);
    for (int i = 0; i < n; i++) {
      uint64_t got;
      int at = evs[i].data.u32;
      while (recv(socks[at], &got, sizeof(got), 0) == sizeof(got)) {
        total++;
        if (number[at] != got) continue; /* of the last time around */
        if (up != 1) printf("up %llu\n", (unsigned long long)sent[at]);
        up = 1;
        if (got >= answered) answered = got + 1;
      }
    }
    if (ended && !stop) stop = micros() + 200000; /* what is under way arrives */
    if (stop && micros() > stop) break;
    if (up != 0 && next > answered && micros() - sent[answered % PORTS] > 60000) {
      printf("down %llu\n", (unsigned long long)sent[answered % PORTS]);
      up = 0;
    }
    if (!stop) {
      int at = next % PORTS;
      sent[at] = micros();
      number[at] = next;
      if (sendto(socks[at], &next, sizeof(next), 0, (void *)&to, sizeof(to)) < 0 && errno != EPERM) die("sendto");
      next++;
    }
    if (up == 0) answered = next;
    fflush(stdout);
    usleep(400);
  }
  printf("total %llu %llu\n", (unsigned long long)next, (unsigned long long)total);
  return 0;
}

static int flood(char **argv) {
  struct sockaddr_in a = address(argv);
  static char data[65536];
  struct iovec io = {data, atoi(argv[5])};
  struct mmsghdr m[BATCH] = {0};
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(s, (void *)&a, sizeof(a))) die("connect");
  for (int i = 0; i < BATCH; i++) m[i].msg_hdr = (struct msghdr){.msg_iov = &io, .msg_iovlen = 1};
  const uint64_t start = micros(), stop = start + (uint64_t)(atof(argv[4]) * 1e6);
  uint64_t done = 0;
  while (micros() < stop) {
    int n = sendmmsg(s, m, BATCH, 0);
    if (n > 0) done += n;
  }
  printf("%.1f\n", done * 1e6 / (micros() - start));
  return 0;
}

static int ascending(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return x < y ? -1 : x > y;
}

#define SAMPLES (1 << 20)
static int rtt(char **argv) {
  struct sockaddr_in a = address(argv);
  struct timeval patience = {.tv_usec = 200000};
  static uint32_t took[SAMPLES];
  uint32_t n = 0;
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  if (connect(s, (void *)&a, sizeof(a))) die("connect");
  setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const uint64_t stop = micros() + (uint64_t)(atof(argv[4]) * 1e6);
  while (micros() < stop && n < SAMPLES) {
    struct timespec t, u;
    char c = 'x';
    clock_gettime(CLOCK_MONOTONIC, &t);
    if (send(s, &c, 1, 0) != 1 || recv(s, &c, 1, 0) != 1) continue;
    clock_gettime(CLOCK_MONOTONIC, &u);
    took[n++] = (u.tv_sec - t.tv_sec) * 1000000000ll + u.tv_nsec - t.tv_nsec;
  }
  if (n == 0) return 1;
  qsort(took, n, sizeof(took[0]), ascending);
  printf("%.2f %.2f\n", took[n / 2] / 1e3, took[(uint64_t)n * 99 / 100] / 1e3);
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 4 && !strcmp(argv[1], "serve")) serve(argv);
  if (argc >= 4 && !strcmp(argv[1], "sink")) sink(argv);
  if (argc >= 5 && !strcmp(argv[1], "crr")) return crr(argv);
  if (argc >= 8 && !strcmp(argv[1], "pair")) return pair(argv);
  if (argc >= 10 && !strcmp(argv[1], "turns")) return turns(argv);
  if (argc >= 4 && !strcmp(argv[1], "discard")) discard(argv);
  if (argc >= 4 && !strcmp(argv[1], "flip")) flip(argv);
  if (argc >= 4 && !strcmp(argv[1], "fresh")) return fresh(argv);
  if (argc >= 6 && !strcmp(argv[1], "flood")) return flood(argv);
  if (argc >= 5 && !strcmp(argv[1], "rtt")) return rtt(argv);
  fprintf(stderr, "usage: load serve|sink|discard|crr|pair|turns|flip|fresh|flood|rtt ADDR PORT [SECONDS [BYTES | A B MS]]\n");
  return 2;
}
