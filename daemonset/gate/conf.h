/* SPDX-License-Identifier: Apache-2.0 */
/* The input of the plugin: its network configuration, and the CNI_* variables. */
#ifndef GATE_CONF_H
#define GATE_CONF_H

#include <stdlib.h>
#include <sys/un.h>
#include "json.h"

/* The largest network configuration, in bytes. */
enum { CONF_MAX = 1 << 20 };
enum { TIMEOUT_MAX_MS = 600 * 1000 };

struct conf {
  struct span text;
  struct span prev_result; /* an object; `p` is NULL without one */
  char cni_version[16];
  char name[128];
  char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
  int64_t timeout_ms;
  bool open_when_down;
};

/* Whether a text is a version like `1.0.0`: then it needs no escaping in JSON. */
static inline bool is_version(const char *text) {
  return *text && strspn(text, "0123456789.") == strlen(text);
}

/* Reads the optional members, which must be valid if present. Returns NULL, or what is wrong. */
static inline const char *conf_settings(struct conf *c, struct span socket, struct span timeout,
                                        struct span down) {
  char text[32];
  if (socket.p && (!json_text(socket, c->socket, sizeof(c->socket)) || c->socket[0] != '/'))
    return "\"socket\" must be an absolute path of at most 107 bytes";
  if (timeout.p) {
    if (timeout.n >= sizeof(text)) return "\"timeoutSeconds\" is too long a number";
    memcpy(text, timeout.p, timeout.n);
    text[timeout.n] = 0;
    char *end;
    double seconds = strtod(text, &end);
    c->timeout_ms = seconds > 0 && seconds <= TIMEOUT_MAX_MS / 1000.0 ? (int64_t)(seconds * 1000) : 0;
    if (*end || c->timeout_ms <= 0) return "\"timeoutSeconds\" must be a number above 0, at most 600";
  }
  if (down.p) {
    if (!json_text(down, text, sizeof(text))) text[0] = 0;
    c->open_when_down = strcmp(text, "open") == 0;
    if (!c->open_when_down && strcmp(text, "closed") != 0)
      return "\"whenAgentDown\" must be \"open\" or \"closed\"";
  }
  return NULL;
}

/* Reads a configuration. False if it is not a JSON object; then the defaults are set. `wrong` says what is
 * wrong, also if a member is not valid, and is NULL otherwise. By default the gate is closed while the agent
 * is down: a pod whose packets nobody judges does not start. */
static inline bool conf_parse(struct conf *c, struct span text, const char **wrong) {
  enum { VERSION, NAME, PREV_RESULT, SOCKET, TIMEOUT, WHEN_DOWN, COUNT };
  struct json_member m[COUNT] = {
      [VERSION] = {.name = "cniVersion"},     [NAME] = {.name = "name"},
      [PREV_RESULT] = {.name = "prevResult"}, [SOCKET] = {.name = "socket"},
      [TIMEOUT] = {.name = "timeoutSeconds"}, [WHEN_DOWN] = {.name = "whenAgentDown"},
  };
  *c = (struct conf){.text = text, .timeout_ms = 10000};
  strcpy(c->socket, "/run/egress-agent/gate.sock");
  strcpy(c->cni_version, "1.0.0");
  *wrong = "the network configuration is not a JSON object";
  if (!json_object(text, m, COUNT)) return false;
  char version[sizeof(c->cni_version)];
  if (json_text(m[VERSION].value, version, sizeof(version)) && is_version(version))
    strcpy(c->cni_version, version);
  if (!json_text(m[NAME].value, c->name, sizeof(c->name))) c->name[0] = 0;
  if (m[PREV_RESULT].value.p && *m[PREV_RESULT].value.p == '{') c->prev_result = m[PREV_RESULT].value;
  *wrong = conf_settings(c, m[SOCKET].value, m[TIMEOUT].value, m[WHEN_DOWN].value);
  return true;
}

/* Reads a variable that the protocol can carry: one line, at most 4,096 bytes. NULL if it is not set or is
 * empty; false if it cannot be carried. */
static inline bool env_line(const char *name, const char **value) {
  const char *text = getenv(name);
  *value = text && *text ? text : NULL;
  if (*value == NULL) return true;
  if (strnlen(text, 4097) > 4096) return false;
  for (const char *p = text; *p; p++)
    if ((unsigned char)*p < 0x20 || *p == 0x7f) return false;
  return true;
}

#endif
