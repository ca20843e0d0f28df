/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the agent over its unix socket. The protocol, as agent/gate/protocol.ts has it:
 *
 *   request   EGRESS-GATE/1 ADD\n          or DEL
 *             container ID\n               CNI_CONTAINERID
 *             netns PATH\n                 CNI_NETNS
 *             ifname NAME\n                CNI_IFNAME
 *             args TEXT\n                  CNI_ARGS; lines of variables that are not set are left out
 *             conf-bytes N\n               at most 1 MiB
 *             \n
 *             N bytes                      the network configuration, as it came
 *   answer    OK\n                         the pod's policy is in force
 *             NO REASON\n                  it is not; at most 1,024 bytes
 *
 * One request a connection. A connection that ends without an answer means that the agent has gone. */
#ifndef GATE_ASK_H
#define GATE_ASK_H

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "conf.h"

enum { RETRY_MS = 100, HEADER_MAX = 20480, ANSWER_MAX = 1100 };

enum answer {
  ANSWER_OK,
  ANSWER_NO,   /* refused; `reason` says why */
  ANSWER_NONE, /* no answer in time, or no agent listens; `reason` says which */
};

struct question {
  const char *command;
  const char *container, *netns, *ifname, *args; /* NULL where not set */
  const struct conf *conf;
};

/* CLOCK_MONOTONIC in milliseconds. */
static inline int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Waits until the descriptor is ready; false when the deadline has passed. */
static inline bool ready(int fd, short events, int64_t deadline) {
  for (;;) {
    int64_t left = deadline - now_ms();
    if (left <= 0) return false;
    struct pollfd p = {.fd = fd, .events = events};
    int n = poll(&p, 1, (int)left);
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

static inline void pause_ms(int64_t ms) {
  struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
  while (nanosleep(&t, &t) < 0 && errno == EINTR)
    ;
}

/* Appends a line `key value`, unless the value is NULL. */
static inline size_t header_line(char *out, size_t used, const char *key, const char *value) {
  if (value == NULL) return used;
  return used + (size_t)snprintf(out + used, HEADER_MAX - used, "%s %s\n", key, value);
}

/* Values are at most 4,096 bytes each (env_line): four of them fit. */
static inline size_t header_of(const struct question *q, char out[HEADER_MAX]) {
  size_t n = (size_t)snprintf(out, HEADER_MAX, "EGRESS-GATE/1 %s\n", q->command);
  n = header_line(out, n, "container", q->container);
  n = header_line(out, n, "netns", q->netns);
  n = header_line(out, n, "ifname", q->ifname);
  n = header_line(out, n, "args", q->args);
  n += (size_t)snprintf(out + n, HEADER_MAX - n, "conf-bytes %zu\n\n", q->conf->text.n);
  return n;
}

/* Sends all bytes; false when the other side has closed or the deadline has passed. */
static inline bool send_all(int fd, const char *p, size_t n, int64_t deadline) {
  while (n > 0) {
    ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
    if (sent > 0) {
      p += sent;
      n -= (size_t)sent;
    } else if (sent < 0 && errno == EAGAIN) {
      if (!ready(fd, POLLOUT, deadline)) return false;
    } else if (sent == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

/* Reads a line into `line`, without its newline; false if the connection ends or the deadline passes before
 * the newline. */
static inline bool read_line(int fd, char line[ANSWER_MAX], int64_t deadline) {
  size_t used = 0;
  while (used < ANSWER_MAX - 1) {
    ssize_t n = recv(fd, line + used, ANSWER_MAX - 1 - used, 0);
    if (n == 0) return false;
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN || !ready(fd, POLLIN, deadline)) return false;
      continue;
    }
    char *end = memchr(line + used, '\n', (size_t)n);
    used += (size_t)n;
    if (end) {
      *end = 0;
      return true;
    }
  }
  line[used] = 0; /* longer than any answer: its beginning is used */
  return true;
}

/* Connects without waiting; -1 with errno set. */
static inline int dial(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  strcpy(to.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) return fd;
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

/* Parses an answer. */
static inline enum answer understand(const char *line, char reason[ANSWER_MAX]) {
  if (strcmp(line, "OK") == 0) return ANSWER_OK;
  bool no = strncmp(line, "NO ", 3) == 0;
  snprintf(reason, ANSWER_MAX, "%s", no ? line + 3 : "the agent's answer is not understood");
  return ANSWER_NO;
}

/* Asks the agent, and tries again each 100 ms until it answers, until the deadline (of now_ms), or until
 * nobody has listened for `patience` ms. A connection that ends without an answer, or that must wait because
 * the queue of the socket is full, counts as an agent that listens. */
static inline enum answer ask(const struct question *q, int64_t deadline, int64_t patience,
                              char reason[ANSWER_MAX]) {
  static char header[HEADER_MAX];
  char line[ANSWER_MAX];
  size_t length = header_of(q, header);
  int64_t seen = now_ms();
  for (;;) {
    int fd = dial(q->conf->socket);
    int error = errno;
    if (fd >= 0) {
      /* An agent that refuses early may not read to the end: there may be an answer although not everything
       * was sent. */
      if (send_all(fd, header, length, deadline)) send_all(fd, q->conf->text.p, q->conf->text.n, deadline);
      bool answered = read_line(fd, line, deadline);
      close(fd);
      if (answered) return understand(line, reason);
    }
    int64_t now = now_ms();
    if (fd >= 0 || error == EAGAIN) seen = now;
    if (now >= deadline || now - seen >= patience) {
      if (fd >= 0 || error == EAGAIN)
        snprintf(reason, ANSWER_MAX, "the agent has not answered in time");
      else
        snprintf(reason, ANSWER_MAX, "no agent answers on %s (%s)", q->conf->socket, strerror(error));
      return ANSWER_NONE;
    }
    pause_ms(deadline - now < RETRY_MS ? deadline - now : RETRY_MS);
  }
}

#endif
