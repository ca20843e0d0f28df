/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* Hellos that are really encrypted, by what ech.h remembers. The server that they name is not known; where the verdict
 * depends on it, they are denied. */
#ifndef EA_L7_ECH_H
#define EA_L7_ECH_H

#include "l7_flow.h"
#include "tls.h"

/* Whether the hello that was read last is of a configuration that the endpoint was given: the rule of ech.h. The hello
 * is in l7_work, its name in texts[TEXT_SERVER]. */
GLOBAL_FUNCTION int is_known_ech(const struct packet *p) {
  const struct ea_name_state_words *st = name_words();
  const struct name_work *names = name_work();
  const struct l7_work *w = l7_work();
  if (!p || !st || !names || !w || !w->ech || !(st->flags & EA_ECH_DENY_KNOWN)) return 0;
  const __u32 now = seconds(), id = w->ech_id;
  const struct ea_name_holding *h = name_holding(slot_of(p->payer));
  __u32 endpoint = p->key.endpoint;
  if (h && READ_ONCE(h->ech_full_of) == endpoint && READ_ONCE(h->ech_full_s) > now) return 1;
  const struct ea_ech *known = bpf_map_lookup_elem(&ech_known, &endpoint);
  if (!known) return 0;
  const __u64 name = w->named == TLS_NAMED ? names->texts[TEXT_SERVER].hash : 0;
#pragma clang loop unroll(disable)
  for (__u32 i = 0; i < EA_ECH_CONFIGS; i++) {
    const struct ea_ech_config *c = &known->configs[i];
    const __u64 life = READ_ONCE(c->life);
    if ((__u32)life <= now) continue;
    if (w->ech == TLS_ECH_ODD || life >> 32 == id || (name && READ_ONCE(c->name) == name)) return 1;
  }
  return 0;
}

/* Begins what a hello says, in l7_work, for the rows of a set. If the name that counts is encrypted, no rule that
 * allows a name may match it, and each that denies one may: its row stands for that. */
static __always_inline struct said_work *begin_hello(const struct packet *p, struct l7_work *w) {
  struct said_work *said = begin_saying(EA_SAID_TLS, w->named != TLS_NAMELESS);
  w->hidden = is_known_ech(p);
  if (!said) return NULL;
  if (unlikely(w->hidden))
    said->fixed = EA_CLASS_HIDDEN;
  else if (w->named == TLS_NAMED)
    said->classes[0] = class_of_text(EA_CELL_SERVER);
  return said;
}

/* Says why a hello is denied, if it is for that. */
static __always_inline void tell_hidden(struct packet *p, const struct l7_work *w) {
  if (unlikely(w->hidden) && p->decision.verdict == EA_VERDICT_DENY)
    p->decision.reason = EA_REASON_ENCRYPTED_HELLO;
}

#endif
