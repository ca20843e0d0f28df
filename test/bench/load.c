// SPDX-License-Identifier: Apache-2.0
/* Traffic for the benchmarks, so that the generator is not what is measured.
 *   load serve ADDR PORT            TCP: answers each byte with a byte; UDP: sends back what comes
 *   load crr ADDR PORT SECONDS      connects, asks, hears the answer, closes; prints how often a second
 *   load flip ADDR PORT             a datagram every 200 microseconds; prints `up T` and `down T`, T the time
 *                                   (microseconds since 1970) at which the first one was sent that was answered, or not */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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

static int crr(char **argv) {
  struct sockaddr_in a = address(argv);
  const uint64_t start = micros(), end = start + (uint64_t)(atof(argv[4]) * 1e6);
  struct linger reset = {.l_onoff = 1};
  uint64_t done = 0;
  while (micros() < end) {
    char c = 'x';
    int s = socket(AF_INET, SOCK_STREAM, 0);
    /* A reset leaves no TIME_WAIT: the ports do not run out. */
    setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    if (connect(s, (void *)&a, sizeof(a))) die("connect");
    if (write(s, &c, 1) != 1 || read(s, &c, 1) != 1) die("request");
    close(s);
    done++;
  }
  printf("%.1f\n", done * 1e6 / (micros() - start));
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

int main(int argc, char **argv) {
  if (argc >= 4 && !strcmp(argv[1], "serve")) serve(argv);
  if (argc >= 5 && !strcmp(argv[1], "crr")) return crr(argv);
  if (argc >= 4 && !strcmp(argv[1], "flip")) flip(argv);
  fprintf(stderr, "usage: load serve|crr|flip ADDR PORT [SECONDS]\n");
  return 2;
}
