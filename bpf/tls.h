/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* TLS ClientHellos, read strictly (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3), from the first bytes of a stream, in a
 * buffer of l7_memory.h. src/said/hello.ts says the same of the same bytes.
 *
 * A hello stands in one record or in several, which are cut anywhere. read_hello() goes along the records, and
 * remembers in the buffer how far it has come, so that a hello in many small segments is not read again with each.
 * When it is whole, its records are joined, if they are several, and its fields are read. They are skipped by their
 * lengths: only the name is looked at byte by byte. */
#ifndef EA_TLS_H
#define EA_TLS_H

#include "l7_memory.h"

enum {
  TLS_CHANGE_CIPHER_SPEC = 20,
  TLS_ALERT = 21,
  TLS_HANDSHAKE = 22,
  TLS_APPLICATION_DATA = 23,
  TLS_RECORD_HEADER = 5,
  TLS_MAX_RECORD = 16384,
  TLS_MAX_ENCRYPTED = TLS_MAX_RECORD + 2048,
  TLS_ALERT_BYTES = 2,
  TLS_CLIENT_HELLO = 1,
  TLS_SERVER_HELLO = 2,
  TLS_MIN_BODY = 2 + 32 + 1 + 4 + 2, /* one cipher suite, one compression method, no extensions */
  TLS_MIN_SEALED = 16 + 16,          /* Finished (RFC 5246, 7.4.9), and what a cipher adds */
  TLS_SERVER_NAME = 0,
  TLS_EARLY_DATA = 42,
  TLS_ECH = 0xfe0d,
  TLS_ECH_LEAST = 1 + 4 + 1 + 2 + 2 + 1, /* an empty `enc`, one byte of `payload` */
  TLS_MAX_EXTENSIONS = 64,               /* clients send about 20 */
  TLS_MAX_RECORDS = EA_SAID_BUFFER_BYTES / (TLS_RECORD_HEADER + 1) + 1,
};

/* What the bytes of a stream are. MORE: what may become a hello. OTHER: no TLS. MALFORMED: TLS, but no hello. SEALED:
 * what began as a hello was an encrypted record. */
enum { TLS_MORE = 0, TLS_HELLO = 1, TLS_OTHER = 2, TLS_MALFORMED = 3, TLS_SEALED = 4 };

/* Encrypted ClientHello in a hello (RFC 9849, 5). OUTER: l7_work.ech_id has the config_id. ODD: none can be read there,
 * so no client sends it; the other kind of the extension, of an inner hello, counts as that. */
enum tls_ech { TLS_NO_ECH = 0, TLS_ECH_OUTER = 1, TLS_ECH_ODD = 2 };

/* Whether a hello names a server. ODD: it does, but as no pattern could: an address, a final dot, other bytes. */
enum tls_name { TLS_NAMELESS = 0, TLS_NAMED = 1, TLS_ODDLY_NAMED = 2 };

/* Offsets in a buffer are below its size wherever they are used. The asm keeps the compiler from leaving the mask
 * out where it knows that: the verifier does not. */
static __always_inline __u64 in_buffer(__u64 at) {
  asm volatile("%0 &= 0x3fff" : "+r"(at));
  return at;
}
static __always_inline __u8 l7_byte(const struct l7_buffer *b, __u32 at) {
  return b->bytes[in_buffer(at)];
}
static __always_inline __u16 l7_be16(const struct l7_buffer *b, __u32 at) {
  return bpf_ntohs(*(const __u16 *)(b->bytes + in_buffer(at)));
}

/* What another record tells in place of the next one of a hello, where the first may have been encrypted
 * (l7_work.sealed). Data, and alerts that are encrypted, follow a handshake that has ended; a server that waits for the
 * rest of a hello takes neither (RFC 8446, 5.1). Plain alerts tell nothing: some servers pass over them. */
static __always_inline int read_behind_sealed(const struct l7_buffer *b, const struct l7_work *w, __u32 at) {
  const __u8 type = l7_byte(b, at);
  const __u32 length = l7_be16(b, w->begin + 3);
  if (!w->sealed || length < TLS_MIN_SEALED || at != w->begin + TLS_RECORD_HEADER + length)
    return TLS_MALFORMED;
  if (type == TLS_APPLICATION_DATA) return TLS_SEALED;
  if (type != TLS_ALERT) return TLS_MALFORMED;
  if (w->have - at < TLS_RECORD_HEADER) return TLS_MORE;
  return l7_be16(b, at + 3) == TLS_ALERT_BYTES ? TLS_MALFORMED : TLS_SEALED;
}

/* One record: 1 ends the walk, with the result in w->read. */
static long record_step(__u32 i, struct l7_buffer **buffer) {
  struct l7_work *w = l7_work();
  struct l7_buffer *b = *buffer;
  if (!w || !b) return 1;
  const __u32 at = READ_ONCE(w->record), have = READ_ONCE(w->have), message = READ_ONCE(w->message);
  __u32 whole = READ_ONCE(w->whole);
  const __u32 left = have - at;
  (void)i;
  w->read = TLS_MORE;
  if (at >= have) return 1;
  w->read = at == w->begin ? TLS_OTHER : read_behind_sealed(b, w, at);
  if (l7_byte(b, at) != TLS_HANDSHAKE) return 1;
  if (left > 1 && l7_byte(b, at + 1) != 3) return 1;
  w->read = left < TLS_RECORD_HEADER ? TLS_MORE : TLS_MALFORMED;
  if (left < TLS_RECORD_HEADER) return 1;
  const __u32 length = l7_be16(b, at + 3);
  const __u32 data = at + TLS_RECORD_HEADER;
  const __u32 got = left - TLS_RECORD_HEADER < length ? left - TLS_RECORD_HEADER : length;
  if (!length || length > TLS_MAX_RECORD) return 1;
  if (!whole) {
    /* Type and length of the message may be in several records. */
#pragma clang loop unroll(disable)
    for (__u32 n = 0; n < 4; n++)
      if (n >= message && n < message + got) b->head[n & 3] = l7_byte(b, data + n - message);
    if (message + got > 0 && b->head[0] != TLS_CLIENT_HELLO) return 1;
    if (message + got >= 4) {
      const __u32 body = (__u32)b->head[1] << 16 | (__u32)b->head[2] << 8 | b->head[3];
      whole = body + 4;
      if (body < TLS_MIN_BODY) return 1;
    }
  }
  /* It fits into the buffer, and what ends it ends its record. Of an encrypted record that looks like the beginning
   * of one, the length may be anything: it passes, but no other record of it. */
  const int may_be_sealed = w->sealed && !message && length >= TLS_MIN_SEALED && length < whole;
  if (whole && !may_be_sealed && data - message + whole > EA_SAID_BUFFER_BYTES) {
    count(EA_COUNT_SAID_OVERSIZE);
    return 1;
  }
  if (whole && message + length > whole) return 1;
  w->read = TLS_MORE;
  if (got < length) return 1;
  w->whole = whole;
  w->message = message + length;
  w->record = data + length;
  if (!whole || message + length < whole) return 0;
  w->read = TLS_HELLO;
  return 1;
}

/* Copies a part of a record, 4096 bytes at most, to this CPU's buffer; 1: all are copied. */
static long join_step(__u32 i, const struct l7_buffer **from) {
  struct l7_work *w = l7_work();
  struct l7_buffer *to = l7_own();
  const struct l7_buffer *b = *from;
  (void)i;
  if (!w || !to || !b) return 1;
  if (!w->left) {
    if (w->message >= w->whole) return 1;
    w->left = l7_be16(b, w->record + 3);
    w->record += TLS_RECORD_HEADER;
  }
  __u64 size = w->left < 4096 ? w->left : 4096;
  const __u64 at = in_buffer(w->message);
  asm volatile("%0 &= 0x1fff" : "+r"(size));
  if (!size || size > 4096) return 1;
  if (bpf_probe_read_kernel(to->bytes + at, size, b->bytes + in_buffer(w->record))) return 1;
  w->message += size;
  w->record += size;
  w->left -= size;
  return 0;
}

/* Reads the ECHClientHello of an outer hello: kind, cipher suite, config_id, `enc`, which is empty in a second hello,
 * and `payload`, up to the extension's end. */
static __always_inline void read_outer(const struct l7_buffer *b, struct l7_work *w, __u32 at, __u32 length) {
  w->ech = TLS_ECH_ODD;
  if (length < TLS_ECH_LEAST || l7_byte(b, at)) return;
  const __u32 enc = l7_be16(b, at + 6);
  if (enc > length - TLS_ECH_LEAST) return;
  const __u32 payload = l7_be16(b, at + 8 + enc);
  if (!payload || payload != length - enc - (TLS_ECH_LEAST - 1)) return;
  w->ech = TLS_ECH_OUTER;
  w->ech_id = l7_byte(b, at + 5);
}

/* One extension; 1 ends the walk, with the result in w->read. */
static long extension_step(__u32 i, const struct l7_buffer **buffer) {
  struct l7_work *w = l7_work();
  const struct l7_buffer *b = *buffer;
  if (!w || !b) return 1;
  const __u32 at = READ_ONCE(w->field), end = READ_ONCE(w->end);
  w->read = TLS_HELLO;
  if (at == end) return 1;
  w->read = TLS_MALFORMED;
  if (at + 4 > end || i >= TLS_MAX_EXTENSIONS) return 1;
  const __u32 type = l7_be16(b, at), length = l7_be16(b, at + 2), data = at + 4;
  if (data + length > end) return 1;
  /* None stands there twice. */
  const __u64 bit = 1ULL << ((type ^ type >> 6) & 63);
  if (w->seen & bit) {
#pragma clang loop unroll(disable)
    for (__u32 n = 0; n < TLS_MAX_EXTENSIONS && n < i; n++)
      if (w->types[n] == type) return 1;
  }
  w->seen |= bit;
  w->types[i & (TLS_MAX_EXTENSIONS - 1)] = type;
  if (type == TLS_SERVER_NAME) {
    if (length < 5 || l7_be16(b, data) != length - 2 || l7_byte(b, data + 2) ||
        l7_be16(b, data + 3) != length - 5)
      return 1;
    w->name_at = data + 5;
    w->name_length = length - 5;
    w->named = TLS_ODDLY_NAMED; /* until it has been read */
  } else if (type == TLS_EARLY_DATA) {
    w->early = 1;
  } else if (type == TLS_ECH) {
    read_outer(b, w, data, length);
  }
  w->field = data + length;
  return 0;
}

/* Eight bytes of a server name, from a buffer; 1: the last ones. l7_work.sum: there is a byte that no name has. */
static long name_word_step(__u32 i, const struct l7_buffer **buffer) {
  struct name_work *names = name_work();
  struct l7_work *w = l7_work();
  const struct l7_buffer *b = *buffer;
  const __u32 at = i * 8;
  if (!names || !w || !b || at >= EA_NAME_TEXT) return 1;
  const __u32 length = READ_ONCE(w->name_length);
  if (at >= length) return 1;
  const __u64 word = *(const __u64 *)(b->bytes + in_buffer(w->name_at + at));
  __u64 odd = 0;
  /* Behind the text: zeros, which do not count as odd. */
  const __u32 rest = length - at;
  const __u64 keep = rest >= 8 ? ~0ULL : (1ULL << (rest * 8)) - 1;
  const __u64 clean = clean_name((word & keep) | ('a' * EACH_BYTE & ~keep), &odd);
  *(__u64 *)(names->texts[TEXT_SERVER].bytes + at) = clean & keep;
  if (odd) w->odd = 1;
  return 0;
}

/* A byte of the text, from the last on. 1: it is known whether it ends with a dot, or has nothing but digits behind
 * its last one, as addresses do; then l7_work.odd is set. */
static long last_label_step(__u32 i, const __u32 *length) {
  const struct name_work *names = name_work();
  struct l7_work *w = l7_work();
  if (!names || !w) return 1;
  const __u32 left = *length - i;
  if (left) {
    const __u8 c = names->texts[TEXT_SERVER].bytes[(left - 1) & (EA_NAME_TEXT - 1)];
    if (c >= '0' && c <= '9') return 0;
    if (c != '.') return 1;
  }
  w->odd = 1;
  return 1;
}

/* Puts `length` bytes of a buffer into texts[TEXT_SERVER], as a name: lower case, and its hash. 0: it is none that
 * a pattern could match, as saidName() of src/said/name.ts has it. */
GLOBAL_FUNCTION int read_server_name(const struct l7_buffer *b, __u32 at, __u32 length) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *names = name_work();
  struct l7_work *w = l7_work();
  if (!b || !st || !names || !w || !length || length > 253) return 0;
  struct name_text *t = &names->texts[TEXT_SERVER];
  w->name_at = at;
  w->name_length = length;
  w->odd = 0;
  bpf_loop(EA_NAME_TEXT / 8, name_word_step, &b, 0);
  t->length = length;
  bpf_loop(EA_NAME_TEXT, last_label_step, &length, 0);
  if (w->odd) return 0;
  __u64 behind = length;
  asm volatile("%0 &= 0xff" : "+r"(behind));
  *(__u64 *)(t->bytes + behind) = 0;
  t->hash = hash_text(t, st);
  return 1;
}

/* Reads the fields of a whole message at `at`. Result in l7_work: name and flags. TLS_HELLO or TLS_MALFORMED. */
GLOBAL_FUNCTION int read_fields(const struct l7_buffer *b, __u32 at) {
  struct l7_work *w = l7_work();
  if (!b || !w) return TLS_MALFORMED;
  const __u32 end = at + w->whole;
  w->named = w->early = w->ech = 0;
  w->seen = 0;
  if (l7_byte(b, at + 4) != 3) return TLS_MALFORMED;
  at += 4 + 2 + 32;
  const __u32 session = l7_byte(b, at);
  if (session > 32 || at + 1 + session + 4 + 2 > end) return TLS_MALFORMED;
  at += 1 + session;
  const __u32 suites = l7_be16(b, at);
  if (suites < 2 || (suites & 1) || at + 2 + suites + 2 > end) return TLS_MALFORMED;
  at += 2 + suites;
  const __u32 methods = l7_byte(b, at);
  if (!methods || at + 1 + methods > end) return TLS_MALFORMED;
  at += 1 + methods;
  if (at == end) return TLS_HELLO;
  if (at + 2 > end || at + 2 + l7_be16(b, at) != end) return TLS_MALFORMED;
  w->field = at + 2;
  w->end = end;
  bpf_loop(TLS_MAX_EXTENSIONS + 1, extension_step, &b, 0);
  if (w->read != TLS_HELLO) return TLS_MALFORMED;
  if (w->named && read_server_name(b, w->name_at, w->name_length)) w->named = TLS_NAMED;
  return TLS_HELLO;
}

/* Reads what a stream begins with: w->have bytes in a buffer, of which the hello begins at w->begin. TLS_SEALED: the
 * record at w->record tells so. TLS_HELLO: it ends at w->record; w->named, w->early and w->ech say more, and the name is in texts[TEXT_SERVER]. */
GLOBAL_FUNCTION int read_hello(struct l7_buffer *b) {
  struct l7_work *w = l7_work();
  if (!b || !w) return TLS_MALFORMED;
  w->record = w->begin + b->record;
  w->message = b->message;
  w->whole = b->whole;
  struct l7_buffer *buffer = b;
  bpf_loop(TLS_MAX_RECORDS, record_step, &buffer, 0);
  const __u32 record = w->record, whole = w->whole;
  b->record = record - w->begin;
  b->message = w->message;
  b->whole = whole;
  if (w->read != TLS_HELLO) return w->read;
  const __u32 first = w->begin + TLS_RECORD_HEADER;
  if (likely(record == first + whole)) return read_fields(b, first);
  w->record = w->begin;
  w->message = w->left = 0;
  const struct l7_buffer *from = b;
  bpf_loop(TLS_MAX_RECORDS + EA_SAID_BUFFER_BYTES / 4096, join_step, &from, 0);
  struct l7_buffer *joined = l7_own();
  if (w->record != record || !joined) return TLS_MALFORMED;
  return read_fields(joined, 0);
}

#endif
