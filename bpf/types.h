/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Every struct that crosses the kernel boundary, and nothing else.
 *
 * This file is the one source of each layout: scripts/gen-layout reads these
 * structs out of the compiled object's BTF and writes src/image/layout.gen.ts;
 * the loader compares the two again before it loads anything.
 *
 * Byte order: addresses and ports are in network order, as on the wire; every
 * other integer is in host order. Addresses are always 16 bytes; IPv4 is
 * IPv4-mapped (::ffff:a.b.c.d), so that one flow key serves both families.
 */
#ifndef EA_TYPES_H
#define EA_TYPES_H

#define EA_SMALL_WORDS 8   /* bitmap words of a small set: 512 rules */
#define EA_LARGE_WORDS 64  /* bitmap words of a large set: 4096 rules */
#define EA_MAX_BACKENDS 16 /* distinct kinds of backends judged ahead of the translation */

/* Reference to a policy set: the id (53 bits, a hash of the ordered rules) and
 * what the packet path must know before it looks the set up. 0: no policy. */
#define EA_SET_LARGE (1ULL << 63)
#define EA_SET_STAGED (1ULL << 62)

/* Destination classes with a meaning of their own; every other id is a hash
 * of the selectors that the class stands for. */
enum ea_class {
  EA_CLASS_NONE = 0,   /* addresses that match no selector; also the fallback of a set */
  EA_CLASS_STAGED = 1, /* not an address class: the row is the mask of the set's staged rules */
  EA_CLASS_SELF = 2,   /* row ORed in when the destination is the endpoint itself */
};

enum ea_action { EA_ACTION_ALLOW = 1, EA_ACTION_DENY = 2, EA_ACTION_PASS = 3, EA_ACTION_LOG = 4 };

enum ea_verdict {
  EA_VERDICT_NONE = 0,
  EA_VERDICT_ALLOW = 1,
  EA_VERDICT_DENY = 2,
  EA_VERDICT_PARTIAL = 3, /* a Service address some of whose backends are allowed: judged after translation */
};

/* Why a packet was passed or dropped. Names are stable: they are the API's. */
enum ea_reason {
  EA_REASON_NONE = 0,
  EA_REASON_RULE = 1,      /* a rule decided */
  EA_REASON_NO_POLICY = 2, /* no policy selects the endpoint, or every tier passed */
  EA_REASON_REPLY = 3,     /* reply to a connection opened to the endpoint */
  EA_REASON_RELATED = 4,   /* ICMP error about a flow that passes */
  EA_REASON_LINK = 5,      /* ARP, neighbour discovery, multicast listener reports */
  EA_REASON_OBSERVED = 6,  /* the node's own traffic: seen, not judged */
  EA_REASON_FRAGMENT = 7,  /* follows the verdict of its first fragment */
  /* From here on: drops that no rule asked for. */
  EA_REASON_MALFORMED = 16, /* a header is cut short or contradicts itself */
  EA_REASON_UNKNOWN_ETHERTYPE = 17,
  EA_REASON_EXT_HEADERS = 18,   /* more than 8 IPv6 extension headers */
  EA_REASON_TINY_FRAGMENT = 19, /* first fragment without the whole L4 header */
  EA_REASON_OVERLAPPING_FRAGMENT = 20,
  EA_REASON_SPOOFED_ADDRESS = 21,
  EA_REASON_SPOOFED_MAC = 22,
  EA_REASON_NO_ENDPOINT = 23,    /* the hook is attached, its endpoint entry is missing */
  EA_REASON_NO_SET = 24,         /* the endpoint's set, or a row of it, is missing */
  EA_REASON_UNRELATED_ERROR = 25 /* ICMP error about no flow of this endpoint */
};

enum ea_hook { EA_HOOK_FROM_POD = 1, EA_HOOK_TO_POD = 2, EA_HOOK_UPLINK = 3 };

enum ea_endpoint_flags {
  EA_EP_NODE = 1 << 0,         /* an uplink: the node's own traffic */
  EA_EP_CHECK_SOURCE = 1 << 1, /* addr4/addr6 (and `sources`) are the only sources */
  EA_EP_CHECK_MAC = 1 << 2,
  EA_EP_MORE_SOURCES = 1 << 3, /* look in `sources` too */
  EA_EP_L3 = 1 << 4,           /* device without a link-layer header */
  EA_EP_REJECT = 1 << 5,       /* answer denied packets (RST, ICMP) instead of dropping */
  EA_EP_IN_POD = 1 << 6,       /* hooked inside the pod's namespace: directions are swapped */
};

/* Slots of `endpoints`: one for each value of ifindex % EA_OWN_SLOTS, and behind them those of interfaces whose slot
 * another one has; `endpoints_more` says which. */
enum ea_slots { EA_OWN_SLOTS = 65536, EA_MORE_SLOTS = 4096 };

/* One slot of `endpoints`. `set` is flipped by
 * one aligned 8-byte store while packets read it; the rest is written before
 * the hook is attached and not changed while it is. */
struct ea_endpoint {
  __u64 set;
  __u32 ifindex; /* of the host-side device; tells a foreign slot from ours */
  __u32 id;      /* stable number of the endpoint: the first part of each flow key */
  __u32 flags;
  __u8 mac[6]; /* of the pod's own interface */
  __u8 pad[2];
  __be32 addr4[2]; /* 0: unused */
  __u8 addr6[2][16];
};

struct ea_source_key {
  __u32 endpoint;
  __u8 addr[16];
};

/* LPM keys. Prefix length first, as the kernel wants it. */
struct ea_dest4_key {
  __u32 prefixlen;
  __u8 addr[4];
};
struct ea_dest6_key {
  __u32 prefixlen;
  __u8 addr[16];
};

struct ea_class_key {
  __u64 set; /* id without the reference's flags */
  __u64 class_id;
};

/* 64 bits of set, 8 of protocol, 8 of zero, 16 of port. A rule for all
 * protocols has prefix length 64, for all ports of one protocol 80. ICMP:
 * type in the high byte of the port, code in the low one. */
struct ea_port_key {
  __u32 prefixlen;
  __u8 set[8]; /* the id, big endian */
  __u8 protocol;
  __u8 zero;
  __be16 port;
};

struct ea_row_small {
  __u64 words[EA_SMALL_WORDS]; /* rule n is bit n % 64 of word n / 64 */
};
struct ea_row_large {
  __u64 words[EA_LARGE_WORDS];
};

struct ea_rule_key {
  __u64 set;
  __u32 bit;
  __u32 pad;
};
struct ea_rule {
  __u64 id;       /* hash that names the rule (53 bits) */
  __u32 tier_end; /* first bit of the next tier: where Pass goes on */
  __u8 action;    /* enum ea_action */
  __u8 staged;
  __u8 log;
  __u8 pad;
};

/* What a Service address stands for: one backend for each kind of backend (same
 * class, same port). count 0 with `many`: judge after translation only. */
struct ea_service_key {
  __u8 addr[16];
  __be16 port;
  __u8 protocol;
  __u8 pad;
};
struct ea_backend {
  __u8 addr[16];
  __be16 port;
  __u16 pad;
};
struct ea_service {
  __u32 count;
  __u32 many;
  struct ea_backend backends[EA_MAX_BACKENDS];
};

/* Seen from the endpoint: local is the endpoint's side in both directions. */
struct ea_flow_key {
  __u8 local[16];
  __u8 remote[16];
  __be16 local_port;  /* ICMP echo and the like: the identifier */
  __be16 remote_port; /* ICMP: type and code of the request */
  __u32 endpoint;
  __u8 protocol;
  __u8 opened_remotely; /* ICMP only: tells the peer's echo 7 from ours */
  __u16 pad;
};

enum ea_flow_flags {
  EA_FLOW_INBOUND = 1 << 0,     /* opened to the endpoint */
  EA_FLOW_SECOND_LOOK = 1 << 1, /* judged after a Service's translation, for another endpoint */
  EA_FLOW_SEEDED = 1 << 2,      /* taken from the pod's sockets at attachment */
  EA_FLOW_CONFIRMED = 1 << 3,   /* inbound and answered: also in `accepted` */
};

enum ea_tcp_state {
  EA_TCP_NONE = 0,
  EA_TCP_SYN = 1,
  EA_TCP_OPEN = 2,
  EA_TCP_FIN_OUT = 4, /* bits from here on */
  EA_TCP_FIN_IN = 8,
  EA_TCP_CLOSED = 16,
};

struct ea_flow {
  __u64 set;
  __u64 rule;       /* id of the deciding rule, 0 if none */
  __u64 audit_rule; /* the same with the staged rules in force */
  __u32 epoch;
  __u8 verdict;
  __u8 audit_verdict; /* EA_VERDICT_NONE where the set has no staged rules */
  __u8 reason;
  __u8 flags;
  __u64 packets_out; /* from the endpoint, passed */
  __u64 bytes_out;   /* L3 bytes */
  __u64 packets_in;
  __u64 bytes_in;
  __u64 drops;        /* packets dropped since the flow began */
  __u64 created_ns;   /* CLOCK_MONOTONIC */
  __u64 last_jiffies; /* of the last packet in either direction */
  __u64 reported_ns;  /* of the last drop event */
  __u64 drops_reported;
  __u32 owner; /* SECOND_LOOK: endpoint id of the client */
  __u8 tcp_state;
  __u8 tcp_flags; /* of all packets, ORed */
  __u16 looks;    /* inbound: low bits of ea_state.looks when `pending` was last asked */
};

/* A client flow that waits for its translation: who it belongs to. */
struct ea_pending_key {
  __u8 addr[16]; /* the client's source */
  __be16 port;
  __u8 protocol;
  __u8 pad;
};
struct ea_pending {
  __u64 set;
  __u32 endpoint;
  __u32 ifindex;
  __u8 service[16]; /* the address before the translation */
  __be16 service_port;
  __u16 pad;
  __u32 pad2;
};

struct ea_fragment_key {
  __u8 src[16];
  __u8 dst[16];
  __u32 endpoint;
  __u32 id;
  __u8 protocol;
  __u8 to_pod; /* direction of travel */
  __u16 pad;
};
struct ea_fragment {
  __u32 epoch;
  __be16 local_port; /* what later fragments do not show, as in the flow's key */
  __be16 remote_port;
  __be16 port;      /* as rules see it */
  __u16 header_end; /* bytes of the datagram up to the end of its L4 header: none of them comes twice */
  __u8 protocol;
  __u8 opened_remotely;
  __u8 passed;
  __u8 pad;
};

/* Drops that belong to no flow: told at most once a second for each endpoint and reason. */
struct ea_note_key {
  __u32 endpoint;
  __u32 reason;
};
struct ea_note {
  __u64 reported_ns; /* CLOCK_MONOTONIC */
  __u64 drops;
  __u64 drops_reported;
};

enum ea_event_type {
  EA_EVENT_VERDICT = 1, /* a flow's first verdict */
  EA_EVENT_CHANGED = 2, /* a policy change changed it */
  EA_EVENT_DROP = 3,    /* later drops of a denied flow, or a drop without a flow */
  EA_EVENT_END = 4,     /* a flow ended: its counters are final */
  EA_EVENT_LOG = 5,     /* a Log rule matched */
};

struct ea_event {
  __u64 time_ns; /* CLOCK_MONOTONIC */
  __u64 rule;
  __u64 audit_rule;
  __u64 set;
  struct ea_flow_key flow;
  __u8 service[16]; /* SECOND_LOOK: address before the translation; else zero */
  __be16 service_port;
  __u16 sport_wire; /* ICMP error packets and fragments: 0 */
  __u32 ifindex;
  __u64 packets_out, bytes_out, packets_in, bytes_in;
  __u64 drops;      /* dropped packets that this event stands for */
  __u64 created_ns; /* of the flow */
  __u32 epoch;
  __u32 length; /* L3 length of the packet that caused the event */
  __u8 type;    /* enum ea_event_type */
  __u8 verdict;
  __u8 audit_verdict;
  __u8 reason;
  __u8 hook;
  __u8 tcp_flags;
  __u8 flow_flags;
  __u8 family; /* 4, 6, or 0 where no IP header was parsed */
  __u8 mac_src[6];
  __u8 mac_dst[6];
  __u16 ethertype; /* host order */
  __u8 is_reply;   /* the packet travels towards the side that opened the flow */
  __u8 pad[1];
};

/* Indices of `counters` (per CPU). Drops by reason stand at DROPS + reason. */
enum ea_counter {
  EA_COUNT_EVENTS = 1,
  EA_COUNT_EVENTS_LOST = 2,
  EA_COUNT_FLOWS_CREATED = 3,
  EA_COUNT_FLOWS_NOT_STORED = 4, /* the table refused: judged packet by packet */
  EA_COUNT_FLOWS_CLOSED = 5,
  EA_COUNT_CLASSIFIED = 6,
  EA_COUNT_REJECTED = 7, /* answered with RST or ICMP */
  EA_COUNT_PULLED = 8,   /* headers had to be made linear */
  EA_COUNT_SECOND_LOOKS = 9,
  EA_COUNT_DROPS = 32,
  EA_COUNT_MAX = 64,
};

/* The one value that changes while packets fly and is read by all of them. */
struct ea_state {
  __u32 epoch;
  __u32 flags; /* enum ea_state_flags */
  __u32 looks; /* hooks write: 0 as long as nothing ever went into `pending`; grows when an open flow does */
  __u32 pad;
};
enum ea_state_flags {
  EA_STATE_QUIET = 1 << 0,  /* no events (benchmarks) */
  EA_STATE_AFRESH = 1 << 1, /* each first packet is classified, none by what is remembered (benchmarks) */
};

#endif
