/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What QUIC's hello names. It is TLS's, without records (RFC 9001, 4.1.3). */
#ifndef EA_QUIC_HELLO_H
#define EA_QUIC_HELLO_H

#include "quic_flow.h"
#include "tls.h"

/* Reads the hello that QUIC_JUDGE is about: quic_work.hello_at, hello_size, in the stream of the
 * connection. It is copied to this CPU's buffer first, where tls.h reads it. TLS_HELLO: l7_work.named,
 * early and ech say more, and the name is in texts[TEXT_SERVER]. TLS_MALFORMED: it is none. */
GLOBAL_FUNCTION int quic_read_hello(const struct quic_stream *s, const struct quic_work *w) {
  struct l7_buffer *own = l7_own();
  struct l7_work *l7 = l7_work();
  if (!s || !w || !own || !l7 || w->hello_size < 4 + TLS_MIN_BODY) return TLS_MALFORMED;
  const __u8 *bytes = (const __u8 *)s->words;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < QUIC_STREAM; i += 4096) {
    if (i >= w->hello_size) break;
    const __u32 left = w->hello_size - i;
    __u64 size = left < 4096 ? left : 4096;
    asm volatile("%0 &= 0x1fff" : "+r"(size));
    if (!size || size > 4096) return TLS_MALFORMED;
    if (bpf_probe_read_kernel(own->bytes + i, size, bytes + bounded(w->hello_at + i, QUIC_STREAM - 1)))
      return TLS_MALFORMED;
  }
  l7->whole = w->hello_size;
  return read_fields(own, 0);
}

#endif
