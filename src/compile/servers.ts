/**
 * Whose answers count, where a rule judges queries by their names. The answers of a trusted resolver always do. Those of another server
 * do if the rule that allows the query names its servers: who wrote the policy said whom these pods believe. A rule that allows queries
 * to anywhere says nothing of the kind: with it, a pod could ask a server of its own, and learn whatever it likes.
 */
import { parseCidr } from '../net/addr.js';
import { type LabelExpr, type Peer, VIRTUAL } from '../ir/peers.js';
import type { Rule } from '../ir/types.js';

/** Whether every server that the rule allows to be asked was chosen: by its address, as a Service, or by labels of its pods. */
export function namesItsServers({ peers }: Pick<Rule, 'peers'>): boolean {
  return peers !== null && peers.length > 0 && peers.every(isChosen);
}

function isChosen(peer: Peer): boolean {
  switch (peer.kind) {
    case 'all':
      return peer.of.some(isChosen);
    case 'some':
      return peer.of.length > 0 && peer.of.every(isChosen);
    case 'cidr': {
      const { prefix, family } = parseCidr(peer.cidr);
      return prefix === (family === 4 ? 32 : 128);
    }
    case 'services':
      return peer.name !== undefined || chooses(peer.labels);
    case 'pods':
      return chooses(peer.pods);
    default:
      return false;
  }
}

/** Whether a label of the pods themselves is asked for: a namespace alone holds any pod. */
function chooses(expr: LabelExpr): boolean {
  switch (expr.op) {
    case 'in':
    case 'exists':
    case 'contains':
    case 'starts':
    case 'ends':
      return expr.key !== VIRTUAL.namespace && !expr.key.startsWith(VIRTUAL.ofNamespace);
    case 'and':
      return expr.of.some(chooses);
    case 'or':
      return expr.of.length > 0 && expr.of.every(chooses);
    default:
      return false;
  }
}
