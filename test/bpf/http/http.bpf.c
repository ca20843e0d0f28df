// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* The functions that read HTTP requests, each as a program of its own: what they are given, and what they find, is in
 * a map. */
#pragma clang diagnostic ignored "-Wunused-function"
#include "../../../bpf/http_body.h"
#include "../../../bpf/http_rules.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

struct ea_http_case {
  struct ea_said_stream stream;
  __u64 set;
  __u32 from;
  __u32 length;
  __s32 result;
  enum http_why why;
  __u32 head;
  __u32 minor;
  __u32 has_host;
  __u32 connects;
  __u32 upgrades;
  __u32 chunked;
  __u32 rooted;
  __u32 count;
  enum http_part part; /* for the names */
  __u32 pad;
  __u64 content;
  struct http_piece pieces[5]; /* method, target, path, host, host without port */
  __u64 classes[EA_SAID_ROWS];
  struct http_bytes bytes;
};

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __uint(map_flags, BPF_F_MMAPABLE);
  __type(key, __u32);
  __type(value, struct ea_http_case);
} http_case SEC(".maps");

#define WITH_CASE(c)                                                                                         \
  __u32 zero = 0;                                                                                            \
  struct ea_http_case *c = bpf_map_lookup_elem(&http_case, &zero);                                           \
  (void)skb;                                                                                                 \
  if (!c) return -1

static __always_inline int read_head(struct ea_http_case *c) {
  const int result = http_head(&c->bytes, &c->stream, c->from, c->length);
  const struct http_work *w = http_work();
  if (!w) return -1;
  c->result = result;
  c->why = w->why;
  c->head = w->length;
  c->minor = w->minor;
  c->has_host = w->has_host;
  c->connects = w->connects;
  c->upgrades = w->upgrades;
  c->chunked = w->chunked;
  c->rooted = w->rooted;
  c->count = w->count;
  c->content = w->content;
  c->pieces[0] = w->method;
  c->pieces[1] = w->target;
  c->pieces[2] = w->path;
  c->pieces[3] = w->host;
  c->pieces[4] = (struct http_piece){.from = w->host.from, .to = w->host_end};
  return result;
}

SEC("tc")
int run_head(struct __sk_buff *skb) {
  WITH_CASE(c);
  return read_head(c);
}

/* A head that may be the first of its connection again and again. */
SEC("tc")
int run_first(struct __sk_buff *skb) {
  WITH_CASE(c);
  c->stream.left = c->stream.body = 0;
  return http_head(&c->bytes, &c->stream, c->from, c->length);
}

/* A head that passes when it is whole. In one program, as the work memory is that of its CPU. */
SEC("tc")
int run_passing_head(struct __sk_buff *skb) {
  WITH_CASE(c);
  return read_head(c) == HTTP_HEAD ? http_begin(&c->stream) : 0;
}

SEC("tc")
int run_is_cut(struct __sk_buff *skb) {
  WITH_CASE(c);
  c->result = http_is_cut(&c->stream);
  return 0;
}

SEC("tc")
int run_follow(struct __sk_buff *skb) {
  WITH_CASE(c);
  c->result = http_follow(&c->bytes, &c->stream, c->from, c->length);
  return 0;
}

/* A body in chunks again and again. */
SEC("tc")
int run_chunks(struct __sk_buff *skb) {
  WITH_CASE(c);
  c->stream.body = HTTP_LATER | HTTP_SIZE;
  c->stream.left = 0;
  return http_follow(&c->bytes, &c->stream, c->from, c->length);
}

SEC("tc")
int run_hear(struct __sk_buff *skb) {
  WITH_CASE(c);
  http_hear(&c->stream);
  return 0;
}

SEC("tc")
int run_answer(struct __sk_buff *skb) {
  WITH_CASE(c);
  c->result = http_answer(&c->bytes, &c->stream, c->from, c->length);
  return 0;
}

/* Reads the head, and says what the set asks of it. */
SEC("tc")
int run_match(struct __sk_buff *skb) {
  WITH_CASE(c);
  struct said_work *said = said_work();
  if (!said) return -1;
  c->stream.left = c->stream.body = 0;
  if (http_head(&c->bytes, &c->stream, c->from, c->length) != HTTP_HEAD) return -1;
  said->count = 1;
  c->result = http_match(&c->bytes, c->set);
  c->count = said->count;
#pragma clang loop unroll(disable)
  for (int i = 0; i < EA_SAID_ROWS; i++)
    c->classes[i] = said->classes[i];
  return 0;
}

SEC("tc")
int run_nothing(struct __sk_buff *skb) {
  WITH_CASE(c);
  return 0;
}
