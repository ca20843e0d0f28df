/** Explains a verdict with what the sender has learned. */
import type { Snapshot } from '../../src/identity/snapshot.js';
import { explain } from '../../src/explain/explain.js';
import { podAddresses } from '../../src/tools/places.js';
import { viewOf } from '../../src/ir/sender.js';
import type { Ir } from '../../src/ir/types.js';
import { explainName } from '../../src/named/explain-name.js';
import { isDnsName } from '../../src/named/given.js';
import { canonicalName } from '../../src/names/pattern.js';
import { tryCanonicalAddr } from '../../src/net/addr.js';
import type { AgentExplanation, ExplainQuery } from '../../src/rpc/view.js';
import type { NamesServer } from './names.js';

/** @throws AgentError USAGE if the query names an unknown object */
export function explainQuery(asked: ExplainQuery, ir: Ir, snapshot: Snapshot, names: NamesServer): AgentExplanation {
  const { from, port, protocol, query, said } = asked;
  const view = viewOf(snapshot, from);
  const learned = names.learned(from);
  const address = tryCanonicalAddr(asked.to);
  if (address === undefined && isDnsName(asked.to)) {
    const name = canonicalName(asked.to);
    const explained = explainName(ir, view, { from, name, port, protocol, said, resolver: names.resolver }, learned);
    return { ...explained, learned: names.named(from, name) };
  }
  const to = address ?? podAddresses(snapshot, asked.to)[0];
  const packet = { from, to, port, protocol, ...(query === undefined ? {} : { query }), ...(said ? { said } : {}) };
  return {
    ...explain(ir, view, packet, learned),
    learned: names.of(from, to),
  };
}
