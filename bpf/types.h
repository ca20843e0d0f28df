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

/* Reference to a policy set: its id (53 bits, a hash of the ordered rules), and flags that the packet path
 * needs before it looks the set up. 0: no policy. */
#define EA_SET_LARGE (1ULL << 63)
#define EA_SET_STAGED (1ULL << 62)
#define EA_SET_LOGS (1ULL << 61)    /* it has Log rules */
#define EA_SET_NAMES (1ULL << 60)   /* it has rules that only match learned names */
#define EA_SET_QUERIES (1ULL << 59) /* it has rules that only match names in DNS queries */
#define EA_SET_SAYS (1ULL << 58)    /* it has rules that ask what a connection says of itself */

/* Destination classes with a meaning of their own; every other id is a hash
 * of the selectors that the class stands for. */
enum ea_class {
  EA_CLASS_NONE = 0,    /* addresses that match no selector; also the fallback of a set */
  EA_CLASS_STAGED = 1,  /* not an address class: the row is the mask of the set's staged rules */
  EA_CLASS_SELF = 2,    /* row ORed in when the destination is the endpoint itself */
  EA_CLASS_UNNAMED = 3, /* the rules that do not ask for a learned name: an address without a name */
  EA_CLASS_UNASKED = 4, /* the rules that do not ask for the name in a query: no query */
  /* What a connection says (said_types.h). */
  EA_CLASS_UNSAID = 5,  /* the rules that do not ask what it says: nothing, or a name that none wants */
  EA_CLASS_SILENT = 6,  /* these, and those that accept a connection that names nobody */
  EA_CLASS_REQUEST = 7, /* the rules that do not ask, and those that ask for requests */
  EA_CLASS_REQUEST_SILENT = 8, /* a request that names no host */
  EA_CLASS_OPENING = 10,       /* the rules that do not ask, and those that ask and do not deny */
  EA_CLASS_HIDDEN = 12,        /* the rules that do not ask, and those that ask for a server name and deny */
  EA_CLASS_UNAUDITED = 9, /* not what is said: the row is the mask of the bits that the audit leaves out */
  EA_CLASS_QUIC = 11,     /* the rules that a hello of QUIC may match, or that do not ask: ANDed for each */
};

enum ea_action { EA_ACTION_ALLOW = 1, EA_ACTION_DENY = 2, EA_ACTION_PASS = 3, EA_ACTION_LOG = 4 };

/* How a DNS query that a rule denies is answered; OPTION: as --dns-refusal says. TEACHES: the rule allows
 * queries, and names its servers: their answers count as those of trusted resolvers do. */
enum ea_rule_dns {
  EA_REFUSAL_OPTION = 0,
  EA_REFUSAL_REFUSED = 1,
  EA_REFUSAL_NXDOMAIN = 2,
  EA_REFUSAL_NODATA = 3,
  EA_TEACHES = 4
};

enum ea_verdict {
  EA_VERDICT_NONE = 0,
  EA_VERDICT_ALLOW = 1,
  EA_VERDICT_DENY = 2,
  EA_VERDICT_PARTIAL = 3, /* some backends of a Service are allowed: judged after DNAT */
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
  EA_REASON_FRAGMENT = 7,  /* a later fragment: the verdict of its first */
  /* Drops without a rule, as those from 16 on. */
  EA_REASON_UNREADABLE_ANSWER = 8,   /* a trusted resolver's answer from which nothing could be learned */
  EA_REASON_OUT_OF_ORDER = 9,        /* a segment that comes too early: it will come again */
  EA_REASON_UNREADABLE_HELLO = 10,   /* what a connection says decides, and its hello cannot be judged */
  EA_REASON_UNREADABLE_REQUEST = 11, /* the same of an HTTP request: it is ambiguous, or too large */
  EA_REASON_RETOLD = 12,             /* other bytes in place of those that were judged */
  EA_REASON_ENCRYPTED_HELLO = 14,    /* the name that decides is encrypted: real ECH (ech.h) */
  EA_REASON_UNSAID = 13, /* it has not said yet what decides about it, and must before it goes on */
  /* From here on: drops without a rule. */
  EA_REASON_MALFORMED = 16, /* a header is truncated or inconsistent */
  EA_REASON_UNKNOWN_ETHERTYPE = 17,
  EA_REASON_EXT_HEADERS = 18,   /* more than 8 IPv6 extension headers */
  EA_REASON_TINY_FRAGMENT = 19, /* first fragment without the whole L4 header */
  EA_REASON_OVERLAPPING_FRAGMENT = 20,
  EA_REASON_SPOOFED_ADDRESS = 21,
  EA_REASON_SPOOFED_MAC = 22,
  EA_REASON_NO_ENDPOINT = 23,       /* the hook is attached, its endpoint entry is missing */
  EA_REASON_NO_SET = 24,            /* the endpoint's set, or a row of it, is missing */
  EA_REASON_UNRELATED_ERROR = 25,   /* ICMP error about no flow of this endpoint */
  EA_REASON_NO_OWNER = 26,          /* translated; the pod that sent it is unknown */
  EA_REASON_ENCAPSULATION = 27,     /* tunnelled to a node, which would unwrap it */
  EA_REASON_SPOOFED_NEIGHBOUR = 28, /* ARP or neighbour discovery for another's address */
  EA_REASON_NEXT_HOP = 29,          /* the frame's MAC address is not the packet's next hop */
  EA_REASON_CHECKSUM_OFFLOAD = 30,  /* the kernel would write a checksum over judged bytes */
  EA_REASON_UNREADABLE_QUERY = 31   /* the name that is asked for decides, and it cannot be read */
};

enum ea_hook { EA_HOOK_FROM_POD = 1, EA_HOOK_TO_POD = 2, EA_HOOK_UPLINK = 3 };

enum ea_endpoint_flags {
  EA_EP_NODE = 1 << 0,         /* an uplink: the node's own traffic */
  EA_EP_CHECK_SOURCE = 1 << 1, /* only addr4/addr6 (and `sources`) may be source addresses */
  EA_EP_CHECK_MAC = 1 << 2,
  EA_EP_MORE_SOURCES = 1 << 3, /* more addresses are in `sources` */
  EA_EP_L3 = 1 << 4,           /* device without a link-layer header */
  EA_EP_REJECT = 1 << 5,       /* answer denied packets (RST, ICMP) instead of dropping them */
  EA_EP_IN_POD = 1 << 6,       /* hooked inside the pod's namespace: directions are swapped */
  EA_EP_CHECK_NEXT_HOP =
      1 << 7, /* frames go to `gateway`, or to the interface of the local pod they are for */
};

/* Slots of `endpoints`: one for each value of ifindex % EA_OWN_SLOTS, then EA_MORE_SLOTS for interfaces whose
 * own slot is taken by another interface. `endpoints_more` says which slot such an interface has. */
enum ea_slots { EA_OWN_SLOTS = 65536, EA_MORE_SLOTS = 4096 };

/* One slot of `endpoints`. The agent changes `set` by one aligned 8-byte store while packets read it. It
 * writes the other fields before the hook is attached, and never while it is. */
struct ea_endpoint {
  __u64 set;
  __u32 ifindex; /* of the host-side device; another value: the slot is another interface's */
  __u32 id;      /* stable number of the endpoint: the first part of each flow key */
  __u32 flags;
  __u8 mac[6];     /* of the pod's own interface */
  __u8 gateway[6]; /* EA_EP_CHECK_NEXT_HOP: of the bridge that its other end is in */
  __be32 addr4[2]; /* 0: unused */
  __u8 addr6[2][16];
  __u8 pad[4];
};

/* What this node must know of an address: the local pod that has it, or that it is a node's. */
struct ea_address_key {
  __u8 addr[16];
};
struct ea_address {
  __u32 ifindex; /* of the host-side interface of the local pod that has the address; 0: no local pod */
  __u32 flags;   /* enum ea_address_flags */
};
enum ea_address_flags {
  EA_ADDR_OWN_NODE = 1 << 0, /* of this node: the source of masqueraded packets */
  EA_ADDR_NODE = 1 << 1,     /* of a node, this one or another */
};

/* A tunnel that nodes unwrap: a protocol, or a port of one. */
struct ea_tunnel_key {
  __be16 port; /* 0: the whole protocol */
  __u8 protocol;
  __u8 pad;
};

struct ea_source_key {
  __u32 endpoint;
  __u8 addr[16];
};

/* LPM keys. The kernel expects the prefix length first. */
struct ea_dest4_key {
  __u32 prefixlen;
  __u8 addr[4];
};
/* The IPv4 trie that packets read (trie.h): a root of 2^EA_TRIE_ROOT_BITS slots, and nodes for
 * EA_TRIE_NODE_BITS more bits each. A slot holds a class id and, above EA_TRIE_CLASS_BITS, the length of the
 * prefix that it comes from, which only the agent reads; or, with its highest bit set, the number of a node.
 * Nodes are stored in chunks of 2^EA_TRIE_CHUNK_BITS. */
enum ea_trie {
  EA_TRIE_ROOT_BITS = 14,
  EA_TRIE_NODE_BITS = 3,
  EA_TRIE_CHUNK_BITS = 14,
  EA_TRIE_CLASS_BITS = 53,
};
struct ea_dest4_node {
  __u64 slots[1 << EA_TRIE_NODE_BITS];
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
  __u64 filled;                /* bit n: words[n] is not 0 */
  __u64 words[EA_SMALL_WORDS]; /* rule n is bit n % 64 of word n / 64 */
};
struct ea_row_large {
  __u64 filled;
  __u64 words[EA_LARGE_WORDS];
};

struct ea_rule_key {
  __u64 set;
  __u32 bit;
  __u32 pad;
};
struct ea_rule {
  __u64 id;       /* hash that names the rule (53 bits) */
  __u32 tier_end; /* first bit of the next tier: Pass continues there */
  __u8 action;    /* enum ea_action */
  __u8 staged;
  __u8 log;
  __u8 dns; /* enum ea_rule_dns */
};

/* The backends of a Service address: one for each kind of backend (same class, same port). With `many`, only
 * the backends on this node: packets to the others are judged after the translation. */
struct ea_service_key {
  __u8 addr[16];
  __be16 port;
  __u8 protocol;
  __u8 pad;
};
/* Size of `service_filter`: 2^EA_FILTER_BITS bits. */
enum ea_filter { EA_FILTER_BITS = 18 };
struct ea_backend {
  __u8 addr[16];
  __be16 port;
  __u16 flags; /* enum ea_backend_flags */
};
/* OWN_NODE: the backend is on this node itself, and no hook sees packets after their translation to it. */
enum ea_backend_flags { EA_BACKEND_OWN_NODE = 1 };
struct ea_service {
  __u32 count;
  __u32 many;
  struct ea_backend backends[EA_MAX_BACKENDS];
};

#include "name_types.h"
#include "said_types.h"
#include "http_types.h"
#include "table_types.h"

/* Drops that belong to no flow: reported at most once a second for each endpoint and reason. */
struct ea_note_key {
  __u32 endpoint;
  __u32 reason;
};
struct ea_note {
  __u64 reported_ns; /* CLOCK_MONOTONIC */
  __u64 drops;
  __u64 drops_reported;
};

/* An endpoint's share of the event ring: what it wrote while the ring was filling, and what was lost. */
struct ea_share {
  __u64 tick;     /* CLOCK_MONOTONIC, in units of some 134 ms */
  __u64 lost;     /* events, ever */
  __u32 reported; /* events, in this tick */
  __u32 pad;
};

enum ea_event_type {
  EA_EVENT_VERDICT = 1, /* a flow's first verdict */
  EA_EVENT_CHANGED = 2, /* a policy change changed it, or the audit denies what was said */
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
  __u8 service[16]; /* EA_FLOW_POST_DNAT: the address before the translation; else zero */
  __be16 service_port;
  __u16 sport_wire; /* ICMP error packets and fragments: 0 */
  __u32 ifindex;
  __u64 packets_out, bytes_out, packets_in, bytes_in;
  __u64 drops;      /* dropped packets that this event reports */
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
  __u32 name; /* as struct ea_flow_name */
  __u32 name_incarnation;
};

/* A DNS message that is reported (dns_events.h). */
struct ea_dns_event {
  __u64 time_ns;  /* CLOCK_MONOTONIC */
  __u64 asked_ns; /* of an answer: when its query was sent; else 0 */
  __u64 rule;     /* that decided about a query for its name; else 0 */
  __u64 set;
  struct ea_flow_key flow;
  __u32 ifindex;
  __u32 length; /* of the message, as far as it was read; the event has EA_DNS_EVENT_BYTES of it at most */
  __u8 kind;    /* enum ea_dns_event_kind */
  __u8 family;
  __u8 verdict;
  __u8 reason;
  __u8 pad[4];
  __u8 bytes[EA_DNS_EVENT_BYTES];
};

/* What a connection said, and the verdict on it. `text`: the server name; or the method, a space, the host, a
 * space and the path. Of EA_SAID_SHORT_BYTES and less, the event ends behind so many of its bytes. */
struct ea_said_event {
  __u64 time_ns; /* CLOCK_MONOTONIC */
  __u64 rule;
  __u64 audit_rule;
  __u64 set;
  struct ea_flow_key flow;
  __u32 ifindex;
  __u16 length; /* of the text */
  __u8 kind;    /* enum ea_said */
  __u8 family;
  __u8 verdict;
  __u8 audit_verdict;
  __u8 reason;
  __u8 quic; /* it was said in QUIC */
  __u8 pad[8];
  __u8 text[EA_SAID_EVENT_BYTES];
};

/* Indices of `counters` (per CPU). Drops by reason stand at DROPS + reason. */
enum ea_counter {
  EA_COUNT_EVENTS = 1,
  EA_COUNT_EVENTS_LOST = 2,
  EA_COUNT_FLOWS_CREATED = 3,
  EA_COUNT_FLOWS_NOT_STORED = 4, /* no room in the table: judged packet by packet */
  EA_COUNT_FLOWS_CLOSED = 5,
  EA_COUNT_CLASSIFIED = 6,
  EA_COUNT_REJECTED = 7, /* answered with RST or ICMP */
  EA_COUNT_PULLED = 8,   /* headers that were not in the linear part */
  EA_COUNT_POST_DNAT_CHECKS = 9,
  EA_COUNT_FLOWS_EVICTED = 10, /* replaced by another flow */
  EA_COUNT_FLOWS_BUSY = 11,    /* locked by another for too long: the changes of a packet were lost */
  EA_COUNT_DNS_EVENTS_LOST = 12,
  EA_COUNT_SAID_EVENTS_LOST = 13,
  EA_COUNT_SAID_INSPECTED = 14, /* flows that were inspected for what they say */
  EA_COUNT_SAID_JUDGED = 15,    /* verdicts on what was said */
  EA_COUNT_SAID_NO_ROOM = 16,   /* segments and datagrams that were dropped since no buffer was free */
  EA_COUNT_SAID_DENIED = 17,    /* verdicts on what was said that deny */
  EA_COUNT_SAID_OVERSIZE = 18,  /* hellos and heads of requests that are larger than is kept */
  EA_COUNT_ECH_NO_ROOM = 19,    /* configurations of ECH that found no room */
  EA_COUNT_DROPS = 32,
  EA_COUNT_MAX = 64,
};

/* The node-wide state: the one value that changes while packets are processed and that every packet reads.
 * from_pod sets `post_dnat` with the first PARTIAL flow, the agent where there are Services and a policy. */
struct ea_state {
  __u32 epoch;
  __u32 flags;       /* enum ea_state_flags */
  __u32 post_dnat;   /* not 0: uplinks run the post-DNAT check (Services and policies exist) */
  __u32 share;       /* entries of the flow table that each endpoint is guaranteed */
  __u32 last_bucket; /* number of buckets - 1 */
  __u32 pad;
  __u64 secret[EA_SECRETS]; /* of the flow table's hash: random, made with the table */
  __u64 mapped;             /* part of the hash that all IPv4 keys share: of the mapped prefix */
};
enum ea_state_flags {
  EA_STATE_QUIET = 1 << 0,    /* no events (benchmarks) */
  EA_STATE_NO_CACHE = 1 << 1, /* classify every first packet; use no remembered decision (benchmarks) */
};

#endif
