/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of types.h: what is remembered of names (names.h), and how they are matched. */
#ifndef EA_NAME_TYPES_H
#define EA_NAME_TYPES_H

enum ea_name_sizes {
  EA_NAME_TEXT = 256,   /* bytes of a name's text; names have 253 at most */
  EA_NAME_SYMBOLS = 40, /* of a text (EA_SYMBOL_…): the third power of it fits into 16 bits */
  EA_NAME_UNITS = 88,   /* of a text that is packed, three symbols each; names have 85 at most */
  EA_NAME_LINKS = 2,    /* names in one page of an address: nearly every address has one name */
  EA_NAME_PAGES = 48,   /* pages of an address: 96 names */
  EA_NAME_SECRETS = 12, /* of the hashes */
  EA_ECH_CONFIGS = 16,  /* of ECH, that are remembered for each endpoint */
};

/* State of a name or a page. Above the flags, the incarnation: a number that each new use of the slot
 * raises. */
enum ea_name_state {
  EA_NAME_VALID = 1 << 0,
  EA_NAME_LEAVING = 1 << 1, /* the agent is about to free it; whoever renews it clears this flag */
  EA_NAME_BUSY = 1 << 2,    /* a program is filling it; with VALID: is giving it its classes */
  EA_NAME_NEXT = 1 << 3,    /* one incarnation */
};

enum ea_name_flags {
  EA_NAME_ASKED = 1 << 0,  /* the endpoint asked for it; otherwise it is an alias, the target of a CNAME */
  EA_NAME_SEEDED = 1 << 1, /* the agent resolved it (--name-seed) */
};

/* The bytes of a text, as the matcher reads them and as they are packed. 2 … 27 are a … z, 28 … 37 are
 * 0 … 9. */
enum ea_symbols {
  EA_SYMBOL_OTHER = 0, /* '?': a byte that no pattern matches */
  EA_SYMBOL_DOT = 1,
  EA_SYMBOL_LETTER = 2,
  EA_SYMBOL_DIGIT = 28,
  EA_SYMBOL_HYPHEN = 38,
  EA_SYMBOL_LINE = 39, /* '_' */
};

/* A name that an endpoint learned. A slot of `names`; its bucket is in `name_buckets`. Four cache lines; what a
 * packet is judged by is in the first. */
struct ea_name {
  __u32 state;       /* enum ea_name_state, incarnation */
  __u32 endpoint;    /* id of the endpoint that learned it */
  __u64 hash;        /* keyed, of the text */
  __u64 class_id;    /* of the name that was asked for, in `generation`; 0: no pattern matches */
  __u64 alias_class; /* of the name as an alias */
  __u32 generation;  /* of the matcher that gave the classes; another one: they are unknown */
  __u32 payer;       /* slot in `endpoints` of the endpoint that pays for it */
  __u32 learned_s;   /* CLOCK_BOOTTIME, seconds: first and last answer */
  __u32 answered_s;
  __u32 expires_s; /* when the last of its addresses expires */
  __u16 length;    /* of the text */
  __u8 flags;      /* enum ea_name_flags */
  __u8 pad;
  __u8 resolver[16]; /* who gave the last answer */
  __be16 resolver_port;
  __u16 pad2[3];
  /* The text, lower case, without the final dot. From its last byte on, three symbols in a unit: a + 40 * b +
   * 1600 * c. Behind its first byte, zeros up to a multiple of four units. */
  __u16 text[EA_NAME_UNITS];
};

/* A name of an address. */
struct ea_name_link {
  __u64 life;  /* incarnation of the name (state / EA_NAME_NEXT) in the high half, and when the link expires
               * (CLOCK_BOOTTIME, seconds) in the low one; 0: free. Changed by one atomic store */
  __u32 name;  /* slot in `names`; EA_LINK_ALIAS: the endpoint asked for another name */
  __u32 ttl_s; /* as answered */
};
#define EA_LINK_ALIAS (1u << 31)

/* Some of the names under which an endpoint learned an address. A slot of `name_pages`. A cache line. */
struct ea_name_page {
  __u32 state;
  __u32 endpoint;
  __u32 payer;
  __u16 page; /* 0 … EA_NAME_PAGES - 1 */
  __u16 more; /* not 0: there may be more names of the same address in the next page */
  __u8 addr[16];
  struct ea_name_link links[EA_NAME_LINKS];
};

/* What an endpoint holds of both tables, by its slot in `endpoints`. */
struct ea_name_holding {
  __u32 names;
  __u32 pages;
  __u32 learned;   /* grows with each address that is learned: denied flows are then judged again */
  __u32 refused;   /* names and addresses that found no room */
  __u32 overflow;  /* addresses with more names than EA_NAME_PAGES hold */
  __u32 untrusted; /* answers of others than the trusted resolvers, and answers that nobody asked for */
  /* Until when a configuration of ECH counts that found no room (ech.h), as ea_ech_config.life has it, and of which
   * endpoint: the slot may be another's by then. */
  __u32 ech_full_s;
  __u32 ech_full_of;
};

/* A configuration of Encrypted ClientHello that an endpoint was given (ech.h). */
struct ea_ech_config {
  __u64 name; /* keyed hash of its public name, as of a text; 0: no hello can say it */
  __u64 life; /* until when it counts (CLOCK_BOOTTIME, seconds) in the low half; config_id in the high one */
};
struct ea_ech {
  struct ea_ech_config configs[EA_ECH_CONFIGS];
};

/* What the program `learn` reads behind an Ethernet header: an address to learn, and its name behind this. */
struct ea_learn {
  __u32 endpoint;
  __u32 ifindex; /* of the endpoint's host-side interface: it pays */
  __u32 ttl_s;
  __u32 alias; /* not 0: an alias */
  __u8 addr[16];
  __u8 resolver[16];
  __be16 resolver_port;
  __u8 flags;  /* enum ea_name_flags */
  __u8 length; /* of the text: lower case, without the final dot */
  __u8 pad[4];
};

/* The state of names: one entry. The agent writes all of it before it attaches the hooks; `matcher` by one
 * aligned store at any time. */
struct ea_name_state_words {
  __u64 matcher; /* generation in the high half; the root of the matcher in force in the low one (0: none) */
  __u32 ttl_min_s;        /* --name-ttl-min */
  __u32 ttl_extra_s;      /* --name-ttl-extra */
  __u32 last_name_bucket; /* number of buckets - 1 */
  __u32 last_page_bucket;
  __u32 name_share; /* names, and pages, that each endpoint is guaranteed */
  __u32 page_share;
  __u32 flags;                   /* enum ea_name_options */
  __u32 cpus;                    /* buffers of `dns_memory` that belong to a CPU; streams have the others */
  __u64 secret[EA_NAME_SECRETS]; /* random, made with the tables */
};
enum ea_name_options {
  EA_DNS_REFUSE_NXDOMAIN = 1 << 0, /* --dns-refusal; neither: REFUSED */
  EA_DNS_REFUSE_NODATA = 1 << 1,
  EA_DNS_STRIP_HTTPS = 1 << 2, /* --https-records strip: NODATA for type 65 */
  EA_DNS_DENY_HTTPS = 1 << 3,  /* deny: refused like a denied name */
  EA_DNS_EVENTS_DENIED = 1 << 4,
  EA_DNS_EVENTS_ALL = 1 << 5,
  EA_ECH_DENY_KNOWN = 1 << 6, /* --ech deny-known */
};

/* Why a DNS message is reported. */
enum ea_dns_event_kind {
  EA_DNS_REFUSED = 1,   /* a query that no rule allows, or that cannot be read */
  EA_DNS_ASKED = 2,     /* a query that passed */
  EA_DNS_ANSWERED = 3,  /* an answer of a trusted resolver that was asked for */
  EA_DNS_WITHHELD = 5,  /* a query for records that --https-records withholds */
  EA_DNS_UNTRUSTED = 4, /* an answer that does not: of another than the trusted resolvers, or unasked */
};
enum ea_dns_event_size { EA_DNS_EVENT_BYTES = 1232 };

/* The matcher: an automaton over a name's bytes, from the last to the first (src/names/automaton.ts). A state
 * is the index of its first cell. Cells are 8 bytes, in chunks of 2^EA_CELL_CHUNK_BITS:
 *   state + 0                      owner = state, next = where every label byte without a cell of its own
 *                                  leads (0: nowhere)
 *   state + symbol (1 … 39)        owner = state: `next` is where this symbol leads; another owner: no cell
 *   state + EA_CELL_CLASS          the class of a name that ends here, as one __u64 (0: none)
 *   state + EA_CELL_ALIAS          the same for an alias
 *   state + EA_CELL_QUERY          the same for the name in a query
 *   state + EA_CELL_SERVER         the same for a server name, in TLS or QUIC
 *   state + EA_CELL_HOST           the same for the host of an HTTP request
 * Symbols are those of enum ea_symbols; EA_SYMBOL_OTHER leads nowhere. A state without an accepting class has
 * no class cells: bit 31 of the header's `owner` says that it has. */
enum ea_cells {
  EA_CELL_CHUNK_BITS = 17,
  EA_CELL_CHUNKS = 256,
  EA_CELL_CLASS = 40,
  EA_CELL_ALIAS = 41,
  EA_CELL_QUERY = 42,
  EA_CELL_SERVER = 43,
  EA_CELL_HOST = 44,
  EA_CELL_SPAN = 45, /* cells that a state may touch */
};
#define EA_CELL_ACCEPTS (1u << 31)
struct ea_cell {
  __u32 owner;
  __u32 next;
};

/* A trusted resolver: the key is a struct ea_service_key with protocol 0. */
enum ea_dns_server_flags { EA_DNS_TRUSTED = 1 };

/* Queries of a UDP flow, in the flow itself (dns_asked.h). `flags` stands where struct ea_dns_stream has it. */
struct ea_flow_queries {
  __u32 asked[2];  /* CLOCK_MONOTONIC, in units of 65,536 ns */
  __u8 flags;      /* EA_STREAM_JUDGED */
  __u8 teaches[2]; /* the rule that allowed it names its servers */
  __u8 pad[5];
  __u64 keys[2]; /* keyed, of the question and its id; 0: free */
};

/* Side record of a query (EA_KIND_QUERY): that it is there, and when it was asked. Its key: the endpoint's
 * flow key with `local` replaced by the question (hash, id, type). */
struct ea_query {
  __u64 asked_ns; /* CLOCK_MONOTONIC */
  __u16 teaches;  /* the rule that allowed it names its servers */
  __u16 pad[7];
};

/* One direction of DNS over TCP, in a flow's `streams`: what comes next, and the message that is not whole
 * yet. */
struct ea_dns_stream {
  __u32 next_seq; /* host order */
  __u16 buffer;   /* of `dns_memory`, plus 1; 0: none */
  __u16 have;     /* bytes of the message that have arrived, behind its length field */
  __u8 flags;     /* enum ea_stream_flags */
  __u8 first;     /* EA_STREAM_HALF: the first byte of the length field */
  __u16 length;   /* EA_STREAM_LENGTH: of the message, host order */
  __u32 stamp;    /* of the buffer when it was taken: another one: it was taken away */
};
enum ea_stream_flags {
  EA_STREAM_SYNCED = 1 << 0, /* next_seq is valid */
  EA_STREAM_LOST = 1 << 1,   /* not followed any more: its buffer was taken away, or it cannot be read */
  EA_STREAM_HALF = 1 << 2,   /* a length field was cut in two */
  /* Of what the endpoint sends: a rule asks for names, each query is judged. `stamp` is what the peer has
   * acknowledged. */
  EA_STREAM_JUDGED = 1 << 4,
  EA_STREAM_ACCEPTED = 1 << 5, /* with JUDGED: the peer's SYN acknowledged the endpoint's */
  EA_STREAM_ENDED = 1 << 6,    /* with LOST: the endpoint has got a reset (unread.h) */
  EA_STREAM_LENGTH = 1 << 3,   /* the length field has been read, the message is not whole yet */
};
/* Buffers of `dns_memory` that belong to streams; those of the CPUs stand behind them. */
enum ea_dns_memory { EA_DNS_STREAMS = 32 };

#endif
