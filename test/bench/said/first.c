// SPDX-License-Identifier: Apache-2.0
/* Connections and their first request, for the benchmarks of layer 7.
 *   first serve ADDR PORT [BYTES]   answers each head of a request, or each BYTES bytes, with a short response of HTTP
 *   first ask ADDR PORT SECONDS A B MS FILE   connects, sends what is in the file, hears the beginning of the answer,
 *                                   ends, in two network namespaces (files) by turns, MS milliseconds each, in the
 *                                   order AB BA AB …; prints how many, P50 and P99 of the time that it took, from
 *                                   the call to connect() on, in microseconds: first of A, then of B */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char RESPONSE[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n";
enum { MAX_FILES = 4096, MAX_SAMPLES = 1 << 20 };

static void die(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in address(char **argv) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[3]))};
  inet_pton(AF_INET, argv[2], &a.sin_addr);
  return a;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static void serve(char **argv, int bytes) {
  /* Of each connection: bytes that have no answer yet, or how much of an empty line has come. */
  static int waiting[MAX_FILES];
  struct sockaddr_in a = address(argv);
  int one = 1, l = socket(AF_INET, SOCK_STREAM, 0), e = epoll_create1(0);
  setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
  if (bind(l, (void *)&a, sizeof(a)) || listen(l, 4096)) die("listen");
  struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
  epoll_ctl(e, EPOLL_CTL_ADD, l, &ev);
  for (;;) {
    struct epoll_event evs[64];
    const int n = epoll_wait(e, evs, 64, -1);
    for (int i = 0; i < n; i++) {
      const int fd = evs[i].data.fd;
      if (fd == l) {
        const int c = accept(l, NULL, NULL);
        if (c < 0) continue;
        if (c >= MAX_FILES) {
          close(c);
          continue;
        }
        setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        waiting[c] = 0;
        ev.data.fd = c;
        epoll_ctl(e, EPOLL_CTL_ADD, c, &ev);
        continue;
      }
      char data[16384], answers[16384];
      const ssize_t got = read(fd, data, sizeof(data));
      int heads = 0;
      if (bytes && got > 0) {
        waiting[fd] += got;
        heads = waiting[fd] / bytes;
        waiting[fd] %= bytes;
      }
      for (ssize_t k = 0; !bytes && k < got; k++) {
        waiting[fd] = data[k] == "\r\n\r\n"[waiting[fd]] ? waiting[fd] + 1 : data[k] == '\r';
        if (waiting[fd] < 4) continue;
        waiting[fd] = 0;
        heads++;
      }
      const size_t size = sizeof(RESPONSE) - 1;
      if (heads > (int)(sizeof(answers) / size)) heads = sizeof(answers) / size;
      for (int k = 0; k < heads; k++) memcpy(answers + k * size, RESPONSE, size);
      if (got <= 0 || (heads && write(fd, answers, heads * size) < 0)) close(fd);
    }
  }
}

struct samples {
  double *us;
  int count;
};

/* For so long; of each, how long it took. Without `to` nothing is counted. */
static void ask(const struct sockaddr_in *a, double ms, const char *text, size_t size, struct samples *to) {
  const struct linger reset = {.l_onoff = 1};
  const int one = 1;
  for (const double end = now() + ms * 1e3; now() < end;) {
    char answer[256];
    const int s = socket(AF_INET, SOCK_STREAM, 0);
    /* A reset leaves no TIME_WAIT: the ports do not run out. */
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    const double start = now();
    if (connect(s, (const void *)a, sizeof(*a))) die("connect");
    if (write(s, text, size) != (ssize_t)size || read(s, answer, sizeof(answer)) <= 0) die("request");
    if (to && to->count < MAX_SAMPLES) to->us[to->count++] = now() - start;
    close(s);
  }
}

static int compare(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* After a turn's change the other's memory is cold: that is not counted. */
#define SETTLE_MS 2
static int turns(char **argv) {
  const struct sockaddr_in a = address(argv);
  const double end = now() + atof(argv[4]) * 1e6, slice = atof(argv[7]);
  const int where[2] = {open(argv[5], O_RDONLY), open(argv[6], O_RDONLY)};
  struct samples all[2];
  for (int i = 0; i < 2; i++) all[i] = (struct samples){malloc(MAX_SAMPLES * sizeof(double)), 0};
  static char text[65536];
  const int file = open(argv[8], O_RDONLY);
  const ssize_t size = read(file, text, sizeof(text));
  if (size <= 0) die(argv[8]);
  for (int n = 0; now() < end; n++)
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      /* A socket stays where it was made. */
      if (setns(where[who], CLONE_NEWNET)) die("setns");
      ask(&a, SETTLE_MS, text, size, NULL);
      ask(&a, slice, text, size, &all[who]);
    }
  for (int i = 0; i < 2; i++) {
    const struct samples *s = &all[i];
    if (!s->count) die("nothing was measured");
    qsort(s->us, s->count, sizeof(double), compare);
    printf("%d %.1f %.1f\n", s->count, s->us[s->count / 2], s->us[(int)(s->count * 0.99)]);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 4 && !strcmp(argv[1], "serve")) serve(argv, argc > 4 ? atoi(argv[4]) : 0);
  if (argc >= 9 && !strcmp(argv[1], "ask")) return turns(argv);
  fprintf(stderr, "usage: see %s\n", __FILE__);
  return 2;
}
