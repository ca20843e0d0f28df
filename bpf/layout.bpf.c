// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/* Not loaded. Compiled so that BTF contains every struct and enum of types.h; scripts/gen-layout writes
 * src/image/layout.gen.ts from it. Add new structs here. */
#include <linux/types.h>

#include "types.h"

#define KEEP(kind, name) kind name keep_##name
KEEP(struct, ea_endpoint);
KEEP(struct, ea_source_key);
KEEP(struct, ea_address_key);
KEEP(struct, ea_address);
KEEP(struct, ea_tunnel_key);
KEEP(struct, ea_dest4_key);
KEEP(struct, ea_dest4_node);
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
KEEP(struct, ea_entry);
KEEP(struct, ea_bucket);
KEEP(struct, ea_holding);
KEEP(struct, ea_pending);
KEEP(struct, ea_fragment);
KEEP(struct, ea_note_key);
KEEP(struct, ea_note);
KEEP(struct, ea_share);
KEEP(struct, ea_event);
KEEP(struct, ea_state);
KEEP(enum, ea_slots);
KEEP(enum, ea_trie);
KEEP(enum, ea_filter);
KEEP(enum, ea_class);
KEEP(enum, ea_action);
KEEP(enum, ea_verdict);
KEEP(enum, ea_reason);
KEEP(enum, ea_hook);
KEEP(enum, ea_endpoint_flags);
KEEP(enum, ea_address_flags);
KEEP(enum, ea_backend_flags);
KEEP(enum, ea_flow_flags);
KEEP(enum, ea_tcp_state);
KEEP(enum, ea_kind);
KEEP(enum, ea_cpu);
KEEP(enum, ea_entry_state);
KEEP(enum, ea_table);
KEEP(enum, ea_seeded);
KEEP(enum, ea_event_type);
KEEP(enum, ea_counter);
KEEP(enum, ea_state_flags);
KEEP(enum, ea_direction);
