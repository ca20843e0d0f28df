/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* struct packet: all that is known of the packet that is judged, from its headers (parse.h) to the verdict. */
#ifndef EA_PACKET_H
#define EA_PACKET_H

#include "decided.h"
#include "room.h"

/* enum of parse()'s results; a negative result is a reason to drop (enum ea_reason). */
/* RELATED: an ICMP error that is judged as a packet of the flow that it is about (icmp.h). */
enum { PACKET_FLOW = 0, PACKET_LINK = 1, PACKET_ERROR = 2, PACKET_LATER = 3, PACKET_RELATED = 4 };

enum { DIRECTION_IN = 0, DIRECTION_OUT = 1, PARSE_L3 = 2 };

enum { FRAGMENT_NONE = 0, FRAGMENT_FIRST = 1, FRAGMENT_LATER = 2 };

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16, TCP_URG = 32 };

/* What is known of the name that a packet asks for (queries.h). MET: rules that ask for one match. */
enum { QUERY_NONE = 0, QUERY_MET = 1, QUERY_KNOWN = 2 };
/* The same for what its connection says (said.h). */
enum { SAID_NONE = 0, SAID_MET = 1, SAID_KNOWN = 2 };

struct packet {
  __u64 set;    /* of the endpoint, when this packet arrived */
  __u32 epoch;  /* read before set */
  __u32 length; /* L3 bytes */
  struct ea_flow_key key;
  __u32 fragment_id;
  __u16 l3; /* offsets */
  __u16 l4;
  __u16 ethertype;       /* host order */
  __u16 fragment_offset; /* bytes */
  __u16 header_end;      /* see struct ea_fragment */
  __be16 port;           /* as rules see it: the destination's; ICMP type and code */
  __u8 family;
  __u8 tcp_flags;
  __u8 fragment;
  __u8 fragment_protocol;
  __u8 opens;   /* may be the first packet of a flow */
  __u8 carries; /* TCP: there is data behind the header */
  __u8 out;     /* sent by the endpoint */
  __u8 hook;
  __u8 kind;
  __u8 unrelated; /* not a packet of the flow that has its key: no flow is stored for it */
  __u8 forwarded; /* at an uplink: forwarded, not the node's own; it may have the node's address by now */
  __u8 held;      /* the flow of its key, at `at`, is locked until release() */
  __be32 seq;     /* TCP, for answers */
  __be32 ack;
  struct place at;
  __u32 payer; /* interface of the endpoint that pays for stored entries */
  __u64 query; /* class of the name that is asked for, with query_mode (queries.h) */
  __u8 query_mode;
  __u8 said_mode;
  __u8 decided;   /* `decision` is about this packet already */
  __u8 inspected; /* its flow is to be inspected for DNS */
  __u8 says;      /* its flow is to be inspected for what it says (says.h) */
  __u8 tells;     /* decisions report the Log rules that match; describe() was called */
  __u8 named;     /* the names of its destination have been collected (name_work.collected) */
  /* Not cleared by fresh_packet(): the judging function fills them in. They are here because the stack is
   * short. */
  struct target target;
  struct decision decision;
  struct decision backend; /* about one backend of a Service */
  struct ea_note_key note;
  __u32 service_epoch; /* when the Service was read */
};

/* The packet that this CPU works on: too large for the stack. */
struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct packet);
} packets SEC(".maps");

static __always_inline struct packet *this_packet(void) {
  __u32 zero = 0;
  return bpf_map_lookup_elem(&packets, &zero);
}

static __always_inline struct packet *fresh_packet(void) {
  struct packet *p = this_packet();
  if (p) __builtin_memset(p, 0, offsetof(struct packet, target));
  return p;
}

#endif
