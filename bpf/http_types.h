/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* A part of types.h: how the fields of HTTP requests are matched (http_rules.h). */
#ifndef EA_HTTP_TYPES_H
#define EA_HTTP_TYPES_H

enum ea_http_sizes {
  EA_HTTP_STEPS = 32, /* of a program; each adds one row to those that count */
  EA_HTTP_NAME = 56,  /* bytes of a header's name that a rule asks for */
  EA_HTTP_CELL = 64,  /* bytes; what an automaton consists of begins at multiples of it */
  EA_HTTP_CELLS = 65536,
};

/* What an automaton reads. PATH: with the query, as it was sent. HOST: as it was sent, with its port. */
enum ea_http_field { EA_HTTP_METHOD = 0, EA_HTTP_PATH = 1, EA_HTTP_HOST = 2, EA_HTTP_HEADER = 3 };

/* A step: an automaton walks over one field, byte by byte, and the state in which it ends says which class the
 * field has. The automaton is in `http_cells`, in four parts, each given by its first cell:
 *   bytes    __u8 [256]: class of a byte, below `classes`
 *   next     __u16 [states * classes]: the state behind state * classes + class
 *   accepts  __u16 [states]: number of the set of regular expressions that match a text that ends in the state
 *   ids      __u64 [sets]: class id of such a set, whose row says which rules that leaves
 * State 0 is dead: no byte leads out of it. Out of the states up to `settled`, no byte leads that the field can have. */
struct ea_http_step {
  __u64 absent; /* class id if the request has no such field */
  __u32 bytes;
  __u32 next;
  __u32 accepts;
  __u32 ids;
  __u16 classes;
  __u16 start; /* the state in which a walk begins */
  __u8 field;  /* enum ea_http_field */
  __u8 length; /* HEADER: of the name, 1 to EA_HTTP_NAME */
  __u16 states;
  __u8 name[EA_HTTP_NAME]; /* HEADER: in lower case; behind it zeros */
  __u32 sets;
  __u32 settled;
};

/* What a policy set asks of requests. */
struct ea_http_program {
  __u32 count;    /* of steps */
  __u32 no_hosts; /* not 0: no rule asks for the host by patterns of names */
  struct ea_http_step steps[EA_HTTP_STEPS];
};

/* All automata, as one value: then a look-up is not needed for each byte. */
struct ea_http_cells {
  __u8 bytes[EA_HTTP_CELLS * EA_HTTP_CELL];
};

#endif
