/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The memory in which HTTP requests are read, and how bytes of it are looked at. */
#ifndef EA_HTTP_WORK_H
#define EA_HTTP_WORK_H

#include "name_text.h"

enum {
  HTTP_BUFFER = EA_SAID_BUFFER_BYTES,
  HTTP_SLACK = 64, /* behind the bytes: what is read in words may reach beyond */
  HTTP_METHOD_BYTES = 32,
  HTTP_HEAD_BYTES = 8192,           /* of a head, with the empty line at its end */
  HTTP_LINES = HTTP_HEAD_BYTES / 4, /* a header line has four bytes or more */
};

/* Bytes of a stream. Other structs that end in as many bytes are cast to this one. */
struct http_bytes {
  __u8 bytes[HTTP_BUFFER + HTTP_SLACK];
};

/* Results of http_head(). MORE: a head may begin so. OTHER: no request begins so. */
enum { HTTP_MORE = 0, HTTP_HEAD = 1, HTTP_OTHER = 2, HTTP_REFUSED = 3 };

/* Why a head, or what comes behind it, is refused. */
enum http_why {
  HTTP_FINE = 0,
  HTTP_BAD_METHOD,  /* white space before it, or more than HTTP_METHOD_BYTES */
  HTTP_BAD_TARGET,  /* neither origin-form nor http://, `*` for OPTIONS or host:port for CONNECT */
  HTTP_BAD_VERSION, /* not HTTP/1.0 or HTTP/1.1, with one space before it and CRLF behind it */
  HTTP_BARE_LF,
  HTTP_BARE_CR,
  HTTP_NUL,
  HTTP_BAD_BYTE,        /* not allowed where it stands */
  HTTP_EMPTY_SEGMENT,   /* // */
  HTTP_DOT_SEGMENT,     /* . or .. */
  HTTP_BACKSLASH,       /* in a path */
  HTTP_SEMICOLON,       /* in a path */
  HTTP_FRAGMENT,        /* # */
  HTTP_BROKEN_ESCAPE,   /* % without two hexadecimal digits */
  HTTP_NEEDLESS_ESCAPE, /* of a letter, a digit or - . _ ~ */
  HTTP_HIDDEN_BYTE,     /* an escaped / \ ; or NUL */
  HTTP_FOLDED,          /* a line that begins with white space */
  HTTP_SPACED_NAME,     /* white space before a colon */
  HTTP_NO_HOST,
  HTTP_TWO_HOSTS,
  HTTP_BAD_HOST, /* no host and port, or another one than the target has */
  HTTP_TWO_LENGTHS,
  HTTP_BAD_LENGTH,   /* Content-Length: no number, zeros before it, or more than LENGTH_DIGITS */
  HTTP_BAD_CODING,   /* Transfer-Encoding: not exactly `chunked`, or in HTTP/1.0 */
  HTTP_TWO_FRAMINGS, /* both */
  HTTP_BAD_CONNECT,  /* CONNECT with a body or an Upgrade */
  HTTP_TOO_LARGE,    /* a head of more than HTTP_HEAD_BYTES */
  /* Of what comes behind a head. */
  HTTP_BAD_CHUNK,
  HTTP_TRAILER,
  HTTP_BAD_ANSWER, /* the server does not say whether it changes the protocol */
};

/* Where a stream is: the low bits of ea_said_stream.body. What `left` is then: */
enum http_part {
  HTTP_IN_HEAD = 0, /* where http_head() is in it */
  HTTP_CONTENT = 1, /* bytes of the body that are to come */
  HTTP_SIZE = 2,    /* the size of a chunk, as far as it was read; above bit 32 its digits */
  HTTP_SIZE_LF = 3, /* the size */
  HTTP_CHUNK = 4,   /* bytes of the chunk that are to come */
  HTTP_CHUNK_CR = 5,
  HTTP_CHUNK_LF = 6,
  HTTP_LAST_CR = 7, /* behind the last chunk */
  HTTP_LAST_LF = 8,
  HTTP_AWAIT = 9,   /* where http_answer() is. Nothing may follow before the server has answered */
  HTTP_OPAQUE = 10, /* another protocol: it is not looked at any more */
  HTTP_BROKEN = 11, /* enum http_why. Nothing may follow */
  HTTP_PART_MASK = 15,
  /* With these: */
  HTTP_HEARD = 1 << 4,    /* the server has spoken before anything was asked that is awaited */
  HTTP_UPGRADES = 1 << 5, /* the request asks for another protocol */
  HTTP_CONNECTS = 1 << 6, /* it is CONNECT */
  HTTP_LATER = 1 << 7,    /* a request has passed on the connection */
};

/* A header line: offsets in the buffer. The value has white space around it. */
struct http_line {
  __u16 name;
  __u16 colon;
  __u16 end;  /* of the CR */
  __u16 next; /* number of the next line in its chain, plus 1; 0: there is none */
};

/* Lines whose names have the same hash, in their order: numbers, plus 1. So a name that is looked for is not compared
 * with all of them. */
enum { HTTP_CHAIN_BITS = 6, HTTP_CHAINS = 1 << HTTP_CHAIN_BITS };
struct http_chain {
  __u16 first;
  __u16 last;
};

/* A piece of the buffer: from, and behind it. Equal: empty. */
struct http_piece {
  __u32 from;
  __u32 to;
};

/* Lines that say how a head is understood. */
enum http_special { LINE_HOST, LINE_LENGTH, LINE_CODING, LINE_UPGRADE, HTTP_SPECIAL_LINES };

/* Work memory, one for each CPU: the head that was read last. */
struct http_work {
  __u32 why;    /* REFUSED: enum http_why */
  __u32 length; /* HEAD: bytes */
  __u32 minor;  /* HTTP/1. */
  __u32 has_host;
  __u32 connects; /* CONNECT */
  __u32 upgrades; /* it asks for a protocol that carries no requests */
  __u32 chunked;
  __u32 no_hosts; /* the set that http_match() was asked about has no patterns for the host */
  __u32 rooted;   /* a slash is to be read before `path`: a URI without a path */
  __u64 content;  /* Content-Length; 0 if there is none */
  struct http_piece method;
  struct http_piece target;
  struct http_piece path; /* with the query; CONNECT: empty */
  struct http_piece host; /* with the port */
  __u32 host_end;         /* behind the host without its port; an address of IPv6 is in brackets */
  /* While it is read. */
  __u32 begin;
  __u32 at;
  __u32 end;
  __u32 state;
  __u32 before; /* the state in which `state` was found */
  __u32 notes;  /* it is read from its beginning, so places are noted */
  __u32 name;   /* where the line begins */
  __u32 colon;
  __u32 word;              /* of a line that is no request's: where its first word begins */
  __u32 uri;               /* where the host of an absolute URI ends, and its path begins; 0: not yet */
  struct http_piece piece; /* that is trimmed or walked through */
  /* A walk of an automaton (http_rules.h): where its parts begin in http_cells, bytes. */
  __u32 bytes;
  __u32 next;
  __u32 classes;
  __u32 settled;
  __u32 match;                       /* its state */
  __u32 found;                       /* lines of a name */
  __u32 line;                        /* the next of them, plus 1 */
  __u32 special[HTTP_SPECIAL_LINES]; /* their numbers, plus 1 */
  __u32 count;                       /* of lines */
  struct http_chain chains[HTTP_CHAINS];
  struct http_line lines[HTTP_LINES];
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct http_work);
} http_works SEC(".maps");

static __always_inline struct http_work *http_work(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&http_works, &zero);
}

/* An offset in the buffer, masked so that the verifier sees the bound. */
static __always_inline __u64 in_http(__u64 at) {
  asm volatile("%0 &= 0x3fff" : "+r"(at));
  return at;
}

static __always_inline __u8 http_byte(const struct http_bytes *m, __u32 at) {
  return m->bytes[in_http(at)];
}

static __always_inline __u64 http_word(const struct http_bytes *m, __u32 at) {
  return *(const __u64 *)(m->bytes + in_http(at));
}

/* Eight bytes of a token in lower case. What stands behind the token may become anything. */
static __always_inline __u64 lower_token(__u64 bytes) {
  return bytes | ((at_least(bytes, 'A') & ~at_least(bytes, 'Z' + 1) & 0x80 * EACH_BYTE) >> 2);
}

/* The first `count` of eight bytes, 1 to 8. */
static __always_inline __u64 first_bytes(__u64 bytes, __u32 count) {
  return bytes & (~0ULL >> (64 - 8 * count));
}

/* The chain of a name, by its first eight bytes in lower case (with zeros behind a shorter one) and its length. */
static __always_inline __u32 chain_of(__u64 first, __u32 length) {
  return ((first + length) * 0x9e3779b97f4a7c15ULL) >> (64 - HTTP_CHAIN_BITS);
}

/* Up to eight letters as they stand in memory. */
#define AS_WORD(a, b, c, d, e, f, g, h)                                                                      \
  ((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 |                   \
   (__u64)(f) << 40 | (__u64)(g) << 48 | (__u64)(h) << 56)

#endif
