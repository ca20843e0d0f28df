/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of types.h: what connections say of themselves, and how it is judged (said.h). */
#ifndef EA_SAID_TYPES_H
#define EA_SAID_TYPES_H

/* What a connection says. OTHER: neither a TLS or QUIC hello nor an HTTP/1 request. */
enum ea_said { EA_SAID_NONE = 0, EA_SAID_OTHER = 1, EA_SAID_TLS = 2, EA_SAID_HTTP = 3 };

/* Rows that what is said adds: that of the name, and those of the fields of a request. */
enum ea_said_sizes {
  EA_SAID_ROWS = 33,
  EA_SAID_BUFFERS = 256,        /* of l7_memory */
  EA_SAID_BUFFER_BYTES = 16384, /* more is not kept of a hello, or of the head of a request */
  EA_SAID_EVENT_BYTES = 512,
  EA_SAID_SHORT_BYTES = 128, /* most texts are no longer: their events are cut off there */
};

/* The state of a flow that is inspected for what it says, in `extra`. Sequence numbers in host order. Before a
 * buffer is taken, `stamp` is the first of the peer's data. */
struct ea_said_stream {
  __u32 next_seq;  /* of what comes next from the endpoint: everything before was judged or is kept */
  __u32 acked_seq; /* of what the peer waits for, as it said last */
  __u32 base_seq;  /* of the first byte of the buffer */
  __u32 stamp;     /* of the buffer when it was taken; another one: it was taken away */
  __u16 buffer;    /* of `l7_memory`, plus 1; 0: none */
  __u16 have;      /* bytes in it */
  __u8 state;      /* enum ea_said_state */
  __u8 flags;      /* enum ea_said_flags */
  __u8 kind;       /* enum ea_said */
  __u8 body;       /* HTTP: where in a body the stream is (http_body.h). TLS: as ea_flow_name.said_length */
  __u64 left;      /* HTTP: bytes of the body, or of the chunk, that are still to come. TLS: as said_more */
};
/* Each state is for the endpoint's stream. */
enum ea_said_state {
  EA_SAID_HANDSHAKE = 0, /* no data has passed */
  EA_SAID_PENDING = 1,   /* a prefix of a hello or of a request has passed */
  EA_SAID_JUDGED = 2,    /* TLS: a hello was judged; the next record says whether another one follows */
  EA_SAID_DONE = 3,      /* nothing more is to be judged; what was may not be acknowledged yet */
};
enum ea_said_flags {
  EA_SAID_SYNCED = 1 << 0,   /* next_seq is valid */
  EA_SAID_ACCEPTED = 1 << 1, /* the peer's SYN acknowledged the endpoint's */
  EA_SAID_AUDITED = 1 << 2,  /* only the audit verdict depends on it: nothing is dropped for it */
  EA_SAID_EARLY = 1 << 3,    /* the hello announced early data */
  EA_SAID_ANSWERED = 1 << 4, /* after EARLY: the peer has accepted the hello */
  EA_SAID_SECOND = 1 << 5,   /* with PENDING: it is the second hello of its connection */
  EA_SAID_CHANGED = 1 << 6,  /* ChangeCipherSpec stood behind a hello: handshake records may be encrypted */
  EA_SAID_LOOSE = 1 << 7,    /* with AUDITED: what was heard was not kept until it was acknowledged */
};

#endif
