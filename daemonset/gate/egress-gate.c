/* SPDX-License-Identifier: Apache-2.0 */
/* egress-gate: a CNI plugin (https://www.cni.dev/docs/spec/, 0.3.0 to 1.1.0), chained after the plugins that
 * make the pod's network. It asks the node's agent over a unix socket, and lets the pod start when the pod's
 * egress policy is in force on its interface. Without it, the first packets of a pod could leave before they
 * are judged. It changes nothing: its result is the previous plugin's.
 *
 *   {"type": "egress-gate", "socket": "/run/egress-agent/gate.sock",
 *    "timeoutSeconds": 10, "whenAgentDown": "closed"}
 *
 * If the agent refuses, does not run, or does not answer in time, "open" lets the pod start nevertheless, and
 * "closed" fails, and kubelet tries again. Everything is bounded: no heap, 1 MiB of input, one deadline. */
#include <signal.h>
#include "ask.h"

/* Error codes of the CNI specification. */
enum {
  CNI_ENVIRONMENT = 4,
  CNI_IO = 5,
  CNI_DECODE = 6,
  CNI_CONFIG = 7,
  CNI_TRY_AGAIN = 11,
};

enum { INPUT_MS = 5000, DEL_MS = 1000, OPEN_PATIENCE_MS = 1000 };

static char input[CONF_MAX + 1];
static struct conf conf;

static bool write_all(int fd, const char *p, size_t n) {
  while (n > 0) {
    ssize_t done = write(fd, p, n);
    if (done > 0) {
      p += done;
      n -= (size_t)done;
    } else if (done < 0 && errno == EAGAIN) {
      if (!ready(fd, POLLOUT, now_ms() + INPUT_MS)) return false;
    } else if (done == 0 || errno != EINTR) {
      return false;
    }
  }
  return true;
}

/* Writes a JSON string with its quotes, cut where the buffer ends; returns the number of bytes. */
static size_t quoted(const char *text, char *out, size_t size) {
  size_t n = 0;
  out[n++] = '"';
  for (; *text && n + 8 < size; text++) {
    unsigned char c = (unsigned char)*text;
    if (c == '"' || c == '\\') out[n++] = '\\';
    if (c < 0x20)
      n += (size_t)snprintf(out + n, size - n, "\\u%04x", c);
    else
      out[n++] = (char)c;
  }
  /* Do not cut within a character. */
  while (*text && n > 1 && ((unsigned char)*text & 0xc0) == 0x80)
    text--, n--;
  out[n++] = '"';
  out[n] = 0;
  return n;
}

/* Writes the error object of the CNI specification to standard output; returns the exit status. */
static int fail(int code, const char *message, const char *details) {
  char msg[3 * ANSWER_MAX], more[ANSWER_MAX];
  static char out[sizeof(msg) + sizeof(more) + 128];
  quoted(message, msg, sizeof(msg));
  quoted(details, more, sizeof(more));
  const char *version = conf.cni_version[0] ? conf.cni_version : "1.0.0";
  int n = snprintf(out, sizeof(out), "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":%s,\"details\":%s}\n",
                   version, code, msg, more);
  write_all(STDOUT_FILENO, out, (size_t)n);
  return 1;
}

/* Reads standard input to its end. Returns NULL, or what went wrong. */
static const char *read_input(struct span *text, int64_t deadline) {
  *text = (struct span){.p = input};
  while (text->n <= CONF_MAX) {
    if (!ready(STDIN_FILENO, POLLIN, deadline)) return "standard input does not end";
    ssize_t n = read(STDIN_FILENO, input + text->n, sizeof(input) - text->n);
    if (n == 0) return NULL;
    if (n > 0)
      text->n += (size_t)n;
    else if (errno != EINTR && errno != EAGAIN)
      return "standard input cannot be read";
  }
  return "the network configuration is longer than 1 MiB";
}

static int pass(void) {
  bool written =
      write_all(STDOUT_FILENO, conf.prev_result.p, conf.prev_result.n) && write_all(STDOUT_FILENO, "\n", 1);
  return written ? 0 : 1;
}

static int not_chained(void) {
  return fail(CNI_CONFIG, "egress-gate has no prevResult",
              "it makes no network itself: put it last in the \"plugins\" of a .conflist");
}

/* Reads the configuration. If it cannot, it writes the error, sets `status` and returns false. */
static bool read_conf(int64_t start, int *status, const char **wrong) {
  struct span text;
  const char *trouble = read_input(&text, start + INPUT_MS);
  if (trouble) {
    *status = fail(CNI_IO, trouble, "egress-gate expects its network configuration there");
    return false;
  }
  if (!conf_parse(&conf, text, wrong)) {
    *status = fail(CNI_DECODE, *wrong, "egress-gate expects it on standard input");
    return false;
  }
  return true;
}

static int add(int64_t start) {
  int status;
  const char *wrong;
  struct question q = {.command = "ADD", .conf = &conf};
  if (!read_conf(start, &status, &wrong)) return status;
  if (!env_line("CNI_CONTAINERID", &q.container) || !env_line("CNI_NETNS", &q.netns) ||
      !env_line("CNI_IFNAME", &q.ifname) || !env_line("CNI_ARGS", &q.args))
    return fail(CNI_ENVIRONMENT, "a CNI_ variable is longer than 4,096 bytes or has control characters", "");
  if (!q.container || !q.netns || !q.ifname)
    return fail(CNI_ENVIRONMENT, "CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME must be set", "");
  if (wrong)
    return fail(CNI_CONFIG, wrong, "correct the entry of type egress-gate in the network configuration");
  if (!conf.prev_result.p) return not_chained();

  static char reason[ANSWER_MAX], message[2 * ANSWER_MAX];
  int64_t patience = conf.open_when_down ? OPEN_PATIENCE_MS : conf.timeout_ms;
  enum answer answer = ask(&q, start + conf.timeout_ms, patience, reason);
  if (answer == ANSWER_OK) return pass();
  int n = snprintf(message, sizeof(message), "the pod's egress policy is not in force: %s", reason);
  if (!conf.open_when_down) {
    return fail(
        CNI_TRY_AGAIN, message,
        answer == ANSWER_NO
            ? "this is tried again; the log of the node's egress-agent says more"
            : "this is tried again; see whether the egress-agent of this node runs. With whenAgentDown "
              "\"open\", pods start without it");
  }
  /* The container starts, and what it sends before the agent runs is not judged. The log must say so. */
  static char log[sizeof(message) + 512];
  for (char *p = message; *p; p++)
    if ((unsigned char)*p < 0x20) *p = ' ';
  n = snprintf(log, sizeof(log), "egress-gate: %s; container %.128s of network %s starts all the same\n",
               message, q.container, conf.name);
  write_all(STDERR_FILENO, log, (size_t)n);
  return pass();
}

/* Tells the agent that a pod is removed, if the agent runs. Always succeeds: a pod must always be
 * removable. */
static int del(int64_t start) {
  const char *wrong;
  char reason[ANSWER_MAX];
  struct question q = {.command = "DEL", .conf = &conf};
  struct span text;
  if (read_input(&text, start + DEL_MS)) return 0;
  if (!conf_parse(&conf, text, &wrong)) return 0;
  if (!env_line("CNI_CONTAINERID", &q.container) || !env_line("CNI_NETNS", &q.netns) ||
      !env_line("CNI_IFNAME", &q.ifname) || !env_line("CNI_ARGS", &q.args) || !q.container)
    return 0;
  ask(&q, start + DEL_MS, 0, reason);
  return 0;
}

static int check(int64_t start) {
  int status;
  const char *wrong;
  if (!read_conf(start, &status, &wrong)) return status;
  return conf.prev_result.p ? 0 : not_chained();
}

/* Versions before 0.3.0 have no chains in the specification, but the runtimes make them, and nothing here
 * depends on the shape of a result. */
static int version(int64_t start) {
  struct span text;
  const char *wrong;
  char out[256];
  /* At a terminal there is no configuration to wait for. */
  bool read = !isatty(STDIN_FILENO) && !read_input(&text, start + DEL_MS) && conf_parse(&conf, text, &wrong);
  int n = snprintf(out, sizeof(out),
                   "{\"cniVersion\":\"%s\",\"supportedVersions\":"
                   "[\"0.1.0\",\"0.2.0\",\"0.3.0\",\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n",
                   read ? conf.cni_version : "1.1.0");
  return write_all(STDOUT_FILENO, out, (size_t)n) ? 0 : 1;
}

int main(void) {
  int64_t start = now_ms();
  signal(SIGPIPE, SIG_IGN);
  const char *command = getenv("CNI_COMMAND");
  if (command == NULL) command = "";
  if (strcmp(command, "ADD") == 0) return add(start);
  if (strcmp(command, "DEL") == 0) return del(start);
  if (strcmp(command, "CHECK") == 0) return check(start);
  if (strcmp(command, "VERSION") == 0) return version(start);
  /* The plugin keeps nothing to collect (GC), and the node is ready without the agent (STATUS). */
  if (strcmp(command, "GC") == 0 || strcmp(command, "STATUS") == 0) return 0;
  return fail(CNI_ENVIRONMENT, "CNI_COMMAND is none of ADD, DEL, CHECK, GC, STATUS, VERSION",
              "egress-gate is a CNI plugin: container runtimes start it");
}
