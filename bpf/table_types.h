/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of types.h: what the flow table consists of (table.h). */
#ifndef EA_TABLE_TYPES_H
#define EA_TABLE_TYPES_H

/* The key of a flow, as the endpoint sees it: `local` is the endpoint's side in both directions. */
struct ea_flow_key {
  __u8 local[16];
  __u8 remote[16];
  __be16 local_port;  /* ICMP echo and the like: the identifier */
  __be16 remote_port; /* ICMP: type and code of the request */
  __u32 endpoint;
  __u8 protocol;
  __u8 opened_remotely; /* ICMP only: the peer asked; distinguishes its echo id 7 from ours */
  __u16 kind;           /* enum ea_kind; for fragments, enum ea_direction in the high byte */
};

enum ea_flow_flags {
  EA_FLOW_INBOUND = 1 << 0,      /* opened by a peer, to the endpoint */
  EA_FLOW_POST_DNAT = 1 << 1,    /* judged by the post-DNAT check, for another endpoint */
  EA_FLOW_SEEDED = 1 << 2,       /* taken from the pod's sockets at attachment */
  EA_FLOW_CONFIRMED = 1 << 3,    /* inbound and answered: among the last to be replaced */
  EA_FLOW_MASQUERADED = 1 << 4,  /* masqueraded packets use this key: each may be another pod's */
  EA_FLOW_REPORTED = 1 << 7,     /* inbound, not confirmed yet, but reported: the endpoint sent on it */
  EA_FLOW_SERVICE = 1 << 6,      /* judged by the backends of a Service, not by the address itself */
  EA_FLOW_PEER_IS_NODE = 1 << 5, /* the peer has the node's address: forwarded packets from it are checked */
};

enum ea_tcp_state {
  EA_TCP_NONE = 0,
  EA_TCP_SYN = 1,
  EA_TCP_OPEN = 2,
  EA_TCP_FIN_OUT = 4, /* bits from here on */
  EA_TCP_FIN_IN = 8,
  EA_TCP_CLOSED = 16,
  EA_TCP_INSPECT = 32, /* of any protocol: each packet is read, so none takes the fast path */
  EA_TCP_SAYS = 64,    /* with INSPECT: for what the connection says, not for DNS */
};

/* The name under which a flow's address was judged, and what the flow said of itself (says.h): a policy change
 * judges that again. The text of a server name is packed as in struct ea_name: the last units in
 * ea_flow.side_record, what is left of it in `said_more`. */
struct ea_flow_name {
  __u32 name;        /* slot in `names` */
  __u32 incarnation; /* 0: there is none */
  __u32 learned;     /* ea_name_holding.learned when the flow was judged */
  __u8 said;         /* enum ea_said; EA_SAID_NONE: nothing was asked for, or it was not seen */
  __u8 said_length;  /* of the text; 0: no name; EA_SAID_LONG, … */
  __u16 pad;
  __u64 said_more; /* EA_SAID_LONG: the class of the name */
  __u32 quic[2];   /* EA_TCP_SAYS over UDP: struct quic_state (quic_memory.h) */
};
/* More than EA_SAID_TEXT: only the class was kept. ODD: a name that no pattern matches. */
enum ea_said_lengths { EA_SAID_TEXT = 48, EA_SAID_HIDDEN = 253, EA_SAID_ODD = 254, EA_SAID_LONG = 255 };
union ea_flow_extra {
  struct ea_flow_name name;
  struct ea_dns_stream streams[2]; /* EA_TCP_INSPECT, TCP: what the endpoint sends, and what it receives */
  struct ea_said_stream said;      /* EA_TCP_SAYS, TCP; over UDP it is `name` */
  struct ea_flow_queries queries;  /* EA_TCP_INSPECT, UDP */
};

/* The value of an entry: a flow, or a side record (enum ea_kind). It stands behind its key in struct
 * ea_entry. By cache lines:
 *   1  with the key: what the verdict on a known packet depends on
 *   2  what a known packet writes. The counters belong to the CPU that had the direction's first packet: it
 *      alone adds to them, without a locked instruction. The other CPUs add to `shared_*`
 *   3  the shared counters, and a name or the state of DNS over TCP
 *   4  what is read when an event is written
 * `owner`: with EA_FLOW_POST_DNAT, the endpoint id of the client; of a flow that the endpoint opened, ~epoch
 * in which a reply to it was last checked. */
struct ea_flow {
  __u32 epoch;
  __u8 verdict;
  __u8 audit_verdict; /* EA_VERDICT_NONE where the set has no staged rules */
  __u8 reason;
  __u8 flags;
  __u64 set;

  __u64 packets_out; /* from the endpoint, passed */
  __u64 bytes_out;   /* L3 bytes */
  __u64 packets_in;
  __u64 bytes_in;
  __u64 last_jiffies; /* when the last packet passed, in either direction */
  __u64 created_ns;   /* CLOCK_MONOTONIC */
  __u16 cpu_out;      /* the CPU that owns these counters; EA_NO_CPU: none yet */
  __u16 cpu_in;
  __u8 tcp_state;
  __u8 tcp_flags; /* of all packets, ORed */
  __u8 kind;      /* enum ea_kind */
  __u8 worthless; /* it was stored as such: see struct ea_holding */
  __u32 owner;    /* see above */
  __u32 payer;    /* slot in `endpoints` of the endpoint whose share the entry uses */

  __u64 shared_packets_out;
  __u64 shared_bytes_out;
  __u64 shared_packets_in;
  __u64 shared_bytes_in;
  union ea_flow_extra extra;

  __u64 rule;        /* id of the deciding rule, 0 if none */
  __u64 audit_rule;  /* the same with the staged rules in force */
  __u64 drops;       /* packets dropped since the flow began */
  __u64 reported_ns; /* of the last drop event */
  __u64 drops_reported;
  __u8 side_record[24]; /* content of a side record; of a flow, see struct ea_flow_name */
};
enum ea_cpu { EA_NO_CPU = 0xffff };

/* The direction of a fragment. FORWARDED: forwarded through an uplink. Such fragments have a separate key,
 * because the node numbers its own fragments independently of those that it forwards. */
enum ea_direction { EA_DIRECTION_OUT = 0, EA_DIRECTION_IN = 1, EA_DIRECTION_FORWARDED = 2 };

/* Kinds of entries. All but FLOW are side records. */
enum ea_kind { EA_KIND_FLOW = 0, EA_KIND_PENDING = 1, EA_KIND_FRAGMENT = 2, EA_KIND_QUERY = 3 };

/* One entry of the flow table: four cache lines (table.h). */
struct ea_entry {
  struct ea_flow_key key;
  __u32 state; /* enum ea_entry_state; above it the entry's generation */
  struct ea_flow flow;
};
enum ea_entry_state {
  EA_ENTRY_LOCKED = 1 << 0, /* a program changes it */
  EA_ENTRY_VALID = 1 << 1,  /* its key is valid; not set and LOCKED: it is getting another key */
  EA_ENTRY_NEXT = 1 << 2,   /* one generation */
};

/* Results of the program `seed`. */
enum ea_seeded { EA_SEED_REFUSED = 0, EA_SEED_ENTERED = 1, EA_SEED_KNOWN = 2 };

/* A bucket: it says which of the entries bucket * EA_WAYS to bucket * EA_WAYS + EA_WAYS - 1 may hold a key,
 * by tags of the keys' hashes. One cache line. */
enum ea_table { EA_WAYS = 8, EA_SECRETS = 12 };
struct ea_bucket {
  __u32 lock;          /* held while a key is inserted whose first bucket this is */
  __u32 tags[EA_WAYS]; /* 0: the way is free */
  __u32 pad[7];
};

/* Entries of the flow table that an endpoint pays for, by its slot in `endpoints`. A cache line, or half of
 * one. */
struct ea_holding {
  __u32 entries;
  __u32 worthless; /* of these, stored as worth nothing (room.h) */
  __u32 pad[6];
};

/* EA_KIND_PENDING, in `side_record`: the Service to which a client's PARTIAL flow goes. The key is the
 * client's, without a remote address or port. */
struct ea_pending {
  __u8 service[16]; /* the address before the translation */
  __be16 service_port;
  __u16 pad[3];
};

/* EA_KIND_FRAGMENT, in `side_record`: a datagram's first fragment. The key has the datagram's id in place of
 * ports. */
struct ea_fragment {
  __be16 local_port; /* as in the flow's key; later fragments do not carry them */
  __be16 remote_port;
  __be16 port;      /* as rules see it */
  __u16 header_end; /* bytes up to the end of the L4 header; a later fragment must not overlap them */
  __u8 protocol;
  __u8 opened_remotely;
  __u8 passed;
  __u8 pad[13];
};

#endif
