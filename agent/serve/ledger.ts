/** The ledger in the agent's status. */
import { LEDGER_EDGES } from '../../src/edges/ledger.js';
import type { LedgerStatus } from '../../src/rpc/view.js';
import type { LedgerKeeper } from '../ledger/keeper.js';

export function ledgerStatus({ ledger }: Pick<LedgerKeeper, 'ledger'>): LedgerStatus {
  const { beganMs, size, overflow, forgotten } = ledger;
  return { beganMs, edges: size, max: LEDGER_EDGES, overflow, forgotten };
}
