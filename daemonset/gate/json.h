/* SPDX-License-Identifier: Apache-2.0 */
/* A scanner of JSON (RFC 8259): it finds where the members of an object begin and end, and copies nothing. It
 * reads only [p, end), and needs no terminating NUL and no heap. It is strict, so that what it accepts means
 * the same to every other parser; the validity of UTF-8 is left to those who display the text. */
#ifndef GATE_JSON_H
#define GATE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The deepest nesting of objects and arrays. It bounds the stack. */
enum { JSON_DEPTH = 128 };

/* A piece of the text; p is NULL if there is none. */
struct span {
  const char *p;
  size_t n;
};

struct json {
  const char *p;
  const char *end;
  int depth;
};

static inline void json_space(struct json *j) {
  while (j->p < j->end && (*j->p == ' ' || *j->p == '\t' || *j->p == '\n' || *j->p == '\r'))
    j->p++;
}

/* Consumes one character if it is the next one. */
static inline bool json_take(struct json *j, char c) {
  if (j->p == j->end || *j->p != c) return false;
  j->p++;
  return true;
}

static inline bool json_word(struct json *j, const char *word) {
  size_t n = strlen(word);
  if ((size_t)(j->end - j->p) < n || memcmp(j->p, word, n) != 0) return false;
  j->p += n;
  return true;
}

static inline size_t json_digits(struct json *j) {
  const char *from = j->p;
  while (j->p < j->end && *j->p >= '0' && *j->p <= '9')
    j->p++;
  return (size_t)(j->p - from);
}

static inline bool json_number(struct json *j) {
  json_take(j, '-');
  if (!json_take(j, '0') && json_digits(j) == 0) return false;
  if (json_take(j, '.') && json_digits(j) == 0) return false;
  if (json_take(j, 'e') || json_take(j, 'E')) {
    if (!json_take(j, '+')) json_take(j, '-');
    if (json_digits(j) == 0) return false;
  }
  return true;
}

/* The value of four hexadecimal digits; -1 if they are not all there. */
static inline int32_t json_hex4(const char *p, const char *end) {
  int32_t value = 0;
  if (end - p < 4) return -1;
  for (int i = 0; i < 4; i++) {
    char c = p[i];
    if (c >= '0' && c <= '9')
      value = value * 16 + (c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value * 16 + (c - 'a' + 10);
    else if (c >= 'A' && c <= 'F')
      value = value * 16 + (c - 'A' + 10);
    else
      return -1;
  }
  return value;
}

static inline bool json_string(struct json *j) {
  if (!json_take(j, '"')) return false;
  while (j->p < j->end) {
    unsigned char c = (unsigned char)*j->p++;
    if (c == '"') return true;
    if (c < 0x20) return false;
    if (c != '\\') continue;
    if (j->p == j->end) return false;
    c = (unsigned char)*j->p++;
    if (c == 'u') {
      if (json_hex4(j->p, j->end) < 0) return false;
      j->p += 4;
    } else if (c == 0 || !strchr("\"\\/bfnrt", c)) {
      return false;
    }
  }
  return false;
}

static inline bool json_value(struct json *j);

/* Scans the content of an object (close is '}') or an array (']'), after its opening bracket. */
static inline bool json_items(struct json *j, char close) {
  json_space(j);
  if (json_take(j, close)) return true;
  for (;;) {
    json_space(j);
    if (close == '}') {
      if (!json_string(j)) return false;
      json_space(j);
      if (!json_take(j, ':')) return false;
      json_space(j);
    }
    if (!json_value(j)) return false;
    json_space(j);
    if (json_take(j, close)) return true;
    if (!json_take(j, ',')) return false;
  }
}

/* Scans one value. */
static inline bool json_value(struct json *j) {
  if (j->p == j->end) return false;
  switch (*j->p) {
  case '"':
    return json_string(j);
  case 't':
    return json_word(j, "true");
  case 'f':
    return json_word(j, "false");
  case 'n':
    return json_word(j, "null");
  case '{':
  case '[': {
    char close = *j->p++ == '{' ? '}' : ']';
    if (j->depth == JSON_DEPTH) return false;
    j->depth++;
    bool good = json_items(j, close);
    j->depth--;
    return good;
  }
  default:
    return json_number(j);
  }
}

/* Writes one code point as UTF-8; returns the number of bytes. */
static inline size_t json_utf8(uint32_t c, char out[4]) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (size_t i = n - 1; i > 0; i--, c >>= 6)
    out[i] = (char)(0x80 | (c & 0x3f));
  out[0] = (char)((0xf00 >> n) | c);
  return n;
}

/* Copies the text of a string that json_string has accepted, with its quotes, to `out`, and ends it with a
 * NUL. False if the value is no string, does not fit, or contains a NUL itself. */
static inline bool json_text(struct span value, char *out, size_t size) {
  if (value.p == NULL || value.n < 2 || *value.p != '"') return false;
  const char *p = value.p + 1, *end = value.p + value.n - 1;
  size_t used = 0;
  while (p < end) {
    char piece[4] = {*p++};
    size_t n = 1;
    if (piece[0] == '\\') {
      char c = *p++;
      const char *at = strchr("b\bf\fn\nr\rt\t", c);
      piece[0] = at ? at[1] : c;
      if (c == 'u') {
        uint32_t u = (uint32_t)json_hex4(p, end);
        p += 4;
        if (u >= 0xd800 && u < 0xdc00 && end - p >= 6 && p[0] == '\\' && p[1] == 'u') {
          uint32_t low = (uint32_t)json_hex4(p + 2, end);
          if (low >= 0xdc00 && low < 0xe000) {
            u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
          }
        }
        if (u >= 0xd800 && u < 0xe000) u = 0xfffd; /* half a pair */
        n = json_utf8(u, piece);
      }
    }
    if (piece[0] == 0 || used + n >= size) return false;
    memcpy(out + used, piece, n);
    used += n;
  }
  if (used >= size) return false;
  out[used] = 0;
  return true;
}

/* A wanted member: its name, and its value if it was found. */
struct json_member {
  const char *name;
  struct span value;
};

/* Scans a whole text, which must be one object, and notes the values of the wanted members. If a name comes
 * twice, the last one counts, as in Go and JavaScript. */
static inline bool json_object(struct span text, struct json_member *wanted, size_t count) {
  struct json j = {.p = text.p, .end = text.p + text.n, .depth = 1};
  char key[32];
  json_space(&j);
  if (!json_take(&j, '{')) return false;
  json_space(&j);
  bool done = json_take(&j, '}');
  while (!done) {
    json_space(&j);
    struct span name = {.p = j.p};
    if (!json_string(&j)) return false;
    name.n = (size_t)(j.p - name.p);
    json_space(&j);
    if (!json_take(&j, ':')) return false;
    json_space(&j);
    struct span value = {.p = j.p};
    if (!json_value(&j)) return false;
    value.n = (size_t)(j.p - value.p);
    if (json_text(name, key, sizeof(key))) {
      for (size_t i = 0; i < count; i++)
        if (strcmp(key, wanted[i].name) == 0) wanted[i].value = value;
    }
    json_space(&j);
    done = json_take(&j, '}');
    if (!done && !json_take(&j, ',')) return false;
  }
  json_space(&j);
  return j.p == j.end;
}

#endif
