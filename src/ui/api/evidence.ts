/** The evidence that a viewer of some namespaces may have a recommendation made of. */
import { EdgeBook } from '../../edges/book.js';
import type { EdgeParty } from '../../edges/edge.js';
import { edgeRowsMessage } from '../../edges/wire.js';
import type { EdgeRowsMessage } from '../../proto/edges.js';
import { mayUse, type Scope } from '../access/viewer.js';
import type { EdgeSource } from '../feeds/edges.js';

/** Rows that are read: far more than one workload has. */
const MOST_ROWS = 100_000;

export interface SeenEvidence {
  readonly evidence: EdgeRowsMessage[];
  /** Flows to pods of other namespaces, by whose labels a rule would allow them. */
  readonly hidden: number;
}

/**
 * The edges of a workload whose both ends may be seen, or are no pods: a rule names its peers by their labels.
 * @throws AgentError AGENT, USAGE
 */
export async function seenEvidence(
  source: Pick<EdgeSource, 'edges'>,
  workload: string,
  scope: Scope,
  signal: AbortSignal,
): Promise<SeenEvidence> {
  const book = new EdgeBook();
  for await (const message of source.edges({ workload, limit: MOST_ROWS }, signal)) book.add(message);
  const isSeen = ({ namespace }: EdgeParty) => namespace === '' || mayUse(scope, namespace);
  const evidence: EdgeRowsMessage[] = [];
  let hidden = 0;
  for (const history of book.histories()) {
    const { source: from, destination, inbound } = history.edge;
    if (isSeen(from) && isSeen(destination)) evidence.push(edgeRowsMessage(history));
    else if (!inbound && isSeen(from)) hidden++;
  }
  return { evidence, hidden };
}

/** What a recommendation without them has to say. */
export function hiddenText(hidden: number): string {
  const flows = hidden === 1 ? '1 flow goes' : `${hidden} flows go`;
  return `${flows} to pods of namespaces that you may not see: they are left out, and this policy would deny them`;
}
