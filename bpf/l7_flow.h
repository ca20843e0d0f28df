/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* What a flow that is inspected for what it says keeps of it, and how its inspection begins and ends. */
#ifndef EA_L7_FLOW_H
#define EA_L7_FLOW_H

#include "l7_events.h"
#include "l7_stream.h"
#include "quic_memory.h"

/* What is known of a packet's flow. */
enum {
  FLOW_KNOWN = 1,
  FLOW_INBOUND = 2,
  FLOW_CURRENT = 4, /* judged under the policies in force */
  FLOW_SAYS = 8,
  FLOW_DENIED = 16,
  FLOW_CLOSED = 32,
  FLOW_DNS = 64, /* inspected for DNS */
};

/* Whether a denied flow begins anew, and its endpoint has learned names since it was denied: the address may
 * have a name by now. Each message of ICMP begins anew, replies and errors too: they are of no connection. */
static __noinline int may_have_name_now(const struct ea_flow *flow, const struct packet *p) {
  __u32 payer = slot_of(p->payer);
  const struct ea_name_holding *h = bpf_map_lookup_elem(&name_holdings, &payer);
  const int begins = p->opens || !has_ports(p->key.protocol);
  return begins && h && READ_ONCE(h->learned) != flow->extra.name.learned;
}

/* FLOW_…, and what the flow has said, in l7_work. */
GLOBAL_FUNCTION int know_flow(const struct packet *p) {
  struct place at = {};
  struct l7_work *w = l7_work();
  if (!p || !w) return 0;
  const struct ea_entry *e = find(&p->key, &at);
  w->said = w->state = w->flags = 0;
  if (!e) return 0;
  const struct ea_flow *flow = &e->flow;
  const __u8 tcp = flow->tcp_state;
  int known = FLOW_KNOWN;
  if (flow->flags & EA_FLOW_INBOUND) known |= FLOW_INBOUND;
  if (READ_ONCE(flow->epoch) == p->epoch && READ_ONCE(flow->set) == p->set) known |= FLOW_CURRENT;
  if (flow->verdict == EA_VERDICT_DENY) known |= FLOW_DENIED;
  if (tcp & EA_TCP_CLOSED) known |= FLOW_CLOSED;
  if (tcp & EA_TCP_INSPECT) known |= tcp & EA_TCP_SAYS ? FLOW_SAYS : FLOW_DNS;
  const int datagrams = p->key.protocol == IPPROTO_UDP;
  /* That of a name which the endpoint has learned since may be another verdict. */
  if (datagrams && (known & (FLOW_DENIED | FLOW_INBOUND | FLOW_DNS)) == FLOW_DENIED &&
      (p->set & EA_SET_NAMES) && may_have_name_now(flow, p))
    known &= ~FLOW_CURRENT;
  if ((known & FLOW_SAYS) && !datagrams) {
    const struct ea_said_stream *s = &flow->extra.said;
    w->next_seq = s->next_seq;
    w->state = s->state;
    w->flags = s->flags;
    w->said = s->kind;
    w->said_length = s->body;
    w->said_more = s->left;
  } else if (!(known & (FLOW_DNS | FLOW_INBOUND))) {
    const struct ea_flow_name *n = &flow->extra.name;
    w->said = n->said;
    w->said_length = n->said_length;
    w->said_more = n->said_more;
  }
  __builtin_memcpy(w->units, flow->side_record, 24);
  w->units[3] = w->said_more;
  return same_state(state_of(e), at.seen) ? known : 0;
}

/* The byte of a text that a symbol stands for. */
static __always_inline __u8 byte_of_symbol(__u32 symbol) {
  return symbol == EA_SYMBOL_DOT      ? '.'
         : symbol == EA_SYMBOL_HYPHEN ? '-'
         : symbol == EA_SYMBOL_LINE   ? '_'
         : symbol >= EA_SYMBOL_DIGIT  ? '0' + symbol - EA_SYMBOL_DIGIT
         : symbol >= EA_SYMBOL_LETTER ? 'a' + symbol - EA_SYMBOL_LETTER
                                      : '?';
}

/* Unpacks a symbol of l7_work.units into texts[TEXT_SERVER], whose last byte is the first. */
static long unpack_step(__u32 i, const __u32 *length) {
  struct name_work *names = name_work();
  const struct l7_work *w = l7_work();
  if (!names || !w || i >= *length) return 1;
  const __u32 of = i / 3, unit = ((const __u16 *)w->units)[of & 15];
  const __u32 rest = i - of * 3;
  const __u32 above = rest == 0   ? unit
                      : rest == 1 ? unit / EA_NAME_SYMBOLS
                                  : unit / (EA_NAME_SYMBOLS * EA_NAME_SYMBOLS);
  const __u32 at = *length - 1 - i;
  names->texts[TEXT_SERVER].bytes[at & 63] = byte_of_symbol(above % EA_NAME_SYMBOLS);
  return 0;
}

/* Makes texts[TEXT_SERVER] of what is in l7_work.units: said_length bytes, EA_SAID_TEXT at most. */
GLOBAL_FUNCTION int unpack_said(void) {
  const struct ea_name_state_words *st = name_words();
  struct name_work *names = name_work();
  const struct l7_work *w = l7_work();
  if (!st || !names || !w || w->said_length > EA_SAID_TEXT) return 0;
  struct name_text *t = &names->texts[TEXT_SERVER];
  __u32 length = w->said_length;
  t->length = length;
  __builtin_memset(t->bytes, 0, EA_SAID_TEXT + 8);
  bpf_loop(EA_SAID_TEXT, unpack_step, &length, 0);
  t->hash = hash_text(t, st);
  return 1;
}

/* Puts what a flow has said before, in l7_work, into said_work. 0: it has said nothing. */
static __always_inline int recall_said(void) {
  const struct l7_work *w = l7_work();
  if (!w || !w->said || w->said == EA_SAID_HTTP) return 0;
  struct said_work *said = begin_saying(w->said, w->said_length != 0);
  if (!said) return 0;
  if (w->said_length == EA_SAID_HIDDEN)
    said->fixed = EA_CLASS_HIDDEN;
  else if (w->said_length == EA_SAID_LONG)
    said->classes[0] = w->said_more;
  else if (w->said_length && w->said_length <= EA_SAID_TEXT && unpack_said())
    said->classes[0] = class_of_text(EA_CELL_SERVER);
  return 1;
}

/* Puts what is kept of what a flow says into l7_work: said_length, said_more, and units. */
GLOBAL_FUNCTION int pack_said(__u32 kind, __u64 class_id) {
  struct name_work *names = name_work();
  struct l7_work *w = l7_work();
  if (!names || !w) return 0;
  w->said_length = 0;
  w->said_more = 0;
  w->units[0] = w->units[1] = w->units[2] = 0;
  if (kind != EA_SAID_TLS) return 0;
  w->said_length = w->hidden ? EA_SAID_HIDDEN : w->named == TLS_NAMELESS ? 0 : EA_SAID_ODD;
  if (w->hidden || w->named == TLS_NAMELESS) return 0;
  if (w->named == TLS_ODDLY_NAMED) return 0;
  const __u32 length = names->texts[TEXT_SERVER].length;
  w->said_length = EA_SAID_LONG;
  w->said_more = class_id;
  if (length > EA_SAID_TEXT) return 0;
  pack_name(TEXT_SERVER);
  const __u64 *units = (const __u64 *)names->packed.units;
  w->said_length = length;
  w->said_more = units[3];
  __builtin_memcpy(w->units, units, 24);
  return 0;
}

/* Keeps in an inspected flow what it has said: a hello, in l7_work and texts[TEXT_SERVER], or none. */
GLOBAL_FUNCTION int keep_said(struct ea_flow *flow, __u32 kind, __u64 class_id) {
  struct l7_work *w = l7_work();
  if (!flow || !w) return 0;
  struct ea_said_stream *s = said_stream(flow);
  pack_said(kind, class_id);
  s->kind = kind;
  s->body = w->said_length;
  s->left = w->said_more;
  __builtin_memcpy(flow->side_record, w->units, 24);
  return 0;
}

/* The same in a flow of UDP. One that was allowed before, and says another name now, carries two connections: then
 * neither name is kept, and where policies change, it is judged as one that no pattern matches. */
GLOBAL_FUNCTION int keep_said_in_datagrams(struct ea_flow *flow, __u32 kind, __u64 class_id) {
  struct l7_work *w = l7_work();
  if (!flow || !w) return 0;
  struct ea_flow_name *n = &flow->extra.name;
  const __u64 *before = (const __u64 *)flow->side_record;
  pack_said(kind, class_id);
  const int same = n->said_length == w->said_length && n->said_more == w->said_more &&
                   (w->said_length > EA_SAID_TEXT ||
                    (before[0] == w->units[0] && before[1] == w->units[1] && before[2] == w->units[2]));
  if (kind == EA_SAID_TLS && n->said == EA_SAID_TLS && flow->verdict == EA_VERDICT_ALLOW && !same) {
    w->said_length = w->hidden || n->said_length == EA_SAID_HIDDEN ? EA_SAID_HIDDEN : EA_SAID_ODD;
    w->said_more = 0;
  }
  n->said = kind;
  n->said_length = w->said_length;
  n->said_more = w->said_more;
  __builtin_memcpy(flow->side_record, w->units, 24);
  return 0;
}

/* From now on the flow is inspected for what it says, from its SYN on, which this packet is. */
static __always_inline void hear_flow(struct ea_flow *flow, const struct packet *p) {
  const __u32 begins = bpf_ntohl(p->seq) + 1;
  if (flow->tcp_state & EA_TCP_SAYS) l7_drop(said_stream(flow), p->key.endpoint);
  __builtin_memset(&flow->extra, 0, sizeof(flow->extra));
  flow->extra.said.next_seq = flow->extra.said.acked_seq = flow->extra.said.base_seq = begins;
  flow->extra.said.flags = EA_SAID_SYNCED | (p->says == SAID_AUDITS ? EA_SAID_AUDITED : 0);
  flow->tcp_state |= EA_TCP_INSPECT | EA_TCP_SAYS;
  count(EA_COUNT_SAID_INSPECTED);
}

/* After a change of policy another verdict may depend on what an inspected flow says. */
static __always_inline void hear_for(struct ea_flow *flow, const struct packet *p) {
  if (p->key.protocol != IPPROTO_TCP || !(flow->tcp_state & EA_TCP_SAYS)) return;
  if (p->says == SAID_AUDITS)
    said_stream(flow)->flags |= EA_SAID_AUDITED;
  else if (p->says)
    said_stream(flow)->flags &= ~EA_SAID_AUDITED;
}

/* Ends the inspection of a flow; what it said stays in it. */
GLOBAL_FUNCTION int stop_hearing(const struct packet *p, struct ea_flow *flow) {
  if (!p || !flow || !(flow->tcp_state & EA_TCP_SAYS)) return 0;
  if (p->key.protocol == IPPROTO_UDP) {
    struct quic_state *st = quic_of(flow);
    if (quic_use(st, p->key.endpoint)) quic_rest(st, p->key.endpoint, 0);
    flow->extra.name.quic[0] = flow->extra.name.quic[1] = 0;
    flow->tcp_state &= ~(EA_TCP_INSPECT | EA_TCP_SAYS);
    return 0;
  }
  struct ea_said_stream *s = said_stream(flow);
  const __u8 said = s->kind, length = s->body;
  const __u64 more = s->left;
  l7_drop(s, p->key.endpoint);
  __builtin_memset(&flow->extra, 0, sizeof(flow->extra));
  flow->extra.name.said = said;
  flow->extra.name.said_length = length;
  flow->extra.name.said_more = more;
  if (p->set & EA_SET_NAMES) {
    struct scratch *scratch_memory = scratch();
    struct packet *own = this_packet();
    if (scratch_memory && own) {
      __builtin_memcpy(own->target.addr, p->key.remote, 16);
      collect_names(p->key.endpoint, &own->target);
      note_learned(slot_of(p->payer));
      name_flow(flow);
    }
  }
  flow->tcp_state &= ~(EA_TCP_INSPECT | EA_TCP_SAYS);
  return 0;
}

/* The decision about what cannot be judged. */
static __always_inline void deny_unheard(struct packet *p, __u8 reason) {
  p->said_mode = SAID_KNOWN; /* no decision takes the place of this one */
  p->decision = (struct decision){.verdict = EA_VERDICT_DENY,
                                  .reason = reason,
                                  .audit_verdict = p->set & EA_SET_STAGED ? EA_VERDICT_DENY : 0};
}

/* Writes the decision in p->decision into its flow, and tells of it; `type`: of the event, 0: none. */
GLOBAL_FUNCTION int settle(struct __sk_buff *skb, struct packet *p, __u32 type) {
  if (!p) return 0;
  struct ea_flow *flow = held_flow(p);
  if (!flow) return 0;
  const struct decision *d = &p->decision;
  const __u8 verdict = d->verdict;
  if (d->service)
    flow->flags |= EA_FLOW_SERVICE;
  else
    flow->flags &= ~EA_FLOW_SERVICE;
  flow->rule = d->rule;
  flow->audit_rule = d->audit_rule;
  flow->audit_verdict = d->audit_verdict;
  flow->reason = d->reason;
  flow->verdict = verdict;
  WRITE_ONCE(flow->set, p->set);
  WRITE_ONCE(flow->epoch, p->epoch);
  if (verdict == EA_VERDICT_DENY) {
    stop_hearing(p, flow);
    flow->tcp_state |= EA_TCP_CLOSED; /* both sides get a reset */
    account_drop(flow, p);
    flow->reported_ns = bpf_ktime_get_ns();
    count(EA_COUNT_DROPS + (flow->reason & 31));
  }
  return type ? report(skb, p, flow, type) : 0;
}

#endif
