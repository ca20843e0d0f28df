// SPDX-License-Identifier: Apache-2.0
/* Connections and their first request, for the benchmarks of layer 7.
 *   first serve ADDR PORT [BYTES]   answers each head of a request, or each BYTES bytes, with a short response of HTTP
 *   first ask ADDR PORT SECONDS A B MS FILE   connects, sends what is in the file, hears the beginning of the answer,
 *                                   ends, in two network namespaces (files) by turns, MS milliseconds each, in the
 *                                   order AB BA AB …; prints how many, P50 and P99 of the time that it took, from
 *                                   the call to connect() on, in microseconds: first of A, then of B
 *   first kept ADDR PORT SECONDS A B MS FILE N   sends what is in the file again and again on N connections that stay, by
 *                                   turns; for each pair a line: answers a second in A and in B
 *   first tls ADDR PORT SECONDS A B MS NAME   connects, does a handshake that names NAME, asks, hears the answer, ends, by
 *                                   turns; for each pair a line: how often a second in A and in B
 *   first bulk ADDR PORT OTHER SECONDS MS NAME   asks for /large over TLS at both ports, again and again on one connection
 *                                   each, and reads by turns; for each pair a line: bytes a second at each port */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
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

static int opened(const char *path) {
  const int fd = open(path, O_RDONLY);
  if (fd < 0) die(path);
  return fd;
}

/* A socket stays where it was made. */
static void enter(int netns) {
  if (setns(netns, CLONE_NEWNET)) die("setns");
}

static size_t contents(const char *path, char *text, size_t most) {
  const ssize_t size = read(opened(path), text, most);
  if (size <= 0) die(path);
  return size;
}

static int turns(char **argv) {
  const struct sockaddr_in a = address(argv);
  const double end = now() + atof(argv[4]) * 1e6, slice = atof(argv[7]);
  const int where[2] = {opened(argv[5]), opened(argv[6])};
  struct samples all[2];
  for (int i = 0; i < 2; i++) all[i] = (struct samples){malloc(MAX_SAMPLES * sizeof(double)), 0};
  static char text[65536];
  const size_t size = contents(argv[8], text, sizeof(text));
  for (int n = 0; now() < end; n++)
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      enter(where[who]);
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

/* Answers a second, on connections on which each one was heard. */
static double exchanges(const int *sockets, int count, double ms, const char *text, size_t size) {
  const double start = now(), end = start + ms * 1e3;
  long heard = 0;
  while (now() < end) {
    for (int i = 0; i < count; i++)
      if (write(sockets[i], text, size) != (ssize_t)size) die("request");
    for (int i = 0; i < count; i++, heard++) {
      char answer[512];
      if (read(sockets[i], answer, sizeof(answer)) < 12 || memcmp(answer + 9, "200", 3)) die("answer");
    }
  }
  return heard * 1e6 / (now() - start);
}

static int kept(char **argv) {
  const struct sockaddr_in a = address(argv);
  const double end = now() + atof(argv[4]) * 1e6, slice = atof(argv[7]);
  const int where[2] = {opened(argv[5]), opened(argv[6])}, count = atoi(argv[9]), one = 1;
  static char text[65536];
  static int sockets[2][MAX_FILES];
  const size_t size = contents(argv[8], text, sizeof(text));
  if (count > MAX_FILES) return 2;
  for (int who = 0; who < 2; who++) {
    enter(where[who]);
    for (int i = 0; i < count; i++) {
      const int s = sockets[who][i] = socket(AF_INET, SOCK_STREAM, 0);
      setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
      if (connect(s, (const void *)&a, sizeof(a))) die("connect");
    }
  }
  for (int n = 0; now() < end; n++) {
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      exchanges(sockets[who], count, SETTLE_MS, text, size);
      rate[who] = exchanges(sockets[who], count, slice, text, size);
    }
    printf("%.1f %.1f\n", rate[0], rate[1]);
  }
  return 0;
}

static SSL_CTX *context(void) {
  SSL_CTX *c = SSL_CTX_new(TLS_client_method());
  if (!c) die("SSL_CTX_new");
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  return c;
}

/* A connection that has shaken hands. */
static SSL *shaken(SSL_CTX *c, const struct sockaddr_in *a, const char *name) {
  const struct linger reset = {.l_onoff = 1};
  const int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
  setsockopt(s, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
  if (connect(s, (const void *)a, sizeof(*a))) die("connect");
  SSL *ssl = SSL_new(c);
  SSL_set_fd(ssl, s);
  SSL_set_tlsext_host_name(ssl, name);
  if (SSL_connect(ssl) != 1) die("handshake");
  return ssl;
}

static void ended(SSL *ssl) {
  close(SSL_get_fd(ssl));
  SSL_free(ssl);
}

static void get(SSL *ssl, const char *path, const char *name) {
  char text[512];
  const int size = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, name);
  if (SSL_write(ssl, text, size) != size) die("request");
}

static double handshakes(SSL_CTX *c, const struct sockaddr_in *a, double ms, const char *name) {
  const double start = now(), end = start + ms * 1e3;
  int made = 0;
  for (; now() < end; made++) {
    char answer[512];
    SSL *ssl = shaken(c, a, name);
    get(ssl, "/", name);
    if (SSL_read(ssl, answer, sizeof(answer)) < 12 || memcmp(answer + 9, "200", 3)) die("answer");
    ended(ssl);
  }
  return made * 1e6 / (now() - start);
}

static int tls(char **argv) {
  const struct sockaddr_in a = address(argv);
  const double end = now() + atof(argv[4]) * 1e6, slice = atof(argv[7]);
  const int where[2] = {opened(argv[5]), opened(argv[6])};
  SSL_CTX *c = context();
  for (int n = 0; now() < end; n++) {
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      enter(where[who]);
      handshakes(c, &a, SETTLE_MS, argv[8]);
      rate[who] = handshakes(c, &a, slice, argv[8]);
    }
    printf("%.1f %.1f\n", rate[0], rate[1]);
  }
  return 0;
}

/* Of a stream of answers to requests for /large. */
struct stream {
  SSL *ssl;
  long left; /* bytes of answers that were asked for, heads not counted */
};
enum { LARGE = 100000000 };

static double reads(struct stream *s, double ms, const char *name) {
  static char data[16384];
  const double start = now(), end = start + ms * 1e3;
  long got = 0;
  while (now() < end) {
    /* The next one is asked for before the last one's end is read. */
    if (s->left < LARGE / 2) {
      get(s->ssl, "/large", name);
      s->left += LARGE;
    }
    const int n = SSL_read(s->ssl, data, sizeof(data));
    if (n <= 0) die("read");
    got += n;
    s->left -= n;
  }
  return got * 1e6 / (now() - start);
}

/* What lies in the buffers of a stream that was not read for a while. */
#define DRAIN_MS 20
static int bulk(char **argv) {
  const double seconds = atof(argv[5]), slice = atof(argv[6]), end = now() + seconds * 1e6;
  SSL_CTX *c = context();
  struct stream streams[2] = {};
  for (int i = 0; i < 2; i++) {
    struct sockaddr_in a = address(argv);
    a.sin_port = htons(atoi(argv[3 + i]));
    streams[i].ssl = shaken(c, &a, argv[7]);
  }
  for (int n = 0; now() < end; n++) {
    double rate[2];
    for (int i = 0; i < 2; i++) {
      const int who = (i + n) & 1;
      reads(&streams[who], DRAIN_MS, argv[7]);
      rate[who] = reads(&streams[who], slice, argv[7]);
    }
    printf("%.1f %.1f\n", rate[0], rate[1]);
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc >= 4 && !strcmp(argv[1], "serve")) serve(argv, argc > 4 ? atoi(argv[4]) : 0);
  if (argc >= 9 && !strcmp(argv[1], "ask")) return turns(argv);
  if (argc >= 10 && !strcmp(argv[1], "kept")) return kept(argv);
  if (argc >= 9 && !strcmp(argv[1], "tls")) return tls(argv);
  if (argc >= 8 && !strcmp(argv[1], "bulk")) return bulk(argv);
  fprintf(stderr, "usage: see %s\n", __FILE__);
  return 2;
}
