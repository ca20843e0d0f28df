// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Not loaded: compiled so that every struct and enum of types.h stands in BTF, from
 * which scripts/gen-layout writes src/image/layout.gen.ts. A new struct is added here. */
#include <linux/types.h>

#include "types.h"

#define KEEP(kind, name) kind name keep_##name
KEEP(struct, ea_endpoint);
KEEP(struct, ea_source_key);
KEEP(struct, ea_dest4_key);
KEEP(struct, ea_dest6_key);
KEEP(struct, ea_class_key);
KEEP(struct, ea_port_key);
KEEP(struct, ea_row_small);
KEEP(struct, ea_row_large);
KEEP(struct, ea_rule_key);
KEEP(struct, ea_rule);
KEEP(struct, ea_service_key);
KEEP(struct, ea_backend);
KEEP(struct, ea_service);
KEEP(struct, ea_flow_key);
KEEP(struct, ea_flow);
KEEP(struct, ea_pending_key);
KEEP(struct, ea_pending);
KEEP(struct, ea_fragment_key);
KEEP(struct, ea_fragment);
KEEP(struct, ea_note_key);
KEEP(struct, ea_note);
KEEP(struct, ea_event);
KEEP(struct, ea_state);
KEEP(enum, ea_slots);
KEEP(enum, ea_class);
KEEP(enum, ea_action);
KEEP(enum, ea_verdict);
KEEP(enum, ea_reason);
KEEP(enum, ea_hook);
KEEP(enum, ea_endpoint_flags);
KEEP(enum, ea_flow_flags);
KEEP(enum, ea_tcp_state);
KEEP(enum, ea_event_type);
KEEP(enum, ea_counter);
KEEP(enum, ea_state_flags);
