/**
 * Connections that peers opened to endpoints, from the flow table of another version's hooks, or of this version's with
 * a table of another size. Those maps stay pinned until every hook has a program of this agent (kernel/loader.ts). They
 * are read for each endpoint after its delivery hook is replaced: so each connection is in the older table or in the
 * new one, and none is cut.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as L from '../../src/image/layout.gen.js';
import { BpfMap, MapType, openPinned } from '../kernel/libbpf/map.js';

const { ea_entry: E, ea_flow_key: K, ea_flow: F } = L.STRUCTS;
const { EA_ENTRY_VALID } = L.ENUMS.ea_entry_state;
const { EA_FLOW_INBOUND, EA_FLOW_CONFIRMED, EA_FLOW_MASQUERADED } = L.ENUMS.ea_flow_flags;
const { EA_VERDICT_ALLOW } = L.ENUMS.ea_verdict;
const ANSWERED = EA_FLOW_INBOUND | EA_FLOW_CONFIRMED;

export class OlderFlows {
  readonly #dirs: () => readonly string[];

  /** @param dirs directories with pinned maps of other shapes */
  constructor(dirs: () => readonly string[]) {
    this.#dirs = dirs;
  }

  /** Reads all directories in `parent` except `own`, that of this agent's maps. */
  static beside(parent: string, own: string): OlderFlows {
    return new OlderFlows(() =>
      existsSync(parent)
        ? readdirSync(parent)
            .filter((name) => name !== own)
            .map((name) => join(parent, name))
        : [],
    );
  }

  /** Whether there are maps of another shape. */
  get exist(): boolean {
    return this.#dirs().length > 0;
  }

  /**
   * Keys (struct ea_flow_key) of answered connections that peers opened to these endpoints, by endpoint. Throws KERNEL.
   */
  answered(endpoints: ReadonlySet<number>): Map<number, Buffer[]> {
    const keysById = new Map<number, Buffer[]>();
    const addKey = (key: Buffer) => {
      const endpoint = key.readUInt32LE(K.fields.endpoint.offset);
      if (!endpoints.has(endpoint)) return;
      const keys = keysById.get(endpoint);
      if (keys) keys.push(Buffer.from(key));
      else keysById.set(endpoint, [Buffer.from(key)]);
    };
    if (endpoints.size === 0) return keysById;
    for (const dir of this.#dirs()) {
      // Versions without the flow table have these connections in a map of their own.
      withPinnedMap(join(dir, 'accepted'), (map) => {
        if (map.keySize !== K.size) return;
        for (const { keys, count } of map.batches())
          for (let i = 0; i < count; i++) addKey(keys.subarray(i * K.size, (i + 1) * K.size));
      });
      withPinnedMap(join(dir, 'flows'), (map) => {
        if (map.type !== MapType.ARRAY || map.valueSize !== E.size) return;
        // Not by mmap, which would keep the memory as long as this process lives.
        for (const { values, count } of map.batches()) {
          for (let at = 0; at < count * E.size; at += E.size) {
            const flow = at + E.fields.flow.offset;
            const flags = values[flow + F.fields.flags.offset] as number;
            const valid = (values.readUInt32LE(at + E.fields.state.offset) & EA_ENTRY_VALID) !== 0;
            // A flow that the post-DNAT check denied was never opened. The owner of a masqueraded connection is known
            // in its own table only, so translated flows are left out.
            const allowed = values[flow + F.fields.verdict.offset] === EA_VERDICT_ALLOW;
            if (valid && allowed && (flags & (ANSWERED | EA_FLOW_MASQUERADED)) === ANSWERED)
              addKey(values.subarray(at, at + K.size));
          }
        }
      });
    }
    return keysById;
  }
}

function withPinnedMap(path: string, visit: (map: BpfMap) => void): void {
  if (!existsSync(path)) return;
  const map = new BpfMap(openPinned(path));
  try {
    visit(map);
  } finally {
    map.close();
  }
}
